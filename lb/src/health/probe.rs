//! One probe, carried out: connect, ask, judge the answer, close. Everything happens under the check's timeout and inside fixed bounds.
//!
//! How connections end: in order, never by a reset. A reset (`SO_LINGER` of zero) would spare this node the TIME_WAIT state of a TCP probe, but
//! many servers log each one as an error of their client, every interval. TIME_WAIT costs no port here, because each endpoint is an
//! address of its own, and the kernel bounds its memory (`net.ipv4.tcp_max_tw_buckets`). Where there is an answer we let the endpoint
//! close first, for a short while, and the state is on its side.

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use weir_config::{EndpointAddress, HealthCheck, Host, Probe, ProxyVersion};

use super::verdict::Outcome;
use crate::proxy_protocol;

/// The head of an answer, interim ones included.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of an answer.
const HEADERS_MAX: usize = 128;
/// The part of a body that is looked at.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How much is read at once.
const READ_BYTES: usize = 4 * 1024;
/// What is kept of each output of a program.
const OUTPUT_BYTES_MAX: usize = 4 * 1024;
/// What of it goes into the reason, in bytes.
const OUTPUT_LINE_MAX: usize = 200;
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
        Failure::Endpoint(match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("{doing} refused"),
            io::ErrorKind::ConnectionReset => format!("{doing}: connection reset"),
            io::ErrorKind::HostUnreachable => format!("{doing}: host unreachable"),
            io::ErrorKind::NetworkUnreachable => format!("{doing}: network unreachable"),
            io::ErrorKind::TimedOut => format!("{doing}: timeout of the kernel"),
            _ => format!("{doing}: {error}"),
        })
    }
}

/// Probes once. Takes no longer than `check.timeout` and a blink.
pub async fn probe(check: &HealthCheck, subject: Subject<'_>) -> Outcome {
    let progress = Progress(AtomicU8::new(Phase::Connecting as u8));
    match timeout(check.timeout, attempt(&check.probe, subject, &progress)).await {
        Ok(Ok(())) => Outcome::Ok,
        Ok(Err(Failure::Endpoint(reason))) => Outcome::Failed(reason),
        Ok(Err(Failure::Local(reason))) => Outcome::NotDone(reason),
        Err(_) => match progress.0.load(Ordering::Relaxed) {
            phase if phase == Phase::Closing as u8 => Outcome::Ok,
            phase => Outcome::Failed(format!("timeout after {:?} {}", check.timeout, Phase::WORDS[usize::from(phase)])),
        },
    }
}

