//! What must outlive the process: incidents, messages and what became of them, in one SQLite file.
//!
//! ```text
//!   waiting ──claim──► sending ──► delivered
//!      ▲                 │  └────► dead ──resend──► waiting
//!      └──── retry ──────┘
//! ```
//!
//! A message that was being sent when the process was killed waits again: it is delivered at least once, and each attempt carries the same key.
//! Messages of one incident to one channel are sent in the order in which they were made.
//!
//! What must not be lost with the machine's power waits for the disk: that there is a message, and, before it is sent, that it may have been.
//! The second is one wait for several messages of a fast channel. That a message was delivered does not wait: a kill does not undo what was
//! written, and where the power fails it is sent again as one that may have arrived.

mod retry;

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

pub use retry::delay;

use crate::channel::Fault;
use crate::engine::{Incident, Output, Saved, Storm};
use crate::message::{Message, UnixMs};

/// The layout that this program writes.
const LAYOUT: i64 = 1;
/// Messages that may wait; more are refused and counted.
const WAITING_MAX: u64 = 500_000;
/// Characters kept of what a channel answered.
const ANSWER_CHARS_MAX: usize = 500;
/// Rows of one list.
const ROWS_MAX: u64 = 1000;

const TABLES: &str = "
    CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE incident(id INTEGER PRIMARY KEY, done INTEGER NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL);
    CREATE INDEX incident_done ON incident(done, at);
    CREATE TABLE storm(channel TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE message(
        number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, channel TEXT NOT NULL, incident TEXT NOT NULL,
        state TEXT NOT NULL, attempts INTEGER NOT NULL, created_at INTEGER NOT NULL, next_at INTEGER NOT NULL,
        ended_at INTEGER, said TEXT NOT NULL, body TEXT NOT NULL);
    CREATE INDEX message_state ON message(state, channel, number);
    CREATE INDEX message_incident ON message(incident, channel, state);
    CREATE TABLE reference(incident TEXT NOT NULL, channel TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY(incident, channel)) WITHOUT ROWID;
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
        StoreError(format!("the store of messages: {error}"))
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> StoreError {
        StoreError(format!("the store of messages: {error}"))
    }
}

/// The store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    /// Whether what is written waits for the disk.
    waits: bool,
    refused: u64,
}

/// What is to be sent next to a channel.
#[derive(Debug)]
pub enum Next {
    /// These, now and in this order; they are claimed. Each is of another incident.
    Send(Vec<Claimed>),
    /// Nothing before this time.
    At(UnixMs),
    /// Nothing.
    Nothing,
}

/// A message that is being sent.
#[derive(Debug)]
pub struct Claimed {
    /// With attempt and reference filled in.
    pub message: Message,
    /// When it was made.
    pub created_at: UnixMs,
}

