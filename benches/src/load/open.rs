//! Open loop: requests are due at a fixed rate whatever the answers do, and latency counts from the moment a request was due. A proxy that
//! stalls is charged for everything that had to wait (no coordinated omission).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::histogram::Histogram;
use super::response::{Progress, ResponseReader};
use super::{Latency, Outcome, Target, Window};
use crate::cpu;
use crate::poller::{EDGE, EventFlags, Poller};

const TIMER: u64 = u64::MAX;
/// How long the last answers may take after the window.
const GRACE: Duration = Duration::from_secs(2);

struct Connection {
    stream: TcpStream,
    reader: ResponseReader,
    /// When the request under way was due.
    due: Option<Instant>,
}

struct Load {
    poller: Poller,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    /// Requests that are due and found no idle connection.
    waiting: VecDeque<Instant>,
    request: Vec<u8>,
    scratch: Vec<u8>,
    /// Requests due from here on are measured.
    measured_from: Instant,
    latencies: Histogram,
    seen: Outcome,
}

/// Runs `rate` requests a second to the end of the window.
pub(crate) fn run(rate: f64, target: &Target, window: &Window) -> Result<Outcome> {
    if !(rate.is_finite() && rate > 0.0) {
        bail!("the rate must be positive");
    }
    // The default slack of 50 µs would be most of what is measured.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).context("timer slack")?;
    let mut load = connect(target)?;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    load.poller.add(&timer, TIMER, EventFlags::IN)?;

    let began = Instant::now();
    let due = |n: u64| began + Duration::from_secs_f64(n as f64 / rate);
    load.measured_from = began + window.warmup();
    let end = load.measured_from + window.measure();
    let mut next = 0;
    let mut cpu_before = None;
    let mut events = Vec::new();
    loop {
        let now = Instant::now();
        if cpu_before.is_none() && now >= load.measured_from {
            cpu_before = Some(window.cpu_of.map(cpu::snapshot));
        }
        while due(next) <= now && due(next) < end {
            load.issue(due(next))?;
            next += 1;
        }
        if now >= end {
            break;
        }
        arm(&timer, due(next).min(end).saturating_duration_since(Instant::now()))?;
        load.poller.wait(Some(Duration::from_secs(1)), &mut events)?;
        load.handle_events(&events, &timer)?;
    }
    let cpu_ns = window.cpu_of.zip(cpu_before.flatten()).map_or(0, |(pid, before)| before.ns_until(&cpu::snapshot(pid)));
    let elapsed_ns = load.measured_from.elapsed().as_nanos() as u64;
    load.finish(&timer)?;
    Ok(Outcome { elapsed_ns, cpu_ns, latency: Some(load.latency()), ..load.seen })
}

fn connect(target: &Target) -> Result<Load> {
    let poller = Poller::new()?;
    let mut connections = Vec::new();
    for at in 0..target.connections {
        let stream = TcpStream::connect_timeout(&target.target, Duration::from_secs(2)).context("connect")?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        poller.add(&stream, at as u64, EDGE)?;
        connections.push(Connection { stream, reader: ResponseReader::new(), due: None });
    }
    Ok(Load {
        poller,
        idle: (0..connections.len()).collect(),
        connections,
        waiting: VecDeque::new(),
        request: target.request(true),
        scratch: vec![0; 256 * 1024],
        measured_from: Instant::now(),
        latencies: Histogram::new(),
        seen: Outcome::default(),
    })
}

/// Fires once after `left`; an already due timer fires at once.
fn arm(timer: &OwnedFd, left: Duration) -> Result<()> {
    let left = left.max(Duration::from_nanos(1));
    let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    Ok(())
}

impl Load {
    fn issue(&mut self, due: Instant) -> Result<()> {
        let Some(at) = self.idle.pop() else {
            self.waiting.push_back(due);
            return Ok(());
        };
        self.send(at, due)
    }

    fn send(&mut self, at: usize, due: Instant) -> Result<()> {
        let connection = &mut self.connections[at];
        connection.due = Some(due);
        let sent = connection.stream.write(&self.request).context("send")?;
        if sent != self.request.len() {
            bail!("a request did not fit the socket buffer");
        }
        Ok(())
    }

    fn handle_events(&mut self, events: &[(u64, EventFlags)], timer: &OwnedFd) -> Result<()> {
        for &(token, _) in events {
            if token == TIMER {
                // Only to quiet it; who is due is asked of the clock.
                let _ = rustix::io::read(timer, &mut [0u8; 8]);
            } else {
                self.receive(token as usize)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, at: usize) -> Result<()> {
        loop {
            let connection = &mut self.connections[at];
            let read = match connection.stream.read(&mut self.scratch) {
                Ok(0) => bail!("the proxy closed a kept connection"),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e).context("receive"),
            };
            match connection.reader.feed(&self.scratch[..read]) {
                Progress::Partial => continue,
                Progress::Done { ok: true, close: false } => {}
                other => bail!("unexpected answer: {other:?}"),
            }
            let due = connection.due.take().context("an answer without a request")?;
            if due >= self.measured_from {
                self.latencies.record(due.elapsed().as_nanos() as u64);
                self.seen.done += 1;
                self.seen.bytes += read as u64;
            }
            match self.waiting.pop_front() {
                Some(due) => self.send(at, due)?,
                None => self.idle.push(at),
            }
            return Ok(());
        }
    }

    /// Waits for the last answers; those that do not come are errors.
    fn finish(&mut self, timer: &OwnedFd) -> Result<()> {
        let deadline = Instant::now() + GRACE;
        let mut events = Vec::new();
        while self.idle.len() < self.connections.len() && Instant::now() < deadline {
            self.poller.wait(Some(Duration::from_millis(100)), &mut events)?;
            self.handle_events(&events, timer)?;
        }
        self.seen.errors += (self.connections.len() - self.idle.len() + self.waiting.len()) as u64;
        Ok(())
    }

    fn latency(&self) -> Latency {
        let micros = |q| self.latencies.quantile(q) as f64 / 1000.0;
        Latency { p50: micros(0.5), p90: micros(0.9), p99: micros(0.99), p999: micros(0.999), max: self.latencies.max() as f64 / 1000.0 }
    }
}
