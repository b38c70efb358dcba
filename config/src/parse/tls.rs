//! `[listener.NAME.tls]` and `[pool.NAME.tls]`

use std::num::NonZeroU32;

use super::acme;
use crate::address::parse_host_name;
use crate::model::{AuthorityName, CertificateFiles, ClientCertificates, EndpointTls, ListenerTls, TlsVersion, UnknownName};
use crate::parse::node::absolute_path;
use crate::reader::{Placed, Table};

pub(super) fn listener_tls(table: &Table<'_>, http2: bool, authorities: &mut Vec<Placed<AuthorityName>>) -> ListenerTls {
    let tables = table.field("certificate").map(|field| field.tables()).unwrap_or_default();
    let mut certificates: Vec<CertificateFiles> = Vec::new();
    for table in &tables {
        let Some(files) = certificate(table) else { continue };
        if certificates.iter().any(|earlier| earlier.file == files.file) {
            table.report(table.problem("file", format!("certificate {} is there twice", files.file.display())).help("remove one of them"));
        }
        certificates.push(files);
    }
    let folder = absolute_path(table, "folder");
    let acme = acme::certificates(table, authorities);
    if tables.is_empty() && !table.has("folder") && !table.has("acme") {
        let problem = table.problem("certificate", "TLS needs a certificate, and there is none");
        table.report(
            problem
                .help("add [[listener.NAME.tls.certificate]] with `file = \"/...\"`, `folder = \"/...\"`, or [[listener.NAME.tls.acme]]")
                .needs_whole_file(),
        );
    }
    let unknown_name = match table.choice("unknown_name") {
        Some("refuse") => UnknownName::Refuse,
        _ => UnknownName::Default,
    };
    ListenerTls {
        http2,
        certificates,
        folder,
        acme,
        unknown_name,
        version_min: version_min(table),
        tickets: table.flag("tickets").unwrap_or(true),
        handshakes_max: table.count_non_zero("handshakes_max").unwrap_or(NonZeroU32::MIN),
        clients: clients(table),
    }
}

fn version_min(table: &Table<'_>) -> TlsVersion {
    match table.choice("version_min") {
        Some("1.3") => TlsVersion::Tls13,
        _ => TlsVersion::Tls12,
    }
}

pub(super) fn endpoint_tls(table: &Table<'_>) -> EndpointTls {
    let verify = table.flag("verify").unwrap_or(true);
    if !verify {
        table.refuse(&["ca_file"], "with verify = false, which believes whoever answers");
    }
    let server_name = table.field("server_name").and_then(|field| field.checked(parse_host_name(field.text()?)));
    let key = absolute_path(table, "key_file");
    if table.has("key_file") && !table.has("certificate_file") {
        let problem = table.problem("key_file", "a key without the certificate that it belongs to");
        table.report(problem.help("add `certificate_file = \"/...\"`").needs_whole_file());
    }
    let certificate = absolute_path(table, "certificate_file").map(|file| CertificateFiles {
        key: key.unwrap_or_else(|| file.clone()),
        file,
        ocsp: None,
    });
    EndpointTls { verify, ca_file: absolute_path(table, "ca_file"), server_name, certificate, version_min: version_min(table) }
}

fn certificate(table: &Table<'_>) -> Option<CertificateFiles> {
    let key = absolute_path(table, "key");
    let ocsp = absolute_path(table, "ocsp");
    let file = absolute_path(table, "file")?;
    Some(CertificateFiles { key: key.unwrap_or_else(|| file.clone()), file, ocsp })
}

fn clients(table: &Table<'_>) -> Option<ClientCertificates> {
    let word = table.choice("client_certificates")?;
    if word == "none" {
        table.refuse(&["client_ca_file", "client_crl_file"], "while clients are not asked for certificates");
        return None;
    }
    if !table.has("client_ca_file") {
        let problem = table.problem("client_ca_file", "clients' certificates cannot be checked without knowing who may sign them");
        table.report(problem.help("add `client_ca_file = \"/...\"`").needs_whole_file());
    }
    let crl_file = absolute_path(table, "client_crl_file");
    Some(ClientCertificates { required: word == "required", ca_file: absolute_path(table, "client_ca_file")?, crl_file })
}
