//! By SNMP: traps, which are sent and hoped for, and informs, which are sent until they are confirmed.
//!
//! Our own encoding: it is four small files, and the libraries there are either know no informs of version 3 or bring a second set of
//! cryptography.

mod ber;
mod event;
mod pdu;
mod usm;

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::net::UdpSocket;
use weir_config::{Language, SnmpAuth, SnmpChannel, SnmpUser, SnmpVersion};

use super::progress::Progress;
use super::{Channel, Delivery, Fault, FaultKind, Receipt};
use crate::message::Message;
use crate::secret::Secret;
use crate::transcript::Transcript;
#[doc(hidden)]
pub use pdu::fuzz;
use pdu::{Answer, Engine, Trouble, Version3, What};
use usm::{Keys, PASSWORD_BYTES_MIN};

/// Until an inform that is not confirmed is sent again.
const RESEND: Duration = Duration::from_secs(2);
/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// An id of an engine begins with the number of an enterprise and this bit; a name follows this byte (RFC 3411).
const ENGINE_OF_ENTERPRISE: u32 = 1 << 31;
const ENGINE_OF_NAME: u8 = 4;
const ENGINE_NAME_BYTES_MAX: usize = 27;
/// From when boots are counted: 2020, so that the number lasts as long as its 31 bits.
const BOOTS_EPOCH_S: u64 = 1_577_836_800;

/// When this process began: for the clock of traps of version 3. Nothing has to be kept for it, for a later process has begun later.
static BEGUN: LazyLock<(Instant, i32)> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    (Instant::now(), i32::try_from(since.saturating_sub(BOOTS_EPOCH_S)).unwrap_or(i32::MAX - 1).max(1))
});

/// Receivers.
#[derive(Debug)]
pub struct Snmp {
    settings: SnmpChannel,
    language: Language,
    progress: Progress,
}

/// Who we are, with secrets read.
enum Identity<'a> {
    Community(Secret),
    User(&'a SnmpUser, Option<(SnmpAuth, Secret, Option<Secret>)>),
}

impl Snmp {
    /// With texts in this language.
    pub fn new(settings: SnmpChannel, language: Language) -> Snmp {
        Snmp { settings, language, progress: Progress::default() }
    }

    async fn send(&self, message: &Message, transcript: &mut Transcript) -> Result<Receipt, Fault> {
        let identity = self.identity(transcript)?;
        let (begun, _) = *BEGUN;
        let up = u32::try_from(begun.elapsed().as_millis() / 10 % (1 << 32)).unwrap_or(0);
        let variables = event::variables(message, self.language.tag(), &self.settings.arc, up);
        let (told, mut said, mut refused) = (self.progress.of(&message.key), String::new(), Vec::new());
        let mut count = told.len();
        for (host, port) in &self.settings.to {
            let name = format!("{host}:{port}");
            if told.contains(&name) {
                continue;
            }
            match self.tell(&identity, &variables, message, (host, *port), transcript).await {
                Ok(answer) => {
                    self.progress.add(&message.key, &name);
                    (said, count) = (answer, count + 1);
                }
                Err(fault) if fault.kind == FaultKind::Permanent => refused.push(fault),
                Err(fault) => return Err(fault),
            }
        }
        self.progress.forget(&message.key);
        if let Some(fault) = refused.pop_if(|_| count == 0) {
            return Err(fault);
        }
        refused.iter().for_each(|fault| said.push_str(&format!("; {fault}")));
        Ok(Receipt { reference: None, said: transcript.clean(said) })
    }

