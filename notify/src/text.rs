//! The words of a message in one language, from the templates. Pure.
//!
//! What comes from outside is one line wherever it stands: it cannot add a line that looks like one of ours. Making it harmless for a
//! channel's own syntax is the channel's business.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use jiff::tz::TimeZone;
use weir_config::{Language, NotifyChannel, Severity, TextTemplate};

use crate::message::{Alarm, Kind, Message, Phrase, RecoveryAttempt, State, Text, UnixMs};

/// Characters kept of one value that comes from outside.
const VALUE_CHARS_MAX: usize = 500;
/// Lines of a list; more are counted.
const LINES_MAX: usize = 20;
/// Characters of a title.
const TITLE_CHARS_MAX: usize = 200;

/// One line of a digest.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct DigestLine {
    /// How the incident stands.
    pub(crate) state: State,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What it is about.
    pub(crate) alarm: Option<Alarm>,
}

/// What a text is made of.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    /// All but the texts.
    pub(crate) message: &'a Message,
    /// Who acknowledged, if anybody did.
    pub(crate) acknowledged_by: Option<&'a str>,
    /// Of a digest: the incidents, and how many more there were.
    pub(crate) digest: (&'a [DigestLine], u64),
}

/// Title and text for a channel in a language.
pub(crate) fn render(source: &Source<'_>, channel: &NotifyChannel, language: Language) -> Text {
    let renderer = Renderer { source, channel, language };
    let kind = source.message.kind;
    let name = match kind {
        Kind::Digest => "digest",
        Kind::Test => "test",
        _ => "incident",
    };
    let own = !matches!(kind, Kind::Digest | Kind::Test);
    let title = channel.title.as_ref().filter(|_| own).or_else(|| language.title(kind.word()));
    let text = channel.text.as_ref().filter(|_| own).or_else(|| language.text(name));
    let fill = |template: Option<&TextTemplate>| template.map_or(String::new(), |template| template.render(|name| renderer.field(name)));
    Text { title: one_line(&fill(title), TITLE_CHARS_MAX), text: fill(text) }
}

/// What an alarm says in English.
pub fn summary_in_english(alarm: &Alarm) -> String {
    summary(alarm, Language::ENGLISH)
}

/// What an alarm says in a language.
pub(crate) fn summary(alarm: &Alarm, language: Language) -> String {
    let template = alarm.labels.get("alarm").and_then(|name| language.alarm(name));
    let value = |name: &str| match name.split_once('.') {
        Some(("labels", label)) => outside(alarm.labels.get(label).map_or("", String::as_str)),
        Some((_, value)) => outside(alarm.values.get(value).map_or("", String::as_str)),
        None => String::new(),
    };
    let said = template.map_or_else(|| outside(&alarm.summary), |template| outside(&template.render(value)));
    let why = language.word("gone").filter(|_| alarm.gone && alarm.ended_at.is_some());
    why.map_or(said.clone(), |template| template.render(|_| said.clone()))
}

/// What was tried and what came of it, in a language.
fn attempted(attempt: &RecoveryAttempt, language: Language) -> [String; 2] {
    let phrase = |phrase: &Phrase| {
        let value = |name: &str| name.strip_prefix("values.").and_then(|name| phrase.values.get(name)).cloned().unwrap_or_default();
        language.recovery(&phrase.name).map(|template| template.render(value))
    };
    let phrases = attempt.phrases.as_ref().filter(|_| language != Language::ENGLISH);
    let (what, outcome) = phrases.map_or((None, None), |(what, outcome)| (phrase(what), phrase(outcome)));
    [what.as_ref().unwrap_or(&attempt.what), outcome.as_ref().unwrap_or(&attempt.outcome)].map(|text| outside(text))
}

/// A value from outside: one line, bounded, with nothing that steers a terminal.
pub(crate) fn outside(value: &str) -> String {
    one_line(value, VALUE_CHARS_MAX)
}

