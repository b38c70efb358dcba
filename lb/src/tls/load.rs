//! Files to certificates and keys. Everything that is wrong is found in one go, and named by its file.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use weir_config::{CertificateFiles, ClientCertificates, ListenerTls};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Version};

/// The largest file that is read: a chain, a key, a list of authorities. Revocation lists may be larger.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const CRL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Threads that read certificates at once, at most.
const LOADERS_MAX: usize = 8;
/// So few are read without other threads.
const FEW: usize = 16;
/// Problems that are told at once.
const TOLD_MAX: usize = 20;

/// Something wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadProblem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for LoadProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// All that is wrong with the files of listeners and pools.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TlsErrors {
    /// What, with the listener or pool that names the file.
    pub problems: Vec<(String, LoadProblem)>,
}

impl TlsErrors {
    pub(super) fn add(&mut self, place: &str, problems: Vec<LoadProblem>) {
        self.problems.extend(problems.into_iter().map(|problem| (place.to_owned(), problem)));
    }
}

impl fmt::Display for TlsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TLS cannot use these files")?;
        for (place, problem) in self.problems.iter().take(TOLD_MAX) {
            write!(f, "\n  {place}: {problem}")?;
        }
        match self.problems.len().saturating_sub(TOLD_MAX) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl std::error::Error for TlsErrors {}

/// What tells that a file is another one now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    modified: (i64, i64),
    length: u64,
    inode: u64,
}

/// Every file of a listener or pool, with `None` for one that is not there.
pub(super) type Stamps = Vec<(PathBuf, Option<Stamp>)>;

fn stamp(path: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: (data.mtime(), data.mtime_nsec()), length: data.len(), inode: data.ino() })
}

/// A chain with its key, read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) files: CertificateFiles,
    pub(super) key: Arc<CertifiedKey>,
    /// DNS names of the certificate.
    pub(super) names: Vec<String>,
    /// When it is over, in seconds since 1970.
    pub(super) not_after_s: i64,
    stamps: [Option<Stamp>; 3],
}

/// The certificates that are wanted, those of the folder after the others, by name.
pub(super) fn wanted(tls: &ListenerTls) -> Result<Vec<CertificateFiles>, LoadProblem> {
    let mut all = tls.certificates.clone();
    // What was ordered is there once it was issued.
    let issued = tls.acme.iter().map(|certificate| &certificate.file).filter(|file| file.exists());
    all.extend(issued.map(|file| CertificateFiles { file: file.clone(), key: file.clone(), ocsp: None }));
    let Some(folder) = &tls.folder else { return Ok(all) };
    let problem = |error: io::Error| LoadProblem { path: folder.clone(), reason: format!("cannot list it: {error}") };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(problem)? {
        let file = entry.map_err(problem)?.path();
        if file.extension().is_some_and(|extension| extension == "pem") {
            found.push(file);
        }
    }
    found.sort();
    // What is named by itself as well is there once.
    let named: HashSet<&PathBuf> = tls.certificates.iter().map(|files| &files.file).collect();
    all.extend(found.into_iter().filter(|file| !named.contains(file)).map(|file| {
        let beside = |extension| Some(file.with_extension(extension)).filter(|path| path.exists());
        CertificateFiles { key: beside("key").unwrap_or_else(|| file.clone()), ocsp: beside("ocsp"), file }
    }));
    if all.is_empty() {
        return Err(LoadProblem { path: folder.clone(), reason: "there is no NAME.pem in it".into() });
    }
    Ok(all)
}

/// The state of every file that is wanted.
pub(super) fn stamps(wanted: &[CertificateFiles], clients: Option<&ClientCertificates>) -> Stamps {
    let of_clients = clients.into_iter().flat_map(|clients| std::iter::once(&clients.ca_file).chain(&clients.crl_file));
    let files = wanted.iter().flat_map(|files| [Some(&files.file), Some(&files.key), files.ocsp.as_ref()]).flatten();
    stamps_of(files.chain(of_clients).cloned())
}

/// The state of these files.
pub(super) fn stamps_of(paths: impl Iterator<Item = PathBuf>) -> Stamps {
    paths.map(|path| (path.clone(), stamp(&path))).collect()
}

fn stamps_of_files(files: &CertificateFiles) -> [Option<Stamp>; 3] {
    [stamp(&files.file), stamp(&files.key), files.ocsp.as_deref().and_then(stamp)]
}

