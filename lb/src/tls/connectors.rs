//! How the pools' endpoints are spoken to now, and keeping it so when files change.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use weir_config::{Config, EndpointTls, PoolName, UpstreamProtocol};

use super::client::{self, Built, Connector};
use super::due::Due;
use super::load::{Stamps, TlsErrors};
use crate::event::EventKind;

/// A certificate that is shown to endpoints: pool, the chain's file, and when it is over in seconds since 1970.
pub type ShownCertificate = (PoolName, PathBuf, i64);

/// The pools whose endpoints are spoken to under TLS.
#[derive(Debug, Default)]
pub(super) struct Connectors {
    used: ArcSwap<HashMap<PoolName, Arc<Connector>>>,
    state: Mutex<BTreeMap<PoolName, Entry>>,
}

#[derive(Debug)]
struct Entry {
    tls: EndpointTls,
    http2: bool,
    stamps: Stamps,
    connector: Arc<Connector>,
    /// When the certificate that is shown is over, in seconds since 1970.
    not_after_s: Option<i64>,
    /// How many of [`Due::BEFORE_S`] were told of that end.
    told: Due,
    /// Seen once and found wrong. Told when it is the same at the next look: files that belong together are not written in one step.
    doubtful: Option<Stamps>,
}

/// What a configuration needs, loaded and not yet in use.
#[derive(Debug, Default)]
pub(super) struct Prepared(BTreeMap<PoolName, (EndpointTls, bool, Built)>);

impl Connectors {
    pub(super) fn of(&self, pool: &PoolName) -> Option<Arc<Connector>> {
        self.used.load().get(pool).cloned()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used.load().is_empty()
    }

    /// The certificates that are shown to endpoints.
    pub(super) fn shown(&self) -> Vec<ShownCertificate> {
        let state = self.lock();
        let of =
            |(name, entry): (&PoolName, &Entry)| Some((name.clone(), entry.tls.certificate.as_ref()?.file.clone(), entry.not_after_s?));
        state.iter().filter_map(of).collect()
    }

    /// Loads what the configuration names and was not loaded before.
    pub(super) fn prepare(&self, config: &Config, provider: &Arc<CryptoProvider>, errors: &mut TlsErrors) -> Prepared {
        let mut prepared = BTreeMap::new();
        for pool in config.pools.values() {
            let Some(tls) = pool.tls.as_deref() else { continue };
            let http2 = pool.upstream_protocol == UpstreamProtocol::Http2;
            if self.lock().get(&pool.name).is_some_and(|known| known.tls == *tls && known.http2 == http2) {
                continue;
            }
            match client::build(tls, http2, provider) {
                Ok(built) => drop(prepared.insert(pool.name.clone(), (tls.clone(), http2, built))),
                Err(problems) => errors.add(&place(&pool.name), problems),
            }
        }
        Prepared(prepared)
    }

    /// Puts it to use.
    pub(super) fn commit(&self, prepared: Prepared) {
        let mut state = self.lock();
        for (name, (tls, http2, built)) in prepared.0 {
            let Built { config, stamps, not_after_s } = built;
            let connector = Arc::new(Connector::new(tls.clone(), config));
            let told = state.remove(&name).map(|old| old.told).unwrap_or_default();
            state.insert(name, Entry { tls, http2, stamps, connector, not_after_s, told, doubtful: None });
        }
        self.publish(&state);
    }

    /// Forgets pools that have no TLS here. Only once the workers know it too.
    pub(super) fn retain(&self, config: &Config) {
        let mut state = self.lock();
        state.retain(|name, _| config.pools.get(name).is_some_and(|pool| pool.tls.is_some()));
        self.publish(&state);
    }

