//! Binary upgrade: another program takes over the listening sockets of this one, and nobody outside notices.
//!
//! ```text
//!   old                                                       new
//!    │ starts it: same arguments, WEIR_HANDOVER=stdin          │
//!    │ ── header: addresses, verdicts, overlay, counters ────► │
//!    │ ── sockets, up to 200 with each byte ─────────────────► │ reads the file, starts its data plane, answers
//!    │ ◄──────────────────────────── ready PID │ failed why ── │
//!    │ stops accepting, drains, exits                          │ serves
//! ```
//!
//! The socket between the two is the new program's standard input, so no descriptor has to survive an `exec` by other means. The listening
//! sockets are the same open sockets in both: what waits in their accept queues is served by whoever accepts it, so no connection is refused
//! or reset, whatever the numbers of workers are. Until it has read `ready`, the old program goes on as if nothing were happening, and ends
//! the new one if anything goes wrong.
//!
//! The old process exits when it has drained. Under systemd that is seamless with `Type=notify` and `NotifyAccess=all`: both name the new
//! main process. Under a plain shell the foreground job ends while the new process lives on in the background.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use weir_lb::director::SavedVerdict;
use weir_lb::tls::SavedTicketKey;

use crate::api::SavedSessions;
use crate::state::RawOverlay;

/// How long the new program may take from its start to `ready`.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Tells the new program that its standard input is the handover socket.
const VARIABLE: &str = "WEIR_HANDOVER";
const STDIN: &str = "stdin";
/// The version of the protocol. A new program that speaks another one says so and the old one stays.
const PROTOCOL: u32 = 1;
/// The largest header: a full overlay and as many verdicts need about a quarter of it.
const HEADER_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// The largest answer: a page of configuration errors.
const ANSWER_BYTES_MAX: u32 = 256 * 1024;
/// Sockets sent with one byte; Linux allows 253.
const BATCH: usize = 200;
/// The most sockets: workers times bound addresses.
const SOCKETS_MAX: usize = 65_536;
/// The byte that carries a batch.
const BATCH_BYTE: u8 = b'S';

/// What the old program tells the new one.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Header {
    /// The protocol's version.
    pub(crate) protocol: u32,
    /// The old program's version, for the log.
    pub(crate) program: String,
    /// The addresses of the data plane's sockets, in the order in which they are sent.
    pub(crate) listeners: Vec<SocketAddr>,
    /// The API's address; its socket is sent last.
    pub(crate) api: Option<SocketAddr>,
    /// Health verdicts.
    pub(crate) verdicts: Vec<SavedVerdict>,
    /// Keys of session tickets; nowhere else than here. A program before this one has none to give.
    #[serde(default)]
    pub(crate) ticket_keys: Vec<SavedTicketKey>,
    /// Who is signed in at the console: digests, which open nothing. A program before this one has none to give.
    #[serde(default)]
    pub(crate) sessions: Option<SavedSessions>,
    /// Run-time changes; not read from the state folder, which may not have been writable.
    pub(crate) overlay: RawOverlay,
    /// The last revision.
    pub(crate) revision: u64,
    /// The number of the last event.
    pub(crate) last_event: u64,
}

impl Header {
    /// A header of this program's version.
    pub(crate) fn new(overlay: RawOverlay, revision: u64, last_event: u64, verdicts: Vec<SavedVerdict>) -> Header {
        let program = env!("CARGO_PKG_VERSION").into();
        Header {
            protocol: PROTOCOL,
            program,
            listeners: Vec::new(),
            api: None,
            verdicts,
            ticket_keys: Vec::new(),
            sessions: None,
            overlay,
            revision,
            last_event,
        }
    }
}

/// What the new program answers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It serves; its process id.
    Ready(u32),
    /// It does not, and why.
    Failed(String),
}

/// What the new program was given.
#[derive(Debug)]
pub(crate) struct Received {
    /// The header.
    pub(crate) header: Header,
    /// Sockets in the order of `header.listeners`, then the API's.
    pub(crate) sockets: Vec<OwnedFd>,
}

