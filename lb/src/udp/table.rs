//! The flow table: bounded, and in the order in which flows were last heard of.
//!
//! All flows of a table have the same idle time, so one list in that order is both the timer (its head ends first) and the order of
//! eviction. Every step costs the same, however many flows there are.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, SocketAddr};

/// A full table gives up the flow that was quiet the longest, but only if it was quiet for this long: a flood of new sources must not
/// push out who is talking.
const EVICT_QUIET_MS: u64 = 1000;

/// Flows that end in one turn: each costs a system call, and others wait for theirs.
const ENDS_MAX: usize = 512;

/// No flow.
const NIL: u32 = u32::MAX;

/// What makes a flow: with the listener's own port and protocol it is the 5-tuple.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    /// The client.
    pub client: SocketAddr,
    /// The address it asked, where the listener has more than one: answers must come from there.
    pub local: Option<IpAddr>,
}

/// Names a flow as long as it lives; what is said about a dead one is passed over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowId {
    /// Place in the table, less than `flows_max`.
    pub index: u32,
    /// Tells apart flows that had the same place one after the other.
    pub generation: u32,
}

/// Bounds of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Flows at once; 0 admits none.
    pub flows_max: u32,
    /// A flow ends when neither side was heard for so long.
    pub idle_ms: u64,
}

/// What becomes of a client's datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admit {
    /// It belongs to this flow.
    Known(FlowId),
    /// It begins this flow.
    New(FlowId),
    /// There is no room.
    Full,
}

/// Why a flow ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Closed {
    /// Nothing was heard from either side.
    Idle,
    /// It made room for another one.
    Evicted,
    /// The time to leave its endpoint was up.
    Left,
    /// The endpoint refused it. Not found out by the table.
    Refused,
    /// The process ended. Not found out by the table.
    Cut,
}

impl Closed {
    /// How many there are.
    pub const COUNT: usize = 5;

    /// All of them, in order.
    pub const ALL: [Closed; Closed::COUNT] = [Closed::Idle, Closed::Evicted, Closed::Left, Closed::Refused, Closed::Cut];

    /// The word used in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Closed::Idle => "idle",
            Closed::Evicted => "evicted",
            Closed::Left => "left",
            Closed::Refused => "refused",
            Closed::Cut => "cut",
        }
    }
}

#[derive(Debug)]
struct Flow {
    key: FlowKey,
    heard_ms: u64,
    /// When it has to be gone, if its endpoint is.
    leave_ms: Option<u64>,
    older: u32,
    newer: u32,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    flow: Option<Flow>,
}

/// The flows of one socket.
#[derive(Debug)]
pub struct Table {
    settings: Settings,
    by_key: HashMap<FlowKey, u32, Seeded>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    /// The first moment at which a flow has to leave, or earlier.
    leave_next_ms: Option<u64>,
    outputs: VecDeque<(FlowId, Closed)>,
}

impl Table {
    /// An empty one. `seed` must not be known to clients: it keeps them from choosing ports that collide.
    pub fn new(settings: Settings, seed: u64) -> Table {
        let by_key = HashMap::with_hasher(Seeded(seed));
        Table {
            settings,
            by_key,
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NIL,
            newest: NIL,
            leave_next_ms: None,
            outputs: VecDeque::new(),
        }
    }