/// Reads what is wanted, in parallel; what is known and did not change is not read again.
pub(super) fn load_all(
    wanted: Vec<CertificateFiles>,
    known: &[Arc<Loaded>],
    provider: &CryptoProvider,
) -> Result<Vec<Arc<Loaded>>, Vec<LoadProblem>> {
    let known: HashMap<&CertificateFiles, &Arc<Loaded>> = known.iter().map(|loaded| (&loaded.files, loaded)).collect();
    let load = |files: &CertificateFiles| match known.get(files) {
        Some(same) if same.stamps == stamps_of_files(files) => Ok(Arc::clone(same)),
        _ => load(files, provider).map(Arc::new),
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(LOADERS_MAX);
    let results: Vec<Result<Arc<Loaded>, LoadProblem>> = if wanted.len() <= FEW || threads == 1 {
        wanted.iter().map(load).collect()
    } else {
        let share = wanted.len().div_ceil(threads);
        std::thread::scope(|scope| {
            let load = &load;
            let loaders: Vec<_> =
                wanted.chunks(share).map(|chunk| scope.spawn(move || chunk.iter().map(load).collect::<Vec<_>>())).collect();
            loaders.into_iter().flat_map(|loader| loader.join().expect("reading a certificate does not panic")).collect()
        })
    };
    let mut all = Vec::with_capacity(results.len());
    let mut problems = Vec::new();
    for result in results {
        match result {
            Ok(loaded) => all.push(loaded),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}

pub(super) fn load(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Loaded, LoadProblem> {
    // Before they are read: what changes meanwhile is noticed the next time.
    let stamps = stamps_of_files(files);
    let chain = certificates(&files.file)?;
    let first = chain.first().ok_or_else(|| LoadProblem { path: files.file.clone(), reason: "there is no certificate in it".into() })?;
    let (names, not_after_s) = names_and_end(first).map_err(|reason| LoadProblem { path: files.file.clone(), reason })?;
    let bytes = read(&files.key, FILE_BYTES_MAX)?;
    let of_key = |reason: String| LoadProblem { path: files.key.clone(), reason };
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => of_key("there is no private key in it".into()),
        error => of_key(format!("not PEM: {error}")),
    })?;
    let mut certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => of_key(format!("the key is not that of the certificate in {}", files.file.display())),
        rustls::Error::InvalidCertificate(error) => {
            LoadProblem { path: files.file.clone(), reason: format!("the certificate cannot be used: {error}") }
        }
        error => of_key(format!("the key cannot be used: {error}")),
    })?;
    if let Some(ocsp) = &files.ocsp {
        let response = read(ocsp, FILE_BYTES_MAX)?;
        // OCSPResponse is a SEQUENCE that begins with an ENUMERATED status, 0 for successful (RFC 6960 section 4.2.1).
        let status = match response.as_slice() {
            [0x30, length, rest @ ..] => rest.get(usize::from(if *length < 0x80 { 0 } else { *length & 0x7f })..),
            _ => None,
        };
        match status {
            Some([0x0a, 0x01, 0, ..]) => certified.ocsp = Some(response),
            Some([0x0a, 0x01, code, ..]) => {
                return Err(LoadProblem { path: ocsp.clone(), reason: format!("the OCSP response says status {code}, not successful") });
            }
            _ => return Err(LoadProblem { path: ocsp.clone(), reason: "not an OCSP response in DER".into() }),
        }
    }
    Ok(Loaded { files: files.clone(), key: Arc::new(certified), names, not_after_s, stamps })
}

fn names_and_end(der: &CertificateDer<'_>) -> Result<(Vec<String>, i64), String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| format!("not a certificate: {error}"))?;
    if certificate.version() != X509Version::V3 {
        return Err("it is a certificate of X.509 version 1, which names no host: have one of version 3 made, with a subjectAltName".into());
    }
    let san = certificate.subject_alternative_name().map_err(|error| format!("its names cannot be read: {error}"))?;
    let names = san.into_iter().flat_map(|san| &san.value.general_names);
    let dns = names.filter_map(|name| if let GeneralName::DNSName(name) = name { Some((*name).to_owned()) } else { None });
    Ok((dns.collect(), certificate.validity().not_after.timestamp()))
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadProblem> {
    let bytes = read(path, FILE_BYTES_MAX)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    all.map_err(|error| LoadProblem { path: path.to_owned(), reason: format!("not PEM: {error}") })
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, LoadProblem> {
    use std::io::Read;
    let problem = |reason: String| LoadProblem { path: path.to_owned(), reason };
    let file = std::fs::File::open(path).map_err(|error| problem(format!("cannot read it: {error}")))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| problem(format!("cannot read it: {error}")))?;
    if bytes.len() as u64 > most { Err(problem(format!("it is longer than {most} bytes"))) } else { Ok(bytes) }
}

/// Checks clients' certificates. The second value changes with everything that decides who is let in.
pub(super) fn client_verifier(
    clients: Option<&ClientCertificates>,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<dyn ClientCertVerifier>, Vec<u8>), LoadProblem> {
    let Some(ClientCertificates { required, ca_file, crl_file }) = clients else {
        return Ok((WebPkiClientVerifier::no_client_auth(), Vec::new()));
    };
    let problem = |path: &Path, reason: String| LoadProblem { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    let mut print = vec![u8::from(*required)];
    for certificate in certificates(ca_file)? {
        print.extend_from_slice(&certificate);
        roots.add(certificate).map_err(|error| problem(ca_file, format!("not an authority's certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(problem(ca_file, "there is no certificate in it".into()));
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if let Some(crl_file) = crl_file {
        let bytes = read(crl_file, CRL_BYTES_MAX)?;
        let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| problem(crl_file, format!("not PEM: {error}")))?;
        if lists.is_empty() {
            return Err(problem(crl_file, "there is no revocation list in it".into()));
        }
        print.extend_from_slice(&bytes);
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    if !*required {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| problem(crl_file.as_deref().unwrap_or(ca_file), error.to_string()))?;
    Ok((verifier, print))
}
