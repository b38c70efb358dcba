//! One message to one channel about one incident, as it is kept in the outbox and given to the channel.
//!
//! All texts are ready: a retry sends the same words. What comes from outside (labels, summaries) is in here as it was; each channel makes it
//! harmless for its own syntax.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_config::Severity;

/// Milliseconds since the Unix epoch.
pub type UnixMs = u64;

/// One message to one channel.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Message {
    /// The idempotency key: equal for each attempt at this message, different for any other. ASCII letters,
    /// digits, hyphen, underscore and dot.
    pub key: String,
    /// The incident: equal for all its messages. ASCII letters, digits and hyphen.
    pub incident: String,
    /// The number of this message within the incident and channel, from 1.
    pub sequence: u32,
    /// Why it is sent.
    pub kind: Kind,
    /// The worst of the incident's alarms.
    #[serde(with = "severity")]
    pub severity: Severity,
    /// How the incident stands.
    pub state: State,
    /// What the incident is grouped by, and what all its alarms have in common.
    pub labels: BTreeMap<String, String>,
    /// The incident's alarms; bounded by the engine, which says in the text how many were left out.
    pub alarms: Vec<Alarm>,
    /// Title and text by language tag (`en`, `ko`); at least one.
    pub texts: BTreeMap<String, Text>,
    /// Where to look and where to acknowledge.
    pub links: Links,
    /// What was tried before people were told, in order.
    pub recovery: Vec<RecoveryAttempt>,
    /// The metric around the incident.
    pub series: Option<Series>,
    /// When the incident began.
    pub started_at: UnixMs,
    /// When this message was made.
    pub at: UnixMs,
    /// When the incident was resolved.
    pub resolved_at: Option<UnixMs>,
    /// The node that says so.
    pub node: String,
    /// What the channel answered to an earlier message of the same incident as [`Receipt::reference`](crate::channel::Receipt): the ticket's
    /// number, the Message-ID.
    pub reference: Option<String>,
    /// The number of this attempt, from 1. Above 1 an earlier one may have arrived: a channel that can look, looks.
    pub attempt: u32,
}

/// Why a message is sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The incident is new to this channel.
    Opened,
    /// Alarms joined or left it, or it became worse.
    Updated,
    /// Nothing changed, and its interval is over.
    Repeated,
    /// All its alarms are over.
    Resolved,
    /// Somebody takes care.
    Acknowledged,
    /// Many incidents at once, in one message.
    Digest,
    /// A sample, asked for by an operator.
    Test,
}

impl Kind {
    /// How it is written.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Opened => "opened",
            Kind::Updated => "updated",
            Kind::Repeated => "repeated",
            Kind::Resolved => "resolved",
            Kind::Acknowledged => "acknowledged",
            Kind::Digest => "digest",
            Kind::Test => "test",
        }
    }
}

/// How an incident stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody said that they take care.
    Open,
    /// Somebody takes care.
    Acknowledged,
    /// It is over.
    Resolved,
}

impl State {
    /// How it is written.
    pub fn word(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Acknowledged => "acknowledged",
            State::Resolved => "resolved",
        }
    }
}

/// One alarm of an incident.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Alarm {
    /// What it is about.
    pub labels: BTreeMap<String, String>,
    /// How bad it is.
    #[serde(with = "severity")]
    pub severity: Severity,
    /// In words, in English.
    pub summary: String,
    /// Numbers and words that the summary is made of, for other languages.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// When it began.
    pub started_at: UnixMs,
    /// When it ended, if it did.
    pub ended_at: Option<UnixMs>,
    /// It ended because what it was about is no longer there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

/// The words for people in one language.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Text {
    /// One line.
    pub title: String,
    /// Several lines, separated by `\n`.
    pub text: String,
}

/// Links for people.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Links {
    /// Where the incident can be looked at.
    pub incident: Option<String>,
    /// Acknowledges the incident, once. It is a secret: whoever has it can do so.
    pub acknowledge: Option<String>,
}

