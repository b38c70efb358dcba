//! By short message, through a centre that speaks SMPP 3.4 as a transmitter: one session for each message.
//!
//! Our own, and small, as the session with a mail server is, and for the same reasons: each step is shown, and whether a message may have
//! arrived is known only to who sends its bytes.

mod pdu;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weir_config::{Language, SmppChannel};

use super::progress::Progress;
use super::sms;
use super::sms::length::{self, Alphabet};
use super::{Channel, Delivery, Fault, FaultKind, Receipt};
use crate::message::Message;
use crate::secret::Secret;
use crate::tls;
use crate::transcript::Transcript;
#[doc(hidden)]
pub use pdu::fuzz;
use pdu::{DEFAULT_ALPHABET, HEAD, Pdu, Submit, UCS2, command};

/// Section 5.2.2: nine bytes with the zero that ends it.
const PASSWORD_BYTES_MAX: usize = 8;
/// What a centre may say of itself before it answers.
const PDUS_MAX: usize = 100;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A centre.
#[derive(Debug)]
pub struct Smpp {
    settings: SmppChannel,
    language: Language,
    progress: Progress,
}

impl Smpp {
    /// With texts in this language.
    pub fn new(settings: SmppChannel, language: Language) -> Smpp {
        Smpp { settings, language, progress: Progress::default() }
    }

    async fn send(&self, message: &Message, transcript: &mut Transcript) -> Result<Receipt, Fault> {
        let SmppChannel { from, to, parts_max, always_ucs2, .. } = &self.settings;
        let text = sms::text(message, self.language.tag(), usize::try_from(*parts_max).unwrap_or(1), *always_ucs2);
        let parts = parts(&text, &message.key, *always_ucs2);
        let mut session = Session::open(&self.settings, transcript).await?;
        let (told, mut said, mut refused) = (self.progress.of(&message.key), String::new(), Vec::new());
        let mut count = told.len();
        for to in to.iter().filter(|to| !told.contains(*to)) {
            match session.submit(from, to, &parts).await {
                Ok(id) => {
                    self.progress.add(&message.key, to);
                    (said, count) = (format!("taken as {id}"), count + 1);
                }
                Err(fault) if fault.kind == FaultKind::Permanent => refused.push((to, fault)),
                Err(fault) => return Err(fault),
            }
        }
        session.unbind().await;
        self.progress.forget(&message.key);
        if let Some((_, fault)) = refused.pop_if(|_| count == 0) {
            return Err(fault);
        }
        // Others were told; another attempt would tell nobody else.
        refused.iter().for_each(|(to, fault)| said.push_str(&format!("; not to {to}: {fault}")));
        Ok(Receipt { reference: None, said: transcript.clean(said) })
    }
}

impl Channel for Smpp {
    fn deliver<'a>(&'a self, message: &'a Message, transcript: &'a mut Transcript) -> Delivery<'a> {
        Box::pin(self.send(message, transcript))
    }
}

/// A part of a text: its number among others, how it is written, and its bytes.
type Part = (Option<(u8, u8, u8)>, u8, Vec<u8>);

fn parts(text: &str, key: &str, always_ucs2: bool) -> Vec<Part> {
    let alphabet = if always_ucs2 { Alphabet::Ucs2 } else { Alphabet::of(text) };
    let parts = length::parts_in(text, alphabet);
    let count = u8::try_from(parts.len()).unwrap_or(u8::MAX);
    // Equal for each attempt: a phone that gets a part again knows it.
    let reference = key.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    let encode = |(number, part): (u8, &String)| {
        let place = (count > 1).then_some((reference, count, number));
        match alphabet {
            Alphabet::Gsm => (place, DEFAULT_ALPHABET, part.chars().filter_map(length::codes).flatten().collect()),
            Alphabet::Ucs2 => (place, UCS2, part.encode_utf16().flat_map(u16::to_be_bytes).collect()),
        }
    };
    (1..).zip(&parts).map(encode).collect()
}

struct Session<'t> {
    stream: Box<dyn Stream>,
    transcript: &'t mut Transcript,
    server: String,
    sequence: u32,
}

impl<'t> Session<'t> {
    /// Connects and binds.
    async fn open(settings: &SmppChannel, transcript: &'t mut Transcript) -> Result<Session<'t>, Fault> {
        let SmppChannel { host, port, tls, user, password, system_type, ca_file, .. } = settings;
        let secret = Secret::read(password).map_err(|error| Fault::permanent(error.to_string()))?;
        transcript.hide(&secret);
        if secret.expose().len() > PASSWORD_BYTES_MAX {
            return Err(Fault::permanent(format!(
                "the password in {password} is longer than the {PASSWORD_BYTES_MAX} bytes that SMPP takes"
            )));
        }
        let server = format!("{host}:{port}");
        let config = if *tls { Some(tls::client_config(ca_file.as_deref()).map_err(Fault::permanent)?) } else { None };
        transcript.note(format!("connecting to {server}"));
        let stream = TcpStream::connect((host.as_str(), *port)).await;
        let stream = stream.map_err(|error| Fault::temporary(format!("cannot connect to {server}: {error}")))?;
        let stream: Box<dyn Stream> = match config {
            None => Box::new(stream),
            Some(config) => {
                let name =
                    ServerName::try_from(host.clone()).map_err(|_| Fault::permanent(format!("{host:?} is no name for a certificate")))?;
                let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| tls::fault(&server, &error))?;
                let version = stream.get_ref().1.protocol_version().map_or("?".to_owned(), |version| format!("{version:?}"));
                transcript.note(format!("{version} with {server}"));
                Box::new(stream)
            }
        };
        let mut session = Session { stream, transcript, server, sequence: 0 };
        session.transcript.us(format!("bind_transmitter as {user}"));
        let answer = session.ask(command::BIND_TRANSMITTER, &pdu::bind(user, secret.expose(), system_type)).await?;
        session.good(&answer, "the bind")?;
        session.transcript.them(format!("bound; it calls itself {:?}", answer.text()));
        Ok(session)
    }

