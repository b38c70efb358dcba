//! Every key of the file: its kind, range, default and meaning.
//!
//! The meanings are those of `model`; here they are told to the person who writes the file.

mod acme;
mod alarm;
mod edge;
mod history;
mod limit;
mod machines;
mod recovery;
mod resilience;
mod route;
mod scaling;
mod tls;
mod vip;

use crate::notify;
use crate::spec::{Key, Keys, Kind, Word, word};

pub(crate) use route::ANSWER_BYTES_MAX;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const U32_MAX: u64 = u32::MAX as u64;

/// The whole file.
pub(crate) static ROOT: Keys = Keys {
    place: "the top level of the file",
    about: "Configuration of weir, a load balancer.",
    keys: &[
        Key::new("node", Kind::Table(&NODE), "Settings of the process."),
        Key::new("api", Kind::Table(&API), "The REST API and /metrics. Without this table there is neither."),
        Key::new("access_log", Kind::Table(&ACCESS_LOG), "One line for each request. Without this table requests are not logged."),
        Key::new(
            "history",
            Kind::Table(&history::HISTORY),
            "What was, and for how long it is kept. Without this table: as by its defaults.",
        ),
        Key::new(
            "cluster",
            Kind::Table(&vip::CLUSTER),
            "Which of several nodes acts for all. Without this table this node is its own leader.",
        ),
        Key::new("vip", Kind::NamedTables(&vip::VIP), "Virtual IP addresses by name, each written as [vip.NAME]."),
        Key::new("acme", Kind::NamedTables(&acme::AUTHORITY), "Authorities that issue certificates by name, each written as [acme.NAME]."),
        Key::new("listener", Kind::NamedTables(&LISTENER), "Listeners by name, each written as [listener.NAME]."),
        Key::new("pool", Kind::NamedTables(&POOL), "Pools by name, each written as [pool.NAME]."),
        Key::new("host", Kind::NamedTables(&machines::HOST), "Hosts of virtual machines by name, each written as [host.NAME]."),
        Key::new("template", Kind::NamedTables(&machines::TEMPLATE), "What machines are cloned from, each written as [template.NAME]."),
        Key::new("metric", Kind::NamedTables(&alarm::METRIC), "Numbers from elsewhere by name, each written as [metric.NAME]."),
        Key::new("alarm", Kind::NamedTables(&alarm::ALARM), "What is watched, by name, each written as [alarm.NAME]."),
        Key::new(
            "recovery",
            Kind::NamedTables(&recovery::RECOVERY),
            "What is tried when something is ill, before people are told, each written as [recovery.NAME].",
        ),
        notify::NOTIFY_KEY,
        notify::RULE_KEY,
        notify::ESCALATION_KEY,
        notify::ONCALL_KEY,
        notify::MUTE_KEY,
        notify::INHIBIT_KEY,
        notify::INCIDENT_KEY,
    ],
};

static NODE: Keys = Keys {
    place: "[node]",
    about: "Settings of the process.",
    keys: &[
        Key::text("name", "\"lb-a\"", "The name of this node in logs, Via and the API. Letters, digits, hyphen, underscore and dot.")
            .default("weir"),
        Key::count("workers", 1, 1024, "4", "Data plane threads. A change needs an upgrade or restart.").zero("one per core").default("0"),
        Key::text(
            "state_dir",
            "\"/var/lib/weir\"",
            "The folder for what must outlive the process, an absolute path. A change needs an upgrade or restart.",
        )
        .default("/var/lib/weir"),
        Key::time("drain_timeout", "\"30s\"", "How long a stop or an upgrade lets what is in flight finish.").default("30s"),
        Key::count("probes_max", 1, 65536, "256", "Health checks that may run at once.").default("256"),
    ],
};

