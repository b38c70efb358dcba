//! `if` and `unless`: names of ACLs and tests in braces, joined by "or" (HAProxy's manual, section 7.2).

use std::collections::BTreeMap;

use super::acl::{Test, predefined, test};
use crate::condition::{Condition, Field, Want};
use crate::rules::Term;

/// Terms of an expression. `unless` multiplies them.
const TERMS_MAX: usize = 32;

/// A test, or its opposite. An ACL that is written several times holds when one of its lines does.
#[derive(Clone, Debug)]
pub(super) struct Literal {
    pub(super) is_negated: bool,
    pub(super) tests: Vec<Test>,
}

/// One of the terms must hold; of a term, everything.
#[derive(Clone, Debug)]
pub(super) struct Expression(pub(super) Vec<Vec<Literal>>);

impl Expression {
    /// Holds always.
    pub(super) fn always() -> Expression {
        Expression(vec![Vec::new()])
    }
}

/// The ACLs of a section by name.
pub(super) type Acls = BTreeMap<String, Vec<Test>>;

/// Reads what stands behind an action: nothing, `if ...` or `unless ...`.
pub(super) fn expression(words: &[String], acls: &Acls) -> Result<Expression, String> {
    let Some(first) = words.first() else { return Ok(Expression::always()) };
    let is_unless = match first.as_str() {
        "if" => false,
        "unless" => true,
        other => return Err(format!("{other:?} is not known here")),
    };
    let mut terms = vec![Vec::new()];
    let mut is_negated = false;
    let mut rest = &words[1..];
    while let Some((word, after)) = rest.split_first() {
        rest = after;
        let (word, negates) = match word.strip_prefix('!') {
            Some(word) => (word, true),
            None => (word.as_str(), false),
        };
        is_negated ^= negates;
        let tests = match word {
            "" => continue,
            "or" | "||" => {
                terms.push(Vec::new());
                continue;
            }
            "{" => {
                let end = rest.iter().position(|word| word == "}").ok_or("a brace is not closed")?;
                let tests = vec![test(&rest[..end])];
                rest = &rest[end + 1..];
                tests
            }
            name => match acls.get(name) {
                Some(tests) => tests.clone(),
                None => vec![predefined(name).ok_or_else(|| format!("there is no acl {name:?} in this section"))?],
            },
        };
        if let Some(term) = terms.last_mut() {
            term.push(Literal { is_negated, tests });
        }
        is_negated = false;
        if terms.len() > TERMS_MAX {
            return Err(format!("it has more than {TERMS_MAX} alternatives"));
        }
    }
    if terms.iter().any(Vec::is_empty) {
        return Err("a condition is missing".into());
    }
    if is_unless { negated(terms).map(Expression) } else { Ok(Expression(terms)) }
}

/// Not (A and B, or C) is (not A, or not B) and not C.
fn negated(terms: Vec<Vec<Literal>>) -> Result<Vec<Vec<Literal>>, String> {
    let mut found = vec![Vec::new()];
    for term in terms {
        let mut next = Vec::new();
        for known in &found {
            for literal in &term {
                let mut one: Vec<Literal> = known.clone();
                one.push(Literal { is_negated: !literal.is_negated, tests: literal.tests.clone() });
                next.push(one);
            }
        }
        found = next;
        if found.len() > TERMS_MAX {
            return Err(format!("it has more than {TERMS_MAX} alternatives"));
        }
    }
    Ok(found)
}

/// The terms for clients that come by TLS, or do not. None: it never holds.
pub(super) fn terms(expression: &Expression, is_tls: bool) -> Result<Vec<Term>, String> {
    let mut found = Vec::new();
    'terms: for literals in &expression.0 {
        let mut term = Term::default();
        for literal in literals {
            match (known(&literal.tests, is_tls)?, literal.is_negated) {
                (Known::Fixed(holds), is_negated) if holds != is_negated => {}
                (Known::Fixed(_), _) => continue 'terms,
                (Known::Any(conditions), false) => term.all.push(conditions),
                (Known::Any(conditions), true) => match opposite(&conditions) {
                    Some(condition) => term.all.push(vec![condition]),
                    None => term.none.extend(conditions),
                },
            }
        }
        found.push(term);
    }
    Ok(found)
}

enum Known {
    Fixed(bool),
    Any(Vec<Condition>),
}

fn known(tests: &[Test], is_tls: bool) -> Result<Known, String> {
    let mut any = Vec::new();
    let mut why = None;
    for test in tests {
        match test {
            Test::Fixed(true) => return Ok(Known::Fixed(true)),
            Test::Tls if is_tls => return Ok(Known::Fixed(true)),
            Test::Fixed(false) | Test::Tls => {}
            Test::Any(conditions, _) => any.extend(conditions.iter().cloned()),
            Test::RateAbove(_) => why = Some("a rate can only be the one condition of a deny".to_owned()),
            Test::Unknown(reason) => why = Some(reason.clone()),
        }
    }
    match why {
        Some(why) => Err(why),
        None if any.is_empty() => Ok(Known::Fixed(false)),
        None => Ok(Known::Any(any)),
    }
}

/// Whether a field is there or not is the one thing of which routes know the opposite.
fn opposite(conditions: &[Condition]) -> Option<Condition> {
    let [condition] = conditions else { return None };
    let [field] = &condition.fields[..] else { return None };
    let want = match field.want {
        Want::Present => Want::Absent,
        Want::Absent => Want::Present,
        _ => return None,
    };
    let alone = Condition { fields: vec![field.clone()], ..Condition::default() };
    let fields = vec![Field { want, ..field.clone() }];
    (*condition == alone).then(|| Condition { fields, ..Condition::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// How many terms there are, with how many conditions and exceptions in each.
    fn shape(text: &str, is_tls: bool) -> Result<Vec<(usize, usize)>, String> {
        let mut acls = Acls::new();
        for line in ["api path_beg /api", "admin path_beg /admin", "admin src 10.0.0.0/8", "odd nbsrv(x) gt 1"] {
            let words = words(line);
            acls.entry(words[0].clone()).or_default().push(test(&words[1..]));
        }
        let terms = terms(&expression(&words(text), &acls)?, is_tls)?;
        Ok(terms.iter().map(|term| (term.all.len(), term.none.len())).collect())
    }

    #[test]
    fn expressions() {
        for (text, is_tls, expected) in [
            ("", false, vec![(0, 0)]),
            ("if api", false, vec![(1, 0)]),
            ("if api admin", false, vec![(2, 0)]),
            ("if api or admin", false, vec![(1, 0), (1, 0)]),
            ("if api || !admin", false, vec![(1, 0), (0, 2)]),
            ("if ! api", false, vec![(0, 1)]),
            ("unless api admin", false, vec![(0, 1), (0, 2)]),
            ("unless api or admin", false, vec![(0, 3)]),
            ("if { ssl_fc }", true, vec![(0, 0)]),
            ("if { ssl_fc }", false, vec![]),
            ("if !{ ssl_fc } api", true, vec![]),
            ("unless { ssl_fc }", false, vec![(0, 0)]),
            ("if !{ hdr(x) -m found }", false, vec![(1, 0)]),
            ("if METH_GET api", false, vec![(2, 0)]),
        ] {
            assert_eq!(shape(text, is_tls), Ok(expected), "{text}");
        }
        for (text, why) in [
            ("if nobody", "no acl \"nobody\""),
            ("if { path /a", "not closed"),
            ("if", "missing"),
            ("if odd", "cannot ask"),
            ("when api", "\"when\""),
        ] {
            assert!(shape(text, false).is_err_and(|found| found.contains(why)), "{text}");
        }
    }
}
