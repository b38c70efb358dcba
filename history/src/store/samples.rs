//! Pages of points, and how fine ones become coarse ones.
//!
//! Each hour that is over is rolled up from its pages of ten seconds: into points of a minute, and into one of an hour. What comes later for an
//! hour that was rolled up already, as after a clock was set back, has it rolled up again.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Transaction, params};

use super::{ROLLED, Store, StoreError, moment, set_meta};
use crate::UnixMs;
use crate::point::{Page, Point, Series, Tier, by_steps, join, pack, unpack};

const HOUR_MS: u64 = 3_600_000;

/// How long after its end an hour is rolled up: its last page comes when its minute is over.
const GRACE_MS: u64 = 120_000;

/// Hours that are rolled up at once.
const HOURS_MAX: usize = 48;

/// Points of one answer.
pub const STEPS_MAX: u64 = 5000;

/// Which points.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeriesAsked {
    /// Of what and whom.
    pub series: Series,
    /// Not before.
    pub from: UnixMs,
    /// Before.
    pub to: UnixMs,
    /// A point for each so many milliseconds.
    pub step_ms: u64,
}

impl SeriesAsked {
    /// The step made long enough for an answer of [`STEPS_MAX`] points, and a multiple of the finest there is.
    pub fn bounded(mut self) -> SeriesAsked {
        let finest = Tier::TenSeconds.period_ms();
        let span = self.to.0.saturating_sub(self.from.0);
        self.step_ms = self.step_ms.max(span.div_ceil(STEPS_MAX)).max(finest).div_ceil(finest) * finest;
        // A step that begins before is a step that is asked for.
        self.from = self.from.floor(self.step_ms);
        self
    }
}

pub(super) fn insert(transaction: &Transaction<'_>, pages: &[Page]) -> rusqlite::Result<()> {
    let mut oldest: Option<UnixMs> = None;
    for page in pages {
        let id = series_id(transaction, &page.series)?;
        put(transaction, Tier::TenSeconds, id, page.at, &page.points)?;
        oldest = Some(oldest.map_or(page.at, |oldest| oldest.min(page.at)));
    }
    // Not rolled up beyond what is still coming.
    let rolled = rolled(transaction)?;
    if let Some(oldest) = oldest.map(|at| at.floor(HOUR_MS))
        && rolled.is_none_or(|rolled| oldest < rolled)
    {
        set_rolled(transaction, oldest)?;
    }
    Ok(())
}

fn series_id(transaction: &Transaction<'_>, series: &Series) -> rusqlite::Result<i64> {
    let Series { metric, scope, name } = series;
    let mut find = transaction.prepare_cached("SELECT id FROM series WHERE metric = ?1 AND scope = ?2 AND name = ?3")?;
    if let Some(id) = find.query_row(params![&**metric, &**scope, &**name], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    let mut add = transaction.prepare_cached("INSERT INTO series(metric, scope, name) VALUES(?1, ?2, ?3)")?;
    add.insert(params![&**metric, &**scope, &**name])
}

/// Adds to the page what is new.
fn put(transaction: &Transaction<'_>, tier: Tier, series: i64, at: UnixMs, points: &[Point]) -> rusqlite::Result<()> {
    let mut add = transaction.prepare_cached("INSERT OR IGNORE INTO sample(tier, series, at, body) VALUES(?1, ?2, ?3, ?4)")?;
    if add.execute(params![tier.number(), series, at.0, Value::Blob(pack(tier, at, points))])? == 1 {
        return Ok(());
    }
    let mut find = transaction.prepare_cached("SELECT body FROM sample WHERE tier = ?1 AND series = ?2 AND at = ?3")?;
    let body: Vec<u8> = find.query_row(params![tier.number(), series, at.0], |row| row.get(0))?;
    let joined = join(unpack(tier, at, &body), points);
    let mut change = transaction.prepare_cached("UPDATE sample SET body = ?4 WHERE tier = ?1 AND series = ?2 AND at = ?3")?;
    change.execute(params![tier.number(), series, at.0, Value::Blob(pack(tier, at, &joined))])?;
    Ok(())
}

fn rolled(transaction: &Transaction<'_>) -> rusqlite::Result<Option<UnixMs>> {
    let mut find = transaction.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    let bytes: Option<Vec<u8>> = find.query_row([ROLLED], |row| row.get(0)).optional()?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(|bytes| UnixMs(u64::from_be_bytes(bytes))))
}

fn set_rolled(transaction: &Transaction<'_>, to: UnixMs) -> rusqlite::Result<()> {
    set_meta(transaction, ROLLED, &to.0.to_be_bytes())
}