static API: Keys = Keys {
    place: "[api]",
    about: "The REST API and /metrics.",
    keys: &[
        Key::text("bind", "\"127.0.0.1:7117\"", "Where the API and /metrics listen.").default("127.0.0.1:7117"),
        Key::text(
            "token_file",
            "\"/etc/weir/token\"",
            "A file that holds a bearer token, which may do everything. Unless bind is a loopback address, this, an [api.token.NAME] or client_ca_file of [api.tls] is needed.",
        ),
        Key::new("tls", Kind::Table(&API_TLS), "The API is served under TLS. Without this table it is not."),
        Key::new("token", Kind::NamedTables(&API_TOKEN), "Who may ask, and what, each written as [api.token.NAME]."),
    ],
};

static API_TLS: Keys = Keys {
    place: "[api.tls]",
    about: "TLS of the API and the console. Changed files are read again with a reload.",
    keys: &[
        Key::text("certificate_file", "\"/etc/weir/api.pem\"", "The chain in PEM, the node's own certificate first.").required(),
        Key::text("key_file", "\"/etc/weir/api.key\"", "Its private key in PEM. Absent: it is in the same file."),
        Key::text(
            "client_ca_file",
            "\"/etc/weir/operators-ca.pem\"",
            "Who must have signed the certificate that each client shows, in PEM; then a bind that other machines reach needs no token. Absent: clients are not asked for one.",
        ),
    ],
};

static API_TOKEN: Keys = Keys {
    place: "[api.token.NAME]",
    about: "A token of the API and of the console. `weir token` makes one.",
    keys: &[
        Key::choice(
            "role",
            &[
                word("read", "look"),
                word("operate", "also drain, scale, acknowledge and work on machines"),
                word("admin", "everything, also apply the file and start another binary"),
            ],
            "What whoever has it may do.",
        )
        .required(),
        Key::text(
            "token_sha256",
            "\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"",
            "SHA-256 of the token, 64 hexadecimal digits. The token itself is not in the file.",
        )
        .required(),
    ],
};

static ACCESS_LOG: Keys = Keys {
    place: "[access_log]",
    about: "One line for each request.",
    keys: &[
        Key::text("path", "\"/var/log/weir/access.log\"", "stdout, or an absolute file path. The file is opened again on SIGUSR1.")
            .default("stdout"),
        Key::choice("format", &[word("json", "one JSON object per line"), word("text", "one line for people")], "How a line is written.")
            .default("json"),
    ],
};

static LISTENER: Keys = Keys {
    place: "[listener.NAME]",
    about: "Bound addresses with their protocol and routes.",
    keys: &[
        Key {
            example: "\"10.0.0.100:80\"",
            ..Key::new("bind", Kind::TextOrTexts, "An address to listen on, or a list of them. Each address once over all listeners.")
        }
        .required(),
        Key::choice(
            "protocol",
            &[word("http", "HTTP/1.1"), word("tcp", "bytes as they come"), word("udp", "datagrams as they come")],
            "What is spoken here.",
        )
        .default("http"),
        Key::text("pool", "\"web\"", "The pool for what no route takes. Required for udp, and for tcp without routes."),
        Key::count(
            "connections_max",
            1,
            10_000_000,
            "100000",
            "Client connections open at once; more wait in the accept queue. Of udp: flows at once; then the quietest is given up.",
        )
        .default("100000"),
        Key::count(
            "connections_per_source",
            1,
            10_000_000,
            "100",
            "Client connections open at once from one address, or one IPv6 network of 64 bits; more are closed at once. Not for udp.",
        )
        .zero("no bound")
        .default("0"),
        Key::new("timeouts", Kind::Table(&LISTENER_TIMEOUTS), "How long we wait for a client."),
        Key::flag(
            "http2",
            "true",
            "Clients may speak HTTP/2: agreed on under TLS, and without TLS by clients that begin with it. Only for http.",
        ),
        Key::new("limits", Kind::Table(&HTTP_LIMITS), "Bounds on what a client may send before it is refused. Only for http."),
        Key::new("headers", Kind::Table(&FORWARD_HEADERS), "What we tell the endpoint about the client. Only for http."),
        Key::new("tls", Kind::Table(&tls::LISTENER_TLS), "TLS, which ends here. Without this table there is none. Only for http."),
        Key::count(
            "redirect_https",
            1,
            65535,
            "443",
            "Every request is answered 308 to the same host and path by HTTPS on this port; there is no pool and no route then. Only for http.",
        ),
        Key::new(
            "route",
            Kind::Tables(&route::ROUTE),
            "Rules that say where a request goes, each written as [[listener.NAME.route]]; the first match wins. On a tcp listener they look at sni, in a TLS handshake that is passed on as it is, and source. Not for udp.",
        ),
        Key::list("allow", "[\"10.0.0.0/8\"]", "Only clients in these ranges may connect; without the key, all. Not for udp."),
        Key::list("deny", "[\"192.0.2.0/24\"]", "Clients in these ranges may not connect, allowed or not. Not for udp."),
        Key::new(
            "proxy_protocol",
            Kind::Table(&edge::ANNOUNCERS),
            "Proxies in front that announce each client by the PROXY protocol, version 1 or 2. Not for udp.",
        ),
        Key::new(
            "rate_limit",
            Kind::Tables(&limit::RATE_LIMIT),
            "Bounds on requests, each written as [[listener.NAME.rate_limit]]; all that concern a request must let it pass. Only for http.",
        ),
        Key::choice(
            "ambiguous_paths",
            &[word("refuse", "such a request is answered 400"), word("keep", "the path is matched and passed on as it is")],
            "An encoded slash, a backslash, or nothing between two slashes, where a route looks at paths: servers read them differently. Only for http.",
        )
        .default("refuse"),
    ],
};

