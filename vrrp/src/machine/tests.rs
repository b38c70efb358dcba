//! One test for each rule of RFC 9568 section 6 that says what must be done, and for each rule of our own.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::packet::{
    Advertisement, AdvertisementInterval, ChecksumForm, Envelope, Family, Packet, PeerKind, PeerMessage, Priority, Reception, SharedSum,
    Version, Vrid, encode,
};

const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const LESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const GREATER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
const MS: Duration = Duration::from_millis(1);

pub(crate) fn config(name: &str, priority: u8) -> Config {
    Config {
        name: name.into(),
        interface: "eth0".into(),
        vrid: Vrid::new(51).expect("not 0"),
        family: Family::V4,
        version: Version::V3,
        priority: Priority(priority),
        interval: AdvertisementInterval::from_centiseconds(100).expect("1 s"),
        addresses: vec![VirtualAddress { address: VIP, prefix_len: 24 }],
        preempt: true,
        preempt_delay: Duration::ZERO,
        startup_delay: Duration::ZERO,
        checksum: ChecksumForm::PseudoHeader,
        keys: None,
        peers: Vec::new(),
        replay_window: Duration::from_secs(2),
        announce: Announcements::default(),
        follower: false,
        shared: None,
    }
}

/// One router and a clock.
pub(crate) struct Bench {
    pub(crate) instance: Instance,
    pub(crate) now: Instant,
}

impl Bench {
    pub(crate) fn new(config: Config) -> Bench {
        let now = Instant::now();
        let mut bench = Bench { instance: Instance::new(config, now), now };
        bench.input(Input::Interface { up: true });
        bench.input(Input::PrimaryAddress(Some(OURS)));
        bench.input(Input::Eligible { eligible: true, reason: String::new() });
        bench
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.instance.handle_input(input, self.now);
    }

    pub(crate) fn start(&mut self) {
        self.input(Input::Start);
    }

    pub(crate) fn timeout(&mut self) {
        self.instance.handle_timeout(self.now);
    }

    pub(crate) fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.instance.poll_output()).collect()
    }

    /// Lets time pass, with every timer in its turn.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(next) = self.instance.poll_timeout().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.timeout();
        }
        self.now = until;
    }

    pub(crate) fn run_to_master(&mut self) {
        self.pass(self.instance.master_down_interval());
        assert_eq!(self.instance.state(), StateKind::Master, "{}", self.instance.status(self.now).explanation);
    }

    fn hear(&mut self, packet: &Packet, source: IpAddr) {
        let destination = self.instance.config().family.group();
        let made_at = Duration::from_secs(1000);
        let bytes = encode(packet, &Envelope { source, destination, checksum: ChecksumForm::PseudoHeader, keys: None, made_at });
        let reception = Reception { source, destination, ttl: 255, wall: made_at };
        self.instance.handle_packet(&bytes, &reception, self.now);
    }

    fn advertisement(&self, priority: u8) -> Advertisement {
        Advertisement { priority: Priority(priority), ..self.instance.advertisement(Priority(1)) }
    }

    pub(crate) fn hear_advertisement(&mut self, priority: u8, source: IpAddr) {
        let advertisement = self.advertisement(priority);
        self.hear(&Packet::Advertisement(advertisement), source);
    }

    pub(crate) fn hear_peer(&mut self, kind: PeerKind, source: IpAddr, priority: u8, healthy: Option<u16>) {
        let vrid = self.instance.config().vrid;
        self.hear(
            &Packet::Peer(PeerMessage { vrid, kind, priority: Priority(priority), eligible: true, deposed: false, healthy, shared: None }),
            source,
        );
    }

    fn state(&self) -> StateKind {
        self.instance.state()
    }

    fn due_in(&self) -> Duration {
        self.instance.poll_timeout().expect("a deadline") - self.now
    }
}

/// A started router that hears nobody yet.
fn backup(priority: u8) -> Bench {
    let mut bench = Bench::new(config("public", priority));
    bench.start();
    assert_eq!(bench.state(), StateKind::Backup);
    bench.outputs();
    bench
}

fn master(priority: u8) -> Bench {
    let mut bench = backup(priority);
    bench.run_to_master();
    bench.outputs();
    bench
}

fn sent(outputs: &[Output]) -> Vec<u8> {
    let priority = |output: &Output| match output {
        Output::Send { packet: Packet::Advertisement(advertisement), to: Destination::Everyone } => Some(advertisement.priority.0),
        _ => None,
    };
    outputs.iter().filter_map(priority).collect()
}

pub(crate) fn said(outputs: &[Output]) -> Vec<(PeerKind, IpAddr)> {
    let kind = |output: &Output| match output {
        Output::Send { packet: Packet::Peer(message), to: Destination::One(to) } => Some((message.kind, *to)),
        _ => None,
    };
    outputs.iter().filter_map(kind).collect()
}

fn events(outputs: &[Output]) -> Vec<EventKind> {
    let kind = |output: &Output| match output {
        Output::Event(event) => Some(event.kind),
        _ => None,
    };
    outputs.iter().filter_map(kind).collect()
}

fn removes(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::RemoveAddresses(_)))
}