impl Store {
    /// Rolls up the hours that are over. Returns how many.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn roll(&mut self, now: UnixMs) -> Result<usize, StoreError> {
        let mut hours = 0;
        while hours < HOURS_MAX && self.roll_hour(now).map_err(|error| self.fault(&error))? {
            hours += 1;
        }
        Ok(hours)
    }

    /// One hour, in one transaction.
    fn roll_hour(&mut self, now: UnixMs) -> rusqlite::Result<bool> {
        let transaction = self.connection.transaction()?;
        let Some(hour) = rolled(&transaction)?.filter(|hour| hour.plus(HOUR_MS + GRACE_MS) <= now) else { return Ok(false) };
        let ids: Vec<i64> =
            transaction.prepare_cached("SELECT id FROM series")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for id in ids {
            let points = points(&transaction, Tier::TenSeconds, id, hour, hour.plus(HOUR_MS))?;
            let minutes = by_steps(points, Tier::Minute.period_ms());
            if minutes.is_empty() {
                continue;
            }
            put(&transaction, Tier::Minute, id, hour, &minutes)?;
            let hours = by_steps(minutes, HOUR_MS);
            put(&transaction, Tier::Hour, id, hour.floor(Tier::Hour.page_ms()), &hours)?;
        }
        // What is empty in between is not gone through hour by hour.
        let sql = "SELECT min(at) FROM sample WHERE tier = ?1 AND series = ?2 AND at >= ?3";
        let mut next: Option<u64> = None;
        let mut find = transaction.prepare_cached(sql)?;
        let ids: Vec<i64> =
            transaction.prepare_cached("SELECT id FROM series")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for id in ids {
            let at: Option<u64> = find.query_row(params![Tier::TenSeconds.number(), id, hour.plus(HOUR_MS).0], |row| row.get(0))?;
            next = next.into_iter().chain(at).min();
        }
        drop(find);
        let to = next.map_or(now.floor(HOUR_MS), |at| UnixMs(at).floor(HOUR_MS));
        set_rolled(&transaction, to.max(hour.plus(HOUR_MS)))?;
        transaction.commit()?;
        Ok(true)
    }

    /// The points of a series, each of one step. Older ones are as coarse as they are kept.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn series(&self, asked: &SeriesAsked) -> Result<Vec<Point>, StoreError> {
        let asked = asked.clone().bounded();
        let run = || -> rusqlite::Result<Vec<Point>> {
            let sql = "SELECT id FROM series WHERE metric = ?1 AND scope = ?2 AND name = ?3";
            let Series { metric, scope, name } = &asked.series;
            let id = self.connection.query_row(sql, params![&**metric, &**scope, &**name], |row| row.get::<_, i64>(0)).optional()?;
            let Some(id) = id else { return Ok(Vec::new()) };
            let tier = Tier::ALL.into_iter().rev().find(|tier| tier.period_ms() <= asked.step_ms).unwrap_or(Tier::TenSeconds);
            let mut found = points(&self.connection, tier, id, asked.from, asked.to)?;
            let end = |found: &[Point], tier: Tier| found.last().map(|last| last.at.plus(tier.period_ms()));
            let mut covered = end(&found, tier).unwrap_or(asked.from);
            let mut finer = tier.finer();
            while let Some(tier) = finer {
                let more = points(&self.connection, tier, id, covered, asked.to)?;
                covered = end(&more, tier).unwrap_or(covered);
                found.extend(more);
                finer = tier.finer();
            }
            let mut coarser = tier.coarser();
            while let Some(tier) = coarser {
                let to = found.first().map_or(asked.to, |first| first.at.floor(tier.period_ms()));
                let mut older = points(&self.connection, tier, id, asked.from, to)?;
                older.append(&mut found);
                found = older;
                coarser = tier.coarser();
            }
            Ok(by_steps(found, asked.step_ms))
        };
        run().map_err(|error| self.fault(&error))
    }

    /// All series of which something is kept.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn catalog(&self) -> Result<Vec<Series>, StoreError> {
        let run = || -> rusqlite::Result<Vec<Series>> {
            let mut statement = self.connection.prepare_cached("SELECT metric, scope, name FROM series ORDER BY scope, name, metric")?;
            let text = |row: &rusqlite::Row<'_>, column| row.get::<_, String>(column).map(Into::into);
            statement.query_map([], |row| Ok(Series { metric: text(row, 0)?, scope: text(row, 1)?, name: text(row, 2)? }))?.collect()
        };
        run().map_err(|error| self.fault(&error))
    }
}

/// The points of a tier, in the order of time.
fn points(connection: &rusqlite::Connection, tier: Tier, series: i64, from: UnixMs, to: UnixMs) -> rusqlite::Result<Vec<Point>> {
    let sql = "SELECT at, body FROM sample WHERE tier = ?1 AND series = ?2 AND at >= ?3 AND at < ?4 ORDER BY at";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![tier.number(), series, from.floor(tier.page_ms()).0, to.0])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let body: Vec<u8> = row.get(1)?;
        found.extend(unpack(tier, moment(row, 0)?, &body).into_iter().filter(|point| point.at >= from && point.at < to));
    }
    Ok(found)
}
