//! By a program of the operator's: the message as JSON on its standard input and in its environment. No shell is involved, so that nothing in a
//! message is a command; and nothing that the program started outlives its time.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use weir_config::ScriptChannel;

use super::{Channel, Delivery, Fault, Receipt};
use crate::message::Message;
use crate::transcript::Transcript;

/// Bytes kept of what a program prints.
const OUTPUT_BYTES_MAX: u64 = 8 * 1024;
/// Lines kept of it.
const OUTPUT_LINES_MAX: usize = 50;
/// Where a line was printed.
const OUT: usize = 0;
const ERR: usize = 1;
/// The exit status that asks for another attempt (`EX_TEMPFAIL` of sysexits).
const TRY_AGAIN: i32 = 75;

/// A program.
#[derive(Debug)]
pub struct Script {
    settings: ScriptChannel,
}

/// Kills a program and whatever it started when it is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // An error: nothing of it is left.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Script {
    /// One that runs this program.
    pub fn new(settings: ScriptChannel) -> Script {
        Script { settings }
    }

    async fn run(&self, message: &Message, transcript: &mut Transcript) -> Result<Receipt, Fault> {
        let (program, arguments) = self.settings.command.split_first().ok_or_else(|| Fault::permanent("no program to run"))?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(environment(message));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        transcript.us(self.settings.command.join(" "));
        // Whatever it does, it may have done it from here on.
        transcript.hand_over();
        let mut child = command.spawn().map_err(|error| Fault::permanent(format!("cannot run {program}: {error}")))?;
        let _group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let input = serde_json::to_vec(message).map_err(|error| Fault::permanent(error.to_string()))?;
        let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let write = async {
            if let Some(stdin) = &mut stdin {
                // An error: it does not want to know.
                let _ = stdin.write_all(&input).await;
            }
            drop(stdin);
        };
        let (out, mut said) = mpsc::unbounded_channel();
        let err = out.clone();
        let mut last = [String::new(), String::new()];
        // As it comes, so that it is there also of a program that does not end within its time.
        let keep = async {
            let mut left = OUTPUT_LINES_MAX;
            while let Some((source, line)) = said.recv().await {
                if left > 0 {
                    transcript.them(&line);
                    left -= 1;
                }
                last[source] = line;
            }
        };
        let ((), (), (), (), status) = tokio::join!(write, read(stdout, OUT, out), read(stderr, ERR, err), keep, child.wait());
        let status = status.map_err(|error| Fault::broken(transcript, format!("cannot wait for {program}: {error}")))?;
        transcript.note(status.to_string());
        let [out, err] = last.map(|line| transcript.clean(line));
        let why = if err.is_empty() { &out } else { &err };
        let said = if why.is_empty() { String::new() } else { format!(": {why}") };
        match status.code() {
            Some(0) => Ok(Receipt { reference: None, said: out }),
            Some(TRY_AGAIN) => Err(Fault::temporary(format!("{program} asks for another attempt{said}"))),
            Some(code) => Err(Fault::permanent(format!("{program} exits with {code}{said}"))),
            None => Err(Fault::temporary(format!("{program}: {status}{said}"))),
        }
    }
}

impl Channel for Script {
    fn deliver<'a>(&'a self, message: &'a Message, transcript: &'a mut Transcript) -> Delivery<'a> {
        Box::pin(self.run(message, transcript))
    }
}

/// What a program finds in its environment. A value with a zero byte cannot be passed, so there is none.
fn environment(message: &Message) -> Vec<(String, String)> {
    let text = message.text("en");
    let mut found = vec![
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("WEIR_KEY".to_owned(), message.key.clone()),
        ("WEIR_INCIDENT".to_owned(), message.incident.clone()),
        ("WEIR_KIND".to_owned(), message.kind.word().to_owned()),
        ("WEIR_SEVERITY".to_owned(), message.severity.word().to_owned()),
        ("WEIR_STATE".to_owned(), message.state.word().to_owned()),
        ("WEIR_TITLE".to_owned(), text.title.clone()),
        ("WEIR_TEXT".to_owned(), text.text.clone()),
        ("WEIR_NODE".to_owned(), message.node.clone()),
        ("WEIR_ATTEMPT".to_owned(), message.attempt.to_string()),
    ];
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let labels = message.labels.iter().filter(|(name, _)| is_name(name));
    found.extend(labels.map(|(name, value)| (format!("WEIR_LABEL_{}", name.to_ascii_uppercase()), value.clone())));
    found.iter_mut().for_each(|(_, value)| value.retain(|c| c != '\0'));
    found
}