static LISTENER_TIMEOUTS: Keys = Keys {
    place: "[listener.NAME.timeouts]",
    about: "How long we wait for a client.",
    keys: &[
        Key::time("head", "\"10s\"", "From the first byte of a request, or the accept, to the end of its head; then 408.").default("10s"),
        Key::time("idle", "\"60s\"", "No byte moved while a request or response body is under way.").default("60s"),
        Key::time("keep_alive", "\"60s\"", "Between two requests.").default("60s"),
        Key::time("tunnel", "\"1h\"", "No byte moved either way in a TCP session or an upgraded connection.").default("1h"),
        Key::time("flow", "\"30s\"", "No datagram either way in a UDP flow.").default("30s"),
        Key::time("flow_drain", "\"30s\"", "How long a UDP flow may stay on an endpoint that takes nothing new any more.").default("30s"),
    ],
};

static HTTP_LIMITS: Keys = Keys {
    place: "[listener.NAME.limits]",
    about: "Bounds on what a client may send before it is refused.",
    keys: &[
        Key::size("head_bytes_max", KIB, 256 * KIB, "\"16KiB\"", "Request line and header fields together; beyond it 431.")
            .default("16KiB"),
        Key::count("headers_max", 1, 1000, "100", "Header fields; beyond it 431.").default("100"),
        Key::size(
            "line_bytes_max",
            256,
            256 * KIB,
            "\"8KiB\"",
            "The request line, or one header field; beyond it 431. At most head_bytes_max.",
        )
        .default("8KiB"),
        Key::size("body_bytes_max", 1, 1 << 50, "\"10MiB\"", "Request body; beyond it 413.")
            .zero("no bound, bodies are streamed")
            .default("0"),
        Key::size("retry_bytes_max", 0, MIB, "\"16KiB\"", "The part of a request body kept so that it can be sent again; 0 keeps none.")
            .default("16KiB"),
        Key::count("requests_per_connection_max", 1, U32_MAX, "1000", "After so many requests the connection is closed in order.")
            .zero("no bound")
            .default("0"),
        Key::count("streams_max", 1, 10_000, "128", "Requests at once on one connection over HTTP/2; the client is told.").default("128"),
    ],
};