fn one_line(value: &str, chars_max: usize) -> String {
    let mut out: String = value.chars().take(chars_max).map(harmless).collect();
    if value.chars().nth(chars_max).is_some() {
        out.push('…');
    }
    out
}

fn harmless(c: char) -> char {
    match c {
        '\u{2028}' | '\u{2029}' => ' ',
        c if c.is_control() => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

struct Renderer<'a> {
    source: &'a Source<'a>,
    channel: &'a NotifyChannel,
    language: Language,
}

impl Renderer<'_> {
    fn field(&self, name: &str) -> String {
        let message = self.source.message;
        match name {
            "kind" => message.kind.word().into(),
            "severity" => self.word(message.severity.word()),
            "state" => self.word(message.state.word()),
            "summary" => self.summary(),
            "count" => self.count().to_string(),
            "alarms" => self.alarms(),
            "incidents" => self.incidents(),
            "recovery" => self.recovery(),
            "labels" => message.labels.iter().map(|(name, value)| format!("{name}={}", outside(value))).collect::<Vec<_>>().join(", "),
            "channel" => self.channel.name.to_string(),
            "node" => message.node.clone(),
            "incident" => message.incident.clone(),
            "at" => time(message.at, &self.channel.time_zone),
            "started_at" => time(message.started_at, &self.channel.time_zone),
            "duration" => self.duration(message.resolved_at.unwrap_or(message.at).saturating_sub(message.started_at)),
            "acknowledged_by" => outside(self.source.acknowledged_by.unwrap_or_default()),
            "link" => message.links.incident.clone().unwrap_or_default(),
            "acknowledge_link" => message.links.acknowledge.clone().unwrap_or_default(),
            _ => name.strip_prefix("labels.").and_then(|label| message.labels.get(label)).map_or(String::new(), |value| outside(value)),
        }
    }

    fn count(&self) -> u64 {
        let (lines, more) = self.source.digest;
        if self.source.message.kind == Kind::Digest { lines.len() as u64 + more } else { self.source.message.alarms.len() as u64 }
    }

    /// The worst alarm speaks for all; one that is active before one that is over.
    fn summary(&self) -> String {
        let alarms = &self.source.message.alarms;
        let worst = alarms.iter().max_by_key(|alarm| (alarm.ended_at.is_none(), alarm.severity, std::cmp::Reverse(alarm.started_at)));
        let summary = worst.map_or(String::new(), |alarm| summary(alarm, self.language));
        if alarms.len() < 2 {
            return summary;
        }
        self.phrase("several", &alarms.len().to_string(), &summary)
    }

    fn alarms(&self) -> String {
        let alarms = &self.source.message.alarms;
        if alarms.len() < 2 {
            return String::new();
        }
        let line = |alarm: &Alarm| {
            let over = if alarm.ended_at.is_some() { format!(" ({})", self.word("over")) } else { String::new() };
            format!("- [{}] {}{over}", self.word(alarm.severity.word()), summary(alarm, self.language))
        };
        self.list(alarms.iter().map(line), alarms.len() as u64)
    }

    fn incidents(&self) -> String {
        let (lines, more) = self.source.digest;
        let line = |line: &DigestLine| {
            let what = line.alarm.as_ref().map_or(String::new(), |alarm| summary(alarm, self.language));
            let state = if line.state == State::Open { String::new() } else { format!(" ({})", self.word(line.state.word())) };
            format!("- [{}] {what}{state}", self.word(line.severity.word()))
        };
        self.list(lines.iter().map(line), lines.len() as u64 + more)
    }

    /// Begins on a line of its own, so that a heading goes with it where nothing was tried.
    fn recovery(&self) -> String {
        let attempts = &self.source.message.recovery;
        if attempts.is_empty() {
            return String::new();
        }
        let zone = &self.channel.time_zone;
        let line = |attempt: &RecoveryAttempt| {
            let [what, outcome] = attempted(attempt, self.language);
            format!("- {} {what}: {outcome}", clock(attempt.at, zone))
        };
        format!("\n{}", self.list(attempts.iter().map(line), attempts.len() as u64))
    }

    fn list(&self, lines: impl Iterator<Item = String>, count: u64) -> String {
        let mut lines: Vec<String> = lines.take(LINES_MAX).collect();
        if let Some(more) = count.checked_sub(lines.len() as u64).filter(|more| *more > 0) {
            lines.push(format!("- {}", self.phrase("more", &more.to_string(), "")));
        }
        lines.join("\n")
    }

    /// The two largest units.
    fn duration(&self, ms: u64) -> String {
        let seconds = ms / 1000;
        let parts = [("days", seconds / 86_400), ("hours", seconds / 3600 % 24), ("minutes", seconds / 60 % 60), ("seconds", seconds % 60)];
        let mut parts = parts.iter().skip_while(|(_, count)| *count == 0).take(2).filter(|(_, count)| *count > 0).peekable();
        if parts.peek().is_none() {
            return self.phrase("seconds", "0", "");
        }
        parts.map(|(unit, count)| self.phrase(unit, &count.to_string(), "")).collect::<Vec<_>>().join(" ")
    }

    fn word(&self, name: &str) -> String {
        self.phrase(name, "", "")
    }

    fn phrase(&self, name: &str, count: &str, summary: &str) -> String {
        let template = self.language.word(name);
        template.map_or(name.to_owned(), |template| template.render(|field| if field == "count" { count.into() } else { summary.into() }))
    }
}

