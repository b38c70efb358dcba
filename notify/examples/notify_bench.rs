//! How long it takes from the change of an alarm to bytes on the wire of a channel, alone and while a full outbox drains; and whether whoever
//! raises alarms is held up by that.
//!
//! `scripts/bench notify [--check] [--samples N] [--messages N] [--seconds N] [--pause-ms N]`: an alarm is raised each so many milliseconds until the
//! outbox is empty, at most for so many seconds. The receivers are this program's own: an HTTP server for two
//! webhooks and a UDP socket for traps. Each time is taken when the first bytes of a message are read.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use weir_config::{Notification, NotifyName, Severity};
use weir_notify::engine::{Input, Output, Raise};
use weir_notify::message::{Message, sample};
use weir_notify::outbox::Store;
use weir_notify::service::{self, Handle, Options};

/// Targets: on the wire in 99 of 100 cases; raised while the outbox drains, by the shortest period of an alarm.
const WIRE_MS: f64 = 100.0;
const PERIOD_MS: f64 = 1000.0;
const PATIENCE: Duration = Duration::from_secs(20);
/// How the labels of measured alarms begin.
const MARK: &str = "mark-";

struct Arguments {
    samples: usize,
    messages: usize,
    seconds: u64,
    pause_ms: u64,
    check: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments { samples: 500, messages: 100_000, seconds: 150, pause_ms: 50, check: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|text| text.parse::<usize>().ok()).ok_or(format!("{word} needs a number"));
        match word.as_str() {
            "--check" => found.check = true,
            "--samples" => found.samples = number()?.max(1),
            "--messages" => found.messages = number()?,
            "--seconds" => found.seconds = number()? as u64,
            "--pause-ms" => found.pause_ms = number()? as u64,
            _ => return Err(format!("unknown option {word}; there are --check, --samples N, --messages N, --seconds N, --pause-ms N")),
        }
    }
    Ok(found)
}

/// Where messages arrive: the number of the alarm, and when.
type Arrivals = mpsc::Receiver<(usize, Instant)>;

/// The number behind the mark, wherever in the bytes that is.
fn number_in(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(MARK.len()).position(|window| window == MARK.as_bytes())? + MARK.len();
    let digits: Vec<u8> = bytes[at..].iter().copied().take_while(u8::is_ascii_digit).collect();
    String::from_utf8(digits).ok()?.parse().ok()
}

fn web_server() -> (u16, Arrivals) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let (sender, arrivals) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let (mut bytes, mut buffer, mut first) = (Vec::new(), [0; 16 * 1024], None);
            while let Ok(length) = stream.read(&mut buffer) {
                first.get_or_insert_with(Instant::now);
                bytes.extend_from_slice(&buffer[..length]);
                if length == 0 || is_whole(&bytes) {
                    break;
                }
            }
            // An error: the client is gone, and so is this end.
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
            if let (Some(number), Some(first)) = (number_in(&bytes), first) {
                let _ = sender.send((number, first));
            }
        }
    });
    (port, arrivals)
}

/// Whether the body is there, by its length.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|text| text.parse::<usize>().ok());
    bytes.len() >= end + 4 + length.unwrap_or(0)
}

fn trap_receiver() -> (u16, Arrivals) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("it is bound").port();
    let (sender, arrivals) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_535];
        while let Ok(length) = socket.recv(&mut buffer) {
            let now = Instant::now();
            if let Some(number) = number_in(&buffer[..length]) {
                let _ = sender.send((number, now));
            }
        }
    });
    (port, arrivals)
}

fn notification(full: u16, hook: u16, traps: u16) -> Arc<Notification> {
    let webhook = |name: &str, port: u16| {
        format!(
            "[notify.{name}]\nmessages_per_minute = 0\n[notify.{name}.webhook]\nurl = \"http://127.0.0.1:{port}/\"\nbody = '{{ \"alarm\": \"${{labels.alarm}}\" }}'\n"
        )
    };
    let text = format!(
        "{}{}[notify.traps]\nmessages_per_minute = 0\n[notify.traps.snmp]\nto = \"127.0.0.1:{traps}\"\ninform = false\n\
         [[notify_rule]]\nmatch = [\"by=hook\"]\nnotify = \"hook\"\n[[notify_rule]]\nnotify = \"traps\"\n",
        webhook("full", full),
        webhook("hook", hook)
    );
    let config = weir_config::parse(&text, "bench.toml").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    Arc::new(config.notification)
}

fn start(folder: &Path, notification: Arc<Notification>) -> Handle {
    let report = Box::new(|report| eprintln!("{report:?}"));
    let options = Options { state_dir: Some(folder.to_path_buf()), notification, node: "bench".into(), report };
    service::start(options).expect("a thread")
}