/// How a message is, for people.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// Its key.
    pub key: String,
    /// Its channel.
    pub channel: String,
    /// `waiting`, `sending`, `delivered` or `dead`.
    pub state: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When it was made.
    pub created_at: UnixMs,
    /// When it was delivered or given up.
    pub ended_at: Option<UnixMs>,
    /// What the channel said last.
    pub said: String,
    /// The message.
    pub message: Message,
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
        let connection = Connection::open(path)?;
        // The mode is answered with a row.
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Store::prepare(connection)
    }

    /// One that ends with the process, where there is no place for a file.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn in_memory() -> Result<Store, StoreError> {
        Store::prepare(Connection::open_in_memory()?)
    }

    fn prepare(mut connection: Connection) -> Result<Store, StoreError> {
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
            newer => return Err(StoreError(format!("the store of messages was written by a newer program (layout {newer})"))),
        }
        let store = Store { connection, waits: true, refused: 0 };
        store.connection.execute("UPDATE message SET state = 'waiting' WHERE state = 'sending'", [])?;
        Ok(store)
    }

    /// What an engine goes on with.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn load(&self) -> Result<Saved, StoreError> {
        let mut incidents = Vec::new();
        let mut statement = self.connection.prepare("SELECT body FROM incident WHERE done = 0 ORDER BY id")?;
        for body in statement.query_map([], |row| row.get::<_, String>(0))? {
            incidents.push(serde_json::from_str::<Incident>(&body?)?);
        }
        let mut storms = BTreeMap::new();
        let mut statement = self.connection.prepare("SELECT channel, body FROM storm")?;
        for row in statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))? {
            let (channel, body) = row?;
            storms.insert(channel, serde_json::from_str::<Storm>(&body)?);
        }
        let last_id = self.connection.query_row("SELECT coalesce(max(id), 0) FROM incident", [], |row| row.get::<_, u64>(0))?;
        let kept = self.meta("last_id")?.and_then(|bytes| String::from_utf8(bytes).ok()).and_then(|text| text.parse().ok());
        Ok(Saved { incidents, storms, last_id: kept.unwrap_or(0).max(last_id) })
    }

    /// Keeps everything that came of one input, or nothing.
    ///
    /// # Errors
    ///
    /// The file cannot be written; nothing was kept.
    pub fn record(&mut self, outputs: &[Output], now: UnixMs) -> Result<(), StoreError> {
        let mut waiting = None;
        let mut refused = 0;
        self.wait_for_disk(true)?;
        let transaction = self.connection.transaction()?;
        for output in outputs {
            match output {
                Output::Tell(channel, message) => {
                    let count = match waiting {
                        Some(count) => count,
                        None => {
                            transaction.query_row("SELECT count(*) FROM message WHERE state = 'waiting'", [], |row| row.get::<_, u64>(0))?
                        }
                    };
                    waiting = Some(count + 1);
                    if count >= WAITING_MAX { refused += 1 } else { insert(&transaction, &channel.0, message, now)? }
                }
                Output::Save { incident, done } => {
                    let body = serde_json::to_string(incident)?;
                    let sql = "INSERT INTO incident(id, done, at, body) VALUES(?1, ?2, ?3, ?4)
                               ON CONFLICT(id) DO UPDATE SET done = ?2, at = ?3, body = ?4";
                    transaction.execute(sql, params![incident.id, done, now, body])?;
                    set_meta(&transaction, "last_id", incident.id.to_string().as_bytes(), true)?;
                }
                Output::Storm(channel, storm) => {
                    let sql = "INSERT INTO storm(channel, body) VALUES(?1, ?2) ON CONFLICT(channel) DO UPDATE SET body = ?2";
                    transaction.execute(sql, params![channel, serde_json::to_string(storm)?])?;
                }
            }
        }
        transaction.commit()?;
        self.refused += refused;
        Ok(())
    }

    /// Claims what is to be sent next to a channel, at most so many.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn next(&mut self, channel: &str, now: UnixMs, most: usize) -> Result<Next, StoreError> {
        self.wait_for_disk(true)?;
        let transaction = self.connection.transaction()?;
        let claimed = claim(&transaction, channel, now, most)?;
        if claimed.is_empty() {
            let sql = "SELECT min(next_at) FROM message WHERE state = 'waiting' AND channel = ?1";
            let at = transaction.query_row(sql, [channel], |row| row.get::<_, Option<u64>>(0))?;
            return Ok(at.map_or(Next::Nothing, |at| Next::At(at.max(now + 1))));
        }
        transaction.commit()?;
        Ok(Next::Send(claimed))
    }

    /// Gives back what was claimed and not begun, as if it had not been.
    ///
    /// # Errors
    ///
    /// The file cannot be written: after a restart these messages count as begun.
    pub fn give_back<'a>(&mut self, messages: impl IntoIterator<Item = &'a Message>) -> Result<(), StoreError> {
        self.wait_for_disk(false)?;
        let transaction = self.connection.transaction()?;
        for message in messages {
            let sql = "UPDATE message SET state = 'waiting', attempts = attempts - 1 WHERE key = ?1 AND state = 'sending'";
            transaction.prepare_cached(sql)?.execute([&message.key])?;
        }
        Ok(transaction.commit()?)
    }

    /// How what is written next is kept; see the top of this file.
    fn wait_for_disk(&mut self, waits: bool) -> Result<(), StoreError> {
        if self.waits != waits {
            self.connection.pragma_update(None, "synchronous", if waits { "FULL" } else { "NORMAL" })?;
            self.waits = waits;
        }
        Ok(())
    }

    /// A channel took a message.
    ///
    /// # Errors
    ///
    /// The file cannot be written: after a restart it would be sent again.
    pub fn delivered(
        &mut self,
        channel: &str,
        message: &Message,
        receipt: &crate::channel::Receipt,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        self.wait_for_disk(false)?;
        let transaction = self.connection.transaction()?;
        let sql = "UPDATE message SET state = 'delivered', ended_at = ?2, said = ?3 WHERE key = ?1";
        transaction.prepare_cached(sql)?.execute(params![message.key, now, cut(&receipt.said)])?;
        if let Some(reference) = &receipt.reference {
            // The first name is the one that others answer to.
            let sql = "INSERT OR IGNORE INTO reference(incident, channel, name) VALUES(?1, ?2, ?3)";
            transaction.execute(sql, params![message.incident, channel, cut(reference)])?;
        }
        Ok(transaction.commit()?)
    }

    /// A channel did not take a message: it waits until `retry_at`, or is dead. `fallback`: it is also given to this channel.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn failed(
        &mut self,
        message: &Message,
        fault: &Fault,
        retry_at: Option<UnixMs>,
        fallback: Option<&str>,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        self.wait_for_disk(true)?;
        let transaction = self.connection.transaction()?;
        let said = cut(&fault.text);
        match retry_at {
            Some(at) => {
                let sql = "UPDATE message SET state = 'waiting', next_at = ?2, said = ?3 WHERE key = ?1";
                transaction.execute(sql, params![message.key, at, said])?;
            }
            None => {
                let sql = "UPDATE message SET state = 'dead', ended_at = ?2, said = ?3 WHERE key = ?1";
                transaction.execute(sql, params![message.key, now, said])?;
            }
        }
        if let Some(fallback) = fallback {
            let key = format!("{}.to.{fallback}", message.key);
            insert(&transaction, fallback, &Message { key, attempt: 1, reference: None, ..message.clone() }, now)?;
        }
        Ok(transaction.commit()?)
    }

    /// Dead letters, the latest first; at most 1000.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn dead(&self) -> Result<Vec<Row>, StoreError> {
        self.rows("state = 'dead'", "")
    }

    /// Messages of an incident, the latest first; at most 1000.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn of_incident(&self, incident: &str) -> Result<Vec<Row>, StoreError> {
        self.rows("incident = ?1", incident)
    }

    fn rows(&self, condition: &str, value: &str) -> Result<Vec<Row>, StoreError> {
        let sql = format!(
            "SELECT key, channel, state, attempts, created_at, ended_at, said, body FROM message WHERE {condition} ORDER BY number DESC LIMIT {ROWS_MAX}"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut found = Vec::new();
        let mut rows = if value.is_empty() { statement.query([])? } else { statement.query([value])? };
        while let Some(row) = rows.next()? {
            found.push(Row {
                key: row.get(0)?,
                channel: row.get(1)?,
                state: row.get(2)?,
                attempts: row.get(3)?,
                created_at: row.get(4)?,
                ended_at: row.get(5)?,
                said: row.get(6)?,
                message: serde_json::from_str(&row.get::<_, String>(7)?)?,
            });
        }
        Ok(found)
    }

    /// Sends dead letters again: that of this key, or all. Returns how many.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn resend(&mut self, key: Option<&str>, now: UnixMs) -> Result<usize, StoreError> {
        let sql = "UPDATE message SET state = 'waiting', created_at = ?1, next_at = ?1, ended_at = NULL WHERE state = 'dead' AND (?2 IS NULL OR key = ?2)";
        Ok(self.connection.execute(sql, params![now, key])?)
    }

    /// Incidents that are done, the latest first; at most 1000.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn past_incidents(&self, limit: u64) -> Result<Vec<Incident>, StoreError> {
        let mut statement = self.connection.prepare("SELECT body FROM incident WHERE done = 1 ORDER BY id DESC LIMIT ?1")?;
        let bodies = statement.query_map([limit.min(ROWS_MAX)], |row| row.get::<_, String>(0))?;
        bodies.map(|body| Ok(serde_json::from_str(&body?)?)).collect()
    }

    /// One incident, done or not.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn incident(&self, id: u64) -> Result<Option<Incident>, StoreError> {
        let body = self.connection.query_row("SELECT body FROM incident WHERE id = ?1", [id], |row| row.get::<_, String>(0)).optional()?;
        Ok(body.map(|body| serde_json::from_str(&body)).transpose()?)
    }

    /// Messages that wait and dead letters, by channel.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn counts(&self) -> Result<BTreeMap<String, (u64, u64)>, StoreError> {
        let sql = "SELECT channel, sum(state IN ('waiting', 'sending')), sum(state = 'dead') FROM message
                   WHERE state IN ('waiting', 'sending', 'dead') GROUP BY channel";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Messages that were refused because too many wait.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Forgets what was delivered, or is over, before this time.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn forget(&mut self, before: UnixMs) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        transaction.execute("DELETE FROM message WHERE state IN ('delivered', 'dead') AND ended_at < ?1", [before])?;
        transaction.execute("DELETE FROM incident WHERE done = 1 AND at < ?1", [before])?;
        transaction.execute("DELETE FROM reference WHERE incident NOT IN (SELECT CAST(id AS TEXT) FROM incident)", [])?;
        Ok(transaction.commit()?)
    }

    /// A value under a name; made by `make` the first time.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn meta_or(&mut self, name: &str, make: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, StoreError> {
        if let Some(value) = self.meta(name)? {
            return Ok(value);
        }
        let transaction = self.connection.transaction()?;
        let value = make();
        set_meta(&transaction, name, &value, false)?;
        transaction.commit()?;
        Ok(value)
    }

    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()?)
    }
}