/// Why a handover failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    /// The new program could not be started.
    #[error("cannot start {path}: {source}")]
    Spawn {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket between the two failed.
    #[error("the handover was interrupted: {0}")]
    Socket(#[from] io::Error),
    /// It took longer than it may.
    #[error("the other program did not answer in time")]
    Timeout,
    /// The other side ended.
    #[error("the other program ended in the middle of the handover")]
    Ended,
    /// The new program ended without an answer.
    #[error("the new program ended before it was ready ({0}); its log says why")]
    Exited(std::process::ExitStatus),
    /// A message was longer than its bound.
    #[error("a handover message of {length} bytes is longer than the bound of {max}")]
    TooLong {
        /// Its length.
        length: u64,
        /// The bound.
        max: u32,
    },
    /// A message made no sense.
    #[error("a handover message makes no sense: {0}")]
    Malformed(String),
    /// The other program speaks another version.
    #[error("the running program hands over with protocol {theirs}, this one speaks {PROTOCOL}: stop the one and start the other instead")]
    Protocol {
        /// Its version.
        theirs: u32,
    },
    /// This process began to stop before the new one was ready.
    #[error("this process is stopping")]
    Stopping,
    /// The new program said no.
    #[error("the new program refused: {0}")]
    Refused(String),
}

/// How this program was started, so that it can be started again after its file was replaced.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Launch {
    /// To be called at the start, before anything can have been replaced.
    pub(crate) fn remember() -> Launch {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let program = program_path(&name, std::env::var_os("PATH").as_deref()).or_else(|| std::env::current_exe().ok());
        Launch { program: program.unwrap_or_else(|| name.into()), arguments: arguments.collect() }
    }

    /// The path this program was started from, links not followed: an upgrade may have moved the link.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Starts `binary` with `theirs` as its standard input, hands the sockets over and returns the new process id once it serves. Blocks.
    /// `commit` is asked when it does: no means that this process has begun to stop meanwhile. On any error the new process is gone.
    pub(crate) fn hand_over(
        &self,
        binary: &Path,
        (ours, theirs): (&UnixStream, UnixStream),
        header: &Header,
        sockets: &[BorrowedFd<'_>],
        deadline: Instant,
        commit: impl FnOnce(u32) -> bool,
    ) -> Result<u32, HandoverError> {
        let mut child = Command::new(binary)
            .args(&self.arguments)
            .env(VARIABLE, STDIN)
            // The service manager's watchdog is for whoever is the main process, not for one process id.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .map_err(|source| HandoverError::Spawn { path: binary.to_owned(), source })?;
        let answer = offer(ours, header, sockets, deadline).and_then(|()| receive_answer(ours, deadline));
        match answer {
            Ok(Answer::Ready(pid)) if commit(pid) => Ok(pid),
            Ok(Answer::Ready(_)) => {
                end(&mut child);
                Err(HandoverError::Stopping)
            }
            Ok(Answer::Failed(reason)) => {
                end(&mut child);
                Err(HandoverError::Refused(reason))
            }
            Err(error) => Err(explain_end(&mut child, error)),
        }
    }
}

/// Where a program of this name would be found; absolute.
fn program_path(name: &OsStr, search: Option<&OsStr>) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    let path = Path::new(name);
    if path.components().count() > 1 || path.is_absolute() {
        return std::path::absolute(path).ok();
    }
    std::env::split_paths(search?)
        .map(|folder| folder.join(path))
        .find(|path| path.is_file())
        .and_then(|path| std::path::absolute(path).ok())
}

fn end(child: &mut Child) {
    // An error means that it has ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// Ends the new process; one that had ended by itself is a better explanation than the broken socket.
fn explain_end(child: &mut Child, error: HandoverError) -> HandoverError {
    let broken = matches!(error, HandoverError::Ended | HandoverError::Socket(_));
    // It has closed its end, so it is exiting: this little wait is only for the kernel to say so.
    let patience = Instant::now() + Duration::from_secs(5);
    if broken {
        loop {
            // Looked at once more after that, for this thread may have had to wait itself.
            let is_late = Instant::now() >= patience;
            match child.try_wait() {
                Ok(Some(status)) => return HandoverError::Exited(status),
                Ok(None) if !is_late => std::thread::sleep(Duration::from_millis(5)),
                _ => break,
            }
        }
    }
    end(child);
    error
}

/// The socket to the program that started this one to take over; `None`: started by anybody else.
pub(crate) fn inherited() -> Option<UnixStream> {
    if std::env::var_os(VARIABLE)? != STDIN {
        return None;
    }
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    // The variable is inherited by programs we start, whose standard input is something else.
    stream.peer_addr().is_ok().then_some(stream)
}

/// Sends the header and the sockets.
pub(crate) fn offer(socket: &UnixStream, header: &Header, sockets: &[BorrowedFd<'_>], deadline: Instant) -> Result<(), HandoverError> {
    send_frame(socket, header, HEADER_BYTES_MAX, deadline)?;
    for batch in sockets.chunks(BATCH) {
        socket.set_write_timeout(Some(remaining(deadline)?))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(batch)), "the space is made for a whole batch");
        loop {
            match rustix::net::sendmsg(socket, &[IoSlice::new(&[BATCH_BYTE])], &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => remaining(deadline).map(drop)?,
                Err(error) => return Err(explain(error.into())),
            }
        }
    }
    Ok(())
}