fn adds(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::AddAddresses(_)))
}

fn announces(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::Announce(_))).count()
}

// ---- section 6.1: parameters

#[test]
fn rfc_9568_section_6_1_skew_and_master_down_interval() {
    for (priority, centiseconds, skew_ns, down_ns) in [
        (100, 100, 609_375_000, 3_609_375_000),
        (254, 1, 78_125, 30_078_125),
        (250, 10, 2_343_750, 302_343_750),
        (255, 100, 3_906_250, 3_003_906_250),
        (1, 4095, 40_790_039_062u64, 163_640_039_062u64),
    ] {
        let interval = AdvertisementInterval::from_centiseconds(centiseconds).expect("valid");
        let instance = Instance::new(Config { interval, ..config("a", priority) }, Instant::now());
        assert_eq!(instance.skew_time(), Duration::from_nanos(skew_ns), "{priority} {centiseconds}");
        assert_eq!(instance.master_down_interval(), Duration::from_nanos(down_ns), "{priority} {centiseconds}");
    }
}

#[test]
fn rfc_3768_section_6_1_skew_is_a_part_of_one_second() {
    let interval = AdvertisementInterval::from_centiseconds(500).expect("5 s");
    let instance = Instance::new(Config { version: Version::V2, interval, ..config("a", 128) }, Instant::now());
    assert_eq!(instance.skew_time(), Duration::from_millis(500));
    assert_eq!(instance.master_down_interval(), Duration::from_millis(15_500));
}

// ---- section 6.4.1: initialize

#[test]
fn rfc_9568_section_6_4_1_owner_becomes_master_at_startup() {
    let mut bench = Bench::new(config("a", 255));
    bench.start();
    let outputs = bench.outputs();
    assert_eq!(bench.state(), StateKind::Master);
    assert_eq!((sent(&outputs), announces(&outputs), adds(&outputs)), (vec![255], 1, true));
    assert_eq!(bench.instance.poll_timeout(), Some(bench.now + 20 * MS), "the rest of the burst comes first");
}

#[test]
fn rfc_9568_section_6_4_1_others_listen_for_the_master_down_interval() {
    let mut bench = Bench::new(config("a", 100));
    bench.start();
    assert_eq!(sent(&bench.outputs()), [0u8; 0]);
    assert_eq!(bench.due_in(), Duration::from_nanos(3_609_375_000));
}

#[test]
fn nothing_starts_without_interface_address_and_data_plane() {
    for (input, why) in [
        (Input::Interface { up: false }, "interface eth0 is down"),
        (Input::PrimaryAddress(None), "interface eth0 has no ipv4 address to send from"),
        (Input::Eligible { eligible: false, reason: "worker 0 hangs".into() }, "worker 0 hangs"),
    ] {
        let mut bench = Bench::new(config("a", 255));
        bench.input(input);
        bench.start();
        assert_eq!(bench.state(), StateKind::Initialize);
        assert_eq!(bench.instance.able(), Err(why.into()));
        assert_eq!(bench.instance.status(bench.now).explanation, format!("it cannot be master: {why}"));
        bench.pass(Duration::from_secs(60));
        assert_eq!(bench.outputs(), []);
    }
}

#[test]
fn a_startup_delay_is_waited_once_and_also_by_the_owner() {
    let mut bench = Bench::new(Config { startup_delay: Duration::from_secs(10), ..config("a", 255) });
    bench.start();
    assert_eq!(bench.state(), StateKind::Backup);
    bench.pass(Duration::from_secs(12));
    assert_eq!(bench.state(), StateKind::Backup);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.state(), StateKind::Master);
    bench.input(Input::Interface { up: false });
    bench.input(Input::Interface { up: true });
    assert_eq!(bench.state(), StateKind::Master);
}

// ---- section 6.4.2: backup

#[test]
fn rfc_9568_section_6_4_2_shutdown_sends_nothing() {
    let mut bench = backup(100);
    bench.input(Input::Stop);
    assert!(bench.instance.is_stopped());
    let outputs = bench.outputs();
    assert!(matches!(outputs.as_slice(), [Output::Transition(_)]), "{outputs:?}");
    assert_eq!(bench.instance.poll_timeout(), None);
}

#[test]
fn rfc_9568_section_6_4_2_master_down_makes_it_master() {
    let mut bench = backup(100);
    bench.run_to_master();
    let outputs = bench.outputs();
    let order: Vec<&str> = outputs
        .iter()
        .map(|output| match output {
            Output::Send { .. } => "send",
            Output::AddAddresses(_) => "add",
            Output::Announce(_) => "announce",
            Output::Transition(_) => "transition",
            _ => "other",
        })
        .collect();
    assert_eq!(order, ["send", "add", "announce", "transition"]);
    assert_eq!(sent(&outputs), [100]);
    assert_eq!(bench.instance.status(bench.now).explanation, "it is master because no master was heard");
}

