//! `weir drain` and `weir undrain`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use ureq::http::Method;

use super::output::Output;
use super::{Drain, Target, target};
use crate::api::model::*;
use crate::client::{Client, ClientError, endpoint_path};
use crate::render;

/// Between two looks at what is still open. Short, so that a script goes on as soon as it may.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Between two lines of progress where they cannot be overwritten.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How one endpoint came out.
#[derive(Serialize)]
struct Outcome {
    pool: String,
    endpoint: String,
    state: AdminStateView,
    /// Nothing is open any more; `null`: nobody waited.
    drained: Option<bool>,
    open: OpenView,
}

/// Drains, waits, and says what is left.
pub(super) fn drain(client: &Client, drain: &Drain, output: &Output) -> anyhow::Result<ExitCode> {
    let state = if drain.maintenance { AdminStateView::Maintenance } else { AdminStateView::Draining };
    let pools = target::pools_of(client, &drain.target)?;
    set_state(client, &drain.target, &pools, state)?;
    let outcomes = if drain.no_wait {
        look(client, &drain.target, &pools, state)?.into_iter().map(|outcome| Outcome { drained: None, ..outcome }).collect()
    } else {
        wait(client, drain, &pools, state, output)?
    };
    if output.json {
        output.json(&outcomes)?;
    } else {
        for outcome in &outcomes {
            output.text(&line(outcome, drain.timeout))?;
        }
    }
    Ok(if outcomes.iter().any(|outcome| outcome.drained == Some(false)) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Gives work again.
pub(super) fn undrain(client: &Client, target: &Target, output: &Output) -> anyhow::Result<()> {
    let pools = target::pools_of(client, target)?;
    set_state(client, target, &pools, AdminStateView::Ready)?;
    let outcomes = look(client, target, &pools, AdminStateView::Ready)?;
    output.either(&outcomes, || {
        outcomes.iter().map(|outcome| format!("{} in pool {} takes new work again\n", outcome.endpoint, outcome.pool)).collect()
    })
}

fn set_state(client: &Client, target: &Target, pools: &[String], state: AdminStateView) -> Result<(), ClientError> {
    for pool in pools {
        let patch = EndpointPatch { state: Some(state), weight: None };
        client.change::<Changed>(Method::PATCH, &endpoint_path(pool, &target.endpoint.to_string()), Some(&patch))?;
    }
    Ok(())
}

fn look(client: &Client, target: &Target, pools: &[String], state: AdminStateView) -> Result<Vec<Outcome>, ClientError> {
    let endpoint = target.endpoint.to_string();
    pools
        .iter()
        .map(|pool| {
            let open = match client.get::<EndpointView>(&endpoint_path(pool, &endpoint)) {
                Ok(view) => view.open,
                // Somebody removed it while we waited: then nothing of it is left to wait for.
                Err(ClientError::Refused(problem)) if problem.status == 404 => OpenView::default(),
                Err(error) => return Err(error),
            };
            Ok(Outcome { pool: pool.clone(), endpoint: endpoint.clone(), state, drained: Some(open.busy() == 0), open })
        })
        .collect()
}

fn wait(client: &Client, drain: &Drain, pools: &[String], state: AdminStateView, output: &Output) -> anyhow::Result<Vec<Outcome>> {
    let started = Instant::now();
    let mut said: Option<(Instant, String)> = None;
    loop {
        let outcomes = look(client, &drain.target, pools, state)?;
        let left = drain.timeout.saturating_sub(started.elapsed());
        let done = outcomes.iter().all(|outcome| outcome.drained == Some(true));
        if !output.json {
            let progress = progress(&outcomes, left);
            let overwrite = output.is_terminal;
            let due = said.as_ref().is_none_or(|(at, last)| (overwrite && *last != progress) || at.elapsed() >= PROGRESS_INTERVAL);
            if done || left.is_zero() {
                if overwrite && said.is_some() {
                    output.text("\r\x1b[K")?;
                }
            } else if due {
                output.text(&if overwrite { format!("\r\x1b[K{progress}") } else { format!("{progress}\n") })?;
                said = Some((Instant::now(), progress));
            }
        }
        if done || left.is_zero() {
            return Ok(outcomes);
        }
        std::thread::sleep(LOOK_INTERVAL.min(left));
    }
}

/// `waiting for 3 requests, 1 tunnel (28 s left)`.
fn progress(outcomes: &[Outcome], left: Duration) -> String {
    let total = outcomes.iter().fold(OpenView::default(), |sum, outcome| OpenView {
        requests: sum.requests.saturating_add(outcome.open.requests),
        tunnels: sum.tunnels.saturating_add(outcome.open.tunnels),
        sessions: sum.sessions.saturating_add(outcome.open.sessions),
        idle: sum.idle.saturating_add(outcome.open.idle),
    });
    format!("waiting for {} ({} s left)", render::open(&total), left.as_secs_f64().ceil())
}

/// The last word on one endpoint.
fn line(outcome: &Outcome, timeout: Duration) -> String {
    let Outcome { pool, endpoint, state, drained, open } = outcome;
    let word = state.word();
    match drained {
        Some(true) => format!("{endpoint} in pool {pool} takes no new work ({word}), and nothing is open\n"),
        None => format!("{endpoint} in pool {pool} is {word}; still open: {}\n", render::open(open)),
        Some(false) => format!(
            "{endpoint} in pool {pool} is {word}, but after {} s still open: {}\nIt takes no new work. Repeat the command to wait longer, or \
             `weir undrain {endpoint} --pool {pool}` to give it work again\n",
            timeout.as_secs_f64(),
            render::open(open)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said() {
        let open = OpenView { requests: 3, tunnels: 1, sessions: 0, idle: 0 };
        let outcome =
            |drained, open| Outcome { pool: "web".into(), endpoint: "10.0.0.1:80".into(), state: AdminStateView::Draining, drained, open };
        let busy = || outcome(Some(false), open);
        assert_eq!(progress(&[busy(), busy()], Duration::from_millis(1500)), "waiting for 6 requests, 2 tunnels (2 s left)");
        assert_eq!(
            line(&outcome(Some(true), OpenView::default()), Duration::ZERO),
            "10.0.0.1:80 in pool web takes no new work (draining), and nothing is open\n"
        );
        assert!(line(&busy(), Duration::from_secs(30)).contains("after 30 s still open: 3 requests, 1 tunnel\n"));
        assert!(line(&outcome(None, open), Duration::ZERO).ends_with("is draining; still open: 3 requests, 1 tunnel\n"));
    }
}
