//! A latency histogram. STUB.

/// STUB: one writer, many readers, relaxed.
#[derive(Debug, Default)]
pub struct Histogram {}

impl Histogram {
    /// STUB: counts one value in microseconds. One writer only.
    pub fn record(&self, _micros: u64) {}

    /// STUB: adds what this histogram holds now to `total`.
    pub fn add_to(&self, _total: &mut Distribution) {}
}

/// STUB: a merged copy to ask for quantiles.
#[derive(Clone, Debug, Default)]
pub struct Distribution {}

impl Distribution {
    /// STUB: microseconds below which the share `q` (0 to 1) of the values lies; `None` when empty.
    pub fn quantile(&self, _q: f64) -> Option<u64> {
        None
    }

    /// STUB: number of values.
    pub fn count(&self) -> u64 {
        0
    }

    /// STUB: sum of the values in microseconds.
    pub fn sum(&self) -> u64 {
        0
    }

    /// STUB: values at most `micros`, for Prometheus buckets (exact where `micros` is a bucket boundary).
    pub fn count_below(&self, _micros: u64) -> u64 {
        0
    }
}
