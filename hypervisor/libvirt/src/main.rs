//! `weir-libvirt`: the process in which `weir` lets libvirt's C library run, one for each host.
//!
//! ```text
//!   weir ──stdin──► reader ──► a thread for each call, at most CALLS_MAX ──► libvirt ──► libvirtd
//!        ◄─stdout── whoever is done, under one lock
//! ```
//!
//! `weir` starts it, speaks the protocol of `weir_hypervisor::protocol` with it, and kills it when a call does not come back in time. It
//! keeps no state of its own: whatever it knew can be asked again. When its standard input ends, and that is when `weir` ends in any way,
//! it ends at once, in the middle of a call if need be; the reader makes no call that could hang. (The kernel's parent-death signal would not
//! do: it follows the thread that started the child, and not the process.)

mod calls;
mod connection;
mod convert;
mod sys;

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use weir_hypervisor::protocol::{Answer, Fault, FaultKind, HEADER_BYTES, Header, Request, encode};

use connection::Connection;

/// Calls that run at once; more wait. libvirtd itself serves five of one client at a time by default, and queues the others.
const CALLS_MAX: usize = 16;

fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        let about = "weir-libvirt is started by weir for each [host.NAME] and speaks with it over standard input and output.";
        println!("{} {}\n{about}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    sys::prepare();
    let connection = Arc::new(Connection::default());
    let gate = Arc::new(Gate::default());
    let mut input = io::stdin().lock();
    loop {
        match read(&mut input) {
            Ok(Some((call, request, payload))) => {
                let (connection, gate) = (connection.clone(), gate.clone());
                let work = move || {
                    gate.enter();
                    let outcome = calls::carry_out(&connection, request, &payload);
                    answer(call, outcome);
                    gate.leave();
                };
                if std::thread::Builder::new().name("call".into()).spawn(work).is_err() {
                    return ExitCode::FAILURE;
                }
            }
            Ok(None) => std::process::exit(0),
            Err(error) => {
                eprintln!("weir-libvirt: {error}");
                std::process::exit(1);
            }
        }
    }
}

/// The next request; `None` at the end of the input.
fn read(input: &mut impl Read) -> io::Result<Option<(u64, Request, Vec<u8>)>> {
    let mut header = [0; HEADER_BYTES];
    match input.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let header = Header::parse(&header)?;
    let mut json = vec![0; header.json_bytes];
    input.read_exact(&mut json)?;
    let mut payload = vec![0; header.payload_bytes];
    input.read_exact(&mut payload)?;
    Ok(Some((header.call, serde_json::from_slice(&json)?, payload)))
}

/// An answer that cannot be sent has no reader any more.
fn answer(call: u64, outcome: Result<(Answer, Vec<u8>), Fault>) {
    let too_long = |error: io::Error| Fault { kind: FaultKind::Other, message: format!("the answer cannot be sent: {error}") };
    let frame = match &outcome {
        Ok((answer, payload)) => encode(call, &Ok::<_, Fault>(answer), payload),
        Err(fault) => encode(call, &Err::<Answer, _>(fault), &[]),
    };
    let frame = frame.or_else(|error| encode(call, &Err::<Answer, _>(too_long(error)), &[]));
    let mut output = io::stdout().lock();
    if frame.and_then(|frame| output.write_all(&frame)).and_then(|()| output.flush()).is_err() {
        std::process::exit(1);
    }
}

/// Lets so many calls run at once.
#[derive(Default)]
struct Gate {
    running: Mutex<usize>,
    left: Condvar,
}

impl Gate {
    fn enter(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while *running >= CALLS_MAX {
            running = self.left.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        *running += 1;
    }

    fn leave(&self) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.left.notify_one();
    }
}
