//! The sections of the file, each with the `defaults` that hold for it.

use std::rc::Rc;

use super::words::{Statement, statement};
use crate::note::Notes;

/// Words that begin a section.
const KINDS: [&str; 19] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "resolvers",
    "peers",
    "userlist",
    "mailers",
    "cache",
    "program",
    "ring",
    "http-errors",
    "log-forward",
    "fcgi-app",
    "crt-store",
    "traces",
    "acme",
    "log-profile",
];

/// Lines of `defaults` that hold at once; a chain of them copies what it takes over.
const DEFAULTS_MAX: usize = 500;

/// A section.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) statements: Vec<Statement>,
    /// What holds where the section says nothing.
    pub(super) defaults: Rc<Vec<Statement>>,
}

impl Section {
    /// The last statement that begins with these words: the section's own, else that of its defaults.
    pub(super) fn last(&self, words: &[&str]) -> Option<&Statement> {
        let last = |statements: &'_ [Statement]| statements.iter().rposition(|statement| statement.begins(words));
        match last(&self.statements) {
            Some(index) => self.statements.get(index),
            None => last(&self.defaults).and_then(|index| self.defaults.get(index)),
        }
    }

    /// Its own statements that begin with this word.
    pub(super) fn all<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a Statement> {
        self.statements.iter().filter(move |statement| statement.word(0) == word)
    }

    /// An option that may be taken back by `no`.
    pub(super) fn option(&self, name: &str) -> Option<&Statement> {
        let last = |statements: &'_ [Statement]| {
            statements.iter().rposition(|statement| statement.begins(&["option", name]) || statement.begins(&["no", "option", name]))
        };
        let found = match last(&self.statements) {
            Some(index) => self.statements.get(index),
            None => last(&self.defaults).and_then(|index| self.defaults.get(index)),
        };
        found.filter(|statement| statement.word(0) == "option")
    }
}

/// Takes the file apart. Lines that take environment variables are noted and left out.
pub(super) fn sections(text: &str, notes: &mut Notes) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut named: Vec<(String, Rc<Vec<Statement>>)> = Vec::new();
    let mut in_force: Rc<Vec<Statement>> = Rc::default();
    for (index, line) in text.lines().enumerate() {
        let Some(statement) = statement(line, index + 1) else { continue };
        if let Some(kind) = KINDS.iter().find(|kind| statement.word(0) == **kind) {
            close(sections.last(), &mut named, &mut in_force);
            sections.push(open(kind, &statement, &named, &in_force, notes));
            continue;
        }
        if statement.has_variable {
            notes.not_converted(statement.line, &statement.shown(), "it takes an environment variable; write the value and convert again");
            continue;
        }
        match sections.last_mut() {
            Some(section) => section.statements.push(statement),
            None => notes.not_converted(statement.line, &statement.shown(), "it stands before the first section"),
        }
    }
    sections
}

fn open(
    kind: &'static str,
    statement: &Statement,
    named: &[(String, Rc<Vec<Statement>>)],
    in_force: &Rc<Vec<Statement>>,
    notes: &mut Notes,
) -> Section {
    let (name, rest) = match statement.word(1) {
        "from" => ("", 1),
        name => (name, 2),
    };
    let mut defaults = Rc::clone(in_force);
    if statement.word(rest) == "from" {
        match named.iter().rev().find(|(name, _)| name == statement.word(rest + 1)) {
            Some((_, found)) => defaults = Rc::clone(found),
            None => notes.not_converted(statement.line, &statement.shown(), "there are no defaults of that name above"),
        }
    } else if kind == "defaults" {
        defaults = Rc::default();
    }
    let mut statements = Vec::new();
    // An address behind the name is the old way to write a bind.
    if matches!(kind, "frontend" | "listen") && statement.word(2).contains(':') {
        let words = ["bind".to_owned(), statement.word(2).to_owned()].into();
        statements.push(Statement { line: statement.line, words, has_variable: false });
    }
    Section { kind, name: name.to_owned(), line: statement.line, statements, defaults }
}

/// What `defaults` say holds for the sections below it.
fn close(section: Option<&Section>, named: &mut Vec<(String, Rc<Vec<Statement>>)>, in_force: &mut Rc<Vec<Statement>>) {
    let Some(section) = section.filter(|section| section.kind == "defaults") else { return };
    let all: Vec<Statement> = section.defaults.iter().chain(&section.statements).take(DEFAULTS_MAX).cloned().collect();
    *in_force = Rc::new(all);
    named.push((section.name.clone(), Rc::clone(in_force)));
}
