//! Routes, by real requests: what each leads to, and what the endpoint gets.

use std::process::Command;

use crate::origin::Origin;
use crate::rig::{SOON, Site, Weir, pool, wait_until, within_a_second};
use crate::wire::{self, Peer};

fn ask(address: std::net::SocketAddr, request: &str) -> wire::Response {
    let method = request.split(' ').next().unwrap_or_default();
    wire::send(address, method, request).expect("an answer")
}

fn get(address: std::net::SocketAddr, target: &str, fields: &str) -> wire::Response {
    ask(address, &format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"))
}

#[test]
fn routes_lead_where_they_say() {
    let site = Site::new();
    let (web, api, next) = (Origin::start(&site, "web"), Origin::start(&site, "api"), Origin::start(&site, "next"));
    let listen = site.address();
    let body = format!(
        r#"[listener.web]
bind = "{listen}"
pool = "web"
[[listener.web.route]]
name = "closed"
path = "/closed/"
answer = {{ status = 410, body = "gone for good\n", content_type = "text/x-note" }}
[[listener.web.route]]
name = "moved"
path_exact = "/moved"
redirect = {{ status = "301", scheme = "https", host = "b.test", path = "/new" }}
[[listener.web.route]]
name = "api"
host = ["api.test", "*.api.test"]
path = "/echo/"
pool = "api"
[[listener.web.route]]
name = "beta"
cookie = [{{ name = "group", value = "beta" }}]
pool = "next"
[[listener.web.route]]
name = "far"
source = "192.0.2.0/24"
pool = "api"
[[listener.web.route]]
name = "canary"
path = "/canary"
split = [{{ pool = "web", weight = 1 }}, {{ pool = "next", weight = 1 }}]
{}{}{}"#,
        pool("web", &[web.address], ""),
        pool("api", &[api.address], ""),
        pool("next", &[next.address], "")
    );
    let weir = Weir::start(&site, &body);

    assert_eq!(get(listen, "/", "").text(), "web");
    assert_eq!(get(listen, "/", "Cookie: x=1; group=beta\r\n").text(), "next");
    let by_host = |host: &str| ask(listen, &format!("GET /echo/x?q HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let seen = by_host("V2.Api.Test.:80").text();
    assert!(seen.starts_with("GET /echo/x?q HTTP/1.1\n") && api.requests() == 1, "{seen}");
    assert_eq!((by_host("api.test.org").status, api.requests()), (200, 1));

    let closed = get(listen, "/closed/now", "");
    assert_eq!((closed.status, closed.text().as_str()), (410, "gone for good\n"));
    assert_eq!(closed.head.field("content-type"), Some("text/x-note"));
    let moved = get(listen, "/moved?a=b", "");
    assert_eq!((moved.status, moved.head.field("location")), (301, Some("https://b.test/new?a=b")));

    for _ in 0..100 {
        get(listen, "/canary", "");
    }
    let (to_web, to_next) = (web.requests(), next.requests());
    assert!(to_web > 20 && to_next > 20, "{to_web} and {to_next} of a hundred");

    // What a route answers leaves the connection usable, with a body in the request too.
    let mut peer = Peer::connect(listen).unwrap();
    for _ in 0..2 {
        peer.send("POST /closed/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc").unwrap();
        assert_eq!(peer.response("POST").unwrap().status, 410);
    }
    peer.send("HEAD /closed/ HTTP/1.1\r\nHost: a.test\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    assert_eq!(peer.response("HEAD").unwrap().status, 410);
    assert_eq!(peer.response("GET").unwrap().text(), "web");

    let metrics = wire::get(weir.api(), "/metrics").expect("metrics").text();
    for line in ["route=\"closed\"} 4", "route=\"api\"} 1", "route=\"beta\"} 1", "route=\"far\"} 0", "route=\"canary\"} 100"] {
        let line = format!("weir_route_requests_total{{listener=\"web\",{line}");
        assert!(metrics.lines().any(|l| l == line), "no {line} in\n{metrics}");
    }
    // Counters go by name: a reload that moves a route keeps them.
    weir.reload(&body.replacen(
        "[[listener.web.route]]",
        "[[listener.web.route]]\npath = \"/new\"\npool = \"api\"\n[[listener.web.route]]",
        1,
    ));
    let metrics = wire::get(weir.api(), "/metrics").expect("metrics").text();
    assert!(metrics.contains("route=\"canary\"} 100"), "{metrics}");
}

#[test]
fn what_is_matched_is_what_is_passed_on() {
    let site = Site::new();
    let (open, guarded) = (Origin::start(&site, "open"), Origin::start(&site, "guarded"));
    let listen = site.address();
    let body = format!(
        "[listener.web]\nbind = \"{listen}\"\npool = \"open\"\n[[listener.web.route]]\npath = \"/echo/admin\"\npool = \"guarded\"\n{}{}",
        pool("open", &[open.address], ""),
        pool("guarded", &[guarded.address], "")
    );
    let _weir = Weir::start(&site, &body);
    for sent in ["/echo/%61dmin", "/echo/%61d%6Din?x=%61", "/echo/admin", "http://a.test/echo/%61dmin"] {
        let seen = get(listen, sent, "").text();
        assert!(seen.starts_with("GET /echo/admin"), "{sent}: {seen}");
    }
    assert_eq!((guarded.requests(), open.requests()), (4, 0));
    assert!(get(listen, "/echo/%7e%c3%bc?%61", "").text().starts_with("GET /echo/~%C3%BC?%61 HTTP/1.1"));
    for refused in ["/echo/../echo/admin", "/echo/%2e%2e/admin", "/x/..;/echo/admin", "//echo/admin", "/echo%2fadmin", "/echo\\admin", "/%"]
    {
        assert_eq!(get(listen, refused, "").status, 400, "{refused}");
    }
    assert_eq!((guarded.requests(), open.requests()), (4, 1));
}

#[test]
fn a_request_is_explained() {
    let site = Site::new();
    let file = site.write(
        "weir.toml",
        "[listener.web]\nbind = \"127.0.0.1:8080\"\npool = \"web\"\n[[listener.web.route]]\nname = \"api\"\nhost = \"api.test\"\npool = \"web\"\n\
         [[listener.web.route]]\npath = \"/v1/\"\nheader = [{ name = \"x-beta\", value = \"1\" }]\npool = \"web\"\n\
         [listener.tls]\nbind = \"127.0.0.1:8443\"\n[listener.tls.tls]\nfolder = \"/x\"\n[[listener.tls.route]]\nsni = \"*.a.test\"\npool = \"web\"\n[pool.web]\n",
    );
    let explain = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_weir")).arg("check").arg(&file).arg("--explain").args(args).output().expect("weir runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    let (fine, text) = explain(&["GET http://www.test:8080/v1/%61", "-H", "X-Beta: 1"]);
    assert!(fine && text.contains("no: the host is www.test, not api.test"), "{text}");
    assert!(text.contains("path /v1/a\nroute 2 takes it: web\n"), "{text}");
    let (_, text) = explain(&["GET http://www.test:8080/v1/a"]);
    assert!(text.contains("no: no header x-beta is \"1\"") && text.contains("the listener's pool web"), "{text}");
    let (fine, text) = explain(&["GET http://api.test:8080/../x"]);
    assert!(!fine && text.contains("refused: the path has a dot segment"), "{text}");
    let (fine, text) = explain(&["GET https://x.a.test:8443/"]);
    assert!(fine && text.contains("route 1 takes it"), "{text}");
    let (fine, text) = explain(&["GET http://x/"]);
    assert!(!fine && text.contains("no listener for http has the port 80; name one with --listener: tls, web"), "{text}");
    let (fine, text) = explain(&["GET http://api.test/", "--listener", "web", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(fine && told["taken"] == "api", "{text}");
}

#[test]
fn paths_and_fields_are_changed_on_the_way() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let listen = site.address();
    let body = format!(
        r#"[listener.web]
bind = "{listen}"
[[listener.web.route]]
path = "/api"
rewrite_prefix = "/echo/"
request = {{ remove = "x-debug", set = [{{ name = "X-Team", value = "a" }}], add = [{{ name = "X-Tag", value = "2" }}] }}
response = {{ remove = "x-end", set = [{{ name = "X-Frame-Options", value = "DENY" }}], add = [{{ name = "Vary", value = "x" }}] }}
pool = "web"
[[listener.web.route]]
path = "/hop"
response = {{ remove = "x-end", add = [{{ name = "Vary", value = "x" }}] }}
pool = "web"
[[listener.web.route]]
path_regex = "/v[0-9]+/.*"
rewrite_regex = {{ match = "^/v([0-9]+)/", to = "/echo/version-$1/" }}
pool = "web"
{}"#,
        pool("web", &[origin.address], "")
    );
    let _weir = Weir::start(&site, &body);
    let response = get(listen, "/api/x?y=/api", "X-Debug: 1\r\nX_Team: b\r\nx-team: c\r\nX-Tag: 1\r\n");
    assert_eq!(response.head.field("x-frame-options"), Some("DENY"));
    assert_eq!(response.head.field("vary"), Some("x"));
    let seen = response.text();
    assert!(seen.starts_with("GET /echo/x?y=/api HTTP/1.1\n"), "{seen}");
    let lower = seen.to_ascii_lowercase();
    assert!(lower.contains("\nx-team: a\n") && lower.contains("\nx-tag: 1\n") && lower.contains("\nx-tag: 2\n"), "{seen}");
    assert!(!lower.contains("x-debug") && !lower.contains(": b\n") && !lower.contains(": c\n"), "{seen}");
    let hop = get(listen, "/hop", "");
    assert_eq!((hop.head.field("x-end"), hop.head.field("vary"), hop.text().as_str()), (None, Some("x"), "ok"));
    assert!(get(listen, "/v2/x?y", "").text().starts_with("GET /echo/version-2/x?y HTTP/1.1"));
    // With a prefix that ends in a slash, what followed the old prefix must not climb out of the new one.
    let before = origin.requests();
    assert_eq!(get(listen, "/api../secret", "").status, 400);
    assert_eq!(origin.requests(), before);
}

#[test]
fn limits_and_ranges_turn_clients_away() {
    let site = Site::new();
    let origin = Origin::start(&site, "one");
    let (listen, closed) = (site.address(), site.address());
    let body = format!(
        r#"[listener.web]
bind = "{listen}"
pool = "web"
headers = {{ trusted = "{ip}" }}
[[listener.web.rate_limit]]
per = "header:x-key"
requests_per_second = 1
burst = 3
[[listener.web.rate_limit]]
per = "source"
route = "slow"
requests_per_second = 1
[[listener.web.route]]
name = "slow"
path = "/slow"
pool = "web"
[listener.closed]
bind = "{closed}"
pool = "web"
deny = "127.0.0.0/8"
{pool}"#,
        ip = "127.0.0.1",
        pool = pool("web", &[origin.address], "")
    );
    let weir = Weir::start(&site, &body);
    let statuses = |key: &str| [(); 5].map(|()| get(listen, "/", &format!("X-Key: {key}\r\n")).status);
    for key in ["a", "b"] {
        assert_eq!(within_a_second(|| statuses(key)), [200, 200, 200, 429, 429], "each value has a bucket of its own");
    }
    assert!((0..10).all(|_| get(listen, "/", "").status == 200), "who has no key is not limited");
    let [served, refused] = within_a_second(|| [(); 2].map(|()| get(listen, "/slow", "")));
    assert_eq!((served.status, refused.status), (200, 429), "one a second");
    assert_eq!(refused.head.field("retry-after"), Some("1"), "{:?}", refused.head);
    assert!(refused.text().contains("rate-limited"), "{}", refused.text());

    let seen = get(listen, "/echo", "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\n").text().to_ascii_lowercase();
    assert!(seen.contains("x-forwarded-for: 192.0.2.9\n") && seen.contains("x-forwarded-for: 127."), "{seen}");
    assert!(seen.contains("x-forwarded-proto: https\n") && !seen.contains("x-forwarded-proto: http\n"), "{seen}");

    assert!(wire::get(closed, "/").is_err(), "it is closed without an answer");
    let metrics = wire::get(weir.api(), "/metrics").expect("metrics").text();
    assert!(metrics.contains("weir_listener_requests_total{listener=\"closed\",cause=\"denied\"} 1"), "{metrics}");
    // What was counted stays over a reload that changes something else.
    let mut number = 0;
    let (before, after) = within_a_second(|| {
        let before = statuses("c");
        number += 1;
        weir.reload(&format!("{body}\n[pool.other{number}]\n"));
        (before, statuses("c"))
    });
    assert_eq!((before, after), ([200, 200, 200, 429, 429], [429; 5]));
}

/// The shadow gets what the client sent, and the client hears the pool alone, whatever becomes of the shadow.
#[test]
fn a_mirror_hears_and_is_not_heard() {
    let site = Site::new();
    let (web, shadow) = (Origin::start(&site, "web"), Origin::start(&site, "shadow"));
    let (listen, nobody) = (site.address(), site.address());
    let body = |to: std::net::SocketAddr| {
        format!(
            "[listener.web]\nbind = \"{listen}\"\n[[listener.web.route]]\npath = \"/echo/\"\npool = \"web\"\nmirror = {{ pool = \"shadow\" }}\n\
             [[listener.web.route]]\npool = \"web\"\n{}{}",
            pool("web", &[web.address], ""),
            pool("shadow", &[to], "ejection = false\n")
        )
    };
    let weir = Weir::start(&site, &body(shadow.address));
    for number in 0..5 {
        let posted = ask(listen, &format!("POST /echo/{number} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"));
        assert!(posted.text().contains("hello"), "{}", posted.text());
    }
    assert_eq!(get(listen, "/", "").text(), "web");

    wait_until("the shadow to have all five", SOON, || shadow.requests() == 5);
    let mut paths: Vec<String> = shadow.seen.log().iter().map(|head| head.request().1.to_owned()).collect();
    paths.sort();
    assert_eq!(paths, ["/echo/0", "/echo/1", "/echo/2", "/echo/3", "/echo/4"]);
    for number in 6..=30 {
        get(listen, "/echo/again", "");
        wait_until("the shadow to have it", SOON, || shadow.requests() == number);
    }
    assert!(shadow.carrying() < 20, "connections are used again");
    weir.reload(&body(nobody));
    assert_eq!(get(listen, "/echo/x", "").status, 200);
    wait_until("the loss to be counted", SOON, || {
        let metrics = wire::get(weir.api(), "/metrics").expect("metrics").text();
        metrics.lines().any(|line| line == "weir_pool_mirrors_lost_total{pool=\"shadow\"} 1")
    });
    assert_eq!(web.requests(), 32);
}
