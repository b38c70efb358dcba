//! What an ACL asks, as conditions of ours (HAProxy's manual, section 7).

use std::net::IpAddr;

use crate::condition::{Condition, Field, PathWant, Want};
use crate::text::{self, escaped};

/// Values of one ACL. People keep more in files, which are not read here.
const VALUES_MAX: usize = 500;

/// Paths that become a route each; more become one regular expression.
const PATHS_MAX: usize = 16;

/// What a test asks.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    /// Always the same.
    Fixed(bool),
    /// Whether the client came by TLS.
    Tls,
    /// One of these holds; with what is not quite the same.
    Any(Vec<Condition>, Option<&'static str>),
    /// The source sends more requests than so many in the period of the stick table.
    RateAbove(u64),
    /// Nothing that a route can ask.
    Unknown(String),
}

/// How values are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Match {
    Exact,
    Beg,
    End,
    Sub,
    Dir,
    Dom,
    Reg,
    Found,
}

/// A test taken apart.
struct Asked<'a> {
    base: &'a str,
    argument: &'a str,
    how: Match,
    ignores_case: bool,
    values: &'a [String],
}

/// Reads a test: a sample, flags, values.
pub(super) fn test(words: &[String]) -> Test {
    let Some(sample) = words.first() else { return Test::Unknown("it asks nothing".into()) };
    if let Some(test) = predefined(sample) {
        return test;
    }
    match asked(sample, &words[1..]) {
        Ok(asked) => conditions(&asked),
        Err(why) => Test::Unknown(why),
    }
}

/// The ACLs that are there without being written (section 7.4).
pub(super) fn predefined(name: &str) -> Option<Test> {
    let methods = |methods: &[&str]| {
        let methods = methods.iter().map(|method| (*method).to_owned()).collect();
        Some(Test::Any(vec![Condition { methods, ..Condition::default() }], None))
    };
    match name {
        "TRUE" | "always_true" | "HTTP" | "WAIT_END" => Some(Test::Fixed(true)),
        "FALSE" | "always_false" => Some(Test::Fixed(false)),
        "METH_GET" => methods(&["GET", "HEAD"]),
        "METH_CONNECT" | "METH_DELETE" | "METH_HEAD" | "METH_OPTIONS" | "METH_POST" | "METH_PUT" | "METH_TRACE" => methods(&[&name[5..]]),
        "LOCALHOST" => {
            let sources = ["127.0.0.0/8", "::1"].map(str::to_owned).into();
            Some(Test::Any(vec![Condition { sources, ..Condition::default() }], None))
        }
        _ => None,
    }
}

