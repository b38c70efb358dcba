//! Entries and the audit, page by page, the latest first.

use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};

use super::{ANCHOR, HEAD, Store, StoreError, hash, moment};
use crate::audit::{Act, Broken, Head, Sealed, Verifier};
use crate::{Entry, UnixMs};

/// Rows of one answer.
pub const ROWS_MAX: u32 = 1000;

/// Which of them. What is empty or absent does not matter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    /// Only of this kind; of the audit: by whom.
    pub kind: Option<String>,
    /// Only what happened to this one.
    pub subject: Option<String>,
    /// Not before.
    pub from: Option<UnixMs>,
    /// Before.
    pub to: Option<UnixMs>,
    /// Only with smaller numbers: to go on behind a page.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: u32,
}

/// An entry that is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Its number.
    pub id: u64,
    /// What happened.
    pub entry: Entry,
}

/// A page of entries.
pub type Found = Vec<Kept>;

/// A page of the audit.
pub type Acts = Vec<Sealed>;

/// What became of the look at the whole audit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Records that were looked at.
    pub checked: u64,
    /// The last record before, which was forgotten in order.
    pub anchor: Head,
    /// The last one, or what is wrong.
    pub result: Result<Head, Broken>,
}

impl Store {
    /// Entries, the latest first.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn entries(&self, asked: &Asked) -> Result<Found, StoreError> {
        let entry = |row: &Row<'_>| {
            let entry = Entry { at: moment(row, 1)?, kind: row.get(2)?, subject: row.get(3)?, body: row.get(4)? };
            Ok(Kept { id: row.get(0)?, entry })
        };
        self.page("SELECT id, at, kind, subject, body FROM entry", "id", "kind", asked, entry)
    }

    /// Records of the audit, the latest first.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn acts(&self, asked: &Asked) -> Result<Acts, StoreError> {
        let sql = "SELECT number, at, who, origin, act, subject, outcome, detail, hash FROM audit";
        self.page(sql, "number", "who", asked, sealed)
    }

    fn page<T>(
        &self,
        select: &str,
        number: &str,
        kind: &str,
        asked: &Asked,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut conditions = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        let mut only = |condition: String, value: Option<Value>| {
            if let Some(value) = value {
                conditions.push(condition);
                values.push(value);
            }
        };
        let integer = |value: Option<u64>| value.map(|value| Value::Integer(i64::try_from(value).unwrap_or(i64::MAX)));
        only(format!("{kind} = ?"), asked.kind.clone().map(Value::Text));
        only("subject = ?".into(), asked.subject.clone().map(Value::Text));
        only("at >= ?".into(), integer(asked.from.map(|at| at.0)));
        only("at < ?".into(), integer(asked.to.map(|at| at.0)));
        only(format!("{number} < ?"), integer(asked.before));
        let condition = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let limit = asked.limit.clamp(1, ROWS_MAX);
        let sql = format!("{select}{condition} ORDER BY {number} DESC LIMIT {limit}");
        let run = || -> rusqlite::Result<Vec<T>> {
            let mut statement = self.connection.prepare_cached(&sql)?;
            statement.query_map(params_from_iter(values), read)?.collect()
        };
        run().map_err(|error| self.fault(&error))
    }

    /// Goes along the whole audit. `noted`: a head that somebody has noted elsewhere.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn verify(&self, noted: Option<Head>) -> Result<Verified, StoreError> {
        let run = || -> rusqlite::Result<Verified> {
            let anchor = self.meta_head(ANCHOR)?.unwrap_or_default();
            let written = self.meta_head(HEAD)?.unwrap_or_default();
            let mut verifier = Verifier::new(anchor, noted);
            let sql = "SELECT number, at, who, origin, act, subject, outcome, detail, hash FROM audit ORDER BY number";
            let mut statement = self.connection.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if let Err(broken) = verifier.check(&sealed(row)?) {
                    return Ok(Verified { checked: verifier.checked, anchor, result: Err(broken) });
                }
            }
            Ok(Verified { checked: verifier.checked, anchor, result: verifier.finish(written) })
        };
        run().map_err(|error| self.fault(&error))
    }
}

fn sealed(row: &Row<'_>) -> rusqlite::Result<Sealed> {
    let act = Act {
        at: moment(row, 1)?,
        who: row.get(2)?,
        origin: row.get(3)?,
        act: row.get(4)?,
        subject: row.get(5)?,
        outcome: row.get(6)?,
        detail: row.get(7)?,
    };
    Ok(Sealed { number: row.get(0)?, act, hash: hash(row.get(8)?) })
}
