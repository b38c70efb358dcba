//! `when`: alarms combined with `and`, `or`, `not` and parentheses. `and` binds closer than `or`, as everywhere.

use crate::model::{AlarmName, Expression};

/// The longest expression, and the deepest.
const CHARS_MAX: usize = 2000;
const DEPTH_MAX: usize = 32;

/// The error says what is wrong and how it is written.
pub(super) fn expression(text: &str) -> Result<Expression, String> {
    if text.len() > CHARS_MAX {
        return Err(format!("the expression is longer than {CHARS_MAX} characters; combine alarms in several steps"));
    }
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, depth: 0 };
    let read = reader.any()?;
    match reader.words.first() {
        None => Ok(read),
        Some(word) => Err(format!("{word:?} is not expected there; combine alarms with `and`, `or`, `not` and parentheses")),
    }
}

struct Reader<'a> {
    words: &'a [&'a str],
    depth: usize,
}

impl Reader<'_> {
    fn take(&mut self, wanted: &str) -> bool {
        let found = self.words.first().is_some_and(|word| word.eq_ignore_ascii_case(wanted));
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn any(&mut self) -> Result<Expression, String> {
        let mut found = vec![self.all()?];
        while self.take("or") {
            found.push(self.all()?);
        }
        Ok(if found.len() == 1 { found.remove(0) } else { Expression::Or(found) })
    }

    fn all(&mut self) -> Result<Expression, String> {
        let mut found = vec![self.one()?];
        while self.take("and") {
            found.push(self.one()?);
        }
        Ok(if found.len() == 1 { found.remove(0) } else { Expression::And(found) })
    }

    fn one(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("the expression is too deep; combine alarms in several steps".into());
        }
        let read = if self.take("not") {
            Expression::Not(Box::new(self.one()?))
        } else if self.take("(") {
            let inner = self.any()?;
            if !self.take(")") {
                return Err("a parenthesis is not closed; add `)`".into());
            }
            inner
        } else {
            match self.words.split_first() {
                Some((word, rest)) if !matches!(word.to_ascii_lowercase().as_str(), "and" | "or" | ")") => {
                    self.words = rest;
                    Expression::Alarm(AlarmName::from(*word))
                }
                Some((word, _)) => return Err(format!("{word:?} stands where an alarm is expected; for example \"a and not (b or c)\"")),
                None => return Err("an alarm is missing at the end; for example \"a and not (b or c)\"".into()),
            }
        };
        self.depth -= 1;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_read_what_they_write() {
        for (text, written) in [
            ("a", "a"),
            ("a and b or c", "(a and b) or c"),
            ("a and (b or c)", "a and (b or c)"),
            ("not a and not (b or c)", "not a and not (b or c)"),
            ("NOT not a", "not not a"),
            ("((a))", "a"),
            ("a OR b OR c", "a or b or c"),
        ] {
            let read = expression(text).expect(text);
            assert_eq!(read.to_string(), written, "{text}");
            assert_eq!(expression(written), Ok(read), "{written}");
        }
        for text in ["", "and", "a b", "a and", "(a", "a)", "not", "a or or b", "()"] {
            assert!(expression(text).is_err(), "{text}");
        }
        assert!(expression(&"(".repeat(1000)).is_err());
        assert!(expression(&"not ".repeat(400)).is_err());
    }
}
