//! Text to [`Config`], all errors at once. One file for each kind of table.

mod health;
mod listener;
mod node;
mod pool;

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::DeTable;

use crate::check;
use crate::error::{ConfigErrors, Problem};
use crate::model::Config;
use crate::reader::{Sink, Table};

pub(crate) use listener::ParsedListener;
pub(crate) use node::ParsedApi;
pub(crate) use pool::ParsedPool;

/// Reads and checks a configuration. `file_name` is only for messages. The error holds everything that is wrong.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigErrors> {
    let (root, syntax_errors) = DeTable::parse_recoverable(text);
    let sink = Sink::default();
    let config = read(&Table::root(&sink, &root));
    let mut problems = sink.into_problems();
    if !syntax_errors.is_empty() {
        let syntax: Vec<Problem> = syntax_errors.iter().map(|error| syntax_problem(text, error)).collect();
        // What the parser left out around a syntax error must not be reported as missing, nor its remains as wrong.
        let broken: Vec<usize> = syntax.iter().map(|problem| line_of(text, problem.span.start)).collect();
        problems.retain(|problem| !problem.needs_whole_file && !broken.contains(&line_of(text, problem.span.start)));
        problems.extend(syntax);
    }
    if problems.is_empty() { Ok(config) } else { Err(ConfigErrors::new(text, file_name, problems)) }
}

/// What came of the file; meaningless if a problem was reported.
fn read(root: &Table<'_>) -> Config {
    let node = node::node(&root.table_or_empty("node"));
    let api = root.table("api").map(|table| node::api(&table));
    let access_log = root.table("access_log").map(|table| node::access_log(&table));
    let listeners: Vec<ParsedListener> = root.named("listener").iter().map(listener::listener).collect();
    let pools: Vec<ParsedPool> = root.named("pool").iter().map(pool::pool).collect();
    check::check(root, api.as_ref(), &listeners, &pools);
    let listeners: BTreeMap<_, _> =
        listeners.into_iter().filter_map(|parsed| parsed.listener).map(|listener| (listener.name.clone(), Arc::new(listener))).collect();
    let pools = pools.into_iter().map(|parsed| (parsed.pool.name.clone(), Arc::new(parsed.pool))).collect();
    Config { node, api: api.and_then(|parsed| parsed.api), access_log, listeners, pools }
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let written = text.get(span.clone()).unwrap_or_default().trim();
    let message = error.message().trim();
    if message.starts_with("duplicate key") {
        let message = format!("`{written}` is written twice here");
        return Problem::new(span, "", message).help("a key can be set once in a table, and a table header can appear once");
    }
    Problem::new(span, "", format!("this is not TOML: {message}"))
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count()
}
