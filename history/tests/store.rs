//! What is written is read again: entries and the audit page by page, samples at every step, also after they were rolled up; what is too old
//! or has no room goes in its order, and the chain of the audit shows whoever touched it.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use weir_config::History;
use weir_history::audit::{Act, Broken, Head};
use weir_history::point::{Page, Point, Series, Tier, by_steps};
use weir_history::store::{Asked, SeriesAsked, Start, Store, StoreError};
use weir_history::{Entry, Record, UnixMs};

/// The begin of a day.
const DAY: u64 = 1_700_006_400_000;

fn memory() -> Store {
    Store::in_memory(Start::default()).expect("a store")
}

fn entry(number: u64) -> Record {
    let kind = if number.is_multiple_of(3) { "alarm_changed" } else { "reloaded" };
    Record::Entry(Entry {
        at: UnixMs(DAY + number),
        kind: kind.into(),
        subject: format!("s{}", number % 5),
        body: format!("{{\"n\":{number}}}"),
    })
}

fn act(number: u64) -> Record {
    Record::Act(Act { at: UnixMs(DAY + number), who: format!("user{}", number % 2), act: "POST /v1/reload".into(), ..Act::default() })
}

#[test]
fn entries_are_found_page_by_page() {
    let mut store = memory();
    store.write(&(1..=100).map(entry).collect::<Vec<_>>()).expect("written");
    let mut seen = Vec::new();
    let mut asked = Asked { limit: 7, ..Asked::default() };
    loop {
        let page = store.entries(&asked).expect("read");
        let Some(last) = page.last() else { break };
        asked.before = Some(last.id);
        seen.extend(page.into_iter().map(|kept| kept.id));
    }
    assert_eq!(seen, (1..=100).rev().collect::<Vec<_>>());
    let count = |asked: Asked| store.entries(&Asked { limit: 1000, ..asked }).expect("read").len();
    assert_eq!(count(Asked { kind: Some("alarm_changed".into()), ..Asked::default() }), 33);
    assert_eq!(count(Asked { subject: Some("s0".into()), ..Asked::default() }), 20);
    assert_eq!(count(Asked { kind: Some("alarm_changed".into()), subject: Some("s0".into()), ..Asked::default() }), 6);
    assert_eq!(count(Asked { from: Some(UnixMs(DAY + 10)), to: Some(UnixMs(DAY + 20)), ..Asked::default() }), 10);
    assert_eq!(count(Asked { kind: Some("' OR 1=1".into()), ..Asked::default() }), 0);
}

#[test]
fn the_audit_shows_who_touched_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let mut store = Store::open(&path).expect("a store");
    (1..=20).for_each(|number| store.write(&[act(number)]).expect("written"));
    let head = store.head();
    let good = store.verify(None).expect("read");
    assert_eq!((good.checked, good.result), (20, Ok(head)));
    assert_eq!(store.acts(&Asked { kind: Some("user1".into()), limit: 3, ..Asked::default() }).expect("read").len(), 3);
    drop(store);
    let check = |sql: &str, noted: Option<Head>, expected: Broken| {
        let copy = folder.path().join("copy.db");
        std::fs::copy(&path, &copy).expect("copied");
        let connection = Connection::open(&copy).expect("opened");
        connection.execute_batch(&format!("DROP TRIGGER audit_is_append_only; {sql}")).expect("tampered");
        drop(connection);
        let verified = Store::open(&copy).expect("whole as a file").verify(noted).expect("read");
        assert_eq!(verified.result, Err(expected), "{sql}");
        std::fs::remove_file(&copy).expect("removed");
    };
    check("UPDATE audit SET who = 'nobody' WHERE number = 7", None, Broken::Altered(7));
    check("UPDATE audit SET hash = x'00' WHERE number = 7", None, Broken::Altered(7));
    check("DELETE FROM audit WHERE number = 7", None, Broken::Missing { expected: 7, found: 8 });
    check("DELETE FROM audit WHERE number > 18", None, Broken::CutOff { expected: 20, found: 18 });
    check("DELETE FROM audit WHERE number < 3", None, Broken::Missing { expected: 1, found: 3 });
    let connection = Connection::open(&path).expect("opened");
    let refused = connection.execute("UPDATE audit SET who = 'nobody' WHERE number = 7", []);
    assert!(refused.is_err_and(|error| error.to_string().contains("only ever appended")), "without dropping the trigger");
}

