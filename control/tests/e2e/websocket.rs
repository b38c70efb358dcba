//! WebSockets of real libraries through us: clients and servers of `tokio-tungstenite` and of `websockets` (Python), each with each.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream as AsyncStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{accept_async, client_async};

use crate::announce::haproxy;
use crate::frames::{Frames, HEADERS, fields};
use crate::rig::{LONG, Site, Weir, http_site, pool, wait_until};

/// Debian's, which has the module that `scripts/test` installs.
const PYTHON: &str = "/usr/bin/python3";

fn python(args: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/websocket_peer.py");
    let mut command = Command::new(PYTHON);
    command.arg(script).args(args).stdin(Stdio::null());
    command
}

struct Python(Child);

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Echoes what it hears, as long as the tests run.
fn serve(address: SocketAddr) {
    std::thread::spawn(move || {
        runtime().block_on(async {
            let listener = TcpListener::bind(address).await.expect("its address");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // Who only looks whether somebody listens agrees on nothing.
                    let Ok(mut websocket) = accept_async(stream).await else { return };
                    while let Some(Ok(message)) = websocket.next().await {
                        if (message.is_text() || message.is_binary()) && websocket.send(message).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
    });
}

/// The same calls as in `websocket_peer.py`.
async fn call(address: SocketAddr) {
    let stream = AsyncStream::connect(address).await.expect("a connection");
    let (mut websocket, response) = client_async(format!("ws://{address}/chat"), stream).await.expect("a WebSocket");
    assert_eq!(response.status().as_u16(), 101);
    for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
        for message in [Message::text("x".repeat(size)), Message::binary(vec![0; size])] {
            websocket.send(message.clone()).await.expect("it is taken");
            assert_eq!(websocket.next().await.expect("an echo").expect("a message"), message, "{size}");
        }
    }
    websocket.send(Message::Ping("are you?".into())).await.expect("it is taken");
    assert_eq!(websocket.next().await.expect("an answer").expect("a message"), Message::Pong("are you?".into()));
    let enough = CloseFrame { code: 4000.into(), reason: "enough".into() };
    websocket.close(Some(enough.clone())).await.expect("it is taken");
    assert_eq!(websocket.next().await.expect("an answer").expect("a message"), Message::Close(Some(enough)));
    assert!(websocket.next().await.is_none(), "and that is the end");
}

#[test]
fn every_library_speaks_with_every_other() {
    let site = Site::new();
    crate::tls::certificate(&site, "web", "DNS:web.test");
    let (of_tungstenite, of_python) = (site.address(), site.address());
    serve(of_tungstenite);
    let _python = Python(python(&["serve", &of_python.to_string()]).spawn().expect("starting python"));
    for address in [of_tungstenite, of_python] {
        wait_until("a server to listen", LONG, || TcpStream::connect(address).is_ok());
    }
    let file = site.path("web.pem");
    let listeners: Vec<_> =
        [("a", of_tungstenite), ("b", of_python)].map(|(name, endpoint)| (name, endpoint, site.address(), site.address())).into();
    let text: String = listeners
        .iter()
        .map(|(name, endpoint, plain, secure)| {
            format!(
                "[listener.{name}]\nbind = \"{plain}\"\npool = \"{name}\"\n[listener.{name}-tls]\nbind = \"{secure}\"\npool = \"{name}\"\n\
                 [[listener.{name}-tls.tls.certificate]]\nfile = {file:?}\n{}",
                pool(name, &[*endpoint], "")
            )
        })
        .collect();
    let _weir = Weir::start(&site, &text);
    let ca = site.path("web.crt").to_string_lossy().into_owned();
    for (name, _, plain, secure) in &listeners {
        runtime().block_on(call(*plain));
        for args in [vec!["call".into(), format!("ws://{plain}/chat")], vec!["call".into(), format!("wss://{secure}/chat"), ca.clone()]] {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let output = python(&args).output().expect("starting python");
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success() && out.trim() == "ok", "{name} {args:?}: {out}{err}");
        }
    }
}

/// RFC 8441 towards endpoints, with HAProxy as one, which asks a server over HTTP/1.1 in turn.
#[test]
fn a_websocket_is_asked_for_over_http2() {
    let site = Site::new();
    let (server, endpoint, listen) = (site.address(), site.address(), site.address());
    serve(server);
    wait_until("a server to listen", LONG, || TcpStream::connect(server).is_ok());
    let sections = format!("frontend f\n  bind {endpoint} proto h2\n  default_backend b\nbackend b\n  server s {server}\n");
    let _haproxy = haproxy(&site, "h2", endpoint, &sections);
    let text = http_site("web", listen, &[endpoint], "upstream_protocol = \"h2\"\nejection = false");
    let weir = Weir::start(&site, &text);
    runtime().block_on(call(listen));
    // A client over HTTP/2 likewise.
    let mut client = Frames::connect(listen);
    client.send(HEADERS, 4, 1, &fields("CONNECT", "/chat", &[(":protocol", "websocket"), ("sec-websocket-version", "13")]));
    let head = client.until("an answer", |frame| frame.kind == HEADERS && frame.stream == 1);
    assert_eq!((head.flags & 1, head.payload[0]), (0, 0x88), "{head:?}\n{}", weir.log());
}