/// Receives the header and the sockets. Everything that does not fit is refused, and sockets received so far are closed.
pub(crate) fn receive_offer(socket: &UnixStream, deadline: Instant) -> Result<Received, HandoverError> {
    let bytes = receive_frame(socket, HEADER_BYTES_MAX, deadline)?;
    #[derive(Deserialize)]
    struct Protocol {
        protocol: u32,
    }
    // The version first: a later header need not look like this one at all.
    let Protocol { protocol } = decode(&bytes)?;
    if protocol != PROTOCOL {
        return Err(HandoverError::Protocol { theirs: protocol });
    }
    let header: Header = decode(&bytes)?;
    let expected = header.listeners.len() + usize::from(header.api.is_some());
    if expected > SOCKETS_MAX {
        return Err(HandoverError::Malformed(format!("{expected} sockets are more than {SOCKETS_MAX}")));
    }
    let mut sockets = Vec::with_capacity(expected);
    while sockets.len() < expected {
        receive_batch(socket, &mut sockets, deadline)?;
    }
    if sockets.len() != expected {
        return Err(HandoverError::Malformed(format!("{} sockets instead of {expected}", sockets.len())));
    }
    for (socket, address) in sockets.iter().zip(header.listeners.iter().chain(&header.api)) {
        check_listening(socket, *address)?;
    }
    Ok(Received { header, sockets })
}

fn receive_batch(socket: &UnixStream, sockets: &mut Vec<OwnedFd>, deadline: Instant) -> Result<(), HandoverError> {
    socket.set_read_timeout(Some(remaining(deadline)?))?;
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
        Ok(message) => message,
        Err(rustix::io::Errno::INTR) => return Ok(()),
        Err(error) => return Err(explain(error.into())),
    };
    if message.bytes == 0 {
        return Err(HandoverError::Ended);
    }
    let before = sockets.len();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(batch) = message {
            sockets.extend(batch);
        }
    }
    // Truncated: more in a batch than agreed, or this process has no room for more descriptors.
    if byte != [BATCH_BYTE] || sockets.len() == before || message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(HandoverError::Malformed(format!("after {} sockets the next did not come", sockets.len())));
    }
    Ok(())
}

/// Refuses what is not a listening socket on that address: a mixed-up order would send clients to the wrong pool.
fn check_listening(socket: &OwnedFd, address: SocketAddr) -> Result<(), HandoverError> {
    let is_udp = rustix::net::sockopt::socket_type(socket).is_ok_and(|kind| kind == rustix::net::SocketType::DGRAM);
    let listening = is_udp || rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false);
    let bound = rustix::net::getsockname(socket).ok().and_then(|any| SocketAddr::try_from(any).ok());
    if listening && bound.is_some_and(|bound| address.port() == 0 || bound == address) {
        return Ok(());
    }
    Err(HandoverError::Malformed(format!("the socket for {address} does not listen there")))
}

/// Sends the answer.
pub(crate) fn answer(socket: &UnixStream, answer: &Answer, deadline: Instant) -> Result<(), HandoverError> {
    send_frame(socket, answer, ANSWER_BYTES_MAX, deadline)
}

/// Receives the answer.
pub(crate) fn receive_answer(socket: &UnixStream, deadline: Instant) -> Result<Answer, HandoverError> {
    decode(&receive_frame(socket, ANSWER_BYTES_MAX, deadline)?)
}

