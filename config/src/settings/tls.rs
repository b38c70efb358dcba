//! `[listener.NAME.tls]`

use crate::model::{CertificateFiles, ClientCertificates, ListenerTls};

use super::{NONE, Setting};

pub(crate) fn of_listener_tls(tls: &ListenerTls) -> Vec<Setting> {
    let ListenerTls { certificates, folder, unknown_name, version_min, tickets, handshakes_max, clients, http2: _ } = tls;
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map_or(NONE.into(), |path| path.display().to_string());
    let (word, ca_file, crl_file) = match clients {
        None => ("none", NONE.into(), NONE.into()),
        Some(ClientCertificates { required, ca_file, crl_file }) => {
            (if *required { "required" } else { "optional" }, ca_file.display().to_string(), path(crl_file))
        }
    };
    let certificate = |files: &CertificateFiles| {
        let CertificateFiles { file, key, ocsp } = files;
        let mut words = file.display().to_string();
        if key != file {
            words.push_str(&format!(" with {}", key.display()));
        }
        if let Some(ocsp) = ocsp {
            words.push_str(&format!(" and {}", ocsp.display()));
        }
        words
    };
    vec![
        ("tls.certificate", certificates.iter().map(certificate).collect::<Vec<_>>().join(", ")),
        ("tls.folder", path(folder)),
        ("tls.unknown_name", unknown_name.word().into()),
        ("tls.version_min", version_min.word().into()),
        ("tls.tickets", tickets.to_string()),
        ("tls.handshakes_max", handshakes_max.to_string()),
        ("tls.client_certificates", word.into()),
        ("tls.client_ca_file", ca_file),
        ("tls.client_crl_file", crl_file),
    ]
}
