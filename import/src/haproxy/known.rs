//! Words that no table of ours takes up: those that need no counterpart, and those that have none.

use super::section::Section;
use super::words::Statement;
use crate::note::{Notes, Outcome};

use Outcome::{NotConverted, NotNeeded};

/// What the rest of this module's folder takes up, by its first word.
const TAKEN_UP: [&str; 33] = [
    "acl",
    "balance",
    "bind",
    "block",
    "cookie",
    "default-server",
    "default_backend",
    "external-check",
    "hash-type",
    "http-check",
    "http-request",
    "http-response",
    "maxconn",
    "mode",
    "monitor-uri",
    "redirect",
    "reqadd",
    "reqdel",
    "reqidel",
    "reqirep",
    "reqrep",
    "retries",
    "rspadd",
    "rspdel",
    "rspidel",
    "server",
    "server-template",
    "stick",
    "stick-table",
    "tcp-check",
    "tcp-request",
    "timeout",
    "use_backend",
];

/// First words of a proxy, and what becomes of them.
const WORDS: [(&str, Outcome, &str); 30] = [
    ("capture", NotNeeded, "the access log has its own fields"),
    ("compression", NotConverted, "weir compresses nothing"),
    ("declare", NotConverted, "there is nothing to capture into"),
    ("description", NotNeeded, "write a comment"),
    ("disabled", NotConverted, "leave the section out while it is disabled"),
    ("dispatch", NotConverted, "write a pool with one endpoint"),
    ("email-alert", NotConverted, "write [notify.NAME.email] and [alarm.NAME]"),
    ("enabled", NotNeeded, "everything that is written is enabled"),
    ("errorfile", NotConverted, "weir answers errors by itself"),
    ("errorfiles", NotConverted, "weir answers errors by itself"),
    ("errorloc", NotConverted, "weir answers errors by itself"),
    ("errorloc302", NotConverted, "weir answers errors by itself"),
    ("errorloc303", NotConverted, "weir answers errors by itself"),
    ("filter", NotConverted, "weir has no filters"),
    ("force-persist", NotConverted, "there is no persistence to force"),
    ("fullconn", NotNeeded, "limits are per endpoint"),
    ("http-after-response", NotConverted, "edits of a response are those of a route"),
    ("http-error", NotConverted, "weir answers errors by itself"),
    ("http-reuse", NotNeeded, "connections to endpoints are kept and used again"),
    ("id", NotNeeded, "tables have names"),
    ("log-format", NotConverted, "the access log is written as JSON or text, see [access_log]"),
    ("log-tag", NotNeeded, "the access log has a file of its own"),
    ("monitor", NotConverted, "write the route that monitors ask, and track the pool in [[vip.NAME.track]]"),
    ("persist", NotConverted, "write balance = \"maglev\" with a hash key"),
    ("rate-limit", NotConverted, "write [[listener.NAME.rate_limit]]"),
    ("stats", NotNeeded, "`weir status`, `weir events` and /metrics show the state"),
    ("unique-id-format", NotNeeded, "each request gets an id, see request_id"),
    ("unique-id-header", NotNeeded, "each request gets an id, see request_id"),
    ("use-server", NotConverted, "a route picks a pool, and the pool an endpoint; make a pool of the server"),
    ("http-send-name-header", NotConverted, "endpoints are not told their name"),
];

/// Options of a proxy, and what becomes of them; those that are taken up elsewhere are not here.
const OPTIONS: [(&str, Outcome, &str); 27] = [
    ("abortonclose", NotNeeded, "work for a client that is gone ends by itself"),
    ("accept-invalid-http-request", NotConverted, "what two parsers could read differently is always refused"),
    ("accept-invalid-http-response", NotConverted, "what two parsers could read differently is always refused"),
    ("accept-unsafe-violations-in-http-request", NotConverted, "what two parsers could read differently is always refused"),
    ("clitcpka", NotNeeded, "idle times have bounds"),
    ("contstats", NotNeeded, "counters are continuous"),
    ("dontlog-normal", NotConverted, "the access log has every request"),
    ("dontlognull", NotNeeded, "a connection without a request is not logged"),
    ("forceclose", NotNeeded, "connections are kept on both sides"),
    ("http-buffer-request", NotConverted, "bodies are streamed"),
    ("http-keep-alive", NotNeeded, "connections are kept on both sides"),
    ("http-pretend-keepalive", NotNeeded, "connections are kept on both sides"),
    ("http-server-close", NotNeeded, "connections are kept on both sides"),
    ("http-use-htx", NotNeeded, "there is one way to read HTTP"),
    ("httpclose", NotNeeded, "connections are kept on both sides"),
    ("log-health-checks", NotNeeded, "every change of health is an event"),
    ("log-separate-errors", NotNeeded, "the access log has the status of each request"),
    ("logasap", NotNeeded, "a request is logged when it ends"),
    ("nolinger", NotNeeded, "connections are closed in order"),
    ("prefer-last-server", NotNeeded, "idle connections are used again"),
    ("redispatch", NotNeeded, "a repeated attempt goes to another endpoint"),
    ("socket-stats", NotNeeded, "listeners are counted one by one"),
    ("splice-auto", NotNeeded, "bulk is spliced by itself"),
    ("srvtcpka", NotNeeded, "idle times have bounds"),
    ("tcp-smart-accept", NotNeeded, "it is the default"),
    ("tcp-smart-connect", NotNeeded, "it is the default"),
    ("tcpka", NotNeeded, "idle times have bounds"),
];

