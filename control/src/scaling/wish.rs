//! What an operator asks for.

use weir_autoscaler::UnixMs;
use weir_autoscaler::alarm::Acknowledgement;
use weir_autoscaler::scaling::schedule::bounds;
use weir_autoscaler::scaling::{MemberState, Memory, Observation, decide, refresh};
use weir_config::{AlarmName, PoolName, ScalingMode};

use super::observe::{HOOK, LEAVING};
use super::pool::Scaled;
use super::{Room, Scaler, lock, unix_now};
use crate::event::ScalingEvent;
use crate::node::Node;

/// What an operator may ask for.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    /// Nothing is made or taken away until told otherwise.
    Pause,
    /// Goes on.
    Resume,
    /// So many machines.
    Set(u32),
    /// The template's current base for all.
    Refresh,
}

/// Why it is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WishError {
    /// There is no such pool or alarm.
    #[error("{0}")]
    NotFound(String),
    /// Not now, or not here.
    #[error("{0}")]
    Conflict(String),
}

impl Scaler {
    /// Does what an operator asks for.
    pub(crate) fn wish(&self, node: &Node, pool: &str, wish: &Wish) -> Result<String, WishError> {
        let now = unix_now();
        let mut room = lock(&self.room);
        let scaled = room.scaled(pool)?;
        if !node.machines().leads() {
            return Err(WishError::Conflict("another node leads: ask that one (weir status vip shows the master)".into()));
        }
        let text = match wish {
            Wish::Pause => {
                scaled.paused = true;
                "scaling is paused by an operator".to_owned()
            }
            Wish::Resume => {
                scaled.paused = false;
                "scaling goes on".to_owned()
            }
            Wish::Set(desired) => scaled.set(*desired, now)?,
            Wish::Refresh => {
                // What was seen may be a second old, and the base was brought a moment ago.
                let templates = node.machines().hypervisor().templates();
                let template = templates.into_iter().find(|view| view.name == *scaled.policy.scaling.template.0);
                scaled.refresh(template.and_then(|view| view.base), now)?
            }
        };
        room.unsaved = true;
        drop(room);
        node.record(ScalingEvent::ScalingNotice { pool: pool.into(), text: text.clone() });
        self.wake.notify_one();
        Ok(text)
    }

    /// Lets a machine go, so that another one takes its place. One that is gone or goes already is a success.
    ///
    /// # Errors
    /// In words, for people.
    pub(crate) async fn replace(&self, node: &Node, pool: &str, machine: &str) -> Result<(), String> {
        let generation = {
            let mut room = lock(&self.room);
            let scaled = room.scaled(pool).map_err(|error| error.to_string())?;
            if scaled.paused || scaled.policy.scaling.mode == ScalingMode::Recommend {
                return Err(format!("pool {pool} makes no machines now: its scaling is paused, or only recommends"));
            }
            scaled.plan.as_ref().map_or(0, |plan| plan.generation)
        };
        let hypervisor = node.machines().hypervisor();
        let Some(found) = hypervisor.machines().into_iter().find(|view| view.name == machine) else { return Ok(()) };
        if found.metadata.as_ref().is_some_and(|of| of.labels.contains_key(LEAVING)) {
            return Ok(());
        }
        let seconds = unix_now().0 / 1000;
        let labels = [(LEAVING.to_owned(), Some(seconds.to_string())), (HOOK.to_owned(), None)].into();
        hypervisor.label(machine, generation, labels).await.map_err(|error| error.chain())?;
        self.wake.notify_one();
        Ok(())
    }

    /// Whether a machine is gone and as many serve as are wanted.
    ///
    /// # Errors
    /// The pool is no longer scaled.
    pub(crate) fn is_replaced(&self, pool: &str, machine: &str) -> Result<bool, String> {
        let mut room = lock(&self.room);
        let scaled = room.scaled(pool).map_err(|error| error.to_string())?;
        let Some(memory) = &scaled.memory else { return Ok(false) };
        let is_gone = scaled.observation.members.iter().all(|member| member.name != machine);
        Ok(is_gone && scaled.observation.count(|state| *state == MemberState::Serving) >= memory.desired)
    }

    /// Somebody has seen an alarm.
    pub(crate) fn acknowledge(&self, node: &Node, alarm: &str, by: &str, comment: &str) -> Result<(), WishError> {
        let mut room = lock(&self.room);
        let name = AlarmName::from(alarm);
        let Some(view) = room.book.view(&name) else { return Err(WishError::NotFound(format!("there is no alarm `{alarm}`"))) };
        let acknowledgement = Acknowledgement { at: unix_now(), by: by.to_owned(), comment: comment.to_owned() };
        if !room.book.acknowledge(&name, acknowledgement) {
            return Err(WishError::Conflict(format!("alarm `{alarm}` is {}: there is nothing to acknowledge", view.state.word())));
        }
        room.unsaved = true;
        drop(room);
        node.record(ScalingEvent::AlarmAcknowledged { alarm: alarm.into(), by: by.to_owned(), comment: comment.to_owned() });
        Ok(())
    }

    /// The generation that a change to a machine of this pool carries.
    pub(crate) fn generation(&self, pool: &str) -> Result<u64, WishError> {
        let mut room = lock(&self.room);
        let scaled = room.scaled(pool)?;
        Ok(scaled.plan.as_ref().map_or(0, |plan| plan.generation))
    }
}

impl Room {
    pub(super) fn scaled(&mut self, pool: &str) -> Result<&mut Scaled, WishError> {
        let names: Vec<String> = self.pools.keys().map(ToString::to_string).collect();
        let there_are =
            if names.is_empty() { "no pool has a table [pool.NAME.scaling]".into() } else { format!("there are: {}", names.join(", ")) };
        let missing = || WishError::NotFound(format!("pool `{pool}` is not scaled; {there_are}"));
        self.pools.get_mut(&PoolName::from(pool)).ok_or_else(missing)
    }
}

impl Scaled {
    fn memory(&mut self) -> Result<&mut Memory, WishError> {
        let why = self.observation.complete.clone().unwrap_or_else(|| "nothing was planned yet".into());
        self.memory.as_mut().ok_or(WishError::Conflict(format!("not yet: {why}")))
    }

    fn set(&mut self, desired: u32, now: UnixMs) -> Result<String, WishError> {
        let bounds = self.bounds.unwrap_or_else(|| bounds(&self.policy.scaling, now));
        if !(bounds.min..=bounds.max).contains(&desired) {
            return Err(WishError::Conflict(format!("{desired} is not within {} and {}, which hold now", bounds.min, bounds.max)));
        }
        let memory = self.memory()?;
        let before = memory.desired;
        decide::set(memory, desired, now);
        Ok(format!("{before} -> {desired} machines, set by an operator"))
    }

    fn refresh(&mut self, base: Option<String>, now: UnixMs) -> Result<String, WishError> {
        let observation = Observation { base, ..self.observation.clone() };
        let memory = self.memory()?;
        refresh::begin(&observation, memory, now).map_err(WishError::Conflict)?;
        let to = memory.refresh.as_ref().map_or(String::new(), |refresh| refresh.to.clone());
        Ok(format!("a refresh to {to} was begun by an operator"))
    }
}
