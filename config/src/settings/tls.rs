//! `[listener.NAME.tls]` and `[pool.NAME.tls]`

use crate::model::{CertificateFiles, ClientCertificates, EndpointTls, ListenerTls};

use super::{NONE, Setting};

pub(crate) fn of_endpoint_tls(tls: &EndpointTls) -> Vec<Setting> {
    let EndpointTls { verify, ca_file, server_name, certificate, version_min } = tls;
    vec![
        ("tls.verify", verify.to_string()),
        ("tls.ca_file", ca_file.as_ref().map_or("the system's".into(), |path| path.display().to_string())),
        ("tls.server_name", server_name.clone().unwrap_or("the endpoint's".into())),
        ("tls.certificate_file", certificate.as_ref().map_or(NONE.into(), words_of)),
        ("tls.version_min", version_min.word().into()),
    ]
}

fn words_of(files: &CertificateFiles) -> String {
    let CertificateFiles { file, key, ocsp } = files;
    let mut words = file.display().to_string();
    if key != file {
        words.push_str(&format!(" with {}", key.display()));
    }
    if let Some(ocsp) = ocsp {
        words.push_str(&format!(" and {}", ocsp.display()));
    }
    words
}

pub(crate) fn of_listener_tls(tls: &ListenerTls) -> Vec<Setting> {
    let ListenerTls { certificates, folder, acme, unknown_name, version_min, tickets, handshakes_max, clients, http2: _ } = tls;
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map_or(NONE.into(), |path| path.display().to_string());
    let (word, ca_file, crl_file) = match clients {
        None => ("none", NONE.into(), NONE.into()),
        Some(ClientCertificates { required, ca_file, crl_file }) => {
            (if *required { "required" } else { "optional" }, ca_file.display().to_string(), path(crl_file))
        }
    };
    vec![
        ("tls.certificate", certificates.iter().map(words_of).collect::<Vec<_>>().join(", ")),
        ("tls.folder", path(folder)),
        ("tls.acme", acme.iter().map(super::acme::words_of).collect::<Vec<_>>().join(", ")),
        ("tls.unknown_name", unknown_name.word().into()),
        ("tls.version_min", version_min.word().into()),
        ("tls.tickets", tickets.to_string()),
        ("tls.handshakes_max", handshakes_max.to_string()),
        ("tls.client_certificates", word.into()),
        ("tls.client_ca_file", ca_file),
        ("tls.client_crl_file", crl_file),
    ]
}
