//! What a UDP listener counts besides what every listener does.

use std::sync::atomic::AtomicU64;

use super::Closed;

/// Why a datagram was not passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Dropped {
    /// The flow table was full of flows that were heard a moment ago.
    TableFull,
    /// The pool had no endpoint to give.
    NoEndpoint,
    /// This process has no descriptor or port left for another flow.
    NoSocket,
    /// It belonged to no flow, and the listener takes no new ones any more.
    Stopping,
    /// The endpoint refused what was sent to it before.
    Refused,
    /// It was larger than the network takes, and may not be cut.
    TooLarge,
    /// There is no way to where it should go, or the packet filter forbids it.
    Unreachable,
    /// The send buffer was full.
    SendBuffer,
    /// The kernel had no room in the receive buffer: more came than was read.
    ReceiveBuffer,
    /// Sending failed for another reason.
    Failed,
}

impl Dropped {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// All of them, in order.
    pub const ALL: [Dropped; Dropped::COUNT] = [
        Dropped::TableFull,
        Dropped::NoEndpoint,
        Dropped::NoSocket,
        Dropped::Stopping,
        Dropped::Refused,
        Dropped::TooLarge,
        Dropped::Unreachable,
        Dropped::SendBuffer,
        Dropped::ReceiveBuffer,
        Dropped::Failed,
    ];

    /// The word used in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Dropped::TableFull => "table-full",
            Dropped::NoEndpoint => "no-endpoint",
            Dropped::NoSocket => "no-socket",
            Dropped::Stopping => "stopping",
            Dropped::Refused => "refused",
            Dropped::TooLarge => "too-large",
            Dropped::Unreachable => "unreachable",
            Dropped::SendBuffer => "send-buffer",
            Dropped::ReceiveBuffer => "receive-buffer",
            Dropped::Failed => "failed",
        }
    }
}

/// One worker's share of what a UDP listener counts.
#[derive(Debug, Default)]
pub struct UdpShard {
    /// Datagrams received from clients.
    pub from_clients: AtomicU64,
    /// Datagrams sent to endpoints.
    pub to_endpoints: AtomicU64,
    /// Datagrams received from endpoints.
    pub from_endpoints: AtomicU64,
    /// Datagrams sent to clients.
    pub to_clients: AtomicU64,
    /// Datagrams not passed on, by [`Dropped`].
    pub dropped: [AtomicU64; Dropped::COUNT],
    /// Flows begun.
    pub flows: AtomicU64,
    /// Flows ended, by [`Closed`].
    pub ended: [AtomicU64; Closed::COUNT],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart_and_in_order() {
        for (index, dropped) in Dropped::ALL.iter().enumerate() {
            assert_eq!(*dropped as usize, index);
            assert!(Dropped::ALL[..index].iter().all(|other| other.word() != dropped.word()));
        }
        for (index, closed) in Closed::ALL.iter().enumerate() {
            assert_eq!(*closed as usize, index);
            assert!(Closed::ALL[..index].iter().all(|other| other.word() != closed.word()));
        }
    }
}
