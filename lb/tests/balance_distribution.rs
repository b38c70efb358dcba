//! What the balancing promises: shares by weight, load away from the slow, keys that stay, bounds that bound. Everything is seeded and
//! in virtual time; a failure repeats.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use weir_config::{Balance, EndpointAddress, HashKey, HashPolicy, PoolName, Weight};
use weir_lb::balance::{Candidate, Selector, hash_key, ramp};
use weir_lb::endpoint::EndpointState;

const MS: u64 = 1_000_000;

fn maglev(load_bound_percent: Option<u32>) -> Balance {
    Balance::Maglev(HashPolicy { key: HashKey::Source, load_bound_percent })
}

fn all_methods() -> [Balance; 6] {
    [Balance::LeastRequest, Balance::RoundRobin, Balance::Random, Balance::PeakEwma, maglev(None), maglev(Some(150))]
}

fn candidate(number: u32, weight: u32) -> Candidate {
    let address = SocketAddr::from((Ipv4Addr::from(0x0A00_0001 + number), 8080));
    let state = Arc::new(EndpointState::new(number, PoolName::from("web"), EndpointAddress::from(address)));
    Candidate { state, address, weight, purge: 0 }
}

/// Endpoints numbered from 0 with effective weights.
fn candidates(weights: &[u32]) -> Vec<Candidate> {
    (0..).zip(weights).map(|(number, &weight)| candidate(number, weight)).collect()
}

/// The share of each endpoint in `counts` is the one of its weight, within `tolerance` of that share.
fn assert_shares(what: &str, counts: &[u64], weights: &[u32], tolerance: f64) {
    let picks: u64 = counts.iter().sum();
    let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    for (index, (&count, &weight)) in counts.iter().zip(weights).enumerate() {
        let (share, expected) = (count as f64 / picks as f64, f64::from(weight) / total);
        assert!((share - expected).abs() <= expected * tolerance, "{what}: endpoint {index} got {share:.5} instead of {expected:.5}");
    }
}

/// Picks with everybody idle and a random key each.
fn idle_counts(selector: &Selector, picks: usize, seed: u64) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut counts = vec![0; selector.candidates().len()];
    for _ in 0..picks {
        let key = random.u64(..);
        counts[selector.pick(Some(key), 0, &mut random, &[]).unwrap() as usize] += 1;
    }
    counts
}

/// A closed loop in virtual time: clients that each send the next request when the last is answered.
struct Loop<'a> {
    selector: &'a Selector,
    clients: usize,
    requests: usize,
    /// Time an endpoint takes for a request.
    service_ns: &'a dyn Fn(usize, &mut fastrand::Rng) -> u64,
    key: Option<u64>,
}

impl Loop<'_> {
    /// Requests by endpoint. `watch` sees the index that was picked and all in-flight counts, this request included.
    fn run(&self, mut watch: impl FnMut(usize, &[u32])) -> Vec<u64> {
        let mut random = fastrand::Rng::with_seed(1);
        let states: Vec<_> = self.selector.candidates().iter().map(|candidate| candidate.state.clone()).collect();
        let mut counts = vec![0; states.len()];
        let mut in_flight = vec![0u32; states.len()];
        // (end, request, endpoint, start)
        let mut under_way: BinaryHeap<Reverse<(u64, usize, usize, u64)>> = BinaryHeap::new();
        for request in 0..self.requests {
            // They start one after the other, all before the first answer.
            let mut now_ns = 100 * request as u64;
            if request >= self.clients {
                let Reverse((end, _, endpoint, start)) = under_way.pop().unwrap();
                in_flight[endpoint] -= 1;
                states[endpoint].in_flight.store(in_flight[endpoint], Relaxed);
                states[endpoint].latency.observe(end - start, end);
                now_ns = end;
            }
            let picked = self.selector.pick(self.key, now_ns, &mut random, &[]).unwrap() as usize;
            in_flight[picked] += 1;
            states[picked].in_flight.store(in_flight[picked], Relaxed);
            counts[picked] += 1;
            watch(picked, &in_flight);
            under_way.push(Reverse((now_ns + (self.service_ns)(picked, &mut random), request, picked, now_ns)));
        }
        counts
    }
}