    /// Other bounds from now on. Flows above a lower cap stay until they end.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// All flows.
    pub fn ids(&self) -> impl Iterator<Item = FlowId> + '_ {
        let id = |(index, slot): (usize, &Slot)| slot.flow.is_some().then_some(FlowId { index: index as u32, generation: slot.generation });
        self.slots.iter().enumerate().filter_map(id)
    }

    /// The key of a living flow.
    pub fn key(&self, id: FlowId) -> Option<FlowKey> {
        self.flow(id).map(|flow| flow.key)
    }

    /// A client sent something, and no flow is to begin. The flow it belongs to, if there is one.
    pub fn handle_client_of_old(&mut self, key: FlowKey, now_ms: u64) -> Option<FlowId> {
        let index = *self.by_key.get(&key)?;
        self.hear(index, now_ms);
        Some(self.id(index))
    }

    /// A client sent something. Outputs are to be polled afterwards: a new flow may have cost an old one.
    pub fn handle_client(&mut self, key: FlowKey, now_ms: u64) -> Admit {
        if let Some(id) = self.handle_client_of_old(key, now_ms) {
            return Admit::Known(id);
        }
        if self.len() >= self.settings.flows_max as usize && !self.evict(now_ms) {
            return Admit::Full;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, flow: None });
            (self.slots.len() - 1) as u32
        });
        self.slots[index as usize].flow = Some(Flow { key, heard_ms: now_ms, leave_ms: None, older: NIL, newer: NIL });
        self.by_key.insert(key, index);
        self.append(index);
        Admit::New(self.id(index))
    }

    /// An endpoint sent something. Whether the flow is still there.
    pub fn handle_endpoint(&mut self, id: FlowId, now_ms: u64) -> bool {
        let living = self.flow(id).is_some();
        if living {
            self.hear(id.index, now_ms);
        }
        living
    }

    /// Makes room at the cost of the flow that was quiet the longest, if that was long enough. Whether there was one.
    pub fn evict(&mut self, now_ms: u64) -> bool {
        let Some(flow) = self.slots.get(self.oldest as usize).and_then(|slot| slot.flow.as_ref()) else { return false };
        if now_ms.saturating_sub(flow.heard_ms) < EVICT_QUIET_MS {
            return false;
        }
        self.end(self.oldest, Closed::Evicted);
        true
    }

    /// The flow's endpoint leaves: it may stay there until then at most. Of several dates the earliest stands.
    pub fn leave(&mut self, id: FlowId, until_ms: u64) {
        let Some(flow) = self.flow_mut(id) else { return };
        let leave = flow.leave_ms.map_or(until_ms, |before| before.min(until_ms));
        flow.leave_ms = Some(leave);
        self.leave_next_ms = Some(self.leave_next_ms.map_or(leave, |next| next.min(leave)));
    }

    /// Forgets a flow at once, without an output.
    pub fn remove(&mut self, id: FlowId) {
        if self.flow(id).is_some() {
            self.unlink(id.index);
        }
    }

    /// Ends what is due, but not more at once than costs a moment: what is left over is due still.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        for _ in 0..ENDS_MAX {
            if self.idle_next_ms().is_none_or(|due| due > now_ms) {
                break;
            }
            self.end(self.oldest, Closed::Idle);
        }
        if self.leave_next_ms.is_some_and(|due| due <= now_ms) {
            let leave = |slot: &Slot| slot.flow.as_ref().and_then(|flow| flow.leave_ms);
            let is_due = |index: &u32| leave(&self.slots[*index as usize]).is_some_and(|at| at <= now_ms);
            let due: Vec<u32> = (0..self.slots.len() as u32).filter(is_due).take(ENDS_MAX).collect();
            for index in due {
                self.end(index, Closed::Left);
            }
            self.leave_next_ms = self.slots.iter().filter_map(leave).min();
        }
    }

    /// When [`Table::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.idle_next_ms().into_iter().chain(self.leave_next_ms).min()
    }

    /// A flow that ended, and why. Its place is given away only by a later [`Table::handle_client`].
    pub fn poll_output(&mut self) -> Option<(FlowId, Closed)> {
        self.outputs.pop_front()
    }

    fn idle_next_ms(&self) -> Option<u64> {
        let flow = self.slots.get(self.oldest as usize)?.flow.as_ref()?;
        Some(flow.heard_ms.saturating_add(self.settings.idle_ms))
    }

    fn id(&self, index: u32) -> FlowId {
        FlowId { index, generation: self.slots[index as usize].generation }
    }

    fn flow(&self, id: FlowId) -> Option<&Flow> {
        let slot = self.slots.get(id.index as usize)?;
        slot.flow.as_ref().filter(|_| slot.generation == id.generation)
    }

    fn flow_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.flow.as_mut().filter(|_| slot.generation == id.generation)
    }

    fn linked(&mut self, index: u32) -> Option<&mut Flow> {
        self.slots.get_mut(index as usize)?.flow.as_mut()
    }

    fn hear(&mut self, index: u32, now_ms: u64) {
        if let Some(flow) = self.linked(index) {
            flow.heard_ms = now_ms;
        }
        if self.newest != index {
            self.detach(index);
            self.append(index);
        }
    }

    fn end(&mut self, index: u32, why: Closed) {
        self.outputs.push_back((self.id(index), why));
        self.unlink(index);
    }

    fn unlink(&mut self, index: u32) {
        self.detach(index);
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        if let Some(flow) = slot.flow.take() {
            self.by_key.remove(&flow.key);
            self.free.push(index);
        }
    }

    fn detach(&mut self, index: u32) {
        let Some((older, newer)) = self.linked(index).map(|flow| (flow.older, flow.newer)) else { return };
        match self.linked(older) {
            Some(flow) => flow.newer = newer,
            None => self.oldest = newer,
        }
        match self.linked(newer) {
            Some(flow) => flow.older = older,
            None => self.newest = older,
        }
    }

    fn append(&mut self, index: u32) {
        let last = self.newest;
        if let Some(flow) = self.linked(index) {
            (flow.older, flow.newer) = (last, NIL);
        }
        match self.linked(last) {
            Some(flow) => flow.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
    }
}

