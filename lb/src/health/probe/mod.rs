//! One probe, carried out: connect, ask, judge the answer, close. Everything happens under the check's timeout and inside fixed bounds.
//!
//! How connections end: in order, never by a reset. A reset (`SO_LINGER` of zero) would spare this node the TIME_WAIT state of a TCP probe, but
//! many servers log each one as an error of their client, every interval. TIME_WAIT costs no port here, because each endpoint is an
//! address of its own, and the kernel bounds its memory (`net.ipv4.tcp_max_tw_buckets`). Where there is an answer we let the endpoint
//! close first, for a short while, and the state is on its side.

mod exec;
pub mod grpc;
mod h2;
mod http;
mod tls;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir_config::{EndpointAddress, HealthCheck, Probe, ProxyVersion};

use self::http::Question;
use super::verdict::Outcome;
use crate::proxy_protocol;
use crate::tls::Connector;

/// How long we wait, once the verdict stands, for the other side to close first, or for a program's last output.
const LINGER: Duration = Duration::from_millis(100);

/// Whom to probe.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its pool.
    pub pool: &'a str,
    /// The endpoint as written.
    pub endpoint: &'a EndpointAddress,
    /// Where it resolves to, with the port to probe.
    pub address: SocketAddr,
    /// It expects connections to be announced: a probe's is our own.
    pub announced: Option<ProxyVersion>,
    /// How the pool's endpoints are spoken to under TLS, if they are.
    pub tls: Option<&'a Connector>,
    /// The pool's endpoints speak HTTP/2.
    pub http2: bool,
}

/// What a probe was doing, for the reason of a timeout.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Phase {
    Connecting,
    Handshaking,
    Sending,
    AwaitingHead,
    ReadingBody,
    Running,
    /// The verdict stands: nothing that happens from here on can change it.
    Closing,
}

impl Phase {
    const WORDS: [&str; 7] = [
        "connecting",
        "in the TLS handshake",
        "sending the request",
        "waiting for the answer",
        "reading the body",
        "waiting for the program",
        "closing",
    ];
}

/// Shared by the probe and its timeout.
struct Progress(AtomicU8);

impl Progress {
    fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }
}

/// Why an attempt did not succeed.
enum Failure {
    /// The endpoint's fault.
    Endpoint(String),
    /// Nobody is at its address.
    Gone(String),
    /// Ours: nothing was learnt.
    Local(String),
}

impl Failure {
    fn endpoint<T>(reason: impl Into<String>) -> Result<T, Failure> {
        Err(Failure::Endpoint(reason.into()))
    }

    /// An error of a system call, told apart into what this node lacks and what the endpoint did.
    fn io(doing: &str, error: &io::Error) -> Failure {
        use rustix::io::Errno;
        let local =
            [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL, Errno::AGAIN].map(|errno| errno.raw_os_error());
        if error.raw_os_error().is_some_and(|raw| local.contains(&raw)) {
            return Failure::Local(format!("{doing} not possible here: {error}"));
        }
        let is_gone = matches!(error.kind(), io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut);
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("{doing} refused"),
            io::ErrorKind::ConnectionReset => format!("{doing}: connection reset"),
            io::ErrorKind::HostUnreachable => format!("{doing}: host unreachable"),
            io::ErrorKind::NetworkUnreachable => format!("{doing}: network unreachable"),
            io::ErrorKind::TimedOut => format!("{doing}: timeout of the kernel"),
            _ => format!("{doing}: {error}"),
        };
        if is_gone { Failure::Gone(reason) } else { Failure::Endpoint(reason) }
    }
}

/// Probes once. Takes no longer than `check.timeout` and a blink.
pub async fn probe(check: &HealthCheck, subject: Subject<'_>) -> Outcome {
    let progress = Progress(AtomicU8::new(Phase::Connecting as u8));
    match timeout(check.timeout, attempt(&check.probe, subject, &progress)).await {
        Ok(Ok(())) => Outcome::Ok,
        Ok(Err(Failure::Endpoint(reason))) => Outcome::Failed(reason),
        Ok(Err(Failure::Gone(reason))) => Outcome::Gone(reason),
        Ok(Err(Failure::Local(reason))) => Outcome::NotDone(reason),
        Err(_) => match progress.0.load(Ordering::Relaxed) {
            phase if phase == Phase::Closing as u8 => Outcome::Ok,
            phase => {
                let reason = format!("timeout after {:?} {}", check.timeout, Phase::WORDS[usize::from(phase)]);
                if phase == Phase::Connecting as u8 { Outcome::Gone(reason) } else { Outcome::Failed(reason) }
            }
        },
    }
}

async fn attempt(probe: &Probe, subject: Subject<'_>, progress: &Progress) -> Result<(), Failure> {
    match probe {
        Probe::Http { tls, method, path, host, expect, body } => {
            let host = host.clone().unwrap_or_else(|| subject.endpoint.to_string());
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weir-health\r\nAccept: */*\r\nConnection: close\r\n\r\n");
            let question = Question { request: &request, head_only: method == "HEAD", expect, pattern: body.as_ref() };
            match (*tls, subject.http2) {
                (false, false) => http::http(question, connect(subject).await?, progress).await,
                (true, false) => http::http(question, tls::connect_as_traffic(subject, subject.http2, progress).await?, progress).await,
                (_, true) => {
                    let scheme = if *tls { "https" } else { "http" };
                    let request = ::http::Request::builder().method(&**method).uri(format!("{scheme}://{host}{path}"));
                    let request = request.header("user-agent", "weir-health").header("accept", "*/*").body(());
                    let request = request.map_err(|error| Failure::Endpoint(format!("it cannot be asked over HTTP/2: {error}")))?;
                    let answer = if *tls {
                        h2::ask(request, Bytes::new(), tls::connect_as_traffic(subject, true, progress).await?, progress).await?
                    } else {
                        h2::ask(request, Bytes::new(), connect(subject).await?, progress).await?
                    };
                    http::judge(&question, answer.head.status.as_u16(), &answer.body)
                }
            }
        }
        Probe::Tcp => connect(subject).await.map(drop),
        Probe::Tls { server_name } => tls::tls(server_name.as_deref(), subject, progress).await,
        Probe::Grpc { service } => {
            let authority = subject.endpoint.to_string();
            if subject.tls.is_some() {
                let stream = tls::connect_as_traffic(subject, true, progress).await?;
                grpc::check(service, "https", &authority, stream, progress).await
            } else {
                grpc::check(service, "http", &authority, connect(subject).await?, progress).await
            }
        }
        Probe::Udp { request, answer } => udp::udp(request, answer.as_ref(), subject.address, progress).await,
        Probe::Exec { command } => exec::exec(command, subject, progress).await,
    }
}

async fn connect(subject: Subject<'_>) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(subject.address).await.map_err(|error| Failure::io("connect", &error))?;
    // Best effort: without it the request is only a little slower.
    let _ = stream.set_nodelay(true);
    if let Some(version) = subject.announced {
        let mut header = Vec::new();
        proxy_protocol::encode(version, None, &[], &mut header);
        stream.write_all(&header).await.map_err(|error| Failure::io("send", &error))?;
    }
    Ok(stream)
}