fn asked<'a>(sample: &'a str, mut rest: &'a [String]) -> Result<Asked<'a>, String> {
    let end = sample.find([',', '(']).unwrap_or(sample.len());
    let (name, after) = sample.split_at(end);
    let (argument, converters) = match after.strip_prefix('(') {
        Some(inner) => inner.split_once(')').ok_or("a parenthesis is not closed")?,
        None => ("", after),
    };
    let mut ignores_case = false;
    for converter in split_converters(converters) {
        match converter {
            "lower" | "upper" => ignores_case = true,
            "field(1,:)" | "host_only" => {}
            other => return Err(format!("weir has no counterpart of the converter {other:?}")),
        }
    }
    let name = name.strip_prefix("req.").or_else(|| name.strip_prefix("req_")).unwrap_or(name);
    let suffixes = [
        ("_beg", Match::Beg),
        ("_end", Match::End),
        ("_sub", Match::Sub),
        ("_dir", Match::Dir),
        ("_dom", Match::Dom),
        ("_reg", Match::Reg),
    ];
    let suffix = suffixes.into_iter().find_map(|(suffix, how)| Some((name.strip_suffix(suffix)?, how)));
    let (base, mut how) = suffix.unwrap_or((name, Match::Exact));
    while let Some(flag) = rest.first() {
        match flag.as_str() {
            "-i" => ignores_case = true,
            "-n" => {}
            "-f" | "-M" => return Err("its values are in a file, which is not read; write them into the line".into()),
            "-m" => {
                how = match rest.get(1).map_or("", String::as_str) {
                    "str" | "ip" | "bool" | "int" => Match::Exact,
                    "beg" => Match::Beg,
                    "end" => Match::End,
                    "sub" => Match::Sub,
                    "dir" => Match::Dir,
                    "dom" => Match::Dom,
                    "reg" => Match::Reg,
                    "found" => Match::Found,
                    other => return Err(format!("weir does not compare by {other:?}")),
                };
                rest = &rest[1..];
            }
            "-u" => rest = rest.get(1..).unwrap_or_default(),
            "--" => {
                rest = &rest[1..];
                break;
            }
            _ => break,
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    if rest.len() > VALUES_MAX {
        return Err(format!("it has more than {VALUES_MAX} values; write them by hand"));
    }
    Ok(Asked { base, argument, how, ignores_case, values: rest })
}

/// `,lower,field(1,:)` by its commas outside of parentheses.
fn split_converters(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let split = text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    split.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn conditions(asked: &Asked<'_>) -> Test {
    let argument = asked.argument.split(',').next().unwrap_or_default().trim();
    let any = |conditions: Vec<Condition>| if conditions.is_empty() { unknown("it has no value") } else { Test::Any(conditions, None) };
    match asked.base {
        "ssl_fc" | "https" if asked.values.is_empty() => Test::Tls,
        "method" => {
            let methods = asked.values.iter().map(|method| method.to_ascii_uppercase()).collect();
            any(vec![Condition { methods, ..Condition::default() }])
        }
        "src" => match asked.values.iter().map(|value| network(value)).collect::<Option<Vec<_>>>() {
            Some(sources) if !sources.is_empty() => any(vec![Condition { sources, ..Condition::default() }]),
            _ => unknown("its values are not addresses"),
        },
        "path" | "url" | "pathq" => path(asked),
        "hdr" | "fhdr" if argument.eq_ignore_ascii_case("host") => host(asked),
        "ssl_fc_sni" | "ssl_sni" => match asked.how {
            Match::Exact | Match::End => {
                let (server_names, changed) = names(asked);
                Test::Any(vec![Condition { server_names, ..Condition::default() }], changed)
            }
            _ => unknown("weir compares the name of the handshake whole, or by its end"),
        },
        "hdr" | "fhdr" if !argument.is_empty() => field(asked, "header", argument),
        "cook" if !argument.is_empty() => field(asked, "cookie", argument),
        "url_param" | "urlp" if !argument.is_empty() => field(asked, "query", argument),
        "hdr_cnt" | "fhdr_cnt" | "cook_cnt" | "hdr_count" => count(asked, argument),
        base if base.ends_with("http_req_rate") => match asked.values {
            [op, value] if matches!(op.as_str(), "gt" | "ge") => match value.parse() {
                Ok(number) => Test::RateAbove(number),
                Err(_) => unknown("its bound is not a number"),
            },
            _ => unknown("only \"gt\" and \"ge\" have a counterpart"),
        },
        // What must have arrived before the name can be read is waited for.
        "ssl_hello_type" => Test::Fixed(true),
        other => unknown(&format!("weir's routes cannot ask {other:?}")),
    }
}

fn unknown(why: &str) -> Test {
    Test::Unknown(why.to_owned())
}

/// An address or range without bits beyond its length, as weir wants it.
pub(super) fn network(text: &str) -> Option<String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most: u32 = if address.is_ipv4() { 32 } else { 128 };
    let Some(length) = length else { return Some(address.to_string()) };
    let length = match length.parse::<u32>() {
        Ok(length) if length <= most => length,
        Ok(_) => return None,
        // A mask such as 255.255.0.0.
        Err(_) => {
            let mask = u32::from(length.parse::<std::net::Ipv4Addr>().ok()?);
            Some(mask.leading_ones()).filter(|ones| address.is_ipv4() && mask.count_ones() == *ones)?
        }
    };
    let first = match address {
        IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & u32::MAX.checked_shl(32 - length).unwrap_or(0)).into()),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & u128::MAX.checked_shl(128 - length).unwrap_or(0)).into()),
    };
    Some(format!("{first}/{length}"))
}

fn path(asked: &Asked<'_>) -> Test {
    let as_path = |path| Condition { path: Some(path), ..Condition::default() };
    let changed = (asked.base != "path").then_some("weir compares the path without its query");
    let plain = !asked.ignores_case && asked.values.len() <= PATHS_MAX && asked.values.iter().all(|value| value.starts_with('/'));
    let plainly = |make: fn(String) -> PathWant| {
        let conditions: Vec<Condition> = asked.values.iter().map(|value| as_path(make(value.clone()))).collect();
        if conditions.is_empty() { unknown("it has no value") } else { Test::Any(conditions, changed) }
    };
    match asked.how {
        Match::Exact if plain => plainly(PathWant::Exact),
        Match::Beg if plain => plainly(PathWant::Prefix),
        Match::Found => Test::Fixed(true),
        _ => match regex(asked) {
            Ok(regex) => Test::Any(vec![as_path(PathWant::Regex(regex))], changed),
            Err(why) => Test::Unknown(why),
        },
    }
}

