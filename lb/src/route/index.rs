//! Finding the routes whose host and path may fit, without looking at the others.

use std::collections::BTreeMap;

use fnv::FnvHashMap;
use weir_config::{HostPattern, PathPattern, Route};

use super::condition::without_dot;

/// Longer ones are no names: RFC 1035 section 2.3.4.
const HOST_BYTES_MAX: usize = 255;
const NONE: u32 = u32::MAX;

/// Routes by host, and within a host by path. A route is a number; the smallest that fits is the first.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// (The names are the file's: nobody outside can make them collide.)
    exact: FnvHashMap<Box<[u8]>, Section>,
    /// Of `*.example.com` under `example.com`.
    below: FnvHashMap<Box<[u8]>, Section>,
    any: Section,
}

/// The routes of one host.
#[derive(Debug, Default)]
struct Section {
    /// Those without a path that can be looked up.
    pathless: Vec<u32>,
    /// Sorted by path.
    paths: Vec<Entry>,
}

/// A prefix, or a whole path: it is compared as a prefix here, and in full by the route's condition.
#[derive(Debug)]
struct Entry {
    path: Box<[u8]>,
    /// The longest other path in the table that this one begins with.
    parent: u32,
    /// Ascending.
    routes: Vec<u32>,
}

/// A [`Section`] before it is sorted.
#[derive(Default)]
struct Draft<'a> {
    pathless: Vec<u32>,
    paths: BTreeMap<&'a [u8], Vec<u32>>,
}

impl<'a> Draft<'a> {
    fn add(&mut self, number: u32, path: Option<&'a PathPattern>) {
        let list = match path {
            Some(PathPattern::Prefix(path) | PathPattern::Exact(path)) => self.paths.entry(path.as_bytes()).or_default(),
            None | Some(PathPattern::Regex(_)) => &mut self.pathless,
        };
        // Two hosts of one route may be the same.
        if list.last() != Some(&number) {
            list.push(number);
        }
    }

    fn finish(self) -> Section {
        let mut paths: Vec<Entry> = Vec::with_capacity(self.paths.len());
        for (path, routes) in self.paths {
            let mut parent = paths.len().checked_sub(1);
            while let Some(at) = parent
                && !path.starts_with(&paths[at].path)
            {
                parent = (paths[at].parent != NONE).then_some(paths[at].parent as usize);
            }
            paths.push(Entry { path: path.into(), parent: parent.map_or(NONE, |at| at as u32), routes });
        }
        Section { pathless: self.pathless, paths }
    }
}

impl Section {
    /// Lowers `best` to the first route that fits, if that is before it.
    fn first(&self, path: &[u8], best: &mut u32, fits: &impl Fn(u32) -> bool) {
        lower(&self.pathless, best, fits);
        let after = self.paths.partition_point(|entry| *entry.path <= *path);
        // What path begins with is either the last entry that is not behind it, or one that this one begins with.
        let mut at = after.checked_sub(1).map_or(NONE, |at| at as u32);
        while at != NONE {
            let entry = &self.paths[at as usize];
            if path.starts_with(&entry.path) {
                lower(&entry.routes, best, fits);
            }
            at = entry.parent;
        }
    }
}

fn lower(routes: &[u32], best: &mut u32, fits: &impl Fn(u32) -> bool) {
    for number in routes {
        if number >= best {
            return;
        }
        if fits(*number) {
            *best = *number;
            return;
        }
    }
}

impl Index {
    pub(super) fn new(routes: &[Route]) -> Index {
        let (mut exact, mut below) = (BTreeMap::<&str, Draft<'_>>::new(), BTreeMap::<&str, Draft<'_>>::new());
        let mut any = Draft::default();
        for (number, route) in (0..).zip(routes) {
            let path = route.path.as_ref();
            if route.hosts.is_empty() {
                any.add(number, path);
            }
            for host in &route.hosts {
                match host {
                    HostPattern::Exact(name) => exact.entry(name).or_default().add(number, path),
                    HostPattern::Below(base) => below.entry(base).or_default().add(number, path),
                }
            }
        }
        let finish =
            |drafts: BTreeMap<&str, Draft<'_>>| drafts.into_iter().map(|(host, draft)| (host.as_bytes().into(), draft.finish())).collect();
        Index { exact: finish(exact), below: finish(below), any: any.finish() }
    }

    /// The smallest number whose host and path may fit and for which `fits` holds.
    pub(super) fn first(&self, host: &[u8], path: &[u8], fits: impl Fn(u32) -> bool) -> Option<usize> {
        let mut best = NONE;
        self.any.first(path, &mut best, &fits);
        let host = without_dot(host);
        if host.len() <= HOST_BYTES_MAX && !(self.exact.is_empty() && self.below.is_empty()) {
            let mut lower_case = [0; HOST_BYTES_MAX];
            let lower_case = &mut lower_case[..host.len()];
            lower_case.copy_from_slice(host);
            lower_case.make_ascii_lowercase();
            self.by_host(lower_case, path, &mut best, &fits);
        }
        (best != NONE).then_some(best as usize)
    }

    fn by_host(&self, host: &[u8], path: &[u8], best: &mut u32, fits: &impl Fn(u32) -> bool) {
        if let Some(section) = self.exact.get(host) {
            section.first(path, best, fits);
        }
        if self.below.is_empty() {
            return;
        }
        // A name that begins with a dot has nothing in front of it.
        for dot in memchr::memchr_iter(b'.', host).filter(|dot| *dot > 0) {
            if let Some(section) = self.below.get(&host[dot + 1..]) {
                section.first(path, best, fits);
            }
        }
    }
}
