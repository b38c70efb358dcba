use std::net::IpAddr;

use proptest::prelude::*;
use weir_config::{Config, HttpListener, PathPattern, Protocol};

use super::condition::{host_fits, miss};
use super::*;

fn http(routes: &str) -> HttpListener {
    let text = format!("[listener.a]\nbind = \"127.0.0.1:80\"\n{routes}\n[pool.p]\n[pool.q]\n[pool.r]\n");
    let config: Config = weir_config::parse(&text, "test").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    match &config.listeners[&"a".into()].protocol {
        Protocol::Http(http) => http.clone(),
        other => panic!("{other:?}"),
    }
}

fn ask(http: &HttpListener, request: &str, source: &str, server_name: Option<&str>) -> Result<Explanation, String> {
    let (first, fields) = request.split_once('\n').unwrap_or((request, "host: a.test"));
    let head = format!("{first} HTTP/1.1\r\n{}\r\n\r\n", fields.replace('\n', "\r\n"));
    let source: IpAddr = source.parse().unwrap();
    explain(http, &Question { head: head.as_bytes(), scheme: "http", source, server_name })
}

/// The label of the route taken, `-` for none, or `!` for a request that is refused.
fn taken(http: &HttpListener, request: &str, source: &str, server_name: Option<&str>) -> String {
    match ask(http, request, source, server_name) {
        Ok(explanation) => explanation.taken.map_or("-".into(), |taken| explanation.routes[taken].label.clone()),
        Err(_) => "!".into(),
    }
}

#[test]
fn each_condition_is_looked_at() {
    for (condition, fitting, missing) in [
        ("host = \"a.test\"", "GET /\nhost: A.Test:8080", "GET /\nhost: b.a.test"),
        ("host = \"a.test\"", "GET /\nhost: a.test.", "GET /\nhost: a.test.b"),
        ("host = [\"x.test\", \"a.test\"]", "GET /\nhost: x.test", "GET /\nhost: y.test"),
        ("host = \"*.a.test\"", "GET /\nhost: x.Y.a.test", "GET /\nhost: a.test"),
        ("host = \"*.a.test\"", "GET /\nhost: x.a.test.", "GET /\nhost: .a.test"),
        ("host = \"[2001:db8::1]\"", "GET /\nhost: [2001:db8::1]:80", "GET /\nhost: [2001:db8::2]"),
        ("path = \"/v1/\"", "GET /v1/x?y", "GET /v1"),
        ("path = \"/v1/\"", "GET /%761/x", "GET /x?/v1/"),
        ("path = \"/a%20b\"", "GET /a%20b", "GET /a+b"),
        ("path_exact = \"/x\"", "GET /x?y=/", "GET /x/"),
        ("path_exact = \"/\"", "GET http://a.test", "GET http://a.test/x"),
        ("path_regex = \"/users/[0-9]+\"", "GET /users/17", "GET /users/17/x"),
        ("path_regex = \"/a|/b\"", "GET /b", "GET /bc"),
        ("method = [\"PUT\", \"POST\"]", "POST /", "post /"),
        ("header = [{ name = \"X-Beta\" }]", "GET /\nhost: a\nx-beta:", "GET /\nhost: a\nx-beta2: 1"),
        ("header = [{ name = \"x\", value = \"1\" }]", "GET /\nhost: a\nx: 2\nX:  1 ", "GET /\nhost: a\nx: 11"),
        ("header = [{ name = \"x\", regex = \"v[0-9]\" }]", "GET /\nhost: a\nx: v2", "GET /\nhost: a\nx: v22"),
        ("header = [{ name = \"x\", present = false }]", "GET /", "GET /\nhost: a\nx: 1"),
        ("cookie = [{ name = \"g\", value = \"b\" }]", "GET /\nhost: a\ncookie: f=1; g=b", "GET /\nhost: a\ncookie: gg=b; g=c"),
        ("query = [{ name = \"d\" }]", "GET /?a&d", "GET /?a=d&dd"),
        ("query = [{ name = \"d\", value = \"a b\" }]", "GET /?d=%61%20b", "GET /?d=a+b"),
        ("query = [{ name = \"d\", value = \"\" }]", "GET /?d=", "GET /?e&d=x"),
        ("query = [{ name = \"d\", regex = \"[0-9]*\" }]", "GET /?d=12&d=x", "GET /?d=x"),
    ] {
        let http = http(&format!("[[listener.a.route]]\n{condition}\npool = \"p\""));
        assert_eq!(taken(&http, fitting, "192.0.2.1", None), "1", "{condition}: {fitting}");
        assert_eq!(taken(&http, missing, "192.0.2.1", None), "-", "{condition}: {missing}");
    }
    let source = http("[[listener.a.route]]\nsource = [\"10.0.0.0/8\", \"2001:db8::/33\"]\npool = \"p\"");
    for (address, label) in
        [("10.255.0.1", "1"), ("::ffff:10.0.0.1", "1"), ("11.0.0.1", "-"), ("2001:db8::1", "1"), ("2001:db8:8000::1", "-")]
    {
        assert_eq!(taken(&source, "GET /", address, None), label, "{address}");
    }
    let sni = http("[[listener.a.route]]\nsni = \"*.a.test\"\npool = \"p\"");
    for (name, label) in [(Some("x.A.test"), "1"), (Some("a.test"), "-"), (None, "-")] {
        assert_eq!(taken(&sni, "GET /", "10.0.0.1", name), label, "{name:?}");
    }
}

