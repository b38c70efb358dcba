//! The files that hold what signs the cookies of sessions.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use weir_config::{Config, PoolName, SessionMemory};

use crate::session::{Keys, KeysError};

use super::plane::ApplyError;

/// The longest file. More is another file than was meant.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// The keys of every pool that has some.
pub(super) fn load(config: &Config) -> Result<BTreeMap<PoolName, Arc<Keys>>, ApplyError> {
    let mut found = BTreeMap::new();
    for pool in config.pools.values() {
        let Some(SessionMemory::Cookie(cookie)) = pool.session.as_ref().map(|session| &session.memory) else { continue };
        let failed = |source: KeyFileError| ApplyError::SessionKeys {
            pool: pool.name.to_string(),
            file: cookie.key_file.display().to_string(),
            source,
        };
        let text = read(&cookie.key_file).map_err(|error| failed(error.into()))?;
        let keys = Keys::parse(&text).map_err(|error| failed(error.into()))?;
        found.insert(pool.name.clone(), Arc::new(keys));
    }
    Ok(found)
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It holds no keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes, which no file of keys is")));
    }
    Ok(text)
}
