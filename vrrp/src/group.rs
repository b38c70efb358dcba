//! Virtual routers that are master together or not at all (`sync_group`), such as the inner and the outer address of one gateway, or the
//! two families of one name.
//!
//! The first member elects; the others follow it and keep advertising on their own links. Nobody can disagree with an election of one. If
//! one member cannot be master, none is: its reason is told to all.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::time::Instant;

use crate::machine::{Input, Instance};

/// Brings the members of one group into line; `members[0]` is the leader. Call it after anything happened to one of them, and carry out
/// the outputs of all of them then.
pub fn coordinate(members: &mut [&mut Instance], now: Instant) {
    let unable: Vec<Option<String>> = members.iter().map(|member| member.able_alone().err()).collect();
    for (index, member) in members.iter_mut().enumerate() {
        let others = unable.iter().enumerate().filter(|(other, _)| *other != index);
        let blocked = others.filter_map(|(_, why)| why.as_ref()).next().map(|why| format!("in its sync group, {why}"));
        if member.group_blocked() != blocked.as_deref() {
            member.handle_input(Input::GroupBlocked(blocked), now);
        }
    }
    let Some((leader, followers)) = members.split_first_mut() else { return };
    let asked = followers.iter_mut().filter_map(|follower| follower.take_release_asked().then_some(())).count();
    if asked > 0 {
        leader.handle_input(Input::Release, now);
    }
    let state = leader.state();
    for follower in followers.iter_mut().filter(|follower| follower.state() != state) {
        follower.handle_input(Input::Follow(state), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::{Bench, config, said};
    use crate::machine::{LINGER, Output, StateKind};
    use crate::packet::PeerKind;
    use std::net::{IpAddr, Ipv4Addr};

    /// Two members on one node; both may serve.
    fn pair() -> (Bench, Bench) {
        let leader = Bench::new(config("a", 200));
        let follower = Bench::new(crate::machine::Config { follower: true, ..config("b", 200) });
        (leader, follower)
    }

    fn line_up(leader: &mut Bench, follower: &mut Bench) {
        let now = leader.now;
        coordinate(&mut [&mut leader.instance, &mut follower.instance], now);
    }

    #[test]
    fn a_follower_is_what_its_leader_is() {
        let (mut leader, mut follower) = pair();
        leader.start();
        follower.start();
        line_up(&mut leader, &mut follower);
        leader.run_to_master();
        follower.now = leader.now;
        assert_eq!(follower.instance.state(), StateKind::Backup);
        line_up(&mut leader, &mut follower);
        assert_eq!(follower.instance.state(), StateKind::Master);
        leader.input(Input::Interface { up: false });
        line_up(&mut leader, &mut follower);
        assert_eq!(follower.instance.state(), StateKind::Initialize);
        assert!(follower.instance.able().unwrap_err().contains("in its sync group, interface eth0 is down"));
    }

    #[test]
    fn one_that_cannot_keeps_all_from_it_until_it_can() {
        let (mut leader, mut follower) = pair();
        leader.start();
        follower.start();
        leader.run_to_master();
        follower.now = leader.now;
        follower.input(Input::Interface { up: false });
        line_up(&mut leader, &mut follower);
        assert_eq!(leader.instance.state(), StateKind::Initialize);
        let outputs = leader.outputs();
        assert!(outputs.iter().any(|output| matches!(output, Output::RemoveAddresses(_))), "{outputs:?}");
        follower.input(Input::Interface { up: true });
        line_up(&mut leader, &mut follower);
        line_up(&mut leader, &mut follower);
        assert_eq!((leader.instance.state(), follower.instance.state()), (StateKind::Backup, StateKind::Backup));
    }

    /// Both masters of a node of rank 200, with a node of ours of rank 190 beside it on either link.
    fn masters() -> (Bench, Bench) {
        let (mut leader, mut follower) = pair();
        leader.start();
        follower.start();
        leader.run_to_master();
        follower.now = leader.now;
        line_up(&mut leader, &mut follower);
        for member in [&mut leader, &mut follower] {
            member.hear_peer(PeerKind::Hello, PEER, 190, None);
            member.outputs();
        }
        (leader, follower)
    }

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn a_follower_lets_its_leader_ask_and_leaves_when_its_successor_speaks() {
        for input in [Input::Stop, Input::Release] {
            let (mut leader, mut follower) = masters();
            leader.input(input.clone());
            follower.input(input.clone());
            line_up(&mut leader, &mut follower);
            assert_eq!(said(&leader.outputs()), [(PeerKind::TakeOver, PEER)]);
            assert_eq!(follower.outputs(), [], "it neither asks nor leaves");
            // The successors, each on its link, the follower's first.
            follower.hear_advertisement(190, PEER);
            leader.hear_advertisement(190, PEER);
            line_up(&mut leader, &mut follower);
            for (name, member) in [("leader", &mut leader), ("follower", &mut follower)] {
                let outputs = member.outputs();
                assert!(outputs.iter().any(|output| matches!(output, Output::Quiet(_))), "{name}: {outputs:?}");
                assert!(!outputs.iter().any(|output| matches!(output, Output::Announce(_))), "{name} disturbs its successor: {outputs:?}");
                member.pass(LINGER);
                assert!(member.outputs().iter().any(|output| matches!(output, Output::RemoveAddresses(_))), "{name}");
                assert_eq!(member.instance.is_stopped(), input == Input::Stop, "{name}");
            }
        }
    }

    #[test]
    fn a_follower_takes_whichever_successor_its_leader_found() {
        let (mut leader, mut follower) = masters();
        let other = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
        follower.hear_peer(PeerKind::Hello, other, 100, None);
        follower.outputs();
        leader.input(Input::Stop);
        follower.input(Input::Stop);
        follower.hear_advertisement(100, other);
        assert_eq!(follower.instance.state(), StateKind::Initialize);
        assert!(follower.outputs().iter().any(|output| matches!(output, Output::Quiet(_))));
    }

    #[test]
    fn a_release_of_a_follower_is_its_leaders() {
        let (mut leader, mut follower) = masters();
        follower.input(Input::Release);
        line_up(&mut leader, &mut follower);
        assert_eq!(said(&leader.outputs()), [(PeerKind::TakeOver, PEER)]);
        assert_eq!(follower.instance.state(), StateKind::Master);
    }

    #[test]
    fn a_follower_never_becomes_master_on_its_own() {
        let (mut leader, mut follower) = pair();
        leader.start();
        follower.start();
        for _ in 0..10 {
            follower.now = follower.instance.poll_timeout().expect("a backup waits for something");
            follower.timeout();
        }
        assert_eq!(follower.instance.state(), StateKind::Backup);
    }
}
