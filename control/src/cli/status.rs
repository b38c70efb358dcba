//! `weir status`.

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::StatusOf;
use super::output::Output;
use crate::api::model::{AlarmItem, ListenerView, PoolView, StatusView, VipView};
use crate::client::{Client, segment};
use crate::render;

/// Between two looks of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Puts the cursor home, and what is below it away.
const HOME: &str = "\x1b[H\x1b[J";

/// Shows the state once, or again and again.
pub(super) fn status(client: &Client, what: Option<&StatusOf>, watch: bool, output: &Output) -> anyhow::Result<()> {
    if !watch {
        return look(client, what, output, &mut None);
    }
    let mut before = None;
    loop {
        if output.is_terminal && !output.json {
            output.text(HOME)?;
        }
        look(client, what, output, &mut before)?;
        std::thread::sleep(WATCH_INTERVAL);
    }
}

/// One look. `before` carries the last look at the whole, from which rates follow.
fn look(client: &Client, what: Option<&StatusOf>, output: &Output, before: &mut Option<(StatusView, Instant)>) -> anyhow::Result<()> {
    let screen = output.screen;
    match what {
        None => {
            let view: StatusView = client.get("/v1/status")?;
            let now = Instant::now();
            output.either(&view, || {
                let earlier = before.as_ref().map(|(view, at)| (view, now - *at));
                render::status(&view, earlier, unix_now(), screen)
            })?;
            *before = Some((view, now));
            Ok(())
        }
        Some(StatusOf::Pool { name: None }) => {
            let pools: Vec<PoolView> = client.get("/v1/pools")?;
            output.either(&pools, || render::pools(&pools, None, screen))
        }
        Some(StatusOf::Pool { name: Some(name) }) => {
            let pool: PoolView = client.get(&format!("/v1/pools/{}", segment(name)))?;
            output.either(&pool, || render::pool(&pool, screen))
        }
        Some(StatusOf::Vip { name: None }) => {
            let vips: Vec<VipView> = client.get("/v1/vips")?;
            output.either(&vips, || render::vips(&vips, screen))
        }
        Some(StatusOf::Vip { name: Some(name) }) => {
            let vip: VipView = client.get(&format!("/v1/vips/{}", segment(name)))?;
            output.either(&vip, || render::vip(&vip, screen))
        }
        Some(StatusOf::Vm { name: None }) => {
            let fleet: Value = client.get("/v1/fleet")?;
            output.either(&fleet, || render::fleet(&fleet, unix_now(), screen))
        }
        Some(StatusOf::Vm { name: Some(name) }) => {
            let machine: Value = client.get(&format!("/v1/machines/{}", segment(name)))?;
            output.either(&machine, || render::machine(&machine, unix_now(), screen))
        }
        Some(StatusOf::Alarm { name: None }) => {
            let alarms: Vec<AlarmItem> = client.get("/v1/alarms")?;
            output.either(&alarms, || render::alarms(&alarms, screen))
        }
        Some(StatusOf::Alarm { name: Some(name) }) => {
            let alarm: AlarmItem = client.get(&format!("/v1/alarms/{}", segment(name)))?;
            output.either(&alarm, || render::alarm(&alarm, screen))
        }
        Some(StatusOf::Listener) => {
            let listeners: Vec<ListenerView> = client.get("/v1/listeners")?;
            output.either(&listeners, || render::listeners(&listeners, screen))
        }
    }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
