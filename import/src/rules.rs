//! Rules that are asked one after the other, as routes of which the first that matches wins.
//!
//! A rule with exceptions (`X if A !B`) has no route of its own, as routes know no "not". It is said by order instead: first everything that
//! comes after the rule for requests that are both A and B, then X for A, then everything that comes after. That is the same, at the cost of
//! more routes, and so bounded. A rule that comes after, and cannot be said for B alone, is left to those behind it there: what X is for is
//! never given up for it.

use crate::condition::{Both, Condition};
use crate::note::Place;

/// Routes of one listener. Rules that would make more are left to a person.
const ROUTES_MAX: usize = 200;

const UNSAYABLE: &str = "a route cannot say these conditions together";

/// What a route does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// A pool by our name.
    Pool(String),
    /// Sent elsewhere; what is absent stays.
    Redirect { status: u16, scheme: Option<&'static str>, host: Option<String>, port: Option<u16>, path: Option<String> },
    /// Answered.
    Answer { status: u16, body: Option<String>, content_type: Option<String> },
}

/// A route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    pub(crate) condition: Condition,
    pub(crate) action: Action,
    pub(crate) place: Place,
}

/// One of each list in `all` must hold, and nothing in `none`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Term {
    pub(crate) all: Vec<Vec<Condition>>,
    pub(crate) none: Vec<Condition>,
}

/// What happens where one of the terms holds: routes of which the last takes everything that is left.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) terms: Vec<Term>,
    pub(crate) then: Vec<Route>,
    pub(crate) place: Place,
    pub(crate) words: String,
}

/// What became of a rule that is not said as it is.
pub(crate) enum Left {
    /// It is not said at all.
    Out(&'static str),
    /// For its exceptions, some of the rules behind it are not asked.
    Exceptions,
}

/// The routes of the rules and of what comes after them; `left` hears of each rule that is not said as it is.
pub(crate) fn lower(rules: &[Rule], after: Vec<Route>, mut left: impl FnMut(&Rule, Left)) -> Vec<Route> {
    rules.iter().rev().fold(after, |after, rule| match with_rule(rule, &after) {
        Ok((routes, is_exact)) => {
            if !is_exact {
                left(rule, Left::Exceptions);
            }
            cut(routes)
        }
        Err(why) => {
            left(rule, Left::Out(why));
            after
        }
    })
}

/// The routes, and whether they say exactly what was meant.
fn with_rule(rule: &Rule, after: &[Route]) -> Result<(Vec<Route>, bool), &'static str> {
    let mut routes = after.to_vec();
    let mut is_exact = true;
    for term in rule.terms.iter().rev() {
        let mut when = vec![Condition::default()];
        for one_of in &term.all {
            when = each(&when, one_of)?;
        }
        let (mut next, all) = restricted(&each(&when, &term.none)?, &routes)?;
        is_exact &= all;
        let (then, all) = restricted(&when, &rule.then)?;
        if !all {
            return Err(UNSAYABLE);
        }
        next.extend(then);
        next.append(&mut routes);
        if next.len() > ROUTES_MAX {
            return Err("it would take too many routes; write it by hand with fewer conditions");
        }
        routes = next;
    }
    Ok((routes, is_exact))
}

/// Every pair.
fn each(some: &[Condition], others: &[Condition]) -> Result<Vec<Condition>, &'static str> {
    let mut found = Vec::new();
    for one in some {
        for other in others {
            found.extend(both(one, other)?);
            if found.len() > ROUTES_MAX {
                return Err("it would take too many routes; write it by hand with fewer conditions");
            }
        }
    }
    Ok(found)
}

/// The routes under each of the conditions, and whether all of them could be said.
fn restricted(when: &[Condition], routes: &[Route]) -> Result<(Vec<Route>, bool), &'static str> {
    let (mut found, mut all) = (Vec::new(), true);
    for condition in when {
        for route in routes {
            match condition.and(&route.condition) {
                Both::One(condition) => found.push(Route { condition, ..route.clone() }),
                Both::Never => {}
                Both::Unclear => all = false,
            }
        }
        if found.len() > ROUTES_MAX {
            return Err("it would take too many routes; write it by hand with fewer conditions");
        }
    }
    Ok((found, all))
}

