//! What is measured, and how samples become one number.

use std::fmt;
use std::sync::Arc;

/// Something that is measured of a pool, a host or a machine. Shares are percent, 0 to 100; times are milliseconds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Metric {
    /// `cpu`: use of the virtual processors of a machine, or of the processors of a host, in percent.
    Cpu,
    /// `memory`: use of memory, in percent of what the machine or host has.
    Memory,
    /// `disk-read`: bytes a second.
    DiskRead,
    /// `disk-written`: bytes a second.
    DiskWritten,
    /// `disk-operations`: reads and writes a second.
    DiskOperations,
    /// `disk-latency`: mean time of a read or write, in milliseconds.
    DiskLatency,
    /// `net-received`: bytes a second.
    NetReceived,
    /// `net-sent`: bytes a second.
    NetSent,
    /// `cpu-pressure`: share of time in which somebody waited for a processor, in percent (PSI, "some").
    CpuPressure,
    /// `memory-pressure`: share of time in which somebody waited for memory, in percent.
    MemoryPressure,
    /// `io-pressure`: share of time in which somebody waited for a disk, in percent.
    IoPressure,
    /// `disk-space`: use of the storage pool, in percent.
    DiskSpace,
    /// `requests`: requests, sessions and flows that a pool took, a second.
    Requests,
    /// `requests-per-endpoint`: the same over the endpoints that serve.
    RequestsPerEndpoint,
    /// `in-flight`: requests and sessions under way.
    InFlight,
    /// `in-flight-per-endpoint`: the same over the endpoints that serve.
    InFlightPerEndpoint,
    /// `queue-length`: requests that wait for an endpoint.
    QueueLength,
    /// `queued`: requests that had to wait, a second.
    Queued,
    /// `queue-wait`: mean time of a request in the queue, in milliseconds.
    QueueWait,
    /// `latency-p50`: from the head of a request to the head of its response, in milliseconds.
    LatencyP50,
    /// `latency-p95`
    LatencyP95,
    /// `latency-p99`
    LatencyP99,
    /// `error-rate`: requests that an endpoint failed, in percent of all.
    ErrorRate,
    /// `healthy-share`: endpoints that are healthy, in percent of those that are enabled.
    HealthyShare,
    /// The name of a `[metric.NAME]`.
    External(Arc<str>),
}

/// Of whom a metric can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scopes {
    /// Of a pool.
    pub pool: bool,
    /// Of a host.
    pub host: bool,
    /// Of a machine.
    pub machine: bool,
}

impl Metric {
    /// All that are built in.
    pub const BUILT_IN: [Metric; 24] = [
        Metric::Cpu,
        Metric::Memory,
        Metric::DiskRead,
        Metric::DiskWritten,
        Metric::DiskOperations,
        Metric::DiskLatency,
        Metric::NetReceived,
        Metric::NetSent,
        Metric::CpuPressure,
        Metric::MemoryPressure,
        Metric::IoPressure,
        Metric::DiskSpace,
        Metric::Requests,
        Metric::RequestsPerEndpoint,
        Metric::InFlight,
        Metric::InFlightPerEndpoint,
        Metric::QueueLength,
        Metric::Queued,
        Metric::QueueWait,
        Metric::LatencyP50,
        Metric::LatencyP95,
        Metric::LatencyP99,
        Metric::ErrorRate,
        Metric::HealthyShare,
    ];

    /// As the file writes it.
    pub fn word(&self) -> &str {
        match self {
            Metric::Cpu => "cpu",
            Metric::Memory => "memory",
            Metric::DiskRead => "disk-read",
            Metric::DiskWritten => "disk-written",
            Metric::DiskOperations => "disk-operations",
            Metric::DiskLatency => "disk-latency",
            Metric::NetReceived => "net-received",
            Metric::NetSent => "net-sent",
            Metric::CpuPressure => "cpu-pressure",
            Metric::MemoryPressure => "memory-pressure",
            Metric::IoPressure => "io-pressure",
            Metric::DiskSpace => "disk-space",
            Metric::Requests => "requests",
            Metric::RequestsPerEndpoint => "requests-per-endpoint",
            Metric::InFlight => "in-flight",
            Metric::InFlightPerEndpoint => "in-flight-per-endpoint",
            Metric::QueueLength => "queue-length",
            Metric::Queued => "queued",
            Metric::QueueWait => "queue-wait",
            Metric::LatencyP50 => "latency-p50",
            Metric::LatencyP95 => "latency-p95",
            Metric::LatencyP99 => "latency-p99",
            Metric::ErrorRate => "error-rate",
            Metric::HealthyShare => "healthy-share",
            Metric::External(name) => name,
        }
    }

    /// The one that is built in under this word.
    pub fn built_in(word: &str) -> Option<Metric> {
        Metric::BUILT_IN.into_iter().find(|metric| metric.word() == word)
    }

