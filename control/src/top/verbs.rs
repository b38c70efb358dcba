//! Which change a key means on which page, and the question that comes before it: it says what will happen. Pure.

use crate::api::model::{AdminStateView, OverviewView, ScalingOverview};

use super::app::{App, Page, Question, Wish};

/// Keys that ask for a change.
pub(crate) const KEYS: [char; 11] = ['d', 'm', 'u', '+', '-', 'a', 'o', 'b', 't', 'x', 'v'];

/// The question of this key, or why there is nothing to ask.
pub(crate) fn ask(app: &App, key: char) -> Result<Question, String> {
    let view = app.overview.as_ref().ok_or("there is no picture of the node yet")?;
    let chosen = |page: Page, what: &str| {
        if app.page != page {
            return Err(format!("choose {what} first: press {}", Page::ALL.iter().position(|one| *one == page).map_or(0, |at| at + 1)));
        }
        app.chosen().ok_or_else(|| format!("there is no {} to choose", what.rsplit(' ').next().unwrap_or(what)))
    };
    match key {
        'd' | 'm' | 'u' => {
            let state = match key {
                'd' => AdminStateView::Draining,
                'm' => AdminStateView::Maintenance,
                _ => AdminStateView::Ready,
            };
            endpoint(view, &chosen(Page::Endpoints, "an endpoint")?, state)
        }
        '+' | '-' => scale(view, &scaled(app, &chosen)?, key == '+'),
        'a' => automatic(view, &scaled(app, &chosen)?),
        'v' => release(view, &chosen(Page::Vips, "a virtual IP")?),
        _ => {
            let verb = match key {
                'o' => "shutdown",
                'b' => "reboot",
                't' => "start",
                _ => "reset",
            };
            machine(view, &chosen(Page::Machines, "a machine")?, verb)
        }
    }
}

/// The pool of a verb of scaling: the one whose endpoints are looked at, or the chosen one.
fn scaled(app: &App, chosen: &impl Fn(Page, &str) -> Result<String, String>) -> Result<String, String> {
    match (&app.pool, app.page) {
        (Some(pool), Page::Endpoints) => Ok(pool.clone()),
        _ => chosen(Page::Pools, "a pool"),
    }
}

fn endpoint(view: &OverviewView, key: &str, state: AdminStateView) -> Result<Question, String> {
    let gone = || format!("{key} is not there any more");
    let (pool, endpoint) = key.split_once(' ').ok_or_else(gone)?;
    let of = view.pools.get(pool).ok_or_else(gone)?;
    let one = of.endpoints.get(endpoint).ok_or_else(|| format!("{endpoint} is not in pool {pool} any more"))?;
    if one.state == state {
        return Err(format!("{endpoint} is {} already", state.word()));
    }
    let rest = match of.available - u32::from(one.available).min(of.available) {
        0 => format!("No other endpoint of {pool} is available!"),
        1 => "1 other is available.".to_owned(),
        others => format!("{others} others are available."),
    };
    let open = one.in_flight;
    let text = match state {
        AdminStateView::Ready => format!("Give {endpoint} in pool {pool} work again?"),
        AdminStateView::Draining => format!("Drain {endpoint} in pool {pool}? No new work; {open} in flight may finish. {rest}"),
        AdminStateView::Maintenance => {
            format!("Take {endpoint} in pool {pool} out of service? No new work, no probes; {open} in flight may finish. {rest}")
        }
    };
    Ok(Question { text, wish: Wish::State { pool: pool.to_owned(), endpoint: endpoint.to_owned(), state } })
}

fn scaling<'v>(view: &'v OverviewView, pool: &str) -> Result<&'v ScalingOverview, String> {
    let of = view.pools.get(pool).and_then(|pool| pool.scaling.as_ref());
    let of = of.ok_or_else(|| format!("pool {pool} is not scaled: the file has no [pool.{pool}.scaling]"))?;
    leads(view)?;
    Ok(of)
}

/// Only the node that leads acts on machines.
fn leads(view: &OverviewView) -> Result<(), String> {
    if view.leads {
        return Ok(());
    }
    let leader = view.leader.as_deref().unwrap_or("no node that is known here");
    Err(format!("this node does not act on machines now, {leader} does: weir top --api http://{leader}:PORT"))
}

