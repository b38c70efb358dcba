//! What must not be shown: passwords, tokens, keys. They come from a file or from the environment, never from the configuration itself.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use weir_config::SecretSource;

/// The largest secret: keys and tokens are far smaller.
const BYTES_MAX: u64 = 16 * 1024;

/// Why there is no secret. Says where it was looked for, never what is in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable(String);

/// The value of a secret. It has no `Display`, its `Debug` prints nothing of it, and its memory is written over in the end.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Reads it, anew for each use, so that a changed file needs no reload.
    ///
    /// # Errors
    ///
    /// Not there, not readable, empty, larger than 16 KiB, or with a zero byte or a line end inside.
    pub fn read(source: &SecretSource) -> Result<Secret, Unreadable> {
        let bytes = match source {
            SecretSource::File(path) => read_file(path),
            SecretSource::Environment(name) => {
                std::env::var_os(name).map(|value| value.into_encoded_bytes()).ok_or_else(|| "it is not set".to_owned())
            }
        };
        let fail = |reason: &str| Unreadable(format!("cannot read the secret in {source}: {reason}"));
        let mut secret = Secret(bytes.map_err(|reason| fail(&reason))?);
        while secret.0.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            secret.0.pop();
        }
        match secret.0.as_slice() {
            [] => Err(fail("it is empty")),
            bytes if bytes.iter().any(|byte| matches!(byte, 0 | b'\n' | b'\r')) => Err(fail("it must be one line")),
            _ => Ok(secret),
        }
    }

    /// A secret made here, such as a key.
    pub fn from_bytes(bytes: Vec<u8>) -> Secret {
        Secret(bytes)
    }

    /// The value, for the one place that sends it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value as text.
    ///
    /// # Errors
    ///
    /// It is not UTF-8.
    pub fn expose_text(&self) -> Result<&str, Unreadable> {
        std::str::from_utf8(&self.0).map_err(|_| Unreadable("the secret is not UTF-8 text".into()))
    }
}

fn read_file(path: &PathBuf) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > BYTES_MAX { Err(format!("it is larger than {BYTES_MAX} bytes")) } else { Ok(bytes) }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // The compiler must believe that somebody looks at the zeros.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_without_its_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (content, want) in
            [("s3cret\n", Some("s3cret")), ("s3cret\r\n", Some("s3cret")), ("a b", Some("a b")), ("", None), ("a\nb", None)]
        {
            std::fs::write(&path, content).unwrap();
            let read = Secret::read(&SecretSource::File(path.clone()));
            assert_eq!(read.as_ref().ok().map(|secret| secret.expose_text().unwrap()), want, "{content:?}");
            assert!(!format!("{read:?}").contains("s3cret"));
        }
        std::fs::write(&path, vec![b'x'; BYTES_MAX as usize + 1]).unwrap();
        assert!(Secret::read(&SecretSource::File(path)).is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Secret::read(&SecretSource::Environment("WEIR_NO_SUCH_SECRET".into())).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the secret in environment variable WEIR_NO_SUCH_SECRET: it is not set");
    }
}
