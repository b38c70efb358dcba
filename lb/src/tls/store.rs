//! What the listeners use now, and keeping it so: files are looked at again and again, keys of tickets change, ends are told in time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use weir_config::{AcmeChallenge, Config, ListenerName, ListenerTls, PoolName, Protocol, TlsVersion, UnknownName};

use super::challenge::{self, Challenges};
use super::client::Connector;
use super::connectors::{self, Connectors, ShownCertificate};
use super::due::Due;
use super::load::{self, LoadProblem, Loaded, Stamps, TlsErrors};
use super::names::Names;
use super::ticket::{SavedTicketKey, TicketKeys, Ticketer};
use crate::event::EventKind;

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Thousands of files take a while to look at: the thread rests so many times as long, but not longer than this.
const PAUSES: u32 = 50;
const LOOK_EVERY_MAX: Duration = Duration::from_secs(30);

/// What a worker needs to take a connection of a listener.
#[derive(Debug)]
pub struct Acceptor {
    config: ArcSwap<ServerConfig>,
    /// Handshakes under way per worker.
    pub handshakes_max: u32,
}

impl Acceptor {
    /// As it is now.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

/// A certificate in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateStatus {
    /// The listener.
    pub listener: ListenerName,
    /// The chain's file.
    pub file: PathBuf,
    /// When it is over, in seconds since 1970.
    pub not_after_s: i64,
}

/// The listeners' certificates, and what the pools know of their endpoints'. The workers look; one thread, `weir-tls`, keeps it up to date.
#[derive(Debug)]
pub struct TlsStore {
    acceptors: ArcSwap<HashMap<ListenerName, Arc<Acceptor>>>,
    keys: Arc<TicketKeys>,
    provider: Arc<CryptoProvider>,
    state: Mutex<BTreeMap<ListenerName, Entry>>,
    connectors: Connectors,
    challenges: Arc<Challenges>,
    /// Rung when there is something to look at; dropped with the store, which ends the thread.
    bell: Mutex<Option<Sender<()>>>,
}

#[derive(Debug)]
struct Entry {
    tls: ListenerTls,
    built: Built,
    acceptor: Arc<Acceptor>,
    /// Seen once and found wrong. Told when it is the same at the next look: files that belong together are not written in one step.
    doubtful: Option<Stamps>,
    /// What was told of ends, by file.
    told: HashMap<PathBuf, Due>,
}

#[derive(Debug)]
struct Built {
    stamps: Stamps,
    loaded: Vec<Arc<Loaded>>,
    config: Arc<ServerConfig>,
}

/// What a configuration needs, loaded and not yet in use.
#[derive(Debug)]
pub(crate) struct Prepared {
    listeners: BTreeMap<ListenerName, (ListenerTls, Built)>,
    pools: connectors::Prepared,
}

impl TlsStore {
    /// With the ticket keys of the process before. Nothing is served yet.
    pub fn new(saved: Vec<SavedTicketKey>) -> TlsStore {
        TlsStore {
            acceptors: ArcSwap::default(),
            keys: Arc::new(TicketKeys::new(saved, unix_s(SystemTime::now()))),
            provider: Arc::new(aws_lc_rs::default_provider()),
            state: Mutex::default(),
            connectors: Connectors::default(),
            challenges: Arc::default(),
            bell: Mutex::default(),
        }
    }

    /// Starts the thread; it ends with the store, and sleeps while nothing has TLS.
    pub(crate) fn watch(self: &Arc<TlsStore>, tell: impl Fn(EventKind) + Send + 'static) -> std::io::Result<()> {
        let (bell, rung) = channel::<()>();
        *self.bell.lock().unwrap_or_else(PoisonError::into_inner) = Some(bell);
        let store: Weak<TlsStore> = Arc::downgrade(self);
        std::thread::Builder::new().name("weir-tls".into()).spawn(move || {
            let mut pause = LOOK_EVERY;
            loop {
                let idle = store.upgrade().is_none_or(|store| store.is_idle());
                if rung.recv_timeout(if idle { Duration::MAX } else { pause }) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
                let Some(store) = store.upgrade() else { return };
                let begun = Instant::now();
                store.look(SystemTime::now(), &tell);
                pause = LOOK_EVERY.max(begun.elapsed() * PAUSES).min(LOOK_EVERY_MAX);
            }
        })?;
        Ok(())
    }

