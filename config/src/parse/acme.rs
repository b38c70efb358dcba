//! `[acme.NAME]` and `[[listener.NAME.tls.acme]]`

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::address::parse_host_name;
use crate::model::{AcmeCertificate, AcmeChallenge, Authority, AuthorityName, ExternalAccount, Protocol};
use crate::notify::HttpUrl;
use crate::parse::ParsedListener;
use crate::parse::node::absolute_path;
use crate::reader::{Named, Placed, Table};

/// An authority with what is checked against other tables.
#[derive(Debug)]
pub(crate) struct ParsedAuthority {
    /// The name of the table.
    pub(crate) name: AuthorityName,
    /// `None` if something it cannot be without was wrong.
    pub(crate) authority: Option<Authority>,
    /// The file of its account's key with its place.
    pub(crate) account_key: Option<Placed<PathBuf>>,
}

pub(super) fn authority(named: &Named<'_>) -> ParsedAuthority {
    let table = &named.table;
    let directory = table.field("directory").and_then(|field| field.checked(directory(field.text()?)));
    if table.flag("agree_terms") != Some(true) {
        let problem = table.problem("agree_terms", "an authority opens no account for who does not agree to its terms of service");
        table.report(problem.help("read them, and write `agree_terms = true`").needs_whole_file());
    }
    let account_key_file = absolute_path(table, "account_key_file");
    let account_key = account_key_file.clone().map(|path| table.placed("account_key_file", path));
    let authority = directory.map(|directory| Authority {
        name: named.name.into(),
        directory,
        ca_file: absolute_path(table, "ca_file"),
        contact: contact(table),
        account_key_file,
        external: external(table),
        renew_before: table.time("renew_before").unwrap_or(Duration::ZERO),
    });
    ParsedAuthority { name: named.name.into(), authority, account_key }
}

fn directory(text: &str) -> Result<HttpUrl, String> {
    let url = HttpUrl::parse(text)?;
    if url.tls { Ok(url) } else { Err("a directory is always spoken to under TLS; write https://".into()) }
}

fn contact(table: &Table<'_>) -> Vec<String> {
    let items = table.field("contact").map(|field| field.one_or_many()).unwrap_or_default();
    let read = |text: &str| {
        let address = text.strip_prefix("mailto:").unwrap_or(text);
        let is_one = address.split_once('@').is_some_and(|(user, host)| !user.is_empty() && parse_host_name(host).is_ok());
        if is_one && address.bytes().all(|byte| byte.is_ascii_graphic() && !b"?,\"\\".contains(&byte)) {
            Ok(address.to_owned())
        } else {
            Err(format!("{text:?} is not a mail address; write one such as \"ops@example.com\""))
        }
    };
    items.iter().filter_map(|field| field.checked(read(field.text()?))).collect()
}

fn external(table: &Table<'_>) -> Option<ExternalAccount> {
    let (key_id, key_file) = (table.text("eab_key_id"), absolute_path(table, "eab_key_file"));
    for (one, other) in [("eab_key_id", "eab_key_file"), ("eab_key_file", "eab_key_id")] {
        if table.has(one) && !table.has(other) {
            table.report(table.problem(one, format!("`{one}` needs `{other}`: the authority gives out both together")).needs_whole_file());
        }
    }
    if table.has("eab_key_id") {
        table
            .refuse(&["account_key_file"], "with `eab_key_id`: which key is bound to that account is known to the node that made it alone");
    }
    Some(ExternalAccount { key_id: key_id?.to_owned(), key_file: key_file? })
}

/// The certificates of a listener; each mention of an authority goes to `authorities` with its place.
pub(super) fn certificates(table: &Table<'_>, authorities: &mut Vec<Placed<AuthorityName>>) -> Vec<AcmeCertificate> {
    let tables = table.field("acme").map(|field| field.tables()).unwrap_or_default();
    tables.iter().filter_map(|table| certificate(table, authorities)).collect()
}

fn certificate(table: &Table<'_>, authorities: &mut Vec<Placed<AuthorityName>>) -> Option<AcmeCertificate> {
    let authority = table.text("authority").map(AuthorityName::from);
    if let Some(authority) = &authority {
        authorities.push(table.placed("authority", authority.clone()));
    }
    let challenge = match table.choice("challenge") {
        Some("tls-alpn-01") => AcmeChallenge::TlsAlpn01,
        _ => AcmeChallenge::Http01,
    };
    let mut names: Vec<String> = Vec::new();
    let field = table.field("names")?;
    for item in field.one_or_many() {
        let Some(name) = item.checked(host(item.text()?)) else { continue };
        if names.contains(&name) {
            item.report(item.problem(format!("{name:?} is there twice")).help("remove one of them"));
        }
        names.push(name);
    }
    if names.is_empty() {
        field.report(field.problem("a certificate is for at least one name").help("for example `names = [\"www.example.com\"]`"));
        return None;
    }
    Some(AcmeCertificate { authority: authority?, names, challenge, file: PathBuf::new() })
}

fn host(text: &str) -> Result<String, String> {
    if text.starts_with("*.") {
        return Err(format!(
            "{text:?}: a certificate with a wildcard is issued for a change in the DNS alone, which is not made here; name each host, or \
             have the certificate made elsewhere and name its file"
        ));
    }
    let name = parse_host_name(text)?;
    let name = name.trim_end_matches('.').to_owned();
    if name.contains('.') {
        Ok(name)
    } else {
        Err(format!("{text:?} has no dot: authorities issue for whole names, such as \"www.example.com\""))
    }
}

/// Says where each certificate is kept: one file for an authority and a first name.
pub(super) fn place(listeners: &mut [ParsedListener], state_dir: &Path) {
    for parsed in listeners {
        let Some(Protocol::Http(http)) = parsed.listener.as_mut().map(|listener| &mut listener.protocol) else { continue };
        for certificate in http.tls.iter_mut().flat_map(|tls| &mut tls.acme) {
            let folder = state_dir.join("acme").join(&*certificate.authority.0);
            certificate.file = folder.join(format!("{}.pem", certificate.names[0]));
        }
    }
}