fn scale(view: &OverviewView, pool: &str, more: bool) -> Result<Question, String> {
    let of = scaling(view, pool)?;
    let desired = if more { of.desired.saturating_add(1) } else { of.desired.saturating_sub(1) };
    if desired > of.max || desired < of.min {
        return Err(format!("pool {pool} has between {} and {} machines", of.min, of.max));
    }
    let what =
        if more { "One is made, and gets work when it is healthy." } else { "One is drained first: what it has under way may finish." };
    let then = if of.paused { "" } else { " Its policies go on from there." };
    Ok(Question {
        text: format!("{desired} machines instead of {} for pool {pool}? {what}{then}", of.desired),
        wish: Wish::Scale { pool: pool.to_owned(), desired },
    })
}

fn automatic(view: &OverviewView, pool: &str) -> Result<Question, String> {
    let on = scaling(view, pool)?.paused;
    let text = if on {
        format!("Let pool {pool} be scaled by itself again?")
    } else {
        format!("Hold pool {pool} at what it has? No machine is made or removed by itself, nor is one that fails replaced.")
    };
    Ok(Question { text, wish: Wish::Automatic { pool: pool.to_owned(), on } })
}

fn machine(view: &OverviewView, id: &str, verb: &'static str) -> Result<Question, String> {
    let one = view.machines.get(id).ok_or("this machine is not there any more")?;
    let name = &one.name;
    if !one.ours {
        return Err(format!("{name} was not made by weir and is left alone"));
    }
    leads(view)?;
    // One that stands still is let go on.
    let verb = if verb == "start" && one.state == "paused" { "resume" } else { verb };
    match (verb, one.state.as_str()) {
        ("start", "running") => return Err(format!("{name} is running already")),
        ("shutdown" | "reboot" | "reset", state) if state != "running" => return Err(format!("{name} is {state}, not running")),
        _ => {}
    }
    let replaced = match one.member.as_deref() {
        Some("serving") => format!(" It serves in pool {}, which replaces it if it stays away.", one.pool.as_deref().unwrap_or("-")),
        _ => String::new(),
    };
    let text = match verb {
        "start" => format!("Start {name} on {}?", one.host),
        "resume" => format!("Let {name} on {} go on?", one.host),
        "shutdown" => format!("Ask {name} on {} to shut down?{replaced}", one.host),
        "reboot" => format!("Ask {name} on {} to reboot?{replaced}", one.host),
        _ => format!("Reset {name} on {}, as its button would? What it has not written is lost.{replaced}", one.host),
    };
    Ok(Question { text, wish: Wish::Machine { id: id.to_owned(), name: name.clone(), verb } })
}

fn release(view: &OverviewView, name: &str) -> Result<Question, String> {
    let vip = view.vips.get(name).ok_or("this virtual IP is not there any more")?;
    if !vip.master {
        return Err(format!("{name} is not here: only its master can release it"));
    }
    let peers: Vec<&str> = vip.routers.values().flat_map(|router| router.peers.keys()).map(String::as_str).collect();
    let next = match peers.as_slice() {
        [] => "No other weir node is heard, so that nobody may take it over!".to_owned(),
        [one, ..] => format!("{one} takes it over first, then this node lets go."),
    };
    let text = format!("Release {name} ({})? {next}", vip.addresses.join(", "));
    Ok(Question { text, wish: Wish::Release { vip: name.to_owned() } })
}

#[cfg(test)]
mod tests {
    use super::super::app::Effect;
    use super::super::keys::Key;
    use super::super::table::tests::overview;
    use super::*;

    fn scaled_overview() -> OverviewView {
        let mut view = overview();
        let scaling = serde_json::json!({
            "template": "web", "mode": "auto", "paused": false, "desired": 2, "min": 1, "max": 3, "serving": 2, "coming": 0, "going": 0,
            "unhealthy": 0, "warm": 0, "why": "", "refusals": [], "under_way": [], "launch_failures": 0, "refreshing_to": null,
        });
        view.pools.get_mut("web").expect("there").scaling = Some(serde_json::from_value(scaling).expect("as the API says it"));
        view
    }