static FORWARD_HEADERS: Keys = Keys {
    place: "[listener.NAME.headers]",
    about: "What we tell the endpoint about the client. What the client itself sent under these names is replaced, unless it is trusted.",
    keys: &[
        Key::flag("x_forwarded", "true", "X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host."),
        Key::flag("forwarded", "false", "Forwarded (RFC 7239)."),
        Key::flag("via", "false", "Via (RFC 9110 section 7.6.3), both ways."),
        Key::text(
            "request_id",
            "\"x-request-id\"",
            "The header that carries the request id, made where the client sent none; \"\" for none.",
        )
        .default("x-request-id"),
        Key::list(
            "trusted",
            "[\"10.0.0.0/8\"]",
            "Clients in these ranges are proxies: what they sent under these names is kept and extended, not replaced; and for routes, limits, hashing and the log, the client is the last address in X-Forwarded-For that is not in these ranges.",
        ),
    ],
};

pub(crate) const BALANCE_WORDS: &[Word] = &[
    word("least-request", "the better of two random endpoints by requests in flight over weight"),
    word("round-robin", "one after the other, smoothly by weight"),
    word("random", "random by weight"),
    word("peak-ewma", "the better of two random endpoints by recent peak latency times requests in flight, over weight"),
    word("maglev", "consistent hashing with bounded load, see [pool.NAME.hash]"),
];

static POOL: Keys = Keys {
    place: "[pool.NAME]",
    about: "A named set of endpoints.",
    keys: &[
        Key {
            example: "[\"10.0.0.11:8080\", { address = \"10.0.0.12:8080\", weight = 2 }]",
            ..Key::new(
                "endpoints",
                Kind::Endpoints(&ENDPOINT),
                "The endpoints, as addresses or tables; no address twice. May be empty: a pool that is filled at run time.",
            )
        },
        Key::choice("balance", BALANCE_WORDS, "How an endpoint is picked.").default("least-request"),
        Key::time(
            "slow_start",
            "\"30s\"",
            "How long an endpoint's share grows from its first healthy moment. Absent: its whole share at once.",
        ),
        Key::count(
            "min_healthy",
            0,
            U32_MAX,
            "1",
            "The floor: what happens when fewer endpoints are healthy is said by below_min_healthy; 0 is no floor.",
        )
        .default("1"),
        Key::choice(
            "below_min_healthy",
            &[
                word("fail-open", "traffic is spread over all enabled endpoints, healthy or not"),
                word("fail-closed", "requests are answered 503"),
            ],
            "What happens when fewer than min_healthy endpoints are healthy.",
        )
        .default("fail-open"),
        Key::new("hash", Kind::Table(&HASH), "What is hashed. Required with balance = \"maglev\", and only there."),
        Key::new("timeouts", Kind::Table(&POOL_TIMEOUTS), "How long we wait for an endpoint."),
        Key::new("limits", Kind::Table(&POOL_LIMITS), "Bounds on what an endpoint gets."),
        Key::new(
            "health",
            Kind::Table(&HEALTH),
            "Active health checks. Without this table endpoints count as healthy until traffic ejects them.",
        ),
        Key {
            default: Some("true"),
            example: "false",
            ..Key::new(
                "ejection",
                Kind::TableOrFlag(&EJECTION),
                "Leaving out an endpoint that keeps failing real traffic; false switches it off.",
            )
        },
        Key::choice(
            "proxy_protocol",
            &[word("v1", "as a line"), word("v2", "binary, with what a proxy in front told besides")],
            "Endpoints are told who the client is by the PROXY protocol, at the beginning of each connection, which then serves one request or session; health checks announce themselves. Not for the pool of a udp listener. Absent: endpoints see our address.",
        ),
        Key::new("retry", Kind::Table(&resilience::RETRY), "What is tried again, besides how often (limits.retries_max)."),
        Key::new("breaker", Kind::Table(&resilience::BREAKER), "Bounds on the whole pool; beyond one the answer is 503 at once."),
        Key::new(
            "adaptive",
            Kind::Table(&resilience::ADAPTIVE),
            "A bound on requests at once that follows the pool's latency; beyond it the answer is 503. Without this table there is none.",
        ),
        Key::new(
            "session",
            Kind::Table(&edge::SESSION),
            "Clients stay on the endpoint that they had before. Without this table each request and session is balanced by itself.",
        ),
        Key::new(
            "scaling",
            Kind::Table(&scaling::SCALING),
            "Machines that are cloned into the pool as the load rises. Without this table there are none.",
        ),
        Key::choice(
            "upstream_protocol",
            &[word("http1", "HTTP/1.1"), word("h2", "HTTP/2, which gRPC needs: agreed on under TLS, else with prior knowledge")],
            "What the endpoints speak, also to health checks. Only for pools of http listeners.",
        )
        .default("http1"),
        Key::new("tls", Kind::Table(&tls::ENDPOINT_TLS), "TLS towards the endpoints. Without this table there is none."),
    ],
};

