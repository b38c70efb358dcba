//! What is too old, and what has no room.
//!
//! Where there is no room, the finest samples go first, a part of their time at once, then the coarser ones, then the oldest entries. The audit
//! goes last; the hash of its last forgotten record stays, so that the rest of the chain can still be verified.

use rusqlite::{OptionalExtension, params};
use weir_config::History;

use super::{ANCHOR, Store, StoreError, hash, ms, set_head};
use crate::UnixMs;
use crate::audit::Head;
use crate::point::Tier;

/// Of what has no room this share of its time goes at once.
const SHARE: u64 = 8;

/// After it was shrunk, so much of the room is used, in percent.
const ROOM_PERCENT: u64 = 90;

/// Pages that are given back to the file system at once.
const VACUUM_PAGES: u32 = 10_000;

impl Store {
    /// Forgets what is older than the file wants it kept, and what has no room.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn forget(&mut self, settings: &History, now: UnixMs) -> Result<(), StoreError> {
        let run = |store: &mut Store| -> rusqlite::Result<()> {
            for (tier, kept) in
                [(Tier::TenSeconds, settings.samples_10s), (Tier::Minute, settings.samples_1m), (Tier::Hour, settings.samples_1h)]
            {
                store.forget_samples(tier, now.minus(ms(kept)))?;
            }
            store.connection.execute("DELETE FROM entry WHERE at < ?1", [now.minus(ms(settings.events)).0])?;
            if let Some(kept) = settings.audit {
                // In the order of numbers, whatever the clock said.
                let sql = "SELECT max(number) FROM audit WHERE at < ?1";
                let last: Option<u64> = store.connection.query_row(sql, [now.minus(ms(kept)).0], |row| row.get(0))?;
                store.forget_acts(last.unwrap_or(0))?;
            }
            let unused = "DELETE FROM series WHERE NOT EXISTS (SELECT 1 FROM sample WHERE tier IN (10, 60, 3600) AND series = series.id)";
            store.connection.execute(unused, [])?;
            store.shrink(settings.size_max)?;
            store.connection.execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))
        };
        run(self).map_err(|error| self.fault(&error))
    }

    /// Makes room, where there is too little.
    fn shrink(&mut self, size_max: u64) -> rusqlite::Result<()> {
        if self.used_bytes() <= size_max {
            return Ok(());
        }
        while self.used_bytes() > size_max / 100 * ROOM_PERCENT && self.drop_some()? {}
        Ok(())
    }

    /// False: nothing is left that could go.
    fn drop_some(&mut self) -> rusqlite::Result<bool> {
        for tier in Tier::ALL {
            let sql = "SELECT min(at), max(at) FROM sample WHERE tier = ?1";
            let span = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<u64>>(0)?, row.get::<_, Option<u64>>(1)?));
            if let (Some(first), Some(last)) = self.connection.query_row(sql, [tier.number()], span)?
                && last - first >= tier.page_ms()
            {
                self.forget_samples(tier, UnixMs(first + ((last - first) / SHARE).max(tier.page_ms())))?;
                return Ok(true);
            }
        }
        let numbers = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<u64>>(0)?, row.get::<_, Option<u64>>(1)?));
        if let (Some(first), Some(last)) = self.connection.query_row("SELECT min(id), max(id) FROM entry", [], numbers)? {
            self.connection.execute("DELETE FROM entry WHERE id <= ?1", [first + (last - first) / SHARE])?;
            return Ok(true);
        }
        if let (Some(first), Some(last)) = self.connection.query_row("SELECT min(number), max(number) FROM audit", [], numbers)?
            && last > first
        {
            self.forget_acts(first + (last - first) / SHARE)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn forget_samples(&mut self, tier: Tier, before: UnixMs) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let ids: Vec<i64> =
            transaction.prepare_cached("SELECT id FROM series")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        {
            // A page stays until all of it is too old.
            let mut delete = transaction.prepare_cached("DELETE FROM sample WHERE tier = ?1 AND series = ?2 AND at < ?3")?;
            for id in ids {
                delete.execute(params![tier.number(), id, before.minus(tier.page_ms() - 1).0])?;
            }
        }
        transaction.commit()
    }

    /// The audit up to this number.
    fn forget_acts(&mut self, last: u64) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let sql = "SELECT number, hash FROM audit WHERE number <= ?1 ORDER BY number DESC LIMIT 1";
        let anchor = transaction.query_row(sql, [last], |row| Ok(Head { number: row.get(0)?, hash: hash(row.get(1)?) })).optional()?;
        let Some(anchor) = anchor else { return Ok(()) };
        set_head(&transaction, ANCHOR, anchor)?;
        transaction.execute("DELETE FROM audit WHERE number <= ?1", [anchor.number])?;
        transaction.commit()
    }
}