#[test]
fn rfc_9568_section_6_4_2_priority_zero_waits_the_skew_time() {
    let mut bench = backup(100);
    bench.hear_advertisement(200, GREATER);
    bench.outputs();
    bench.hear_advertisement(0, GREATER);
    assert_eq!(bench.instance.poll_timeout().map(|at| at.min(bench.now + Duration::from_secs(9))), bench.instance.poll_timeout());
    bench.pass(Duration::from_nanos(609_374_999));
    assert_eq!(bench.state(), StateKind::Backup);
    bench.pass(Duration::from_nanos(1));
    assert_eq!(bench.state(), StateKind::Master);
}

#[test]
fn rfc_9568_section_6_4_2_a_better_or_equal_master_resets_the_timer_and_teaches_its_interval() {
    for (priority, source) in [(200, LESS), (100, LESS), (100, GREATER)] {
        let mut bench = backup(100);
        bench.pass(Duration::from_secs(3));
        let interval = AdvertisementInterval::from_centiseconds(200).expect("2 s");
        let advertisement = Advertisement { interval, ..bench.advertisement(priority) };
        bench.hear(&Packet::Advertisement(advertisement), source);
        assert_eq!(bench.instance.master_down_interval(), Duration::from_nanos(7_218_750_000), "three times 2 s and its skew");
        bench.pass(Duration::from_nanos(7_218_749_999));
        assert_eq!(bench.state(), StateKind::Backup);
        bench.pass(Duration::from_nanos(1));
        assert_eq!(bench.state(), StateKind::Master);
        // As master it has its own interval again.
        assert_eq!(bench.instance.master_down_interval(), Duration::from_nanos(3_609_375_000));
    }
}

#[test]
fn rfc_9568_section_6_4_2_without_preemption_a_lower_master_resets_the_timer() {
    let mut bench = Bench::new(Config { preempt: false, ..config("a", 100) });
    bench.start();
    for _ in 0..10 {
        bench.pass(Duration::from_secs(1));
        bench.hear_advertisement(50, LESS);
    }
    assert_eq!(bench.state(), StateKind::Backup);
    let explanation = bench.instance.status(bench.now).explanation;
    assert_eq!(explanation, "10.0.0.1 is master with rank 50, below this node's 100, and is left alone: preempt = false");
}

#[test]
fn rfc_9568_section_6_4_2_with_preemption_a_lower_master_is_not_listened_to() {
    let mut bench = backup(100);
    let deadline = bench.now + bench.instance.master_down_interval();
    while bench.now + Duration::from_secs(1) < deadline {
        bench.pass(Duration::from_secs(1));
        bench.hear_advertisement(50, LESS);
    }
    bench.pass(deadline - bench.now);
    assert_eq!(bench.state(), StateKind::Master);
    let why = &bench.instance.status(bench.now).history.last().expect("a transition").why.clone();
    assert_eq!(why, "it ranks above 10.0.0.1 (100 to 50)");
}

#[test]
fn rfc_9568_section_6_1_the_owner_preempts_whatever_preempt_mode_says() {
    let startup_delay = MS;
    let mut bench = Bench::new(Config { preempt: false, startup_delay, ..config("a", 255) });
    bench.start();
    for _ in 0..4 {
        bench.pass(Duration::from_secs(1));
        bench.hear_advertisement(254, GREATER);
    }
    assert_eq!(bench.state(), StateKind::Master);
}

#[test]
fn preempt_delay_delays_only_the_preemption_of_a_live_lower_master() {
    let delayed = || {
        let mut bench = Bench::new(Config { preempt_delay: Duration::from_secs(30), ..config("a", 100) });
        bench.start();
        bench
    };
    let mut first_election = delayed();
    first_election.run_to_master();

    let mut live = delayed();
    for second in 0..33 {
        live.hear_advertisement(50, LESS);
        assert_eq!(live.state(), StateKind::Backup, "second {second}");
        live.pass(Duration::from_secs(1));
    }
    assert_eq!(live.state(), StateKind::Master);

    let mut dies = delayed();
    dies.hear_advertisement(50, LESS);
    dies.run_to_master();

    let mut better = delayed();
    for _ in 0..20 {
        better.hear_advertisement(50, LESS);
        better.pass(Duration::from_secs(1));
    }
    better.hear_advertisement(100, LESS);
    for _ in 0..20 {
        better.hear_advertisement(50, LESS);
        better.pass(Duration::from_secs(1));
    }
    assert_eq!(better.state(), StateKind::Backup, "the delay began anew");
}

// ---- section 6.4.3: master

#[test]
fn rfc_9568_section_6_4_3_shutdown_sends_priority_zero() {
    let mut bench = master(100);
    bench.input(Input::Stop);
    let outputs = bench.outputs();
    assert_eq!(sent(&outputs), [0]);
    assert!(removes(&outputs) && bench.instance.is_stopped());
    let counters = bench.instance.status(bench.now).counters;
    assert_eq!(counters.priority_zero_pkts_sent, 1);
}

#[test]
fn rfc_9568_section_6_4_3_advertises_every_interval() {
    let mut bench = master(100);
    let start = bench.now;
    let mut times = Vec::new();
    while bench.now < start + Duration::from_secs(10) {
        bench.now = bench.instance.poll_timeout().expect("a deadline");
        // Woken a little late each time: it must not add up.
        bench.now += MS;
        bench.timeout();
        times.extend(sent(&bench.outputs()).iter().map(|_| (bench.now - start).as_millis()));
    }
    assert_eq!(times, [1001, 2001, 3001, 4001, 5001, 6001, 7001, 8001, 9001, 10001]);
}

