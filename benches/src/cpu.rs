//! What a process tree has used: CPU time in nanoseconds and resident memory, read from `/proc`.

use std::collections::{BTreeSet, HashMap};
use std::fs;

/// One tick of `/proc/PID/stat`, in nanoseconds: USER_HZ is 100 on every architecture we run on.
const TICK_NS: u64 = 10_000_000;

/// CPU time of each thread of a process tree at one moment.
pub(crate) struct Snapshot {
    threads: HashMap<u32, u64>,
}

/// The process and all its descendants.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in numbers("/proc") {
        if let Some(parent) = stat_fields(&format!("/proc/{pid}/stat")).and_then(|f| f.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut todo = vec![root];
    while let Some(pid) = todo.pop() {
        if found.insert(pid) {
            todo.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found.into_iter().collect()
}

/// CPU time of all threads of `root` and its descendants.
pub(crate) fn snapshot(root: u32) -> Snapshot {
    let mut threads = HashMap::new();
    for pid in tree(root) {
        for tid in numbers(&format!("/proc/{pid}/task")) {
            if let Some(ns) = thread_ns(pid, tid) {
                threads.insert(tid, ns);
            }
        }
    }
    Snapshot { threads }
}

impl Snapshot {
    /// Nanoseconds used from `self` to `later`. A thread that ended in between counts for nothing.
    pub(crate) fn ns_until(&self, later: &Snapshot) -> u64 {
        later.threads.iter().map(|(tid, ns)| ns.saturating_sub(self.threads.get(tid).copied().unwrap_or(0))).sum()
    }
}

/// Resident memory of `root` and its descendants in KiB.
pub(crate) fn rss_kib(root: u32) -> u64 {
    tree(root).into_iter().filter_map(process_rss_kib).sum()
}

fn process_rss_kib(pid: u32) -> Option<u64> {
    // `smaps_rollup` is exact; `status` may lag behind by some pages for each thread.
    let text =
        fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).or_else(|_| fs::read_to_string(format!("/proc/{pid}/status"))).ok()?;
    let line = text.lines().find(|l| l.starts_with("Rss:") || l.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// `schedstat` counts nanoseconds; a kernel without it leaves the ticks.
fn thread_ns(pid: u32, tid: u32) -> Option<u64> {
    let exact = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok();
    if let Some(ns) = exact.and_then(|t| t.split_whitespace().next()?.parse().ok()) {
        return Some(ns);
    }
    let fields = stat_fields(&format!("/proc/{pid}/task/{tid}/stat"))?;
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks * TICK_NS)
}

/// The fields after the program's name, which may itself hold spaces; the first is the state.
fn stat_fields(path: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(path).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn numbers(folder: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted() {
        let me = std::process::id();
        let before = snapshot(me);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let (mut x, mut used) = (1u64, 0);
        while used <= 1_000_000 {
            assert!(std::time::Instant::now() < until, "{used} ns of work");
            for _ in 0..1_000_000 {
                x = std::hint::black_box(x.wrapping_mul(3));
            }
            used = before.ns_until(&snapshot(me));
        }
        assert!(rss_kib(me) > 100);
    }
}
