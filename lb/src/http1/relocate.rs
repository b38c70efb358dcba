//! Where an endpoint sends a client, as the client can go there: an endpoint does not know that TLS ends in front of it, nor what its paths are
//! called outside.

/// How the client asked.
#[derive(Clone, Copy, Debug)]
pub struct Outside<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// With its port, as it was asked for.
    pub host: &'a [u8],
    /// What a path begins with outside, and what at the endpoint, where that differs.
    pub prefix: Option<(&'a str, &'a str)>,
}

/// Changes `Location` in a head that ends in its empty line. A place that is somebody else's stays as it is.
pub fn relocate(head: &mut Vec<u8>, outside: &Outside<'_>) {
    const NAME: &[u8] = b"location:";
    let mut from = 0;
    while let Some(length) = memchr::memchr(b'\n', &head[from..]).map(|at| at + 1) {
        let line = &head[from..from + length];
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            let value = line[NAME.len()..].trim_ascii();
            if let Some(place) = place(value, outside) {
                let at = from + NAME.len();
                head.splice(at..from + length, [b" ", &*place, b"\r\n"].concat());
            }
            return;
        }
        from += length;
    }
}

/// The place outside; `None`: it is right as it is.
fn place(value: &[u8], outside: &Outside<'_>) -> Option<Vec<u8>> {
    let after =
        |scheme: &[u8]| value.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)).map(|start| &value[start.len()..]);
    let (origin, path) = match after(b"http://").or_else(|| after(b"https://")) {
        Some(rest) => {
            let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
            if !without_port(&rest[..end]).eq_ignore_ascii_case(without_port(outside.host)) {
                return None;
            }
            ([outside.scheme.as_bytes(), b"://", outside.host].concat(), &rest[end..])
        }
        // Two slashes in front name another host.
        None if value.starts_with(b"/") && !value.starts_with(b"//") => (Vec::new(), value),
        None => return None,
    };
    Some([origin, renamed(path, outside.prefix)].concat()).filter(|place| place != value)
}

fn without_port(host: &[u8]) -> &[u8] {
    let digits = host.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    host[..host.len() - digits].strip_suffix(b":").unwrap_or(host)
}

fn renamed(path: &[u8], prefix: Option<(&str, &str)>) -> Vec<u8> {
    let Some((there, here)) = prefix else { return path.to_vec() };
    let Some(rest) = path.strip_prefix(here.as_bytes()) else { return path.to_vec() };
    // The slash that stood between both, whichever of them ended in it.
    let (joined, rest) = match (there.ends_with('/'), rest.strip_prefix(b"/")) {
        (true, Some(rest)) => ("", rest),
        (false, None) if here.ends_with('/') => ("/", rest),
        _ => ("", rest),
    };
    [there.as_bytes(), joined.as_bytes(), rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_as_they_are_outside() {
        let prefixes = [("/v1/", "/"), ("/v1", "/new"), ("/v1", "/"), ("/shop/", "/old/")];
        for (location, prefix, expected) in [
            ("http://www.test/a?b#c", None, "https://www.test:8443/a?b#c"),
            ("HTTPS://WWW.test:8080", None, "https://www.test:8443"),
            ("http://www.test", None, "https://www.test:8443"),
            ("http://other.test/a", None, "http://other.test/a"),
            ("http://www.test.evil/a", None, "http://www.test.evil/a"),
            ("//www.test/a", None, "//www.test/a"),
            ("/a", None, "/a"),
            ("a/b", Some(0), "a/b"),
            ("/a/b", Some(0), "/v1/a/b"),
            ("/new/a", Some(1), "/v1/a"),
            ("/other/a", Some(1), "/other/a"),
            ("/a", Some(2), "/v1/a"),
            ("/old/", Some(3), "/shop/"),
            ("http://www.test/old/x", Some(3), "https://www.test:8443/shop/x"),
        ] {
            let outside = Outside { scheme: "https", host: b"www.test:8443", prefix: prefix.map(|at: usize| prefixes[at]) };
            let mut head = format!("HTTP/1.1 302 Found\r\nX-Location: a\r\nLocation:  {location} \r\nA: b\r\n\r\n").into_bytes();
            relocate(&mut head, &outside);
            let told = String::from_utf8(head).unwrap();
            let found = told.lines().find_map(|line| line.strip_prefix("Location:")).expect("it is there").trim();
            assert_eq!(found, expected, "{location} {prefix:?}");
            assert!(told.starts_with("HTTP/1.1 302 Found\r\nX-Location: a\r\n") && told.ends_with("\r\nA: b\r\n\r\n"), "{told}");
        }
    }
}
