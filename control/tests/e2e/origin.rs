//! Origins: one in this process that does what a test wants, and real nginx.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::rig::{SOON, Site, wait_until};
use crate::wire::{self, Fingerprint, Framing, Head, Noise, Peer};

/// The most requests an origin remembers.
const REMEMBERED_MAX: usize = 10_000;

/// What an origin does with a connection, from its first byte to its end.
pub(crate) type Behaviour = Arc<dyn Fn(&mut Peer, &Seen) -> io::Result<()> + Send + Sync>;

/// What an origin saw and how it is told to behave.
#[derive(Default)]
pub(crate) struct Seen {
    /// Its name, the body of `/`.
    pub(crate) name: String,
    /// Connections accepted, probes included.
    pub(crate) accepted: AtomicU64,
    /// Connections that carried at least one request which is not a probe.
    pub(crate) carrying: AtomicU64,
    /// Probes.
    pub(crate) probes: AtomicU64,
    /// Request heads, probes not included.
    pub(crate) heads: AtomicU64,
    /// Whole requests, probes not included.
    pub(crate) requests: AtomicU64,
    /// Body bytes it could write.
    pub(crate) written: AtomicU64,
    /// Answers to probes: 503 while set.
    pub(crate) sick: AtomicBool,
    /// Requests to `/held` that wait now.
    pub(crate) holding: AtomicU64,
    log: Mutex<Vec<Head>>,
    gate: Mutex<bool>,
    opened: Condvar,
}

impl Seen {
    /// The heads it saw, probes not included.
    pub(crate) fn log(&self) -> Vec<Head> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets all requests to `/held` go on, now and later.
    pub(crate) fn release(&self) {
        *self.gate.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    fn hold(&self) {
        self.holding.fetch_add(1, Ordering::SeqCst);
        let mut open = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            open = self.opened.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        self.holding.fetch_sub(1, Ordering::SeqCst);
    }

    fn note(&self, head: &Head) {
        self.heads.fetch_add(1, Ordering::SeqCst);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() < REMEMBERED_MAX {
            log.push(head.clone());
        }
    }
}

/// An origin in this process: a thread per connection.
pub(crate) struct Origin {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What it saw.
    pub(crate) seen: Arc<Seen>,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    open: Mutex<HashMap<u64, TcpStream>>,
    stopping: AtomicBool,
}

impl Origin {
    /// One that behaves as [`standard`] says.
    pub(crate) fn start(site: &Site, name: &str) -> Origin {
        Origin::start_at(site.address(), name, standard())
    }

    /// One that behaves so.
    pub(crate) fn behaving(site: &Site, name: &str, behaviour: Behaviour) -> Origin {
        Origin::start_at(site.address(), name, behaviour)
    }

    /// One at a given address.
    pub(crate) fn start_at(address: SocketAddr, name: &str, behaviour: Behaviour) -> Origin {
        let listener = TcpListener::bind(address).expect("binding the origin");
        let seen = Arc::new(Seen { name: name.to_owned(), ..Seen::default() });
        let shared = Arc::new(Shared { behaviour: Mutex::new(behaviour), open: Mutex::default(), stopping: AtomicBool::new(false) });
        let (accepting, counted) = (Arc::clone(&shared), Arc::clone(&seen));
        std::thread::spawn(move || accept(&listener, &accepting, &counted));
        Origin { address, seen, shared }
    }

    /// From the next connection on, or the next request of [`standard`], behave so.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
        self.cut();
    }

    /// Closes all connections.
    pub(crate) fn cut(&self) {
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whole requests so far, probes not included.
    pub(crate) fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// Request heads so far, probes not included.
    pub(crate) fn heads(&self) -> u64 {
        self.seen.heads.load(Ordering::SeqCst)
    }

    /// Connections that carried a request, probes not included.
    pub(crate) fn carrying(&self) -> u64 {
        self.seen.carrying.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.seen.release();
        self.cut();
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, seen: &Arc<Seen>) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let number = seen.accepted.fetch_add(1, Ordering::SeqCst);
        let Ok(copy) = stream.try_clone() else { continue };
        shared.open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, copy);
        let behaviour = Arc::clone(&shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner));
        let (shared, seen) = (Arc::clone(shared), Arc::clone(seen));
        std::thread::spawn(move || {
            if let Ok(mut peer) = Peer::from_stream(stream) {
                // An idle pooled connection is no mistake of the balancer's.
                let _ = peer.stream().set_read_timeout(None);
                // How a connection ends is for the test to judge from its own side.
                let _ = behaviour(&mut peer, &seen);
                shared.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            }
        });
    }
}

