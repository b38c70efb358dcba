//! Columns that fit a width, and text that fits a column. Pure.

use ratatui_core::text::Span;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// Numbers end at the same place.
    pub(crate) is_number: bool,
    /// Columns of a higher number go first where there is no room; 0 always stays.
    pub(crate) rank: u8,
    /// The widest it becomes; the last column takes what is left.
    pub(crate) width_max: u16,
}

impl Column {
    pub(crate) const fn text(title: &'static str, rank: u8, width_max: u16) -> Column {
        Column { title, is_number: false, rank, width_max }
    }

    pub(crate) const fn number(title: &'static str, rank: u8) -> Column {
        Column { title, is_number: true, rank, width_max: 14 }
    }
}

/// Cells of a terminal that a text takes: wide characters take two.
pub(crate) fn width(text: &str) -> u16 {
    u16::try_from(Span::raw(text).width()).unwrap_or(u16::MAX)
}

/// Which columns are shown, each with its width. One blank lies between two.
pub(crate) fn fit(columns: &[Column], contents: &[u16], room: u16) -> Vec<(usize, u16)> {
    let mut shown: Vec<(usize, u16)> = columns
        .iter()
        .zip(contents)
        .enumerate()
        .map(|(index, (column, content))| (index, (*content).min(column.width_max).max(width(column.title))))
        .collect();
    let last = columns.len().saturating_sub(1);
    let needed = |shown: &[(usize, u16)]| -> u16 {
        // What takes the rest can be narrow.
        let each = shown.iter().map(|(index, width)| if *index == last { (*width).min(16) } else { *width } + 1);
        each.fold(0, u16::saturating_add).saturating_sub(1)
    };
    while needed(&shown) > room && shown.len() > 1 {
        let worst = shown.iter().max_by_key(|(index, _)| (columns[*index].rank, *index)).map(|(index, _)| *index);
        match worst.filter(|index| columns[*index].rank > 0) {
            Some(worst) => shown.retain(|(index, _)| *index != worst),
            None => break,
        }
    }
    let others = shown.iter().filter(|(index, _)| *index != last).fold(0_u16, |sum, (_, width)| sum.saturating_add(width + 1));
    if let Some((_, width)) = shown.iter_mut().find(|(index, _)| *index == last) {
        *width = room.saturating_sub(others);
    }
    shown
}

/// The text in so many cells, with an ellipsis where it is cut.
pub(crate) fn cut(text: &str, cells: u16) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let next = width(c.encode_utf8(&mut [0; 4]));
        if used + next + 1 > cells {
            break;
        }
        used += next;
        out.push(c);
    }
    if cells > 0 {
        out.push('…');
    }
    out
}

/// The text in lines of at most so many cells, broken at blanks where that is possible.
pub(crate) fn wrap(text: &str, cells: u16) -> Vec<String> {
    let cells = cells.max(1);
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let mut word = word;
            if !line.is_empty() && width(&line).saturating_add(1).saturating_add(width(word)) > cells {
                lines.push(std::mem::take(&mut line));
            }
            while width(word) > cells {
                let part = fitting(word, cells);
                lines.push(word[..part].to_owned());
                word = &word[part..];
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// Bytes of the text that fit so many cells; never none.
fn fitting(text: &str, cells: u16) -> usize {
    let mut used = 0_u16;
    let mut chars = text.char_indices().map(|(at, c)| (at + c.len_utf8(), width(c.encode_utf8(&mut [0; 4]))));
    let first = chars.next().map_or(text.len(), |(end, cells)| {
        used = cells;
        end
    });
    let rest = chars.map_while(|(end, next)| {
        used = used.saturating_add(next);
        (used <= cells).then_some(end)
    });
    rest.last().unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] =
        [Column::text("name", 0, 20), Column::number("rate", 1), Column::number("weight", 3), Column::text("why", 2, 99)];

    #[test]
    fn columns_go_by_their_rank() {
        for (room, expected) in [
            (80, vec![(0, 8), (1, 6), (2, 6), (3, 57)]),
            (39, vec![(0, 8), (1, 6), (2, 6), (3, 16)]),
            (38, vec![(0, 8), (1, 6), (3, 22)]),
            (30, vec![(0, 8), (1, 6)]),
            (10, vec![(0, 8)]),
            (3, vec![(0, 8)]),
        ] {
            assert_eq!(fit(&COLUMNS, &[8, 6, 2, 40], room), expected, "{room}");
        }
    }

    #[test]
    fn texts_fit() {
        assert_eq!(
            (cut("abc", 3), cut("abcd", 3), cut("한글은", 4), cut("a", 0)),
            ("abc".into(), "ab…".into(), "한…".into(), String::new())
        );
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh i", 3), ["abc", "def", "gh", "i"].map(|line| line.to_owned()).to_vec());
        assert_eq!(wrap("a\n\nb", 5), ["a", "", "b"]);
    }
}