    /// How to take a connection of this listener.
    pub(crate) fn acceptor(&self, listener: &ListenerName) -> Option<Arc<Acceptor>> {
        self.acceptors.load().get(listener).cloned()
    }

    /// How to speak to the endpoints of this pool.
    pub(crate) fn connector(&self, pool: &PoolName) -> Option<Arc<Connector>> {
        self.connectors.of(pool)
    }

    fn is_idle(&self) -> bool {
        self.acceptors.load().is_empty() && self.connectors.is_empty()
    }

    /// For another process of this node.
    pub fn ticket_keys(&self) -> Vec<SavedTicketKey> {
        self.keys.save()
    }

    /// What authorities want to see.
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// All certificates in use.
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        let state = self.lock();
        let of = |(name, entry): (&ListenerName, &Entry)| {
            let status = |loaded: &Arc<Loaded>| CertificateStatus {
                listener: name.clone(),
                file: loaded.files.file.clone(),
                not_after_s: loaded.not_after_s,
            };
            entry.built.loaded.iter().map(status).collect::<Vec<_>>()
        };
        state.iter().flat_map(of).collect()
    }

    /// The certificates that are shown to endpoints.
    pub fn shown_to_endpoints(&self) -> Vec<ShownCertificate> {
        self.connectors.shown()
    }

    /// Loads what the configuration names. What is the same as now is not read again.
    pub(crate) fn prepare(&self, config: &Config) -> Result<Prepared, TlsErrors> {
        let mut prepared = BTreeMap::new();
        let mut errors = TlsErrors::default();
        for listener in config.listeners.values() {
            let Protocol::Http(http) = &listener.protocol else { continue };
            let Some(tls) = http.tls.as_deref() else { continue };
            // Files are read without the lock: there may be thousands, and others ask what is in use.
            let known = self.lock().get(&listener.name).map(|known| (known.tls == *tls, known.built.loaded.clone()));
            let loaded = match known {
                Some((true, _)) => continue,
                Some((false, loaded)) => loaded,
                None => Vec::new(),
            };
            match self.build(&listener.name, tls, &loaded) {
                Ok(built) => drop(prepared.insert(listener.name.clone(), (tls.clone(), built))),
                Err(problems) => errors.add(&place(&listener.name), problems),
            }
        }
        let pools = self.connectors.prepare(config, &self.provider, &mut errors);
        if errors.problems.is_empty() { Ok(Prepared { listeners: prepared, pools }) } else { Err(errors) }
    }

    /// Puts it to use.
    pub(crate) fn commit(&self, prepared: Prepared) {
        let was_idle = self.is_idle();
        self.connectors.commit(prepared.pools);
        let mut state = self.lock();
        for (name, (tls, built)) in prepared.listeners {
            let acceptor = Acceptor { config: ArcSwap::new(Arc::clone(&built.config)), handshakes_max: tls.handshakes_max.get() };
            let told = state.remove(&name).map(|old| old.told).unwrap_or_default();
            state.insert(name, Entry { tls, built, acceptor: Arc::new(acceptor), doubtful: None, told });
        }
        self.publish(&state);
        if was_idle && let Some(bell) = &*self.bell.lock().unwrap_or_else(PoisonError::into_inner) {
            // Nobody to hear it: the thread could not be started, and that was said.
            let _ = bell.send(());
        }
    }

    /// Forgets listeners and pools that have no TLS here. Only once the workers know it too.
    pub(crate) fn retain(&self, config: &Config) {
        self.connectors.retain(config);
        let mut state = self.lock();
        state.retain(|name, _| {
            let listener = config.listeners.get(name);
            listener.is_some_and(|listener| matches!(&listener.protocol, Protocol::Http(http) if http.tls.is_some()))
        });
        self.publish(&state);
    }

    fn publish(&self, state: &BTreeMap<ListenerName, Entry>) {
        let acceptors = state.iter().map(|(name, entry)| (name.clone(), Arc::clone(&entry.acceptor))).collect();
        self.acceptors.store(Arc::new(acceptors));
    }

    /// Renews what changed; tells what happened.
    pub(crate) fn look(&self, now: SystemTime, tell: &dyn Fn(EventKind)) {
        let now_s = unix_s(now);
        self.keys.rotate(now_s);
        self.connectors.look(&self.provider, now_s as i64, tell);
        let names: Vec<ListenerName> = self.lock().keys().cloned().collect();
        for name in names {
            self.renew(&name, tell);
            let mut state = self.lock();
            let Some(Entry { built, told, .. }) = state.get_mut(&name) else { continue };
            for loaded in &built.loaded {
                let due = told.entry(loaded.files.file.clone()).or_default();
                if let Some(left_s) = due.look(loaded.not_after_s, now_s as i64) {
                    let (listener, file) = (Arc::clone(&name.0), loaded.files.file.display().to_string());
                    tell(EventKind::CertificateExpires { listener, file, left_s, expired: left_s <= 0 });
                }
            }
        }
    }

    fn renew(&self, name: &ListenerName, tell: &dyn Fn(EventKind)) {
        let known = self.lock().get(name).map(|entry| (entry.tls.clone(), entry.built.stamps.clone(), entry.built.loaded.clone()));
        let Some((tls, stamps, loaded)) = known else { return };
        let seen = load::wanted(&tls).map(|wanted| load::stamps(&wanted, tls.clients.as_ref())).unwrap_or_default();
        // Read without the lock; if another configuration came meanwhile, its files were just read.
        let result = (seen != stamps).then(|| self.build(name, &tls, &loaded));
        let mut state = self.lock();
        let Some(entry) = state.get_mut(name).filter(|entry| entry.tls == tls) else { return };
        match result {
            None => entry.doubtful = None,
            Some(Ok(built)) => {
                let before: HashSet<*const Loaded> = loaded.iter().map(Arc::as_ptr).collect();
                let changed = built.loaded.iter().filter(|new| !before.contains(&Arc::as_ptr(new))).count();
                let files: HashSet<&PathBuf> = built.loaded.iter().map(|loaded| &loaded.files.file).collect();
                entry.told.retain(|file, _| files.contains(file));
                let certificates = built.loaded.len();
                entry.acceptor.config.store(Arc::clone(&built.config));
                entry.built = built;
                entry.doubtful = None;
                tell(EventKind::CertificatesLoaded { listener: Arc::clone(&name.0), certificates, changed });
            }
            Some(Err(problems)) if entry.doubtful.as_ref() == Some(&seen) => {
                // Told; not again until something changes.
                entry.built.stamps = seen;
                entry.doubtful = None;
                let mut errors = TlsErrors::default();
                errors.add(&place(name), problems);
                tell(EventKind::CertificatesRefused { listener: Arc::clone(&name.0), reason: errors.to_string() });
            }
            Some(Err(_)) => entry.doubtful = Some(seen),
        }
    }

    fn build(&self, name: &ListenerName, tls: &ListenerTls, known: &[Arc<Loaded>]) -> Result<Built, Vec<LoadProblem>> {
        let wanted = load::wanted(tls).map_err(|problem| vec![problem])?;
        let stamps = load::stamps(&wanted, tls.clients.as_ref());
        let verifier = load::client_verifier(tls.clients.as_ref(), &self.provider);
        let (loaded, (verifier, print)) = match (load::load_all(wanted, known, &self.provider), verifier) {
            (Ok(loaded), Ok(verifier)) => (loaded, verifier),
            (Err(mut problems), Err(problem)) => {
                problems.push(problem);
                return Err(problems);
            }
            (Err(problems), _) => return Err(problems),
            (_, Err(problem)) => return Err(vec![problem]),
        };
        let versions: &[&rustls::SupportedProtocolVersion] = match tls.version_min {
            TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider)).with_protocol_versions(versions);
        let builder = builder.expect("the provider has suites for both versions");
        let answers = tls.acme.iter().any(|certificate| certificate.challenge == AcmeChallenge::TlsAlpn01);
        let challenges = answers.then(|| Arc::clone(&self.challenges));
        let resolver = Arc::new(Resolver::new(&loaded, tls.unknown_name, challenges));
        let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
        // What is spoken here, what we like better first.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if !tls.http2 {
            config.alpn_protocols.remove(0);
        }
        if answers {
            config.alpn_protocols.push(challenge::PROTOCOL.to_vec());
        }
        // All suites are strong; which of them is ours to say.
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if tls.tickets {
            let scope = aws_lc_rs_digest(&[name.0.as_bytes(), &[0, tls.version_min as u8], &print]);
            config.ticketer = Arc::new(Ticketer { keys: Arc::clone(&self.keys), scope });
        } else {
            config.send_tls13_tickets = 0;
        }
        Ok(Built { stamps, loaded, config: Arc::new(config) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ListenerName, Entry>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(listener: &ListenerName) -> String {
    format!("listener `{listener}`")
}

fn aws_lc_rs_digest(parts: &[&[u8]]) -> [u8; 32] {
    use ::aws_lc_rs::digest::{Context, SHA256};
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn unix_s(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[derive(Debug)]
struct Resolver {
    names: Names<Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
    /// Where this listener answers challenges.
    challenges: Option<Arc<Challenges>>,
}

impl Resolver {
    fn new(loaded: &[Arc<Loaded>], unknown: UnknownName, challenges: Option<Arc<Challenges>>) -> Resolver {
        let mut names = Names::default();
        for loaded in loaded {
            for name in &loaded.names {
                names.add(name, Arc::clone(&loaded.key));
            }
        }
        let first = loaded.first().filter(|_| unknown == UnknownName::Default);
        Resolver { names, default: first.map(|loaded| Arc::clone(&loaded.key)), challenges }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(challenges) = &self.challenges
            && hello.alpn().is_some_and(|mut offered| offered.next() == Some(challenge::PROTOCOL) && offered.next().is_none())
        {
            return challenges.tls(hello.server_name()?);
        }
        let named = hello.server_name().and_then(|name| {
            if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                self.names.find(&name.to_ascii_lowercase())
            } else {
                self.names.find(name)
            }
        });
        named.or(self.default.as_ref()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::Path;

    use super::*;

    fn write(folder: &Path, file: &str, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        std::fs::write(folder.join(file), made.cert.pem() + &made.signing_key.serialize_pem()).expect("written");
    }

    fn config(tls: &str) -> Config {
        let text = format!(
            "[listener.web]\nbind = \"127.0.0.1:443\"\npool = \"web\"\n[listener.web.tls]\n{tls}\n[pool.web]\nendpoints = [\"127.0.0.1:80\"]\n"
        );
        weir_config::parse(&text, "weir.toml").unwrap_or_else(|errors| panic!("{}", errors.render(false)))
    }

    fn files(store: &TlsStore) -> Vec<String> {
        store.certificates().iter().map(|c| c.file.file_name().expect("a name").to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "good.pem", "a.test");
        write(folder.path(), "other.pem", "b.test");
        std::fs::copy(folder.path().join("other.pem"), folder.path().join("good.key")).expect("copied");
        std::fs::write(folder.path().join("empty.pem"), "").expect("written");
        let store = TlsStore::new(Vec::new());
        let errors = store.prepare(&config(&format!("folder = {:?}", folder.path()))).expect_err("two are wrong");
        let text = errors.to_string();
        assert_eq!(errors.problems.len(), 2, "{text}");
        assert!(text.contains("empty.pem: there is no certificate in it"), "{text}");
        assert!(text.contains("good.key: the key is not that of the certificate in"), "{text}");
    }

    #[test]
    fn changes_are_used_and_mistakes_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "a.pem", "a.test");
        let store = TlsStore::new(Vec::new());
        let config = config(&format!("folder = {:?}", folder.path()));
        store.commit(store.prepare(&config).expect("it is right"));
        assert_eq!(files(&store), ["a.pem"]);
        let told = RefCell::new(Vec::new());
        let look = || {
            store.look(SystemTime::now(), &|kind| told.borrow_mut().push(kind));
            told.take()
        };
        let of = || store.acceptor(&"web".into()).expect("it has TLS").config();
        let first = of();
        assert!(look().is_empty() && Arc::ptr_eq(&first, &of()));
        write(folder.path(), "b.pem", "b.test");
        assert!(matches!(look()[..], [EventKind::CertificatesLoaded { certificates: 2, changed: 1, .. }]));
        let second = of();
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(folder.path().join("b.pem"), "half of it").expect("written");
        assert!(look().is_empty(), "perhaps it is being written");
        assert!(matches!(look()[..], [EventKind::CertificatesRefused { .. }]));
        assert!(look().is_empty() && Arc::ptr_eq(&second, &of()), "told once, and the old ones stay");
        write(folder.path(), "b.pem", "b.test");
        assert!(matches!(look()[..], [EventKind::CertificatesLoaded { certificates: 2, changed: 1, .. }]));
    }

    /// A hoster's folder: all of it is loaded, and a change costs what has changed. The time it takes is printed, for whoever looks.
    #[test]
    fn ten_thousand_certificates() {
        const COUNT: usize = 10_000;
        let folder = tempfile::tempdir().expect("a folder");
        let key = rcgen::KeyPair::generate().expect("a key");
        let make = |number: usize| {
            let params = rcgen::CertificateParams::new(vec![format!("n{number}.test")]).expect("a name");
            let made = params.self_signed(&key).expect("a certificate");
            std::fs::write(folder.path().join(format!("n{number}.pem")), made.pem() + &key.serialize_pem()).expect("written");
        };
        (0..COUNT).for_each(make);
        let store = TlsStore::new(Vec::new());
        let config = config(&format!("folder = {:?}", folder.path()));
        let began = Instant::now();
        store.commit(store.prepare(&config).expect("they are right"));
        println!("{COUNT} certificates loaded in {:?}", began.elapsed());
        assert_eq!(store.certificates().len(), COUNT);
        let loaded = || store.lock().values().flat_map(|entry| entry.built.loaded.clone()).collect::<Vec<_>>();
        let (first, acceptor) = (loaded(), store.acceptor(&"web".into()).expect("it has TLS"));
        let used = acceptor.config();
        make(4711);
        let told = RefCell::new(Vec::new());
        let began = Instant::now();
        store.look(SystemTime::now(), &|kind| told.borrow_mut().push(kind));
        println!("one of {COUNT} changed, in use after {:?}", began.elapsed());
        assert!(matches!(told.take()[..], [EventKind::CertificatesLoaded { certificates: COUNT, changed: 1, .. }]));
        let kept = loaded().iter().zip(&first).filter(|(now, before)| Arc::ptr_eq(now, before)).count();
        assert_eq!(kept, COUNT - 1, "what did not change is not read again");
        assert!(!Arc::ptr_eq(&used, &acceptor.config()), "a connection that begins now is shown the new one");
    }

    #[test]
    fn ends_are_told_in_time() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "a.pem", "a.test");
        let store = TlsStore::new(Vec::new());
        store.commit(store.prepare(&config(&format!("folder = {:?}", folder.path()))).expect("it is right"));
        let end_s = store.certificates()[0].not_after_s;
        for (before_s, told) in [(15 * 86_400, 0), (14 * 86_400, 1), (13 * 86_400, 0), (86_400, 1), (0, 1), (-5, 0)] {
            let seen = RefCell::new(0);
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs((end_s - before_s) as u64);
            store.look(now, &|kind| {
                assert!(matches!(kind, EventKind::CertificateExpires { left_s, expired, .. } if left_s == before_s && expired == (before_s <= 0)));
                *seen.borrow_mut() += 1;
            });
            assert_eq!(seen.take(), told, "{before_s} s before");
        }
    }
}
