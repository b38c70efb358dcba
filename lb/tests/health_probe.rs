//! Probes against small servers in this process, and against real programs.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir_config::{EndpointAddress, HealthCheck, Probe};
use weir_lb::health::probe::{Subject, probe};
use weir_lb::health::verdict::Outcome;

fn check(probe: Probe, timeout: Duration) -> HealthCheck {
    let interval = Duration::from_secs(1);
    HealthCheck {
        probe,
        interval,
        fast_interval: interval,
        down_interval: interval,
        timeout,
        rise: NonZeroU32::MIN,
        fall: NonZeroU32::MIN,
        port: None,
    }
}

fn http(body: Option<&str>) -> Probe {
    Probe::Http {
        tls: false,
        method: "GET".into(),
        path: "/healthz".into(),
        host: None,
        expect: vec![(200, 299), (404, 404)],
        body: body.map(|pattern| regex::bytes::Regex::new(pattern).unwrap()),
    }
}

async fn run(settings: &HealthCheck, address: SocketAddr) -> Outcome {
    let endpoint = EndpointAddress::from(address);
    probe(settings, Subject { pool: "web", endpoint: &endpoint, address, announced: None, tls: None, http2: false }).await
}

/// A server that reads a request head and then does what it is told with one connection after the other.
async fn serve<F>(answer: impl Fn(TcpStream, String) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
            answer(stream, String::from_utf8(head).unwrap()).await;
        }
    });
    address
}

async fn serve_bytes(answer: Vec<u8>) -> SocketAddr {
    let answer = Arc::new(answer);
    serve(move |mut stream, _| {
        let answer = Arc::clone(&answer);
        async move {
            let _ = stream.write_all(&answer).await;
        }
    })
    .await
}

/// `Ok`, or the reason of a failure.
async fn http_outcome(answer: impl Into<Vec<u8>>, body: Option<&str>) -> String {
    let address = serve_bytes(answer.into()).await;
    words(run(&check(http(body), Duration::from_secs(5)), address).await)
}

fn words(outcome: Outcome) -> String {
    match outcome {
        Outcome::Ok => "ok".into(),
        Outcome::Failed(reason) | Outcome::Gone(reason) => reason,
        Outcome::NotDone(reason) => format!("not done: {reason}"),
    }
}

#[tokio::test]
async fn http_answers() {
    for (answer, body, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", None, "ok"),
        ("HTTP/1.0 204 No Content\r\n\r\n", None, "ok"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", None, "ok"),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", None, "ok"),
        ("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", None, "status 500, wanted 200-299, 404"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall is up", Some("is (up|fine)"), "ok"),
        ("HTTP/1.1 200 OK\r\n\r\nall is up", Some("is (up|fine)"), "ok"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nis u\r\n1\r\np\r\n0\r\n\r\n", Some("is (up|fine)"), "ok"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndown", Some("is (up|fine)"), "body does not match"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ndown", Some("up"), "closed inside the body"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n", Some("up"), "bad chunk in the body"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", None, "bad content length"),
        ("SSH-2.0-OpenSSH_9.2\r\n", None, "not an HTTP answer: invalid HTTP version"),
        ("HTTP/1.1 200 OK\r\nContent", None, "closed inside the answer head"),
        ("", None, "closed without an answer"),
    ] {
        assert_eq!(http_outcome(answer, body).await, expected, "{answer:?}");
    }
}

#[tokio::test]
async fn http_bounds() {
    let long_head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(64 * 1024));
    assert_eq!(http_outcome(long_head, None).await, "answer head above 16384 bytes");
    // What is sought lies beyond the part of the body that is looked at.
    let long_body = format!("HTTP/1.1 200 OK\r\n\r\n{}needle", "x".repeat(64 * 1024));
    assert_eq!(http_outcome(long_body, Some("needle")).await, "body does not match");
    let near_body = format!("HTTP/1.1 200 OK\r\n\r\n{}needle{}", "x".repeat(60 * 1024), "x".repeat(1 << 20));
    assert_eq!(http_outcome(near_body, Some("needle")).await, "ok");
}

#[tokio::test]
async fn http_request() {
    let (sent, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let address = serve(move |mut stream, head| {
        let _ = sent.send(head);
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    assert_eq!(run(&check(http(None), Duration::from_secs(5)), address).await, Outcome::Ok);
    let expected =
        format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nUser-Agent: weir-health\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    assert_eq!(seen.recv().await.unwrap(), expected);
}

#[tokio::test]
async fn timeouts_say_where_they_struck() {
    let short = Duration::from_millis(100);
    let silent = serve(|stream, _| async move {
        tokio::spawn(async move {
            let _held = stream;
            std::future::pending::<()>().await;
        });
    })
    .await;
    assert_eq!(words(run(&check(http(None), short), silent).await), "timeout after 100ms waiting for the answer");
    let half = serve(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal").await;
        tokio::spawn(async move {
            let _held = stream;
            std::future::pending::<()>().await;
        });
    })
    .await;
    // As long as it takes to have come so far.
    let mut timeout = short;
    while words(run(&check(http(Some("half")), timeout), half).await) != format!("timeout after {timeout:?} reading the body") {
        timeout *= 2;
        assert!(timeout < Duration::from_secs(30), "it never came to the body");
    }
    // Without a body to look for, the head is enough.
    assert_eq!(run(&check(http(None), Duration::from_secs(5)), half).await, Outcome::Ok);
    // Waiting for the other side to close does not turn a good answer into a timeout, however short that is.
    let mut attempts = 0;
    while run(&check(http(None), Duration::from_millis(60)), half).await != Outcome::Ok {
        attempts += 1;
        assert!(attempts < 50, "never answered within 60 ms");
    }
    let mute = Probe::Tls { server_name: None };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert_eq!(words(run(&check(mute, short), listener.local_addr().unwrap()).await), "timeout after 100ms in the TLS handshake");
}

#[tokio::test]
async fn tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = check(Probe::Tcp, Duration::from_secs(5));
    assert_eq!(run(&settings, address).await, Outcome::Ok);
    // The server sees an orderly end, not a reset.
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    drop(listener);
    assert_eq!(words(run(&settings, address).await), "connect refused");
}

#[tokio::test]
async fn tls() {
    let issued = rcgen::generate_simple_self_signed(["origin.example".to_string()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sent, mut names) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = sent.send(stream.get_ref().1.server_name().map(str::to_owned));
                let _ = stream.read(&mut [0; 1]).await;
            }
        }
    });
    let named = Probe::Tls { server_name: Some("other.example".into()) };
    assert_eq!(run(&check(named, Duration::from_secs(5)), address).await, Outcome::Ok);
    assert_eq!(names.recv().await.unwrap().as_deref(), Some("other.example"));
    assert_eq!(run(&check(Probe::Tls { server_name: None }, Duration::from_secs(5)), address).await, Outcome::Ok);
    assert_eq!(names.recv().await.unwrap(), None, "no name is sent for an address");

    let garbage = serve_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain_address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream.write_all(b"220 mail.example.com ESMTP\r\n").await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    let settings = check(Probe::Tls { server_name: None }, Duration::from_millis(500));
    for address in [garbage, plain_address] {
        let reason = words(run(&settings, address).await);
        assert!(reason.contains("TLS handshake"), "{reason}");
    }
}