/// Options that are taken up elsewhere.
const OPTIONS_TAKEN_UP: [&str; 15] = [
    "allbackups",
    "external-check",
    "forwardfor",
    "httpchk",
    "httplog",
    "ldap-check",
    "mysql-check",
    "pgsql-check",
    "redis-check",
    "smtpchk",
    "spop-check",
    "ssl-hello-chk",
    "tcp-check",
    "tcplog",
    "httpslog",
];

/// Times that are taken up elsewhere.
const TIMEOUTS_TAKEN_UP: [&str; 8] = ["check", "client", "connect", "http-keep-alive", "http-request", "queue", "server", "tunnel"];

/// Notes every line of a proxy or of `defaults` that nothing takes up.
pub(super) fn look(section: &Section, notes: &mut Notes) {
    for statement in &section.statements {
        let (line, shown) = (statement.line, statement.shown());
        let words: &[String] = if statement.word(0) == "no" { statement.from(1) } else { &statement.words };
        let word = |index: usize| words.get(index).map_or("", String::as_str);
        let found = match word(0) {
            "option" if OPTIONS_TAKEN_UP.contains(&word(1)) => continue,
            "option" => find(&OPTIONS, word(1)),
            "timeout" if TIMEOUTS_TAKEN_UP.contains(&word(1)) => continue,
            "timeout" => match word(1) {
                "client-fin" | "server-fin" | "client-hs" | "tarpit" => {
                    Some((NotNeeded, "closing and handshakes have bounds of their own"))
                }
                _ => None,
            },
            // The access log, once for all.
            "log" => continue,
            word if TAKEN_UP.contains(&word) => continue,
            word => find(&WORDS, word),
        };
        match found {
            Some((outcome, why)) => notes.add(notes.place(line), outcome, &shown, why),
            None => notes.not_converted(line, &shown, "weir knows nothing like it"),
        }
    }
}

fn find(list: &[(&str, Outcome, &'static str)], word: &str) -> Option<(Outcome, &'static str)> {
    list.iter().find(|(known, ..)| *known == word).map(|(_, outcome, why)| (*outcome, *why))
}

/// Notes a line of `global` that nothing takes up.
pub(super) fn global(statement: &Statement, notes: &mut Notes) {
    let shown = statement.shown();
    let (outcome, why) = match statement.word(0) {
        "chroot" | "user" | "group" | "uid" | "gid" | "daemon" | "pidfile" | "master-worker" | "mworker-max-reloads" | "nbproc" => {
            (NotNeeded, "who runs weir, and where, is said by its unit file")
        }
        "stats" | "server-state-base" | "server-state-file" | "description" => (NotNeeded, "the API is at [api] bind"),
        "log" | "log-tag" | "log-send-hostname" => (NotNeeded, "weir logs to its standard error, which the journal keeps"),
        "maxconn" | "maxconnrate" | "maxsslconn" | "ulimit-n" => {
            (NotNeeded, "bounds are those of listeners; descriptors are raised as far as allowed")
        }
        "cpu-map" | "numa-cpu-mapping" => (NotNeeded, "there is a thread for each core"),
        "crt-base" | "ca-base" => return,
        "ssl-default-bind-options" | "ssl-default-bind-ciphers" | "ssl-default-bind-ciphersuites" | "ssl-default-bind-curves" => {
            (NotNeeded, "TLS 1.2 and 1.3 with today's suites are the default, see version_min")
        }
        "ssl-default-server-options" | "ssl-default-server-ciphers" | "ssl-default-server-ciphersuites" | "ssl-server-verify" => {
            (NotConverted, "look at each server that speaks TLS")
        }
        "ssl-dh-param-file" | "tune.ssl.default-dh-param" => (NotNeeded, "keys are agreed on by elliptic curves"),
        "lua-load" | "lua-load-per-thread" | "lua-prepend-path" => (NotConverted, "weir runs no Lua"),
        "external-check" | "insecure-fork-wanted" => (NotNeeded, "a program is a check of type \"exec\""),
        word if word.starts_with("tune.") => (NotNeeded, "weir sizes itself"),
        _ => (NotConverted, "weir knows nothing like it"),
    };
    notes.add(notes.place(statement.line), outcome, &shown, why);
}