#[test]
fn the_chain_goes_on_in_memory_where_the_file_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let mut file = Store::open(&path).expect("a store");
    file.write(&[act(1), entry(1), act(2)]).expect("written");
    let mut beside = Store::in_memory(file.start()).expect("a store");
    beside.write(&[act(3), entry(2)]).expect("written");
    assert_eq!(beside.head().number, 3);
    assert_eq!(beside.entries(&Asked { limit: 9, ..Asked::default() }).expect("read")[0].id, 2);
    assert_eq!(beside.verify(None).expect("read").result, Ok(beside.head()));
    file.write(&[act(3)]).expect("written");
    assert_eq!(file.head(), beside.head(), "the same record has the same hash in both");
}

fn series(name: &str) -> Series {
    Series { metric: "requests".into(), scope: "pool".into(), name: name.into() }
}

/// What was measured, a sample each second.
fn load(name: &str, second: u64) -> f64 {
    let base = if name == "web" { 100.0 } else { 7.0 };
    base + (second % 50) as f64
}

fn samples(name: &str, from_s: u64, to_s: u64) -> Vec<Point> {
    (from_s..to_s).map(|second| Point::of(UnixMs(DAY + second * 1000), load(name, second))).collect()
}

fn write_minutes(store: &mut Store, name: &str, minutes: std::ops::Range<u64>) {
    for minute in minutes {
        let points = by_steps(samples(name, minute * 60, minute * 60 + 60), 10_000);
        let page = Page { series: series(name), at: UnixMs(DAY + minute * 60_000), points };
        store.write(&[Record::Pages(vec![page])]).expect("written");
    }
}

fn check_series(store: &Store, name: &str, from_s: u64, to_s: u64, step_s: u64) {
    let asked =
        SeriesAsked { series: series(name), from: UnixMs(DAY + from_s * 1000), to: UnixMs(DAY + to_s * 1000), step_ms: step_s * 1000 };
    let found = store.series(&asked).expect("read");
    let expected = by_steps(samples(name, from_s, to_s), step_s * 1000);
    let (at, same): (Vec<_>, Vec<_>) = found.iter().map(|point| (point.at, (point.count, point.min, point.max))).unzip();
    let (expected_at, expected_same): (Vec<_>, Vec<_>) =
        expected.iter().map(|point| (point.at, (point.count, point.min, point.max))).unzip();
    assert_eq!((at, same), (expected_at, expected_same), "{name} {from_s}..{to_s} by {step_s}");
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found.mean - expected.mean).abs() < 1e-3, "{found:?} {expected:?}");
    }
}

#[test]
fn samples_are_the_same_at_every_step_whatever_was_rolled_up() {
    let mut store = memory();
    write_minutes(&mut store, "web", 0..200);
    write_minutes(&mut store, "api", 0..200);
    let steps = |store: &Store| {
        for name in ["web", "api"] {
            for (from, to, step) in [(0, 600, 10), (0, 12_000, 60), (1800, 9000, 300), (0, 10_800, 3600), (7200, 12_000, 600)] {
                check_series(store, name, from, to, step);
            }
        }
    };
    steps(&store);
    assert_eq!(store.roll(UnixMs(DAY + 200 * 60_000)).expect("rolled"), 3, "three hours are over");
    assert_eq!(store.roll(UnixMs(DAY + 200 * 60_000)).expect("rolled"), 0);
    steps(&store);
    // Fine points go; a minute is then the finest.
    let short = History { samples_10s: Duration::from_secs(3600), ..History::default() };
    store.forget(&short, UnixMs(DAY + 200 * 60_000)).expect("forgotten");
    check_series(&store, "web", 0, 12_000, 60);
    let asked = SeriesAsked { series: series("web"), from: UnixMs(DAY), to: UnixMs(DAY + 3_600_000), step_ms: 10_000 };
    assert_eq!(store.series(&asked).expect("read").len(), 60);
    // And then an hour.
    let short = History { samples_1m: Duration::from_secs(60), ..short };
    store.forget(&short, UnixMs(DAY + 200 * 60_000)).expect("forgotten");
    assert_eq!(store.series(&asked).expect("read").len(), 1);
    check_series(&store, "web", 0, 10_800, 3600);
    assert_eq!(store.catalog().expect("read"), [series("api"), series("web")]);
}

#[test]
fn what_comes_late_is_rolled_up_again() {
    let mut store = memory();
    write_minutes(&mut store, "web", 0..30);
    write_minutes(&mut store, "web", 60..130);
    store.roll(UnixMs(DAY + 130 * 60_000)).expect("rolled");
    write_minutes(&mut store, "web", 30..60);
    store.roll(UnixMs(DAY + 130 * 60_000)).expect("rolled");
    check_series(&store, "web", 0, 7200, 3600);
    // A page that was begun before a restart is completed after it.
    let half = |from, to| {
        Record::Pages(vec![Page {
            series: series("api"),
            at: UnixMs(DAY),
            points: by_steps(samples("api", from, to), Tier::TenSeconds.period_ms()),
        }])
    };
    store.write(&[half(0, 30)]).expect("written");
    store.write(&[half(30, 60)]).expect("written");
    check_series(&store, "api", 0, 60, 10);
}