fn set_meta(transaction: &Transaction<'_>, name: &str, value: &[u8], replace: bool) -> Result<(), StoreError> {
    let sql = if replace { "INSERT OR REPLACE" } else { "INSERT OR IGNORE" };
    transaction.execute(&format!("{sql} INTO meta(name, value) VALUES(?1, ?2)"), params![name, value])?;
    Ok(())
}

/// A key that is there already is the same message.
fn insert(transaction: &Transaction<'_>, channel: &str, message: &Message, now: UnixMs) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO message(key, channel, incident, state, attempts, created_at, next_at, said, body)
               VALUES(?1, ?2, ?3, 'waiting', 0, ?4, ?4, '', ?5)";
    transaction.prepare_cached(sql)?.execute(params![message.key, channel, message.incident, now, serde_json::to_string(message)?])?;
    Ok(())
}

fn claim(transaction: &Transaction<'_>, channel: &str, now: UnixMs, most: usize) -> Result<Vec<Claimed>, StoreError> {
    let sql = "SELECT number, body, attempts, created_at, incident FROM message AS m
               WHERE state = 'waiting' AND channel = ?1 AND next_at <= ?2 AND NOT EXISTS (
                   SELECT 1 FROM message AS earlier WHERE earlier.incident = m.incident AND earlier.channel = m.channel
                   AND earlier.state IN ('waiting', 'sending') AND earlier.number < m.number)
               ORDER BY number LIMIT ?3";
    let read = |row: &rusqlite::Row<'_>| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, u32>(2)?, row.get::<_, u64>(3)?, row.get::<_, String>(4)?))
    };
    let found = transaction.prepare_cached(sql)?.query_map(params![channel, now, most], read)?.collect::<Result<Vec<_>, _>>()?;
    let mut claimed = Vec::with_capacity(found.len());
    for (number, body, attempts, created_at, incident) in found {
        let sql = "UPDATE message SET state = 'sending', attempts = attempts + 1 WHERE number = ?1";
        transaction.prepare_cached(sql)?.execute([number])?;
        let sql = "SELECT name FROM reference WHERE incident = ?1 AND channel = ?2";
        let reference = transaction.prepare_cached(sql)?.query_row([&incident, channel], |row| row.get(0)).optional()?;
        let message = Message { attempt: attempts + 1, reference, ..serde_json::from_str(&body)? };
        claimed.push(Claimed { message, created_at });
    }
    Ok(claimed)
}

