//! The process `weir-libvirt` of one host, supervised.
//!
//! ```text
//!   ┌─► start ──► Hello, Open ──► serve ──┐
//!   │                                     │ it ended, its connection broke, or a call passed its deadline
//!   └── wait, longer each time ◄── kill ◄─┘
//! ```
//!
//! Why a process: libvirt is a large C library that blocks, keeps threads of its own and now and then crashes or hangs with the daemon at the
//! other end. Here it shares nothing with the data plane but a pipe, a node that only balances need not have it installed, and the one remedy
//! that always works against a hanging call, to kill it, is at hand. One process for each host, so that one host's trouble is not another's.
//!
//! A call that passes its deadline ends the process: what hangs in the library cannot be taken back otherwise. The calls beside it fail too;
//! every one of them can be repeated. The process ends by itself when its standard input does, also when we are killed.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::driver::{Boxed, Driver, Reply};
use crate::error::CallError;
use crate::protocol::{Answer, Fault, HEADER_BYTES, Header, Request, VERSION, encode};

/// Calls that wait to be sent.
const QUEUE_MAX: usize = 256;

/// Waits between two starts, doubled from the first to the second.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A connection that lived so long was a good one: the next wait is short again.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// A deadline that is noticed so late was missed because this process did not run: what arrived meanwhile is read before anybody is blamed.
const LATE: Duration = Duration::from_millis(500);

/// The greeting needs no libvirtd.
const HELLO_MAX: Duration = Duration::from_secs(5);

/// A handle on the supervised process. It ends when the handle is dropped.
pub struct Agent {
    calls: mpsc::Sender<Call>,
    link: watch::Receiver<Link>,
    supervisor: JoinHandle<()>,
}

/// `Ok`: connected, and the driver's name.
type Link = Result<String, String>;

type AnswerFrame = (u64, Result<Answer, Fault>, Vec<u8>);

struct Call {
    request: Request,
    payload: Vec<u8>,
    deadline: Duration,
    reply: oneshot::Sender<Reply>,
}

struct Waiting {
    what: &'static str,
    after: Duration,
    until: Instant,
    /// Its deadline was moved once.
    forgiven: bool,
    reply: oneshot::Sender<Reply>,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("link", &*self.link.borrow()).finish_non_exhaustive()
    }
}

impl Agent {
    /// Starts to supervise `program` for this URI. Must be called inside a tokio runtime. `connect`: how long a connection may take.
    pub fn start(program: PathBuf, uri: String, connect: Duration) -> Agent {
        let (calls, queue) = mpsc::channel(QUEUE_MAX);
        let (state, link) = watch::channel(Err("connecting for the first time".to_owned()));
        let supervisor = tokio::spawn(supervise(program, uri, connect, queue, state));
        Agent { calls, link, supervisor }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Driver for Agent {
    fn call(&self, request: Request, payload: Vec<u8>, deadline: Duration) -> Boxed<'_, Reply> {
        Box::pin(async move {
            if let Err(why) = self.link() {
                return Err(CallError::Down(why));
            }
            let (reply, mut answer) = oneshot::channel();
            let what = request.what();
            let call = Call { request, payload, deadline, reply };
            if self.calls.try_send(call).is_err() {
                return Err(CallError::Down(format!("more than {QUEUE_MAX} calls wait")));
            }
            // The supervisor keeps the deadline; this one only stands behind it. Where both are late the supervisor has its turn first.
            for patience in [deadline + LATE, 2 * LATE] {
                match tokio::time::timeout(patience, &mut answer).await {
                    Ok(Ok(reply)) => return reply,
                    Ok(Err(_)) => return Err(CallError::Down(self.link().err().unwrap_or("weir-libvirt was restarted".into()))),
                    Err(_) => {}
                }
            }
            Err(CallError::Timeout { what, after: deadline })
        })
    }

    fn link(&self) -> Result<String, String> {
        self.link.borrow().clone()
    }
}

async fn supervise(program: PathBuf, uri: String, connect: Duration, mut queue: mpsc::Receiver<Call>, state: watch::Sender<Link>) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let (why, lived) = match Session::start(&program) {
            Ok(mut session) => {
                let outcome = session.greet(&uri, connect).await;
                match outcome {
                    Ok(driver) => {
                        info!(%uri, %driver, "connected");
                        let since = Instant::now();
                        let _ = state.send_replace(Ok(driver));
                        let why = session.serve(&mut queue).await;
                        let _ = state.send_replace(Err(why.clone()));
                        session.end(&why).await;
                        (why, since.elapsed())
                    }
                    Err(why) => {
                        session.end(&why).await;
                        (with_advice(why), Duration::ZERO)
                    }
                }
            }
            Err(error) => (start_failed(&program, &error), Duration::ZERO),
        };
        if queue.is_closed() {
            return;
        }
        // Said once for each reason, not once for each try.
        let news = state.borrow().as_ref().err() != Some(&why) || lived > Duration::ZERO;
        if news {
            warn!(%uri, "no connection: {why}");
        }
        let _ = state.send_replace(Err(why));
        backoff = if lived >= GOOD_LIFE { BACKOFF_MIN } else { (backoff * 2).min(BACKOFF_MAX) };
        wait(backoff.mul_f64(0.75 + 0.5 * fastrand::f64()), &mut queue, &state).await;
    }
}

