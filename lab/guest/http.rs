//! As much of HTTP/1.1 as a test's origin needs: GET with keep-alive, a thread per connection, bounded heads.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// A head longer than this is refused.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// One request: the path without its query, and the query's pairs.
pub(crate) struct Request {
    pub(crate) path: String,
    query: Vec<(String, String)>,
}

impl Request {
    fn parse(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pair = |text: &str| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self { path: path.to_owned(), query: query.split('&').filter_map(pair).collect() }
    }

    /// The number that the query gives to `key`, or 0.
    pub(crate) fn number(&self, key: &str) -> f64 {
        let value = self.query.iter().find(|(name, _)| name == key).and_then(|(_, value)| value.parse::<f64>().ok());
        value.filter(|value| value.is_finite() && *value > 0.0).unwrap_or(0.0)
    }
}

/// What to answer.
pub(crate) enum Answer {
    /// Status, content type and body.
    Page(u16, &'static str, String),
    /// Keep the connection and never answer.
    Never,
}

/// Serves until the listener fails.
pub(crate) fn serve(port: u16, answer: fn(&Request) -> Answer) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    loop {
        let (stream, _) = listener.accept()?;
        // A thread that cannot be started costs this client its connection, not the others theirs.
        let _ = thread::Builder::new().stack_size(256 * 1024).spawn(move || connection(stream, answer));
    }
}

fn connection(stream: TcpStream, answer: fn(&Request) -> Answer) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    loop {
        let Some((request, keep)) = head(&mut input)? else { return Ok(()) };
        match answer(&request) {
            Answer::Never => loop {
                // Whatever else arrives is read and forgotten, until the client has had enough.
                if input.read(&mut [0; 1024])? == 0 {
                    return Ok(());
                }
            },
            Answer::Page(status, kind, body) => {
                let connection = if keep { "keep-alive" } else { "close" };
                let length = body.len();
                output.write_all(
                    format!("HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n{body}", reason(status))
                        .as_bytes(),
                )?;
                if !keep {
                    return Ok(());
                }
            }
        }
    }
}

/// The next request and whether the connection stays; nothing at the end of the stream.
fn head(input: &mut BufReader<TcpStream>) -> io::Result<Option<(Request, bool)>> {
    let mut lines = Read::take(input, HEAD_BYTES_MAX);
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace().skip(1);
    let target = words.next().unwrap_or("/").to_owned();
    let mut keep = words.next() == Some("HTTP/1.1");
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let field = line.trim_end().to_ascii_lowercase();
        if field.is_empty() {
            return Ok(Some((Request::parse(&target), keep)));
        }
        if let Some(value) = field.strip_prefix("connection:") {
            keep = value.trim() != "close" && (keep || value.trim() == "keep-alive");
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        404 => "Not Found",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_gives_numbers() {
        let request = Request::parse("/load?cpu=0.5&memory=16&wrong=-1&word=x");
        assert_eq!(request.path, "/load");
        assert_eq!(request.number("cpu"), 0.5);
        assert_eq!(request.number("memory"), 16.0);
        for absent in ["wrong", "word", "other"] {
            assert_eq!(request.number(absent), 0.0, "{absent}");
        }
    }
}