fn cut(text: &str) -> String {
    text.chars().take(ANSWER_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Receipt;
    use crate::message::sample;
    use weir_config::NotifyName;

    fn tell(channel: &str, key: &str, incident: &str) -> Output {
        Output::Tell(NotifyName::from(channel), Box::new(Message { incident: incident.into(), ..sample(key, 0) }))
    }

    fn next(store: &mut Store, channel: &str, now: UnixMs) -> Option<Message> {
        match store.next(channel, now, 1).unwrap() {
            Next::Send(claimed) => claimed.into_iter().next().map(|claimed| claimed.message),
            _ => None,
        }
    }

    #[test]
    fn messages_of_an_incident_go_in_order_and_others_pass() {
        let mut store = Store::in_memory().unwrap();
        store
            .record(&[tell("a", "1", "x"), tell("a", "2", "x"), tell("a", "3", "y"), tell("b", "4", "x"), tell("a", "1", "x")], 0)
            .unwrap();
        let first = next(&mut store, "a", 0).unwrap();
        assert_eq!((first.key.as_str(), first.attempt), ("1", 1));
        store.failed(&first, &Fault::temporary("no"), Some(1000), None, 0).unwrap();
        assert_eq!(next(&mut store, "a", 10).unwrap().key, "3", "another incident does not wait");
        assert!(matches!(store.next("a", 10, 9).unwrap(), Next::At(11)), "the second message of x waits for the first");
        let first = next(&mut store, "a", 1000).unwrap();
        assert_eq!((first.key.as_str(), first.attempt), ("1", 2));
        store.delivered("a", &first, &Receipt { reference: Some("T-1".into()), said: "ok".into() }, 1001).unwrap();
        let second = next(&mut store, "a", 1001).unwrap();
        assert_eq!((second.key.as_str(), second.reference.as_deref()), ("2", Some("T-1")));
        assert_eq!(next(&mut store, "b", 0).unwrap().reference, None, "a reference belongs to its channel");
        assert!(matches!(store.next("c", 0, 9).unwrap(), Next::Nothing));
    }

    #[test]
    fn several_are_claimed_at_once_one_of_each_incident() {
        let mut store = Store::in_memory().unwrap();
        let outputs = ["x", "x", "y", "z"].iter().enumerate().map(|(number, incident)| tell("a", &number.to_string(), incident));
        store.record(&outputs.collect::<Vec<_>>(), 0).unwrap();
        let keys = |store: &mut Store, most| match store.next("a", 0, most).unwrap() {
            Next::Send(claimed) => claimed.into_iter().map(|claimed| (claimed.message.key, claimed.message.attempt)).collect(),
            _ => Vec::new(),
        };
        let named = |found: &[(&str, u32)]| found.iter().map(|(key, attempt)| ((*key).to_owned(), *attempt)).collect::<Vec<_>>();
        assert_eq!(keys(&mut store, 2), named(&[("0", 1), ("2", 1)]));
        assert_eq!(keys(&mut store, 9), named(&[("3", 1)]), "the second of x waits for the first");
        store.give_back(&[sample("0", 0), sample("3", 0)]).unwrap();
        assert_eq!(keys(&mut store, 9), named(&[("0", 1), ("3", 1)]), "what was given back was not begun");
        store.delivered("a", &sample("0", 0), &Receipt::default(), 1).unwrap();
        store.give_back(&[sample("0", 0)]).unwrap();
        assert_eq!(keys(&mut store, 9), named(&[("1", 1)]), "what was delivered cannot be given back");
    }

    #[test]
    fn dead_letters_are_listed_resent_and_given_to_the_fallback() {
        let mut store = Store::in_memory().unwrap();
        store.record(&[tell("a", "1", "x")], 0).unwrap();
        let message = next(&mut store, "a", 0).unwrap();
        store.failed(&message, &Fault::permanent("wrong password"), None, Some("b"), 5).unwrap();
        let dead = store.dead().unwrap();
        assert_eq!((dead.len(), dead[0].said.as_str(), dead[0].ended_at), (1, "wrong password", Some(5)));
        assert_eq!(next(&mut store, "b", 5).unwrap().key, "1.to.b");
        assert_eq!(store.counts().unwrap()["a"], (0, 1));
        assert_eq!(store.resend(Some("nonsense"), 9).unwrap(), 0);
        assert_eq!(store.resend(Some("1"), 9).unwrap(), 1);
        assert_eq!(next(&mut store, "a", 9).unwrap().attempt, 2);
    }

    #[test]
    fn what_was_being_sent_at_a_kill_is_sent_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify.db");
        let mut store = Store::open(&path).unwrap();
        store.record(&[tell("a", "1", "x")], 0).unwrap();
        assert!(next(&mut store, "a", 0).is_some());
        drop(store);
        let mut store = Store::open(&path).unwrap();
        assert_eq!(next(&mut store, "a", 0).unwrap().attempt, 2);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (first, second) = (store.meta_or("key", || vec![1]).unwrap(), store.meta_or("key", || vec![2]).unwrap());
        assert_eq!((first, second), (vec![1], vec![1]));
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut store = Store::in_memory().unwrap();
        store.record(&[tell("a", "1", "x"), tell("a", "2", "y")], 0).unwrap();
        let message = next(&mut store, "a", 0).unwrap();
        store.delivered("a", &message, &Receipt::default(), 10).unwrap();
        store.forget(10).unwrap();
        assert_eq!(store.of_incident("x").unwrap().len(), 1);
        store.forget(11).unwrap();
        assert_eq!((store.of_incident("x").unwrap().len(), store.of_incident("y").unwrap().len()), (0, 1));
    }

    #[test]
    fn a_file_that_is_no_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify.db");
        std::fs::write(&path, "this is no database, and longer than its head would be: ".repeat(100)).unwrap();
        assert!(Store::open(&path).is_err());
        assert!(Store::open(Path::new("/nonexistent/notify.db")).unwrap_err().to_string().starts_with("/nonexistent/notify.db: "));
    }
}
