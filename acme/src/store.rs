//! Files that nobody else may read, written in one step.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::plan::Held;

/// The certificate in a file; `None`: there is none yet, or none that can be understood.
pub fn held(file: &Path) -> Option<Held> {
    of_chain(&fs::read(file).ok()?)
}

/// The first certificate of a chain in PEM.
pub(crate) fn of_chain(pem: &[u8]) -> Option<Held> {
    let first = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    let (_, certificate) = X509Certificate::from_der(&first).ok()?;
    let san = certificate.subject_alternative_name().ok()??;
    let names = san.value.general_names.iter();
    let names = names.filter_map(|name| if let GeneralName::DNSName(name) = name { Some(name.to_ascii_lowercase()) } else { None });
    let validity = certificate.validity();
    Some(Held { names: names.collect(), not_before_s: validity.not_before.timestamp(), not_after_s: validity.not_after.timestamp() })
}

/// Writes the file aside, flushes and renames it; who reads sees the old or the new one. Its folder is made.
pub(crate) fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let aside = file.with_extension("new");
    let mut out = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&aside)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&aside, file)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("acme/ca/a.test.pem");
        assert_eq!(held(&file), None);
        let made = rcgen::generate_simple_self_signed(["A.test".to_owned(), "b.test".to_owned()]).unwrap();
        write(&file, (made.cert.pem() + &made.signing_key.serialize_pem()).as_bytes()).unwrap();
        let found = held(&file).unwrap();
        assert_eq!(found.names, ["a.test", "b.test"]);
        assert!(found.not_before_s < found.not_after_s);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        write(&file, b"half of").unwrap();
        assert_eq!(held(&file), None);
    }
}