/// Half to one and a half milliseconds, alike for all endpoints.
fn alike(_: usize, random: &mut fastrand::Rng) -> u64 {
    MS / 2 + random.u64(..MS)
}

#[test]
fn idle_endpoints_share_by_weight() {
    let sevens: Vec<u32> = (0..30).map(|i| 100 * (1 + i % 7)).collect();
    // The third is what slow start makes of equal weights, the last needs the golden circle in round-robin.
    for weights in [vec![100; 3], vec![500, 100, 100], vec![100, 100, 37], vec![100, 200, 300, 400], sevens, vec![99_999, 50_021, 70_001]] {
        for balance in all_methods() {
            let counts = idle_counts(&Selector::new(&balance, candidates(&weights), None), 2_000_000, 1);
            assert_shares(&format!("{balance:?} {weights:?}"), &counts, &weights, 0.02);
        }
    }
}

#[test]
fn a_pick_without_key_is_random_by_weight() {
    let weights = [500, 100, 100];
    let selector = Selector::new(&maglev(Some(150)), candidates(&weights), None);
    let mut random = fastrand::Rng::with_seed(2);
    let mut counts = vec![0; 3];
    for _ in 0..1_000_000 {
        counts[selector.pick(None, 0, &mut random, &[]).unwrap() as usize] += 1;
    }
    assert_shares("no key", &counts, &weights, 0.02);
}

#[test]
fn busy_endpoints_share_by_weight() {
    for balance in [Balance::LeastRequest, Balance::PeakEwma] {
        for weights in [vec![100, 100, 100], vec![500, 100, 100], vec![100, 200, 300, 400], vec![1000, 100]] {
            // With few clients a single request is a coarse step for a light endpoint: only level weights are exact there.
            let level = weights.iter().all(|&weight| weight == weights[0]);
            let clients: &[usize] = if level { &[1, 2, 3, 5, 16, 64, 256] } else { &[1, 64, 256] };
            for &clients in clients {
                let selector = Selector::new(&balance, candidates(&weights), None);
                let counts = Loop { selector: &selector, clients, requests: 100_000, service_ns: &alike, key: None }.run(|_, _| ());
                let total: u32 = weights.iter().sum();
                for (&count, &weight) in counts.iter().zip(&weights) {
                    let off = count as f64 / 100_000.0 - f64::from(weight) / f64::from(total);
                    assert!(off.abs() <= 0.02, "{balance:?} {weights:?} {clients} clients: {counts:?}");
                }
            }
        }
    }
}

#[test]
fn two_choices_turn_away_from_a_slow_endpoint() {
    // Endpoint 0 takes ten times as long. With 20 clients an equal share would have 14 of them wait for it.
    let slow = |endpoint: usize, random: &mut fastrand::Rng| alike(endpoint, random) * if endpoint == 0 { 10 } else { 1 };
    for (balance, share_max) in [(Balance::LeastRequest, 0.08), (Balance::PeakEwma, 0.05)] {
        let selector = Selector::new(&balance, candidates(&[100; 5]), None);
        let counts = Loop { selector: &selector, clients: 20, requests: 50_000, service_ns: &slow, key: None }.run(|_, _| ());
        let share = counts[0] as f64 / 50_000.0;
        assert!(share > 0.0 && share < share_max, "{balance:?}: the slow one got {share}");
        assert!(counts[1..].iter().all(|&count| count > 9_000), "{balance:?}: {counts:?}");
    }
}

#[test]
fn peak_ewma_turns_away_from_a_slow_endpoint_even_when_idle() {
    let slow = |endpoint: usize, random: &mut fastrand::Rng| alike(endpoint, random) * if endpoint == 0 { 10 } else { 1 };
    let selector = Selector::new(&Balance::PeakEwma, candidates(&[100; 5]), None);
    let counts = Loop { selector: &selector, clients: 1, requests: 20_000, service_ns: &slow, key: None }.run(|_, _| ());
    // Not never: its average falls with time, so it is asked again.
    assert!((1..500).contains(&counts[0]), "{counts:?}");
}

