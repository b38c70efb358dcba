//! Servers that are named by a scheme of their own: plain or under TLS, a host, a port.

/// What may be written.
#[derive(Debug)]
pub(super) struct Schemes {
    /// What such a server is.
    pub(super) what: &'static str,
    /// Scheme and usual port without TLS, or before it.
    pub(super) plain: (&'static str, u16),
    /// Scheme and usual port with TLS from the first byte.
    pub(super) tls: (&'static str, u16),
    /// A host, for examples.
    pub(super) host: &'static str,
}

/// TLS from the first byte, host, port. A user in the URL is refused without repeating it: a password may follow.
pub(super) fn parse(text: &str, schemes: &Schemes) -> Result<(bool, String, u16), String> {
    let Schemes { what, plain: (plain, plain_port), tls: (tls, tls_port), host } = schemes;
    let how = format!("write \"{plain}://{host}:{plain_port}\" or \"{tls}://{host}:{tls_port}\"");
    let after = |scheme: &str| text.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    let (is_tls, rest) = match (after(plain), after(tls)) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(format!("this is not a {what}; {how}")),
    };
    if rest.contains('@') {
        return Err("user and password must not stand in the URL; use `user` and `password_file`".into());
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("x"))),
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None => {
            if is_tls {
                *tls_port
            } else {
                *plain_port
            }
        }
        Some(port) => {
            port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| format!("{text:?} has no port that can be; {how}"))?
        }
    };
    let good =
        !host.is_empty() && host.len() <= 253 && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
    if good { Ok((is_tls, host.to_owned(), port)) } else { Err(format!("{text:?} has no host name that can be; {how}")) }
}

/// As it would be written.
pub(super) fn shown(schemes: &Schemes, tls: bool, host: &str, port: u16) -> String {
    let scheme = if tls { schemes.tls.0 } else { schemes.plain.0 };
    if host.contains(':') { format!("{scheme}://[{host}]:{port}") } else { format!("{scheme}://{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        let schemes = Schemes { what: "mail server", plain: ("smtp", 587), tls: ("smtps", 465), host: "mail.example.com" };
        for (text, want) in [
            ("smtp://mail.example.com:587", Some((false, "mail.example.com", 587))),
            ("smtp://mail", Some((false, "mail", 587))),
            ("smtps://[::1]", Some((true, "::1", 465))),
            ("smtps://[::1]:25/", Some((true, "::1", 25))),
            ("mail.example.com", None),
            ("smtp://", None),
            ("smtp://a b", None),
            ("smtp://a:0", None),
            ("smtp://[::1]x", None),
            ("smtp://user:hunter2@mail", None),
        ] {
            let parsed = parse(text, &schemes);
            assert_eq!(parsed.as_ref().ok().map(|(tls, host, port)| (*tls, host.as_str(), *port)), want, "{text}");
            assert!(!format!("{parsed:?}").contains("hunter2"));
        }
        assert_eq!(shown(&schemes, true, "::1", 25), "smtps://[::1]:25");
    }
}
