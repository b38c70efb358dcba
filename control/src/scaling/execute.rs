//! One step, from its beginning to its end. Each can be repeated: what is done already is a success.

use std::collections::BTreeMap;
use std::time::SystemTime;

use weir_autoscaler::scaling::HookKind;
use weir_autoscaler::scaling::plan::Step;
use weir_config::{AdminState, Endpoint, EndpointAddress, Weight};
use weir_hypervisor::{CloneSpec, HypervisorError, MachineName, MachineView, Progress, WaitFor, WarmUse};

use super::observe::{ADDRESS, HOOK, LEAVING, refresh_labels};
use super::{Order, hooks, lock};
use crate::node::{ChangeError, EndpointChange, Node};

/// Carries a step out.
///
/// # Errors
/// In words, for people.
pub(super) async fn carry_out(node: &Node, order: &Order) -> Result<(), String> {
    // Leadership may have gone since it was planned: nothing is begun any more, but for what every node does for itself.
    if !order.step.is_local() && !node.machines().leads() {
        return Err("this node does not lead any more".into());
    }
    let hypervisor = node.machines().hypervisor();
    let words = |error: HypervisorError| error.chain();
    match &order.step {
        Step::Launch { slot, host, warm, base } => launch(node, order, *slot, host, *warm, base.as_deref()).await,
        Step::Resume { machine } => resume(node, order, machine).await,
        Step::RunHook { machine, hook } => run_hook(node, order, machine, *hook).await,
        Step::Register { machine } => {
            let endpoint = Endpoint { address: address(node, order, machine)?, weight: Weight::ONE, tier: 0, state: AdminState::Ready };
            let address = endpoint.address.clone();
            change(node, order, &address, EndpointChange::Add(endpoint)).await
        }
        Step::Retire { machine, .. } => {
            let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            mark(node, order, machine, &[(LEAVING, Some(seconds.to_string())), (HOOK, None)]).await
        }
        Step::Drain { machine } => {
            let address = address(node, order, machine)?;
            change(node, order, &address, EndpointChange::State(AdminState::Draining)).await
        }
        Step::Note { machine, text } => {
            let labels = refresh_labels(text.as_deref());
            mark(node, order, machine, &labels).await
        }
        Step::Deregister { machine } => {
            let address = address(node, order, machine)?;
            change(node, order, &address, EndpointChange::Remove).await
        }
        Step::Remove { machine } => {
            let patience = order.policy.scaling.shutdown_timeout;
            hypervisor.retire(machine, order.generation, patience, Progress::default()).await.map_err(words)
        }
    }
}

fn spec(order: &Order, slot: u32, warm: WarmUse) -> CloneSpec {
    CloneSpec {
        pool: Some(order.pool.to_string()),
        name: Some(MachineName::of_slot(&order.pool.0, slot)),
        slot: Some(slot),
        generation: order.generation,
        warm,
        wait: WaitFor::Ready,
        ..CloneSpec::new(order.policy.scaling.template.clone())
    }
}

async fn launch(node: &Node, order: &Order, slot: u32, host: &str, warm: bool, base: Option<&str>) -> Result<(), String> {
    let hypervisor = node.machines().hypervisor();
    let wish = CloneSpec {
        host: Some(host.into()),
        base: base.map(str::to_owned),
        ..spec(order, slot, if warm { WarmUse::First } else { WarmUse::Never })
    };
    let machine = hypervisor.clone_machine(wish, Progress::default()).await.map_err(|error| error.chain())?;
    publish(node, order, &machine).await
}

/// Other nodes do not know where a machine that asked for its address is: it is written on it.
async fn publish(node: &Node, order: &Order, machine: &MachineView) -> Result<(), String> {
    match machine.address {
        Some(address) => mark(node, order, &machine.name, &[(ADDRESS, Some(address.to_string()))]).await,
        None => Ok(()),
    }
}

async fn resume(node: &Node, order: &Order, machine: &str) -> Result<(), String> {
    let hypervisor = node.machines().hypervisor();
    let found = hypervisor.machines().into_iter().find(|view| view.name == machine);
    let Some(slot) = found.as_ref().and_then(|view| view.metadata.as_ref()?.slot) else {
        return Err(format!("{machine} says no slot: it was not made by a plan; delete it, or resume it with weir vm resume"));
    };
    let machine = hypervisor.clone_machine(spec(order, slot, WarmUse::Never), Progress::default()).await.map_err(|error| error.chain())?;
    publish(node, order, &machine).await
}

async fn run_hook(node: &Node, order: &Order, machine: &str, kind: HookKind) -> Result<(), String> {
    let hook = match kind {
        HookKind::Launch => order.policy.scaling.launch_hook.clone(),
        HookKind::Terminate => order.policy.scaling.terminate_hook.clone(),
    };
    let Some(hook) = hook else { return Ok(()) };
    let view = node.machines().hypervisor().machines().into_iter().find(|view| view.name == machine);
    let address = address(node, order, machine).ok().map(|address| address.to_string());
    let about = hooks::About {
        hook: kind.word(),
        pool: order.pool.to_string(),
        machine: machine.to_owned(),
        address: address.unwrap_or_default(),
        host: view.map(|view| view.host).unwrap_or_default(),
    };
    let outcome = hooks::run(&hook, &about).await;
    let done = [(HOOK, Some(kind.word().to_owned()))];
    match (outcome, kind) {
        (Ok(()), _) => mark(node, order, machine, &done).await,
        (Err(why), HookKind::Launch) if !hook.continues => {
            // Undone: it goes the way of all machines, without having got traffic.
            let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            mark(node, order, machine, &[(LEAVING, Some(seconds.to_string()))]).await?;
            Err(format!("the launch hook failed, the machine goes: {why}"))
        }
        // Told, and gone on from.
        (Err(why), _) => {
            mark(node, order, machine, &done).await?;
            tracing::warn!(pool = %order.pool, machine, "the {} hook failed, it goes on: {why}", kind.word());
            Ok(())
        }
    }
}

async fn mark(node: &Node, order: &Order, machine: &str, labels: &[(&str, Option<String>)]) -> Result<(), String> {
    let labels: BTreeMap<String, Option<String>> = labels.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    match node.machines().hypervisor().label(machine, order.generation, labels).await {
        Ok(()) => Ok(()),
        Err(error) => Err(error.chain()),
    }
}

fn address(node: &Node, order: &Order, machine: &str) -> Result<EndpointAddress, String> {
    let room = lock(&node.scaler().room);
    let found = room.pools.get(&order.pool).and_then(|scaled| scaled.seen.addresses.get(machine).cloned());
    found.ok_or_else(|| format!("the address of {machine} is not known"))
}

/// A change to this node's endpoints. What is so already is a success.
async fn change(node: &Node, order: &Order, address: &EndpointAddress, change: EndpointChange) -> Result<(), String> {
    let adds = matches!(change, EndpointChange::Add(_));
    match node.change(&order.pool.0, address, change, None).await {
        Ok(_) => Ok(()),
        Err(ChangeError::Conflict(_)) if adds && has(node, order, address) => Ok(()),
        Err(ChangeError::NotFound(_)) if !adds && !has(node, order, address) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn has(node: &Node, order: &Order, address: &EndpointAddress) -> bool {
    node.config().pools.get(&order.pool).is_some_and(|pool| pool.endpoints.iter().any(|endpoint| endpoint.address == *address))
}
