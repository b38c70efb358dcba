//! The file: `history.db`, one SQLite database.
//!
//! - `samples`: pages of points, and how fine ones become coarse ones. `read`: entries and the audit, page by page.
//! - `forget`: what is too old, and what has no room.

mod forget;
mod read;
mod samples;

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};

pub use read::{Acts, Asked, Found, Kept, ROWS_MAX, Verified};
pub use samples::{STEPS_MAX, SeriesAsked};

use crate::audit::{Act, Hash, Head};
use crate::{Entry, Record, UnixMs};

/// The layout that this program writes.
const LAYOUT: i64 = 1;

/// Bytes of the log that SQLite writes beside the file; it is folded back long before.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// Memory for pages of the file; negative, as SQLite wants it for KiB.
const CACHE_KIB: i64 = -1024;

/// Longest body of an entry.
const BODY_BYTES_MAX: usize = 64 * 1024;

const TABLES: &str = "
    CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE entry(id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, body TEXT NOT NULL);
    CREATE INDEX entry_kind ON entry(kind, id);
    CREATE INDEX entry_subject ON entry(subject, id);
    CREATE TABLE audit(
        number INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, origin TEXT NOT NULL, act TEXT NOT NULL, subject TEXT NOT NULL,
        outcome TEXT NOT NULL, detail TEXT NOT NULL, hash BLOB NOT NULL);
    CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the audit is only ever appended to'); END;
    CREATE TABLE series(id INTEGER PRIMARY KEY, metric TEXT NOT NULL, scope TEXT NOT NULL, name TEXT NOT NULL, UNIQUE(metric, scope, name));
    CREATE TABLE sample(tier INTEGER NOT NULL, series INTEGER NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY(tier, series, at))
        WITHOUT ROWID;
";

/// Names in `meta`.
const ANCHOR: &str = "audit_anchor";
const HEAD: &str = "audit_head";
const ROLLED: &str = "rolled_to";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is no store, or not a whole one.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A newer program has written it.
    #[error("{path} was written by a newer program (layout {layout}, this program knows {LAYOUT})")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        layout: i64,
    },
    /// There is no room: on the disk, or within `[history] size_max`.
    #[error("there is no room for {path}: {reason}")]
    Full {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// Anything else.
    #[error("{path} cannot be used: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What SQLite or the system says.
        reason: String,
    },
}

/// The store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    head: Head,
}

impl Store {
    /// Opens the file, or makes it, readable by its owner alone; looks whether it is whole, which reads all of it.
    ///
    /// # Errors
    ///
    /// It cannot be opened or written, is damaged, or was written by a newer program.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let unusable = |reason: String| StoreError::Unusable { path: path.to_owned(), reason };
        let made = std::fs::File::options().create(true).truncate(false).append(true).mode(0o600).open(path);
        made.map_err(|error| unusable(error.to_string()))?;
        let connection = Connection::open(path).map_err(|error| unusable(error.to_string()))?;
        Store::prepare(connection, path, Start::default())
    }

    /// One that ends with the process, for what cannot be written now. It goes on where the file ends.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn in_memory(start: Start) -> Result<Store, StoreError> {
        let path = Path::new("the history in memory");
        let connection = Connection::open_in_memory().map_err(|error| fault(path, &error))?;
        Store::prepare(connection, path, start)
    }

    fn prepare(connection: Connection, path: &Path, start: Start) -> Result<Store, StoreError> {
        let mut store = Store { connection, path: path.to_owned(), head: start.head };
        store.lay_out(start).map_err(|error| fault(path, &error))?;
        let layout = store.pragma("user_version").map_err(|error| fault(path, &error))?;
        if layout != LAYOUT {
            return Err(StoreError::Newer { path: path.to_owned(), layout });
        }
        let damaged = |reason: String| StoreError::Damaged { path: path.to_owned(), reason };
        let verdict = store.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        match verdict.map_err(|error| fault(path, &error))? {
            whole if whole == "ok" => {}
            other => return Err(damaged(other)),
        }
        store.head = match store.last_act().map_err(|error| fault(path, &error))? {
            Some(head) => head,
            None => store.meta_head(ANCHOR).map_err(|error| fault(path, &error))?.unwrap_or(start.head),
        };
        Ok(store)
    }

    fn lay_out(&mut self, start: Start) -> rusqlite::Result<()> {
        self.connection.busy_timeout(Duration::from_secs(5))?;
        // What is read again and again is little; a node at rest stays small.
        self.connection.pragma_update(None, "cache_size", CACHE_KIB)?;
        let layout = self.pragma("user_version")?;
        if layout == 0 {
            // Before there is a table, or never.
            self.connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        // One process has the file, so that what others would look into need not be mapped into memory: on a disk that is full, touching
        // such a map kills the process. Both modes are answered with a row.
        self.connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
        self.connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        self.connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_MAX, |_| Ok(()))?;
        if layout == 0 {
            let transaction = self.connection.transaction()?;
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", LAYOUT)?;
            if start.entry > 0 {
                transaction.execute("INSERT INTO sqlite_sequence(name, seq) VALUES('entry', ?1)", [start.entry])?;
            }
            if start.head.number > 0 {
                set_head(&transaction, ANCHOR, start.head)?;
                set_head(&transaction, HEAD, start.head)?;
            }
            transaction.commit()?;
        }
        Ok(())
    }

    /// Keeps all of it, or nothing.
    ///
    /// # Errors
    ///
    /// The file cannot be written; nothing was kept.
    pub fn write(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let has_acts = records.iter().any(|record| matches!(record, Record::Act(_)));
        self.write_now(records, has_acts).map_err(|error| fault(&self.path, &error))
    }

    fn write_now(&mut self, records: &[Record], has_acts: bool) -> rusqlite::Result<()> {
        // What was done must outlive a power failure; of what was measured a few seconds may go.
        self.connection.pragma_update(None, "synchronous", if has_acts { "FULL" } else { "NORMAL" })?;
        let mut head = self.head;
        let transaction = self.connection.transaction()?;
        for record in records {
            match record {
                Record::Entry(entry) => insert_entry(&transaction, entry)?,
                Record::Act(act) => head = insert_act(&transaction, head, act)?,
                Record::Pages(pages) => samples::insert(&transaction, pages)?,
            }
        }
        if has_acts {
            set_head(&transaction, HEAD, head)?;
        }
        transaction.commit()?;
        self.head = head;
        Ok(())
    }

    /// Where a store in memory is to go on.
    pub fn start(&self) -> Start {
        let entry = self.connection.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'entry'", [], |row| row.get(0));
        // A file that cannot be read any more begins anew.
        Start { head: self.head, entry: entry.unwrap_or(0) }
    }

    /// Bytes of the file that hold something.
    pub fn used_bytes(&self) -> u64 {
        let number = |name| self.pragma(name).ok().and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
        number("page_count").saturating_sub(number("freelist_count")) * number("page_size")
    }

    /// The last record of the audit.
    pub fn head(&self) -> Head {
        self.head
    }

    fn pragma(&self, name: &str) -> rusqlite::Result<i64> {
        self.connection.pragma_query_value(None, name, |row| row.get(0))
    }

    fn last_act(&self) -> rusqlite::Result<Option<Head>> {
        let sql = "SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1";
        self.connection.query_row(sql, [], |row| Ok(Head { number: row.get(0)?, hash: hash(row.get(1)?) })).optional()
    }

    fn meta_head(&self, name: &str) -> rusqlite::Result<Option<Head>> {
        Ok(self.meta(name)?.and_then(|bytes| {
            let (number, hash) = bytes.split_first_chunk::<8>()?;
            Some(Head { number: u64::from_be_bytes(*number), hash: Hash(hash.try_into().ok()?) })
        }))
    }

    fn meta(&self, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        self.connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
    }

    fn fault(&self, error: &rusqlite::Error) -> StoreError {
        fault(&self.path, error)
    }
}

