//! `weir scaling`.

use clap::Subcommand;
use ureq::http::Method;

use super::output::Output;
use crate::api::model::{NewDesired, NewProtection, ScalingDone, ScalingItem};
use crate::client::{Client, segment};
use crate::render;

#[derive(Debug, Subcommand)]
pub(super) enum ScalingCommand {
    /// The pools that are scaled, or everything about one: what is wanted, what is there, and why
    Show {
        /// Name of the pool
        pool: Option<String>,
    },
    /// The last plan of a pool, step by step
    Plan {
        /// Name of the pool
        pool: String,
    },
    /// Make and take away no machine until it is resumed
    Pause {
        /// Name of the pool
        pool: String,
    },
    /// Go on after a pause
    Resume {
        /// Name of the pool
        pool: String,
    },
    /// So many machines, at once; the policies go on from there
    Set {
        /// Name of the pool
        pool: String,
        /// How many, within min and max
        desired: u32,
    },
    /// Bring every machine onto the template's current base, batch by batch
    Refresh {
        /// Name of the pool
        pool: String,
    },
    /// Run a policy over a load that was, and show what it would have done
    ///
    /// The load is what the node has kept of the pool, the last day unless told otherwise; with --csv it is a table, and no node is needed.
    /// Machines over time, machine-hours, minutes beyond the thresholds and every decision, as tables and a picture.
    Replay(super::replay::Replay),
    /// Protect a machine against being taken out when the pool becomes smaller
    Protect {
        /// Name of the pool
        pool: String,
        /// Name of the machine
        machine: String,
        /// No longer
        #[arg(long)]
        off: bool,
    },
}

pub(super) fn scaling(client: &Client, command: &ScalingCommand, output: &Output) -> anyhow::Result<()> {
    let path = |pool: &str, what: &str| format!("/v1/scaling/{}/{what}", segment(pool));
    let tell = |done: ScalingDone| output.either(&done, || format!("{}: {}\n", done.pool, done.text));
    match command {
        ScalingCommand::Replay(_) => unreachable!("it needs no node and was done before"),
        ScalingCommand::Show { pool: None } => {
            let pools: Vec<ScalingItem> = client.get("/v1/scaling")?;
            output.either(&pools, || render::scaled(&pools, output.screen))
        }
        ScalingCommand::Show { pool: Some(pool) } => {
            let item: ScalingItem = client.get(&format!("/v1/scaling/{}", segment(pool)))?;
            output.either(&item, || render::scaling(&item, output.screen))
        }
        ScalingCommand::Plan { pool } => {
            if output.json {
                let item: ScalingItem = client.get(&format!("/v1/scaling/{}", segment(pool)))?;
                return output.json(&item);
            }
            let text = client.get_bytes(&path(pool, "plan"))?;
            output.text(&String::from_utf8_lossy(&text))
        }
        ScalingCommand::Pause { pool } => tell(client.change(Method::POST, &path(pool, "pause"), None::<&()>)?),
        ScalingCommand::Resume { pool } => tell(client.change(Method::POST, &path(pool, "resume"), None::<&()>)?),
        ScalingCommand::Set { pool, desired } => {
            tell(client.change(Method::PUT, &path(pool, "desired"), Some(&NewDesired { desired: *desired }))?)
        }
        ScalingCommand::Refresh { pool } => tell(client.change(Method::POST, &path(pool, "refresh"), None::<&()>)?),
        ScalingCommand::Protect { pool, machine, off } => {
            let new = NewProtection { machine: machine.clone(), protected: !off };
            tell(client.change(Method::POST, &path(pool, "protection"), Some(&new))?)
        }
    }
}