fn shell(script: &str) -> Probe {
    Probe::Exec { command: vec!["/bin/sh".into(), "-c".into(), script.into()] }
}

async fn exec(script: &str, timeout: Duration) -> String {
    words(run(&check(shell(script), timeout), "10.0.0.9:8080".parse().unwrap()).await)
}

#[tokio::test]
async fn exec_outcomes() {
    let long = Duration::from_secs(20);
    for (script, expected) in [
        ("exit 0", "ok"),
        ("echo fine; echo noise >&2", "ok"),
        ("exit 2", "exit status 2"),
        ("echo said; echo bad disk >&2; exit 3", "exit status 3: bad disk"),
        ("echo; echo said; exit 3", "exit status 3: said"),
        ("echo $WEIR_POOL $WEIR_ENDPOINT $WEIR_HOST $WEIR_PORT; exit 1", "exit status 1: web 10.0.0.9:8080 10.0.0.9 8080"),
        ("cat; exit 4", "exit status 4"),
        ("head -c 1000000 /dev/zero; exit 0", "ok"),
    ] {
        assert_eq!(exec(script, long).await, expected, "{script}");
    }
    assert!(exec("kill -9 $$", long).await.starts_with("signal: 9"));
    let missing = Probe::Exec { command: vec!["/nowhere/check".into()] };
    let reason = words(run(&check(missing, long), "10.0.0.9:8080".parse().unwrap()).await);
    assert!(reason.starts_with("run /nowhere/check: No such file"), "{reason}");
}

/// Alive, and not just waiting for its parent to notice that it is dead.
fn is_alive(pid: &str) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    status.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X'])))
}

async fn wait_until_dead(pids: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    for pid in pids.split_whitespace() {
        while is_alive(pid) {
            assert!(Instant::now() < deadline, "{pid} is still alive");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!("sleep 600 & echo $$ $! > {}; wait", file.display());
    let reason = exec(&script, Duration::from_secs(5)).await;
    assert_eq!(reason, "timeout after 5s waiting for the program");
    let pids = std::fs::read_to_string(&file).unwrap();
    assert_eq!(pids.split_whitespace().count(), 2, "{pids}");
    wait_until_dead(&pids).await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_does_not_hold_the_probe_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!("sleep 600 & echo $! > {}; echo left it; exit 5", file.display());
    let begin = Instant::now();
    assert_eq!(exec(&script, Duration::from_secs(20)).await, "exit status 5: left it");
    assert!(begin.elapsed() < Duration::from_secs(10));
    wait_until_dead(&std::fs::read_to_string(&file).unwrap()).await;
}

#[tokio::test]
async fn udp_answers() {
    let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move {
        let mut room = [0; 64];
        while let Ok((count, from)) = server.recv_from(&mut room).await {
            // What begins with an s is met with silence.
            if room[0] != b's' {
                let _ = server.send_to(&[&room[..count], b" back"].concat(), from).await;
            }
        }
    });
    let asked = |request: &str, pattern: Option<&str>| {
        let answer = pattern.map(|pattern| regex::bytes::Regex::new(pattern).unwrap());
        let timeout = if request == "silence" { Duration::from_millis(500) } else { Duration::from_secs(10) };
        check(Probe::Udp { request: request.into(), answer }, timeout)
    };
    assert_eq!(words(run(&asked("ping", None), address).await), "ok");
    assert_eq!(words(run(&asked("ping", Some("^ping back$")), address).await), "ok");
    assert_eq!(words(run(&asked("ping", Some("^pong")), address).await), "an answer of 9 bytes does not match");
    assert_eq!(words(run(&asked("silence", None), address).await), "timeout after 500ms waiting for the answer");
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(words(run(&asked("ping", None), nobody).await), "receive refused");
}
