//! A message as a notification of `packaging/mibs/WEIR-MIB.txt`. Pure.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use weir_config::{Severity, SnmpArc};

use super::ber::{self, SEQUENCE};
use crate::message::{Kind, Message, State, UnixMs};

const SYS_UP_TIME: [u32; 9] = [1, 3, 6, 1, 2, 1, 1, 3, 0];
const SNMP_TRAP_OID: [u32; 11] = [1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];
/// `SnmpAdminString` has no more (RFC 3411).
const STRING_BYTES_MAX: usize = 255;
/// `WeirText`: the message must fit into a datagram that networks carry whole.
const TEXT_BYTES_MAX: usize = 512;

/// The encoded variables, as RFC 3416 section 4.2.6 orders them: the time, what it is, then its own. `arc`: `weir` of the MIB.
pub(super) fn variables(message: &Message, language: &str, arc: &SnmpArc, up_hundredths: u32) -> Vec<u8> {
    let text = message.text(language);
    let labels = message.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ");
    let kind = match message.kind {
        Kind::Opened => 1,
        Kind::Updated => 2,
        Kind::Repeated => 3,
        Kind::Resolved => 4,
        Kind::Acknowledged => 5,
        Kind::Digest => 6,
        Kind::Test => 7,
    };
    let severity = match message.severity {
        Severity::Info => 1,
        Severity::Warning => 2,
        Severity::Critical => 3,
    };
    let state = match message.state {
        State::Open => 1,
        State::Acknowledged => 2,
        State::Resolved => 3,
    };
    // One line, so that it is one line in the log of a receiver, too.
    let string = |text: &str| ber::octets(cut(&text.replace('\n', " "), STRING_BYTES_MAX).as_bytes());
    let values = [
        string(&message.node),
        string(&message.incident),
        string(&message.key),
        ber::integer(severity),
        ber::integer(state),
        string(&text.title),
        ber::octets(cut(&text.text, TEXT_BYTES_MAX).as_bytes()),
        string(&labels),
        ber::octets(&date_and_time(message.started_at)),
        ber::gauge(u32::try_from(message.alarms.len()).unwrap_or(u32::MAX)),
    ];
    let variable = |name: &[u32], value: &[u8]| ber::tlv(SEQUENCE, &[&ber::oid(name), value]);
    let notification = [arc.numbers(), &[0, kind]].concat();
    let mut out = variable(&SYS_UP_TIME, &ber::time_ticks(up_hundredths));
    out.extend(variable(&SNMP_TRAP_OID, &ber::oid(&notification)));
    for (number, value) in (1_u32..).zip(&values) {
        out.extend(variable(&[arc.numbers(), &[1, number, 0]].concat(), value));
    }
    out
}

/// The beginning of a text, with whole characters and without what a terminal would obey.
fn cut(text: &str, bytes_max: usize) -> String {
    let mut out = String::new();
    for c in text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }) {
        if out.len() + c.len_utf8() > bytes_max {
            break;
        }
        out.push(c);
    }
    out
}

/// `DateAndTime` of RFC 2579, in UTC.
fn date_and_time(at: UnixMs) -> [u8; 11] {
    let timestamp = i64::try_from(at).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    let time = jiff::tz::TimeZone::UTC.to_datetime(timestamp);
    let year = u16::try_from(time.year()).unwrap_or(0).to_be_bytes();
    let rest = [time.month(), time.day(), time.hour(), time.minute(), time.second(), (time.subsec_nanosecond() / 100_000_000) as i8];
    let [month, day, hour, minute, second, tenth] = rest.map(|value| value.unsigned_abs());
    [year[0], year[1], month, day, hour, minute, second, tenth, b'+', 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    #[test]
    fn a_message_fits_into_a_datagram() {
        let mut message = sample("k", 1_767_571_200_000);
        message.node = "n".repeat(1000);
        message.key = "k".repeat(1000);
        message.labels.insert("pool".into(), "ü\r\n\0".repeat(1000));
        message.texts.get_mut("en").unwrap().text = "풀".repeat(2000);
        message.texts.get_mut("en").unwrap().title = "풀".repeat(2000);
        let encoded = variables(&message, "en", &SnmpArc::default(), 0);
        // With headers of IPv6, UDP and SNMP this stays in two fragments at most.
        assert!(encoded.len() < 2200, "{}", encoded.len());
        assert_eq!(cut("풀풀", 5), "풀");
        assert_eq!(cut("a\r\0\nb", 255), "a  \nb");
    }

    #[test]
    fn a_date() {
        assert_eq!(date_and_time(1_767_571_200_700), [0x07, 0xea, 1, 5, 0, 0, 0, 7, b'+', 0, 0]);
    }
}