static ENDPOINT: Keys = Keys {
    place: "an endpoint",
    about: "One address of a pool.",
    keys: &[
        Key::text("address", "\"10.0.0.11:8080\"", "Address or name, and port. A name that does not resolve is a down endpoint.")
            .required(),
        Key::count("weight", 1, crate::model::Weight::MAX as u64, "2", "Share relative to the others.").default("1"),
        Key::count("tier", 0, 15, "1", "0 serves first; a higher tier serves only while no lower tier has an endpoint available.")
            .default("0"),
    ],
};

static HASH: Keys = Keys {
    place: "[pool.NAME.hash]",
    about: "Consistent hashing: equal keys go to the same endpoint.",
    keys: &[
        Key::text(
            "key",
            "\"source\"",
            "source (the client's address), header:NAME, cookie:NAME, query:NAME or path. The pool of a tcp or udp listener can only use source.",
        )
        .required(),
        Key::count(
            "load_bound",
            101,
            100_000,
            "150",
            "The most an endpoint may carry, in percent of the pool's mean, before the key moves on.",
        )
        .zero("no bound")
        .default("150"),
    ],
};

static POOL_TIMEOUTS: Keys = Keys {
    place: "[pool.NAME.timeouts]",
    about: "How long we wait for an endpoint.",
    keys: &[
        Key::time("connect", "\"2s\"", "One attempt to connect.").default("2s"),
        Key::time("first_byte", "\"60s\"", "From the sent request to the response head.").default("60s"),
        Key::time("idle", "\"60s\"", "No byte from the endpoint in the middle of a response.").default("60s"),
        Key::time("keep_alive", "\"30s\"", "How long an idle connection is kept; less where the endpoint says so.").default("30s"),
        Key::time("total", "\"5m\"", "A whole exchange, waiting for an endpoint included.").zero("no bound").default("0s"),
    ],
};

static POOL_LIMITS: Keys = Keys {
    place: "[pool.NAME.limits]",
    about: "Bounds on what an endpoint gets.",
    keys: &[
        Key::count("connections_per_endpoint", 1, U32_MAX, "200", "Requests or sessions at once on one endpoint.")
            .zero("no bound")
            .default("0"),
        Key::count("queue_max", 0, 1_000_000, "1000", "Requests that wait for an endpoint; more are answered 503 at once. 0: none waits.")
            .default("1000"),
        Key::time("queue_timeout", "\"1s\"", "How long a request waits for an endpoint before 503.").default("1s"),
        Key::count("retries_max", 0, 10, "2", "Further attempts of one request; 0 for none.").default("2"),
        Key::count("idle_connections_max", 0, 1_000_000, "512", "Idle connections kept per endpoint over all threads; 0 keeps none.")
            .default("512"),
    ],
};

