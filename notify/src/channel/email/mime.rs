//! A mail as bytes (RFC 5322, 2045 to 2047, 2387). Pure.
//!
//! Bodies are base64 and headers are printable ASCII or encoded words: no byte from outside can end a header, a part or the mail.

use super::super::base64;
use super::picture;
use crate::message::{Kind, Message, Series};
use weir_config::Severity;

/// Bytes of text in one encoded word; with its frame it stays below the 75 characters of RFC 2047.
const WORD_BYTES: usize = 42;
/// Characters of a line of base64.
const BASE64_LINE: usize = 76;

/// What a mail is made of.
#[derive(Debug)]
pub(super) struct Mail<'a> {
    pub(super) message: &'a Message,
    /// A language tag.
    pub(super) language: &'a str,
    pub(super) from: &'a str,
    pub(super) to: &'a [&'a str],
    pub(super) html: bool,
    pub(super) picture: bool,
}

/// The name of a mail, the same for each attempt: a server or a reader that sees it twice can tell.
pub(super) fn message_id(message: &Message, language: &str) -> String {
    let word = |text: &str| text.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect::<String>();
    format!("<{}.{language}@{}.weir>", word(&message.key), word(&message.node))
}

/// The mail, with CRLF line ends.
pub(super) fn build(mail: &Mail<'_>) -> String {
    let Mail { message, language, from, to, .. } = mail;
    let text = message.text(language);
    let mut out = String::new();
    header(&mut out, "From", from);
    header(&mut out, "To", &to.join(",\r\n "));
    header(&mut out, "Subject", &encoded(&text.title));
    header(&mut out, "Date", &date(message.at));
    header(&mut out, "Message-ID", &message_id(message, language));
    if let Some(first) = message.reference.as_ref().filter(|first| is_message_id(first)) {
        header(&mut out, "In-Reply-To", first);
        header(&mut out, "References", first);
    }
    header(&mut out, "Auto-Submitted", "auto-generated");
    header(&mut out, "Content-Language", language);
    header(&mut out, "X-Weir-Incident", &encoded(&message.incident));
    header(&mut out, "X-Weir-Kind", message.kind.word());
    header(&mut out, "X-Weir-Severity", message.severity.word());
    if message.severity == Severity::Critical && matches!(message.kind, Kind::Opened | Kind::Updated) {
        header(&mut out, "Importance", "high");
    }
    header(&mut out, "MIME-Version", "1.0");
    body(&mut out, mail);
    out
}

fn body(out: &mut String, mail: &Mail<'_>) {
    let text = &mail.message.text(mail.language).text;
    let plain = |out: &mut String| part(out, "text/plain; charset=utf-8", &[], text.replace('\n', "\r\n").as_bytes());
    if !mail.html {
        return plain(out);
    }
    let series = mail.message.series.as_ref().filter(|series| mail.picture && series.points.len() > 1);
    // Not in base64, so in no part.
    let (outer, inner) = ("=_weir_alternative", "=_weir_related");
    out.push_str(&format!("Content-Type: multipart/alternative; boundary=\"{outer}\"\r\n\r\n--{outer}\r\n"));
    plain(out);
    out.push_str(&format!("--{outer}\r\n"));
    let page = html(mail, series);
    match series {
        None => part(out, "text/html; charset=utf-8", &[], page.as_bytes()),
        Some(series) => {
            out.push_str(&format!("Content-Type: multipart/related; type=\"text/html\"; boundary=\"{inner}\"\r\n\r\n--{inner}\r\n"));
            part(out, "text/html; charset=utf-8", &[], page.as_bytes());
            out.push_str(&format!("--{inner}\r\n"));
            let headers = ["Content-ID: <metric@weir>", "Content-Disposition: inline; filename=\"metric.png\""];
            part(out, "image/png", &headers, &picture::draw(series));
            out.push_str(&format!("--{inner}--\r\n"));
        }
    }
    out.push_str(&format!("--{outer}--\r\n"));
}

fn part(out: &mut String, kind: &str, headers: &[&str], bytes: &[u8]) {
    header(out, "Content-Type", kind);
    headers.iter().for_each(|header| out.push_str(&format!("{header}\r\n")));
    out.push_str("Content-Transfer-Encoding: base64\r\n\r\n");
    let encoded = base64(bytes);
    for line in encoded.as_bytes().chunks(BASE64_LINE) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push_str("\r\n");
    }
}

