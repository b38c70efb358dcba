//! Servers that are spoken to over HTTP: their address, how to log in, and whom to trust. What several kinds of channels have in common.

use std::fmt;
use std::path::PathBuf;

use super::secret::secret;
use crate::error::Problem;
use crate::parse::absolute_path;
use crate::reader::{Field, Table};
use crate::secret::SecretSource;
use crate::settings::{NONE, Setting};
use crate::spec::Key;

/// The longest URL, in bytes.
const URL_BYTES_MAX: usize = 2000;
/// The longest name to log in with.
const USER_BYTES_MAX: usize = 255;

/// An address of a server over HTTP, as it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl {
    /// `https://`
    pub tls: bool,
    /// A name or an address without brackets.
    pub host: String,
    /// Never zero.
    pub port: u16,
    /// Path and query; begins with a slash.
    pub path: String,
}

/// Where a server is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HttpAddress {
    /// `url`
    Url(HttpUrl),
    /// `url_file`, `url_env`: whoever knows the URL may send.
    Secret(SecretSource),
}

/// How to log in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HttpLogin {
    /// Not at all.
    None,
    /// `user` and where its password is (RFC 7617).
    Password(String, SecretSource),
    /// `token_header` and where the token is. Without a header it is a bearer's (RFC 6750).
    Token(Option<String>, SecretSource),
}

impl HttpUrl {
    /// Reads `http://HOST[:PORT][/PATH][?QUERY]` or the same with `https`. It may hold a secret: no error repeats it.
    ///
    /// # Errors
    ///
    /// What is wrong, and how it is written.
    pub fn parse(text: &str) -> Result<HttpUrl, String> {
        let how = "write https://HOST[:PORT]/PATH";
        let wrong = |what: &str| Err(format!("this URL {what}; {how}"));
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return wrong("begins with neither https:// nor http://"),
        };
        if text.len() > URL_BYTES_MAX {
            return wrong("is too long");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte)) {
            return wrong("has characters that a URL cannot have (encode them with %)");
        }
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        if authority.contains('@') {
            return Err("a password must not stand in the URL; use `user` and `password_file`".into());
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("x"))),
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let is_host = !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
        if !is_host {
            return wrong("has no host");
        }
        let port = match port {
            None if tls => Some(443),
            None => Some(80),
            Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0),
        };
        let Some(port) = port else { return wrong("has no port that can be") };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(HttpUrl { tls, host: host.to_owned(), port, path })
    }

    /// Host and port, as in a `Host` field: the port only where it is not the usual one.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let is_usual = self.port == if self.tls { 443 } else { 80 };
        if is_usual { host } else { format!("{host}:{}", self.port) }
    }

    /// Whether what is sent there stays on this machine.
    fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.path)
    }
}

impl fmt::Debug for HttpUrl {
    /// It may have come from a secret's file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpUrl({})", self.authority())
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpAddress::Url(url) => url.fmt(f),
            HttpAddress::Secret(source) => source.fmt(f),
        }
    }
}

pub(super) const URL: Key =
    Key::text("url", "\"https://hooks.example.com/weir\"", "Where it is sent to: https://, or http:// for a server nearby.");
pub(super) const URL_FILE: Key =
    Key::text("url_file", "\"/etc/weir/hook.url\"", "Instead of `url`: a file that holds the URL, where whoever knows it may send.");
pub(super) const URL_ENV: Key = Key::text("url_env", "\"HOOK_URL\"", "Or the environment variable that holds it.");
pub(super) const USER: Key = Key::text("user", "\"weir\"", "The name to log in with; absent: without.");
pub(super) const PASSWORD_FILE: Key =
    Key::text("password_file", "\"/etc/weir/hook.password\"", "A file that holds the password of `user`.");
pub(super) const PASSWORD_ENV: Key = Key::text("password_env", "\"HOOK_PASSWORD\"", "Or the environment variable that holds it.");
pub(super) const TOKEN_FILE: Key =
    Key::text("token_file", "\"/etc/weir/hook.token\"", "Instead of `user`: a file that holds a token, sent as `Authorization: Bearer`.");
pub(super) const TOKEN_ENV: Key = Key::text("token_env", "\"HOOK_TOKEN\"", "Or the environment variable that holds it.");
pub(super) const TOKEN_HEADER: Key =
    Key::text("token_header", "\"X-Api-Key\"", "The header field in which the token stands as it is; absent: `Authorization: Bearer`.");
pub(super) const CA_FILE: Key =
    Key::text("ca_file", "\"/etc/weir/ca.pem\"", "The authorities that the server's certificate is checked against; absent: the system's.");

/// `url`, `url_file` or `url_env`: exactly one.
pub(super) fn address(table: &Table<'_>) -> Option<HttpAddress> {
    let source = secret(table, "url_file", "url_env");
    let url = table.field("url");
    if url.is_some() {
        table.refuse(&["url_file", "url_env"], "beside `url`");
    }
    match url {
        Some(field) => field.checked(HttpUrl::parse(field.text()?)).map(HttpAddress::Url),
        None if table.has("url_file") || table.has("url_env") => source.map(HttpAddress::Secret),
        None => {
            let problem = Problem::new(table.span(), table.path(), "`url` is missing");
            table
                .report(problem.help("add `url = \"https://...\"`, or `url_file = \"/...\"` where the URL is a secret").needs_whole_file());
            None
        }
    }
}