#[test]
fn a_new_endpoint_is_not_flooded() {
    for balance in [Balance::LeastRequest, Balance::PeakEwma] {
        let selector = Selector::new(&balance, candidates(&[100; 10]), None);
        for old in &selector.candidates()[1..] {
            old.state.latency.observe(MS, 0);
        }
        // Endpoint 0 was never measured and never answers.
        let hung = |endpoint: usize, random: &mut fastrand::Rng| if endpoint == 0 { u64::MAX / 2 } else { alike(endpoint, random) };
        let mut worst = 0;
        Loop { selector: &selector, clients: 50, requests: 20_000, service_ns: &hung, key: None }
            .run(|_, counts| worst = worst.max(counts[0]));
        assert!((1..=16).contains(&worst), "{balance:?}: {worst} of 50");
    }
}

#[test]
fn round_robin_does_not_burst() {
    let selector = Selector::new(&Balance::RoundRobin, candidates(&[500, 100, 100]), None);
    let mut random = fastrand::Rng::with_seed(1);
    let picks: Vec<u32> = (0..700).map(|_| selector.pick(None, 0, &mut random, &[]).unwrap()).collect();
    assert!(picks.windows(5).all(|window| window.iter().any(|&pick| pick != 0)));
    // Exact in every seven.
    assert!(picks.windows(7).all(|window| window.iter().filter(|&&pick| pick == 0).count() == 5));
}

#[test]
fn round_robin_built_again_goes_on() {
    let all = candidates(&[100; 3]);
    let mut random = fastrand::Rng::with_seed(1);
    let mut picks = Vec::new();
    // A selector for each request, as when a pool changes often and is asked seldom.
    for _ in 0..6 {
        let picked = Selector::new(&Balance::RoundRobin, all.clone(), None).pick(None, 0, &mut random, &[]).unwrap();
        all[picked as usize].state.requests_total.fetch_add(1, Relaxed);
        picks.push(picked);
    }
    assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
}

/// The address that each of many keys goes to.
fn homes(candidates: &[Candidate]) -> Vec<SocketAddr> {
    let selector = Selector::new(&maglev(None), candidates.to_vec(), None);
    let mut random = fastrand::Rng::with_seed(1);
    let home = |key: u32| selector.pick(Some(hash_key(&key.to_le_bytes())), 0, &mut random, &[]).unwrap();
    (0..50_000).map(home).map(|index| candidates[index as usize].address).collect()
}

#[test]
fn maglev_keys_stay_when_an_endpoint_leaves_or_comes() {
    for n in [2, 3, 10, 50, 150, 400] {
        for weight in [|_: u32| 100, |i: u32| 100 * (1 + i % 7)] {
            let with = candidates(&(0..n).map(weight).collect::<Vec<u32>>());
            for leaving in [0, n as usize / 2, n as usize - 1] {
                let mut without = with.clone();
                let gone = without.remove(leaving).address;
                let moved = homes(&with).iter().zip(homes(&without)).filter(|(before, after)| *before != after && **before != gone).count();
                // Read the other way round it is the arrival of the endpoint: keys that move and not to it.
                let share = moved as f64 / 50_000.0;
                assert!(share <= 0.025, "{n} endpoints: {share} moved that need not");
            }
        }
    }
}

#[test]
fn maglev_is_the_same_in_any_order_and_at_any_start() {
    let mut all = candidates(&(0..20).map(|i| 100 * (1 + i % 3)).collect::<Vec<u32>>());
    let before = homes(&all);
    fastrand::Rng::with_seed(5).shuffle(&mut all);
    assert_eq!(before, homes(&all));
    // These numbers are what nodes of different releases agree on.
    let hosts: Vec<u8> = before.iter().take(8).map(|home| home.to_string().split(['.', ':']).nth(3).unwrap().parse().unwrap()).collect();
    assert_eq!(
        (hash_key(b""), hash_key(b"10.1.2.3"), hash_key(b"session=0123456789"), hosts),
        (12_035_550_249_420_947_055, 16_683_283_794_380_775_036, 13_204_610_248_654_402_852, vec![11, 10, 5, 14, 6, 12, 3, 8])
    );
}

