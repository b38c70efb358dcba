//! Certificates that are ordered: which are due, whether this node is the one to order, and what came of it. Ordering itself is `weir-acme`'s.
//!
//! ```text
//!   file ──► certificates wanted ──► due? ──► ours to order? ──► weir-acme ──► state folder ──► weir-tls loads it as any other
//!                                                                   └── answers ──► challenges of the data plane
//! ```
//!
//! Of nodes that serve an address in turn, an authority reaches the one that has it. Where they have one account (`account_key_file`), each orders
//! for itself whenever it is due, and whichever has the address answers for all: an answer over HTTP is the token and the account's thumbprint. So
//! both have a certificate at all times, and no key ever leaves its node. Without, a node orders only while it has the address.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::PrivateKeyDer;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;
use weir_acme::plan::{Held, again_after};
use weir_acme::{Answers, OrderError};
use weir_config::{AcmeCertificate, AcmeChallenge, Authority, AuthorityName, Config, Listener, Protocol};
use weir_lb::tls::Challenges;
use weir_vrrp::machine::StateKind;

use crate::event::AcmeEvent;
use crate::node::{Node, Stage};
use crate::scaling::unix_now;

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_secs(1);

/// What is known of the certificates, for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    room: Mutex<Room>,
}

#[derive(Debug, Default)]
struct Room {
    /// By the certificate's file.
    standings: BTreeMap<PathBuf, Standing>,
    /// Orders that are over, by authority: issued, failed.
    counts: BTreeMap<AuthorityName, [u64; 2]>,
    /// Challenges that were answered: over HTTP, in handshakes.
    answered: [u64; 2],
}

#[derive(Clone, Debug)]
struct Standing {
    certificate: AcmeCertificate,
    authority: Arc<Authority>,
    held: Option<Held>,
    due_s: i64,
    failures: u32,
    again_at: Option<Instant>,
}

/// What `/metrics` shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct OrderStats {
    /// Authority, issued, failed.
    pub(crate) counts: Vec<(AuthorityName, [u64; 2])>,
    /// Authority, first name, when it is due to be ordered or renewed in seconds since 1970, failures in a row.
    pub(crate) certificates: Vec<(AuthorityName, String, i64, u32)>,
    /// Over HTTP, in handshakes.
    pub(crate) answered: [u64; 2],
}

