//! Random by weight in constant time: Walker's alias method, with Vose's construction in integers.

/// Draws indexes with probabilities in proportion to their weights.
///
/// The probabilities are poured into `n` columns of equal height, each holding at most two indexes: a draw takes a column, then one
/// of its two by a threshold. Equal weights need no columns.
#[derive(Debug)]
pub(super) struct Alias {
    len: u64,
    /// Empty when all weights are equal.
    columns: Box<[Column]>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    /// The share of the column, in 2^-32, that is its own index; the rest is `other`.
    own: u32,
    other: u32,
}

impl Alias {
    /// From weights above 0.
    pub(super) fn new(weights: impl ExactSizeIterator<Item = u32> + Clone) -> Alias {
        let len = weights.len() as u64;
        let mut rest = weights.clone();
        let first = rest.next();
        if rest.all(|weight| Some(weight) == first) {
            return Alias { len, columns: Box::default() };
        }
        // In units of 1/n of a column, all columns are `total` high and the indexes bring `weight * n`.
        let total: u64 = weights.clone().map(u64::from).sum();
        let mut heights: Vec<u64> = weights.map(|weight| u64::from(weight) * len).collect();
        // A full column is its own alias; whatever its threshold, the draw is right.
        let mut columns: Vec<Column> = (0..len as u32).map(|index| Column { own: u32::MAX, other: index }).collect();
        let (mut low, mut high): (Vec<usize>, Vec<usize>) = (0..heights.len()).partition(|&index| heights[index] < total);
        while let (Some(small), Some(&large)) = (low.pop(), high.last()) {
            let own = (u128::from(heights[small]) << 32) / u128::from(total);
            columns[small] = Column { own: own as u32, other: large as u32 };
            heights[large] -= total - heights[small];
            if heights[large] < total {
                high.pop();
                low.push(large);
            }
        }
        Alias { len, columns: columns.into() }
    }

    /// An index by weight. There must be one.
    #[inline]
    pub(super) fn draw(&self, random: &mut fastrand::Rng) -> usize {
        // The upper half takes the column, the lower half one of its two.
        let bits = random.u64(..);
        let column = (((bits >> 32) * self.len) >> 32) as usize;
        match self.columns.get(column) {
            Some(found) if bits as u32 >= found.own => found.other as usize,
            _ => column,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exact probability of each index, read off the columns.
    fn probabilities(alias: &Alias) -> Vec<f64> {
        let n = alias.len as usize;
        let mut shares = vec![0.0; n];
        for index in 0..n {
            let own = alias.columns.get(index).map_or(1.0, |column| f64::from(column.own) / 2f64.powi(32));
            shares[index] += own / n as f64;
            if let Some(column) = alias.columns.get(index) {
                shares[column.other as usize] += (1.0 - own) / n as f64;
            }
        }
        shares
    }

    #[test]
    fn columns_hold_the_shares_by_weight() {
        let spread: Vec<u32> = (1..=1000).map(|i| i * 100).collect();
        for weights in [vec![1, 1, 1], vec![5, 1, 1], vec![100_000, 1], vec![1, 2, 3, 4, 5], vec![u32::MAX, 1, u32::MAX], spread] {
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            let alias = Alias::new(weights.iter().copied());
            for (share, &weight) in probabilities(&alias).iter().zip(&weights) {
                assert!((share - f64::from(weight) / total).abs() < 1e-8, "{weights:?}: {share} for {weight}");
            }
        }
    }
}