static HEALTH: Keys = Keys {
    place: "[pool.NAME.health]",
    about: "Active health checks.",
    keys: &[
        Key::choice(
            "type",
            &[
                word("http", "a request is answered as expected"),
                word("https", "the same under the TLS of [pool.NAME.tls]"),
                word("tcp", "a connection is accepted"),
                word("tls", "a TLS handshake is completed"),
                word("grpc", "grpc.health.v1.Health says SERVING"),
                word("udp", "a datagram is answered"),
                word("exec", "a program exits with 0"),
            ],
            "How an endpoint is probed.",
        )
        .required(),
        Key::time("interval", "\"2s\"", "From one probe to the next.").at_least_ms(10).default("2s"),
        Key::time("fast_interval", "\"500ms\"", "While the verdict is changing. At most interval; absent: interval.").at_least_ms(10),
        Key::time("down_interval", "\"10s\"", "While down for longer than ten times interval. At least interval; absent: interval.")
            .at_least_ms(10),
        Key::time("timeout", "\"1s\"", "How long a probe may take. At most interval; absent: 1s, or interval if that is less."),
        Key::count("rise", 1, 1000, "2", "Successes in a row that make an endpoint healthy.").default("2"),
        Key::count("fall", 1, 1000, "3", "Failures in a row that make an endpoint unhealthy.").default("3"),
        Key::count("port", 1, 65535, "9000", "Probe this port instead of the endpoint's."),
        Key::text("method", "\"GET\"", "The request method. Only for http and https; absent: GET."),
        Key::text("path", "\"/healthz\"", "The request path, query included. Only for http and https; absent: /."),
        Key::text("host", "\"web.example.com\"", "The Host header. Only for http and https; absent: the endpoint's address."),
        Key {
            example: "\"200-399\"",
            ..Key::new(
                "expect",
                Kind::Statuses,
                "Accepted statuses: 200, \"200-399\", or a list of both. Only for http and https; absent: \"200-399\".",
            )
        },
        Key::text(
            "body",
            "'\"status\": *\"ok\"'",
            "A regular expression that the first 64 KiB of the body must match. Only for http and https.",
        ),
        Key::text(
            "server_name",
            "\"web.example.com\"",
            "The name asked for in the handshake (SNI). Only for tls; absent: that of [pool.NAME.tls], else the endpoint's host.",
        ),
        Key::text("service", "\"shop.Orders\"", "The service that gRPC is asked about. Only for grpc; absent: the server as a whole."),
        Key::text(
            "request",
            "'\\x12\\x34version'",
            "The datagram that is sent; \\xNN stands for a byte, and \\r, \\n, \\t, \\0 and \\\\ for what they usually do. Only for udp, and required there.",
        ),
        Key::text(
            "answer",
            "'(?-u)^\\x12\\x34'",
            "A regular expression over bytes that the answer must match. Only for udp; absent: any answer.",
        ),
        Key {
            example: "[\"/usr/local/bin/probe\", \"--quick\"]",
            ..Key::new(
                "command",
                Kind::Texts,
                "Program and arguments, no shell. It finds WEIR_POOL, WEIR_ENDPOINT, WEIR_HOST and WEIR_PORT in its environment. Only for exec, and required there.",
            )
        },
    ],
};

static EJECTION: Keys = Keys {
    place: "[pool.NAME.ejection]",
    about: "An endpoint that keeps failing real traffic is left out for a while.",
    keys: &[
        Key::count(
            "consecutive_failures",
            1,
            10_000,
            "5",
            "Connect failures, resets, garbage, timeouts and answers 502, 503 and 504 in a row.",
        )
        .default("5"),
        Key::count("consecutive_errors", 1, 10_000, "10", "Such failures, or any 5xx answers, in a row.")
            .zero("other 5xx do not count")
            .default("0"),
        Key::new(
            "success_rate",
            Kind::Table(&resilience::SUCCESS_RATE),
            "Endpoints that answer worse than the others are left out too. Without this table they are not compared.",
        ),
        Key::time("time", "\"10s\"", "The first ejection; the n-th in a row lasts n times as long.").default("10s"),
        Key::time("time_max", "\"300s\"", "The longest ejection. At least time; absent: 300s, or time if that is more."),
        Key::count(
            "share_max",
            1,
            100,
            "50",
            "The most of a pool that may be ejected at once, in percent. The one endpoint of a pool of one never is.",
        )
        .default("50"),
    ],
};