#[test]
fn maglev_spreads_by_weight_in_large_pools() {
    let weights: Vec<u32> = (0..1000).map(|i| 100 * (5 + i % 4)).collect();
    let counts = idle_counts(&Selector::new(&maglev(None), candidates(&weights), None), 4_000_000, 3);
    let mut by_weight = [0u64; 4];
    counts.iter().enumerate().for_each(|(index, count)| by_weight[index % 4] += count);
    assert_shares("1000 endpoints", &by_weight, &[5, 6, 7, 8], 0.02);
    assert!(counts.iter().all(|&count| count > 0));
}

#[test]
fn similar_keys_are_spread() {
    let selector = Selector::new(&maglev(None), candidates(&[100; 10]), None);
    let mut random = fastrand::Rng::with_seed(1);
    let mut counts = vec![0; 10];
    for host in 0..65_536u32 {
        let key = hash_key(&Ipv4Addr::from(0xC0A8_0000 + host).octets());
        counts[selector.pick(Some(key), 0, &mut random, &[]).unwrap() as usize] += 1;
    }
    assert_shares("a /16 of clients", &counts, &[100; 10], 0.04);
}

#[test]
fn bounded_load_bounds() {
    // All requests have the same key: without the bound one endpoint would carry them all.
    for (weights, clients) in [(vec![100; 10], 200usize), (vec![300, 100, 100, 100], 300), (vec![100; 2], 50), (vec![100; 200], 4_000)] {
        let total: u32 = weights.iter().sum();
        // A bound so close to the mean that nearly all of many endpoints are at it gives way after some probes.
        for percent in [101, 125, 150, 300].into_iter().filter(|percent| *percent > 101 || weights.len() <= 10) {
            let selector = Selector::new(&maglev(Some(percent)), candidates(&weights), None);
            let key = Some(hash_key(b"everybody"));
            let run = Loop { selector: &selector, clients, requests: 30_000, service_ns: &alike, key };
            let mut home = 0;
            run.run(|picked, in_flight| {
                home = home.max(in_flight[picked]);
                let share = f64::from(weights[picked]) / f64::from(total);
                let bound = (f64::from(percent) / 100.0 * clients as f64 * share).ceil().max(8.0);
                assert!(
                    f64::from(in_flight[picked]) <= bound,
                    "{} endpoints, {percent} %: {} above {bound}",
                    weights.len(),
                    in_flight[picked]
                );
            });
            assert!(home >= 8, "the key keeps to its endpoint up to the bound");
        }
    }
}

#[test]
fn a_few_requests_with_one_key_stay_together() {
    let selector = Selector::new(&maglev(Some(101)), candidates(&[100; 50]), None);
    let counts =
        Loop { selector: &selector, clients: 8, requests: 1_000, service_ns: &alike, key: Some(hash_key(b"browser")) }.run(|_, _| ());
    assert_eq!(counts.iter().filter(|&&count| count > 0).count(), 1);
}

#[test]
fn a_key_that_must_move_always_moves_to_the_same_endpoint() {
    let selector = Selector::new(&maglev(Some(150)), candidates(&[100; 10]), None);
    let mut random = fastrand::Rng::with_seed(1);
    for key in (0..1_000u32).map(|key| Some(hash_key(&key.to_le_bytes()))) {
        let first = selector.pick(key, 0, &mut random, &[]).unwrap();
        let second = selector.pick(key, 0, &mut random, &[first]).unwrap();
        assert_ne!(first, second);
        assert_eq!(selector.pick(key, 0, &mut random, &[first]), Some(second));
    }
}

#[test]
fn slow_start_grows_in_a_straight_line() {
    let ramp_of = |weight, s| ramp(Weight::new(weight).unwrap(), Duration::from_secs(s), Some(Duration::from_secs(30)));
    for (weight, seconds, expected) in [
        (1, 0, (10, 10)),
        (1, 10, (40, 40)),
        (1, 15, (55, 55)),
        (1, 29, (97, 97)),
        (1, 30, (100, 100)),
        (7, 10, (280, 40)),
        (1000, 99, (100_000, 100)),
    ] {
        assert_eq!(ramp_of(weight, seconds), expected, "weight {weight} after {seconds} s");
    }
    assert_eq!(ramp(Weight::ONE, Duration::ZERO, None), (100, 100));
    assert_eq!(ramp(Weight::ONE, Duration::ZERO, Some(Duration::ZERO)), (100, 100));
    assert_eq!(ramp(Weight::ONE, Duration::ZERO, Some(Duration::MAX)), (10, 10));
}

