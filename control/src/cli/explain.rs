//! `weir check --explain`: which route takes a request, and why each earlier one does not.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::json;
use weir_config::{Config, HttpListener, Listener, Protocol};
use weir_lb::route::{self, Explanation, Question};

use super::output::Output;

/// A request to explain.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Say which route takes this request and why each earlier one does not
    #[arg(long, value_name = "'METHOD URL'")]
    explain: Option<String>,
    /// A header of that request; may be given more than once
    #[arg(short = 'H', long = "header", value_name = "'NAME: VALUE'", requires = "explain")]
    headers: Vec<String>,
    /// The address of the client of that request
    #[arg(long, value_name = "IP", requires = "explain", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    source: IpAddr,
    /// The listener that gets that request; without it, the one with the URL's scheme and port
    #[arg(long, value_name = "NAME", requires = "explain")]
    listener: Option<String>,
}

/// Method and URL, taken apart.
#[derive(Debug)]
struct Request<'a> {
    method: &'a str,
    scheme: &'a str,
    authority: &'a str,
    host: &'a str,
    port: u16,
    target: String,
}

impl Explain {
    /// Explains, if that was asked for.
    pub(super) fn run(&self, config: &Config, output: &Output) -> anyhow::Result<Option<ExitCode>> {
        let Some(text) = &self.explain else { return Ok(None) };
        let request = Request::read(text)?;
        let (listener, http) = self.choose(config, &request)?;
        let head = self.head(&request)?;
        let server_name = (request.scheme == "https" && request.host.parse::<IpAddr>().is_err() && !request.host.starts_with('['))
            .then(|| request.host.trim_end_matches('.').to_ascii_lowercase());
        let question = Question { head: head.as_bytes(), scheme: request.scheme, source: self.source, server_name: server_name.as_deref() };
        let explained = route::explain(http, &question);
        let code = if explained.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        let goal = explained.as_ref().map(|explanation| goal(listener, http, explanation));
        if output.json {
            output.json(&as_json(listener, &explained, goal.as_deref().ok()))?;
        } else {
            output.text(&as_text(listener, &explained, goal.as_deref().unwrap_or("it is answered 400")))?;
        }
        Ok(Some(code))
    }

    fn choose<'c>(&self, config: &'c Config, request: &Request<'_>) -> anyhow::Result<(&'c Listener, &'c HttpListener)> {
        let all = || {
            config.listeners.values().filter_map(|listener| match &listener.protocol {
                Protocol::Http(http) => Some((&**listener, http)),
                Protocol::Tcp(_) | Protocol::Udp => None,
            })
        };
        let names = || all().map(|(listener, _)| listener.name.to_string()).collect::<Vec<_>>().join(", ");
        if let Some(name) = &self.listener {
            let found = all().find(|(listener, _)| *listener.name.0 == **name);
            return found.with_context(|| format!("there is no listener {name:?} for HTTP; there are: {}", names()));
        }
        let fits = |(listener, http): &(&Listener, &HttpListener)| {
            http.tls.is_some() == (request.scheme == "https") && listener.binds.iter().any(|bind| bind.port() == request.port)
        };
        let mut found = all().filter(fits);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => bail!("no listener for {} has the port {}; name one with --listener: {}", request.scheme, request.port, names()),
            (Some(_), Some(_)) => bail!("several listeners have the port {}; name one with --listener: {}", request.port, names()),
        }
    }

    /// The request as a client of HTTP/1.1 would send it.
    fn head(&self, request: &Request<'_>) -> anyhow::Result<String> {
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
        let is_host = |header: &&String| header.split(':').next().is_some_and(|name| name.eq_ignore_ascii_case("host"));
        if self.headers.iter().find(is_host).is_none() {
            write!(head, "Host: {}\r\n", request.authority)?;
        }
        for header in &self.headers {
            ensure!(!header.contains(['\r', '\n']), "a header is one line, and {header:?} is more");
            ensure!(header.contains(':'), "a header is written as 'NAME: VALUE', and {header:?} has no colon");
            write!(head, "{header}\r\n")?;
        }
        head.push_str("\r\n");
        Ok(head)
    }
}

impl<'a> Request<'a> {
    fn read(text: &'a str) -> anyhow::Result<Request<'a>> {
        let how = || format!("{text:?} is not a request; write it as 'GET http://host/path'");
        let mut words = text.split_ascii_whitespace();
        let (Some(method), Some(url), None) = (words.next(), words.next(), words.next()) else { bail!(how()) };
        let (scheme, rest) = url.split_once("://").with_context(how)?;
        ensure!(matches!(scheme, "http" | "https"), "{scheme:?} is not served here; write http or https");
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().with_context(|| format!("{port:?} is not a port"))?),
            _ => (authority, if scheme == "https" { 443 } else { 80 }),
        };
        // A query alone follows the path that is not written.
        let target = if target.starts_with('/') { target.into() } else { format!("/{target}") };
        Ok(Request { method, scheme, authority, host, port, target })
    }
}

/// Where the request goes.
fn goal(listener: &Listener, http: &HttpListener, explanation: &Explanation) -> String {
    match (explanation.taken, &listener.pool, http.redirect_https) {
        (Some(taken), ..) => format!("route {} takes it: {}", explanation.routes[taken].label, http.routes[taken].action),
        (None, Some(pool), _) => format!("no route takes it, so it goes to the listener's pool {pool}"),
        (None, None, Some(port)) => format!("it is sent to the same place by HTTPS on port {port}"),
        (None, None, None) => "no route takes it and the listener has no pool: it is answered 404".into(),
    }
}

fn as_text(listener: &Listener, explained: &Result<Explanation, String>, goal: &str) -> String {
    let mut text = format!("listener {}\n", listener.name);
    match explained {
        Ok(explanation) => {
            for route in &explanation.routes {
                let why = route.miss.as_ref().map_or("takes it".to_owned(), |miss| format!("no: {miss}"));
                text.push_str(&format!("  route {}  {}\n    {why}\n", route.label, route.route));
            }
            text.push_str(&format!("path {}\n{goal}\n", explanation.path));
        }
        Err(reason) => text.push_str(&format!("the request is refused: {reason}\n{goal}\n")),
    }
    text
}

fn as_json(listener: &Listener, explained: &Result<Explanation, String>, goal: Option<&str>) -> serde_json::Value {
    match explained {
        Ok(explanation) => {
            let one = |route: &route::Explained| json!({ "label": route.label, "route": route.route, "miss": route.miss });
            let taken = explanation.taken.map(|taken| &explanation.routes[taken].label);
            let routes: Vec<_> = explanation.routes.iter().map(one).collect();
            json!({ "ok": true, "listener": listener.name.0, "path": explanation.path, "routes": routes, "taken": taken, "goal": goal })
        }
        Err(reason) => json!({ "ok": false, "listener": listener.name.0, "refused": reason }),
    }
}
