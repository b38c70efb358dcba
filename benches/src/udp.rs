//! Our ends of the wire for datagrams: an origin that sends back what it gets, and a load of flows with some packets under way each.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cpu;
use crate::load::{Outcome, Target, Window};
use crate::poller::{EventFlags, Poller};

/// Payload of a packet.
const PACKET: [u8; 64] = [b'x'; 64];
/// Packets under way on each flow.
const UNDER_WAY: u32 = 8;
/// A flow that heard nothing for so long has lost what was under way, and begins anew.
const LOST: Duration = Duration::from_millis(100);
/// The largest packet that is read.
const PACKET_BYTES_MAX: usize = 2048;

/// Sends back what it gets until killed. Prints `ready` once all addresses are bound.
pub(crate) fn serve(listen: &[SocketAddr]) -> Result<()> {
    let mut poller = Poller::new()?;
    let mut sockets = Vec::new();
    for address in listen {
        let socket = UdpSocket::bind(address).with_context(|| format!("bind {address}"))?;
        socket.set_nonblocking(true)?;
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20);
        poller.add(&socket, sockets.len() as u64, EventFlags::IN)?;
        sockets.push(socket);
    }
    println!("ready");
    let (mut events, mut scratch) = (Vec::new(), [0; PACKET_BYTES_MAX]);
    loop {
        poller.wait(None, &mut events)?;
        for (token, _) in &events {
            let socket = &sockets[*token as usize];
            while let Ok((count, from)) = socket.recv_from(&mut scratch) {
                // What finds no room is lost, as on any link.
                let _ = socket.send_to(&scratch[..count], from);
            }
        }
    }
}

struct Flow {
    socket: UdpSocket,
    heard: Instant,
}

/// Each flow sends a packet for each that comes back. `done` counts both.
pub(crate) fn run(target: &Target, window: &Window) -> Result<Outcome> {
    let mut poller = Poller::new()?;
    let mut flows = Vec::new();
    for at in 0..target.connections {
        let socket = UdpSocket::bind((if target.target.is_ipv4() { "127.0.0.1" } else { "::1" }, 0))?;
        socket.connect(target.target)?;
        socket.set_nonblocking(true)?;
        poller.add(&socket, at as u64, EventFlags::IN)?;
        flows.push(Flow { socket, heard: Instant::now() });
    }
    flows.iter_mut().for_each(begin);
    let mut seen = Outcome::default();
    run_for(&mut poller, &mut flows, window.warmup(), &mut seen)?;
    seen = Outcome::default();
    let before = window.cpu_of.map(cpu::snapshot);
    let began = Instant::now();
    run_for(&mut poller, &mut flows, window.measure(), &mut seen)?;
    let elapsed = began.elapsed();
    let cpu_ns = window.cpu_of.zip(before).map_or(0, |(pid, before)| before.ns_until(&cpu::snapshot(pid)));
    Ok(Outcome { elapsed_ns: elapsed.as_nanos() as u64, cpu_ns, ..seen })
}

fn begin(flow: &mut Flow) {
    flow.heard = Instant::now();
    for _ in 0..UNDER_WAY {
        let _ = flow.socket.send(&PACKET);
    }
}

fn run_for(poller: &mut Poller, flows: &mut [Flow], duration: Duration, seen: &mut Outcome) -> Result<()> {
    let deadline = Instant::now() + duration;
    let (mut events, mut scratch) = (Vec::new(), [0; PACKET_BYTES_MAX]);
    let mut looked = Instant::now();
    while Instant::now() < deadline {
        poller.wait(Some(Duration::from_millis(10)), &mut events)?;
        let now = Instant::now();
        for (token, _) in &events {
            let flow = &mut flows[*token as usize];
            loop {
                match flow.socket.recv(&mut scratch) {
                    Ok(count) => {
                        flow.heard = now;
                        seen.done += 2;
                        seen.bytes += count as u64;
                        let _ = flow.socket.send(&PACKET);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {
                        seen.errors += 1;
                        break;
                    }
                }
            }
        }
        if now - looked >= LOST {
            looked = now;
            for flow in flows.iter_mut().filter(|flow| now - flow.heard >= LOST) {
                seen.reconnects += 1;
                begin(flow);
            }
        }
    }
    Ok(())
}