#[test]
fn shares_follow_the_slow_start() {
    for seconds in [0, 10, 20, 30] {
        let (starting, _) = ramp(Weight::ONE, Duration::from_secs(seconds), Some(Duration::from_secs(30)));
        let weights = [100, 100, 100, starting];
        for balance in all_methods() {
            let counts = idle_counts(&Selector::new(&balance, candidates(&weights), None), 2_000_000, seconds);
            assert_shares(&format!("{balance:?} after {seconds} s"), &counts, &weights, 0.02);
        }
    }
}

#[test]
fn tried_and_full_endpoints_are_never_picked_and_open_ones_always_found() {
    let mut random = fastrand::Rng::with_seed(9);
    for round in 0..3_000 {
        let n = random.usize(1..40);
        let weights: Vec<u32> = (0..n).map(|_| if random.bool() { 100 } else { random.u32(1..=100_000) }).collect();
        let limit = NonZeroU32::new(random.u32(1..5)).filter(|_| random.bool());
        let balance = &all_methods()[round % 6];
        let selector = Selector::new(balance, candidates(&weights), limit);
        // From nearly all open to nearly all closed.
        let (full, tried) = (random.f64(), random.f64());
        let tried: Vec<u32> = (0..n as u32).filter(|_| random.f64() < tried).collect();
        for candidate in selector.candidates() {
            let in_flight = if random.f64() < full { random.u32(4..100) } else { 0 };
            candidate.state.in_flight.store(in_flight, Relaxed);
            if random.bool() {
                candidate.state.latency.observe(random.u64(..10 * MS), random.u64(..1_000 * MS));
            }
        }
        let open = |index: u32| {
            !tried.contains(&index) && limit.is_none_or(|limit| selector.candidates()[index as usize].state.load() < limit.get())
        };
        let any_open = (0..n as u32).any(open);
        for _ in 0..20 {
            let key = random.bool().then(|| random.u64(..));
            match selector.pick(key, random.u64(..2_000 * MS), &mut random, &tried) {
                Some(picked) => assert!(open(picked), "{balance:?}: {picked} is closed"),
                None => assert!(!any_open, "{balance:?}: an open endpoint was not found"),
            }
        }
    }
}

#[test]
fn the_share_of_a_closed_endpoint_falls_to_all_others() {
    let weights = [300, 100, 200, 200];
    for balance in all_methods() {
        let selector = Selector::new(&balance, candidates(&weights), None);
        let mut random = fastrand::Rng::with_seed(4);
        let mut counts = vec![0; 4];
        for _ in 0..500_000 {
            let key = random.u64(..);
            counts[selector.pick(Some(key), 0, &mut random, &[0]).unwrap() as usize] += 1;
        }
        assert_eq!(counts.remove(0), 0);
        assert_shares(&format!("{balance:?}"), &counts, &weights[1..], 0.03);
    }
}

#[test]
fn nothing_is_picked_from_nothing() {
    let mut random = fastrand::Rng::with_seed(1);
    assert_eq!(Selector::default().pick(None, 0, &mut random, &[]), None);
    for balance in all_methods() {
        assert_eq!(Selector::new(&balance, Vec::new(), None).pick(Some(1), 0, &mut random, &[]), None);
        let one = Selector::new(&balance, candidates(&[100]), NonZeroU32::new(1));
        assert_eq!(one.pick(Some(1), 0, &mut random, &[]), Some(0));
        assert_eq!(one.pick(None, 0, &mut random, &[0]), None);
        one.candidates()[0].state.in_flight.store(1, Relaxed);
        assert_eq!(one.pick(None, 0, &mut random, &[]), None);
        let three = Selector::new(&balance, candidates(&[100, 200, 300]), None);
        assert_eq!(three.pick(Some(1), 0, &mut random, &[2, 0, 1]), None);
    }
}