    /// The unit, for people.
    pub fn unit(&self) -> &'static str {
        match self {
            Metric::DiskRead | Metric::DiskWritten | Metric::NetReceived | Metric::NetSent => "B/s",
            Metric::DiskOperations | Metric::Requests | Metric::RequestsPerEndpoint | Metric::Queued => "/s",
            Metric::DiskLatency | Metric::QueueWait | Metric::LatencyP50 | Metric::LatencyP95 | Metric::LatencyP99 => "ms",
            Metric::InFlight | Metric::InFlightPerEndpoint | Metric::QueueLength | Metric::External(_) => "",
            _ => "%",
        }
    }

    /// Of whom it can be asked. A machine's metric can be asked of a pool: then over the machines of it that serve.
    pub fn scopes(&self) -> Scopes {
        match self {
            Metric::Cpu | Metric::Memory => Scopes { pool: true, host: true, machine: true },
            Metric::DiskRead
            | Metric::DiskWritten
            | Metric::DiskOperations
            | Metric::DiskLatency
            | Metric::NetReceived
            | Metric::NetSent => Scopes { pool: true, host: false, machine: true },
            Metric::CpuPressure | Metric::MemoryPressure | Metric::IoPressure | Metric::DiskSpace => {
                Scopes { pool: false, host: true, machine: false }
            }
            Metric::External(_) => Scopes { pool: true, host: true, machine: true },
            _ => Scopes { pool: true, host: false, machine: false },
        }
    }

    /// Whether it is measured of machines, one by one.
    pub fn is_of_machines(&self) -> bool {
        self.scopes().machine && !matches!(self, Metric::External(_))
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How several samples become one number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Statistic {
    /// `average`
    Average,
    /// `sum`
    Sum,
    /// `minimum`
    Minimum,
    /// `maximum`
    Maximum,
    /// `p50`, `p95`, ...: below which this share, in percent, of the samples lies. 1 to 99.
    Percentile(u8),
}

impl Statistic {
    /// Reads `average`, `sum`, `minimum`, `maximum` or `p1` to `p99`.
    pub fn parse(word: &str) -> Option<Statistic> {
        match word {
            "average" => Some(Statistic::Average),
            "sum" => Some(Statistic::Sum),
            "minimum" => Some(Statistic::Minimum),
            "maximum" => Some(Statistic::Maximum),
            _ => {
                let percent = word.strip_prefix('p').filter(|digits| !digits.starts_with(['0', '+']))?;
                percent.parse().ok().filter(|percent| (1..=99).contains(percent)).map(Statistic::Percentile)
            }
        }
    }

    /// One number of the samples; `None`: there are none, or one is not a number.
    pub fn of(self, samples: &mut [f64]) -> Option<f64> {
        if samples.is_empty() || samples.iter().any(|sample| !sample.is_finite()) {
            return None;
        }
        let count = samples.len();
        let sum = || samples.iter().sum::<f64>();
        Some(match self {
            Statistic::Average => sum() / count as f64,
            Statistic::Sum => sum(),
            Statistic::Minimum => samples.iter().copied().fold(f64::INFINITY, f64::min),
            Statistic::Maximum => samples.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Statistic::Percentile(percent) => {
                samples.sort_unstable_by(f64::total_cmp);
                // Of the nearest rank: a value that was measured.
                let rank = (count * usize::from(percent)).div_ceil(100);
                samples[rank.clamp(1, count) - 1]
            }
        })
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statistic::Average => f.write_str("average"),
            Statistic::Sum => f.write_str("sum"),
            Statistic::Minimum => f.write_str("minimum"),
            Statistic::Maximum => f.write_str("maximum"),
            Statistic::Percentile(percent) => write!(f, "p{percent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_read_what_they_write() {
        for metric in Metric::BUILT_IN {
            assert_eq!(Metric::built_in(metric.word()), Some(metric.clone()));
            let Scopes { pool, host, machine } = metric.scopes();
            assert!(pool || host || machine, "{metric}");
        }
        assert_eq!(Metric::built_in("CPU"), None);
    }

    #[test]
    fn statistics_read_what_they_write() {
        for word in ["average", "sum", "minimum", "maximum", "p1", "p50", "p99"] {
            assert_eq!(Statistic::parse(word).map(|statistic| statistic.to_string()).as_deref(), Some(word));
        }
        for word in ["p0", "p100", "p05", "p+5", "p", "mean", ""] {
            assert_eq!(Statistic::parse(word), None, "{word}");
        }
    }

    #[test]
    fn samples_become_one_number() {
        let of = |statistic: &str, samples: &[f64]| Statistic::parse(statistic).unwrap().of(&mut samples.to_vec());
        let samples = [4.0, 1.0, 3.0, 2.0];
        for (statistic, expected) in
            [("average", 2.5), ("sum", 10.0), ("minimum", 1.0), ("maximum", 4.0), ("p50", 2.0), ("p75", 3.0), ("p99", 4.0), ("p1", 1.0)]
        {
            assert_eq!(of(statistic, &samples), Some(expected), "{statistic}");
        }
        assert_eq!(of("average", &[]), None);
        assert_eq!(of("maximum", &[1.0, f64::NAN]), None);
    }
}
