//! How far a recovery is, on the machine itself: in the metadata of its domain, which every node sees. Whoever leads next goes on from there.
//!
//! Written before an attempt is made and when it has healed; gone when the recovery is over. What is no machine has no place for it: of that a new
//! leader begins anew.

use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;
use weir_hypervisor::MachineView;
use weir_recovery::case::{Case, Mark, Stage, Thing};
use weir_recovery::healer::Output;

use super::now;
use crate::node::Node;

/// The label.
const RECOVERY: &str = "weir-recovery";

/// A host that does not answer must not hold up what heals.
const WRITE_MAX: Duration = Duration::from_secs(3);

/// What stands on a machine.
pub(super) fn read(machine: &MachineView) -> Option<Mark> {
    Mark::parse(machine.metadata.as_ref()?.labels.get(RECOVERY)?)
}

/// Writes where the case is. Where that cannot be done a new leader may repeat an attempt.
pub(super) async fn write(node: &Node, case: &Case) {
    set(node, &case.thing, Some(Mark::of(case, now()).to_string())).await;
}

/// What is kept of a case changes what stands on its machine, once nothing is done any more; nobody waits for that.
pub(super) fn follow(node: &Node, output: &Output) {
    let node = node.clone();
    match output {
        Output::Save(case) if matches!(case.stage, Stage::Healed { .. } | Stage::GivenUp { .. }) => {
            let case = case.clone();
            tokio::spawn(async move { write(&node, &case).await });
        }
        Output::Forget(thing) => {
            let thing = thing.clone();
            tokio::spawn(async move { set(&node, &thing, None).await });
        }
        _ => {}
    }
}

async fn set(node: &Node, thing: &Thing, value: Option<String>) {
    let Thing::Machine(name) = thing else { return };
    let hypervisor = node.machines().hypervisor();
    let found = hypervisor.machines().into_iter().find(|machine| machine.name == *name);
    let Some(metadata) = found.and_then(|machine| machine.metadata) else { return };
    if metadata.labels.get(RECOVERY) == value.as_ref() {
        return;
    }
    let labels = [(RECOVERY.to_owned(), value)].into();
    let failed = match timeout(WRITE_MAX, hypervisor.label(name, metadata.generation, labels)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.chain(),
        Err(_) => "its host does not answer".to_owned(),
    };
    debug!(machine = name, "how far its recovery is could not be written on it: {failed}");
}