/// A quick hash under a secret. Each word is folded in by a multiplication whose halves are mixed.
#[derive(Clone, Copy, Debug)]
struct Seeded(u64);

impl BuildHasher for Seeded {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded { state: self.0, secret: self.0 | 1 }
    }
}

struct Folded {
    state: u64,
    secret: u64,
}

impl Folded {
    #[inline]
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.secret ^ 0x9e37_79b9_7f4a_7c15);
        self.state = (product as u64) ^ ((product >> 64) as u64) ^ self.secret.rotate_left(23);
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u16(&mut self, word: u16) {
        self.fold(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.fold(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }

    fn finish(&self) -> u64 {
        let product = u128::from(self.state) * u128::from(self.secret.rotate_left(32) | 1);
        (product as u64) ^ ((product >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SETTINGS: Settings = Settings { flows_max: 3, idle_ms: 5000 };

    fn key(port: u16) -> FlowKey {
        FlowKey { client: SocketAddr::from(([127, 0, 0, 1], port)), local: None }
    }

    fn ended(table: &mut Table) -> Vec<Closed> {
        std::iter::from_fn(|| table.poll_output()).map(|(_, why)| why).collect()
    }

    #[test]
    fn either_side_keeps_a_flow() {
        let mut table = Table::new(SETTINGS, 7);
        let Admit::New(id) = table.handle_client(key(1), 0) else { panic!("there is room") };
        assert_eq!(table.poll_timeout(), Some(5000));
        assert!(table.handle_endpoint(id, 4000));
        table.handle_timeout(8999);
        assert_eq!(ended(&mut table), []);
        assert_eq!(table.handle_client(key(1), 8999), Admit::Known(id));
        table.handle_timeout(13_999);
        assert_eq!(ended(&mut table), [Closed::Idle]);
        assert!(!table.handle_endpoint(id, 14_000));
        assert_eq!(table.poll_timeout(), None);
        assert!(matches!(table.handle_client(key(1), 14_000), Admit::New(new) if new != id));
    }

    #[test]
    fn a_full_table_gives_up_who_is_quiet_and_nobody_else() {
        let mut table = Table::new(SETTINGS, 7);
        for port in 1..=3 {
            table.handle_client(key(port), u64::from(port));
        }
        assert_eq!(table.handle_client(key(4), 1000), Admit::Full);
        assert!(matches!(table.handle_client(key(4), 1001), Admit::New(_)));
        assert_eq!(ended(&mut table), [Closed::Evicted]);
        assert!(matches!(table.handle_client(key(2), 1001), Admit::Known(_)));
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn who_must_leave_leaves_in_time_though_it_talks() {
        let mut table = Table::new(SETTINGS, 7);
        let Admit::New(id) = table.handle_client(key(1), 0) else { panic!("there is room") };
        table.leave(id, 3000);
        table.leave(id, 2000);
        table.leave(id, 9000);
        assert_eq!(table.poll_timeout(), Some(2000));
        table.handle_client(key(1), 1999);
        table.handle_timeout(2000);
        assert_eq!(ended(&mut table), [Closed::Left]);
        assert!(matches!(table.handle_client(key(1), 2000), Admit::New(new) if new != id), "elsewhere");
        table.leave(id, 2000);
        table.handle_timeout(2000);
        assert_eq!(ended(&mut table), [], "what is said about a dead one does not concern who has its place");
    }

    #[test]
    fn nothing_new_begins_where_only_the_old_are_served() {
        let mut table = Table::new(SETTINGS, 7);
        let Admit::New(id) = table.handle_client(key(1), 0) else { panic!("there is room") };
        assert_eq!(table.handle_client_of_old(key(2), 1), None);
        assert_eq!(table.handle_client_of_old(key(1), 4000), Some(id));
        assert_eq!((table.len(), table.poll_timeout()), (1, Some(9000)));
    }

    #[test]
    fn many_that_end_together_end_in_turns() {
        let many = ENDS_MAX + 10;
        let mut table = Table::new(Settings { flows_max: 10_000, idle_ms: 5000 }, 7);
        let begin = |table: &mut Table, now: u64| {
            for port in 0..many as u16 {
                table.handle_client(key(port), now);
            }
        };
        begin(&mut table, 0);
        table.handle_timeout(6000);
        assert_eq!((ended(&mut table).len(), table.poll_timeout()), (ENDS_MAX, Some(5000)));
        table.handle_timeout(6000);
        assert_eq!((ended(&mut table).len(), table.poll_timeout()), (10, None));
        begin(&mut table, 7000);
        for id in table.ids().collect::<Vec<_>>() {
            table.leave(id, 8000);
        }
        table.handle_timeout(8000);
        assert_eq!((ended(&mut table).len(), table.poll_timeout()), (ENDS_MAX, Some(8000)));
        table.handle_timeout(8000);
        assert_eq!((ended(&mut table).len(), table.len(), table.poll_timeout()), (10, 0, None));
    }

    /// Many clients over a virtual clock, against a model that looks at everything each time.
    #[test]
    fn simulated_traffic_agrees_with_a_plain_model() {
        for seed in 0..40 {
            let mut random = fastrand::Rng::with_seed(seed);
            let settings = Settings { flows_max: random.u32(1..40), idle_ms: random.u64(1..4000) };
            let mut table = Table::new(settings, random.u64(..));
            let mut model: BTreeMap<FlowId2, (FlowKey, u64)> = BTreeMap::new();
            let mut now = 0;
            for step in 0..5000 {
                now += random.u64(..40);
                if random.u8(..4) == 0 {
                    table.handle_timeout(now);
                    assert!(table.poll_timeout().is_none_or(|due| due > now), "seed {seed} step {step}");
                }
                let some = model.keys().nth(random.usize(..=model.len())).copied();
                match (random.u8(..10), some) {
                    (0..3, Some(id)) => {
                        let living = table.handle_endpoint(id.into(), now);
                        if living {
                            model.get_mut(&id).expect("known").1 = now;
                        }
                    }
                    (3, Some(id)) => {
                        table.remove(id.into());
                        // One that ended on its own is told below.
                        if table.outputs.iter().all(|(ended, _)| FlowId2::from(*ended) != id) {
                            model.remove(&id);
                        }
                    }
                    _ => {
                        let key = key(random.u16(1..80));
                        match table.handle_client(key, now) {
                            Admit::Known(id) => {
                                let entry = model.get_mut(&id.into()).expect("a known flow was begun once");
                                assert_eq!(entry.0, key, "seed {seed} step {step}");
                                entry.1 = now;
                            }
                            Admit::New(id) => assert!(model.insert(id.into(), (key, now)).is_none()),
                            Admit::Full => assert!(table.len() >= settings.flows_max as usize),
                        }
                    }
                }
                while let Some((id, why)) = table.poll_output() {
                    let (_, heard) = model.remove(&id.into()).expect("a flow ends once");
                    let quiet = now - heard;
                    match why {
                        Closed::Idle => assert!(quiet >= settings.idle_ms, "seed {seed} step {step}"),
                        Closed::Evicted => assert!(quiet >= EVICT_QUIET_MS, "seed {seed} step {step}"),
                        other => panic!("nobody was told to end by {other:?}"),
                    }
                }
                assert_eq!(table.len(), model.len(), "seed {seed} step {step}");
                assert!(table.len() <= settings.flows_max as usize, "seed {seed} step {step}");
                assert!(table.slots.len() <= settings.flows_max as usize, "memory is bounded: seed {seed} step {step}");
            }
        }
    }

    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
    struct FlowId2(u32, u32);

    impl From<FlowId> for FlowId2 {
        fn from(id: FlowId) -> Self {
            FlowId2(id.index, id.generation)
        }
    }

    impl From<FlowId2> for FlowId {
        fn from(id: FlowId2) -> Self {
            FlowId { index: id.0, generation: id.1 }
        }
    }
}