/// What libvirt says when there is no connection, in lower case, and what to do about it.
const ADVICE: [(&str, &str); 9] = [
    ("no connection driver available", "is the URI right? Such as qemu:///system or qemu+ssh://root@HOST/system"),
    ("unable to find requested transport", "is the URI right? Such as qemu+ssh:// or qemu+tls://"),
    ("failed to connect socket", "is libvirtd running there, and is the socket's path right?"),
    ("connection refused", "is libvirtd running there, and does it listen for this transport?"),
    ("unable to resolve", "is the host's name right?"),
    ("host key verification failed", "connect once by hand as the user that runs weir: ssh HOST"),
    ("permission denied", "may the user that runs weir connect? Add it to the group libvirt, or its key to the host"),
    ("authentication failed", "may the user that runs weir connect? Look at the host's libvirtd.conf"),
    ("certificate", "look at the certificates in /etc/pki/libvirt and /etc/pki/CA"),
];

fn with_advice(why: String) -> String {
    let lower = why.to_ascii_lowercase();
    match ADVICE.iter().find(|(words, _)| lower.contains(words)) {
        Some((_, advice)) => format!("{why}; {advice}"),
        None => why,
    }
}

fn start_failed(program: &std::path::Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{} is not there: install weir-libvirt beside weir, or name it in WEIR_LIBVIRT", program.display())
        }
        _ => format!("{}: {error}", program.display()),
    }
}

/// Calls that slipped in are refused at once.
async fn wait(time: Duration, queue: &mut mpsc::Receiver<Call>, state: &watch::Sender<Link>) {
    let end = sleep(time);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return,
            call = queue.recv() => {
                let Some(call) = call else { return };
                let why = state.borrow().clone().err().unwrap_or_default();
                let _ = call.reply.send(Err(CallError::Down(why)));
            }
        }
    }
}

/// One run of the process.
struct Session {
    child: Child,
    frames: mpsc::Receiver<io::Result<AnswerFrame>>,
    output: mpsc::Sender<Vec<u8>>,
    waiting: HashMap<u64, Waiting>,
    next: u64,
    helpers: Vec<JoinHandle<()>>,
}