/// `user` with its password, or a token.
pub(super) fn login(table: &Table<'_>) -> Option<HttpLogin> {
    let (password, token) = (secret(table, "password_file", "password_env"), secret(table, "token_file", "token_env"));
    let header = table.field("token_header").and_then(|field| field.checked(parse_header_name(field.text()?)));
    let has_token = table.has("token_file") || table.has("token_env");
    if !has_token {
        table.refuse(&["token_header"], "without `token_file` or `token_env`");
    }
    let Some(field) = table.field("user") else {
        table.refuse(&["password_file", "password_env"], "without `user`");
        return if has_token { token.map(|token| HttpLogin::Token(header, token)) } else { Some(HttpLogin::None) };
    };
    if has_token {
        table.refuse(&["token_file", "token_env"], "beside `user`");
    }
    let user = field.checked(parse_user(field.text()?));
    if !table.has("password_file") && !table.has("password_env") {
        needs_password(&field);
    }
    Some(HttpLogin::Password(user?, password?))
}

pub(super) fn needs_password(user: &Field<'_>) {
    let problem = user.problem("`user` needs a password");
    user.report(problem.help("add `password_file = \"/etc/weir/...\"` or `password_env = \"...\"`").needs_whole_file());
}

/// What a password protects must not be readable on the wire.
pub(super) fn refuse_plain(table: &Table<'_>, address: Option<&HttpAddress>) {
    if let Some(HttpAddress::Url(url)) = address
        && !url.tls
    {
        if !url.is_local() {
            let secrets = ["user", "password_file", "password_env", "token_file", "token_env"];
            table.refuse(&secrets, "with http://: it would be readable on the wire");
        }
        table.refuse(&["ca_file"], "with http://");
    }
}

pub(super) fn ca_file(table: &Table<'_>) -> Option<PathBuf> {
    table.has("ca_file").then(|| absolute_path(table, "ca_file")).flatten()
}

/// A name to log in with. A colon would end it (RFC 7617).
pub(super) fn parse_user(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.len() <= USER_BYTES_MAX && !text.chars().any(|c| c.is_control() || c == ':');
    if good { Ok(text.to_owned()) } else { Err("`user` must not be empty, or hold a colon or control characters".into()) }
}

fn parse_header_name(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    // Those that say where the message ends and where it goes are ours.
    let is_ours = ["host", "content-length", "content-type", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"]
        .contains(&text.to_ascii_lowercase().as_str());
    match text {
        "" => Err("`token_header` is empty; for example \"X-Api-Key\"".into()),
        _ if text.len() > 100 || !text.bytes().all(is_token) => {
            Err(format!("{text:?} is not the name of a header field; for example \"X-Api-Key\""))
        }
        _ if is_ours => Err(format!("{text:?} cannot hold a token; for example \"X-Api-Key\"")),
        _ => Ok(text.to_owned()),
    }
}

/// As settings, under these names.
pub(super) fn login_settings([user, password, token]: [&'static str; 3], login: &HttpLogin) -> Vec<Setting> {
    let (name, secret, shown) = match login {
        HttpLogin::None => (NONE.into(), NONE.into(), NONE.into()),
        HttpLogin::Password(name, source) => (name.clone(), source.to_string(), NONE.into()),
        HttpLogin::Token(header, source) => {
            (NONE.into(), NONE.into(), header.as_ref().map_or(source.to_string(), |header| format!("{source} as {header}")))
        }
    };
    vec![(user, name), (password, secret), (token, shown)]
}

pub(super) fn file_setting(file: Option<&PathBuf>) -> String {
    file.map_or(NONE.into(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, want) in [
            ("https://hooks.example.com/a?b=c", Some("https://hooks.example.com/a?b=c")),
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080/")),
            ("https://[::1]:443/x", Some("https://[::1]/x")),
            ("https://a?x", Some("https://a/?x")),
            ("http://a:80/", Some("http://a/")),
            ("ftp://a", None),
            ("https://", None),
            ("https:///x", None),
            ("https://a:0/", None),
            ("https://a:b/", None),
            ("https://[::1]x/", None),
            ("https://a/ b", None),
            ("https://a/\r\nx", None),
            ("https://a/#x", None),
            ("https://a/ü", None),
            ("https://me:hunter2@a/", None),
        ] {
            let parsed = HttpUrl::parse(text);
            assert_eq!(parsed.as_ref().ok().map(ToString::to_string).as_deref(), want, "{text}");
            assert!(!format!("{parsed:?}").contains("hunter2"));
        }
        assert!(HttpUrl::parse(&format!("https://a/{}", "x".repeat(URL_BYTES_MAX))).is_err());
        assert!(!format!("{:?}", HttpUrl::parse("https://a/secret")).contains("secret"));
    }

    #[test]
    fn header_names() {
        for (name, good) in
            [("X-Api-Key", true), ("Authorization", true), ("", false), ("a b", false), ("a:", false), ("Host", false), ("ü", false)]
        {
            assert_eq!(parse_header_name(name).is_ok(), good, "{name}");
        }
    }
}
