//! Every frame of a bridge's port, with the time it was seen; and frames of our own making into a host's link.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::net::Lab;

const ETH_P_ALL: u16 = 3;

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub at: Instant,
    pub bytes: Vec<u8>,
}

/// An advertisement in a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advert {
    pub at: Instant,
    pub source: IpAddr,
    pub mac: [u8; 6],
    pub version: u8,
    pub vrid: u8,
    pub priority: u8,
    /// Whether the destination is a group.
    pub group: bool,
}

impl Frame {
    /// The advertisement in it, if it is one. Only looks; the products are judged by tshark.
    pub fn advert(&self) -> Option<Advert> {
        let bytes = &self.bytes;
        let kind = u16::from_be_bytes([*bytes.get(12)?, *bytes.get(13)?]);
        let (source, destination, message): (IpAddr, IpAddr, _) = match kind {
            0x0800 if *bytes.get(23)? == 112 => {
                let address = |at: usize| Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?));
                (address(26)?.into(), address(30)?.into(), bytes.get(14 + usize::from(bytes[14] & 15) * 4..)?)
            }
            0x86dd if *bytes.get(20)? == 112 => {
                let address = |at: usize| Some(Ipv6Addr::from(*bytes.get(at..)?.first_chunk::<16>()?));
                (address(22)?.into(), address(38)?.into(), bytes.get(54..)?)
            }
            _ => return None,
        };
        let [first, vrid, priority, ..] = *message else { return None };
        let mac = *bytes[6..].first_chunk()?;
        let group = destination.is_multicast();
        (first & 15 == 1).then_some(Advert { at: self.at, source, mac, version: first >> 4, vrid, priority, group })
    }

    /// The address that a gratuitous ARP or an unsolicited neighbour advertisement announces, and with which hardware address.
    pub fn announced(&self) -> Option<(IpAddr, [u8; 6])> {
        let bytes = &self.bytes;
        match (bytes.get(12)?, bytes.get(13)?) {
            (8, 6) if bytes.get(28..32)? == bytes.get(38..42)? && bytes[..6] == [0xff; 6] => {
                Some((Ipv4Addr::from(*bytes[28..].first_chunk::<4>()?).into(), *bytes[22..].first_chunk()?))
            }
            (0x86, 0xdd) if *bytes.get(20)? == 58 && *bytes.get(54)? == 136 && bytes[..6] == [0x33, 0x33, 0, 0, 0, 1] => {
                Some((Ipv6Addr::from(*bytes.get(62..)?.first_chunk::<16>()?).into(), *bytes.get(80..)?.first_chunk()?))
            }
            _ => None,
        }
    }
}

#[derive(Default)]
struct Shared {
    frames: Mutex<Vec<Frame>>,
    more: Condvar,
    end: AtomicBool,
}

/// Listens to one port of the bridge: what its host sends and gets.
pub struct Sniffer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

fn packet_socket(interface: &str) -> Socket {
    let protocol = i32::from(ETH_P_ALL.to_be());
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(protocol))).expect("a packet socket, as root");
    let index = rustix::net::netdevice::name_to_index(&socket, interface).expect("the interface is there");
    let mut address = [0u8; 20];
    address[..2].copy_from_slice(&17u16.to_ne_bytes());
    address[2..4].copy_from_slice(&ETH_P_ALL.to_be_bytes());
    address[4..8].copy_from_slice(&index.to_ne_bytes());
    super::bind_packet(socket.as_raw_fd(), &address);
    socket
}

impl Sniffer {
    /// What a host's link carries.
    pub fn new(lab: &Lab, host: &str) -> Sniffer {
        let host = host.to_owned();
        let socket = Lab::inside(&lab.bridge(), move || packet_socket(&host));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        super::age_of_last_packet(socket.as_raw_fd());
        let shared = Arc::new(Shared::default());
        let writer = shared.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0u8; 4096];
            while !writer.end.load(Ordering::Relaxed) {
                let Ok((length, _)) = rustix::net::recv(&socket, &mut buffer[..], rustix::net::RecvFlags::empty()) else { continue };
                // Both clocks in one go, or what was sent before something seems to have come after it. A little late and never early: what
                // follows something at once must not seem to have come before it.
                let at = loop {
                    let began = Instant::now();
                    let age = super::age_of_last_packet(socket.as_raw_fd()).expect("the kernel stamps packets");
                    let now = Instant::now();
                    if now - began < Duration::from_micros(200) {
                        break now - age;
                    }
                };
                let frame = Frame { at, bytes: buffer[..length].to_vec() };
                writer.frames.lock().expect("no panic while held").push(frame);
                writer.more.notify_all();
            }
        });
        Sniffer { shared, thread: Some(thread) }
    }

    /// All frames since `since`.
    pub fn frames(&self, since: Instant) -> Vec<Frame> {
        self.shared.frames.lock().expect("no panic while held").iter().filter(|frame| frame.at >= since).cloned().collect()
    }

    /// All advertisements since `since`.
    pub fn adverts(&self, since: Instant) -> Vec<Advert> {
        self.frames(since).iter().filter_map(Frame::advert).collect()
    }

    /// The first frame since `since` of which `look` makes something.
    pub fn wait<T>(&self, what: &str, since: Instant, patience: Duration, look: impl Fn(&Frame) -> Option<T>) -> T {
        let deadline = Instant::now() + patience;
        let mut frames = self.shared.frames.lock().expect("no panic while held");
        let mut seen = frames.iter().position(|frame| frame.at >= since).unwrap_or(frames.len());
        loop {
            if let Some(found) = frames[seen..].iter().find_map(&look) {
                return found;
            }
            seen = frames.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let adverts: Vec<Advert> = frames.iter().filter_map(Frame::advert).collect();
                panic!("not within {patience:?}: {what}; the last advertisements: {:?}", &adverts[adverts.len().saturating_sub(4)..]);
            }
            frames = self.shared.more.wait_timeout(frames, left).expect("no panic while held").0;
        }
    }

    /// The first advertisement since `since` that `fits`.
    pub fn wait_advert(&self, what: &str, since: Instant, patience: Duration, fits: impl Fn(&Advert) -> bool) -> Advert {
        self.wait(what, since, patience, |frame| frame.advert().filter(|advert| fits(advert)))
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends frames as they are, from a host's interface.
pub struct Injector(Socket);

impl Injector {
    pub fn new(lab: &Lab, host: &str) -> Injector {
        Injector(Lab::inside(&lab.space(host), || packet_socket("eth0")))
    }

    pub fn send(&self, frame: &[u8]) {
        rustix::net::send(&self.0, frame, rustix::net::SendFlags::empty()).expect("the frame leaves");
    }
}