#[test]
fn the_first_that_matches_wins_wherever_it_is_found() {
    let http = http(
        "[[listener.a.route]]\nname = \"deep\"\npath = \"/a/b/\"\nmethod = \"GET\"\npool = \"p\"\n\
         [[listener.a.route]]\nname = \"wild\"\nhost = \"*.test\"\npath = \"/a/\"\npool = \"p\"\n\
         [[listener.a.route]]\nname = \"host\"\nhost = \"x.test\"\npool = \"p\"\n\
         [[listener.a.route]]\nname = \"rest\"\npath = \"/a\"\npool = \"p\"\n",
    );
    for (request, label) in [
        ("GET /a/b/c\nhost: x.test", "deep"),
        ("PUT /a/b/c\nhost: x.test", "wild"),
        ("PUT /a/b/c\nhost: x", "rest"),
        ("GET /\nhost: x.test", "host"),
        ("GET /b\nhost: y.test", "-"),
    ] {
        assert_eq!(taken(&http, request, "10.0.0.1", None), label, "{request}");
    }
    let told = ask(&http, "PUT /a/b/c\nhost: x", "10.0.0.1", None).unwrap();
    let why: Vec<_> = told.routes.iter().map(|route| route.miss.as_deref().unwrap_or("taken")).collect();
    assert_eq!(why, ["the method is PUT, not GET", "the host is x, not *.test", "the host is x, not x.test", "taken"]);
}

#[test]
fn what_servers_read_differently_is_refused_only_where_a_route_looks_at_paths() {
    for path in ["/v1/../admin", "/v1/%2e%2e/admin", "/v1%2fadmin", "/v1//admin", "/v1\\admin", "/%zz"] {
        let request = format!("GET {path}");
        let by_path = http("[[listener.a.route]]\npath = \"/v1/\"\npool = \"p\"");
        assert_eq!(taken(&by_path, &request, "10.0.0.1", None), "!", "{path}");
        let by_host = http("[[listener.a.route]]\nhost = \"a.test\"\npool = \"p\"");
        assert_eq!(taken(&by_host, &request, "10.0.0.1", None), "1", "{path}");
    }
    let keeping = http("ambiguous_paths = \"keep\"\n[[listener.a.route]]\npath = \"/v1%2F\"\npool = \"p\"");
    assert_eq!(taken(&keeping, "GET /v1%2fadmin", "10.0.0.1", None), "1");
    assert_eq!(taken(&keeping, "GET /v1/../admin", "10.0.0.1", None), "!");
}

