//! `frontend` and the first half of `listen`: a listener of ours; two where some addresses speak TLS and others do not, as a listener of ours
//! does one or the other.

use std::collections::BTreeMap;

use super::acl::{Test, test};
use super::actions::{self, Done, Edit, Kind};
use super::bind::Binds;
use super::expression::{Acls, Expression, expression, terms};
use super::section::Section;
use super::words::Statement;
use super::{World, duration, has_servers};
use crate::condition::{Condition, PathWant};
use crate::draft::{Block, Draft};
use crate::note::{Notes, Place};
use crate::rules::{Action, Left, Route, Rule, Term, lower};
use crate::text::{text, time};

/// One listener being made.
struct Listener<'a> {
    name: String,
    section: &'a Section,
    is_tls: bool,
    place: Place,
}

pub(super) fn convert(section: &Section, world: &World<'_>, draft: &mut Draft, notes: &mut Notes) {
    let words = format!("{} {}", section.kind, section.name);
    let binds = Binds::read(section.all("bind"), world, notes);
    if binds.plain.is_empty() && binds.secure.is_empty() {
        if section.all("stats").next().is_none() {
            notes.not_converted(section.line, &words, "it listens nowhere that could be taken over");
        }
        return;
    }
    let is_http = match section.last(&["mode"]).map_or("tcp", |statement| statement.word(1)) {
        "http" => true,
        "tcp" => false,
        other => return notes.not_converted(section.line, &words, format!("mode {other:?} is not known")),
    };
    // Statistics alone are ours to show without a listener.
    if section.all("stats").next().is_some() && default_pool(section, world).is_none() && section.all("use_backend").next().is_none() {
        return notes.not_needed(section.line, &words, "`weir status`, `weir events` and /metrics show the state");
    }
    let has_both = !binds.plain.is_empty() && !binds.secure.is_empty();
    for (is_tls, addresses) in [(false, &binds.plain), (true, &binds.secure)] {
        if addresses.is_empty() {
            continue;
        }
        if is_tls && !is_http {
            notes.not_converted(section.line, &words, "weir ends TLS for HTTP alone; bytes that are not HTTP would go on in clear");
            continue;
        }
        let name = if is_tls && has_both { format!("{}-tls", section.name) } else { section.name.clone() };
        let name = draft.listener_names.fresh(&name);
        let listener = Listener { name, section, is_tls, place: notes.place(section.line) };
        listener.write(addresses, &binds, is_http, world, draft, notes);
    }
    if section.option("httplog").or(section.option("httpslog")).is_some() && is_http {
        let place = notes.place(section.line);
        let log = draft.once("access_log", place);
        if log.is_empty() {
            log.set("path", text("stdout"), place);
        }
    }
}

/// The pool for what no rule takes: our name.
fn default_pool<'w>(section: &Section, world: &'w World<'_>) -> Option<(&'w str, &'w Section)> {
    let name = match section.last(&["default_backend"]) {
        Some(statement) => statement.word(1),
        None if has_servers(section) => &section.name,
        None => return None,
    };
    world.backends.get(name).map(|(pool, section)| (pool.as_str(), *section))
}