fn host(asked: &Asked<'_>) -> Test {
    match asked.how {
        Match::Exact | Match::End | Match::Dom => {
            let (hosts, changed) = names(asked);
            if hosts.is_empty() {
                return unknown("it has no value");
            }
            Test::Any(vec![Condition { hosts, ..Condition::default() }], changed)
        }
        // Names of hosts have no case, whatever was asked for.
        _ => field(&Asked { ignores_case: true, ..*asked }, "header", "host"),
    }
}

/// Names of hosts as our patterns, and what is not quite the same.
fn names(asked: &Asked<'_>) -> (Vec<String>, Option<&'static str>) {
    let mut names: Vec<String> = Vec::new();
    let mut changed = None;
    for value in asked.values {
        let lower = value.to_ascii_lowercase();
        // Ports are never compared; an IPv6 address keeps its brackets.
        let name = match lower.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name.to_owned(),
            _ => lower,
        };
        let found = match (asked.how, name.strip_prefix('.')) {
            (Match::Exact, _) => vec![name],
            (_, Some(below)) => vec![format!("*.{below}")],
            (_, None) => {
                changed = Some("it takes this name and all below it, and no longer other names that only contain the letters");
                vec![format!("*.{name}"), name]
            }
        };
        names.extend(found.into_iter().filter(|name| !name.is_empty()));
    }
    names.sort();
    names.dedup();
    (names, changed)
}

fn field(asked: &Asked<'_>, kind: &'static str, name: &str) -> Test {
    let want = match (asked.how, asked.values) {
        (Match::Found, _) | (_, []) => Want::Present,
        (Match::Exact, [value]) if !asked.ignores_case => Want::Value(value.clone()),
        _ => match regex(asked) {
            Ok(regex) => Want::Regex(regex),
            Err(why) => return Test::Unknown(why),
        },
    };
    Test::Any(vec![with_field(kind, name, want)], None)
}

fn with_field(kind: &'static str, name: &str, want: Want) -> Condition {
    Condition { fields: vec![Field { kind, name: name.to_owned(), want }], ..Condition::default() }
}

/// `hdr_cnt(x) gt 0` and its like.
fn count(asked: &Asked<'_>, name: &str) -> Test {
    let kind = if asked.base.starts_with("cook") { "cookie" } else { "header" };
    let words: Vec<&str> = asked.values.iter().map(String::as_str).collect();
    match words[..] {
        ["gt", "0"] | ["ge", "1"] => Test::Any(vec![with_field(kind, name, Want::Present)], None),
        ["eq", "0"] | ["0"] | ["lt", "1"] | ["le", "0"] => Test::Any(vec![with_field(kind, name, Want::Absent)], None),
        _ => unknown("a route can only ask whether there is one"),
    }
}