impl Orders {
    /// As it is now.
    pub(crate) fn stats(&self) -> OrderStats {
        let room = self.lock();
        OrderStats {
            counts: room.counts.iter().map(|(name, counts)| (name.clone(), *counts)).collect(),
            certificates: room
                .standings
                .values()
                .map(|standing| {
                    let AcmeCertificate { authority, names, .. } = &standing.certificate;
                    (authority.clone(), names[0].clone(), standing.due_s, standing.failures)
                })
                .collect(),
            answered: room.answered,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the configuration wants; what is as before keeps its standing.
    fn apply(&self, config: &Config) {
        let mut room = self.lock();
        for name in config.authorities.keys() {
            room.counts.entry(name.clone()).or_default();
        }
        let mut standings = BTreeMap::new();
        for (_, certificate) in certificates(config) {
            let Some(authority) = config.authorities.get(&certificate.authority) else { continue };
            let known = room.standings.remove(&certificate.file);
            let same = known.filter(|known| known.certificate == *certificate && known.authority == *authority);
            let standing = same.unwrap_or_else(|| Standing::new(certificate, authority));
            standings.insert(certificate.file.clone(), standing);
        }
        room.standings = standings;
    }

    /// One that is due now, and may be tried.
    fn due(&self, now_s: i64, now: Instant, may: impl Fn(&Standing) -> bool) -> Option<Standing> {
        let room = self.lock();
        let is_due =
            |standing: &&Standing| standing.due_s <= now_s && standing.again_at.is_none_or(|again_at| again_at <= now) && may(standing);
        room.standings.values().find(is_due).cloned()
    }

    /// Keeps what came of an order. How long until it is tried again, if it is.
    fn ended(&self, standing: &Standing, result: &Result<Held, OrderError>, now: Instant) -> Option<Duration> {
        let mut room = self.lock();
        let place = usize::from(result.is_err());
        room.counts.entry(standing.certificate.authority.clone()).or_default()[place] += 1;
        let known = room.standings.get_mut(&standing.certificate.file)?;
        match result {
            Ok(held) => {
                *known = Standing { held: Some(held.clone()), failures: 0, again_at: None, ..standing.clone() };
                known.plan();
                None
            }
            Err(error) => {
                known.failures = standing.failures.saturating_add(1);
                let limited = matches!(error, OrderError::Limited(_));
                let wait = again_after(known.failures, limited, fastrand());
                known.again_at = Some(now + wait);
                Some(wait)
            }
        }
    }
}

impl Standing {
    fn new(certificate: &AcmeCertificate, authority: &Arc<Authority>) -> Standing {
        let (certificate, authority) = (certificate.clone(), Arc::clone(authority));
        let held = weir_acme::held(&certificate.file).filter(|held| held.is_for(&certificate.names));
        let mut standing = Standing { certificate, authority, held, due_s: 0, failures: 0, again_at: None };
        standing.plan();
        standing
    }

    fn plan(&mut self) {
        self.due_s = self.held.as_ref().map_or(0, |held| held.due_s(self.authority.renew_before, fastrand()));
    }
}

fn fastrand() -> u64 {
    let mut bytes = [0; 8];
    // Chance spreads renewals; without it they come at their earliest.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_ne_bytes(bytes)
}

/// All certificates that are ordered, with their listeners.
fn certificates(config: &Config) -> impl Iterator<Item = (&Listener, &AcmeCertificate)> {
    config.listeners.values().flat_map(|listener| {
        let tls = match &listener.protocol {
            Protocol::Http(http) => http.tls.as_deref(),
            Protocol::Tcp(_) | Protocol::Udp => None,
        };
        tls.into_iter().flat_map(|tls| &tls.acme).map(move |certificate| (&**listener, certificate))
    })
}

/// Orders what is due until the node stops. A panic in here must not end the look of the next second.
pub(crate) async fn supervise(node: Node) {
    loop {
        match tokio::spawn(run(node.clone())).await {
            Err(error) if error.is_panic() => {
                error!(%error, "ordering certificates failed and begins anew");
                tokio::time::sleep(LOOK).await;
            }
            _ => return,
        }
    }
}

async fn run(node: Node) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut applied: Option<Arc<Config>> = None;
    loop {
        ticks.tick().await;
        if node.stage() != Stage::Serving {
            return;
        }
        let Some(challenges) = node.challenges() else { return };
        let config = node.config();
        if !applied.as_ref().is_some_and(|applied| Arc::ptr_eq(applied, &config)) {
            node.orders().apply(&config);
            answer_for_all(&node, &config, &challenges);
            applied = Some(Arc::clone(&config));
        }
        if config.authorities.is_empty() {
            continue;
        }
        node.orders().lock().answered = challenges.answered();
        let now_s = i64::try_from(unix_now().0 / 1000).unwrap_or(i64::MAX);
        let Some(due) = node.orders().due(now_s, Instant::now(), |standing| may_order(&node, &config, standing)) else { continue };
        order(&node, &config, &due, challenges).await;
    }
}

/// The account that several nodes have is answered for as long as the file names it.
fn answer_for_all(node: &Node, config: &Config, challenges: &Challenges) {
    let key_file = config.authorities.values().find_map(|authority| authority.account_key_file.as_deref());
    match key_file.map(weir_acme::thumbprint).transpose() {
        Ok(thumbprint) => challenges.answer_for(thumbprint.as_deref()),
        Err(reason) => {
            challenges.answer_for(None);
            node.record(AcmeEvent::AcmeAccountUnusable { reason });
        }
    }
}

async fn order(node: &Node, config: &Config, due: &Standing, challenges: Arc<Challenges>) {
    let answers = Arc::new(OnDataPlane(challenges));
    let result = weir_acme::issue(&due.authority, &due.certificate, &config.node.state_dir, answers).await;
    let again = node.orders().ended(due, &result, Instant::now());
    let AcmeCertificate { authority, names, .. } = &due.certificate;
    let (authority, names) = (Arc::clone(&authority.0), names.clone());
    node.record(match result {
        Ok(held) => AcmeEvent::CertificateIssued { authority, names, not_after_s: held.not_after_s },
        Err(error) => AcmeEvent::CertificateNotIssued {
            authority,
            names,
            reason: error.to_string(),
            again_s: again.unwrap_or_default().as_secs(),
            left_s: due.held.as_ref().map(|held| held.not_after_s - i64::try_from(unix_now().0 / 1000).unwrap_or_default()),
        },
    });
}

/// Whether the authority would reach an answer of ours.
fn may_order(node: &Node, config: &Config, standing: &Standing) -> bool {
    let asked = carriers(config, standing);
    if asked.is_empty() {
        return true;
    }
    let routers = node.vips().status();
    asked.iter().any(|vip| {
        let mut states = routers.iter().filter(|router| *router.machine.config.name == **vip).peekable();
        states.peek().is_some() && states.all(|router| router.machine.state == StateKind::Master)
    })
}

/// The virtual IPs by which the authority reaches who answers; none: it always reaches this node, or one that answers for it.
fn carriers<'c>(config: &'c Config, standing: &Standing) -> Vec<&'c str> {
    let over_http = standing.certificate.challenge == AcmeChallenge::Http01;
    if over_http && standing.authority.account_key_file.is_some() {
        return Vec::new();
    }
    let answers = |listener: &&Arc<Listener>| match &listener.protocol {
        Protocol::Http(http) if over_http => http.tls.is_none(),
        Protocol::Http(http) => http.tls.iter().flat_map(|tls| &tls.acme).any(|one| *one == standing.certificate),
        Protocol::Tcp(_) | Protocol::Udp => false,
    };
    let binds: Vec<_> = config.listeners.values().filter(answers).flat_map(|listener| &listener.binds).collect();
    let held = |ip| binds.iter().any(|bind| bind.ip() == ip || bind.ip().is_unspecified());
    config.vips.values().filter(|vip| vip.addresses.iter().any(|address| held(address.ip))).map(|vip| &*vip.name.0).collect()
}

