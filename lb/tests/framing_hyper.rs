//! What `hyper` makes of the messages that we forward: another reader than ours has to find the same meaning in them.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_config::ForwardHeaders;
use weir_lb::http1::request::{self, Forward, Method};
use weir_lb::http1::response::{self, Asked};
use weir_lb::http1::{Bounds, Scanner};

const BOUNDS: Bounds = Bounds { head_bytes_max: 16 * 1024, line_bytes_max: 8 * 1024, headers_max: 100 };

/// A message as `hyper` read it: start line, fields in order of their names, body, trailers.
#[derive(PartialEq, Debug, Default)]
struct Seen {
    start: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
}

fn sorted(fields: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> = fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    fields.sort();
    fields
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

async fn seen(start: String, fields: &HeaderMap, body: Incoming) -> Seen {
    let collected = body.collect().await.expect("a whole body");
    let trailers = collected.trailers().map(sorted).unwrap_or_default();
    Seen { start, fields: sorted(fields), body: collected.to_bytes().to_vec(), trailers }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// Lets `hyper` serve these bytes, and returns the requests it saw.
fn serve(bytes: Vec<u8>) -> Vec<Seen> {
    block_on(async move {
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        let requests = std::cell::RefCell::new(Vec::new());
        let service = hyper::service::service_fn(|request: Request<Incoming>| async {
            let (parts, body) = request.into_parts();
            let start = format!("{} {} {:?}", parts.method, parts.uri, parts.version);
            let request = seen(start, &parts.headers, body).await;
            requests.borrow_mut().push(request);
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        });
        let serving = hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(TokioIo::new(theirs), service);
        let sending = async move {
            ours.write_all(&bytes).await.expect("room in the pipe");
            ours.shutdown().await.expect("an open pipe");
            let mut answers = Vec::new();
            ours.read_to_end(&mut answers).await.expect("an end");
        };
        let (served, ()) = tokio::join!(serving, sending);
        served.expect("no error of framing");
        requests.into_inner()
    })
}

/// Lets `hyper` send a `GET` and read these bytes as the answer.
fn receive(bytes: Vec<u8>) -> Seen {
    block_on(async move {
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(theirs)).await.expect("a connection");
        let answering = async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(ours.read_u8().await.expect("a request"));
            }
            ours.write_all(&bytes).await.expect("room in the pipe");
            ours.shutdown().await.expect("an open pipe");
        };
        let asking = async move {
            let request = Request::get("/").header("te", "trailers").body(Full::<Bytes>::default()).expect("a request");
            let (parts, body) = sender.send_request(request).await.expect("a response").into_parts();
            seen(parts.status.to_string(), &parts.headers, body).await
        };
        let (_, (), seen) = tokio::join!(connection, answering, asking);
        seen
    })
}

fn forward_request(message: &[u8], headers: &ForwardHeaders) -> Vec<u8> {
    let forward = Forward { headers, client: IpAddr::V4(Ipv4Addr::LOCALHOST), scheme: "http", node: "lb-a", request_id: 1, trusted: false };
    let len = Scanner::default().scan(message, &BOUNDS).expect("valid").expect("complete");
    let mut out = Vec::new();
    let mut request = request::parse(message, len, &forward, &mut out).expect("valid");
    let mut body = message[len..].to_vec();
    let advance = request.body.advance(&mut body).expect("valid");
    assert_eq!(advance.consumed, message.len() - len);
    out.extend_from_slice(&body[..advance.kept]);
    out
}

#[test]
fn requests_mean_the_same() {
    let headers = ForwardHeaders { x_forwarded: false, forwarded: false, via: false, request_id: None, trusted: Vec::new() };
    let messages = [
        &b"GET http://a/x?y HTTP/1.1\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nHost: a\r\nB: 2\r\nb: 1\r\n\r\n"[..],
        b"POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"PUT /c HTTP/1.1\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nHost: a\r\n\r\n2;x=\"\\\"\"\r\nhe\r\n003\r\nllo\r\n0;y\r\nSum: 7\r\n\r\n",
        b"OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\nX: y\r\n\r\n",
    ];
    // All on one connection: a wrong end would be the wrong start of the next.
    let bytes = messages.iter().flat_map(|message| forward_request(message, &headers)).collect();
    let expected = [
        Seen { start: "GET /x?y HTTP/1.1".into(), fields: pairs(&[("b", "1"), ("b", "2"), ("host", "a")]), ..Seen::default() },
        Seen {
            start: "POST /l HTTP/1.1".into(),
            fields: pairs(&[("content-length", "5"), ("host", "a")]),
            body: b"hello".to_vec(),
            ..Seen::default()
        },
        Seen {
            start: "PUT /c HTTP/1.1".into(),
            fields: pairs(&[("connection", "TE"), ("host", "a"), ("te", "trailers"), ("transfer-encoding", "chunked")]),
            body: b"hello".to_vec(),
            trailers: pairs(&[("sum", "7")]),
        },
        Seen { start: "OPTIONS * HTTP/1.0".into(), fields: pairs(&[("x", "y")]), ..Seen::default() },
    ];
    assert_eq!(serve(bytes), expected);
}

#[test]
fn responses_mean_the_same() {
    let asked = Asked { method: Method::Get, minor: 1, upgrade: false };
    for (message, fields, body, trailers) in [
        (&b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..], &[("content-length", "5")][..], "hello", &[][..]),
        (
            b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nConnection: x\r\nX: y\r\n\r\n5;a\r\nhello\r\n0\r\nSum: 7\r\n\r\n",
            &[("transfer-encoding", "chunked")],
            "hello",
            &[("sum", "7")],
        ),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", &[], "", &[]),
    ] {
        let len = Scanner::default().scan(message, &Bounds::RESPONSE).expect("valid").expect("complete");
        let mut out = Vec::new();
        let forward = response::Forward { close: false, via: None };
        let mut response = response::parse(message, len, asked, |_| forward, &mut out).expect("valid");
        let mut rest = message[len..].to_vec();
        let advance = response.body.advance(&mut rest).expect("valid");
        out.extend_from_slice(&rest[..advance.kept]);
        let seen = receive(out);
        assert!(seen.start.starts_with(&response.status.to_string()), "{}", seen.start);
        assert_eq!((seen.fields, seen.body, seen.trailers), (pairs(fields), body.as_bytes().to_vec(), pairs(trailers)));
    }
}
