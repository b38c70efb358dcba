//! What a reload prints.

#[path = "support/mod.rs"]
mod support;

use weir_config::{AdminState, Config, diff, parse};

const BASE: &str = r#"
[listener.web]
bind = "10.0.0.1:80"
pool = "web"
[[listener.web.route]]
host = "a.example.com"
pool = "api"
[[listener.web.route]]
path = "/v1/"
pool = "api"
[pool.web]
endpoints = ["10.0.0.10:80", "10.0.0.11:80"]
[pool.web.health]
type = "http"
[pool.api]
endpoints = ["10.0.0.20:80"]
"#;

fn parsed(text: &str) -> Config {
    parse(text, "diff.toml").unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

/// Replaces `from` in the base and compares the lines of the difference.
fn check(from: &str, to: &str, expected: &[&str]) {
    let text = BASE.replacen(from, to, 1);
    assert!(from.is_empty() || text != BASE, "{from} is not in the base");
    let lines: Vec<String> = diff(&parsed(BASE), &parsed(&text)).iter().map(|change| change.to_string()).collect();
    assert_eq!(lines, expected, "{from} -> {to}");
}

#[test]
fn one_line_for_each_change() {
    check("", "", &[]);
    check("", "# a comment\n", &[]);
    check("", "[node]\nworkers = 4\n", &["node: workers one per core -> 4 (needs an upgrade or restart)"]);
    check("", "[node]\ndrain_timeout = \"1m\"\n", &["node: drain_timeout 30s -> 1m"]);
    check("", "[api]\n", &["api: added"]);
    check("", "[access_log]\n", &["access_log: added"]);
    let vip = "[vip.a]\ninterface = \"eth0\"\nrouter_id = 1\naddresses = [\"10.0.0.100/24\"]\n";
    check("", vip, &["vip a: added"]);
    check("", &format!("[cluster]\nleader_vip = \"a\"\n{vip}"), &["cluster: added", "vip a: added"]);
    check("", "[host.a]\nuri = \"qemu:///system\"\n", &["host a: added"]);
    let web = "[pool.web]\nscaling = { template = \"t\", max = 2 }\n";
    let around = "[host.a]\nuri = \"qemu:///system\"\n[template.t]\nmaster = \"m\"\nport = 80\n";
    check("[pool.web]\n", &format!("{around}{web}"), &["pool web: scaling none -> on", "host a: added", "template t: added"]);
    check("", "[alarm.a]\npool = \"web\"\nmetric = \"cpu\"\nabove = 1\n", &["alarm a: added"]);
    check("", "[recovery.a]\npool = \"web\"\nattempt = [{ action = \"drain\" }]\n", &["recovery a: added"]);
    check("", "[metric.a]\ncommand = [\"b\"]\n", &["metric a: added"]);
    check("\"10.0.0.1:80\"", "[\"10.0.0.1:80\", \"10.0.0.1:81\"]", &["listener web: bind 10.0.0.1:81 added"]);
    check("10.0.0.1:80", "10.0.0.1:81", &["listener web: bind 10.0.0.1:80 removed", "listener web: bind 10.0.0.1:81 added"]);
    check("pool = \"web\"", "pool = \"api\"", &["listener web: pool web -> api"]);
    check("pool = \"web\"\n", "pool = \"web\"\ntimeouts.head = \"3s\"\n", &["listener web: timeouts.head 10s -> 3s"]);
    check("pool = \"web\"\n", "pool = \"web\"\nlimits.body_bytes_max = \"1MiB\"\n", &["listener web: limits.body_bytes_max none -> 1MiB"]);
    check("/v1/", "/v2/", &["listener web: route 2 changed: */v1/ to api -> */v2/ to api"]);
    check(
        "[[listener.web.route]]\nhost",
        "[[listener.web.route]]\npath = \"/x\"\npool = \"web\"\n[[listener.web.route]]\nhost",
        &["listener web: route 1 added: */x to web"],
    );
    check("[[listener.web.route]]\npath = \"/v1/\"\npool = \"api\"\n", "", &["listener web: route 2 removed: */v1/ to api"]);
    check("\"10.0.0.11:80\"", "\"10.0.0.11:80\", \"b:1\"", &["pool web: endpoint b:1 added"]);
    check("\"10.0.0.10:80\", ", "", &["pool web: endpoint 10.0.0.10:80 removed"]);
    check(
        "\"10.0.0.11:80\"",
        "{ address = \"10.0.0.11:80\", weight = 3, tier = 1 }",
        &["pool web: endpoint 10.0.0.11:80 weight 1 -> 3", "pool web: endpoint 10.0.0.11:80 tier 0 -> 1"],
    );
    check("\"10.0.0.10:80\", \"10.0.0.11:80\"", "\"10.0.0.11:80\", \"10.0.0.10:80\"", &["pool web: endpoints in another order"]);
    check(
        "[pool.web]",
        "[pool.web.hash]\nkey = \"source\"\n[pool.web]\nbalance = \"maglev\"",
        &["pool web: balance least-request -> maglev", "pool web: hash.key none -> source", "pool web: hash.load_bound none -> 150 %"],
    );
    check("[pool.web.health]\ntype = \"http\"\n", "", &["pool web: health http -> none"]);
    check(
        "type = \"http\"",
        "type = \"http\"\npath = \"/up\"\nrise = 5",
        &["pool web: health.rise 2 -> 5", "pool web: health.path / -> /up"],
    );
    check("[pool.web]", "[pool.web]\nejection = false", &["pool web: ejection on -> none"]);
    check("[pool.api]", "[pool.new]\n[pool.api]", &["pool new: added"]);
}

#[test]
fn removing_and_changing_protocol() {
    let tcp = "[listener.web]\nbind = \"10.0.0.1:80\"\nprotocol = \"tcp\"\npool = \"web\"\n[pool.web]\n";
    let lines = |old: &str, new: &str| diff(&parsed(old), &parsed(new)).iter().map(|change| change.to_string()).collect::<Vec<_>>();
    assert_eq!(lines(&tcp.replace("tcp", "http"), tcp), ["listener web: protocol http -> tcp"]);
    assert_eq!(lines(tcp, "[pool.web]\n"), ["listener web: removed"]);
}

#[test]
fn run_time_states_are_differences() {
    let old = parsed(BASE);
    let mut new = old.clone();
    let pool = std::sync::Arc::make_mut(new.pools.get_mut(&"api".into()).unwrap());
    pool.endpoints[0].state = AdminState::Draining;
    let changes = diff(&old, &new);
    assert_eq!(changes.iter().map(|c| c.to_string()).collect::<Vec<_>>(), ["pool api: endpoint 10.0.0.20:80 state ready -> draining"]);
    assert!(!changes[0].needs_restart());
}

/// Another value under each key changes that setting and no other: no key is read into the wrong field.
#[test]
fn each_key_reaches_its_own_field() {
    let path = support::repository().join("examples/full.toml");
    let full = std::fs::read_to_string(path).unwrap();
    let base = parsed(&full);
    let mut checked = std::collections::BTreeSet::new();
    for (table, key, value, expected) in EACH_KEY {
        let lines: Vec<&str> = full.lines().collect();
        let header = lines.iter().position(|line| line.starts_with(&format!("[{table}]"))).expect(table);
        let at = header + lines[header..].iter().position(|line| line.split('=').next().unwrap().trim() == *key).expect(key);
        let text: Vec<String> =
            lines.iter().enumerate().map(|(index, line)| if index == at { format!("{key} = {value}") } else { line.to_string() }).collect();
        let lines: Vec<String> = diff(&base, &parsed(&text.join("\n"))).iter().map(|change| change.to_string()).collect();
        assert_eq!(lines, [*expected], "{table} {key}");
        checked.insert(format!("{table}.{key}"));
    }
    assert_eq!(checked.len(), EACH_KEY.len());
}

/// Table, key, another value, the line.
const EACH_KEY: &[(&str, &str, &str, &str)] = &[
    ("node", "name", "\"b\"", "node: name lb-a -> b"),
    ("node", "workers", "2", "node: workers one per core -> 2 (needs an upgrade or restart)"),
    ("node", "state_dir", "\"/x\"", "node: state_dir /var/lib/weir -> /x (needs an upgrade or restart)"),
    ("node", "drain_timeout", "\"1m\"", "node: drain_timeout 30s -> 1m"),
    ("node", "probes_max", "1", "node: probes_max 256 -> 1"),
    ("api", "bind", "\"[::1]:7\"", "api: bind 10.0.0.2:7117 -> [::1]:7"),
    ("api.tls", "certificate_file", "\"/c\"", "api: tls.certificate_file /etc/weir/api.pem -> /c"),
    ("api.tls", "key_file", "\"/k\"", "api: tls.key_file /etc/weir/api.key -> /k"),
    ("api.tls", "client_ca_file", "\"/ca\"", "api: tls.client_ca_file /etc/weir/operators-ca.pem -> /ca"),
    ("api", "token_file", "\"/t\"", "api: token_file /etc/weir/token -> /t"),
    ("access_log", "path", "\"stdout\"", "access_log: path /var/log/weir/access.log -> stdout"),
    ("access_log", "format", "\"text\"", "access_log: format json -> text"),
    ("history", "enabled", "true", "history: enabled false -> true (needs an upgrade or restart)"),
    ("history", "size_max", "\"1GiB\"", "history: size_max 2GiB -> 1GiB"),
    ("history", "events", "\"1h\"", "history: events 30d -> 1h"),
    ("history", "audit", "\"0s\"", "history: audit 730d -> for ever"),
    ("history", "samples_10s", "\"2d\"", "history: samples_10s 24h -> 2d"),
    ("history", "samples_1m", "\"2d\"", "history: samples_1m 14d -> 2d"),
    ("history", "samples_1h", "\"2d\"", "history: samples_1h 730d -> 2d"),
    (
        "acme.letsencrypt",
        "directory",
        "\"https://ca.test:14000/dir\"",
        "acme letsencrypt: directory https://acme-v02.api.letsencrypt.org/directory -> https://ca.test:14000/dir",
    ),
    ("acme.letsencrypt", "contact", "[]", "acme letsencrypt: contact ops@example.com -> none"),
    ("acme.letsencrypt", "account_key_file", "\"/k\"", "acme letsencrypt: account_key_file /etc/weir/acme-account.pem -> /k"),
    ("acme.letsencrypt", "renew_before", "\"7d\"", "acme letsencrypt: renew_before 30d -> 7d"),
    ("acme.inhouse", "ca_file", "\"/ca\"", "acme inhouse: ca_file /etc/weir/inhouse-ca.pem -> /ca"),
    ("acme.inhouse", "eab_key_id", "\"k\"", "acme inhouse: eab_key_id kid-1 with /etc/weir/acme-eab.key -> k with /etc/weir/acme-eab.key"),
    (
        "[listener.secure.tls.acme]",
        "names",
        "\"A.example.com\"",
        "listener secure: tls.acme shop.example.com of letsencrypt by http-01 -> a.example.com of letsencrypt by http-01",
    ),
    (
        "[listener.secure.tls.acme]",
        "challenge",
        "\"tls-alpn-01\"",
        "listener secure: tls.acme shop.example.com of letsencrypt by http-01 -> shop.example.com of letsencrypt by tls-alpn-01",
    ),
    ("listener.web", "connections_max", "7", "listener web: connections_max 100000 -> 7"),
    ("listener.web.timeouts", "head", "\"11ms\"", "listener web: timeouts.head 10s -> 11ms"),
    ("listener.web.timeouts", "idle", "\"11s\"", "listener web: timeouts.idle 1m -> 11s"),
    ("listener.web.timeouts", "keep_alive", "\"11m\"", "listener web: timeouts.keep_alive 1m -> 11m"),
    ("listener.web.timeouts", "tunnel", "\"11h\"", "listener web: timeouts.tunnel 1h -> 11h"),
    ("listener.web.limits", "head_bytes_max", "\"32KiB\"", "listener web: limits.head_bytes_max 16KiB -> 32KiB"),
    ("listener.web.limits", "headers_max", "7", "listener web: limits.headers_max 100 -> 7"),
    ("listener.web.limits", "line_bytes_max", "512", "listener web: limits.line_bytes_max 8KiB -> 512B"),
    ("listener.web.limits", "body_bytes_max", "0", "listener web: limits.body_bytes_max 100MiB -> none"),
    ("listener.web.limits", "retry_bytes_max", "0", "listener web: limits.retry_bytes_max 16KiB -> 0B"),
    ("listener.web.limits", "requests_per_connection_max", "7", "listener web: limits.requests_per_connection_max none -> 7"),
    ("listener.web.headers", "x_forwarded", "false", "listener web: headers.x_forwarded true -> false"),
    ("listener.web.headers", "forwarded", "true", "listener web: headers.forwarded false -> true"),
    ("listener.web.headers", "via", "true", "listener web: headers.via false -> true"),
    ("listener.web.headers", "request_id", "\"\"", "listener web: headers.request_id x-request-id -> none"),
    (
        "[listener.web.route]",
        "host",
        "\"B\"",
        "listener web: route 1 changed: api.example.com/v1/ to api, 10 % to batch too, path to /, request without x-debug, request set x-team: api, request add x-via: edge, response without server, response set strict-transport-security: max-age=31536000, response add vary: x-team -> b/v1/ to api, 10 % to batch too, path to /, request without x-debug, request set x-team: api, request add x-via: edge, response without server, response set strict-transport-security: max-age=31536000, response add vary: x-team",
    ),
    (
        "[listener.web.route]",
        "path",
        "\"/\"",
        "listener web: route 1 changed: api.example.com/v1/ to api, 10 % to batch too, path to /, request without x-debug, request set x-team: api, request add x-via: edge, response without server, response set strict-transport-security: max-age=31536000, response add vary: x-team -> api.example.com/ to api, 10 % to batch too, path to /, request without x-debug, request set x-team: api, request add x-via: edge, response without server, response set strict-transport-security: max-age=31536000, response add vary: x-team",
    ),
    (
        "[listener.web.route]",
        "pool",
        "\"web\"",
        "listener web: route 1 changed: api.example.com/v1/ to api, 10 % to batch too, path to /, request without x-debug, request set x-team: api, request add x-via: edge, response without server, response set strict-transport-security: max-age=31536000, response add vary: x-team -> api.example.com/v1/ to web, 10 % to batch too, path to /, request without x-debug, request set x-team: api, request add x-via: edge, response without server, response set strict-transport-security: max-age=31536000, response add vary: x-team",
    ),
    ("listener.web", "allow", "\"10.0.0.0/8\"", "listener web: allow 0.0.0.0/0, ::/0 -> 10.0.0.0/8"),
    ("listener.web", "deny", "[]", "listener web: deny 192.0.2.0/24 -> none"),
    ("listener.web.headers", "trusted", "\"10.0.0.6\"", "listener web: headers.trusted 10.0.0.5/32 -> 10.0.0.6/32"),
    (
        "[listener.web.rate_limit]",
        "burst",
        "7",
        "listener web: rate_limit 100/s for source, burst 200, 20 at once for source, route beta -> 100/s for source, burst 7, 20 at once for source, route beta",
    ),
    ("listener.web", "ambiguous_paths", "\"keep\"", "listener web: ambiguous_paths refuse -> keep"),
    ("pool.web", "balance", "\"peak-ewma\"", "pool web: balance least-request -> peak-ewma"),
    ("pool.web", "slow_start", "\"7s\"", "pool web: slow_start 30s -> 7s"),
    ("pool.web", "min_healthy", "0", "pool web: min_healthy 1 -> 0"),
    ("pool.web", "below_min_healthy", "\"fail-closed\"", "pool web: below_min_healthy fail-open -> fail-closed"),
    ("pool.web.timeouts", "connect", "\"7ms\"", "pool web: timeouts.connect 2s -> 7ms"),
    ("pool.web.timeouts", "first_byte", "\"7ms\"", "pool web: timeouts.first_byte 1m -> 7ms"),
    ("pool.web.timeouts", "idle", "\"7ms\"", "pool web: timeouts.idle 1m -> 7ms"),
    ("pool.web.timeouts", "keep_alive", "\"7ms\"", "pool web: timeouts.keep_alive 30s -> 7ms"),
    ("pool.web.timeouts", "total", "\"7ms\"", "pool web: timeouts.total none -> 7ms"),
    ("pool.web.limits", "connections_per_endpoint", "7", "pool web: limits.connections_per_endpoint none -> 7"),
    ("pool.web.limits", "queue_max", "0", "pool web: limits.queue_max 1000 -> 0"),
    ("pool.web.limits", "queue_timeout", "\"7s\"", "pool web: limits.queue_timeout 1s -> 7s"),
    ("pool.web.limits", "retries_max", "0", "pool web: limits.retries_max 2 -> 0"),
    ("pool.web.limits", "idle_connections_max", "0", "pool web: limits.idle_connections_max 512 -> 0"),
    ("pool.web.health", "interval", "\"3s\"", "pool web: health.interval 2s -> 3s"),
    ("pool.web.health", "fast_interval", "\"1s\"", "pool web: health.fast_interval 500ms -> 1s"),
    ("pool.web.health", "down_interval", "\"1m\"", "pool web: health.down_interval 10s -> 1m"),
    ("pool.web.health", "timeout", "\"7ms\"", "pool web: health.timeout 1s -> 7ms"),
    ("pool.web.health", "rise", "7", "pool web: health.rise 2 -> 7"),
    ("pool.web.health", "fall", "7", "pool web: health.fall 3 -> 7"),
    ("pool.web.health", "port", "7", "pool web: health.port 9000 -> 7"),
    ("pool.web.health", "method", "\"OPTIONS\"", "pool web: health.method GET -> OPTIONS"),
    ("pool.web.health", "path", "\"/?a=b\"", "pool web: health.path /healthz -> /?a=b"),
    ("pool.web.health", "host", "\"h\"", "pool web: health.host web.example.com -> h"),
    ("pool.web.health", "expect", "\"204\"", "pool web: health.expect 200, 204, 300-399 -> 204"),
    ("pool.web.health", "body", "\"up\"", "pool web: health.body \"status\": *\"ok\" -> up"),
    ("pool.web.ejection", "consecutive_failures", "7", "pool web: ejection.consecutive_failures 5 -> 7"),
    ("pool.web.ejection", "time", "\"7s\"", "pool web: ejection.time 10s -> 7s"),
    ("pool.web.ejection", "time_max", "\"1m\"", "pool web: ejection.time_max 5m -> 1m"),
    ("pool.web.ejection", "share_max", "7", "pool web: ejection.share_max 50 % -> 7 %"),
    ("pool.api.hash", "key", "\"cookie:Id\"", "pool api: hash.key header:x-customer -> cookie:Id"),
    ("pool.api.hash", "load_bound", "0", "pool api: hash.load_bound 150 % -> none"),
    ("pool.api.health", "server_name", "\"b\"", "pool api: health.server_name api.example.com -> b"),
    ("pool.mail", "ejection", "true", "pool mail: ejection none -> on"),
    ("pool.mail.health", "command", "[\"/p\"]", "pool mail: health.command [\"/usr/local/bin/probe-mail\", \"--quick\"] -> [\"/p\"]"),
    ("notify.ops-mail", "language", "\"ko\"", "notify ops-mail: language en -> ko"),
    ("notify.ops-mail", "time_zone", "\"Asia/Seoul\"", "notify ops-mail: time_zone Europe/Berlin -> Asia/Seoul"),
    ("notify.ops-mail", "timeout", "\"11s\"", "notify ops-mail: timeout 10s -> 11s"),
    ("notify.ops-mail", "backoff", "\"6s\"", "notify ops-mail: backoff 5s -> 6s"),
    ("notify.ops-mail", "backoff_max", "\"11m\"", "notify ops-mail: backoff_max 10m -> 11m"),
    ("notify.ops-mail", "give_up", "\"25h\"", "notify ops-mail: give_up 24h -> 25h"),
    ("notify.ops-mail", "messages_per_minute", "0", "notify ops-mail: messages_per_minute 30 -> none"),
    ("notify.ops-mail", "fallback", "\"pager\"", "notify ops-mail: fallback screen -> pager"),
    ("notify.ops-mail", "title", "\"x ${node}\"", "notify ops-mail: title ${severity}: ${summary} -> x ${node}"),
    ("notify.ops-mail", "text", "\"x\"", "notify ops-mail: text ${summary}, since ${started_at} -> x"),
    ("notify.ops-mail.email", "smtp", "\"smtp://a\"", "notify ops-mail: email.smtp smtp://mail.example.com:587 -> smtp://a:587"),
    ("notify.ops-mail.email", "from", "\"a@b\"", "notify ops-mail: email.from weir@example.com -> a@b"),
    ("notify.ops-mail.email", "to", "[\"a@b\"]", "notify ops-mail: email.to ops@example.com, kim@example.com (ko) -> a@b"),
    ("notify.ops-mail.email", "user", "\"me\"", "notify ops-mail: email.user weir -> me"),
    ("notify.ops-mail.email", "password_file", "\"/p\"", "notify ops-mail: email.password /etc/weir/smtp.password -> /p"),
    ("notify.ops-mail.email", "ca_file", "\"/ca\"", "notify ops-mail: email.ca_file /etc/weir/mail-ca.pem -> /ca"),
    ("notify.ops-mail.email", "html", "false", "notify ops-mail: email.html true -> false"),
    ("notify.ops-mail.email", "picture", "false", "notify ops-mail: email.picture true -> false"),
    ("notify.ops-mail.quiet", "from", "\"21:00\"", "notify ops-mail: quiet 22:00 to 07:00 below critical -> 21:00 to 07:00 below critical"),
    (
        "notify.ops-mail.quiet",
        "days",
        "\"sat\"",
        "notify ops-mail: quiet 22:00 to 07:00 below critical -> 22:00 to 07:00 on sat below critical",
    ),
    (
        "notify.kim-mail.email",
        "password_env",
        "\"X\"",
        "notify kim-mail: email.password environment variable SMTP_PASSWORD -> environment variable X",
    ),
    ("notify.hook.webhook", "url", "\"https://a/x\"", "notify hook: webhook.url https://hooks.example.com/weir -> https://a/x"),
    ("notify.hook.webhook", "format", "\"slack\"", "notify hook: webhook.body alertmanager -> slack"),
    ("notify.hook.webhook", "user", "\"me\"", "notify hook: webhook.user weir -> me"),
    ("notify.hook.webhook", "password_file", "\"/p\"", "notify hook: webhook.password /etc/weir/hook.password -> /p"),
    ("notify.hook.webhook", "sign_secret_file", "\"/s\"", "notify hook: webhook.sign_secret /etc/weir/hook.secret -> /s"),
    ("notify.hook.webhook", "ca_file", "\"/ca\"", "notify hook: webhook.ca_file /etc/weir/hook-ca.pem -> /ca"),
    ("notify.team-chat.webhook", "url_file", "\"/u\"", "notify team-chat: webhook.url /etc/weir/chat.url -> /u"),
    (
        "notify.team-chat.webhook",
        "body_type",
        "\"text\"",
        "notify team-chat: webhook.body own json of 48 bytes (3cccfc64) -> own text of 48 bytes (3cccfc64)",
    ),
    (
        "notify.other-chat.webhook",
        "url_env",
        "\"X\"",
        "notify other-chat: webhook.url environment variable CHAT_URL -> environment variable X",
    ),
    (
        "notify.other-chat.webhook",
        "token_header",
        "\"X-T\"",
        "notify other-chat: webhook.token /etc/weir/chat.token as X-Api-Key -> /etc/weir/chat.token as X-T",
    ),
    (
        "notify.other-chat.webhook",
        "sign_secret_env",
        "\"X\"",
        "notify other-chat: webhook.sign_secret environment variable CHAT_SECRET -> environment variable X",
    ),
    ("notify.kim-phone.sms", "user", "\"AC1\"", "notify kim-phone: sms.user AC0123456789 -> AC1"),
    ("notify.kim-phone.sms", "from", "\"weir\"", "notify kim-phone: sms.from +15550100 -> weir"),
    ("notify.kim-phone.sms", "to", "\"+15550199\"", "notify kim-phone: sms.to +15550123 -> +15550199"),
    ("notify.kim-phone.sms", "parts_max", "3", "notify kim-phone: sms.parts_max 1 -> 3"),
    ("notify.lee-phone.sms", "url", "\"https://a\"", "notify lee-phone: sms.url https://sms.example.com/send -> https://a/"),
    ("notify.lee-phone.sms", "method", "\"post\"", "notify lee-phone: sms.method get -> post"),
    ("notify.lee-phone.sms", "success", "\"yes\"", "notify lee-phone: sms.success OK -> yes"),
    (
        "notify.old-phone.smpp",
        "server",
        "\"smpps://[::1]\"",
        "notify old-phone: smpp.server smpps://smsc.example.com:3550 -> smpps://[::1]:3550",
    ),
    ("notify.old-phone.smpp", "user", "\"me\"", "notify old-phone: smpp.user weir -> me"),
    ("notify.old-phone.smpp", "password_file", "\"/p\"", "notify old-phone: smpp.password /etc/weir/smpp.password -> /p"),
    ("notify.old-phone.smpp", "system_type", "\"x\"", "notify old-phone: smpp.system_type weir -> x"),
    ("notify.old-phone.smpp", "from", "\"+1555\"", "notify old-phone: smpp.from weir -> +1555"),
    ("notify.old-phone.smpp", "to", "\"+1555\"", "notify old-phone: smpp.to +15550125 -> +1555"),
    ("notify.old-phone.smpp", "parts_max", "1", "notify old-phone: smpp.parts_max 3 -> 1"),
    ("notify.old-phone.smpp", "alphabet", "\"ucs2\"", "notify old-phone: smpp.alphabet gsm -> ucs2"),
    ("notify.old-phone.smpp", "ca_file", "\"/ca\"", "notify old-phone: smpp.ca_file /etc/weir/smsc-ca.pem -> /ca"),
    ("notify.desk.ticket", "url", "\"https://a\"", "notify desk: ticket.url https://tickets.example.com/ -> https://a/"),
    ("notify.desk.ticket", "project", "\"X\"", "notify desk: ticket.project OPS -> X"),
    ("notify.desk.ticket", "issue_type", "\"Bug\"", "notify desk: ticket.issue_type Incident -> Bug"),
    ("notify.desk.ticket", "close", "\"Close\"", "notify desk: ticket.close Done -> Close"),
    ("notify.desk.ticket", "user", "\"me\"", "notify desk: ticket.user weir@example.com -> me"),
    ("notify.nms.snmp", "to", "[\"a\", \"[::1]:99\"]", "notify nms: snmp.to nms.example.com:162 -> a:162, [::1]:99"),
    ("notify.nms.snmp", "arc", "\"1.3.6.1.4.1.9\"", "notify nms: snmp.arc 1.3.6.1.4.1.32473.1 -> 1.3.6.1.4.1.9"),
    ("notify.nms.snmp", "inform", "false", "notify nms: snmp.inform true -> false"),
    ("notify.nms.snmp", "user", "\"me\"", "notify nms: snmp.user weir -> me"),
    ("notify.nms.snmp", "auth", "\"sha512\"", "notify nms: snmp.auth sha256 -> sha512"),
    ("notify.nms.snmp", "auth_password_file", "\"/a\"", "notify nms: snmp.auth_password /etc/weir/snmp.auth -> /a"),
    ("notify.nms.snmp", "privacy_password_file", "\"/p\"", "notify nms: snmp.privacy_password /etc/weir/snmp.privacy -> /p"),
    ("notify.nms.snmp", "engine_id", "\"0011223344\"", "notify nms: snmp.engine_id 80007ed9046c622d61 -> 0011223344"),
    ("notify.old-nms.snmp", "community_file", "\"/c\"", "notify old-nms: snmp.community /etc/weir/snmp.community -> /c"),
    ("notify.pager.script", "command", "[\"/x\", \"y\"]", "notify pager: script.command /usr/local/bin/page --team ops -> /x y"),
    ("notify.screen.console", "journal", "false", "notify screen: console.journal true -> false"),
    ("notify.screen.console", "terminals", "false", "notify screen: console.terminals true -> false"),
    ("notify.tickets.ticket_log", "path", "\"/t\"", "notify tickets: ticket_log.path /var/log/weir/tickets.log -> /t"),
    ("[notify_rule]", "match", "[\"pool!=web\"]", "notify_rule 1: match pool=~web|api -> pool!=web"),
    ("[notify_rule]", "severity", "\"critical\"", "notify_rule 1: severity warning -> critical"),
    ("[notify_rule]", "notify", "\"pager\"", "notify_rule 1: notify ops-mail, tickets -> pager"),
    ("[notify_rule]", "oncall", "\"shifts\"", "notify_rule 1: oncall team -> shifts"),
    ("[notify_rule]", "group_by", "[\"vm\"]", "notify_rule 1: group_by pool -> vm"),
    ("[notify_rule]", "group_wait", "\"0s\"", "notify_rule 1: group_wait 5s -> 0s"),
    ("[notify_rule]", "update_interval", "\"2m\"", "notify_rule 1: update_interval 1m -> 2m"),
    ("[notify_rule]", "repeat", "\"0s\"", "notify_rule 1: repeat 4h -> 0s"),
    ("[notify_rule]", "resolved", "false", "notify_rule 1: resolved true -> false"),
    ("escalation.night", "rounds", "1", "escalation night: rounds 2 -> 1"),
    ("[escalation.night.step]", "after", "\"1m\"", "escalation night: step 15m oncall team; 30m pager -> 1m oncall team; 30m pager"),
    ("oncall.team", "time_zone", "\"UTC\"", "oncall team: time_zone Asia/Seoul -> UTC"),
    ("oncall.team", "start", "\"2026-01-06T09:00\"", "oncall team: start 2026-01-05T09:00:00 -> 2026-01-06T09:00:00"),
    ("oncall.team", "shift_days", "1", "oncall team: shift 7 days -> 1 days"),
    ("oncall.shifts", "shift_hours", "8", "oncall shifts: shift 12 hours -> 8 hours"),
    ("mute.backup", "match", "[\"host=a\"]", "mute backup: match host=kvm-b -> host=a"),
    ("mute.backup", "time_zone", "\"UTC\"", "mute backup: time_zone Europe/Berlin -> UTC"),
    ("mute.backup", "from", "\"00:30\"", "mute backup: from 01:00 -> 00:30"),
    ("mute.backup", "until", "\"04:00\"", "mute backup: until 03:00 -> 04:00"),
    ("mute.backup", "days", "\"mon\"", "mute backup: days sat, sun -> mon"),
    ("mute.backup", "begin", "\"2026-03-02T00:00\"", "mute backup: begin 2026-03-01T00:00:00 -> 2026-03-02T00:00:00"),
    ("mute.backup", "end", "\"2027-01-01T00:00\"", "mute backup: end 2026-12-31T00:00:00 -> 2027-01-01T00:00:00"),
    ("[inhibit]", "source", "[\"a=b\"]", "inhibit 1: source alarm=host-lost -> a=b"),
    ("[inhibit]", "target", "[\"a=b\"]", "inhibit 1: target vm=~.+ -> a=b"),
    ("[inhibit]", "equal", "[\"vm\"]", "inhibit 1: equal host -> vm"),
    ("incident", "url", "\"http://x/\"", "incident: url https://lb.example.com -> http://x"),
    ("incident", "keep", "\"1h\"", "incident: keep 30d -> 1h"),
    ("incident", "resolve_after", "\"2m\"", "incident: resolve_after 1m -> 2m"),
    ("incident", "acknowledge_link", "\"1h\"", "incident: acknowledge_link 24h -> 1h"),
];

#[test]
fn each_setting_of_a_virtual_ip() {
    const VIP: &str = "[vip.a]\ninterface = \"eth0\"\nrouter_id = 1\naddresses = [\"10.0.0.100/24\"]\n";
    for (more, expected) in [
        ("priority = 245", "vip a: priority 250 -> 245"),
        ("advertisement_interval = \"10ms\"", "vip a: advertisement_interval 100ms -> 10ms"),
        ("mode = \"tun\"", "vip a: mode auto -> tun"),
        (
            "peers = [\"10.0.0.2\", { address = \"10.1.0.2\", ttl_min = 254 }]",
            "vip a: peers multicast -> 10.0.0.2, 10.1.0.2 (ttl from 254)",
        ),
        ("notify = [\"/bin/true\"]", "vip a: notify none -> [\"/bin/true\"]"),
        ("announce = { refresh = \"0s\" }", "vip a: announce.refresh 1m -> none"),
        ("track = [{ interface = \"eth1\", lower = 20 }]", "vip a: track none -> interface eth1 lowers by 20"),
    ] {
        let lines: Vec<String> = diff(&parsed(VIP), &parsed(&format!("{VIP}{more}\n"))).iter().map(ToString::to_string).collect();
        assert_eq!(lines, [expected], "{more}");
    }
    assert_eq!(diff(&parsed(&format!("{VIP}version = 3\nauth = {{ key_file = \"/k\" }}\n")), &parsed(VIP)).len(), 2, "key file and window");
}

/// No setting of an alarm or of scaling changes without a line.
#[test]
fn scaling_line_by_line() {
    let example = std::fs::read_to_string(support::repository().join("examples/full.toml")).unwrap();
    let old = parsed(&example);
    for (from, to, expected) in [
        ("value     = 60.0", "value = 61", "pool batch: scaling.target cpu 60 over 10s, tolerance 10 % -> cpu 61 over 10s, tolerance 10 %"),
        ("above      = 70.0", "above = 71", "alarm batch-busy: threshold above 70 -> above 71"),
        (
            "duration  = \"8h\"",
            "duration = \"9h\"",
            "alarm batch-busy: mute 0 22 * * * Europe/Berlin for 8h -> 0 22 * * * Europe/Berlin for 9h",
        ),
        ("batch           = 1", "batch = 2", "pool batch: scaling.refresh.batch 1 -> 2"),
        ("query      = \"sum(", "query = \"max(", "metric jobs: query sum(rate(jobs_total[1m])) -> max(rate(jobs_total[1m]))"),
    ] {
        let text = example.replacen(from, to, 1);
        assert_ne!(text, example, "{from}");
        let lines: Vec<String> = diff(&old, &parsed(&text)).iter().map(ToString::to_string).collect();
        assert_eq!(lines, [expected]);
    }
}
