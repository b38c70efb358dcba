//! Programs of the operator's, run with a time limit: tracks and notifications. No shell, no input, and nothing is left running.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

/// Bytes kept of what a program complains about.
const COMPLAINT_BYTES_MAX: u64 = 1024;

/// How long what a program wrote before it ended may take to be read: another process that is being started holds a copy of the pipe until its exec.
const OUTPUT_WAIT: Duration = Duration::from_secs(1);

/// What the service manager and an upgrade told this process is not meant for what it runs.
const NOT_PASSED_ON: [&str; 4] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "WEIR_HANDOVER"];

/// Kills a program and whatever it started when it is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // An error: nothing of it is left.
            let _ = rustix::process::kill_process_group(id, Signal::KILL);
        }
    }
}

/// Runs a program to its end, at most so long.
///
/// # Errors
/// It cannot be started, takes too long, or does not exit with 0; in one line for people, with the first line of its complaint.
pub(crate) async fn run(command: &[String], environment: &[(&str, String)], limit: Duration) -> Result<(), String> {
    run_and_read(command, environment, limit, Stdio::null(), None).await.map(drop)
}

/// The same, with something on its standard input.
///
/// # Errors
/// As those of [`run`].
pub(crate) async fn run_with(command: &[String], environment: &[(&str, String)], limit: Duration, input: Vec<u8>) -> Result<(), String> {
    run_and_read(command, environment, limit, Stdio::null(), Some(input)).await.map(drop)
}

/// The same, and the first line of what it prints, at most a KiB of it.
///
/// # Errors
/// As those of [`run`].
pub(crate) async fn output(command: &[String], limit: Duration) -> Result<String, String> {
    run_and_read(command, &[], limit, Stdio::piped(), None).await
}

async fn run_and_read(
    command: &[String],
    environment: &[(&str, String)],
    limit: Duration,
    stdout: Stdio,
    input: Option<Vec<u8>>,
) -> Result<String, String> {
    let Some((program, arguments)) = command.split_first() else { return Err("no program to run".into()) };
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    for name in NOT_PASSED_ON {
        command.env_remove(name);
    }
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("cannot run {program}: {error}"))?;
    let _group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // An error: it does not want to know. It ends with the program, whose end of the pipe goes.
        tokio::spawn(async move { stdin.write_all(&input).await });
    }
    let stderr = child.stderr.take().expect("stderr is piped");
    let printed = child.stdout.take().map(|stdout| tokio::spawn(first_line(stdout)));
    let reading = tokio::spawn(first_line(stderr));
    let status = match timeout(limit, child.wait()).await {
        Ok(status) => status.map_err(|error| format!("cannot wait for {program}: {error}"))?,
        Err(_) => return Err(format!("{program} took longer than {} s", limit.as_secs_f64())),
    };
    if status.success() {
        let Some(printed) = printed else { return Ok(String::new()) };
        return Ok(timeout(OUTPUT_WAIT, printed).await.ok().and_then(Result::ok).unwrap_or_default());
    }
    // What it wrote before it ended is there already; what it left behind may hold the pipe open.
    let complaint = timeout(OUTPUT_WAIT, reading).await.ok().and_then(Result::ok).unwrap_or_default();
    let complaint = if complaint.is_empty() { complaint } else { format!(": {complaint}") };
    Err(match status.code() {
        Some(code) => format!("{program} exits with {code}{complaint}"),
        None => format!("{program}: {status}{complaint}"),
    })
}

/// The first line of what is written, without anything that could move a cursor. The rest is read so that the program is not held up.
async fn first_line(mut from: impl AsyncRead + Unpin) -> String {
    let mut start = Vec::new();
    // An error ends the text, no more.
    let _ = (&mut from).take(COMPLAINT_BYTES_MAX).read_to_end(&mut start).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    let text = String::from_utf8_lossy(&start);
    text.lines().next().unwrap_or_default().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn shell(script: &str, limit: Duration) -> Result<(), String> {
        run(&["/bin/sh".into(), "-c".into(), script.into()], &[("WEIR_VIP", "public".into())], limit).await
    }

    #[tokio::test]
    async fn how_programs_end() {
        assert_eq!(shell("test $WEIR_VIP = public", PATIENCE).await, Ok(()));
        assert_eq!(shell("echo said; exit 3", PATIENCE).await, Err("/bin/sh exits with 3".into()));
        assert_eq!(shell("printf 'no\\001link\\nmore\\n' >&2; exit 1", PATIENCE).await, Err("/bin/sh exits with 1: no link".into()));
        assert_eq!(shell("kill -9 $$", PATIENCE).await, Err("/bin/sh: signal: 9 (SIGKILL)".into()));
        assert_eq!(
            run(&["/nonexistent".into()], &[], PATIENCE).await,
            Err("cannot run /nonexistent: No such file or directory (os error 2)".into())
        );
    }

    #[tokio::test]
    async fn a_program_reads_what_it_is_given_or_not() {
        let run_it =
            async |script: &str, input: Vec<u8>| run_with(&["/bin/sh".into(), "-c".into(), script.into()], &[], PATIENCE, input).await;
        assert_eq!(run_it("test \"$(cat)\" = 'a b'", b"a b".to_vec()).await, Ok(()));
        assert_eq!(run_it("exit 0", vec![b'x'; 1 << 20]).await, Ok(()), "more than a pipe holds, and nobody reads it");
    }

    #[tokio::test]
    async fn nothing_outlives_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        // As long as it takes to begin.
        let mut limit = Duration::from_millis(300);
        let pid = loop {
            let error = shell(&format!("sleep 1000 & echo $! > {}; wait", path.display()), limit).await.unwrap_err();
            assert_eq!(error, format!("/bin/sh took longer than {} s", limit.as_secs_f64()));
            match std::fs::read_to_string(&path) {
                Ok(pid) if pid.ends_with('\n') => break pid,
                _ => assert!(limit < PATIENCE, "it never begins"),
            }
            limit *= 2;
        };
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        let until = std::time::Instant::now() + PATIENCE;
        while !gone() {
            assert!(std::time::Instant::now() < until, "the child of the program still runs");
            tokio::task::yield_now().await;
        }
    }
}
