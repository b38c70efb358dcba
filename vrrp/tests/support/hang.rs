//! Makes a single thread of another process hang, by the kernel's means for debuggers: it is stopped where it is, or sent round in circles.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// How a thread hangs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hang {
    /// It does not run any more, as if it waited for something that never comes.
    Stopped,
    /// It runs, and comes to nothing. Only where its machine code is known (x86-64); elsewhere it is stopped too.
    Spinning,
}

/// A thread that hangs: until this is dropped where it was stopped, else for ever.
pub struct Hanging {
    thread: i32,
    is_running: bool,
    /// When it began.
    pub since: Instant,
}

/// How long a thread may work between two tries to catch it at it. No multiple of anything.
const BETWEEN_TRIES: Duration = Duration::from_micros(1_370);

/// The kernel's request, checked.
fn ptrace(request: libc::c_uint, thread: i32, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: the requests in here take numbers, or the address of a value of the kernel's layout that lives across the call.
    let result = unsafe { libc::ptrace(request, thread, address, data) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn stop(thread: i32) -> io::Result<()> {
    ptrace(libc::PTRACE_INTERRUPT, thread, 0, 0)?;
    let mut status = 0;
    // SAFETY: the kernel writes one number, which lives across the call.
    if unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) } != thread {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The thread of a process with this name.
pub fn thread_named(process: Pid, name: &str) -> Option<i32> {
    let folder = format!("/proc/{}/task", process.as_raw_nonzero());
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let found = fs::read_to_string(entry.path().join("comm")).ok()?;
        (found.trim() == name).then(|| entry.file_name().to_str()?.parse().ok()).flatten()
    })
}

/// Whether a stopped thread was waiting for work: a thread that hangs there has nothing to do. A look for work that does not wait is work.
fn waits(thread: i32) -> bool {
    let call = fs::read_to_string(format!("/proc/{thread}/syscall")).unwrap_or_default();
    let mut words = call.split_whitespace();
    let number = words.next().and_then(|word| word.parse::<libc::c_long>().ok());
    let timeout = words.nth(3);
    [libc::SYS_epoll_pwait, EPOLL_WAIT].into_iter().any(|wait| number == Some(wait)) && timeout != Some("0x0")
}

#[cfg(target_arch = "x86_64")]
const EPOLL_WAIT: libc::c_long = libc::SYS_epoll_wait;
#[cfg(not(target_arch = "x86_64"))]
const EPOLL_WAIT: libc::c_long = libc::SYS_epoll_pwait;

/// Makes a thread hang in the middle of its work. Tries again while it is caught waiting for some.
pub fn hang(thread: i32, how: Hang) -> Hanging {
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_running = how == Hang::Spinning && cfg!(target_arch = "x86_64");
    // Before it is stopped: all of its program is searched, and whoever stands still meanwhile is missed before it spins.
    #[cfg(target_arch = "x86_64")]
    let round = is_running.then(|| endless(thread).expect("two bytes of its code"));
    ptrace(libc::PTRACE_SEIZE, thread, 0, 0).expect("a thread of a child, as root");
    let since = loop {
        // Before it is stopped: this thread may be kept from running afterwards.
        let since = Instant::now();
        assert!(since < deadline, "it has no work");
        stop(thread).expect("it can be stopped");
        if !waits(thread) {
            break since;
        }
        ptrace(libc::PTRACE_CONT, thread, 0, 0).expect("it goes on");
        // Else it comes to nothing in between, and hangs already.
        std::thread::sleep(BETWEEN_TRIES);
    };
    #[cfg(target_arch = "x86_64")]
    if let Some(round) = round {
        send_round(thread, round);
    }
    Hanging { thread, is_running, since }
}

/// Lets a stopped thread go on at the instruction at `round`, which jumps to itself.
#[cfg(target_arch = "x86_64")]
fn send_round(thread: i32, round: u64) {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    ptrace(libc::PTRACE_GETREGS, thread, 0, (&raw mut registers).addr()).expect("its registers");
    registers.rip = round;
    // No system call is begun again.
    registers.orig_rax = u64::MAX;
    ptrace(libc::PTRACE_SETREGS, thread, 0, (&raw mut registers).addr()).expect("its registers");
    ptrace(libc::PTRACE_CONT, thread, 0, 0).expect("it goes on");
}

/// Where in the code of its process `jmp` to itself stands, by chance: these two bytes are in every larger program.
#[cfg(target_arch = "x86_64")]
fn endless(thread: i32) -> Option<u64> {
    use std::os::unix::fs::FileExt;
    let memory = fs::File::open(format!("/proc/{thread}/mem")).ok()?;
    let maps = fs::read_to_string(format!("/proc/{thread}/maps")).ok()?;
    maps.lines().filter(|line| line.contains(" r-xp ") && line.contains('/')).find_map(|line| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let mut code = vec![0; (end - start) as usize];
        memory.read_exact_at(&mut code, start).ok()?;
        Some(start + code.windows(2).position(|pair| pair == [0xeb, 0xfe])? as u64)
    })
}

impl Drop for Hanging {
    /// A traced thread has to be let go of, or its process cannot end. What spins goes on spinning.
    fn drop(&mut self) {
        // It may be dead by now.
        if self.is_running && stop(self.thread).is_err() {
            return;
        }
        let _ = ptrace(libc::PTRACE_DETACH, self.thread, 0, 0);
    }
}