/// Four bytes of length, most significant first, then JSON.
fn send_frame<T: Serialize>(mut socket: &UnixStream, value: &T, max: u32, deadline: Instant) -> Result<(), HandoverError> {
    let bytes = serde_json::to_vec(value).map_err(|error| HandoverError::Malformed(error.to_string()))?;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if length > max {
        return Err(HandoverError::TooLong { length: bytes.len() as u64, max });
    }
    for mut part in [&length.to_be_bytes()[..], &bytes] {
        while !part.is_empty() {
            socket.set_write_timeout(Some(remaining(deadline)?))?;
            match socket.write(part) {
                Ok(written) => part = &part[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(explain(error)),
            }
        }
    }
    Ok(())
}

fn receive_frame(socket: &UnixStream, max: u32, deadline: Instant) -> Result<Vec<u8>, HandoverError> {
    let mut length = [0; 4];
    receive_exact(socket, &mut length, deadline)?;
    let length = u32::from_be_bytes(length);
    if length > max {
        return Err(HandoverError::TooLong { length: length.into(), max });
    }
    let mut bytes = vec![0; length as usize];
    receive_exact(socket, &mut bytes, deadline)?;
    Ok(bytes)
}

fn receive_exact(mut socket: &UnixStream, mut part: &mut [u8], deadline: Instant) -> Result<(), HandoverError> {
    while !part.is_empty() {
        socket.set_read_timeout(Some(remaining(deadline)?))?;
        match socket.read(part) {
            Ok(0) => return Err(HandoverError::Ended),
            Ok(read) => part = &mut part[read..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(explain(error)),
        }
    }
    Ok(())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, HandoverError> {
    serde_json::from_slice(bytes).map_err(|error| HandoverError::Malformed(error.to_string()))
}

fn remaining(deadline: Instant) -> Result<Duration, HandoverError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(HandoverError::Timeout) } else { Ok(left) }
}

fn explain(error: io::Error) -> HandoverError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HandoverError::Timeout,
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => HandoverError::Ended,
        _ => HandoverError::Socket(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;
    use crate::overlay::Overlay;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    fn header(listeners: Vec<SocketAddr>) -> Header {
        Header { listeners, ..Header::new(RawOverlay::from(&Overlay::default()), 7, 42, Vec::new()) }
    }

    fn bind(count: usize) -> (Vec<TcpListener>, Vec<SocketAddr>) {
        let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("bound")).collect();
        let addresses = listeners.iter().map(|l| l.local_addr().expect("bound")).collect();
        (listeners, addresses)
    }

    #[test]
    fn hundreds_of_sockets_arrive_in_order_and_accept() {
        let (listeners, addresses) = bind(450);
        let mut header = header(addresses[..449].to_vec());
        header.api = Some(addresses[449]);
        let (old, new) = UnixStream::pair().expect("a pair");
        let receiver = thread::spawn(move || {
            let received = receive_offer(&new, soon()).expect("received");
            answer(&new, &Answer::Ready(1234), soon()).expect("answered");
            received
        });
        let borrowed: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        offer(&old, &header, &borrowed, soon()).expect("offered");
        assert_eq!(receive_answer(&old, soon()).expect("an answer"), Answer::Ready(1234));
        let received = receiver.join().expect("no panic");
        assert_eq!((received.header.revision, received.header.last_event, received.sockets.len()), (7, 42, 450));
        // A connection that waits in the queue of a socket whose first owner is gone is served by the second.
        let clients: Vec<_> = addresses.iter().map(|address| TcpStream::connect(address).expect("queued")).collect();
        drop(listeners);
        for (socket, client) in received.sockets.into_iter().zip(&clients) {
            let (_, peer) = TcpListener::from(socket).accept().expect("accepted");
            assert_eq!(peer, client.local_addr().expect("connected"));
        }
    }

    /// What a receiver says to these bytes, followed by the end.
    fn refused(bytes: &[u8]) -> HandoverError {
        let (mut old, new) = UnixStream::pair().expect("a pair");
        let bytes = bytes.to_vec();
        let writer = thread::spawn(move || drop(old.write_all(&bytes)));
        let error = receive_offer(&new, soon()).expect_err("refused");
        drop(new);
        writer.join().expect("no panic");
        error
    }

    fn frame(text: &str) -> Vec<u8> {
        [&u32::try_from(text.len()).expect("short").to_be_bytes()[..], text.as_bytes()].concat()
    }

    #[test]
    fn another_protocol_is_named_whatever_else_it_says() {
        assert!(matches!(refused(&frame(r#"{"protocol":2,"novelty":[1]}"#)), HandoverError::Protocol { theirs: 2 }));
    }

    #[test]
    fn truncated_oversized_and_foreign_bytes_are_refused() {
        let whole = frame(&serde_json::to_string(&header(Vec::new())).expect("JSON"));
        for end in [0, 1, 3, 4, 5, whole.len() - 1] {
            assert!(matches!(refused(&whole[..end]), HandoverError::Ended), "{end}");
        }
        assert!(matches!(refused(b"\xff\xff\xff\xffGET /"), HandoverError::TooLong { .. }));
        assert!(matches!(refused(&(HEADER_BYTES_MAX + 1).to_be_bytes()), HandoverError::TooLong { .. }));
        assert!(matches!(refused(&frame("nonsense")), HandoverError::Malformed(_)));
        assert!(matches!(refused(&frame(r#"{"protocol":1}"#)), HandoverError::Malformed(_)));
    }

    #[test]
    fn missing_or_wrong_sockets_are_refused() {
        let (listeners, addresses) = bind(2);
        let announced = frame(&serde_json::to_string(&header(addresses.clone())).expect("JSON"));
        assert!(matches!(refused(&announced), HandoverError::Ended), "the end instead of sockets");
        assert!(matches!(refused(&[&announced[..], b"S"].concat()), HandoverError::Malformed(_)), "a byte without sockets");
        let offered = |addresses: &[SocketAddr], sockets: &[BorrowedFd<'_>]| {
            let (old, new) = UnixStream::pair().expect("a pair");
            offer(&old, &header(addresses.to_vec()), sockets, soon()).expect("sent");
            drop(old);
            receive_offer(&new, soon()).map(|received| received.sockets.len())
        };
        let [first, second] = [listeners[0].as_fd(), listeners[1].as_fd()];
        assert!(matches!(offered(&addresses, &[first, second]), Ok(2)));
        assert!(matches!(offered(&addresses, &[second, first]), Err(HandoverError::Malformed(_))), "swapped");
        assert!(matches!(offered(&addresses[..1], &[first, second]), Err(HandoverError::Malformed(_))), "too many");
        let client = TcpStream::connect(addresses[0]).expect("connected");
        assert!(matches!(offered(&addresses[..1], &[client.as_fd()]), Err(HandoverError::Malformed(_))), "not listening");
    }

    #[test]
    fn waiting_has_an_end() {
        let (old, _new) = UnixStream::pair().expect("a pair");
        let error = receive_answer(&old, Instant::now() + Duration::from_millis(20)).expect_err("nobody answers");
        assert!(matches!(error, HandoverError::Timeout));
        // A receiver that reads nothing: the header does not fit into the socket's buffer.
        let mut big = header(Vec::new());
        big.program = "x".repeat(4 * 1024 * 1024);
        let error = offer(&old, &big, &[], Instant::now() + Duration::from_millis(20)).expect_err("nobody reads");
        assert!(matches!(error, HandoverError::Timeout));
    }

    /// What becomes of a handover to a program that is none of ours.
    fn hand_over_to(script: &str, patience: Duration) -> HandoverError {
        let launch = Launch { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] };
        let (listeners, addresses) = bind(3);
        let borrowed: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let deadline = Instant::now() + patience;
        let error = launch.hand_over(launch.program(), (&ours, theirs), &header(addresses.clone()), &borrowed, deadline, |_| false);
        for (listener, address) in listeners.iter().zip(addresses) {
            let _client = TcpStream::connect(address).expect("the old one still listens");
            listener.accept().expect("the old one still accepts");
        }
        error.expect_err("not one of ours")
    }

    #[test]
    fn a_program_that_fails_leaves_the_old_one_serving() {
        let patience = Duration::from_secs(10);
        assert!(matches!(hand_over_to("exit 3", patience), HandoverError::Exited(status) if status.code() == Some(3)));
        assert!(matches!(hand_over_to("kill -9 $$", patience), HandoverError::Exited(status) if status.code().is_none()));
        // It takes everything, sockets included, and dies before it is ready.
        assert!(matches!(hand_over_to("head -c 4 >/dev/null; exit 1", patience), HandoverError::Exited(_)));
        assert!(matches!(hand_over_to("exec sleep 60", Duration::from_millis(100)), HandoverError::Timeout));
        let refusal = r#"printf '\000\000\000\022{"failed":"no no"}' >&0; exec sleep 60"#;
        assert!(matches!(hand_over_to(refusal, patience), HandoverError::Refused(reason) if reason == "no no"));
        let ready = r#"printf '\000\000\000\013{"ready":7}' >&0; exec sleep 60"#;
        assert!(matches!(hand_over_to(ready, patience), HandoverError::Stopping));
        let launch = Launch { program: "/nonexistent/weir".into(), arguments: Vec::new() };
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let error = launch.hand_over(launch.program(), (&ours, theirs), &header(Vec::new()), &[], soon(), |_| true).expect_err("not there");
        assert!(error.to_string().starts_with("cannot start /nonexistent/weir"));
    }

    #[test]
    fn the_program_is_found_again_after_it_was_replaced() {
        let search = OsString::from("/nonexistent:/bin:/usr/bin");
        let check = |name: &str| program_path(OsStr::new(name), Some(&search));
        assert_eq!(check("/opt/weir/bin/weir"), Some("/opt/weir/bin/weir".into()));
        assert_eq!(check("sh"), Some("/bin/sh".into()));
        assert_eq!(check("./weir"), Some(std::env::current_dir().expect("somewhere").join("weir")));
        assert_eq!(check("no-such-program-anywhere"), None);
        assert_eq!(check(""), None);
    }
}
