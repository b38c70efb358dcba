//! Text to [`Config`], all errors at once. One file for each kind of table.

mod acme;
mod alarm;
mod edge;
mod expression;
mod health;
mod history;
mod limit;
mod listener;
mod machines;
mod node;
mod pool;
mod recovery;
mod resilience;
mod route;
mod scaling;
mod syntax;
mod tls;
mod vip;

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::DeTable;

use crate::check;
use crate::error::ConfigErrors;
use crate::model::Config;
use crate::notify;
use crate::reader::{Sink, Table};
use crate::shared;

pub(crate) use acme::ParsedAuthority;
pub(crate) use alarm::ParsedAlarm;
pub(crate) use listener::ParsedListener;
pub(crate) use machines::{ParsedHost, ParsedTemplate};
pub(crate) use node::{ParsedApi, absolute_path};
pub(crate) use pool::ParsedPool;
pub(crate) use recovery::ParsedRecovery;
pub(crate) use vip::ParsedVip;

/// Reads and checks a configuration. `file_name` is only for messages. The error holds everything that is wrong.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigErrors> {
    if let Some(root) = syntax::read(text) {
        let sink = Sink::default();
        let config = read(&Table::root(&sink, &root));
        let (problems, dropped) = sink.into_problems();
        return if problems.is_empty() {
            Ok(Config { shared_sum: shared::sum(text), ..config })
        } else {
            Err(ConfigErrors::new(text, file_name, problems, dropped))
        };
    }
    let salvaged = syntax::salvage(text);
    let (root, _) = DeTable::parse_recoverable(&salvaged.text);
    let sink = Sink::default();
    read(&Table::root(&sink, &root));
    let (mut problems, dropped) = sink.into_problems();
    // What was blanked must not be reported as missing.
    problems.retain(|problem| !problem.needs_whole_file);
    problems.extend(salvaged.problems);
    Err(ConfigErrors::new(text, file_name, problems, dropped))
}

/// What came of the file; meaningless if a problem was reported.
fn read(root: &Table<'_>) -> Config {
    let node = node::node(&root.table_or_empty("node"));
    let api = root.table("api").map(|table| node::api(&table));
    let access_log = root.table("access_log").map(|table| node::access_log(&table));
    let history = history::history(&root.table_or_empty("history"));
    let authorities: Vec<ParsedAuthority> = root.named("acme").iter().map(acme::authority).collect();
    let mut listeners: Vec<ParsedListener> = root.named("listener").iter().map(listener::listener).collect();
    acme::place(&mut listeners, &node.state_dir);
    let pools: Vec<ParsedPool> = root.named("pool").iter().map(pool::pool).collect();
    let cluster = root.table("cluster").and_then(|table| vip::cluster(&table));
    let vips: Vec<ParsedVip> = root.named("vip").iter().map(vip::vip).collect();
    check::check(root, api.as_ref(), &listeners, &pools);
    check::acme(root, &authorities, &listeners);
    check::vips(root, cluster.as_ref(), &vips, &listeners, &pools);
    let hosts: Vec<ParsedHost> = root.named("host").iter().map(machines::host).collect();
    let templates: Vec<ParsedTemplate> = root.named("template").iter().map(machines::template).collect();
    check::machines(root, &hosts, &templates);
    let metrics: Vec<_> = root.named("metric").iter().filter_map(alarm::external).collect();
    let alarms: Vec<ParsedAlarm> = root.named("alarm").iter().map(alarm::alarm).collect();
    let recoveries: Vec<ParsedRecovery> = root.named("recovery").iter().map(recovery::recovery).collect();
    let world = check::World { pools: &pools, hosts: &hosts, templates: &templates, metrics: &metrics, alarms: &alarms };
    check::scaling(root, &world);
    check::recoveries(root, &world, &vips, &recoveries);
    let listeners: BTreeMap<_, _> =
        listeners.into_iter().filter_map(|parsed| parsed.listener).map(|listener| (listener.name.clone(), Arc::new(listener))).collect();
    let pools = pools.into_iter().map(|parsed| (parsed.pool.name.clone(), Arc::new(parsed.pool))).collect();
    let authorities = authorities.into_iter().filter_map(|parsed| parsed.authority).map(|one| (one.name.clone(), Arc::new(one))).collect();
    let vips = vips.into_iter().filter_map(|parsed| parsed.vip).map(|vip| (vip.name.clone(), Arc::new(vip))).collect();
    let cluster = cluster.map(|placed| placed.value);
    let hosts = hosts.into_iter().map(|parsed| (parsed.host.name.clone(), Arc::new(parsed.host))).collect();
    let templates = templates.into_iter().filter_map(|parsed| parsed.template).map(|t| (t.name.clone(), Arc::new(t))).collect();
    let notification = notify::notification(root);
    let metrics = metrics.into_iter().map(|metric| (metric.name.clone(), Arc::new(metric))).collect();
    let alarms = alarms.into_iter().filter_map(|parsed| parsed.alarm).map(|alarm| (alarm.name.clone(), Arc::new(alarm))).collect();
    let recoveries = recoveries.into_iter().filter_map(|parsed| parsed.recovery).map(|one| (one.name.clone(), Arc::new(one))).collect();
    let api = api.and_then(|parsed| parsed.api);
    Config {
        node,
        api,
        access_log,
        history,
        cluster,
        vips,
        authorities,
        listeners,
        pools,
        hosts,
        templates,
        metrics,
        alarms,
        recoveries,
        notification,
        shared_sum: [0; 32],
    }
}
