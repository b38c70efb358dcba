//! One channel at work: at most one delivery at a time, and a rest after a fault.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_config::NotifyChannel;

use super::ChannelStats;
use crate::channel::{Channel, Fault, FaultKind, Receipt, build};
use crate::message::{Message, UnixMs};
use crate::outbox::{Claimed, delay};
use crate::transcript::{Line, Transcript};

/// Failures in a row after which a channel counts as failing, and its messages are given to its fallback too.
pub(super) const PATIENCE: u32 = 3;

/// For how long a channel may have messages claimed in advance: the disk is waited for so often at most while a full outbox drains.
const CLAIM_AHEAD: Duration = Duration::from_millis(200);
/// Messages claimed at once.
const CLAIMED_MAX: u128 = 64;

/// A channel with what is known of it.
pub(super) struct Lane {
    pub(super) settings: Arc<NotifyChannel>,
    pub(super) channel: Arc<dyn Channel>,
    /// A message is being delivered.
    pub(super) busy: bool,
    /// What is delivered next.
    pub(super) claimed: VecDeque<Claimed>,
    /// What the last delivery took, if it was one.
    pub(super) took: Option<Duration>,
    /// When to look for the next message; `None`: when one is made.
    pub(super) look_at: Option<UnixMs>,
    /// Failures in a row.
    pub(super) failures: u32,
    pub(super) stats: ChannelStats,
}

/// How a delivery ended.
pub(super) struct Ended {
    pub(super) result: Result<Receipt, Fault>,
    pub(super) transcript: Vec<Line>,
    pub(super) took: Duration,
}

/// What is to be done about a message that was not delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    /// When to try again; `None`: never.
    pub(super) retry_at: Option<UnixMs>,
    /// Give it to the fallback, too.
    pub(super) fall_back: bool,
}

impl Lane {
    pub(super) fn new(settings: Arc<NotifyChannel>) -> Lane {
        let channel = build(&settings);
        Lane {
            settings,
            channel,
            busy: false,
            claimed: VecDeque::new(),
            took: None,
            look_at: Some(0),
            failures: 0,
            stats: ChannelStats::default(),
        }
    }

    /// How many messages it delivers in a moment; one, where that is not known.
    pub(super) fn appetite(&self) -> usize {
        let most = self.took.map_or(1, |took| CLAIM_AHEAD.as_micros() / took.as_micros().max(1));
        usize::try_from(most.clamp(1, CLAIMED_MAX)).unwrap_or(1)
    }

    /// Judges a fault; `chance` is 0 to 1000.
    pub(super) fn judge(&self, message: &Message, created_at: UnixMs, fault: &Fault, now: UnixMs, chance: u32) -> Verdict {
        let NotifyChannel { backoff, backoff_max, give_up, .. } = &*self.settings;
        let wait = delay(*backoff, *backoff_max, message.attempt, chance).max(fault.retry_after.unwrap_or_default());
        let at = now.saturating_add(ms(wait));
        let is_over = fault.kind == FaultKind::Permanent || at > created_at.saturating_add(ms(*give_up));
        Verdict { retry_at: (!is_over).then_some(at), fall_back: is_over || message.attempt >= PATIENCE }
    }
}

/// One delivery within its time.
pub(super) async fn deliver(channel: Arc<dyn Channel>, message: Box<Message>, limit: Duration) -> Ended {
    let begun = Instant::now();
    let mut transcript = Transcript::new();
    let ended = tokio::time::timeout(limit, channel.deliver(&message, &mut transcript)).await;
    let result = ended.unwrap_or_else(|_| {
        let text = format!("no answer within {}", weir_config::format_duration(limit));
        transcript.note(&text);
        Err(Fault::broken(&transcript, text))
    });
    Ended { result, transcript: transcript.lines().to_vec(), took: begun.elapsed() }
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    #[test]
    fn only_a_fast_channel_has_several_messages_at_once() {
        let config =
            weir_config::parse("[notify.a]\n[notify.a.console]\n", "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let mut lane = Lane::new(config.notification.channels.values().next().unwrap().clone());
        assert_eq!(lane.appetite(), 1);
        for (took_us, want) in [(0, 64), (500, 64), (10_000, 20), (150_000, 1), (30_000_000, 1)] {
            lane.took = Some(Duration::from_micros(took_us));
            assert_eq!(lane.appetite(), want, "{took_us}");
        }
    }

    #[test]
    fn faults_are_judged_by_kind_and_age() {
        let text = "[notify.a]\nbackoff = \"10s\"\ngive_up = \"1h\"\n[notify.a.console]\n";
        let config = weir_config::parse(text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        let lane = Lane::new(config.notification.channels.values().next().unwrap().clone());
        let asked = Fault { retry_after: Some(Duration::from_secs(300)), ..Fault::temporary("busy") };
        for (attempt, created_at, fault, retry_at, fall_back) in [
            (1, 0, Fault::temporary("x"), Some(10_000), false),
            (2, 0, Fault::temporary("x"), Some(20_000), false),
            (3, 0, Fault::temporary("x"), Some(40_000), true),
            (1, 0, asked, Some(300_000), false),
            (1, 0, Fault::permanent("x"), None, true),
        ] {
            let message = Message { attempt, ..sample("k", 0) };
            assert_eq!(lane.judge(&message, created_at, &fault, 0, 500), Verdict { retry_at, fall_back }, "{attempt} {fault:?}");
        }
        let late = lane.judge(&sample("k", 0), 0, &Fault::temporary("x"), 3_599_000, 500);
        assert_eq!(late, Verdict { retry_at: None, fall_back: true });
    }
}
