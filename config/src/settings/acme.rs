//! `[acme.NAME]`

use crate::model::{AcmeCertificate, Authority, ExternalAccount};
use crate::units::format_duration;

use super::{NONE, Setting};

pub(crate) fn of_authority(authority: &Authority) -> Vec<Setting> {
    let Authority { name: _, directory, ca_file, contact, account_key_file, external, renew_before } = authority;
    let path = |path: &Option<std::path::PathBuf>, absent: &str| path.as_ref().map_or(absent.into(), |path| path.display().to_string());
    let external =
        external.as_ref().map_or(NONE.into(), |ExternalAccount { key_id, key_file }| format!("{key_id} with {}", key_file.display()));
    vec![
        ("directory", format!("https://{}{}", directory.authority(), directory.path)),
        ("ca_file", path(ca_file, "the system's")),
        ("contact", if contact.is_empty() { NONE.into() } else { contact.join(", ") }),
        ("account_key_file", path(account_key_file, "this node's own")),
        ("eab_key_id", external),
        ("renew_before", format_duration(*renew_before)),
    ]
}

pub(super) fn words_of(certificate: &AcmeCertificate) -> String {
    let AcmeCertificate { authority, names, challenge, file: _ } = certificate;
    format!("{} of {authority} by {}", names.join(" "), challenge.word())
}