impl Session {
    fn start(program: &PathBuf) -> io::Result<Session> {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(mut stdout), Some(stderr)) = pipes else { return Err(io::Error::other("no pipes")) };
        let (output, mut outgoing) = mpsc::channel::<Vec<u8>>(QUEUE_MAX);
        let (incoming, frames) = mpsc::channel(QUEUE_MAX);
        let writer = tokio::spawn(async move {
            while let Some(frame) = outgoing.recv().await {
                if stdin.write_all(&frame).await.is_err() {
                    return;
                }
            }
        });
        let reader = tokio::spawn(async move {
            loop {
                let frame = read(&mut stdout).await;
                let failed = frame.is_err();
                if incoming.send(frame).await.is_err() || failed {
                    return;
                }
            }
        });
        let listener = tokio::spawn(listen(stderr));
        Ok(Session { child, frames, output, waiting: HashMap::new(), next: 1, helpers: vec![writer, reader, listener] })
    }

    /// Returns the driver's name.
    async fn greet(&mut self, uri: &str, connect: Duration) -> Result<String, String> {
        self.ask(Request::Hello { version: VERSION }, HELLO_MAX).await?;
        match self.ask(Request::Open { uri: uri.into() }, connect).await? {
            Answer::Text(driver) => Ok(driver),
            other => Err(format!("an odd answer: {other:?}")),
        }
    }

    /// A call with nothing beside it.
    async fn ask(&mut self, request: Request, deadline: Duration) -> Result<Answer, String> {
        let what = request.what();
        let (reply, mut answer) = oneshot::channel();
        self.send(Call { request, payload: Vec::new(), deadline, reply });
        let until = Instant::now() + deadline;
        loop {
            tokio::select! {
                biased;
                frame = self.frames.recv() => self.take(frame)?,
                () = sleep_until(until) => return Err(format!("{what} took longer than {} s", deadline.as_secs_f32())),
            }
            if let Ok(reply) = answer.try_recv() {
                return reply.map(|(answer, _)| answer).map_err(|error| error.to_string());
            }
        }
    }

    fn send(&mut self, call: Call) {
        let Call { request, payload, deadline, reply } = call;
        let what = request.what();
        let frame = match encode(self.next, &request, &payload) {
            Ok(frame) => frame,
            Err(error) => {
                let _ = reply.send(Err(CallError::Down(error.to_string())));
                return;
            }
        };
        match self.output.try_send(frame) {
            Ok(()) => {
                let until = Instant::now() + deadline;
                self.waiting.insert(self.next, Waiting { what, after: deadline, until, forgiven: false, reply });
                self.next += 1;
            }
            Err(_) => _ = reply.send(Err(CallError::Down("weir-libvirt does not read".into()))),
        }
    }

    fn take(&mut self, frame: Option<io::Result<AnswerFrame>>) -> Result<(), String> {
        let (call, outcome, payload) = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Err("weir-libvirt ended".into()),
            Some(Err(error)) => return Err(format!("weir-libvirt speaks oddly: {error}")),
            None => return Err("weir-libvirt ended".into()),
        };
        let Some(waiting) = self.waiting.remove(&call) else { return Ok(()) };
        let lost = matches!(&outcome, Err(fault) if fault.kind == crate::protocol::FaultKind::Connection);
        let why = outcome.as_ref().err().map(|fault| fault.message.clone()).unwrap_or_default();
        let _ = waiting.reply.send(outcome.map(|answer| (answer, payload)).map_err(CallError::Fault));
        if lost { Err(why) } else { Ok(()) }
    }

    /// Until it cannot go on; returns why.
    async fn serve(&mut self, queue: &mut mpsc::Receiver<Call>) -> String {
        loop {
            let next = self.waiting.values().map(|waiting| waiting.until).min();
            let deadline = async {
                match next {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What has come is read before a deadline counts.
                biased;
                frame = self.frames.recv() => {
                    if let Err(why) = self.take(frame) {
                        return why;
                    }
                }
                () = deadline => {
                    if let Some(why) = self.expire(Instant::now()) {
                        return why;
                    }
                }
                call = queue.recv() => match call {
                    Some(call) => self.send(call),
                    None => return "not needed any more".into(),
                },
            }
        }
    }

    /// Ends the calls whose time is over.
    fn expire(&mut self, now: Instant) -> Option<String> {
        if forgive(self.waiting.values_mut(), now) {
            return None;
        }
        let late: Vec<u64> = self.waiting.iter().filter(|(_, waiting)| waiting.until <= now).map(|(call, _)| *call).collect();
        let mut why = None;
        for waiting in late.iter().filter_map(|call| self.waiting.remove(call)) {
            let error = CallError::Timeout { what: waiting.what, after: waiting.after };
            why = Some(error.to_string());
            let _ = waiting.reply.send(Err(error));
        }
        why
    }

    async fn end(&mut self, why: &str) {
        for (_, waiting) in self.waiting.drain() {
            let _ = waiting.reply.send(Err(CallError::Down(why.to_owned())));
        }
        let _ = self.child.kill().await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.helpers.iter().for_each(JoinHandle::abort);
    }
}

/// Gives those whose deadline is noticed too late another moment, each once; returns whether it did.
fn forgive<'a>(waiting: impl Iterator<Item = &'a mut Waiting>, now: Instant) -> bool {
    let mut forgiven = false;
    for late in waiting.filter(|waiting| !waiting.forgiven && now.saturating_duration_since(waiting.until) >= LATE) {
        (late.until, late.forgiven, forgiven) = (now + LATE, true, true);
    }
    forgiven
}

async fn read(input: &mut (impl AsyncRead + Unpin)) -> io::Result<AnswerFrame> {
    let mut header = [0; HEADER_BYTES];
    input.read_exact(&mut header).await?;
    let header = Header::parse(&header)?;
    let mut json = vec![0; header.json_bytes];
    input.read_exact(&mut json).await?;
    let mut payload = vec![0; header.payload_bytes];
    input.read_exact(&mut payload).await?;
    Ok((header.call, serde_json::from_slice(&json)?, payload))
}

/// What the process or the library says beside the protocol. Bounded: a line at a time, and long ones are cut.
async fn listen(mut stderr: impl AsyncRead + Unpin) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        for line in String::from_utf8_lossy(&buffer[..length]).lines().filter(|line| !line.trim().is_empty()) {
            debug!(target: "weir_libvirt", "{}", line.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_slept_over_a_deadline_looks_once_more_before_anybody_is_blamed() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut calls = [1000, 5000].map(|ms| Waiting {
            what: "a call",
            after: Duration::from_millis(ms),
            until: at(ms),
            forgiven: false,
            reply: oneshot::channel().0,
        });
        let mut check = |now: u64, expected: bool, until: [u64; 2]| {
            assert_eq!(forgive(calls.iter_mut(), at(now)), expected, "{now}");
            assert_eq!(calls.each_ref().map(|call| call.until), until.map(at), "{now}");
        };
        check(1001, false, [1000, 5000]);
        check(3000, true, [3500, 5000]);
        check(9000, true, [3500, 9500]);
        check(20_000, false, [3500, 9500]);
    }

    #[test]
    fn a_refused_connection_says_what_to_do() {
        let advised = with_advice("Failed to connect socket to '/run/x': No such file or directory".into());
        assert!(advised.starts_with("Failed to connect") && advised.ends_with("is the socket's path right?"), "{advised}");
        assert_eq!(with_advice("something new".into()), "something new");
    }
}
