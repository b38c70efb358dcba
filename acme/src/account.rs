//! Whose orders they are. Either this node has an account of its own, which it makes and keeps; or several nodes have one, whose key they are
//! given in a file: then whichever of them an authority asks can answer for all.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, Key, NewAccount};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use weir_config::{Authority, ExternalAccount};

use crate::http::Client;
use crate::order::OrderError;
use crate::{base64url, store};

/// The thumbprint of the key in a file (RFC 7638): with it every challenge of the account is answered over HTTP.
///
/// # Errors
/// The file is not such a key; in words, with what to do.
pub fn thumbprint(key_file: &Path) -> Result<String, String> {
    let key = read_key(key_file)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der()).map_err(|_| not_a_key(key_file))?;
    // 0x04, x, y (SEC 1 section 2.3.3).
    let point = pair.public_key().as_ref();
    let (x, y) = point.get(1..).filter(|point| point.len() == 64).ok_or_else(|| not_a_key(key_file))?.split_at(32);
    // Members in the order of their names, without white space (RFC 7638 section 3).
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, base64url::encode(x), base64url::encode(y));
    Ok(base64url::encode(digest(&SHA256, members.as_bytes()).as_ref()))
}

fn read_key(file: &Path) -> Result<PrivatePkcs8KeyDer<'static>, String> {
    PrivatePkcs8KeyDer::from_pem_file(file).map_err(|error| match error {
        rustls::pki_types::pem::Error::Io(error) => format!("cannot read {}: {error}", file.display()),
        _ => not_a_key(file),
    })
}

fn not_a_key(file: &Path) -> String {
    format!(
        "{} is not a P-256 key in PEM (PKCS #8): make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`",
        file.display()
    )
}

/// The account, opened with the authority or made there.
pub(crate) async fn open(authority: &Authority, state_dir: &Path) -> Result<Account, OrderError> {
    let directory = format!("https://{}{}", authority.directory.authority(), authority.directory.path);
    let contact: Vec<String> = authority.contact.iter().map(|address| format!("mailto:{address}")).collect();
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let builder = || {
        let client = Client::new(authority.ca_file.as_deref()).map_err(OrderError::Setting)?;
        Ok::<_, OrderError>(Account::builder_with_http(Box::new(client)))
    };
    if let Some(file) = &authority.account_key_file {
        let pkcs8 = read_key(file).map_err(OrderError::Setting)?;
        let key = Key::from_pkcs8_der(pkcs8.clone_key()).map_err(|_| OrderError::Setting(not_a_key(file)))?;
        let (account, _) = builder()?.create_from_key((key, pkcs8.into()), directory).await?;
        if !contact.is_empty() {
            account.update_contacts(&contact).await?;
        }
        return Ok(account);
    }
    let file = file_of(authority, state_dir);
    if let Some(kept) = kept(&file, &directory) {
        return Ok(builder()?.from_credentials(kept).await?);
    }
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let external = authority.external.as_ref().map(external_key).transpose()?;
    let (account, credentials) = builder()?.create(&new, directory, external.as_ref()).await?;
    let json = serde_json::to_vec(&credentials).map_err(|error| OrderError::Setting(error.to_string()))?;
    store::write(&file, &json).map_err(|source| OrderError::Write { path: file, source })?;
    Ok(account)
}

fn file_of(authority: &Authority, state_dir: &Path) -> PathBuf {
    state_dir.join("acme").join(&*authority.name.0).join("account.json")
}

/// What was kept, if it is of this directory.
fn kept(file: &Path, directory: &str) -> Option<AccountCredentials> {
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    if json.get("directory")?.as_str()? != directory {
        return None;
    }
    serde_json::from_value(json).ok()
}

fn external_key(external: &ExternalAccount) -> Result<ExternalAccountKey, OrderError> {
    let ExternalAccount { key_id, key_file } = external;
    let told = |why: String| OrderError::Setting(format!("eab_key_file {}: {why}", key_file.display()));
    let text = std::fs::read_to_string(key_file).map_err(|error| told(error.to_string()))?;
    let key = base64url::decode(text.trim()).ok_or_else(|| told("not base64url, as authorities show such keys".into()))?;
    Ok(ExternalAccountKey::new(key_id.clone(), &key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that somebody else published; the thumbprint was computed by another program.
    #[test]
    fn the_thumbprint_is_that_of_the_rfc() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("account.pem");
        std::fs::write(
            &file,
            "-----BEGIN PRIVATE KEY-----\n\
             MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgJVWC/QzOTCS5vtsJ\n\
             p2IG+UDc8cdDfeoKtxSZxaznM+mhRANCAAQenCPoGgPFTdPJ7VLLKt56RxPlYT1w\n\
             NXnHc54PEyBg3LxKaH0+sJkX0mL8LyPEdsfL/Oz4TxHkWLJGrXVtNhfH\n\
             -----END PRIVATE KEY-----\n",
        )
        .unwrap();
        assert_eq!(thumbprint(&file).unwrap(), "CdiznY-cyjYqyzhZlrR9EFX3c04SnJV4BuzDtyNklsQ");
        std::fs::write(&file, "nothing").unwrap();
        assert!(thumbprint(&file).unwrap_err().contains("openssl genpkey"));
        assert!(thumbprint(Path::new("/no/such/file")).unwrap_err().starts_with("cannot read /no/such/file"));
    }
}