fn html(mail: &Mail<'_>, series: Option<&Series>) -> String {
    let text = mail.message.text(mail.language);
    let colour = match (mail.message.kind, mail.message.severity) {
        (Kind::Resolved, _) => "#2e7d32",
        (_, Severity::Critical) => "#b71c1c",
        (_, Severity::Warning) => "#e65100",
        (_, Severity::Info) => "#1565c0",
    };
    let links = [&mail.message.links.acknowledge, &mail.message.links.incident];
    let linked = |line: &str| {
        let escaped = escape(line);
        let found = links.iter().filter_map(|link| link.as_deref()).find(|link| line.contains(link));
        found.map_or(escaped.clone(), |link| escaped.replace(&escape(link), &format!("<a href=\"{0}\">{0}</a>", escape(link))))
    };
    let lines: String = text.text.lines().map(|line| format!("{}<br>\r\n", linked(line))).collect();
    let picture = series.map_or(String::new(), |series| {
        let latest = series.points.last().map_or(0.0, |(_, value)| *value);
        let caption = escape(&format!("{} ({}): {latest:.1}", series.name, series.unit));
        format!(
            "<p><img src=\"cid:metric@weir\" alt=\"{caption}\" width=\"{}\" height=\"{}\"><br>{caption}</p>\r\n",
            picture::WIDTH,
            picture::HEIGHT
        )
    });
    format!(
        "<!DOCTYPE html>\r\n<html lang=\"{}\"><body style=\"font-family:sans-serif\">\r\n<h2 style=\"color:{colour}\">{}</h2>\r\n<p>{lines}</p>\r\n{picture}</body></html>\r\n",
        escape(mail.language),
        escape(&text.title)
    )
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn header(out: &mut String, name: &str, value: &str) {
    out.push_str(&format!("{name}: {value}\r\n"));
}

/// A value of a header: as it is where it is short printable ASCII, in encoded words otherwise.
fn encoded(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let is_plain =
        text.len() <= 60 && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') && !text.contains("=?") && text.trim() == text;
    if is_plain {
        return text;
    }
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        if word.len() + c.len_utf8() > WORD_BYTES {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    words.iter().map(|word| format!("=?utf-8?B?{}?=", base64(word.as_bytes()))).collect::<Vec<_>>().join("\r\n ")
}

/// A reference comes from the store; it must still be one that we made.
fn is_message_id(text: &str) -> bool {
    text.starts_with('<') && text.ends_with('>') && text.len() <= 500 && text.bytes().all(|b| b.is_ascii_graphic())
}

fn date(at: crate::message::UnixMs) -> String {
    let timestamp = i64::try_from(at).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    jiff::tz::TimeZone::UTC.to_datetime(timestamp).strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    fn built(message: &Message) -> String {
        let mail =
            Mail { message, language: "en", from: "weir@example.com", to: &["a@example.com", "b@example.com"], html: true, picture: true };
        build(&mail)
    }

    fn head(mail: &str) -> Vec<&str> {
        mail.split("\r\n\r\n").next().unwrap().split("\r\n").collect()
    }

    #[test]
    fn a_mail_has_what_mail_needs() {
        let message = Message { reference: Some("<first@weir>".into()), ..sample("n.1.a", 1_767_571_200_000) };
        let mail = built(&message);
        let head = head(&mail);
        for line in [
            "From: weir@example.com",
            "To: a@example.com,",
            " b@example.com",
            "Subject: [test] pool web",
            "Date: Mon, 05 Jan 2026 00:00:00 +0000",
            "Message-ID: <n.1.a.en@weir.weir>",
            "References: <first@weir>",
            "MIME-Version: 1.0",
        ] {
            assert!(head.contains(&line), "{line}: {head:?}");
        }
        assert!(mail.contains("Content-Type: image/png") && mail.ends_with("--=_weir_alternative--\r\n"));
        assert!(mail.split("\r\n").all(|line| line.len() <= 78 && line.bytes().all(|b| b.is_ascii_graphic() || b == b' ')), "{mail}");
    }

    /// Whatever stands in titles, labels and references: the same headers and parts.
    #[test]
    fn nothing_from_outside_is_syntax() {
        let clean = built(&sample("k", 0));
        let names =
            |mail: &str| head(mail).iter().filter_map(|line| line.split_once(": ").map(|(name, _)| name.to_owned())).collect::<Vec<_>>();
        for evil in [
            "x\r\nBcc: evil@example.com",
            "\r\n\r\nbody",
            "\r\n.\r\nMAIL FROM:<x>",
            "--=_weir_alternative--",
            "=?utf-8?B?Cg==?=",
            "a\0b",
            "\u{2028}x",
            "<script>",
        ] {
            let mut message = sample("k", 0);
            message.incident = evil.into();
            message.key = evil.into();
            message.reference = Some(format!("<{evil}>"));
            message.texts.insert("en".into(), crate::message::Text { title: evil.into(), text: evil.into() });
            let mail = built(&message);
            let mut found = names(&mail);
            found.retain(|name| name != "In-Reply-To" && name != "References");
            assert_eq!(found, names(&clean), "{evil:?}");
            let borders = |mail: &str| mail.split("\r\n").filter(|line| line.starts_with("--")).count();
            assert_eq!(borders(&mail), borders(&clean), "{evil:?}");
            assert!(!mail.split("\r\n").any(|line| line.starts_with('.')));
        }
    }

    #[test]
    fn html_is_text() {
        let mut message = sample("k", 0);
        message.links.acknowledge = Some("https://lb/ack/1?a&b".into());
        message.texts.get_mut("en").unwrap().text = "<script>alert('x')</script>\nAcknowledge: https://lb/ack/1?a&b".into();
        let mail = Mail { message: &message, language: "en", from: "a", to: &[], html: true, picture: false };
        let page = html(&mail, None);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;alert(&#39;x&#39;)"));
        assert!(page.contains("<a href=\"https://lb/ack/1?a&amp;b\">https://lb/ack/1?a&amp;b</a>"), "{page}");
    }

    #[test]
    fn words_are_encoded_whole() {
        assert_eq!(encoded("plain"), "plain");
        let long = encoded(&"풀 web 정상 엔드포인트 ".repeat(10));
        for word in long.split("\r\n ") {
            assert!(word.len() <= 75 && word.starts_with("=?utf-8?B?") && word.ends_with("?="), "{word}");
        }
        assert!(encoded(" x").starts_with("=?"));
    }
}
