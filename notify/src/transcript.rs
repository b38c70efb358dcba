//! The conversation with a server, line by line, for the operator who asks why a channel fails. Secrets are masked as lines come in, so that
//! nothing that shows a transcript has to think of it.

use serde::Serialize;

use crate::secret::Secret;

/// Lines kept; a conversation of a channel has a few dozen. The first half and the latest are kept.
const LINES_MAX: usize = 200;
/// Characters kept of each line.
const CHARS_MAX: usize = 500;
/// Secrets shorter than this are not looked for in lines: masking single letters would only show where they are.
const SECRET_BYTES_MIN: usize = 3;
const MASK: &str = "***";

/// One line of a conversation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Line {
    /// Who said it.
    pub from: From,
    /// What; printable, masked and bounded.
    pub text: String,
}

/// Who said a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// We.
    Us,
    /// The other end.
    Them,
    /// Nobody: something that happened, such as "TLS 1.3 with mail.example.com".
    Note,
}

/// The conversation of one attempt at delivery.
#[derive(Debug, Default)]
pub struct Transcript {
    lines: Vec<Line>,
    left_out: usize,
    hidden: Vec<Vec<u8>>,
    handed_over: bool,
}

impl Transcript {
    /// A conversation that has not begun.
    pub fn new() -> Transcript {
        Transcript::default()
    }

    /// From now on this secret, also in base64 and hexadecimal, is masked. To be called before the secret is used.
    pub fn hide(&mut self, secret: &Secret) {
        let bytes = secret.expose();
        if bytes.len() >= SECRET_BYTES_MIN {
            self.hidden.push(bytes.to_vec());
            // Three alignments: a secret may stand anywhere in what was encoded.
            for skipped in 0..3.min(bytes.len() - 1) {
                let whole = &bytes[skipped..];
                let whole = &whole[..whole.len() / 3 * 3];
                if whole.len() >= SECRET_BYTES_MIN {
                    self.hidden.push(crate::channel::base64(whole).into_bytes());
                }
            }
            self.hidden.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes());
            // The longest first: a mask must not cut another secret in two.
            self.hidden.sort_by_key(|hidden| std::cmp::Reverse(hidden.len()));
        }
    }

    /// We said this.
    pub fn us(&mut self, line: impl AsRef<[u8]>) {
        self.line(From::Us, line.as_ref());
    }

    /// The other end said this.
    pub fn them(&mut self, line: impl AsRef<[u8]>) {
        self.line(From::Them, line.as_ref());
    }

    /// This happened.
    pub fn note(&mut self, line: impl AsRef<[u8]>) {
        self.line(From::Note, line.as_ref());
    }

    /// The next bytes may make the other end act: from here on a lost answer or a timeout means that the message may have arrived.
    pub fn hand_over(&mut self) {
        self.handed_over = true;
    }

    /// Whether [`Transcript::hand_over`] was called.
    pub fn handed_over(&self) -> bool {
        self.handed_over
    }

    /// What was said, in order.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// A text for an error: masked, printable and bounded like a line.
    pub fn clean(&self, text: impl AsRef<[u8]>) -> String {
        let text = self.mask(text.as_ref());
        let printable = String::from_utf8_lossy(&text).chars().take(CHARS_MAX).map(printable).collect::<String>();
        printable.trim_end().to_owned()
    }

    fn line(&mut self, from: From, text: &[u8]) {
        let text = self.clean(text);
        if self.lines.len() >= LINES_MAX {
            self.left_out += 1;
            let gap = Line { from: From::Note, text: format!("{} lines left out", self.left_out) };
            let at = LINES_MAX / 2;
            self.lines[at] = gap;
            self.lines.remove(at + 1);
        }
        self.lines.push(Line { from, text });
    }

    fn mask(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            match self.hidden.iter().find(|hidden| text[at..].starts_with(hidden)) {
                Some(hidden) => {
                    out.extend_from_slice(MASK.as_bytes());
                    at += hidden.len();
                }
                None => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out
    }
}

/// What a terminal would obey becomes a replacement character.
fn printable(c: char) -> char {
    match c {
        '\t' | '\r' | '\n' => ' ',
        c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_in_every_spelling() {
        let mut transcript = Transcript::new();
        transcript.hide(&Secret::from_bytes(b"hunter2hunter2".to_vec()));
        for said in
            ["PASS hunter2hunter2!", &format!("AUTH {}", crate::channel::base64(b"\0me\0hunter2hunter2")), "68756e7465723268756e74657232"]
        {
            transcript.us(said);
        }
        for line in transcript.lines() {
            assert!(line.text.contains(MASK) && !line.text.contains("hunter2") && !line.text.contains("aHVudGVyMmh1bnRlcjI"), "{line:?}");
        }
    }

    #[test]
    fn a_long_conversation_keeps_its_beginning_and_its_end() {
        let mut transcript = Transcript::new();
        for i in 0..1000 {
            transcript.them(format!("line {i}\x1b[2J"));
        }
        let lines = transcript.lines();
        assert_eq!(lines.len(), LINES_MAX);
        assert!(lines[0].text.starts_with("line 0") && lines[LINES_MAX - 1].text.starts_with("line 999"));
        assert!(lines.iter().any(|line| line.text.ends_with("lines left out")));
        assert!(lines.iter().all(|line| !line.text.contains('\x1b')));
    }
}