    /// What keys ask, and what a yes then does.
    fn check(change: impl Fn(&mut OverviewView), keys: &str, expected: Result<(&str, Wish), &str>) {
        let mut view = scaled_overview();
        change(&mut view);
        let mut app = App::new();
        app.handle_overview(Ok(Box::new(view)));
        for c in keys.chars() {
            app.handle_key(if c == '>' { Key::Enter } else { Key::Char(c) });
        }
        match (app.question.clone(), expected) {
            (Some(question), Ok((text, wish))) => {
                assert!(question.text.contains(text), "{keys}: {text:?} is not in {:?}", question.text);
                assert_eq!(app.handle_key(Key::Char('y')), Some(Effect::Change(wish)), "{keys}");
            }
            (None, Err(why)) => assert!(app.said.as_deref().is_some_and(|said| said.contains(why)), "{keys}: {why:?}, not {:?}", app.said),
            (question, expected) => panic!("{keys}: {question:?} instead of {expected:?}; said {:?}", app.said),
        }
    }

    #[test]
    fn pools_are_scaled() {
        let same = |_: &mut OverviewView| {};
        let scale = |desired| Wish::Scale { pool: "web".into(), desired };
        check(same, "G+", Ok(("3 machines instead of 2 for pool web? One is made", scale(3))));
        check(same, "G-", Ok(("1 machines instead of 2 for pool web? One is drained first", scale(1))));
        check(same, "G>+", Ok(("for pool web?", scale(3))));
        check(same, "+", Err("pool api is not scaled"));
        check(same, "3+", Err("choose a pool first: press 1"));
        check(same, "Ga", Ok(("Hold pool web", Wish::Automatic { pool: "web".into(), on: false })));
        let paused =
            |view: &mut OverviewView| view.pools.get_mut("web").and_then(|pool| pool.scaling.as_mut()).expect("scaled").paused = true;
        check(paused, "Ga", Ok(("again?", Wish::Automatic { pool: "web".into(), on: true })));
        let full = |view: &mut OverviewView| view.pools.get_mut("web").and_then(|pool| pool.scaling.as_mut()).expect("scaled").desired = 3;
        check(full, "G+", Err("between 1 and 3"));
        let elsewhere = |view: &mut OverviewView| (view.leads, view.leader) = (false, Some("10.0.0.2".into()));
        check(elsewhere, "G+", Err("10.0.0.2 does"));
        check(elsewhere, "3b", Err("10.0.0.2 does"));
    }

    #[test]
    fn machines_are_worked_on() {
        let same = |_: &mut OverviewView| {};
        let wish = |verb| Wish::Machine { id: "uuid-1".into(), name: "web-1".into(), verb };
        check(same, "3b", Ok(("Ask web-1 on kvm-a to reboot? It serves in pool web", wish("reboot"))));
        check(same, "3o", Ok(("to shut down?", wish("shutdown"))));
        check(same, "3x", Ok(("What it has not written is lost", wish("reset"))));
        check(same, "3t", Err("running already"));
        check(same, "3>b", Ok(("Ask web-1", wish("reboot"))));
        check(same, "1b", Err("choose a machine first: press 3"));
        let state =
            |state: &'static str| move |view: &mut OverviewView| view.machines.get_mut("uuid-1").expect("there").state = state.into();
        check(state("shutoff"), "3t", Ok(("Start web-1", wish("start"))));
        check(state("paused"), "3t", Ok(("go on?", wish("resume"))));
        check(state("shutoff"), "3b", Err("not running"));
        let foreign = |view: &mut OverviewView| view.machines.get_mut("uuid-1").expect("there").ours = false;
        check(foreign, "3b", Err("not made by weir"));
    }

    #[test]
    fn addresses_are_released() {
        let wish = || Wish::Release { vip: "public".into() };
        check(|_| {}, "5v", Ok(("Release public (10.0.0.100/24)? No other weir node is heard", wish())));
        check(|view| view.vips.get_mut("public").expect("there").master = false, "5v", Err("only its master"));
        check(|_| {}, "v", Err("choose a virtual IP first: press 5"));
    }
}