#[test]
fn rfc_9568_section_6_4_3_priority_zero_is_answered_at_once() {
    let mut bench = master(100);
    bench.pass(500 * MS);
    bench.outputs();
    bench.hear_advertisement(0, GREATER);
    let outputs = bench.outputs();
    assert_eq!((sent(&outputs), bench.state()), (vec![100], StateKind::Master));
    bench.pass(999 * MS);
    assert_eq!(sent(&bench.outputs()), [0u8; 0]);
    bench.pass(MS);
    assert_eq!(sent(&bench.outputs()), [100], "the timer began anew");
}

#[test]
fn rfc_9568_section_6_4_3_gives_way_to_a_higher_priority_or_the_greater_address() {
    for (priority, source, expected) in [
        (101, LESS, StateKind::Backup),
        (101, GREATER, StateKind::Backup),
        (100, GREATER, StateKind::Backup),
        (100, LESS, StateKind::Master),
        (99, GREATER, StateKind::Master),
        (99, LESS, StateKind::Master),
    ] {
        let mut bench = master(100);
        bench.hear_advertisement(priority, source);
        assert_eq!(bench.state(), expected, "{priority} {source}");
        let outputs = bench.outputs();
        assert_eq!(removes(&outputs), expected == StateKind::Backup);
        if expected == StateKind::Backup {
            assert_eq!(sent(&outputs), [0u8; 0], "says nothing more");
            assert_eq!(bench.instance.poll_timeout(), Some(bench.now), "greets the new master");
            bench.timeout();
            bench.outputs();
            bench.run_to_master();
        }
    }
}

#[test]
fn rfc_9568_section_6_4_3_a_loser_that_speaks_is_answered_at_once() {
    let mut bench = master(100);
    bench.pass(Duration::from_secs(60) + 500 * MS);
    bench.outputs();
    bench.hear_advertisement(50, LESS);
    let outputs = bench.outputs();
    assert_eq!((sent(&outputs), announces(&outputs)), (vec![100], 1), "hosts and switches learn who is master");
    assert_eq!(events(&outputs), [EventKind::ConflictWon]);
    // A neighbour that goes on is answered, but cannot make us flood the link with announcements.
    for _ in 0..100 {
        bench.hear_advertisement(50, LESS);
    }
    let outputs = bench.outputs();
    assert_eq!((sent(&outputs).len(), announces(&outputs), events(&outputs).len()), (100, 0, 0));
    assert_eq!(bench.instance.status(bench.now).counters.conflicts_won, 101);
}

/// A loser that hears the winner first never says anything on the link again; only its greeting can tell that there were two.
#[test]
fn a_conflict_that_only_the_loser_noticed_is_won_too() {
    let mut loser = master(100);
    loser.hear_advertisement(200, GREATER);
    loser.timeout();
    let greetings = |bench: &mut Bench| -> Vec<PeerMessage> {
        let hello = |output: Output| match output {
            Output::Send { packet: Packet::Peer(message), .. } if message.kind == PeerKind::Hello => Some(message),
            _ => None,
        };
        bench.outputs().into_iter().filter_map(hello).collect()
    };
    let greeting = greetings(&mut loser).pop().expect("it greets the winner");
    assert!(greeting.deposed);

    let mut winner = master(200);
    winner.hear_peer(PeerKind::Hello, LESS, 100, None);
    winner.pass(Duration::from_secs(2));
    winner.outputs();
    winner.hear(&Packet::Peer(greeting), LESS);
    let outputs = winner.outputs();
    assert_eq!((sent(&outputs), announces(&outputs), events(&outputs)), (vec![200], 1, vec![EventKind::ConflictWon]));
    // Another one within the interval is announced at its end: who floods cannot make us flood.
    winner.hear(&Packet::Peer(greeting), LESS);
    assert_eq!(announces(&winner.outputs()), 0);
    winner.pass(Duration::from_secs(1));
    assert_eq!(announces(&winner.outputs()), 1);
    // Nobody was deposed by whoever greets as usual.
    winner.hear_peer(PeerKind::Hello, LESS, 100, None);
    let outputs = winner.outputs();
    assert_eq!((sent(&outputs).len(), announces(&outputs)), (0, 0));

    // Once it was heard it says so no more.
    loser.hear_peer(PeerKind::Present, GREATER, 200, None);
    for _ in 0..4 {
        loser.pass(Duration::from_secs(1));
        loser.hear_advertisement(200, GREATER);
    }
    let later = greetings(&mut loser);
    assert!(!later.is_empty() && later.iter().all(|greeting| !greeting.deposed), "{later:?}");
}

#[test]
fn interface_or_address_lost_ends_it_without_a_word() {
    for input in [Input::Interface { up: false }, Input::PrimaryAddress(None)] {
        let mut bench = master(100);
        bench.input(input);
        let outputs = bench.outputs();
        assert_eq!(sent(&outputs), [0u8; 0]);
        assert!(removes(&outputs));
        assert_eq!(bench.state(), StateKind::Initialize);
    }
}

