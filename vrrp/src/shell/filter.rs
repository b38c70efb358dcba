//! Programs of the kernel's packet filter (classic BPF): a packet socket sees all frames of its kind, and on a loaded node those must not
//! wake this thread. Offsets are those of a frame with its Ethernet header.

use std::net::{Ipv4Addr, Ipv6Addr};

/// One step of a program: code, how many steps to leave out if so and if not, value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step(pub(crate) u16, pub(crate) u8, pub(crate) u8, pub(crate) u32);

const LD_B_ABS: u16 = 0x30;
const LD_H_ABS: u16 = 0x28;
const LD_W_ABS: u16 = 0x20;
const JEQ: u16 = 0x15;
const RET: u16 = 0x06;

/// Ancillary data: offset of the word "a VLAN tag was taken off" (`SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT`).
const VLAN_TAG_PRESENT: u32 = (-0x1000_i32 + 48) as u32;

/// Whole packets: longer than any frame.
const ALL: u32 = 0x0004_0000;

/// Most addresses that a filter compares with; with more of them each request is looked at by the thread. A jump reaches 255 steps.
const COMPARED_MAX: usize = 60;

/// Lets nothing pass.
pub(crate) const NOTHING: Step = Step(RET, 0, 0, 0);

const fn load_byte(at: u32) -> Step {
    Step(LD_B_ABS, 0, 0, at)
}

/// A program of tests that must all hold: each is (load, value).
fn all_of(tests: &[(Step, u32)]) -> Vec<Step> {
    let mut program = Vec::with_capacity(tests.len() * 2 + 2);
    for (index, (load, value)) in tests.iter().enumerate() {
        let left = (tests.len() - index - 1) * 2 + 1;
        program.push(*load);
        program.push(Step(JEQ, 0, left as u8, *value));
    }
    program.push(Step(RET, 0, 0, ALL));
    program.push(NOTHING);
    program
}

/// A VLAN that has no device of its own here reaches the parent's sockets with its tag taken off: another link, not ours.
fn untagged() -> (Step, u32) {
    (load_byte(VLAN_TAG_PRESENT), 0)
}

/// VRRP (and CARP, which shares the number) over IPv4; also with options, and fragments, which are told apart later.
pub(crate) fn vrrp_v4() -> Vec<Step> {
    all_of(&[untagged(), (load_byte(14 + 9), 112)])
}

/// VRRP over IPv6, directly behind the header. RFC 9568 knows no extension header.
pub(crate) fn vrrp_v6() -> Vec<Step> {
    all_of(&[untagged(), (load_byte(14 + 6), 112)])
}

/// One of `addresses` asked for: the given tests, then a chain of comparisons of the word at `at`.
fn one_of(mut tests: Vec<(Step, u32)>, at: u32, words: &[u32]) -> Vec<Step> {
    tests.insert(0, untagged());
    if words.len() > COMPARED_MAX {
        return all_of(&tests);
    }
    let mut program = Vec::with_capacity(tests.len() * 2 + words.len() + 3);
    let tail = words.len() + 1;
    for (index, (load, value)) in tests.iter().enumerate() {
        let left = (tests.len() - index - 1) * 2 + tail;
        program.push(*load);
        program.push(Step(JEQ, 0, left as u8, *value));
    }
    program.push(Step(LD_W_ABS, 0, 0, at));
    for (index, word) in words.iter().enumerate() {
        // To the acceptance behind the refusal.
        program.push(Step(JEQ, (words.len() - index) as u8, 0, *word));
    }
    program.push(NOTHING);
    program.push(Step(RET, 0, 0, ALL));
    program
}

/// ARP requests for one of `addresses` (RFC 826).
pub(crate) fn arp_requests(addresses: &[Ipv4Addr]) -> Vec<Step> {
    let words: Vec<u32> = addresses.iter().map(|address| u32::from(*address)).collect();
    one_of(vec![(Step(LD_H_ABS, 0, 0, 14 + 6), 1)], 14 + 24, &words)
}

/// Neighbour solicitations for one of `addresses` (RFC 4861 section 4.3); the last four bytes are compared, the rest later.
pub(crate) fn solicitations(addresses: &[Ipv6Addr]) -> Vec<Step> {
    let words: Vec<u32> = addresses.iter().map(|address| u128::from(*address) as u32).collect();
    one_of(vec![(load_byte(14 + 6), 58), (load_byte(14 + 40), 135)], 14 + 40 + 8 + 12, &words)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program the way the kernel does, as far as these programs go.
    fn passes(program: &[Step], frame: &[u8]) -> bool {
        let (mut at, mut accumulator) = (0, 0u32);
        loop {
            let Step(code, yes, no, value) = program[at];
            at += 1;
            let byte = |index: usize| frame.get(value as usize + index).copied().map(u32::from);
            match code {
                LD_B_ABS if value == VLAN_TAG_PRESENT => accumulator = 0,
                LD_B_ABS | LD_H_ABS | LD_W_ABS => {
                    let length = match code {
                        LD_B_ABS => 1,
                        LD_H_ABS => 2,
                        _ => 4,
                    };
                    let Some(loaded) = (0..length).try_fold(0, |sum, index| Some(sum << 8 | byte(index)?)) else { return false };
                    accumulator = loaded;
                }
                JEQ => at += usize::from(if accumulator == value { yes } else { no }),
                RET => return value > 0,
                other => panic!("unknown step {other:#x}"),
            }
        }
    }

    #[test]
    fn vrrp_alone_passes() {
        let mut frame = vec![0u8; 60];
        frame[14 + 9] = 112;
        assert!(passes(&vrrp_v4(), &frame));
        assert!(!passes(&vrrp_v6(), &frame));
        frame[14 + 9] = 6;
        frame[14 + 6] = 112;
        assert!(!passes(&vrrp_v4(), &frame));
        assert!(passes(&vrrp_v6(), &frame));
        assert!(!passes(&vrrp_v4(), &frame[..20]), "too short to be loaded from");
    }

    #[test]
    fn requests_for_our_addresses_pass() {
        for count in [1usize, 2, COMPARED_MAX, COMPARED_MAX + 1] {
            let addresses: Vec<Ipv4Addr> = (0..count).map(|index| Ipv4Addr::new(10, 0, 0, index as u8 + 1)).collect();
            let program = arp_requests(&addresses);
            let frame = |operation: u8, target: Ipv4Addr| {
                let mut frame = vec![0u8; 42];
                frame[14 + 7] = operation;
                frame[14 + 24..14 + 28].copy_from_slice(&target.octets());
                frame
            };
            for address in &addresses {
                assert!(passes(&program, &frame(1, *address)), "{count}: {address}");
                assert!(!passes(&program, &frame(2, *address)), "{count}: a reply for {address}");
            }
            assert_eq!(passes(&program, &frame(1, Ipv4Addr::new(10, 0, 9, 9))), count > COMPARED_MAX);
        }
    }

    #[test]
    fn solicitations_for_our_addresses_pass() {
        let ours: Ipv6Addr = "fd00::10:1".parse().unwrap();
        let program = solicitations(&[ours]);
        let mut frame = vec![0u8; 14 + 40 + 24];
        (frame[14 + 6], frame[14 + 40]) = (58, 135);
        frame[14 + 48..14 + 64].copy_from_slice(&ours.octets());
        assert!(passes(&program, &frame));
        frame[14 + 40] = 136;
        assert!(!passes(&program, &frame));
    }
}
