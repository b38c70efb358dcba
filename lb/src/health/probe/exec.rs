//! A program and its exit status.

use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{Failure, LINGER, Phase, Progress, Subject};

/// What is kept of each output of a program.
const OUTPUT_BYTES_MAX: usize = 4 * 1024;
/// What of it goes into the reason, in bytes.
const OUTPUT_LINE_MAX: usize = 200;

/// A program and everything it started, which is killed unless it ended in order.
struct Group {
    child: Child,
    id: Option<rustix::process::Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // Nobody is left to kill: then it is done.
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

pub(super) async fn exec(command: &[String], subject: Subject<'_>, progress: &Progress) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Failure::endpoint("no program to run") };
    progress.enter(Phase::Running);
    let mut child = Command::new(program)
        .args(arguments)
        .env("WEIR_POOL", subject.pool)
        .env("WEIR_ENDPOINT", subject.endpoint.to_string())
        .env("WEIR_HOST", subject.address.ip().to_string())
        .env("WEIR_PORT", subject.address.port().to_string())
        // What the service manager and an upgrade told this process is not meant for what it runs.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID")
        .env_remove("WEIR_HANDOVER")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::io(&format!("run {program}"), &error))?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    let mut group = Group { child, id };

    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let status = {
        let outputs = async { tokio::join!(keep_start(stdout, &mut said), keep_start(stderr, &mut complained)) };
        tokio::pin!(outputs);
        let mut closed = false;
        let status = loop {
            tokio::select! {
                status = group.child.wait() => break status,
                _ = &mut outputs, if !closed => closed = true,
            }
        };
        if status.as_ref().is_ok_and(|status| status.success()) {
            progress.enter(Phase::Closing);
        }
        // What it wrote before it ended is there already; something it left behind in the background may hold the pipes open for ever, and
        // is killed with its group.
        if closed || timeout(LINGER, &mut outputs).await.is_ok() {
            group.id = None;
        }
        status
    };
    let status = status.map_err(|error| Failure::io(&format!("run {program}"), &error))?;
    if status.success() {
        return Ok(());
    }
    let line = [&complained, &said].into_iter().find_map(|output| first_line(output)).map_or(String::new(), |line| format!(": {line}"));
    Failure::endpoint(match status.code() {
        Some(code) => format!("exit status {code}{line}"),
        None => format!("{status}{line}"),
    })
}

/// Reads to the end so that the program is never blocked by a full pipe, and keeps the beginning.
async fn keep_start(mut from: impl AsyncRead + Unpin, kept: &mut Vec<u8>) {
    let mut scratch = [0; 1024];
    while let Ok(n @ 1..) = from.read(&mut scratch).await {
        let room = OUTPUT_BYTES_MAX - kept.len();
        kept.extend_from_slice(&scratch[..n.min(room)]);
    }
}

/// The first line that says something, without control characters.
fn first_line(output: &[u8]) -> Option<String> {
    let line = output.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty())?;
    let text = String::from_utf8_lossy(&line[..line.len().min(OUTPUT_LINE_MAX)]);
    Some(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_output_is_tamed() {
        assert_eq!(first_line(b"\n  \nbad \x1b[31mthing\r\nmore"), Some("bad  [31mthing".into()));
        assert_eq!(first_line(b" \n"), None);
        assert_eq!(first_line(&[b'x'; 4096]).unwrap().len(), OUTPUT_LINE_MAX);
    }
}