/// Gives the lines of what is written. The rest is read so that the program is not held up.
async fn read(from: Option<impl AsyncRead + Unpin>, source: usize, lines: mpsc::UnboundedSender<(usize, String)>) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from).take(OUTPUT_BYTES_MAX);
    let mut line = Vec::new();
    // An error ends the text, no more.
    while from.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        // An error: nobody keeps it any more.
        let _ = lines.send((source, text));
        line.clear();
    }
    drop(lines);
    let _ = tokio::io::copy(&mut from.into_inner(), &mut tokio::io::sink()).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::FaultKind;
    use crate::message::sample;

    async fn run(script: &str, message: &Message) -> (Result<Receipt, Fault>, Transcript) {
        let channel = Script::new(ScriptChannel { command: vec!["/bin/sh".into(), "-c".into(), script.into()] });
        let mut transcript = Transcript::new();
        let result = channel.deliver(message, &mut transcript).await;
        (result, transcript)
    }

    #[tokio::test]
    async fn how_programs_end() {
        let message = sample("k", 0);
        for (script, kind, text) in [
            ("echo no >&2; exit 3", FaultKind::Permanent, "/bin/sh exits with 3: no"),
            ("echo later; exit 75", FaultKind::Temporary, "/bin/sh asks for another attempt: later"),
            ("kill -9 $$", FaultKind::Temporary, "/bin/sh: signal: 9 (SIGKILL)"),
        ] {
            let fault = run(script, &message).await.0.unwrap_err();
            assert_eq!((fault.kind, fault.text.as_str()), (kind, text));
        }
        assert_eq!(run("echo done", &message).await.0.unwrap().said, "done");
        let gone = Script::new(ScriptChannel { command: vec!["/nonexistent".into()] });
        assert_eq!(gone.deliver(&message, &mut Transcript::new()).await.unwrap_err().kind, FaultKind::Permanent);
    }

    /// What looks like a command in a label arrives as it is, on both ways.
    #[tokio::test]
    async fn nothing_in_a_message_is_a_command() {
        let folder = tempfile::tempdir().unwrap();
        let evil = format!("$(touch {0}/a)`touch {0}/b`;touch {0}/c\n'\"${{PATH}}\0 && touch {0}/d", folder.path().display());
        let mut message = sample("k", 0);
        message.labels.insert("pool".into(), evil.clone());
        message.labels.insert("LD_PRELOAD=x".into(), evil.clone());
        let (result, transcript) =
            run("env -0 | tr '\\0\\n' '\\n ' | grep LABEL; cat > \"$WEIR_LABEL_POOL\" 2>/dev/null; true", &message).await;
        assert!(result.is_ok(), "{result:?}");
        let printed: Vec<&str> = transcript.lines().iter().map(|line| line.text.as_str()).filter(|line| line.contains("LABEL_")).collect();
        assert_eq!(printed.len(), 2, "the command and one label: {printed:?}");
        assert!(printed[1].starts_with("WEIR_LABEL_POOL=$(touch "), "{printed:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let (_, transcript) = run("cat", &message).await;
        let said = transcript.lines().iter().find(|line| line.text.starts_with('{')).expect("the message as JSON");
        assert!(said.text.contains("\"key\":\"k\""));
    }

    #[tokio::test]
    async fn what_it_said_is_kept_also_of_one_that_does_not_end() {
        let channel = Script::new(ScriptChannel {
            command: ["/bin/sh", "-c", "echo calling; echo no line >&2; sleep 1000"].map(Into::into).to_vec(),
        });
        let message = sample("k", 0);
        // As long as it takes to say it.
        let mut limit = std::time::Duration::from_millis(500);
        loop {
            let mut transcript = Transcript::new();
            assert!(tokio::time::timeout(limit, channel.deliver(&message, &mut transcript)).await.is_err());
            let mut said: Vec<&str> = transcript.lines().iter().skip(1).map(|line| line.text.as_str()).collect();
            said.sort_unstable();
            if said == ["calling", "no line"] {
                break;
            }
            assert!(limit < std::time::Duration::from_secs(30), "{said:?}");
            limit *= 2;
        }
        let (result, transcript) = run("yes | head -c 100000; echo end", &sample("k", 0)).await;
        assert_eq!((result.unwrap().said.as_str(), transcript.lines().len()), ("y", OUTPUT_LINES_MAX + 2), "bounded");
    }

    #[tokio::test]
    async fn nothing_outlives_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", path.display());
        // As long as it takes to begin.
        let mut limit = std::time::Duration::from_millis(300);
        let pid = loop {
            assert!(tokio::time::timeout(limit, run(&script, &sample("k", 0))).await.is_err());
            match std::fs::read_to_string(&path) {
                Ok(pid) if pid.ends_with('\n') => break pid,
                _ => assert!(limit < std::time::Duration::from_secs(30), "it never begins"),
            }
            limit *= 2;
        };
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let gone = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).map_or(true, |stat| stat.contains(") Z "));
        while !gone() {
            assert!(std::time::Instant::now() < until, "the child of the program still runs");
            tokio::task::yield_now().await;
        }
    }
}