    fn identity(&self, transcript: &mut Transcript) -> Result<Identity<'_>, Fault> {
        let mut read = |source| {
            let secret = Secret::read(source).map_err(|error| Fault::permanent(error.to_string()))?;
            transcript.hide(&secret);
            Ok::<_, Fault>(secret)
        };
        match &self.settings.version {
            SnmpVersion::V2c(None) => Ok(Identity::Community(Secret::from_bytes(b"public".to_vec()))),
            SnmpVersion::V2c(Some(source)) => Ok(Identity::Community(read(source)?)),
            SnmpVersion::V3(user) => {
                let mut master = |auth, source| {
                    let password = read(source)?;
                    if password.expose().len() < PASSWORD_BYTES_MIN {
                        return Err(Fault::permanent(format!(
                            "the password in {source} is shorter than {PASSWORD_BYTES_MIN} bytes, which no receiver takes"
                        )));
                    }
                    Ok(usm::master(auth, &password))
                };
                let Some((auth, source)) = &user.auth else { return Ok(Identity::User(user, None)) };
                let privacy = user.privacy.as_ref().map(|source| master(*auth, source)).transpose()?;
                Ok(Identity::User(user, Some((*auth, master(*auth, source)?, privacy))))
            }
        }
    }

    async fn tell(
        &self,
        identity: &Identity<'_>,
        variables: &[u8],
        message: &Message,
        (host, port): (&str, u16),
        transcript: &mut Transcript,
    ) -> Result<String, Fault> {
        let peer = Peer::open(host, port, transcript).await?;
        let request = random_id();
        let kind = if self.settings.inform { pdu::INFORM } else { pdu::TRAP };
        let pdu = pdu::pdu(kind, request, variables);
        let what = if self.settings.inform { "inform" } else { "trap" };
        match (identity, self.settings.inform) {
            (Identity::Community(community), inform) => {
                let bytes = pdu::version_2c(community.expose(), &pdu);
                transcript.us(format!("{what} {request} of version 2c, {} bytes", bytes.len()));
                transcript.hand_over();
                if !inform {
                    return peer.trap(&bytes).await;
                }
                let is_ours = |answer: &Answer| matches!(answer.what, What::Response(id, _) if id == request);
                let answer = peer.ask(&bytes, None, is_ours, transcript).await?;
                peer.confirmed(&answer, transcript)
            }
            (Identity::User(user, secrets), false) => {
                let (begun, boots) = *BEGUN;
                let time = i32::try_from(begun.elapsed().as_secs()).unwrap_or(i32::MAX);
                let id = user.engine_id.clone().unwrap_or_else(|| engine_of(self.settings.arc.enterprise(), &message.node));
                let engine = Engine { id, boots, time };
                let keys = keys(secrets.as_ref(), &engine.id);
                let bytes = version_3(user, &engine, keys.as_ref(), &pdu, random_id(), false);
                transcript.us(format!("trap {request} of version 3, {} bytes, by engine {}", bytes.len(), hex(&engine.id)));
                transcript.hand_over();
                peer.trap(&bytes).await
            }
            (Identity::User(user, secrets), true) => peer.inform(user, secrets.as_ref(), &pdu, request, transcript).await,
        }
    }
}

impl Channel for Snmp {
    fn deliver<'a>(&'a self, message: &'a Message, transcript: &'a mut Transcript) -> Delivery<'a> {
        Box::pin(self.send(message, transcript))
    }
}

/// One receiver.
struct Peer {
    socket: UdpSocket,
    name: String,
}