impl Listener<'_> {
    fn write(&self, addresses: &[(String, Place)], binds: &Binds, is_http: bool, world: &World<'_>, draft: &mut Draft, notes: &mut Notes) {
        let mut table = Block::table(&["listener", &self.name], self.place);
        match addresses {
            [(address, place)] => table.set_vital("bind", text(address), *place),
            all => table.set_list("bind", all.iter().map(|(address, place)| (text(address), *place)).collect(), all[0].1),
        }
        if !is_http {
            table.set("protocol", text("tcp"), self.place);
        }
        let (routes, edits) = if is_http { self.routes(world, notes) } else { (self.raw_routes(world, notes), BTreeMap::new()) };
        let is_default = |route: &Route| match &route.action {
            Action::Pool(pool) => route.condition.is_any() && edits.get(pool).is_none_or(Vec::is_empty),
            _ => false,
        };
        let (routes, default) = match routes.split_last() {
            Some((last, others)) if is_default(last) => (others, Some(last)),
            _ => (&routes[..], None),
        };
        if let Some(Route { action: Action::Pool(pool), place, .. }) = default {
            table.set("pool", text(pool), *place);
        }
        if let Some(statement) = self.section.last(&["maxconn"]) {
            table.set("connections_max", statement.word(1), notes.place(statement.line));
        }
        self.access(&mut table, notes);
        if is_http && self.is_tls && binds.tls.no_http2 {
            table.set("http2", "false", self.place);
        }
        draft.add(table);
        self.timeouts(is_http, draft, notes);
        if let Some(place) = binds.announced {
            let mut table = Block::table(&["listener", &self.name, "proxy_protocol"], place).goes_with(2);
            table.set("trusted", "[\"0.0.0.0/0\", \"::/0\"]", place);
            draft.add(table);
        }
        if !is_http {
            routes.iter().for_each(|route| self.write_route(route, &edits, draft));
            return;
        }
        if self.section.option("forwardfor").is_none() && !self.says_who(world) {
            let mut headers = Block::table(&["listener", &self.name, "headers"], self.place);
            headers.set("x_forwarded", "false", self.place);
            draft.add(headers);
        }
        self.rate_limit(draft, notes);
        for route in routes {
            self.write_route(route, &edits, draft);
        }
        if self.is_tls {
            binds.tls.write(&self.name, draft);
        }
    }

    /// Somewhere it is said who the client is.
    fn says_who(&self, world: &World<'_>) -> bool {
        let says = |section: &Section| {
            let named = |statement: &Statement| statement.word(2).to_ascii_lowercase().starts_with("x-forwarded-");
            section.option("forwardfor").is_some() || section.all("http-request").any(named)
        };
        says(self.section) || world.backends.values().any(|(_, section)| says(section))
    }

    /// `tcp`: routes look at the name of a TLS handshake that is passed on, and at the source.
    fn raw_routes(&self, world: &World<'_>, notes: &mut Notes) -> Vec<Route> {
        let acls = acls(self.section, notes);
        let to = |pool: &str, place| vec![Route { condition: Condition::default(), action: Action::Pool(pool.to_owned()), place }];
        let mut rules = Vec::new();
        for statement in self.section.all("use_backend") {
            let place = notes.place(statement.line);
            let Some((pool, _)) = world.backends.get(statement.word(1)) else {
                notes.not_converted(statement.line, &statement.shown(), "there is no such backend");
                continue;
            };
            let Some(terms) = self.terms(statement, statement.from(2), &acls, notes) else { continue };
            rules.push(Rule { terms, then: to(pool, place), place, words: statement.shown() });
        }
        match default_pool(self.section, world) {
            Some((pool, _)) => lower(&rules, to(pool, self.place), |rule, left| note_rule(rule, &left, notes)),
            None if rules.is_empty() => Vec::new(),
            None => {
                let sentinel = to("", self.place);
                let mut routes = lower(&rules, sentinel.clone(), |rule, left| note_rule(rule, &left, notes));
                routes.retain(|route| route.action != sentinel[0].action);
                routes
            }
        }
    }

    /// The routes in order, of which the last may take everything, and the edits by pool.
    fn routes(&self, world: &World<'_>, notes: &mut Notes) -> (Vec<Route>, BTreeMap<String, Vec<Edit>>) {
        let acls = acls(self.section, notes);
        let mut edits: BTreeMap<String, Vec<Edit>> = BTreeMap::new();
        let mut rules = self.monitor(notes);
        let (ends, common) = self.ends(self.section, &acls, notes);
        rules.extend(ends);
        for statement in self.section.all("use_backend") {
            let Some((pool, backend)) = world.backends.get(statement.word(1)) else {
                let why = if statement.word(1).contains('%') { "the backend is computed" } else { "there is no such backend" };
                notes.not_converted(statement.line, &statement.shown(), why);
                continue;
            };
            let Some(terms) = self.terms(statement, statement.from(2), &acls, notes) else { continue };
            let then = self.leaf(pool, backend, &common, &mut edits, notes.place(statement.line), notes);
            rules.push(Rule { terms, then, place: notes.place(statement.line), words: statement.shown() });
        }
        let after = match default_pool(self.section, world) {
            Some((pool, backend)) => {
                let place = self.section.last(&["default_backend"]).map_or(self.place, |statement| notes.place(statement.line));
                self.leaf(pool, backend, &common, &mut edits, place, notes)
            }
            None => {
                if let Some(statement) = self.section.last(&["default_backend"]) {
                    notes.not_converted(statement.line, &statement.shown(), "there is no such backend");
                }
                let action = Action::Answer { status: 503, body: None, content_type: None };
                vec![Route { condition: Condition::default(), action, place: self.place }]
            }
        };
        (lower(&rules, after, |rule, left| note_rule(rule, &left, notes)), edits)
    }

    /// What happens to a request for a pool: the rules of the backend, then the pool. Notes what is edited on the way.
    fn leaf(
        &self,
        pool: &str,
        backend: &Section,
        common: &[Edit],
        edits: &mut BTreeMap<String, Vec<Edit>>,
        place: Place,
        notes: &mut Notes,
    ) -> Vec<Route> {
        let after = vec![Route { condition: Condition::default(), action: Action::Pool(pool.to_owned()), place }];
        // A listen's own rules were asked already.
        if std::ptr::eq(backend, self.section) {
            edits.entry(pool.to_owned()).or_insert_with(|| common.to_vec());
            return after;
        }
        let (rules, own) = self.ends(backend, &acls(backend, notes), notes);
        edits.entry(pool.to_owned()).or_insert_with(|| common.iter().cloned().chain(own).collect());
        lower(&rules, after, |rule, left| note_rule(rule, &left, notes))
    }

    /// The rules of a section that end a request, and its edits.
    fn ends(&self, section: &Section, acls: &Acls, notes: &mut Notes) -> (Vec<Rule>, Vec<Edit>) {
        let (mut rules, mut edits) = (Vec::new(), Vec::new());
        const WORDS: [&str; 12] = [
            "http-request",
            "http-response",
            "redirect",
            "block",
            "reqadd",
            "rspadd",
            "reqrep",
            "reqirep",
            "reqdel",
            "reqidel",
            "rspdel",
            "rspidel",
        ];
        let all = section.defaults.iter().chain(&section.statements).filter(|statement| WORDS.contains(&statement.word(0)));
        for statement in all {
            let place = notes.place(statement.line);
            match actions::read(statement, place) {
                Done::NotNeeded(why) => notes.not_needed(statement.line, &statement.shown(), why),
                Done::Unknown(why) => notes.not_converted(statement.line, &statement.shown(), why),
                Done::Edits(Edit { kind: Kind::Forwarded, .. }, _) => {
                    notes.not_needed(statement.line, &statement.shown(), "weir says it, see x_forwarded");
                }
                Done::Edits(edit, rest) => {
                    let Some(terms) = self.terms(statement, rest, acls, notes) else { continue };
                    match terms.iter().any(|term| *term == Term::default()) {
                        true => edits.push(edit),
                        false if terms.is_empty() => {}
                        false => notes.not_converted(
                            statement.line,
                            &statement.shown(),
                            "edits are those of a route; add it to the routes it is meant for",
                        ),
                    }
                }
                Done::Ends(..) if self.is_rate(statement, acls) => {}
                Done::Ends(action, rest, changed) => {
                    let Some(terms) = self.terms(statement, rest, acls, notes) else { continue };
                    if let (Some(changed), false) = (changed, terms.is_empty()) {
                        notes.changed(statement.line, &statement.shown(), changed);
                    }
                    let then = vec![Route { condition: Condition::default(), action, place }];
                    rules.push(Rule { terms, then, place, words: statement.shown() });
                }
            }
        }
        (rules, edits)
    }

    /// When a line holds for clients of this listener; `None`: it cannot be said, and was noted.
    fn terms(&self, statement: &Statement, rest: &[String], acls: &Acls, notes: &mut Notes) -> Option<Vec<Term>> {
        match expression(rest, acls).and_then(|expression| terms(&expression, self.is_tls)) {
            Ok(terms) => Some(terms),
            Err(why) => {
                let refuses = statement.words.iter().any(|word| matches!(word.as_str(), "deny" | "tarpit" | "reject" | "block" | "auth"));
                let until = if refuses { "; what it refuses is let through until you write it by hand" } else { "" };
                notes.not_converted(statement.line, &statement.shown(), format!("{why}{until}"));
                None
            }
        }
    }

    /// `monitor-uri`
    fn monitor(&self, notes: &Notes) -> Vec<Rule> {
        let Some(statement) = self.section.last(&["monitor-uri"]) else { return Vec::new() };
        let place = notes.place(statement.line);
        let path = Some(PathWant::Exact(statement.word(1).to_owned()));
        let term = Term { all: vec![vec![Condition { path, ..Condition::default() }]], none: Vec::new() };
        let action = Action::Answer { status: 200, body: None, content_type: None };
        let then = vec![Route { condition: Condition::default(), action, place }];
        vec![Rule { terms: vec![term], then, place, words: statement.shown() }]
    }

    fn write_route(&self, route: &Route, edits: &BTreeMap<String, Vec<Edit>>, draft: &mut Draft) {
        let path = ["listener", self.name.as_str(), "route"];
        let place = route.place;
        let mut table = Block::in_list(&path, place).goes_with(3);
        route.condition.write(&mut table, place);
        match &route.action {
            Action::Pool(pool) => {
                table.set("pool", text(pool), place);
                draft.add(table);
                actions::write(&edits.get(pool).into_iter().flatten().collect::<Vec<_>>(), &path, draft);
            }
            Action::Redirect { status, scheme, host, port, path: to } => {
                draft.add(table);
                let mut redirect = Block::table(&[&path[..], &["redirect"]].concat(), place).goes_with(3);
                redirect.set("status", text(&status.to_string()), place);
                let port = port.map(|port| port.to_string());
                for (name, value) in
                    [("scheme", scheme.map(text)), ("host", host.as_deref().map(text)), ("port", port), ("path", to.as_deref().map(text))]
                {
                    if let Some(value) = value {
                        redirect.set(name, value, place);
                    }
                }
                draft.add(redirect);
            }
            Action::Answer { status, body, content_type } => {
                draft.add(table);
                let mut answer = Block::table(&[&path[..], &["answer"]].concat(), place).goes_with(3);
                answer.set("status", status.to_string(), place);
                for (name, value) in [("body", body), ("content_type", content_type)] {
                    if let Some(value) = value {
                        answer.set(name, text(value), place);
                    }
                }
                draft.add(answer);
            }
        }
    }

    fn timeouts(&self, is_http: bool, draft: &mut Draft, notes: &mut Notes) {
        let names: &[(&str, &str)] = match is_http {
            true => &[("http-request", "head"), ("client", "idle"), ("http-keep-alive", "keep_alive"), ("tunnel", "tunnel")],
            false => &[("client", "tunnel"), ("tunnel", "tunnel")],
        };
        let mut table = Block::table(&["listener", &self.name, "timeouts"], self.place);
        let mut values: BTreeMap<&str, (String, Place)> = BTreeMap::new();
        for (theirs, ours) in names {
            let Some(statement) = self.section.last(&["timeout", theirs]) else { continue };
            match duration(statement.word(2)) {
                Some(value) => drop(values.insert(ours, (time(value), notes.place(statement.line)))),
                None => notes.not_converted(statement.line, &statement.shown(), "it is not a duration"),
            }
        }
        for (name, (value, place)) in values {
            table.set(name, value, place);
        }
        draft.add_unless_empty(table);
    }

    /// `tcp-request connection reject` by source: who may connect.
    fn access(&self, table: &mut Block, notes: &mut Notes) {
        let acls = acls(self.section, notes);
        for statement in self.section.all("tcp-request") {
            let place = notes.place(statement.line);
            let rest = match (statement.word(1), statement.word(2)) {
                ("inspect-delay", _) => {
                    notes.not_needed(statement.line, &statement.shown(), "heads have a time of their own, see timeouts");
                    continue;
                }
                ("connection" | "content", "reject") => statement.from(3),
                ("connection" | "content", action) if action.starts_with("track-sc") => continue,
                ("content", "accept") => {
                    notes.not_needed(statement.line, &statement.shown(), "what is not refused is accepted");
                    continue;
                }
                _ => {
                    notes.not_converted(statement.line, &statement.shown(), "weir has nothing like it");
                    continue;
                }
            };
            let Some(terms) = self.terms(statement, rest, &acls, notes) else { continue };
            let sources = |conditions: &[Condition]| -> Option<Vec<String>> {
                let alone = |condition: &Condition| {
                    let rest = Condition { sources: condition.sources.clone(), ..Condition::default() };
                    (*condition == rest && !condition.sources.is_empty()).then(|| condition.sources.clone())
                };
                Some(conditions.iter().map(alone).collect::<Option<Vec<_>>>()?.concat())
            };
            let list = |sources: Vec<String>| sources.iter().map(|source| text(source)).collect::<Vec<_>>().join(", ");
            let found = match &terms[..] {
                [Term { all, none }] if none.is_empty() && all.len() == 1 => sources(&all[0]).map(|sources| ("deny", sources)),
                [Term { all, none }] if all.is_empty() && !none.is_empty() => sources(none).map(|sources| ("allow", sources)),
                _ => None,
            };
            match found {
                Some((key, found)) => table.set_vital(key, format!("[{}]", list(found)), place),
                None => notes.not_converted(statement.line, &statement.shown(), "who may connect is said by addresses alone"),
            }
        }
    }

    /// A deny whose one condition is a rate.
    fn is_rate(&self, statement: &Statement, acls: &Acls) -> bool {
        self.rate_of(statement, acls).is_some()
    }

    fn rate_of(&self, statement: &Statement, acls: &Acls) -> Option<u64> {
        let Done::Ends(Action::Answer { .. }, rest, _) = actions::read(statement, Place::default()) else { return None };
        let Ok(Expression(terms)) = expression(rest, acls) else { return None };
        let [term] = &terms[..] else { return None };
        let [literal] = &term[..] else { return None };
        match literal.tests[..] {
            [Test::RateAbove(number)] if !literal.is_negated => Some(number),
            _ => None,
        }
    }

    /// The idiom of a stick table that counts requests by source, and a deny above a number.
    fn rate_limit(&self, draft: &mut Draft, notes: &mut Notes) {
        let acls = acls(self.section, notes);
        for statement in self.section.statements.iter() {
            let Some(number) = self.rate_of(statement, &acls) else { continue };
            let place = notes.place(statement.line);
            let stored = self.section.all("stick-table").flat_map(|table| &table.words);
            let period = stored.filter_map(|word| word.split("http_req_rate(").nth(1)?.split(')').next()).find_map(duration);
            let tracks_source = self.section.statements.iter().any(|statement| {
                statement.words.iter().position(|word| word.starts_with("track-sc")).is_some_and(|at| statement.word(at + 1) == "src")
            });
            let Some(period) = period.filter(|period| tracks_source && period.as_secs() > 0) else {
                notes.not_converted(
                    statement.line,
                    &statement.shown(),
                    "its table is not one of this section that counts requests by source",
                );
                continue;
            };
            let mut limit = Block::in_list(&["listener", &self.name, "rate_limit"], place).goes_with(3);
            limit.set("requests_per_second", number.div_ceil(period.as_secs()).max(1).to_string(), place);
            limit.set("burst", number.max(1).to_string(), place);
            draft.add(limit);
            notes.changed(
                statement.line,
                &statement.shown(),
                "a bucket that refills steadily takes the place of a sliding window; beyond it 429",
            );
        }
    }
}

fn note_rule(rule: &Rule, left: &Left, notes: &mut Notes) {
    match left {
        Left::Out(why) => notes.not_converted(rule.place.line, &rule.words, *why),
        Left::Exceptions => {
            notes.changed(rule.place.line, &rule.words, "of its exceptions, some that a rule below is for go to the rules behind that one");
        }
    }
}

/// The ACLs that hold in a section.
fn acls(section: &Section, notes: &mut Notes) -> Acls {
    let mut acls = Acls::new();
    for statement in section.defaults.iter().chain(&section.statements).filter(|statement| statement.word(0) == "acl") {
        let found = test(statement.from(2));
        if let Test::Any(_, Some(changed)) = &found {
            notes.changed(statement.line, &statement.shown(), *changed);
        }
        acls.entry(statement.word(1).to_owned()).or_default().push(found);
    }
    acls
}