    /// Renews what changed; tells what happened.
    pub(super) fn look(&self, provider: &Arc<CryptoProvider>, now_s: i64, tell: &dyn Fn(EventKind)) {
        let known: Vec<_> =
            self.lock().iter().map(|(name, entry)| (name.clone(), entry.tls.clone(), entry.http2, entry.stamps.clone())).collect();
        for (name, tls, http2, stamps) in known {
            let seen = client::stamps(&tls);
            // Read without the lock; if another configuration came meanwhile, its files were just read.
            let result = (seen != stamps).then(|| client::build(&tls, http2, provider));
            let mut state = self.lock();
            let Some(entry) = state.get_mut(&name).filter(|entry| entry.tls == tls && entry.http2 == http2) else { continue };
            match result {
                None => entry.doubtful = None,
                Some(Ok(Built { config, stamps, not_after_s })) => {
                    entry.connector.renew(config);
                    entry.stamps = stamps;
                    entry.not_after_s = not_after_s;
                    entry.doubtful = None;
                    tell(EventKind::EndpointTlsLoaded { pool: Arc::clone(&name.0) });
                }
                Some(Err(problems)) if entry.doubtful.as_ref() == Some(&seen) => {
                    // Told; not again until something changes.
                    entry.stamps = seen;
                    entry.doubtful = None;
                    let mut errors = TlsErrors::default();
                    errors.add(&place(&name), problems);
                    tell(EventKind::EndpointTlsRefused { pool: Arc::clone(&name.0), reason: errors.to_string() });
                }
                Some(Err(_)) => entry.doubtful = Some(seen),
            }
            if let Some((end_s, files)) = entry.not_after_s.zip(entry.tls.certificate.as_ref())
                && let Some(left_s) = entry.told.look(end_s, now_s)
            {
                let (pool, file) = (Arc::clone(&name.0), files.file.display().to_string());
                tell(EventKind::EndpointCertificateExpires { pool, file, left_s, expired: left_s <= 0 });
            }
        }
    }

    fn publish(&self, state: &BTreeMap<PoolName, Entry>) {
        self.used.store(Arc::new(state.iter().map(|(name, entry)| (name.clone(), Arc::clone(&entry.connector))).collect()));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PoolName, Entry>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(pool: &PoolName) -> String {
    format!("pool `{pool}`")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn changed_files_are_used_and_mistakes_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        let write = || {
            let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
            // Another file each time: within one tick of its clock, the same one of the same length looks unchanged.
            let fresh = folder.path().join("fresh");
            std::fs::write(&fresh, made.cert.pem()).expect("written");
            std::fs::rename(&fresh, &file).expect("replaced");
        };
        write();
        let text = format!(
            "[listener.web]\nbind = \"127.0.0.1:80\"\npool = \"web\"\n[pool.web]\nendpoints = [\"127.0.0.1:443\"]\n[pool.web.tls]\nca_file = {file:?}\n"
        );
        let config = weir_config::parse(&text, "weir.toml").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let connectors = Connectors::default();
        let mut errors = TlsErrors::default();
        connectors.commit(connectors.prepare(&config, &provider, &mut errors));
        assert!(errors.problems.is_empty());
        let used = || connectors.of(&"web".into()).expect("it has TLS").probe_config(false);
        let told = RefCell::new(Vec::new());
        let look = || {
            connectors.look(&provider, 0, &|kind| told.borrow_mut().push(kind));
            told.take()
        };
        let first = used();
        assert!(look().is_empty() && Arc::ptr_eq(&first, &used()));
        write();
        assert!(matches!(look()[..], [EventKind::EndpointTlsLoaded { .. }]));
        let second = used();
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(&file, "half of it").expect("written");
        assert!(look().is_empty(), "perhaps it is being written");
        let [EventKind::EndpointTlsRefused { reason, .. }] = &look()[..] else { panic!("it is told") };
        assert!(reason.contains("pool `web`") && reason.contains("ca.pem: there is no certificate in it"), "{reason}");
        assert!(look().is_empty() && Arc::ptr_eq(&second, &used()), "told once, and the old ones stay");
        connectors.retain(&weir_config::parse("", "weir.toml").expect("an empty one"));
        assert!(connectors.of(&"web".into()).is_none());
    }
}