/// The values as one regular expression for the whole of what is compared.
fn regex(asked: &Asked<'_>) -> Result<String, String> {
    let is_regex = asked.how == Match::Reg;
    let mut before = matches!(asked.how, Match::End | Match::Sub | Match::Reg);
    let mut after = matches!(asked.how, Match::Beg | Match::Sub | Match::Reg);
    let core = match asked.values {
        [] => return Err("it has no value".into()),
        [one] if is_regex && !one.contains('|') => {
            let mut inner = one.as_str();
            if let Some(rest) = inner.strip_prefix('^') {
                (inner, before) = (rest, false);
            }
            if let Some(rest) = inner.strip_suffix('$').filter(|rest| !rest.ends_with('\\')) {
                (inner, after) = (rest, false);
            }
            inner.to_owned()
        }
        values => {
            let each = values.iter().map(|value| if is_regex { format!("(?:{value})") } else { escaped(value) });
            let all = each.collect::<Vec<_>>().join("|");
            if values.len() > 1 { format!("(?:{all})") } else { all }
        }
    };
    let mut regex = String::from(if asked.ignores_case { "(?i)" } else { "" });
    match asked.how {
        Match::Dir => regex.push_str("(?:.*/)?"),
        Match::Dom => regex.push_str("(?:.*[/?:.])?"),
        _ if before => regex.push_str(".*"),
        _ => {}
    }
    regex.push_str(&core);
    match asked.how {
        Match::Dir => regex.push_str("(?:/.*)?"),
        Match::Dom => regex.push_str("(?:[/?:.].*)?"),
        _ if after => regex.push_str(".*"),
        _ => {}
    }
    text::regex(&regex).ok_or_else(|| format!("{regex:?} is not a regular expression that weir takes (no look-around, no references)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Test {
        test(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn tests_as_conditions() {
        let paths = |paths: &[PathWant]| {
            let conditions = paths.iter().map(|path| Condition { path: Some(path.clone()), ..Condition::default() });
            Test::Any(conditions.collect(), None)
        };
        let regex = |text: &str| paths(&[PathWant::Regex(text.into())]);
        let hosts = |hosts: &[&str], changed| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            Test::Any(vec![Condition { hosts, ..Condition::default() }], changed)
        };
        let fields = |kind, name: &str, want| Test::Any(vec![with_field(kind, name, want)], None);
        let wider = Some("it takes this name and all below it, and no longer other names that only contain the letters");
        for (text, expected) in [
            ("path_beg /api /v1/", paths(&[PathWant::Prefix("/api".into()), PathWant::Prefix("/v1/".into())])),
            ("path /login", paths(&[PathWant::Exact("/login".into())])),
            ("path_end .jpg .png", regex(r".*(?:\.jpg|\.png)")),
            ("path_end -i .jpg", regex(r"(?i-u).*\.jpg")),
            ("path_reg ^/user/[0-9]+$", regex("/user/[0-9]+")),
            ("path_reg ^/a|^/b", regex(".*(?:^/a|^/b).*").clone()),
            (r"path_reg ^/\d+$", regex(r"(?-u)/\d+")),
            ("path_dir admin", regex("(?:.*/)?admin(?:/.*)?")),
            ("path -m sub wp-", regex(r".*wp\-.*")),
            ("hdr(host) -i Example.com:8080", hosts(&["example.com"], None)),
            ("req.hdr(Host),lower,field(1,:) a.b", hosts(&["a.b"], None)),
            ("hdr_end(host) -i .example.com", hosts(&["*.example.com"], None)),
            ("hdr_dom(host) -i example.com", hosts(&["*.example.com", "example.com"], wider)),
            ("hdr_beg(host) www.", fields("header", "host", Want::Regex(r"(?i-u)www\..*".into()))),
            ("hdr(x-beta) 1", fields("header", "x-beta", Want::Value("1".into()))),
            ("hdr(x-beta) -m found", fields("header", "x-beta", Want::Present)),
            ("hdr_cnt(x) eq 0", fields("header", "x", Want::Absent)),
            ("hdr_sub(user-agent) -i bot crawl", fields("header", "user-agent", Want::Regex("(?i-u).*(?:bot|crawl).*".into()))),
            ("cook(group) b", fields("cookie", "group", Want::Value("b".into()))),
            ("url_param(debug) -m found", fields("query", "debug", Want::Present)),
            ("ssl_fc", Test::Tls),
            ("sc_http_req_rate(0) gt 100", Test::RateAbove(100)),
            ("TRUE", Test::Fixed(true)),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        for (text, why) in [
            ("path_reg (?=x)", "no look-around"),
            ("src -f /etc/haproxy/allow.lst", "in a file"),
            ("nbsrv(web) lt 2", "cannot ask"),
            ("hdr(x),base64 y", "converter"),
            ("hdr_cnt(x) gt 3", "whether there is one"),
            ("path_beg", "no value"),
        ] {
            let Test::Unknown(found) = read(text) else { panic!("{text}: {:?}", read(text)) };
            assert!(found.contains(why), "{text}: {found}");
        }
    }

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("10.1.2.3", Some("10.1.2.3")),
            ("10.1.2.3/255.255.0.0", Some("10.1.0.0/16")),
            ("2001:db8::1/32", Some("2001:db8::/32")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("10.0.0.0/33", None),
            ("10.0.0.0/255.0.255.0", None),
            ("example.com", None),
        ] {
            assert_eq!(network(text).as_deref(), expected, "{text}");
        }
    }
}
