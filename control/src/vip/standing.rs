//! How a node stands as a candidate for a virtual IP: whether it may be master at all, and with what rank. Pure.

use std::num::NonZeroU8;

use weir_config::{TrackSubject, Vip};
use weir_lb::shell::Vitality;

/// What is known of one thing that is watched. `None`: nothing yet.
pub(crate) type Known = Option<Result<(), String>>;

/// Healthy endpoints of a tracked pool.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Healthy {
    /// Here.
    pub(crate) here: u32,
    /// `min_healthy` of the pool.
    pub(crate) floor: u32,
}

/// What is known about this node.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Facts {
    /// Its data plane; `None`: not asked yet.
    pub(crate) vitality: Option<Vitality>,
    /// What each of the virtual IP's tracks says, in their order.
    pub(crate) tracks: Vec<Known>,
    /// Healthy endpoints in the tracked pools here, added up; `None`: no pool is tracked.
    pub(crate) healthy_here: Option<u32>,
}

/// How it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    /// It may be master, or why not.
    pub(crate) eligible: Result<(), String>,
    /// What is added to its priority.
    pub(crate) adjust: i16,
    /// Why; empty without a change.
    pub(crate) reason: String,
}

/// Weighs the facts.
///
/// What is not known yet keeps a node from being master: it would take the address and give it back. A pool that is not well, on the other
/// hand, says nothing against this node: moving an address from one node without endpoints to another without them helps nobody. The count
/// is told to the other nodes, and the addresses move to one that has more.
pub(crate) fn standing(vip: &Vip, facts: &Facts) -> Standing {
    let mut against: Vec<String> = Vec::new();
    let mut lowered: Vec<String> = Vec::new();
    let mut adjust = 0;
    match facts.vitality {
        None => against.push("the data plane was not heard from yet".into()),
        Some(Vitality::Alive) => {}
        Some(Vitality::Dead { worker }) => against.push(format!("worker {worker} of the data plane has ended")),
        Some(Vitality::Deaf { worker }) => against.push(format!("worker {worker} of the data plane serves a listening socket no more")),
        Some(Vitality::Hung { worker }) => against.push(format!("worker {worker} of the data plane does not answer")),
    }
    for (index, track) in vip.tracks.iter().enumerate() {
        let why = match facts.tracks.get(index).cloned().flatten() {
            Some(Ok(())) => continue,
            Some(Err(why)) => why,
            None => format!("{} was not looked at yet", name(&track.subject)),
        };
        match track.lower.map(NonZeroU8::get) {
            Some(lower) => {
                adjust -= i16::from(lower);
                lowered.push(format!("lowered by {lower}: {why}"));
            }
            None if matches!(track.subject, TrackSubject::Pool(_)) => {}
            None => against.push(why),
        }
    }
    let eligible = if against.is_empty() { Ok(()) } else { Err(against.join("; ")) };
    Standing { eligible, adjust, reason: lowered.join("; ") }
}

/// What a track watches, in words.
pub(crate) fn name(subject: &TrackSubject) -> String {
    match subject {
        TrackSubject::Interface(interface) => format!("interface {interface}"),
        TrackSubject::Listener(listener) => format!("listener {listener}"),
        TrackSubject::Pool(pool) => format!("pool {pool}"),
        TrackSubject::File(path) => format!("file {}", path.display()),
        TrackSubject::Command { command, .. } => format!("command {}", command.first().map_or("", String::as_str)),
    }
}

/// What the content of a tracked file says: absent, empty or 0 is well.
pub(crate) fn read_file(name: &str, content: Option<&[u8]>) -> Result<(), String> {
    let text = String::from_utf8_lossy(content.unwrap_or_default());
    match text.trim() {
        "" | "0" => Ok(()),
        other => Err(format!("{name} says {:?}", other.chars().take(40).collect::<String>())),
    }
}

/// What a pool's count says.
pub(crate) fn pool_is_well(name: &str, healthy: Healthy) -> Result<(), String> {
    let Healthy { here, floor } = healthy;
    // A pool without a floor is well as long as anything of it is.
    if here >= floor.max(1) { Ok(()) } else { Err(format!("{name} has {here} healthy endpoints of at least {}", floor.max(1))) }
}

/// Consecutive results that flip a verdict.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Verdict {
    known: Known,
    in_row: u32,
}