/// `None`: never.
fn both(one: &Condition, other: &Condition) -> Result<Option<Condition>, &'static str> {
    match one.and(other) {
        Both::One(condition) => Ok(Some(condition)),
        Both::Never => Ok(None),
        Both::Unclear => Err(UNSAYABLE),
    }
}

/// Takes away what is never reached.
fn cut(mut routes: Vec<Route>) -> Vec<Route> {
    if let Some(last) = routes.iter().position(|route| route.condition.is_any()) {
        routes.truncate(last + 1);
    }
    let mut kept: Vec<Route> = Vec::with_capacity(routes.len());
    for route in routes {
        if !kept.iter().any(|earlier| earlier.condition == route.condition) {
            kept.push(route);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::PathWant;

    fn path(prefix: &str) -> Condition {
        Condition { path: Some(PathWant::Prefix(prefix.into())), ..Condition::default() }
    }

    fn host(host: &str) -> Condition {
        Condition { hosts: vec![host.into()], ..Condition::default() }
    }

    fn to(condition: Condition, pool: &str) -> Route {
        Route { condition, action: Action::Pool(pool.into()), place: Place::default() }
    }

    fn rule(all: &[Condition], none: &[Condition], pool: &str) -> Rule {
        let all = all.iter().map(|condition| vec![condition.clone()]).collect();
        let terms = vec![Term { all, none: none.to_vec() }];
        Rule { terms, then: vec![to(Condition::default(), pool)], place: Place::default(), words: String::new() }
    }

    fn shown(rules: &[Rule]) -> Vec<String> {
        let routes = lower(rules, vec![to(Condition::default(), "rest")], |_, _| panic!("it can be said"));
        routes
            .iter()
            .map(|Route { condition, action, .. }| {
                let Action::Pool(pool) = action else { panic!("only pools here") };
                let path = match &condition.path {
                    Some(PathWant::Prefix(path)) => path.as_str(),
                    _ => "",
                };
                format!("{}{path} -> {pool}", condition.hosts.join("|"))
            })
            .collect()
    }

    #[test]
    fn rules_become_routes() {
        let a = || path("/a");
        assert_eq!(shown(&[rule(&[a()], &[], "x")]), ["/a -> x", " -> rest"]);
        assert_eq!(shown(&[rule(&[], &[], "x"), rule(&[a()], &[], "y")]), [" -> x"], "what comes after a rule for all is never asked");
        assert_eq!(shown(&[rule(&[host("h"), a()], &[], "x")]), ["h/a -> x", " -> rest"]);
    }

    #[test]
    fn exceptions_become_order() {
        assert_eq!(shown(&[rule(&[], &[path("/ok")], "login")]), ["/ok -> rest", " -> login"]);
        assert_eq!(
            shown(&[rule(&[host("h")], &[path("/ok")], "x"), rule(&[path("/ok/deep")], &[], "y")]),
            ["h/ok/deep -> y", "h/ok -> rest", "h -> x", "/ok/deep -> y", " -> rest"]
        );
    }

    #[test]
    fn what_cannot_be_said_is_left_alone() {
        let regex = |text: &str| Condition { path: Some(PathWant::Regex(text.into())), ..Condition::default() };
        let mut left = 0;
        let routes = lower(&[rule(&[regex("a.*"), path("/a")], &[], "x")], vec![to(Condition::default(), "rest")], |_, _| left += 1);
        assert_eq!((routes.len(), left), (1, 1));
        // A refusal is never given up for what comes after it.
        let mut inexact = 0;
        let rules = [rule(&[path("/admin")], &[host("office")], "refuse"), rule(&[regex(".*[.]css")], &[], "static")];
        let routes =
            lower(&rules, vec![to(Condition::default(), "rest")], |_, left| inexact += u32::from(matches!(left, Left::Exceptions)));
        let pools: Vec<_> = routes.iter().map(|route| format!("{:?}", route.action)).collect();
        assert_eq!((pools.join(" "), inexact), (r#"Pool("rest") Pool("refuse") Pool("static") Pool("rest")"#.into(), 1));
    }
}
