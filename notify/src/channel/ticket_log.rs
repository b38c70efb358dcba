//! A ticket log: one line of JSON for each message, only ever appended. A message that is there already is not written again.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::json;
use weir_config::TicketLogChannel;

use super::{Channel, Delivery, Fault, Receipt};
use crate::message::{Kind, Message};
use crate::transcript::Transcript;

/// How much of the end is searched for a message that may have been written before a kill.
const TAIL_BYTES: u64 = 4 << 20;

/// A file.
#[derive(Debug)]
pub struct TicketLog {
    settings: TicketLogChannel,
}

impl TicketLog {
    /// One that appends to this file.
    pub fn new(settings: TicketLogChannel) -> TicketLog {
        TicketLog { settings }
    }

    async fn write(&self, message: &Message, transcript: &mut Transcript) -> Result<Receipt, Fault> {
        let line = line(message);
        transcript.us(&line);
        transcript.hand_over();
        let (path, key, look) = (self.settings.path.clone(), message.key.clone(), message.attempt > 1);
        let written = tokio::task::spawn_blocking(move || append(&path, &line, look.then_some(key.as_str()))).await;
        let path = self.settings.path.display();
        match written {
            Ok(Ok(true)) => Ok(Receipt { reference: Some(message.incident.clone()), said: "written".into() }),
            Ok(Ok(false)) => Ok(Receipt { reference: Some(message.incident.clone()), said: "it was written before".into() }),
            // A full disk or a missing folder is somebody's to mend; the message waits.
            Ok(Err(error)) => Err(Fault::temporary(format!("{path}: {error}"))),
            Err(error) => Err(Fault::broken(transcript, format!("{path}: {error}"))),
        }
    }
}

impl Channel for TicketLog {
    fn deliver<'a>(&'a self, message: &'a Message, transcript: &'a mut Transcript) -> Delivery<'a> {
        Box::pin(self.write(message, transcript))
    }
}

/// JSON escapes line breaks and control bytes: one message is one line whatever is in it.
fn line(message: &Message) -> String {
    let text = message.text("en");
    let action = match message.kind {
        Kind::Opened | Kind::Digest | Kind::Test => "open",
        Kind::Updated | Kind::Repeated | Kind::Acknowledged => "comment",
        Kind::Resolved => "close",
    };
    let line = json!({
        "at": message.at, "action": action, "ticket": message.incident, "kind": message.kind, "key": message.key,
        "severity": message.severity.word(), "state": message.state, "node": message.node, "labels": message.labels,
        "title": text.title, "text": text.text, "started_at": message.started_at, "resolved_at": message.resolved_at,
        "recovery": message.recovery,
    });
    line.to_string()
}

/// Whether it was written now; `key`: look for it first.
fn append(path: &Path, line: &str, key: Option<&str>) -> std::io::Result<bool> {
    // The texts hold links that acknowledge: not for everybody on this machine.
    let mut file = File::options().create(true).append(true).read(true).mode(0o640).open(path)?;
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
    }
    if let Some(key) = key {
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        (&mut file).take(TAIL_BYTES).read_to_end(&mut tail)?;
        let written = |line: &[u8]| serde_json::from_slice::<serde_json::Value>(line).is_ok_and(|line| line["key"] == key);
        if tail.split(|byte| *byte == b'\n').any(written) {
            return Ok(false);
        }
    }
    // A line that a kill cut short is left as it is, on a line of its own.
    let gap = if last[0] == b'\n' { "" } else { "\n" };
    file.write_all(format!("{gap}{line}\n").as_bytes())?;
    file.sync_data()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::FaultKind;
    use crate::message::sample;

    #[tokio::test]
    async fn lines_are_appended_once_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tickets.log");
        std::fs::write(&path, "{\"cut sho").unwrap();
        let channel = TicketLog::new(TicketLogChannel { path: path.clone() });
        let mut message = sample("k-1", 5);
        message.labels.insert("pool".into(), "a\nb\"}\0".into());
        message.texts.get_mut("en").unwrap().title = "x\r\n{\"key\":\"k-2\"}".into();
        for (key, attempt, said) in [("k-1", 1, "written"), ("k-1", 2, "it was written before"), ("k-2", 2, "written")] {
            let message = Message { key: key.into(), attempt, ..message.clone() };
            assert_eq!(channel.deliver(&message, &mut Transcript::new()).await.unwrap().said, said);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        let ticket: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!((&ticket["ticket"], &ticket["labels"]["pool"]), (&json!("sample"), &json!("a\nb\"}\0")));
    }

    #[tokio::test]
    async fn a_missing_folder_is_waited_for() {
        let channel = TicketLog::new(TicketLogChannel { path: "/nonexistent/tickets.log".into() });
        let fault = channel.deliver(&sample("k", 0), &mut Transcript::new()).await.unwrap_err();
        assert_eq!(fault.text, "/nonexistent/tickets.log: No such file or directory (os error 2)");
        let channel = TicketLog::new(TicketLogChannel { path: "/dev/full".into() });
        let fault = channel.deliver(&sample("k", 0), &mut Transcript::new()).await.unwrap_err();
        assert_eq!((fault.kind, fault.text.as_str()), (FaultKind::Temporary, "/dev/full: No space left on device (os error 28)"));
    }
}
