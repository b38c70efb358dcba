//! Messages for people in a chat. What comes from outside must be read as it is: no mention, no link, no picture. Pure.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use serde_json::json;
use weir_config::Severity;

use crate::message::{Kind, Message};

/// For Slack. Its text has three characters with a meaning where `mrkdwn` is off.
pub(super) fn slack(message: &Message, language: &str) -> String {
    let text = message.text(language);
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({
        "text": escape(&text.title),
        "mrkdwn": false,
        "link_names": false,
        "attachments": [{ "color": colour(message), "fallback": escape(&text.title), "text": escape(&text.text), "mrkdwn_in": [] }],
    })
    .to_string()
}

/// For Mattermost, which reads Markdown and mentions.
pub(super) fn mattermost(message: &Message, language: &str) -> String {
    let text = message.text(language);
    let links = [&message.links.acknowledge, &message.links.incident].map(|link| link.as_deref());
    let lines = text.text.lines().map(|line| {
        // Our own links stay links.
        let found = links.iter().flatten().find_map(|link| line.split_once(link).map(|(before, after)| (before, *link, after)));
        found.map_or_else(|| plain(line), |(before, link, after)| format!("{}{link}{}", plain(before), plain(after)))
    });
    json!({
        "text": plain(&text.title),
        "attachments": [{ "color": colour(message), "fallback": text.title, "text": lines.collect::<Vec<_>>().join("\n") }],
    })
    .to_string()
}

fn colour(message: &Message) -> &'static str {
    match (message.kind, message.severity) {
        (Kind::Resolved, _) => "#2e7d32",
        (_, Severity::Critical) => "#b71c1c",
        (_, Severity::Warning) => "#e65100",
        (_, Severity::Info) => "#1565c0",
    }
}

/// Markdown that shows the text as it is: punctuation has a backslash (CommonMark section 2.4), and whoever is called by a mention or an address
/// is kept apart from the sign that calls.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '@' => out.push_str("@\u{200b}"),
            // `http://` alone makes a link, and so does `www.`.
            '/' if before == ':' => out.push_str("\u{200b}/"),
            '.' if out.to_ascii_lowercase().ends_with("www") => out.push_str("\u{200b}."),
            c if c.is_ascii_punctuation() && !matches!(c, '.' | ',' | ':' | ';' | '/' | '%' | '=' | '\'' | '"' | '?') => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Text, sample};

    fn message(text: &str) -> Message {
        let mut message = sample("k", 0);
        message.texts.insert("en".into(), Text { title: text.into(), text: text.into() });
        message
    }

    #[test]
    fn slack_gets_no_mention_and_no_link() {
        let body = slack(&message("<!channel> <https://evil|ok> & *x*"), "en");
        let read: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(read["text"], "&lt;!channel&gt; &lt;https://evil|ok&gt; &amp; *x*");
        assert_eq!((&read["mrkdwn"], &read["attachments"][0]["mrkdwn_in"]), (&json!(false), &json!([])));
    }

    #[test]
    fn mattermost_gets_text() {
        for (text, want) in [
            ("@all [x](http://evil)", "@\u{200b}all \\[x\\]\\(http:\u{200b}//evil\\)"),
            ("![x](y) `z` **b** ~~s~~ # <b>", "\\!\\[x\\]\\(y\\) \\`z\\` \\*\\*b\\*\\* \\~\\~s\\~\\~ \\# \\<b\\>"),
            ("cpu 90 % at 10.0.0.1:80", "cpu 90 % at 10.0.0.1:80"),
            ("www.evil.example", "www\u{200b}.evil.example"),
            ("- x\r\n| a | b |", "\\- x  \\| a \\| b \\|"),
        ] {
            assert_eq!(plain(text), want);
        }
        let mut message = message("Acknowledge: https://lb/ack/a_b");
        message.links.acknowledge = Some("https://lb/ack/a_b".into());
        let read: serde_json::Value = serde_json::from_str(&mattermost(&message, "en")).unwrap();
        assert_eq!(read["attachments"][0]["text"], "Acknowledge: https://lb/ack/a_b");
    }
}