/// Where a new store goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Start {
    /// The end of the audit.
    pub head: Head,
    /// Number of the last entry.
    pub entry: u64,
}

fn insert_entry(transaction: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    // A body that is cut is no JSON any more; what is that long says so in another way.
    let body = if entry.body.len() > BODY_BYTES_MAX { "{\"left_out\":\"too long\"}" } else { &entry.body };
    let sql = "INSERT INTO entry(at, kind, subject, body) VALUES(?1, ?2, ?3, ?4)";
    transaction.prepare_cached(sql)?.execute(params![entry.at.0, entry.kind, entry.subject, body])?;
    Ok(())
}

fn insert_act(transaction: &Transaction<'_>, head: Head, act: &Act) -> rusqlite::Result<Head> {
    let sealed = head.seal(act.clone());
    let Act { at, who, origin, act, subject, outcome, detail } = act;
    let sql = "INSERT INTO audit(number, at, who, origin, act, subject, outcome, detail, hash) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let hash = Value::Blob(sealed.hash.0.to_vec());
    transaction.prepare_cached(sql)?.execute(params![sealed.number, at.0, who, origin, act, subject, outcome, detail, hash])?;
    Ok(sealed.head())
}

fn set_head(transaction: &Transaction<'_>, name: &str, head: Head) -> rusqlite::Result<()> {
    let mut bytes = head.number.to_be_bytes().to_vec();
    bytes.extend(head.hash.0);
    set_meta(transaction, name, &bytes)
}

fn set_meta(transaction: &Transaction<'_>, name: &str, value: &[u8]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta(name, value) VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET value = ?2";
    transaction.prepare_cached(sql)?.execute(params![name, value])?;
    Ok(())
}

/// A hash of another length is none, and will be found by whoever verifies.
fn hash(bytes: Vec<u8>) -> Hash {
    bytes.try_into().map(Hash).unwrap_or_default()
}

/// Which of our errors it is.
fn fault(path: &Path, error: &rusqlite::Error) -> StoreError {
    let (path, reason) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged { path, reason },
        Some(ErrorCode::DiskFull) => StoreError::Full { path, reason },
        _ => StoreError::Unusable { path, reason },
    }
}

/// Milliseconds of a length of time.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A moment of the file.
fn moment(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<UnixMs> {
    row.get::<_, i64>(column).map(|at| UnixMs(u64::try_from(at).unwrap_or(0)))
}