/// A node that was off for a year does not go through every hour of it.
#[test]
fn long_gaps_are_skipped() {
    let mut store = memory();
    write_minutes(&mut store, "web", 0..60);
    let year = 365 * 24 * 60;
    write_minutes(&mut store, "web", year..year + 60);
    assert_eq!(store.roll(UnixMs(DAY + (year + 63) * 60_000)).expect("rolled"), 2);
    check_series(&store, "web", year * 60, year * 60 + 3600, 3600);
}

#[test]
fn what_has_no_room_goes_in_its_order() {
    let mut store = memory();
    store.write(&(1..=500).map(act).collect::<Vec<_>>()).expect("written");
    store.write(&(1..=500).map(entry).collect::<Vec<_>>()).expect("written");
    write_minutes(&mut store, "web", 0..2000);
    let count = |store: &Store| {
        let asked = Asked { limit: 1000, ..Asked::default() };
        let points = SeriesAsked { series: series("web"), from: UnixMs(DAY), to: UnixMs(DAY + 2000 * 60_000), step_ms: 60_000 };
        let read = (store.series(&points), store.entries(&asked), store.acts(&asked));
        (read.0.expect("read").len(), read.1.expect("read").len(), read.2.expect("read").len())
    };
    assert_eq!(count(&store), (2000, 500, 500));
    let forget = |store: &mut Store, percent: u64| {
        let size_max = store.used_bytes() / 100 * percent;
        store.forget(&History { size_max, ..History::default() }, UnixMs(DAY + 2000 * 60_000)).expect("forgotten");
        assert!(store.used_bytes() <= size_max);
    };
    forget(&mut store, 80);
    let (points, entries, acts) = count(&store);
    assert!(points < 2000 && points > 1000 && (entries, acts) == (500, 500), "{points} {entries} {acts}");
    let head = store.head();
    let mut least = (points, entries, acts);
    while store.used_bytes() > 80_000 {
        forget(&mut store, 90);
        let now = count(&store);
        assert!(now <= least, "{now:?}");
        assert!(now.1 == 500 || now.0 <= 60, "entries before samples: {now:?}");
        assert!(now.2 == 500 || now.1 == 0, "the audit before entries: {now:?}");
        least = now;
    }
    assert!(least.2 < 500, "{least:?}");
    let verified = store.verify(None).expect("read");
    assert_eq!((verified.checked as usize, verified.result), (least.2, Ok(head)), "what is left of the chain holds");
    assert!(verified.anchor.number > 0);
}

#[test]
fn what_is_too_old_goes() {
    let mut store = memory();
    store.write(&[entry(1), act(1), act(2)]).expect("written");
    write_minutes(&mut store, "web", 0..3);
    let settings = History { events: Duration::from_secs(60), audit: Some(Duration::from_secs(60)), ..History::default() };
    store.forget(&settings, UnixMs(DAY + 30_000)).expect("forgotten");
    assert_eq!(store.entries(&Asked { limit: 1, ..Asked::default() }).expect("read").len(), 1);
    store.forget(&settings, UnixMs(DAY + 400 * 24 * 3_600_000 + 100_000_000)).expect("forgotten");
    assert!(store.entries(&Asked { limit: 1, ..Asked::default() }).expect("read").is_empty());
    assert!(store.catalog().expect("read").is_empty());
    store.write(&[act(3)]).expect("written");
    let verified = store.verify(None).expect("read");
    assert_eq!((verified.anchor.number, verified.checked), (2, 1), "numbers go on");
    assert!(verified.result.is_ok());
}

#[test]
fn files_of_others_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let open = |path: &Path| Store::open(path).map(drop);
    std::fs::write(
        &path,
        "this is no database, but a text that is long enough to be looked at as one would look at a database ".repeat(20),
    )
    .expect("written");
    assert!(matches!(open(&path), Err(StoreError::Damaged { .. })), "{:?}", open(&path));
    std::fs::remove_file(&path).expect("removed");
    open(&path).expect("a new one");
    Connection::open(&path).expect("opened").pragma_update(None, "user_version", 99).expect("written");
    assert!(matches!(open(&path), Err(StoreError::Newer { layout: 99, .. })));
    assert!(matches!(open(Path::new("/nonexistent/history.db")), Err(StoreError::Unusable { .. })));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
}