// ---- section 7.1 and what an operator must know

#[test]
fn rfc_9568_section_7_1_other_addresses_are_said_and_not_discarded() {
    for (addresses, kind) in [(vec![VIP, GREATER], EventKind::Differs), (vec![IpAddr::from([10, 0, 0, 200])], EventKind::ForeignRouter)] {
        let mut bench = backup(100);
        bench.pass(Duration::from_secs(3));
        bench.outputs();
        let advertisement = Advertisement { addresses, ..bench.advertisement(200) };
        bench.hear(&Packet::Advertisement(advertisement), GREATER);
        assert!(events(&bench.outputs()).contains(&kind));
        bench.pass(Duration::from_secs(3));
        assert_eq!(bench.state(), StateKind::Backup, "config drift must not make two masters");
        assert_eq!(bench.instance.status(bench.now).counters.address_list_errors, 1);
    }
}

#[test]
fn rfc_3768_section_7_1_version_2_wants_equal_intervals() {
    let mut bench = Bench::new(Config { version: Version::V2, ..config("a", 100) });
    bench.start();
    let interval = AdvertisementInterval::from_centiseconds(200).expect("2 s");
    let advertisement = Advertisement { interval, ..bench.advertisement(200) };
    bench.hear(&Packet::Advertisement(advertisement), GREATER);
    let status = bench.instance.status(bench.now);
    assert_eq!(status.counters.discarded.get("interval"), Some(&1));
    assert_eq!(status.master, None);
}

/// RFC 9568 section 7.1, erratum 8298.
#[test]
fn erratum_8298_two_owners_are_said_and_the_greater_address_wins() {
    let mut bench = Bench::new(config("a", 255));
    bench.start();
    bench.outputs();
    bench.hear_advertisement(255, LESS);
    assert_eq!(bench.state(), StateKind::Master);
    assert!(events(&bench.outputs()).contains(&EventKind::Differs));
    bench.hear_advertisement(255, GREATER);
    assert_eq!(bench.state(), StateKind::Backup);
}

#[test]
fn our_own_packets_and_a_stolen_address_are_told_apart() {
    let mut bench = master(100);
    bench.hear_advertisement(100, OURS);
    assert_eq!(events(&bench.outputs()), [EventKind::Reflected, EventKind::Discarded]);
    bench.hear_advertisement(200, OURS);
    assert_eq!(events(&bench.outputs()), [EventKind::AddressTwice]);
    assert_eq!(bench.state(), StateKind::Master);
    assert_eq!(bench.instance.status(bench.now).counters.discarded.get("own-address"), Some(&2));
}

#[test]
fn strangers_are_not_heard_by_a_unicast_router() {
    let peers = vec![UnicastPeer { address: GREATER, ttl: (254, 255) }];
    let mut bench = Bench::new(Config { peers, ..config("a", 100) });
    bench.start();
    bench.hear_advertisement(200, LESS);
    bench.hear_advertisement(200, GREATER);
    let status = bench.instance.status(bench.now);
    assert_eq!(status.counters.discarded.get("unknown-peer"), Some(&1));
    assert_eq!(status.master.map(|master| master.address), Some(GREATER));
    assert_eq!(bench.instance.destinations(Destination::Everyone), [GREATER]);
}

// ---- of our own

#[test]
fn a_master_that_stalled_steps_down_before_it_speaks() {
    let mut bench = master(100);
    bench.pass(Duration::from_secs(1));
    bench.outputs();
    bench.now += Duration::from_millis(3001);
    bench.timeout();
    let outputs = bench.outputs();
    assert_eq!((sent(&outputs), removes(&outputs), bench.state()), (Vec::<u8>::new(), true, StateKind::Backup));
    assert_eq!(bench.instance.status(bench.now).counters.stalls, 1);
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.state(), StateKind::Master, "nobody had taken over");
}

#[test]
fn a_master_that_is_a_little_late_says_so_and_goes_on() {
    let mut bench = master(100);
    bench.now += Duration::from_millis(2500);
    bench.timeout();
    let outputs = bench.outputs();
    assert_eq!((sent(&outputs), bench.state()), (vec![100], StateKind::Master));
    assert_eq!(events(&outputs), [EventKind::Late]);
}

#[test]
fn a_backup_that_stalled_listens_once_more() {
    let mut bench = backup(100);
    bench.now += Duration::from_secs(60);
    bench.timeout();
    assert_eq!(bench.state(), StateKind::Backup);
    bench.hear_advertisement(200, GREATER);
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.state(), StateKind::Backup);
}

#[test]
fn a_node_that_cannot_serve_asks_its_peer_and_says_priority_zero_at_once() {
    let mut bench = master(250);
    bench.hear_peer(PeerKind::Hello, LESS, 245, None);
    assert_eq!(said(&bench.outputs()), [(PeerKind::Present, LESS)]);
    bench.input(Input::Eligible { eligible: false, reason: "worker 1 has ended".into() });
    let outputs = bench.outputs();
    assert_eq!((said(&outputs), sent(&outputs)), (vec![(PeerKind::TakeOver, LESS)], vec![0]));
    assert!(outputs.iter().any(|output| matches!(output, Output::Quiet(_))) && !removes(&outputs), "what is in flight ends first");
    assert_eq!(bench.instance.status(bench.now).explanation, "it cannot be master: worker 1 has ended");
    bench.pass(crate::machine::LINGER);
    assert!(removes(&bench.outputs()));
    // Without anybody to take over nobody gains by waiting.
    let mut alone = master(250);
    alone.input(Input::Eligible { eligible: false, reason: "worker 1 has ended".into() });
    let outputs = alone.outputs();
    assert_eq!((said(&outputs), sent(&outputs), removes(&outputs)), (vec![], vec![0], true));
}