async fn attempt(probe: &Probe, subject: Subject<'_>, progress: &Progress) -> Result<(), Failure> {
    match probe {
        Probe::Http { method, path, host, expect, body } => {
            let host = host.clone().unwrap_or_else(|| subject.endpoint.to_string());
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weir-health\r\nAccept: */*\r\nConnection: close\r\n\r\n");
            http(&request, method == "HEAD", expect, body.as_ref(), subject, progress).await
        }
        Probe::Tcp => connect(subject).await.map(drop),
        Probe::Tls { server_name } => tls(server_name.as_deref(), subject, progress).await,
        Probe::Exec { command } => exec(command, subject, progress).await,
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

async fn http(
    request: &str,
    head_only: bool,
    expect: &[(u16, u16)],
    pattern: Option<&regex::bytes::Regex>,
    subject: Subject<'_>,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut stream = connect(subject).await?;
    progress.enter(Phase::Sending);
    stream.write_all(request.as_bytes()).await.map_err(|error| Failure::io("send", &error))?;
    progress.enter(Phase::AwaitingHead);
    let mut buffer = Vec::with_capacity(READ_BYTES);
    let head = loop {
        match parse_head(&buffer)? {
            // An interim answer: the real one follows.
            Some(head) if head.status < 200 && head.status != 101 => drop(buffer.drain(..head.length)),
            Some(head) => break head,
            None => read_line(&mut stream, &mut buffer).await?,
        }
    };
    if !expect.iter().any(|&(low, high)| (low..=high).contains(&head.status)) {
        return Failure::endpoint(format!("status {}, wanted {}", head.status, ranges(expect)));
    }
    buffer.drain(..head.length);
    let framing = if head_only || matches!(head.status, 101 | 204 | 304) { Framing::Length(0) } else { head.framing };
    if let Some(pattern) = pattern {
        progress.enter(Phase::ReadingBody);
        let mut body = Body::new(framing);
        loop {
            body.take(&mut buffer)?;
            if body.complete || body.bytes.len() >= BODY_BYTES_MAX {
                break;
            }
            if read(&mut stream, &mut buffer).await? == 0 {
                if framing == Framing::Close {
                    break;
                }
                return Failure::endpoint("closed inside the body");
            }
        }
        body.bytes.truncate(BODY_BYTES_MAX);
        if !pattern.is_match(&body.bytes) {
            return Failure::endpoint("body does not match");
        }
    }
    progress.enter(Phase::Closing);
    linger(&mut stream).await;
    Ok(())
}

/// Lets the other side close first, so that unread bytes do not turn our close into a reset.
async fn linger(stream: &mut TcpStream) {
    let mut left = BODY_BYTES_MAX;
    let mut scratch = [0; READ_BYTES];
    let _ = timeout(LINGER, async {
        while let Ok(n) = stream.read(&mut scratch).await {
            if n == 0 || n >= left {
                break;
            }
            left -= n;
        }
    })
    .await;
}

/// Reads until something new ends a line: a head that comes byte by byte is not parsed byte by byte.
async fn read_line(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    loop {
        let before = buffer.len();
        if before >= HEAD_BYTES_MAX {
            return Failure::endpoint(format!("answer head above {HEAD_BYTES_MAX} bytes"));
        }
        if read(stream, buffer).await? == 0 {
            return Failure::endpoint(if before == 0 { "closed without an answer" } else { "closed inside the answer head" });
        }
        if memchr::memchr(b'\n', &buffer[before..]).is_some() {
            return Ok(());
        }
    }
}

/// Reads once, a bounded amount.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<usize, Failure> {
    stream.take(READ_BYTES as u64).read_buf(buffer).await.map_err(|error| Failure::io("read", &error))
}

/// How the body of an answer ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

struct Head {
    length: usize,
    status: u16,
    framing: Framing,
}

fn parse_head(buffer: &[u8]) -> Result<Option<Head>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Failure::endpoint(format!("not an HTTP answer: {error}")),
    };
    let status = response.code.expect("a complete answer has a status");
    let mut framing = Framing::Close;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Failure::endpoint("unknown transfer encoding");
            }
            framing = Framing::Chunked;
        } else if header.name.eq_ignore_ascii_case("content-length") && framing != Framing::Chunked {
            let value = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok());
            let Some(value) = value else { return Failure::endpoint("bad content length") };
            framing = Framing::Length(value);
        }
    }
    Ok(Some(Head { length, status, framing }))
}

/// The body of an answer, taken over from the received bytes as they come.
struct Body {
    framing: Framing,
    bytes: Vec<u8>,
    complete: bool,
    /// Bytes to come before the body, or the chunk with its line break, ends.
    left: u64,
}

/// What ends a chunk.
const CHUNK_END: &[u8] = b"\r\n";

impl Body {
    fn new(framing: Framing) -> Body {
        let left = if let Framing::Length(length) = framing { length } else { 0 };
        Body { framing, bytes: Vec::new(), complete: false, left }
    }

    /// Takes what it can use; the rest stays.
    fn take(&mut self, received: &mut Vec<u8>) -> Result<(), Failure> {
        match self.framing {
            Framing::Close => self.bytes.append(received),
            Framing::Length(_) => {
                let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(received.len());
                self.bytes.extend(received.drain(..n));
                self.left -= n as u64;
                self.complete = self.left == 0;
            }
            Framing::Chunked => {
                let used = self.take_chunks(received)?;
                received.drain(..used);
                if received.len() >= READ_BYTES {
                    return Failure::endpoint("bad chunk in the body");
                }
            }
        }
        Ok(())
    }

    /// Returns how much was used.
    fn take_chunks(&mut self, received: &[u8]) -> Result<usize, Failure> {
        let end = CHUNK_END.len() as u64;
        let mut used = 0;
        while !self.complete {
            let rest = &received[used..];
            if self.left > end {
                let n = usize::try_from(self.left - end).unwrap_or(usize::MAX).min(rest.len());
                self.bytes.extend_from_slice(&rest[..n]);
                self.left -= n as u64;
                used += n;
                if self.left > end {
                    break;
                }
            } else if self.left == end {
                if rest.len() < CHUNK_END.len() {
                    break;
                }
                if !rest.starts_with(CHUNK_END) {
                    return Failure::endpoint("bad chunk in the body");
                }
                used += CHUNK_END.len();
                self.left = 0;
            } else {
                match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((n, size))) => {
                        used += n;
                        self.complete = size == 0;
                        self.left = size.saturating_add(end);
                    }
                    Ok(httparse::Status::Partial) => break,
                    Err(_) => return Failure::endpoint("bad chunk in the body"),
                }
            }
        }
        Ok(used)
    }
}

fn ranges(expect: &[(u16, u16)]) -> String {
    let words: Vec<String> =
        expect.iter().map(|&(low, high)| if low == high { low.to_string() } else { format!("{low}-{high}") }).collect();
    words.join(", ")
}

/// A handshake that is completed is all this probe asks for. Whom the certificate names, who signed it and whether it has expired is not the
/// point: traffic is passed to the endpoint without looking at it, and an expired certificate must not take a pool down.
async fn tls(server_name: Option<&str>, subject: Subject<'_>, progress: &Progress) -> Result<(), Failure> {
    let name = match (server_name, &subject.endpoint.host) {
        (Some(name), _) => name.to_owned(),
        (None, Host::Name(name)) => name.to_string(),
        (None, Host::Ip(ip)) => ip.to_string(),
    };
    let Ok(server_name) = ServerName::try_from(name) else { return Failure::endpoint("the server name is not valid") };
    let stream = connect(subject).await?;
    progress.enter(Phase::Handshaking);
    let mut stream = tokio_rustls::TlsConnector::from(Arc::clone(&TLS))
        .connect(server_name, stream)
        .await
        .map_err(|error| Failure::io("TLS handshake", &error))?;
    progress.enter(Phase::Closing);
    let _ = timeout(LINGER, stream.shutdown()).await;
    Ok(())
}

static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Arc::new(config)
});

/// Accepts any certificate, but not a handshake signature that does not belong to it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A program and everything it started, which is killed unless it ended in order.
struct Group {
    child: Child,
    id: Option<rustix::process::Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // Nobody is left to kill: then it is done.
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

async fn exec(command: &[String], subject: Subject<'_>, progress: &Progress) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Failure::endpoint("no program to run") };
    progress.enter(Phase::Running);
    let mut child = Command::new(program)
        .args(arguments)
        .env("WEIR_POOL", subject.pool)
        .env("WEIR_ENDPOINT", subject.endpoint.to_string())
        .env("WEIR_HOST", subject.address.ip().to_string())
        .env("WEIR_PORT", subject.address.port().to_string())
        // What the service manager and an upgrade told this process is not meant for what it runs.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID")
        .env_remove("WEIR_HANDOVER")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::io(&format!("run {program}"), &error))?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    let mut group = Group { child, id };

    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let status = {
        let outputs = async { tokio::join!(keep_start(stdout, &mut said), keep_start(stderr, &mut complained)) };
        tokio::pin!(outputs);
        let mut closed = false;
        let status = loop {
            tokio::select! {
                status = group.child.wait() => break status,
                _ = &mut outputs, if !closed => closed = true,
            }
        };
        if status.as_ref().is_ok_and(|status| status.success()) {
            progress.enter(Phase::Closing);
        }
        // What it wrote before it ended is there already; something it left behind in the background may hold the pipes open for ever, and
        // is killed with its group.
        if closed || timeout(LINGER, &mut outputs).await.is_ok() {
            group.id = None;
        }
        status
    };
    let status = status.map_err(|error| Failure::io(&format!("run {program}"), &error))?;
    if status.success() {
        return Ok(());
    }
    let line = [&complained, &said].into_iter().find_map(|output| first_line(output)).map_or(String::new(), |line| format!(": {line}"));
    Failure::endpoint(match status.code() {
        Some(code) => format!("exit status {code}{line}"),
        None => format!("{status}{line}"),
    })
}

/// Reads to the end so that the program is never blocked by a full pipe, and keeps the beginning.
async fn keep_start(mut from: impl AsyncRead + Unpin, kept: &mut Vec<u8>) {
    let mut scratch = [0; 1024];
    while let Ok(n @ 1..) = from.read(&mut scratch).await {
        let room = OUTPUT_BYTES_MAX - kept.len();
        kept.extend_from_slice(&scratch[..n.min(room)]);
    }
}

/// The first line that says something, without control characters.
fn first_line(output: &[u8]) -> Option<String> {
    let line = output.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty())?;
    let text = String::from_utf8_lossy(&line[..line.len().min(OUTPUT_LINE_MAX)]);
    Some(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fed whole and byte by byte, with the same result.
    fn check_body(framing: Framing, received: &[u8], expected: Option<(&[u8], bool)>) {
        for step in [received.len(), 1] {
            let mut body = Body::new(framing);
            let mut buffer = Vec::new();
            let result = received.chunks(step).try_for_each(|piece| {
                buffer.extend_from_slice(piece);
                body.take(&mut buffer)
            });
            let result = result.ok().map(|()| (body.bytes.as_slice(), body.complete));
            assert_eq!(result, expected, "{} by {step}", received.escape_ascii());
        }
    }

    #[test]
    fn bodies() {
        check_body(Framing::Close, b"abc", Some((b"abc", false)));
        check_body(Framing::Length(2), b"abc", Some((b"ab", true)));
        check_body(Framing::Length(u64::MAX), b"abc", Some((b"abc", false)));
        check_body(Framing::Chunked, b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", Some((b"abcde", true)));
        check_body(Framing::Chunked, b"3\r\nab", Some((b"ab", false)));
        check_body(Framing::Chunked, b"3\r\nabc\r", Some((b"abc", false)));
        check_body(Framing::Chunked, b"3\r\nabcXY", None);
        check_body(Framing::Chunked, b"zz\r\n", None);
        check_body(Framing::Chunked, b"ffffffffffffffff\r\nabc", Some((b"abc", false)));
        check_body(Framing::Chunked, &[b'1'; 2 * READ_BYTES], None);
    }

    #[test]
    fn a_line_of_output_is_tamed() {
        assert_eq!(first_line(b"\n  \nbad \x1b[31mthing\r\nmore"), Some("bad  [31mthing".into()));
        assert_eq!(first_line(b" \n"), None);
        assert_eq!(first_line(&[b'x'; 4096]).unwrap().len(), OUTPUT_LINE_MAX);
    }
}
