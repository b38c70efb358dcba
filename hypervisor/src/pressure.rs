//! How much a host's tasks wait for what they lack: the kernel's pressure stall information (Linux, Documentation/accounting/psi.rst).

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use serde::Serialize;

/// Pressure on a host. *Some*: at least one task waited; *full*: all of them did.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Pressure {
    /// Some task waited for a processor.
    pub cpu_some: Stall,
    /// Some task waited for memory.
    pub memory_some: Stall,
    /// All did.
    pub memory_full: Stall,
    /// Some task waited for a disk.
    pub io_some: Stall,
    /// All did.
    pub io_full: Stall,
}

/// Time spent waiting.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Stall {
    /// Share of the last ten seconds, 0 to 1.
    pub share: f64,
    /// Seconds since the host started.
    pub stalled_s: f64,
}

impl Pressure {
    /// From the kernel's three files; `None`: one of them is something else.
    pub fn parse(cpu: &str, memory: &str, io: &str) -> Option<Pressure> {
        Some(Pressure {
            cpu_some: Stall::find(cpu, "some")?,
            memory_some: Stall::find(memory, "some")?,
            memory_full: Stall::find(memory, "full")?,
            io_some: Stall::find(io, "some")?,
            io_full: Stall::find(io, "full")?,
        })
    }

    /// Each kind, by what lacked and who waited.
    pub fn each(&self) -> [(&'static str, &'static str, Stall); 5] {
        [
            ("cpu", "some", self.cpu_some),
            ("memory", "some", self.memory_some),
            ("memory", "full", self.memory_full),
            ("io", "some", self.io_some),
            ("io", "full", self.io_full),
        ]
    }
}

impl Stall {
    /// `some avg10=0.12 avg60=0.00 avg300=0.00 total=345`: percent, and microseconds.
    fn find(text: &str, word: &str) -> Option<Stall> {
        let line = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))?;
        let value = |key: &str| line.split(' ').find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
        let percent: f64 = value("avg10")?.parse().ok()?;
        let total: u64 = value("total")?.trim().parse().ok()?;
        percent.is_finite().then(|| Stall { share: (percent / 100.0).clamp(0.0, 1.0), stalled_s: total as f64 / 1e6 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let some = "some avg10=12.50 avg60=0.00 avg300=0.00 total=2500000\n";
        let both = format!("{some}full avg10=1.00 avg60=0.00 avg300=0.00 total=7\n");
        let pressure = Pressure::parse(some, &both, &both).expect("well formed");
        assert_eq!(pressure.cpu_some, Stall { share: 0.125, stalled_s: 2.5 });
        assert_eq!(pressure.io_full, Stall { share: 0.01, stalled_s: 7e-6 });
        for wrong in ["", "some", "some avg10=x total=1", "some avg10=NaN total=1", "some avg10=1.0", "full avg10=1.0 total=1"] {
            assert_eq!(Pressure::parse(wrong, &both, &both), None, "{wrong:?}");
        }
    }
}