#[test]
fn who_starts_greets_everyone_and_hears_the_master_at_once() {
    let mut starting = Bench::new(config("a", 245));
    starting.start();
    let greeting = |output: &Output| matches!(output, Output::Send { packet: Packet::Peer(message), to: Destination::Everyone } if message.kind == PeerKind::Hello);
    assert_eq!(starting.outputs().iter().filter(|output| greeting(output)).count(), 1);

    let mut bench = master(250);
    bench.pass(Duration::from_secs(10));
    bench.outputs();
    for (silence, heard) in [(Duration::ZERO, true), (Duration::from_secs(2), false), (Duration::from_millis(3001), true)] {
        bench.pass(silence);
        bench.outputs();
        bench.hear_peer(PeerKind::Hello, LESS, 245, None);
        let outputs = bench.outputs();
        let expected = if heard { (vec![250], 1) } else { (vec![], 0) };
        assert_eq!((sent(&outputs), announces(&outputs)), expected, "after {silence:?} of silence");
    }
}

#[test]
fn a_peer_that_is_asked_becomes_master_at_once() {
    let mut bench = backup(245);
    bench.hear_advertisement(250, GREATER);
    bench.hear_peer(PeerKind::TakeOver, LESS, 250, None);
    assert_eq!(bench.state(), StateKind::Backup, "only the master may ask");
    assert!(said(&bench.outputs()).contains(&(PeerKind::Decline, LESS)));
    bench.hear_peer(PeerKind::TakeOver, GREATER, 250, None);
    assert_eq!(bench.state(), StateKind::Master);
    assert_eq!(sent(&bench.outputs()), [245]);
}

#[test]
fn strays_go_to_the_master_before_if_it_is_ours_and_alive() {
    let strays = |outputs: &[Output]| outputs.contains(&Output::SendStraysTo(GREATER));
    for (ours, silent, expected) in [(true, false, true), (false, false, false), (true, true, false)] {
        let mut bench = backup(245);
        bench.hear_advertisement(250, GREATER);
        if ours {
            bench.hear_peer(PeerKind::Present, GREATER, 250, None);
        }
        bench.outputs();
        if silent {
            bench.run_to_master();
        } else {
            bench.hear_peer(PeerKind::TakeOver, GREATER, 250, None);
        }
        assert_eq!(bench.state(), StateKind::Master);
        assert_eq!(strays(&bench.outputs()), expected, "ours {ours}, silent {silent}");
    }
}

#[test]
fn a_request_behind_priority_zero_is_obeyed_too() {
    let mut bench = backup(245);
    bench.hear_advertisement(250, GREATER);
    bench.hear_advertisement(0, GREATER);
    bench.hear_peer(PeerKind::TakeOver, LESS, 250, None);
    assert_eq!(bench.state(), StateKind::Backup, "not from anybody else");
    bench.hear_peer(PeerKind::TakeOver, GREATER, 250, None);
    assert_eq!(bench.state(), StateKind::Master);
}

#[test]
fn a_release_hands_over_and_lets_go_after_what_is_in_flight() {
    let mut bench = master(250);
    bench.hear_peer(PeerKind::Hello, LESS, 245, None);
    bench.outputs();
    bench.input(Input::Release);
    let outputs = bench.outputs();
    assert_eq!((said(&outputs), sent(&outputs), bench.state()), (vec![(PeerKind::TakeOver, LESS)], Vec::<u8>::new(), StateKind::Master));
    bench.pass(MS);
    bench.hear_advertisement(245, LESS);
    let outputs = bench.outputs();
    assert!(outputs.iter().any(|output| matches!(output, Output::Quiet(_))) && !removes(&outputs));
    assert_eq!((sent(&outputs), bench.state()), (Vec::<u8>::new(), StateKind::Backup));
    bench.pass(crate::machine::LINGER);
    assert!(removes(&bench.outputs()));
    // It stays so while the other one lives, and ends when it dies.
    for _ in 0..20 {
        bench.hear_advertisement(245, LESS);
        bench.pass(Duration::from_secs(1));
    }
    assert_eq!(bench.state(), StateKind::Backup);
    let explanation = bench.instance.status(bench.now).explanation;
    assert_eq!(
        explanation,
        "10.0.0.1 is master with rank 245, below this node's 250, and stays so: released by the operator; 10.0.0.1 took over"
    );
    bench.run_to_master();
}