/// A plain answer with a body.
pub(crate) fn ok(body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// Reads a head, answers probes by itself, counts the rest; `None` at the end of the connection.
fn next_head(peer: &mut Peer, seen: &Seen, carried: &mut bool) -> io::Result<Option<Head>> {
    while let Some(head) = peer.head()? {
        // What a strict server does, and real ones do (RFC 9112 section 3.2).
        if head.first.ends_with(" HTTP/1.1") && head.all("host").len() != 1 {
            peer.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
            return Ok(None);
        }
        if head.request().1 != "/healthz" {
            if !std::mem::replace(carried, true) {
                seen.carrying.fetch_add(1, Ordering::SeqCst);
            }
            seen.note(&head);
            return Ok(Some(head));
        }
        seen.probes.fetch_add(1, Ordering::SeqCst);
        let status = if seen.sick.load(Ordering::SeqCst) { "503 Service Unavailable" } else { "200 OK" };
        peer.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))?;
    }
    Ok(None)
}

/// A small site. What a path does is listed where it is done.
pub(crate) fn standard() -> Behaviour {
    Arc::new(|peer, seen| {
        let mut carried = false;
        while let Some(head) = next_head(peer, seen, &mut carried)? {
            if head.field("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
                peer.send("HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            if !serve(peer, seen, &head)? {
                return Ok(());
            }
        }
        Ok(())
    })
}

/// Answers one request; `false`: the connection is over.
fn serve(peer: &mut Peer, seen: &Seen, head: &Head) -> io::Result<bool> {
    let (method, target) = head.request();
    let path = target.split('?').next().unwrap_or("");
    let framing = head.request_framing()?;
    if path == "/early" {
        // Answers before the body has come, and ends the connection as a server does that will not read it.
        peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly")?;
        peer.finish_sending()?;
        io::copy(&mut peer.stream(), &mut io::sink())?;
        return Ok(false);
    }
    if path == "/fingerprint" {
        let mut seen_body = Fingerprint::default();
        peer.body(framing, &mut seen_body)?;
        seen.requests.fetch_add(1, Ordering::SeqCst);
        peer.send(ok(format!("{seen_body:?}").as_bytes()))?;
        return Ok(true);
    }
    let mut body = Vec::new();
    let (_, trailers) = peer.body(framing, &mut body)?;
    seen.requests.fetch_add(1, Ordering::SeqCst);
    match path.split('/').nth(1).unwrap_or("") {
        "upgrade" => {
            peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
            loop {
                let bytes = peer.some()?;
                if bytes.is_empty() {
                    peer.send("bye")?;
                    return Ok(false);
                }
                peer.send(bytes)?;
            }
        }
        // The request as it arrived: head, body and trailers.
        "echo" => {
            let mut text = format!("{}\n", head.first);
            for (name, value) in &head.fields {
                text.push_str(&format!("{name}: {value}\n"));
            }
            text.push_str(&format!("\n{}\n", String::from_utf8_lossy(&body)));
            for (name, value) in &trailers {
                text.push_str(&format!("trailer {name}: {value}\n"));
            }
            peer.send(ok(text.as_bytes()))?;
        }
        "204" => peer.send("HTTP/1.1 204 No Content\r\n\r\n")?,
        "304" => peer.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 1000\r\n\r\n")?,
        "trailers" => peer.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n6;note=x\r\n world\r\n0\r\nX-Sum: 42\r\n\r\n",
        )?,
        "until-close" => {
            peer.send("HTTP/1.0 200 OK\r\n\r\nuntil the end")?;
            return Ok(false);
        }
        "hop" => peer.send(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=30\r\nX-Hop: 1\r\n\
             Proxy-Authenticate: Basic\r\nX-End: 2\r\n\r\nok",
        )?,
        "held" => {
            seen.hold();
            peer.send(ok(seen.name.as_bytes()))?;
        }
        // /bytes/COUNT and /chunked/COUNT: reproducible noise.
        kind @ ("bytes" | "chunked") => {
            let count: usize = path.rsplit('/').next().and_then(|word| word.parse().ok()).unwrap_or(0);
            noise(peer, seen, kind == "chunked", count)?;
        }
        _ if method == "HEAD" => peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.name.len()))?,
        _ => peer.send(ok(seen.name.as_bytes()))?,
    }
    Ok(true)
}

/// Bytes of a block of noise.
const BLOCK: usize = 64 * 1024;

/// The seed of [`noise`].
const SEED: u64 = 7;

