//! Certificates that are ordered, against the authorities and the listeners that answer for them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::Problem;
use crate::model::{AcmeCertificate, AcmeChallenge, AuthorityName, ListenerTls, Protocol};
use crate::names::nearest;
use crate::parse::{ParsedAuthority, ParsedListener};
use crate::reader::{Placed, Table};

pub(crate) fn acme(root: &Table<'_>, authorities: &[ParsedAuthority], listeners: &[ParsedListener]) {
    for mention in listeners.iter().flat_map(|listener| &listener.authorities) {
        if !authorities.iter().any(|authority| authority.name == mention.value) {
            root.report(dangling(mention, authorities));
        }
    }
    check_keys(root, authorities);
    let is_plain = |listener: &ParsedListener| {
        listener.listener.as_ref().is_some_and(|listener| matches!(&listener.protocol, Protocol::Http(http) if http.tls.is_none()))
    };
    let answers = listeners.iter().any(is_plain);
    let mut by_file: BTreeMap<&PathBuf, &AcmeCertificate> = BTreeMap::new();
    for parsed in listeners {
        let Some(Protocol::Http(http)) = parsed.listener.as_ref().map(|listener| &listener.protocol) else { continue };
        let Some(tls) = http.tls.as_deref() else { continue };
        for (certificate, Placed { span, path, .. }) in tls.acme.iter().zip(&parsed.authorities) {
            let problem = |what: String, help: &str| Problem::new(span.clone(), path, what).help(help.to_owned()).needs_whole_file();
            if let Some((what, help)) = unanswered(certificate, tls, answers) {
                root.report(problem(what.into(), help));
            }
            let first = by_file.entry(&certificate.file).or_insert(certificate);
            if *first != certificate {
                let what =
                    format!("another certificate begins with the name {:?}, too, and is kept in the same file", certificate.names[0]);
                root.report(problem(
                    what,
                    "write the same names and the same challenge, and both use one certificate; or another name first",
                ));
            }
        }
    }
}

/// Why nobody would answer the challenge, and what to do.
fn unanswered(certificate: &AcmeCertificate, tls: &ListenerTls, answers: bool) -> Option<(&'static str, &'static str)> {
    match certificate.challenge {
        AcmeChallenge::Http01 if !answers => Some((
            "nobody answers the challenge, which comes over plain HTTP: no http listener is without TLS",
            "add a listener on port 80, for which `redirect_https = 443` is enough, or write `challenge = \"tls-alpn-01\"`",
        )),
        AcmeChallenge::TlsAlpn01 if tls.clients.as_ref().is_some_and(|clients| clients.required) => Some((
            "the authority shows no certificate when it looks, and this listener lets nobody in without",
            "write `challenge = \"http-01\"`",
        )),
        _ => None,
    }
}

fn dangling(mention: &Placed<AuthorityName>, authorities: &[ParsedAuthority]) -> Problem {
    let Placed { value: name, span, path } = mention;
    let names = || authorities.iter().map(|authority| &*authority.name.0);
    let help = match nearest(&name.0, names()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if authorities.is_empty() => format!("there is none yet: add [acme.{name}] with its directory"),
        None => format!("the authorities are: {}", names().collect::<Vec<_>>().join(", ")),
    };
    Problem::new(span.clone(), path, format!("there is no authority {:?}", name.0)).help(help).needs_whole_file()
}

/// A node that answers for another one does not see whose order it is.
fn check_keys(root: &Table<'_>, authorities: &[ParsedAuthority]) {
    let mut keys = authorities.iter().filter_map(|authority| authority.account_key.as_ref());
    let Some(first) = keys.next() else { return };
    for Placed { value, span, path } in keys.filter(|key| key.value != first.value) {
        let message = format!("{} is another key than that of the first authority", value.display());
        let problem = Problem::new(span.clone(), path, message).note(first.span.clone(), "which is this one".to_owned());
        let help = "use one file for all: the node that has the address answers for the others without knowing which authority asks";
        root.report(problem.help(help).needs_whole_file());
    }
}
