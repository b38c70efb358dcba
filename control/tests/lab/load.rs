//! Clients that ask at a steady rate and count everything that is not as it should be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients at once.
const CLIENTS: u64 = 8;

#[derive(Default)]
struct Shared {
    /// Requests a second, all clients together.
    rate: AtomicU64,
    stop: AtomicBool,
    done: AtomicU64,
    failures: Mutex<Vec<String>>,
}

pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(target: SocketAddr, rate: u64) -> Load {
        let shared = Arc::new(Shared::default());
        shared.rate.store(rate, Ordering::Relaxed);
        let client = |_| {
            let shared = shared.clone();
            std::thread::spawn(move || client(target, &shared))
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { shared, clients }
    }

    pub(crate) fn set_rate(&self, rate: u64) {
        self.shared.rate.store(rate, Ordering::Relaxed);
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it; how many requests were answered.
    pub(crate) fn stop(self) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        self.shared.done.load(Ordering::Relaxed)
    }
}

fn client(target: SocketAddr, shared: &Shared) {
    let mut connection = None;
    let mut next = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let rate = shared.rate.load(Ordering::Relaxed).max(1);
        next += Duration::from_micros(1_000_000 * CLIENTS / rate);
        match request(target, &mut connection) {
            Ok(()) => _ = shared.done.fetch_add(1, Ordering::Relaxed),
            Err(why) => {
                connection = None;
                shared.failures.lock().unwrap_or_else(PoisonError::into_inner).push(why);
            }
        }
        // The pace is what is wanted; nothing is waited for.
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next = next.max(Instant::now() - Duration::from_secs(1));
    }
}

fn request(target: SocketAddr, connection: &mut Option<TcpStream>) -> Result<(), String> {
    let words = |error: std::io::Error| error.to_string();
    if connection.is_none() {
        let stream = TcpStream::connect_timeout(&target, Duration::from_secs(5)).map_err(words)?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(words)?;
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
            if !head.starts_with("HTTP/1.1 200") {
                return Err(head.lines().next().unwrap_or_default().to_owned());
            }
            if body.len() >= length.ok_or("no length")? {
                return Ok(());
            }
        }
        match stream.read(&mut buffer).map_err(words)? {
            0 => return Err("closed in the middle".into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}