fn noise(peer: &mut Peer, seen: &Seen, chunked: bool, count: usize) -> io::Result<()> {
    let framing = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {count}") };
    peer.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"))?;
    // One who does not read is what some tests are about.
    peer.stream().set_write_timeout(None)?;
    let mut source = Noise(SEED);
    let mut left = count;
    while left > 0 {
        let block = source.bytes(left.min(BLOCK));
        if chunked {
            peer.send(format!("{:x}\r\n", block.len()))?;
        }
        peer.send(&block)?;
        if chunked {
            peer.send("\r\n")?;
        }
        left -= block.len();
        seen.written.fetch_add(block.len() as u64, Ordering::SeqCst);
    }
    if chunked { peer.send("0\r\n\r\n") } else { Ok(()) }
}

/// What `/bytes/COUNT` and `/chunked/COUNT` send.
pub(crate) fn noise_fingerprint(count: usize) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    let mut source = Noise(SEED);
    let mut left = count;
    while left > 0 {
        let block = source.bytes(left.min(BLOCK));
        left -= block.len();
        fingerprint.write_all(&block).expect("a fingerprint takes everything");
    }
    fingerprint
}

/// How a raw answer ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Orderly.
    Close,
    /// With a reset.
    Reset,
    /// Not at all.
    Stay,
}

/// Reads a request, writes these bytes, ends. Probes are answered well.
pub(crate) fn raw(bytes: Vec<u8>, end: End) -> Behaviour {
    Arc::new(move |peer, seen| {
        let Some(head) = next_head(peer, seen, &mut false)? else { return Ok(()) };
        peer.body(head.request_framing()?, &mut io::sink())?;
        seen.requests.fetch_add(1, Ordering::SeqCst);
        peer.send(&bytes)?;
        match end {
            End::Close => Ok(()),
            End::Reset => peer.reset_on_drop(),
            End::Stay => io::copy(&mut peer.stream(), &mut io::sink()).map(drop),
        }
    })
}

/// Takes requests and never answers. Probes are answered well.
pub(crate) fn silent() -> Behaviour {
    raw(Vec::new(), End::Stay)
}

/// A TCP service: sends back what it gets, then, at the client's half-close, the fingerprint of all of it.
pub(crate) fn tcp_echo() -> Behaviour {
    Arc::new(|peer, _| {
        let mut all = Fingerprint::default();
        loop {
            let bytes = peer.some()?;
            if bytes.is_empty() {
                return peer.send(format!("{all:?}"));
            }
            all.write_all(&bytes)?;
            peer.send(bytes)?;
        }
    })
}

/// A TCP service: reads to the end, then answers with the fingerprint.
pub(crate) fn tcp_sink() -> Behaviour {
    Arc::new(|peer, _| {
        let mut all = Fingerprint::default();
        peer.body(Framing::UntilClose, &mut all)?;
        peer.send(format!("{all:?}"))
    })
}

/// A real nginx in one process, so that a kill -9 ends all of it.
#[derive(Debug)]
pub(crate) struct Nginx {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    name: String,
    folder: std::path::PathBuf,
    child: Option<Child>,
}

impl Nginx {
    /// Starts one that answers its name.
    pub(crate) fn start(site: &Site, name: &str) -> Nginx {
        let mut nginx = Nginx { address: site.address(), name: name.to_owned(), folder: site.path(&format!("nginx-{name}")), child: None };
        std::fs::create_dir_all(nginx.folder.join("html")).expect("a folder for nginx");
        std::fs::write(nginx.folder.join("nginx.conf"), nginx.config()).expect("nginx's configuration");
        nginx.run();
        nginx
    }

    fn config(&self) -> String {
        let Nginx { address, name, folder, .. } = self;
        let folder = folder.display();
        format!(
            "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n\
             events {{ worker_connections 8192; }}\n\
             http {{\n  access_log off;\n  default_type text/plain;\n  client_max_body_size 0;\n\
             client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n  fastcgi_temp_path {folder}/fastcgi;\n\
             uwsgi_temp_path {folder}/uwsgi;\n  scgi_temp_path {folder}/scgi;\n\
             server {{\n    listen {address} backlog=4096;\n    root {folder}/html;\n\
             location = /healthz {{ return 200 \"ok\"; }}\n    location = / {{ return 200 \"{name}\"; }}\n\
             location = /see {{ return 200 \"$request_method $http_host $http_x_forwarded_for $http_x_forwarded_proto $http_x_request_id\"; }}\n\
             }}\n}}\n"
        )
    }

    /// Starts it again after a [`Nginx::kill`].
    pub(crate) fn run(&mut self) {
        let child = Command::new("nginx")
            .arg("-p")
            .arg(&self.folder)
            .arg("-c")
            .arg(self.folder.join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting nginx; scripts/test installs it");
        self.child = Some(child);
        let address = self.address;
        wait_until("nginx to answer", SOON, || wire::get(address, "/healthz").is_ok_and(|response| response.status == 200));
    }

    /// Kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Puts a file where it serves files.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.join("html").join(name), bytes).expect("a file for nginx");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}