/// The time of day in a zone.
fn clock(at: UnixMs, zone: &TimeZone) -> String {
    zone.to_datetime(timestamp(at)).strftime("%H:%M:%S").to_string()
}

fn timestamp(at: UnixMs) -> jiff::Timestamp {
    i64::try_from(at).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
}

/// A time as people of a zone read it, with the zone's name.
pub(crate) fn time(at: UnixMs, zone: &TimeZone) -> String {
    let timestamp = timestamp(at);
    let abbreviation = zone.to_offset_info(timestamp);
    format!("{} {}", zone.to_datetime(timestamp).strftime("%Y-%m-%d %H:%M:%S"), abbreviation.abbreviation())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    fn channel(extra: &str) -> NotifyChannel {
        let text = format!("[notify.a]\n{extra}\n[notify.a.console]\n");
        let config = weir_config::parse(&text, "f").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
        NotifyChannel::clone(config.notification.channels.values().next().unwrap())
    }

    fn rendered(message: &Message, extra: &str, language: &str) -> Text {
        let source = Source { message, acknowledged_by: None, digest: (&[], 0) };
        render(&source, &channel(extra), Language::find(language).unwrap())
    }

    fn message() -> Message {
        let mut message = sample("k", 1_767_603_600_000);
        message.kind = Kind::Opened;
        message.alarms[0].labels.insert("alarm".into(), "pool-below-floor".into());
        message.alarms[0].values = [("healthy".to_owned(), "2".to_owned()), ("min_healthy".to_owned(), "3".to_owned())].into();
        message
    }

    #[test]
    fn a_message_in_each_language() {
        let english = rendered(&message(), "", "en");
        assert_eq!(english.title, "[warning] pool web: 2 of the wanted 3 endpoints are healthy");
        let text = "pool web: 2 of the wanted 3 endpoints are healthy\n\nState: open, warning, since 2026-01-05 08:59:00 UTC (1 min)\n\
                    Concerns: pool=web\n\nWhat was tried:\n- 08:59:30 restart web-3: the fault stayed\n\nIncident sample, told by weir";
        assert_eq!(english.text, text);
        let korean = rendered(&message(), "time_zone = \"Asia/Seoul\"", "ko");
        assert_eq!(korean.title, "[경고] 풀 web: 정상 엔드포인트 2개, 필요한 수 3개");
        assert!(korean.text.contains("시작 2026-01-05 17:59:00 KST (1분)"), "{}", korean.text);
    }

    #[test]
    fn what_was_tried_is_told_in_each_language() {
        let mut message = message();
        message.recovery[0].phrases = Some((
            Phrase::new("restart", &[("thing", "web-3")]),
            Phrase::new("still-ill-why", &[("seconds", "30"), ("why", "refused\n- x")]),
        ));
        let [english, korean] = ["en", "ko"].map(|language| rendered(&message, "", language).text);
        assert!(english.contains("- 08:59:30 restart web-3: the fault stayed\n"), "{english}");
        assert!(korean.contains("- 08:59:30 web-3 재시작: 30초 후에도 비정상: refused - x\n"), "{korean}");
        message.recovery[0].phrases = Some((Phrase::new("of-a-newer-program", &[]), Phrase::new("healed", &[("seconds", "3")])));
        let korean = rendered(&message, "", "ko").text;
        assert!(korean.contains("- 08:59:30 restart web-3: 3초 후 복구됨\n"), "{korean}");
    }

    #[test]
    fn an_alarm_whose_source_is_gone_says_so() {
        let mut message = message();
        message.kind = Kind::Resolved;
        (message.alarms[0].ended_at, message.alarms[0].gone) = (Some(1), true);
        let title = rendered(&message, "", "en").title;
        assert_eq!(title, "[resolved] pool web: 2 of the wanted 3 endpoints are healthy (no longer there)");
        assert!(rendered(&message, "", "ko").title.ends_with("(더 이상 존재하지 않음)"));
    }

    #[test]
    fn several_alarms_are_listed() {
        let mut message = message();
        message.recovery.clear();
        let mut alarm = message.alarms[0].clone();
        alarm.labels.clear();
        alarm.ended_at = Some(0);
        for at in 0..30 {
            alarm.summary = format!("thing {at}");
            message.alarms.push(alarm.clone());
        }
        let text = rendered(&message, "", "en");
        assert_eq!(text.title, "[warning] 31 alarms: pool web: 2 of the wanted 3 endpoints are healthy");
        assert!(text.text.contains("- [warning] thing 0 (over)\n") && text.text.contains("- and 11 more"), "{}", text.text);
        assert!(!text.text.contains("What was tried"));
    }

    #[test]
    fn an_own_template_takes_the_place_of_the_languages() {
        let text = rendered(&message(), "title = \"${severity} $$ ${labels.pool}\"\ntext = \"${link}\\n${at}\"", "en");
        assert_eq!(text, Text { title: "warning $ web".into(), text: "2026-01-05 09:00:00 UTC".into() });
    }

    #[test]
    fn what_comes_from_outside_stays_on_its_line() {
        let mut message = message();
        let evil = "x\r\nAcknowledge: http://evil\u{2028}${node}\u{202e}\x1b[2J";
        message.alarms[0].labels.insert("pool".into(), evil.into());
        message.labels.insert("pool".into(), evil.into());
        message.recovery[0].outcome = evil.into();
        message.alarms[0].values.insert("healthy".into(), "9".repeat(10_000));
        for language in Language::all() {
            let clean = rendered(&self::message(), "", language.tag());
            let text = rendered(&message, "", language.tag());
            assert_eq!(text.text.lines().count(), clean.text.lines().count());
            assert!(text.text.contains("${node}") && !text.title.contains(['\n', '\r', '\x1b', '\u{202e}', '\u{2028}']));
            assert!(!text.text.contains(['\r', '\x1b', '\u{202e}', '\u{2028}']) && text.text.len() < 10_000);
        }
    }

    #[test]
    fn durations_have_two_units() {
        let message = message();
        let source = Source { message: &message, acknowledged_by: None, digest: (&[], 0) };
        let channel = channel("");
        let renderer = Renderer { source: &source, channel: &channel, language: Language::ENGLISH };
        for (s, want) in [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3601, "1 h"), (3660, "1 h 1 min"), (90_000, "1 d 1 h"), (86_460, "1 d")]
        {
            assert_eq!(renderer.duration(s * 1000), want);
        }
    }
}