#[test]
fn a_stop_asks_again_then_the_next_peer_then_says_priority_zero() {
    let mut bench = master(250);
    bench.hear_peer(PeerKind::Hello, LESS, 245, None);
    bench.hear_peer(PeerKind::Hello, GREATER, 240, None);
    bench.outputs();
    bench.input(Input::Stop);
    bench.pass(75 * MS);
    let outputs = bench.outputs();
    let take_over = |to| (PeerKind::TakeOver, to);
    assert_eq!(said(&outputs), [take_over(LESS), take_over(LESS), take_over(LESS), take_over(GREATER)]);
    bench.hear_peer(PeerKind::Decline, GREATER, 240, None);
    let outputs = bench.outputs();
    assert_eq!(sent(&outputs), [0]);
    assert!(removes(&outputs) && bench.instance.is_stopped());
}

#[test]
fn a_foreign_master_is_greeted_ever_more_seldom() {
    let mut bench = backup(100);
    let mut greetings = 0;
    for _ in 0..3600 {
        bench.hear_advertisement(200, GREATER);
        bench.pass(Duration::from_secs(1));
        greetings += said(&bench.outputs()).len();
    }
    assert!((10..=24).contains(&greetings), "{greetings}");
}

#[test]
fn a_peer_with_more_healthy_endpoints_is_asked_after_a_while_and_not_preempted() {
    let mut bench = master(250);
    bench.input(Input::Healthy(Some(1)));
    for _ in 0..4 {
        bench.hear_peer(PeerKind::Hello, LESS, 245, Some(3));
        bench.pass(Duration::from_secs(1));
    }
    assert!(!said(&bench.outputs()).contains(&(PeerKind::TakeOver, LESS)));
    bench.hear_peer(PeerKind::Hello, LESS, 245, Some(3));
    bench.pass(Duration::from_secs(2));
    assert!(said(&bench.outputs()).contains(&(PeerKind::TakeOver, LESS)));

    let mut bench = backup(250);
    bench.input(Input::Healthy(Some(1)));
    for _ in 0..10 {
        bench.hear_advertisement(245, LESS);
        bench.hear_peer(PeerKind::Present, LESS, 245, Some(3));
        bench.pass(Duration::from_secs(1));
    }
    assert_eq!(bench.state(), StateKind::Backup);
    bench.input(Input::Healthy(Some(3)));
    for _ in 0..4 {
        bench.hear_advertisement(245, LESS);
        bench.pass(Duration::from_secs(1));
    }
    assert_eq!(bench.state(), StateKind::Master);
}

#[test]
fn an_address_that_was_removed_comes_back_until_it_is_too_much() {
    let mut bench = master(100);
    for _ in 0..5 {
        bench.input(Input::AddressLost(VIP));
        let outputs = bench.outputs();
        assert!(adds(&outputs) && announces(&outputs) == 1);
    }
    bench.input(Input::AddressLost(VIP));
    let outputs = bench.outputs();
    assert_eq!((sent(&outputs), bench.state()), (vec![0], StateKind::Backup));
}

#[test]
fn an_address_that_cannot_be_added_ends_it_for_a_while() {
    let mut bench = master(100);
    bench.input(Input::AddressFailed { address: VIP, reason: "Operation not permitted".into() });
    let outputs = bench.outputs();
    assert_eq!((sent(&outputs), bench.state()), (vec![0], StateKind::Initialize));
    assert_eq!(bench.instance.able(), Err("10.0.0.100 could not be added: Operation not permitted".into()));
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.state(), StateKind::Backup);
}

#[test]
fn a_reload_is_no_transition() {
    let added = VirtualAddress { address: IpAddr::from([10, 0, 0, 101]), prefix_len: 24 };
    let mut bench = master(250);
    let old = bench.instance.config().clone();
    for round in 0..60u8 {
        let mut new = old.clone();
        if round % 2 == 0 {
            new.addresses.push(added);
            new.priority = Priority(240);
        }
        bench.input(Input::Config(Box::new(new)));
        let outputs = bench.outputs();
        assert_eq!(sent(&outputs), [if round % 2 == 0 { 240 } else { 250 }], "said at once");
        assert_eq!((adds(&outputs), removes(&outputs)), (round % 2 == 0, round % 2 == 1));
        bench.pass(Duration::from_secs(1));
        bench.outputs();
    }
    bench.input(Input::Config(Box::new(old)));
    assert_eq!(bench.outputs(), [], "the same file means nothing to do");
    assert_eq!(bench.instance.status(bench.now).history.len(), 2);
    assert_eq!(bench.state(), StateKind::Master);
}

