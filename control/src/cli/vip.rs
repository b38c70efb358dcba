//! `weir vip`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use ureq::http::Method;

use super::output::Output;
use crate::api::model::{ReleasedView, VipView};
use crate::client::{Client, segment};

/// Between two looks at who is master. Short, so that a script goes on as soon as it may.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How a release came out.
#[derive(Serialize)]
struct Outcome {
    vip: String,
    /// This node is not master any more; null: it was not.
    released: Option<bool>,
    /// Who is, as far as this node heard.
    master: Option<String>,
}

/// Asks for a release and waits for another master.
pub(super) fn release(client: &Client, name: &str, timeout: Duration, output: &Output) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/vips/{}", segment(name));
    let released: ReleasedView = client.change(Method::POST, &format!("{path}/release"), None::<&()>)?;
    if !released.was_master {
        let outcome = Outcome { vip: name.into(), released: None, master: heard_master(&client.get(&path)?) };
        output.either(&outcome, || {
            format!("{name}: this node was not master{}\n", outcome.master.as_ref().map_or(String::new(), |who| format!(", {who} is")))
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let deadline = Instant::now() + timeout;
    loop {
        let vip: VipView = client.get(&path)?;
        let master = heard_master(&vip);
        let is_released = !vip.routers.iter().any(|router| router.state == "master");
        if is_released && master.is_some() || Instant::now() >= deadline {
            let outcome = Outcome { vip: name.into(), released: Some(is_released), master };
            output.either(&outcome, || line(&outcome, timeout))?;
            return Ok(if is_released { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn heard_master(vip: &VipView) -> Option<String> {
    vip.routers.iter().find_map(|router| router.heard_master.as_ref()).map(|master| master.address.clone())
}

fn line(outcome: &Outcome, timeout: Duration) -> String {
    let Outcome { vip, released, master } = outcome;
    match (released, master) {
        (Some(true), Some(who)) => format!("{vip}: released, {who} is master\n"),
        (Some(true), None) => format!("{vip}: released, but no other master was heard within {} s\n", timeout.as_secs_f64()),
        _ => format!("{vip}: this node is still master after {} s: no other node can take it\n", timeout.as_secs_f64()),
    }
}
