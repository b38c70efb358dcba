//! Programs with a deadline, and conditions that are waited for.

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::LabError;

/// No helper program may take longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A command from words that are split at spaces, and further arguments as they are.
pub(crate) fn words(line: &str) -> Command {
    let mut words = line.split_ascii_whitespace();
    let mut command = Command::new(words.next().expect("a command has a name"));
    command.args(words);
    command
}

/// Runs to the end and gives what it printed; an error holds everything that it said.
pub(crate) fn run(command: &mut Command) -> Result<String, LabError> {
    run_within(command, DEADLINE)
}

/// Like [`run`], with another deadline.
pub(crate) fn run_within(command: &mut Command, deadline: Duration) -> Result<String, LabError> {
    let line = line(command);
    let failed = |reason: String| LabError::Command { command: line.clone(), reason };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let output = drain(child.stdout.take());
    let errors = drain(child.stderr.take());
    let status = wait_child(&mut child, deadline).map_err(|error| failed(error.to_string()))?;
    let Some(status) = status else {
        return Err(failed(format!("no end after {} s, killed", deadline.as_secs_f64())));
    };
    // A daemon that it left behind may hold the pipes: what was said until now is enough then.
    let (output, errors) = (output.finish(), errors.finish());
    if status.success() {
        return Ok(output);
    }
    let how = status.code().map_or_else(|| format!("signal {}", status.signal().unwrap_or(0)), |code| format!("exit status {code}"));
    Err(failed(format!("{how}: {}", format!("{output}{errors}").trim())))
}

/// Waits for the end of a child, and kills it at the deadline: then there is no status.
pub(crate) fn wait_child(child: &mut Child, deadline: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LOOK);
    }
}

/// What a pipe carries, read aside so that neither pipe can fill up.
struct Drain(Option<thread::JoinHandle<String>>);

fn drain(pipe: Option<impl Read + Send + 'static>) -> Drain {
    Drain(pipe.map(|mut pipe| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }))
}

impl Drain {
    fn finish(self) -> String {
        let Some(reader) = self.0 else { return String::new() };
        let end = Instant::now() + Duration::from_secs(30);
        while !reader.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_micros(200));
        }
        if reader.is_finished() { reader.join().unwrap_or_default() } else { String::new() }
    }
}

/// The command line as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Looks until `condition` gives something, or the deadline is over.
///
/// # Errors
///
/// [`LabError::Deadline`] with `what` in it.
pub fn wait_for<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T, LabError> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = condition() {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(LabError::Deadline { what: what.to_owned(), seconds: deadline.as_secs_f64() });
        }
        thread::sleep(LOOK);
    }
}
