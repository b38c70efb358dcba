//! How bad something is.

use std::fmt;

/// How bad something is, from the least to the worst: the order is the order of the variants.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Severity {
    /// Worth knowing; nothing needs to be done.
    Info,
    /// Needs somebody within the working day.
    #[default]
    Warning,
    /// Needs somebody now.
    Critical,
}

impl Severity {
    /// All of them, from the least to the worst.
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    /// How the file and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    /// Reads what [`Severity::word`] writes.
    pub fn from_word(word: &str) -> Option<Severity> {
        Severity::ALL.into_iter().find(|severity| severity.word() == word)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_written_and_ordered_by_weight() {
        for severity in Severity::ALL {
            assert_eq!(Severity::from_word(severity.word()), Some(severity));
        }
        assert_eq!(Severity::from_word("Critical"), None);
        assert!(Severity::Info < Severity::Warning && Severity::Warning < Severity::Critical);
    }
}