impl Peer {
    async fn open(host: &str, port: u16, transcript: &mut Transcript) -> Result<Peer, Fault> {
        let unknown = |error: std::io::Error| Fault::temporary(format!("cannot reach {host}:{port}: {error}"));
        let address = tokio::net::lookup_host((host, port)).await.map_err(unknown)?.next();
        let address = address.ok_or_else(|| Fault::temporary(format!("{host} has no address")))?;
        let any = if address.is_ipv4() { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0_u16; 8], 0)) };
        let socket = UdpSocket::bind(any).await.map_err(unknown)?;
        socket.connect(address).await.map_err(unknown)?;
        transcript.note(format!("sending to {address}"));
        Ok(Peer { socket, name: format!("{host}:{port}") })
    }

    /// Nobody confirms a trap.
    async fn trap(&self, bytes: &[u8]) -> Result<String, Fault> {
        self.socket.send(bytes).await.map_err(|error| Fault::temporary(format!("cannot send to {}: {error}", self.name)))?;
        Ok(format!("sent to {}; a trap is never confirmed", self.name))
    }

    /// First the receiver is asked who it is, then it is told; once again where its clock is not what it said at first.
    async fn inform(
        &self,
        user: &SnmpUser,
        secrets: Option<&(SnmpAuth, Secret, Option<Secret>)>,
        pdu: &[u8],
        request: i32,
        transcript: &mut Transcript,
    ) -> Result<String, Fault> {
        let id = random_id();
        transcript.us(format!("who are you? ({id})"));
        let is_ours = |answer: &Answer| answer.version_3.as_ref().is_some_and(|(answered, _)| *answered == id);
        let answer = self.ask(&pdu::discovery(id), None, is_ours, transcript).await?;
        let Some((_, mut engine)) = answer.version_3.filter(|(_, engine)| !engine.id.is_empty()) else {
            return Err(Fault::permanent(format!("{} does not say which engine it is", self.name)));
        };
        transcript.them(format!("engine {}, boots {}, time {}", hex(&engine.id), engine.boots, engine.time));
        let keys = keys(secrets, &engine.id);
        for is_last in [false, true] {
            let id = random_id();
            let bytes = version_3(user, &engine, keys.as_ref(), pdu, id, true);
            transcript.us(format!("inform {request} of version 3, {} bytes, as {}", bytes.len(), user.name));
            transcript.hand_over();
            let is_ours = |answer: &Answer| match (&answer.version_3, &answer.what) {
                // What is not signed may be anybody's, but for a report that says that the signature is not understood.
                (Some((answered, _)), What::Report(_)) => *answered == id,
                (Some((answered, _)), What::Response(to, _)) => *answered == id && *to == request && answer.is_signed == keys.is_some(),
                (None, _) => false,
            };
            let answer = self.ask(&bytes, keys.as_ref(), is_ours, transcript).await?;
            match (&answer.what, &answer.version_3) {
                (What::Report(Trouble::NotInTimeWindow), Some((_, now))) if answer.is_signed && !is_last => {
                    transcript.them(format!("not in my time: boots {}, time {}", now.boots, now.time));
                    engine = Engine { id: engine.id, ..now.clone() };
                }
                _ => return self.confirmed(&answer, transcript),
            }
        }
        Err(Fault::temporary(format!("{} does not agree about its time", self.name)))
    }

    /// Sends until there is an answer that fits.
    async fn ask(
        &self,
        bytes: &[u8],
        keys: Option<&Keys>,
        is_ours: impl Fn(&Answer) -> bool,
        transcript: &mut Transcript,
    ) -> Result<Answer, Fault> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        // Who drops this future sets the limit.
        loop {
            self.socket.send(bytes).await.map_err(|error| self.unreachable(&error))?;
            let until = tokio::time::Instant::now() + RESEND;
            loop {
                match tokio::time::timeout_at(until, self.socket.recv(&mut buffer)).await {
                    Ok(Ok(length)) => match pdu::read(&buffer[..length], keys).filter(|answer| is_ours(answer)) {
                        Some(answer) => return Ok(answer),
                        None => transcript.note(format!("{length} bytes that are no answer to this")),
                    },
                    Ok(Err(error)) => return Err(self.unreachable(&error)),
                    Err(_) => break,
                }
            }
            transcript.note("no answer; again");
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> Fault {
        Fault::temporary(format!("nobody takes it at {}: {error}", self.name))
    }

    fn confirmed(&self, answer: &Answer, transcript: &mut Transcript) -> Result<String, Fault> {
        match answer.what {
            What::Response(_, 0) => {
                transcript.them("confirmed");
                Ok(format!("confirmed by {}", self.name))
            }
            What::Response(_, status) => {
                transcript.them(format!("refused with status {status}"));
                Err(Fault::permanent(format!("{} refuses the message with status {status}", self.name)))
            }
            What::Report(trouble) => {
                transcript.them(format!("report: {trouble:?}"));
                Err(Fault::permanent(format!("{} does not take the message: {}", self.name, trouble.words())))
            }
        }
    }
}

fn version_3(user: &SnmpUser, engine: &Engine, keys: Option<&Keys>, pdu: &[u8], id: i32, is_reportable: bool) -> Vec<u8> {
    Version3 { id, engine, user: &user.name, keys, salt: random(), is_reportable, pdu }.encode()
}

fn keys(secrets: Option<&(SnmpAuth, Secret, Option<Secret>)>, engine_id: &[u8]) -> Option<Keys> {
    secrets.map(|(auth, signing, privacy)| Keys::new(*auth, signing, privacy.as_ref(), engine_id))
}

/// The id of an engine that is this node: the same for each start.
fn engine_of(enterprise: u32, node: &str) -> Vec<u8> {
    let mut name = node;
    while name.len() > ENGINE_NAME_BYTES_MAX {
        name = &name[..name.char_indices().next_back().map_or(0, |(at, _)| at)];
    }
    [&(enterprise | ENGINE_OF_ENTERPRISE).to_be_bytes()[..], &[ENGINE_OF_NAME], name.as_bytes()].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random_id() -> i32 {
    i32::from_be_bytes(random()) & i32::MAX
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}