impl Verdict {
    /// Takes a result in; returns what holds now. The first result counts by itself.
    pub(crate) fn take(&mut self, result: Result<(), String>, rise: u32, fall: u32) -> Known {
        let Some(held) = &self.known else {
            self.known = Some(result);
            return self.known.clone();
        };
        if held.is_ok() == result.is_ok() {
            self.in_row = 0;
            self.known = Some(result);
            return self.known.clone();
        }
        self.in_row += 1;
        if self.in_row >= if result.is_ok() { rise } else { fall } {
            self.in_row = 0;
            self.known = Some(result);
        }
        self.known.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "[vip.a]\ninterface = \"eth0\"\nrouter_id = 1\naddresses = [\"10.0.0.100/24\"]\n\
                        [pool.web]\nendpoints = [\"10.0.0.1:80\"]\n[listener.web]\nbind = \"10.0.0.100:80\"\npool = \"web\"\n";

    fn vip(tracks: &str) -> Vip {
        let config = weir_config::parse(&format!("{BASE}{tracks}"), "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        (*config.vips[&"a".into()]).clone()
    }

    fn well(tracks: usize) -> Facts {
        Facts { vitality: Some(Vitality::Alive), tracks: vec![Some(Ok(())); tracks], ..Facts::default() }
    }

    fn check(tracks: &str, facts: &Facts, eligible: Result<(), &str>, adjust: i16, reason: &str) {
        let expected = Standing { eligible: eligible.map_err(Into::into), adjust, reason: reason.into() };
        assert_eq!(standing(&vip(tracks), facts), expected, "{tracks}{facts:?}");
    }

    #[test]
    fn what_is_unknown_or_wrong_keeps_a_node_from_being_master() {
        check("", &well(0), Ok(()), 0, "");
        check("", &Facts::default(), Err("the data plane was not heard from yet"), 0, "");
        let dead = Facts { vitality: Some(Vitality::Dead { worker: 1 }), ..Facts::default() };
        check("", &dead, Err("worker 1 of the data plane has ended"), 0, "");
        let hung = Facts { vitality: Some(Vitality::Hung { worker: 0 }), ..Facts::default() };
        check("", &hung, Err("worker 0 of the data plane does not answer"), 0, "");
        let track = "[[vip.a.track]]\ninterface = \"eth1\"\n";
        check(track, &well(1), Ok(()), 0, "");
        check(track, &well(0), Err("interface eth1 was not looked at yet"), 0, "");
        let down = Facts { tracks: vec![Some(Err("interface eth1 is down".into()))], ..well(0) };
        check(track, &down, Err("interface eth1 is down"), 0, "");
    }

    #[test]
    fn a_track_with_lower_changes_the_rank_instead() {
        let track = "[[vip.a.track]]\nfile = \"/f\"\nlower = 20\n[[vip.a.track]]\nlistener = \"web\"\nlower = 30\n";
        let facts = |first: Result<(), String>, second: Result<(), String>| Facts { tracks: vec![Some(first), Some(second)], ..well(0) };
        check(track, &facts(Ok(()), Ok(())), Ok(()), 0, "");
        check(track, &facts(Err("a".into()), Ok(())), Ok(()), -20, "lowered by 20: a");
        check(track, &facts(Err("a".into()), Err("b".into())), Ok(()), -50, "lowered by 20: a; lowered by 30: b");
    }

    #[test]
    fn a_pool_lowers_but_never_rules_out() {
        let track = "[[vip.a.track]]\npool = \"web\"\n";
        let facts = Facts { tracks: vec![Some(Err("pool web has 1 healthy endpoints of at least 2".into()))], ..well(0) };
        check(track, &facts, Ok(()), 0, "");
        let reason = "lowered by 20: pool web has 1 healthy endpoints of at least 2";
        check(&format!("{track}lower = 20\n"), &facts, Ok(()), -20, reason);
    }

    #[test]
    fn files_and_pools() {
        for (content, is_well) in [(None, true), (Some(""), true), (Some("0\n"), true), (Some("1"), false), (Some("maintenance\n"), false)]
        {
            assert_eq!(read_file("file /f", content.map(str::as_bytes)).is_ok(), is_well, "{content:?}");
        }
        assert_eq!(read_file("file /f", Some(b"\xff\n")), Err("file /f says \"\u{fffd}\"".into()));
        for (here, floor, is_well) in [(2, 2, true), (1, 2, false), (1, 0, true), (0, 0, false)] {
            assert_eq!(pool_is_well("pool web", Healthy { here, floor }).is_ok(), is_well, "{here} of {floor}");
        }
    }

    #[test]
    fn verdicts_need_several_in_a_row() {
        let bad = || Err("no".to_string());
        let mut verdict = Verdict::default();
        for (result, expected) in
            [(bad(), false), (Ok(()), false), (bad(), false), (Ok(()), false), (Ok(()), true), (bad(), true), (bad(), true), (bad(), false)]
        {
            assert_eq!(verdict.take(result, 2, 3).map(|known| known.is_ok()), Some(expected));
        }
    }
}
