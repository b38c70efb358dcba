//! The cases in a file: everything that came of one input in one transaction, or nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};

use crate::case::Case;
use crate::healer::{Output, Saved};

/// The layout that this program writes.
const LAYOUT: i64 = 1;

const TABLES: &str = "
    CREATE TABLE recovery_case(thing TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE stopped(recovery TEXT PRIMARY KEY, who TEXT NOT NULL) WITHOUT ROWID;
";

/// Why something could not be kept or read.
#[derive(Debug)]
pub struct StoreError(String);

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        StoreError(format!("the store of recoveries: {error}"))
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> StoreError {
        StoreError(format!("the store of recoveries: {error}"))
    }
}

/// The store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the file, or makes it, readable by its owner alone.
    ///
    /// # Errors
    ///
    /// It cannot be opened, is no store, or was written by a newer program.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let made = std::fs::File::options().create(true).truncate(false).append(true).mode(0o600).open(path);
        made.map_err(|error| StoreError(format!("{}: {error}", path.display())))?;
        let mut connection = Connection::open(path)?;
        // The mode is answered with a row.
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.busy_timeout(Duration::from_secs(5))?;
        let layout: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match layout {
            0 => {
                let transaction = connection.transaction()?;
                transaction.execute_batch(TABLES)?;
                transaction.pragma_update(None, "user_version", LAYOUT)?;
                transaction.commit()?;
            }
            LAYOUT => {}
            newer => return Err(StoreError(format!("the store of recoveries was written by a newer program (layout {newer})"))),
        }
        Ok(Store { connection })
    }

    /// What a healer goes on with.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn load(&self) -> Result<Saved, StoreError> {
        let mut statement = self.connection.prepare("SELECT body FROM recovery_case ORDER BY thing")?;
        let mut cases: Vec<Case> = Vec::new();
        for body in statement.query_map([], |row| row.get::<_, String>(0))? {
            cases.push(serde_json::from_str(&body?)?);
        }
        let mut statement = self.connection.prepare("SELECT recovery, who FROM stopped")?;
        let stopped = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<BTreeMap<_, _>, _>>()?;
        Ok(Saved { cases, stopped })
    }

    /// Keeps everything that came of one input, or nothing.
    ///
    /// # Errors
    ///
    /// The file cannot be written; nothing was kept.
    pub fn record(&mut self, outputs: &[Output]) -> Result<(), StoreError> {
        let is_kept = |output: &&Output| matches!(output, Output::Save(_) | Output::Forget(_) | Output::Stopped(..));
        let mut kept = outputs.iter().filter(is_kept).peekable();
        if kept.peek().is_none() {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        for output in kept {
            match output {
                Output::Save(case) => {
                    let sql = "INSERT INTO recovery_case(thing, body) VALUES(?1, ?2) ON CONFLICT(thing) DO UPDATE SET body = ?2";
                    transaction.execute(sql, params![serde_json::to_string(&case.thing)?, serde_json::to_string(case)?])?;
                }
                Output::Forget(thing) => {
                    transaction.execute("DELETE FROM recovery_case WHERE thing = ?1", [serde_json::to_string(thing)?])?;
                }
                Output::Stopped(name, Some(by)) => {
                    transaction.execute("INSERT OR REPLACE INTO stopped(recovery, who) VALUES(?1, ?2)", params![&*name.0, by])?;
                }
                Output::Stopped(name, None) => drop(transaction.execute("DELETE FROM stopped WHERE recovery = ?1", [&*name.0])?),
                Output::Act(_) | Output::Check(_) | Output::Abort(_) | Output::PutBack(_) | Output::Tell(..) => {}
            }
        }
        Ok(transaction.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{About, Thing};
    use weir_config::RecoveryName;

    #[test]
    fn what_is_kept_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recovery.db");
        let mut store = Store::open(&path).unwrap();
        let case = |thing: &str| Case::new(Thing::Machine(thing.into()), "r".into(), About::default(), "dead".into(), 7);
        let name = RecoveryName::from("r");
        store
            .record(&[
                Output::Save(Box::new(case("a"))),
                Output::Save(Box::new(case("b"))),
                Output::Stopped(name.clone(), Some("kim".into())),
                Output::Forget(Thing::Machine("a".into())),
            ])
            .unwrap();
        drop(store);
        let mut store = Store::open(&path).unwrap();
        let saved = store.load().unwrap();
        assert_eq!((saved.cases, saved.stopped["r"].as_str()), (vec![case("b")], "kim"));
        store.record(&[Output::Stopped(name, None)]).unwrap();
        assert!(store.load().unwrap().stopped.is_empty());
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_no_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recovery.db");
        std::fs::write(&path, "this is no database, and longer than its head would be: ".repeat(100)).unwrap();
        assert!(Store::open(&path).is_err());
    }
}