#[test]
fn a_split_keeps_to_its_weights() {
    let http =
        http("[[listener.a.route]]\nsplit = [{ pool = \"p\", weight = 0 }, { pool = \"q\", weight = 9 }, { pool = \"r\", weight = 1 }]");
    let slot = |pool: &PoolName| ["p", "q", "r"].iter().position(|name| *name == &*pool.0).unwrap() as u32;
    let table = RouteTable::new(&http.routes, http.ambiguous_paths, slot, 2, None).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut counts = [0u32; 3];
    for _ in 0..10_000 {
        let Way::Pool(slot) = table.follow(&http.routes, 0, 1, &mut random) else { panic!("a split leads to pools") };
        counts[slot as usize] += 1;
    }
    assert!(counts[0] == 0 && (800..1200).contains(&counts[2]) && counts[1] == 10_000 - counts[2], "{counts:?}");
    assert_eq!(table.stats().map(|stats| stats.taken()).sum::<u64>(), 10_000);
    let kept = RouteTable::new(&http.routes, http.ambiguous_paths, slot, 2, Some(&table)).unwrap();
    assert_eq!(kept.stats().map(|stats| stats.taken()).sum::<u64>(), 10_000, "counters survive a change");
}

fn host() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "A"], 1..4).prop_map(|labels| labels.join("."))
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "ab", ""], 0..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

/// Conditions that are alike enough to overlap often.
fn route() -> impl Strategy<Value = Route> {
    let host = (any::<bool>(), host()).prop_map(|(below, name)| {
        let name = name.to_ascii_lowercase();
        if below { weir_config::HostPattern::Below(name) } else { weir_config::HostPattern::Exact(name) }
    });
    let path = proptest::option::of((0..3, path()).prop_map(|(kind, path)| match kind {
        0 => PathPattern::Prefix(path),
        1 => PathPattern::Exact(path),
        _ => PathPattern::Regex(weir_config::Pattern::new(&format!("{path}.?")).unwrap()),
    }));
    let methods = proptest::collection::vec(prop_oneof![Just("GET".to_owned()), Just("PUT".to_owned())], 0..2);
    (proptest::collection::vec(host, 0..3), path, methods).prop_map(|(hosts, path, methods)| Route {
        name: None,
        hosts,
        path,
        methods,
        headers: Vec::new(),
        cookies: Vec::new(),
        query: Vec::new(),
        sources: Vec::new(),
        server_names: Vec::new(),
        priority: Route::PRIORITY,
        action: RouteAction::Pool("p".into()),
        mirror: None,
        changes: None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// The table finds what looking at one route after the other finds.
    #[test]
    fn the_table_agrees_with_a_plain_look(
        routes in proptest::collection::vec(route(), 1..12),
        hosts in proptest::collection::vec(host(), 1..6),
        paths in proptest::collection::vec(path(), 1..6),
        method in prop_oneof![Just("GET"), Just("PUT")],
    ) {
        let index = Index::new(&routes);
        for (host, path) in hosts.iter().flat_map(|host| paths.iter().map(move |path| (host, path))) {
            let asked = Asked {
                method: method.as_bytes(),
                host: host.as_bytes(),
                path: path.as_bytes(),
                head: b"",
                target: path.as_bytes(),
                source: IpAddr::from([10, 0, 0, 1]),
                server_name: None,
            };
            let plain = routes.iter().position(|route| {
                let host_fits = route.hosts.is_empty() || route.hosts.iter().any(|pattern| host_fits(pattern, asked.host));
                host_fits && miss(route, &asked).is_none()
            });
            let found = index.first(asked.host, asked.path, |number| {
                let route = &routes[number as usize];
                Looks::of(route).hold(route, &asked)
            });
            prop_assert_eq!(found, plain, "{} {} {}", method, host, path);
        }
    }
}
