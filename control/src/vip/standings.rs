//! How this node stands for each of its virtual IPs, kept up to date from all that watches, and told on when it changes.
//!
//! Whoever learns something says it here, on the thread it learnt it on: that a worker has died must not wait for a main loop that is busy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_config::{TrackSubject, Vip, VipName};
use weir_lb::shell::Vitality;

use super::standing::{Facts, Known, Standing, standing};

/// What is told on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Report {
    /// The virtual IP.
    pub(crate) vip: VipName,
    /// How this node stands.
    pub(crate) standing: Standing,
    /// Healthy endpoints in the tracked pools; `None`: none is tracked.
    pub(crate) healthy: Option<u32>,
}

/// All of them.
pub(crate) struct Standings {
    state: Mutex<State>,
    tell: Box<dyn Fn(Report) + Send + Sync>,
}

#[derive(Default)]
struct State {
    vitality: Option<Vitality>,
    entries: BTreeMap<VipName, Entry>,
}

struct Entry {
    vip: Arc<Vip>,
    facts: Facts,
    told: Option<Report>,
}

impl std::fmt::Debug for Standings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standings").finish_non_exhaustive()
    }
}

impl Standings {
    /// None yet. `tell` is called with each change, one call at a time; it must not block.
    pub(crate) fn new(tell: impl Fn(Report) + Send + Sync + 'static) -> Standings {
        Standings { state: Mutex::default(), tell: Box::new(tell) }
    }

    /// These are the virtual IPs from now on. What was learnt about a track that is still there stays.
    pub(crate) fn set_vips(&self, vips: &BTreeMap<VipName, Arc<Vip>>) {
        let mut state = self.lock();
        let mut before = std::mem::take(&mut state.entries);
        for (name, vip) in vips {
            let old = before.remove(name);
            let known = |subject: &TrackSubject| {
                let old = old.as_ref()?;
                let index = old.vip.tracks.iter().position(|track| track.subject == *subject)?;
                old.facts.tracks.get(index)?.clone()
            };
            let facts = Facts {
                tracks: vip.tracks.iter().map(|track| known(&track.subject)).collect(),
                ..old.as_ref().map(|old| old.facts.clone()).unwrap_or_default()
            };
            // Told anew: a virtual router that is another one now has heard nothing yet.
            state.entries.insert(name.clone(), Entry { vip: vip.clone(), facts, told: None });
        }
        self.tell_changes(&mut state);
    }

    /// How the data plane is.
    pub(crate) fn set_vitality(&self, vitality: Vitality) {
        let mut state = self.lock();
        state.vitality = Some(vitality);
        self.tell_changes(&mut state);
    }

    /// What was learnt about something that virtual IPs track.
    pub(crate) fn set_track(&self, subject: &TrackSubject, known: &Known) {
        let mut state = self.lock();
        for entry in state.entries.values_mut() {
            for (track, fact) in entry.vip.tracks.iter().zip(&mut entry.facts.tracks) {
                if track.subject == *subject {
                    fact.clone_from(known);
                }
            }
        }
        self.tell_changes(&mut state);
    }

    /// Counts the healthy endpoints in the pools that each virtual IP tracks.
    pub(crate) fn set_healthy(&self, count: impl Fn(&str) -> u32) {
        let mut state = self.lock();
        for entry in state.entries.values_mut() {
            let pools = entry.vip.tracks.iter().filter_map(|track| match &track.subject {
                TrackSubject::Pool(pool) => Some(count(&pool.0)),
                _ => None,
            });
            entry.facts.healthy_here = pools.reduce(|sum, count| sum + count);
        }
        self.tell_changes(&mut state);
    }

    /// Everything that is tracked, each once.
    pub(crate) fn subjects(&self) -> Vec<TrackSubject> {
        let mut subjects: Vec<TrackSubject> = Vec::new();
        for track in self.lock().entries.values().flat_map(|entry| &entry.vip.tracks) {
            if !subjects.contains(&track.subject) {
                subjects.push(track.subject.clone());
            }
        }
        subjects
    }

    fn tell_changes(&self, state: &mut State) {
        let State { vitality, entries } = state;
        for (name, entry) in entries {
            entry.facts.vitality = *vitality;
            let healthy = entry.facts.healthy_here;
            let report = Report { vip: name.clone(), standing: standing(&entry.vip, &entry.facts), healthy };
            if entry.told.as_ref() != Some(&report) {
                entry.told = Some(report.clone());
                (self.tell)(report);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn vips(text: &str) -> BTreeMap<VipName, Arc<Vip>> {
        weir_config::parse(text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false))).vips
    }

    #[test]
    fn each_change_is_told_once_and_a_reload_forgets_nothing() {
        let base = "[vip.a]\ninterface = \"eth0\"\nrouter_id = 1\naddresses = [\"10.0.0.100/24\"]\n";
        let track = "[[vip.a.track]]\nfile = \"/f\"\n";
        let (sender, told) = channel();
        let standings = Standings::new(move |report| sender.send((report.standing.eligible, report.healthy)).unwrap());
        standings.set_vips(&vips(&format!("{base}{track}")));
        let unknown = "the data plane was not heard from yet; file /f was not looked at yet";
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [(Err(unknown.into()), None)]);
        standings.set_vitality(Vitality::Alive);
        standings.set_vitality(Vitality::Alive);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [(Err("file /f was not looked at yet".into()), None)]);
        let subjects = standings.subjects();
        assert_eq!(subjects.len(), 1);
        standings.set_track(&subjects[0], &Some(Ok(())));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [(Ok(()), None)]);
        let more = "[[vip.a.track]]\ninterface = \"eth1\"\nlower = 5\n";
        standings.set_vips(&vips(&format!("{base}priority = 240\n{more}{track}")));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [(Ok(()), None)], "the interface lowers, the file is known");
        standings.set_healthy(|_| 3);
        assert_eq!(told.try_iter().count(), 0, "no pool is tracked");
        let pool = "[[vip.a.track]]\npool = \"web\"\n[pool.web]\n";
        standings.set_vips(&vips(&format!("{base}{pool}")));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [(Ok(()), None)], "a pool rules nothing out");
        standings.set_healthy(|_| 3);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [(Ok(()), Some(3))]);
        standings.set_vips(&BTreeMap::new());
        assert_eq!(told.try_iter().count(), 0);
    }
}