    /// All parts for one number; the name that the centre gave to the last.
    async fn submit(&mut self, from: &str, to: &str, parts: &[Part]) -> Result<String, Fault> {
        let mut id = String::new();
        for (part, coding, text) in parts {
            let shown = part.map_or(String::new(), |(_, count, number)| format!(", part {number} of {count}"));
            self.transcript.us(format!("submit_sm to {to}, {} bytes in coding {coding}{shown}", text.len()));
            self.transcript.hand_over();
            let submit = Submit { from, to, coding: *coding, part: *part, text };
            let answer = self.ask(command::SUBMIT, &pdu::submit(&submit)).await?;
            self.good(&answer, "the message")?;
            id = answer.text();
            self.transcript.them(format!("taken as {id:?}"));
        }
        Ok(self.transcript.clean(id))
    }

    /// Says goodbye; whether the centre hears it changes nothing.
    async fn unbind(&mut self) {
        self.transcript.us("unbind");
        let _ = self.ask(command::UNBIND, b"").await;
    }

    /// Sends a request and waits for its answer; meanwhile the centre may ask whether we are there.
    async fn ask(&mut self, command: u32, body: &[u8]) -> Result<Pdu, Fault> {
        self.sequence += 1;
        let sequence = self.sequence;
        self.write(&pdu::encode(command, 0, sequence, body)).await?;
        for _ in 0..PDUS_MAX {
            let pdu = self.read().await?;
            match pdu.command {
                // What cannot be read has no number.
                command::GENERIC_NACK if pdu.sequence == sequence || pdu.sequence == 0 => {
                    self.transcript.them(format!("generic_nack, status {:#x}", pdu.status));
                    return Ok(Pdu { status: pdu.status.max(1), ..pdu });
                }
                answer if answer == command | command::RESPONSE && pdu.sequence == sequence => return Ok(pdu),
                command::ENQUIRE_LINK => {
                    self.transcript.them("enquire_link");
                    self.write(&pdu::encode(command::ENQUIRE_LINK | command::RESPONSE, 0, pdu.sequence, b"")).await?;
                }
                command::UNBIND => {
                    self.transcript.them("unbind");
                    let _ = self.write(&pdu::encode(command::UNBIND | command::RESPONSE, 0, pdu.sequence, b"")).await;
                    return Err(Fault::broken(self.transcript, format!("{} ended the session", self.server)));
                }
                other => self.transcript.them(format!("command {other:#010x}, which is no answer to this")),
            }
        }
        Err(Fault::broken(self.transcript, format!("{} speaks without end", self.server)))
    }

    fn good(&mut self, answer: &Pdu, what: &str) -> Result<(), Fault> {
        if answer.status == 0 {
            return Ok(());
        }
        let (why, may_pass) = pdu::status(answer.status);
        self.transcript.them(format!("status {:#x}: {why}", answer.status));
        let text = format!("{} refuses {what}: {why} (status {:#x})", self.server, answer.status);
        Err(if may_pass { Fault::temporary(text) } else { Fault::permanent(text) })
    }

    async fn read(&mut self) -> Result<Pdu, Fault> {
        let mut first = [0; 4];
        self.stream.read_exact(&mut first).await.map_err(|error| self.lost(&error))?;
        let odd = |transcript: &Transcript, server: &str| Fault::broken(transcript, format!("{server} does not speak SMPP"));
        let Some(length) = pdu::length(first) else { return Err(odd(self.transcript, &self.server)) };
        let mut bytes = vec![0; length.max(HEAD)];
        bytes[..4].copy_from_slice(&first);
        self.stream.read_exact(&mut bytes[4..]).await.map_err(|error| self.lost(&error))?;
        pdu::read(&bytes).ok_or_else(|| odd(self.transcript, &self.server))
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let written = match self.stream.write_all(bytes).await {
            Ok(()) => self.stream.flush().await,
            error => error,
        };
        written.map_err(|error| self.lost(&error))
    }

    fn lost(&self, error: &std::io::Error) -> Fault {
        if tls::is_certificate(error) {
            return tls::fault(&self.server, error);
        }
        Fault::broken(self.transcript, format!("the session with {} ended: {error}", self.server))
    }
}