#[test]
fn a_peer_that_serves_by_another_file_is_known_at_once_and_said_after_a_while() {
    let sum = |byte| Some(SharedSum::of(&[byte; 32]));
    let mut bench = backup(100);
    let own = |bench: &mut Bench, shared| {
        let config = Config { shared, ..bench.instance.config().clone() };
        bench.input(Input::Config(Box::new(config)));
    };
    own(&mut bench, sum(1));
    let hear = |bench: &mut Bench, shared| {
        let (vrid, kind) = (bench.instance.config().vrid, PeerKind::Present);
        bench.hear_advertisement(200, GREATER);
        bench.hear(
            &Packet::Peer(PeerMessage { vrid, kind, priority: Priority(200), eligible: true, deposed: false, healthy: None, shared }),
            GREATER,
        );
    };
    let said = |bench: &mut Bench| -> Vec<String> {
        let event = |output: Output| match output {
            Output::Event(event) if event.text.contains("file") => Some(event.text),
            _ => None,
        };
        bench.outputs().into_iter().filter_map(event).collect()
    };
    let differs = |bench: &Bench| bench.instance.status(bench.now).peers[0].differs_since.is_some();
    // Older ones tell nothing.
    for (shared, expected) in [(None, false), (sum(1), false), (sum(2), true), (sum(1), false)] {
        hear(&mut bench, shared);
        assert_eq!(differs(&bench), expected, "{shared:?}");
    }
    assert_eq!(said(&mut bench), [""; 0], "a reload of one after the other");
    for _ in 0..70 {
        hear(&mut bench, sum(2));
        bench.pass(Duration::from_secs(1));
    }
    let texts = said(&mut bench);
    assert!(texts.len() == 1 && texts[0].contains("serves by another file"), "{texts:?}");
    // An older version took its place: nobody knows.
    hear(&mut bench, None);
    assert!(!differs(&bench));
    assert_eq!(said(&mut bench), [""; 0]);
    for _ in 0..70 {
        hear(&mut bench, sum(2));
        bench.pass(Duration::from_secs(1));
    }
    assert_eq!(said(&mut bench).len(), 1);
    // Ours was the old one: the master hears of it at once.
    own(&mut bench, sum(2));
    assert!(!differs(&bench));
    let outputs = bench.outputs();
    assert!(outputs.iter().any(|output| matches!(output, Output::Event(event) if event.text.contains("by the same file"))), "{outputs:?}");
    bench.timeout();
    let told = |output: &Output| matches!(output, Output::Send { packet: Packet::Peer(message), .. } if message.shared == sum(2));
    assert!(bench.outputs().iter().any(told));
}

#[test]
fn a_reload_leaves_a_backup_listening_to_its_master() {
    let mut bench = backup(100);
    for _ in 0..60 {
        bench.hear_advertisement(200, GREATER);
        let priority = Priority(if bench.instance.priority().0 == 100 { 101 } else { 100 });
        let config = Config { priority, ..bench.instance.config().clone() };
        bench.input(Input::Config(Box::new(config)));
        bench.pass(Duration::from_secs(1));
    }
    assert_eq!(bench.state(), StateKind::Backup);
    bench.run_to_master();
}

/// RFC 9568 section 5.2.4: 255 is the owner's alone, 1 to 254 those of all others.
#[test]
fn tracking_changes_the_rank_within_bounds_and_never_an_owners() {
    for (configured, adjust, expected) in [(100, -50, 50), (100, -150, 1), (250, 50, 254), (255, -100, 255)] {
        let mut bench = Bench::new(config("a", configured));
        bench.input(Input::Rank { adjust, reason: "eth1 is down".into() });
        assert_eq!(bench.instance.priority(), Priority(expected));
    }
    let mut bench = master(100);
    bench.input(Input::Rank { adjust: -50, reason: "eth1 is down".into() });
    assert_eq!(sent(&bench.outputs()), [50], "said at once");
}

#[test]
fn bursts_and_refreshes_of_announcements() {
    let announce =
        Announcements { count: 2, interval: 20 * MS, repeat: Some(Duration::from_secs(5)), refresh: Some(Duration::from_secs(60)) };
    let mut bench = Bench::new(Config { announce, ..config("a", 255) });
    bench.start();
    let start = bench.now;
    let mut times = Vec::new();
    loop {
        times.extend(std::iter::repeat_n((bench.now - start).as_millis(), announces(&bench.outputs())));
        if bench.now > start + Duration::from_secs(130) {
            break;
        }
        bench.now = bench.instance.poll_timeout().expect("a deadline");
        bench.timeout();
    }
    assert_eq!(times, [0, 20, 5000, 5020, 65_020, 125_020]);
}

#[test]
fn what_a_dying_process_leaves_to_say() {
    let mut bench = backup(100);
    assert_eq!(bench.instance.farewell(bench.now), []);
    bench.run_to_master();
    bench.hear_peer(PeerKind::Hello, LESS, 90, None);
    let farewell = bench.instance.farewell(bench.now);
    let [(Packet::Peer(ask), Destination::One(LESS)), (Packet::Advertisement(zero), Destination::Everyone)] = farewell.as_slice() else {
        panic!("{farewell:?}")
    };
    assert_eq!((ask.kind, zero.priority), (PeerKind::TakeOver, Priority(0)));
}

#[test]
fn signed_packets_never_carry_the_same_time_twice() {
    let keys = Arc::new(crate::packet::Keys::parse("1 000102030405060708090a0b0c0d0e0f").expect("a key"));
    let mut bench = Bench::new(Config { keys: Some(keys), ..config("a", 100) });
    let packet = Packet::Advertisement(bench.advertisement(100));
    let wall = Duration::from_secs(1_000_000);
    let first = bench.instance.encode(&packet, GREATER, wall);
    let second = bench.instance.encode(&packet, GREATER, wall - Duration::from_secs(1));
    assert!(first.is_some() && first != second);
}
