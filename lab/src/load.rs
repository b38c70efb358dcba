//! Clients that ask at a steady rate and keep account of every request: for tests, and for a person who wants to see what clients see.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Clients at once; each has one connection.
const CLIENTS: u64 = 8;
/// Requests that are remembered until somebody takes them; older ones go.
const KEPT_MAX: usize = 100_000;
/// A new connection is given up after so long, and after so long an answer is; with patience sooner.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(20);
/// With patience a new connection is tried again soon: while an address moves, nobody answers, and the kernel itself would ask only every second.
const CONNECT_AGAIN: Duration = Duration::from_millis(100);

/// Clients, until they are stopped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

/// One request that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// When it ended.
    pub at: SystemTime,
    /// How long it took, with everything that was tried for it.
    pub took: Duration,
    /// How often it was sent.
    pub tries: u32,
    /// The body's first line, or what went wrong.
    pub outcome: Result<String, String>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    patience: Duration,
    /// Requests a second, all clients together.
    rate: AtomicU64,
    stop: AtomicBool,
    done: AtomicU64,
    failures: Mutex<Vec<String>>,
    asked: Mutex<VecDeque<Asked>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// Begins to ask, `rate` times a second. Whatever goes wrong is a failure.
    pub fn start(target: SocketAddr, rate: u64) -> Load {
        Load::patient(target, rate, Duration::ZERO)
    }

    /// The same with clients that do what HTTP lets them do: a request that may be repeated, as these may, is sent again over a new connection when
    /// its own breaks, or when the answer is 502, 503 or 504. It fails when `patience` is over.
    pub fn patient(target: SocketAddr, rate: u64, patience: Duration) -> Load {
        let shared = Arc::new(Shared {
            target,
            patience,
            rate: AtomicU64::new(rate),
            stop: AtomicBool::new(false),
            done: AtomicU64::new(0),
            failures: Mutex::default(),
            asked: Mutex::default(),
        });
        let client = |number| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.client(number))
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { shared, clients }
    }

    /// From now on so many a second.
    pub fn set_rate(&self, rate: u64) {
        self.shared.rate.store(rate, Ordering::Relaxed);
    }

    /// What went wrong until now.
    pub fn failures(&self) -> Vec<String> {
        lock(&self.shared.failures).clone()
    }

    /// The requests that ended since the last call.
    pub fn take(&self) -> Vec<Asked> {
        lock(&self.shared.asked).drain(..).collect()
    }

    /// Ends it, and says how many requests were answered.
    pub fn stop(self) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        self.shared.done.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn client(&self, number: u64) {
        let mut connection = None;
        let pace = || Duration::from_micros(1_000_000 * CLIENTS / self.rate.load(Ordering::Relaxed).max(1));
        // One after the other, not all at once.
        let mut next = Instant::now() + pace().mul_f64(number as f64 / CLIENTS as f64);
        while !self.stop.load(Ordering::Relaxed) {
            // In short steps, for the rate may rise meanwhile.
            let wait = next.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait.min(Duration::from_millis(50)));
                next = next.min(Instant::now() + pace());
                continue;
            }
            next += pace();
            let asked = self.ask(&mut connection);
            match &asked.outcome {
                Ok(_) => _ = self.done.fetch_add(1, Ordering::Relaxed),
                Err(why) => lock(&self.failures).push(why.clone()),
            }
            let mut all = lock(&self.asked);
            if all.len() == KEPT_MAX {
                all.pop_front();
            }
            all.push_back(asked);
            drop(all);
            // The pace is what is wanted; what was missed is not made up for.
            next = next.max(Instant::now() - Duration::from_secs(1));
        }
    }

    fn ask(&self, connection: &mut Option<TcpStream>) -> Asked {
        let began = Instant::now();
        let mut tries = 0;
        let outcome = loop {
            tries += 1;
            // A node that dies may take the news of that along: whoever was promised an answer by it hears nothing more, and has to ask again while
            // there is patience left.
            let (connect, answer) =
                if self.patience.is_zero() { (CONNECT, ANSWER) } else { (CONNECT_AGAIN, (self.patience / 2).min(ANSWER)) };
            match request(self.target, connection, connect, answer) {
                Ok(body) => break Ok(body),
                Err(Wrong::Answer(why)) => break Err(why),
                Err(Wrong::Passing(why)) => {
                    *connection = None;
                    if began.elapsed() >= self.patience || self.stop.load(Ordering::Relaxed) {
                        break Err(why);
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        };
        if outcome.is_err() {
            *connection = None;
        }
        Asked { at: SystemTime::now(), took: began.elapsed(), tries, outcome }
    }
}

enum Wrong {
    /// The connection could not be had, or broke; or the server says that it cannot now.
    Passing(String),
    /// There was an answer, and not the right one.
    Answer(String),
}

fn request(target: SocketAddr, connection: &mut Option<TcpStream>, connect: Duration, answer: Duration) -> Result<String, Wrong> {
    let words = |error: std::io::Error| Wrong::Passing(error.to_string());
    if connection.is_none() {
        let stream = TcpStream::connect_timeout(&target, connect).map_err(words)?;
        stream.set_read_timeout(Some(answer)).map_err(words)?;
        stream.set_nodelay(true).map_err(words)?;
        *connection = Some(stream);
    }
    let stream = connection.as_mut().expect("it was made");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").map_err(words)?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
            let status = head.lines().next().unwrap_or_default().to_owned();
            match status.split(' ').nth(1) {
                Some("200") => {}
                Some("502" | "503" | "504") => return Err(Wrong::Passing(status)),
                _ => return Err(Wrong::Answer(status)),
            }
            if body.len() >= length.ok_or_else(|| Wrong::Answer("no length".into()))? {
                return Ok(body.lines().next().unwrap_or_default().to_owned());
            }
        }
        match stream.read(&mut buffer).map_err(words)? {
            0 => return Err(Wrong::Passing("closed in the middle".into())),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server whose n-th connection, from 1, is closed after its first request without an answer when `breaks` says so.
    fn server(breaks: fn(usize) -> bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let serve = move |mut stream: TcpStream, is_broken: bool| {
            let mut buffer = [0; 1024];
            while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
                if is_broken || stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\none\n").is_err() {
                    return;
                }
            }
        };
        std::thread::spawn(move || {
            for (at, stream) in listener.incoming().flatten().enumerate() {
                std::thread::spawn(move || serve(stream, breaks(at + 1)));
            }
        });
        address
    }

    /// So many requests, and among them one that is like this.
    fn asked(load: &Load, count: usize, like: fn(&Asked) -> bool) -> Vec<Asked> {
        let mut all = Vec::new();
        crate::wait_for("the requests", Duration::from_secs(30), || {
            all.extend(load.take());
            (all.len() >= count && all.iter().any(like)).then_some(())
        })
        .expect("they are sent");
        all
    }

    #[test]
    fn what_breaks_is_a_failure_for_some_and_sent_again_by_others() {
        let load = Load::start(server(|number| number == 1), 200);
        let all = asked(&load, 20, |one| one.outcome.is_err());
        assert_eq!(load.failures(), ["closed in the middle"]);
        assert_eq!(all.iter().filter(|one| one.outcome == Ok("one".into())).count(), all.len() - 1);
        assert!(load.stop() >= 19);

        let load = Load::patient(server(|number| number == 1), 200, Duration::from_secs(20));
        let all = asked(&load, 20, |one| one.tries > 1);
        assert_eq!(load.failures(), Vec::<String>::new());
        assert!(all.iter().all(|one| one.outcome == Ok("one".into())));
        load.stop();
    }
}