/// One attempt at recovery.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecoveryAttempt {
    /// What was done, in words.
    pub what: String,
    /// What came of it, in words.
    pub outcome: String,
    /// When it began.
    pub at: UnixMs,
    /// The same for other languages than English: what was done, and what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phrases: Option<(Phrase, Phrase)>,
}

/// A phrase of the language files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Phrase {
    /// Its name in the section `recovery`.
    pub name: String,
    /// What it is made of.
    pub values: BTreeMap<String, String>,
}

impl Phrase {
    /// One with these values.
    pub fn new(name: &str, values: &[(&str, &str)]) -> Phrase {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Phrase { name: name.into(), values: values.collect() }
    }
}

/// A metric over time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its unit, such as `percent`.
    pub unit: String,
    /// Time and value, oldest first.
    pub points: Vec<(UnixMs, f64)>,
    /// The alarm's threshold.
    pub threshold: Option<f64>,
}

impl Message {
    /// The words in this language; in English where there are none, else in whatever language there is.
    pub fn text(&self, language: &str) -> &Text {
        static NONE: Text = Text { title: String::new(), text: String::new() };
        self.texts.get(language).or_else(|| self.texts.get("en")).or_else(|| self.texts.values().next()).unwrap_or(&NONE)
    }
}

/// A severity is kept as its word.
pub(crate) mod severity {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use weir_config::Severity;

    pub(crate) fn serialize<S: Serializer>(severity: &Severity, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(severity.word())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Severity, D::Error> {
        let word = String::deserialize(deserializer)?;
        Severity::from_word(&word).ok_or_else(|| D::Error::custom(format!("no such severity: {word:?}")))
    }
}

/// A message with something in every field, for tests and for samples.
pub fn sample(key: &str, at: UnixMs) -> Message {
    let labels = BTreeMap::from([("pool".to_owned(), "web".to_owned())]);
    let alarm = Alarm {
        labels: labels.clone(),
        severity: Severity::Warning,
        summary: "2 of 5 endpoints are healthy, 3 are wanted".into(),
        values: BTreeMap::new(),
        started_at: at.saturating_sub(60_000),
        ended_at: None,
        gone: false,
    };
    Message {
        key: key.into(),
        incident: "sample".into(),
        sequence: 1,
        kind: Kind::Test,
        severity: Severity::Warning,
        state: State::Open,
        labels,
        alarms: vec![alarm],
        texts: BTreeMap::from([(
            "en".to_owned(),
            Text { title: "[test] pool web".into(), text: "This is a test.\nNothing happened.".into() },
        )]),
        links: Links::default(),
        recovery: vec![RecoveryAttempt {
            what: "restart web-3".into(),
            outcome: "the fault stayed".into(),
            at: at.saturating_sub(30_000),
            phrases: None,
        }],
        series: Some(Series {
            name: "cpu".into(),
            unit: "percent".into(),
            points: (0..30).map(|i| (at.saturating_sub((30 - i) * 10_000), 40.0 + (i as f64) * 1.5)).collect(),
            threshold: Some(70.0),
        }),
        started_at: at.saturating_sub(60_000),
        at,
        resolved_at: None,
        node: "weir".into(),
        reference: None,
        attempt: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_kept() {
        let message = sample("k-1", 1_700_000_000_000);
        let kept = serde_json::to_string(&message).unwrap();
        assert_eq!(serde_json::from_str::<Message>(&kept).unwrap(), message);
    }

    #[test]
    fn a_missing_language_is_told_in_english() {
        let mut message = sample("k", 0);
        message.texts.insert("ko".into(), Text { title: "시험".into(), text: "시험입니다".into() });
        assert_eq!(message.text("ko").title, "시험");
        assert_eq!(message.text("fr").title, "[test] pool web");
        message.texts.clear();
        assert_eq!(message.text("en"), &Text::default());
    }
}