/// Raises alarms one after the other, each when the one before has arrived and `go_on` says so. Milliseconds: until it was raised, and until it was on the wire.
async fn raise_each(
    handle: &Handle,
    by: &str,
    numbers: std::ops::Range<usize>,
    mut go_on: impl FnMut() -> bool,
    arrivals: &Arrivals,
) -> (Vec<f64>, Vec<f64>) {
    let (mut raised, mut wired) = (Vec::new(), Vec::new());
    for number in numbers {
        if !go_on() {
            break;
        }
        let alarm = format!("{MARK}{number}");
        let labels = [("alarm", alarm.as_str()), ("by", by)].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let raise = Raise {
            key: alarm.clone(),
            labels: labels.into(),
            severity: Severity::Warning,
            summary: "measured".into(),
            values: BTreeMap::new(),
            series: None,
        };
        let begun = Instant::now();
        handle.learn(Input::Raise(raise)).await;
        raised.push(begun.elapsed().as_secs_f64() * 1000.0);
        loop {
            let (found, at) = arrivals.recv_timeout(PATIENCE).expect("it arrives");
            if found == number {
                wired.push(at.duration_since(begun).as_secs_f64() * 1000.0);
                break;
            }
        }
    }
    (raised, wired)
}

/// Value below which so many of a hundred are.
fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

fn row(what: &str, values: &[f64], target: f64, missed: &mut bool) {
    let [half, p99, worst] = [50.0, 99.0, 100.0].map(|percent| percentile(values, percent));
    let is_met = p99 <= target;
    *missed |= !is_met;
    println!(
        "{what:<52} {:>6} {half:>9.2} {p99:>9.2} {worst:>9.2}   {}",
        values.len(),
        if is_met { format!("p99 <= {target} ms") } else { format!("MISSED: p99 <= {target} ms") }
    );
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let ((full, filled), (hook, hooked), (traps, trapped)) = (web_server(), web_server(), trap_receiver());
    let notification = notification(full, hook, traps);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut missed = false;
    println!("{:<52} {:>6} {:>9} {:>9} {:>9}", "milliseconds", "times", "half", "p99", "worst");

    let handle = start(folder.path(), notification.clone());
    let count = arguments.samples;
    let (_, wired) = runtime.block_on(raise_each(&handle, "hook", 0..count, || true, &hooked));
    row("alarm to the wire, webhook", &wired, WIRE_MS, &mut missed);
    let (_, wired) = runtime.block_on(raise_each(&handle, "traps", count..2 * count, || true, &trapped));
    row("alarm to the wire, SNMP trap", &wired, WIRE_MS, &mut missed);
    handle.stop();

    // An outbox that is full for one channel, as after a day on which its server was down.
    let begun = Instant::now();
    let mut store = Store::open(&folder.path().join("notify.db")).expect("a store");
    let name = NotifyName::from("full");
    let make = |number: usize| {
        let mut message = Message { incident: format!("full-{number}"), ..sample(&format!("full.{number}"), 1) };
        message.labels.insert("alarm".into(), format!("{MARK}{number}"));
        Output::Tell(name.clone(), Box::new(message))
    };
    for start in (0..arguments.messages).step_by(1000) {
        let batch: Vec<Output> = (start..arguments.messages.min(start + 1000)).map(make).collect();
        store.record(&batch, 1).expect("it is kept");
    }
    drop(store);
    println!("{} messages kept in {:.1} s", arguments.messages, begun.elapsed().as_secs_f64());

    let handle = start(folder.path(), notification);
    filled.recv_timeout(PATIENCE).expect("it drains");
    let begun = Instant::now();
    let (mut drained, mut ended) = (1, begun);
    let go_on = || {
        // The pause between two alarms; it ends with the last message.
        let until = Instant::now() + Duration::from_millis(arguments.pause_ms);
        while drained < arguments.messages
            && let Ok((_, at)) = filled.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            (drained, ended) = (drained + 1, at);
        }
        drained < arguments.messages && begun.elapsed().as_secs() < arguments.seconds
    };
    let (raised, wired) = runtime.block_on(raise_each(&handle, "hook", 2 * count..usize::MAX, go_on, &hooked));
    let took = ended.duration_since(begun).as_secs_f64();
    row("raised, while the outbox drains", &raised, PERIOD_MS, &mut missed);
    row("alarm to the wire, while the outbox drains", &wired, WIRE_MS, &mut missed);
    println!(
        "drained {drained} messages in {took:.1} s: {:.0} a second beside {:.0} measured ones",
        drained as f64 / took,
        wired.len() as f64 / took
    );
    handle.stop();
    if arguments.check && missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