/// The data plane shows what is expected.
struct OnDataPlane(Arc<Challenges>);

impl Answers for OnDataPlane {
    fn expect_http(&self, token: &str, key_authorization: &str) {
        self.0.expect_http(token, key_authorization);
    }

    fn forget_http(&self, token: &str) {
        self.0.forget_http(token);
    }

    fn expect_tls(&self, name: &str, certificate: Vec<u8>, key: PrivateKeyDer<'static>) -> Result<(), String> {
        self.0.expect_tls(name, certificate, key).map_err(|error| error.to_string())
    }

    fn forget_tls(&self, name: &str) {
        self.0.forget_tls(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listeners: &str, authority: &str) -> Config {
        let text = format!(
            "[node]\nstate_dir = \"/nowhere\"\n[vip.public]\ninterface = \"eth0\"\nrouter_id = 1\naddresses = [\"10.0.0.100/24\"]\n\
             [acme.ca]\ndirectory = \"https://ca.test/dir\"\nagree_terms = true\n{authority}\n{listeners}\n\
             [pool.web]\nendpoints = [\"10.0.0.1:80\"]\n"
        );
        weir_config::parse(&text, "weir.toml").unwrap_or_else(|errors| panic!("{}", errors.render(false)))
    }

    fn listeners(plain: &str, tls: &str, challenge: &str) -> String {
        format!(
            "[listener.plain]\nbind = \"{plain}:80\"\nredirect_https = 443\n[listener.web]\nbind = \"{tls}:443\"\npool = \"web\"\n\
             [[listener.web.tls.acme]]\nauthority = \"ca\"\nnames = [\"a.test\"]\nchallenge = \"{challenge}\"\n"
        )
    }

    #[test]
    fn a_node_orders_where_it_is_reached() {
        let (vip, own, all, key) = ("10.0.0.100", "10.0.0.2", "0.0.0.0", "account_key_file = \"/etc/weir/account.pem\"");
        for (plain, tls, challenge, authority, carriers_wanted) in [
            // The challenge comes over HTTP to whoever has the address.
            (vip, own, "http-01", "", &["public"][..]),
            (all, own, "http-01", "", &["public"]),
            (own, vip, "http-01", "", &[]),
            // With a common key whoever is asked answers.
            (vip, vip, "http-01", key, &[]),
            // A handshake is answered by who was given the token, whatever the key.
            (own, vip, "tls-alpn-01", key, &["public"]),
            (vip, own, "tls-alpn-01", key, &[]),
        ] {
            let config = config(&listeners(plain, tls, challenge), authority);
            let (_, certificate) = certificates(&config).next().expect("one is ordered");
            let standing = Standing::new(certificate, &config.authorities[&certificate.authority]);
            assert_eq!(carriers(&config, &standing), carriers_wanted, "{plain} {tls} {challenge} {authority}");
        }
    }

    #[test]
    fn a_failure_is_waited_out_and_another_file_begins_anew() {
        let first = config(&listeners("10.0.0.2", "10.0.0.2", "http-01"), "");
        let orders = Orders::default();
        orders.apply(&first);
        let now = Instant::now();
        let due = |at: Instant| orders.due(1, at, |_| true);
        let standing = due(now).expect("there is none yet");
        let wait = orders.ended(&standing, &Err(OrderError::Authority("busy".into())), now).expect("it is tried again");
        assert!(wait >= Duration::from_secs(300));
        assert!(due(now).is_none() && due(now + wait).is_some());
        orders.apply(&first);
        assert!(due(now).is_none(), "nothing is different");
        orders.apply(&config(&listeners("10.0.0.2", "10.0.0.2", "http-01"), "contact = \"a@b.test\""));
        assert!(due(now).is_some(), "somebody may have mended it");
        let held = Held { names: vec!["a.test".into()], not_before_s: 0, not_after_s: 900 };
        let standing = due(now).expect("it is due");
        assert_eq!(orders.ended(&standing, &Ok(held), now), None);
        assert!(due(now).is_none());
        assert!(orders.due(700, now, |_| true).is_some(), "two thirds of its time, and a little, are over");
        let stats = orders.stats();
        assert_eq!(stats.counts, [("ca".into(), [1, 1])]);
    }
}
