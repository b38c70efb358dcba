//! One act, from its beginning to its end. Each may be begun again after a kill, under the same key.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use weir_config::{AdminState, RecoveryAction, parse_endpoint_address};
use weir_hypervisor::{MachineState, MachineView, Progress, Verb};
use weir_recovery::case::About;
use weir_recovery::healer::Order;
use weir_vrrp::machine::StateKind;

use crate::command;
use crate::event::MachineEvent;
use crate::node::{EndpointChange, Node};

/// Between two looks whether a fresh clone has taken a machine's place.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Carries it out. Whoever calls ends it at its limit.
///
/// # Errors
/// In words, for people.
pub(super) async fn carry_out(node: &Node, order: &Order) -> Result<(), String> {
    // Leadership may have gone since it was ordered.
    if !node.machines().leads() {
        return Err("this node does not lead any more".into());
    }
    let about = &order.case.about;
    match &order.attempt.action {
        RecoveryAction::Script(program) => run(node, order, program, order.attempt.limit).await,
        RecoveryAction::Reboot => verb(node, order, Verb::Reboot).await,
        RecoveryAction::Restart => restart(node, order).await,
        RecoveryAction::Reset => match machine(node, about)?.state {
            // There is nothing to reset.
            MachineState::Off | MachineState::Crashed => verb(node, order, Verb::Start).await,
            _ => verb(node, order, Verb::Reset).await,
        },
        RecoveryAction::Replace => replace(node, about).await,
        RecoveryAction::Drain => change(node, about, EndpointChange::State(AdminState::Draining)).await,
        RecoveryAction::ReleaseVip(vip) => {
            let is_master =
                node.vips().status().iter().any(|of| *of.machine.config.name == *vip.0 && of.machine.state == StateKind::Master);
            if !is_master {
                return Err(format!("this node is not the master of {vip}"));
            }
            node.vips().release(&vip.0)
        }
    }
}

/// Runs the program that looks whether the fault is gone.
///
/// # Errors
/// What it says.
pub(super) async fn check(node: &Node, order: &Order) -> Result<(), String> {
    match &order.attempt.check {
        Some(program) => run(node, order, program, order.attempt.limit).await,
        None => Ok(()),
    }
}

fn machine(node: &Node, about: &About) -> Result<MachineView, String> {
    let name = about.machine.as_deref().ok_or("it is no machine of ours")?;
    let found = node.machines().hypervisor().machines().into_iter().find(|machine| machine.name == name);
    found.ok_or_else(|| format!("there is no machine {name}"))
}

/// With an event, as if an operator had asked for it.
async fn verb(node: &Node, order: &Order, verb: Verb) -> Result<(), String> {
    let machine = machine(node, &order.case.about)?;
    let began = Instant::now();
    let result = node.machines().hypervisor().act(&machine.name, verb, Progress::default()).await.map_err(|error| error.chain());
    node.record(MachineEvent::MachineActed {
        verb: verb.word().to_owned(),
        machine: Some(machine.name),
        host: Some(machine.host),
        by: format!("recovery {}", order.case.recovery),
        done: result.is_ok(),
        error: result.as_ref().err().cloned(),
        seconds: began.elapsed().as_secs_f64(),
    });
    result
}

/// Half of the time for the guest to shut down by itself, then its plug is pulled.
async fn restart(node: &Node, order: &Order) -> Result<(), String> {
    let is_off = |machine: &MachineView| matches!(machine.state, MachineState::Off | MachineState::Crashed);
    if !is_off(&machine(node, &order.case.about)?) {
        verb(node, order, Verb::Shutdown { timeout: order.attempt.limit / 2, force: true }).await?;
    }
    verb(node, order, Verb::Start).await
}

/// Done when the machine is gone and its pool serves with as many as are wanted.
async fn replace(node: &Node, about: &About) -> Result<(), String> {
    let (pool, name) = match machine(node, about) {
        Ok(machine) => (machine.metadata.as_ref().and_then(|of| of.pool.clone()), machine.name),
        // It went before a kill.
        Err(why) => (about.pool.clone(), about.machine.clone().ok_or(why)?),
    };
    let pool = pool.ok_or_else(|| format!("{name} is in no pool, so nothing takes its place"))?;
    node.scaler().replace(node, &pool, &name).await?;
    while !node.scaler().is_replaced(&pool, &name)? {
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Changes the endpoint of a thing.
///
/// # Errors
/// In words, for people.
pub(super) async fn change(node: &Node, about: &About, change: EndpointChange) -> Result<(), String> {
    let (Some(pool), Some(endpoint)) = (&about.pool, &about.endpoint) else { return Err("it is no endpoint".into()) };
    let address = parse_endpoint_address(endpoint)?;
    node.change(pool, &address, change, None).await.map(drop).map_err(|error| error.to_string())
}

async fn run(node: &Node, order: &Order, program: &[String], limit: Duration) -> Result<(), String> {
    let case = &order.case;
    let About { pool, endpoint, machine, host, alarm, told_as: _ } = &case.about;
    let number = case.at + 1;
    // With this a program reaches into the machine, by its guest's agent.
    let config = node.config();
    let uri = config.hosts.values().find(|known| host.as_deref() == Some(&*known.name.0)).map(|known| known.uri.clone());
    let about = json!({
        "recovery": case.recovery, "thing": case.thing.to_string(), "reason": case.why, "since": case.began as f64 / 1000.0, "key": order.key,
        "attempt": number, "resumed": order.resumed, "pool": pool, "endpoint": endpoint, "machine": machine, "host": host, "host_uri": uri, "alarm": alarm,
        "story": case.story,
    });
    let mut environment = vec![
        ("WEIR_RECOVERY", case.recovery.clone()),
        ("WEIR_THING", case.thing.to_string()),
        ("WEIR_REASON", case.why.clone()),
        ("WEIR_KEY", order.key.clone()),
        ("WEIR_ATTEMPT", number.to_string()),
    ];
    let known = [
        ("WEIR_POOL", pool),
        ("WEIR_ENDPOINT", endpoint),
        ("WEIR_MACHINE", machine),
        ("WEIR_HOST", host),
        ("WEIR_HOST_URI", &uri),
        ("WEIR_ALARM", alarm),
    ];
    environment.extend(known.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    if order.resumed {
        environment.push(("WEIR_RESUMED", "1".into()));
    }
    // A value with a zero byte cannot be passed.
    environment.iter_mut().for_each(|(_, value)| value.retain(|c| c != '\0'));
    command::run_with(program, &environment, limit, about.to_string().into_bytes()).await
}
