//! Virtual routers without the rest of weir: for tests and experiments in network namespaces.
//!
//! Each argument is one router: `name=a interface=eth0 vrid=51 address=10.0.0.100/24 priority=250 interval=100 ...`, in one word each, put
//! together with commas. Lines on standard input are orders: `apply ROUTER...`, `eligible NAME yes|no`, `release NAME`, `status`, `stop`.
//! Lines on standard output are what happens, with the microseconds of the monotonic clock in front.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use weir_config::VipMode;
use weir_vrrp::machine::{Announcements, Config, Input, UnicastPeer, VirtualAddress};
use weir_vrrp::packet::{AdvertisementInterval, ChecksumForm, Family, Keys, Priority, Version, Vrid};
use weir_vrrp::shell::{Options, Report, ReportKind, RouterSpec, start};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    if let Some(status) = weir_vrrp::shell::guardian() {
        return status;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut options = Options::default();
    if words.iter().any(|word| word == "no-guardian") {
        options.guardian = None;
    }
    if words.iter().any(|word| word == "no-real-time") {
        options.real_time = false;
    }
    options.settings = words.iter().find_map(|word| word.strip_prefix("settings:")).map(Into::into);
    let handle = start(options)?;
    let reports = handle.reports().ok_or("the reports were taken")?;
    let said = Arc::new(Mutex::new(()));
    let printing = said.clone();
    std::thread::spawn(move || {
        for report in reports {
            let _one_at_a_time = printing.lock();
            print(&report);
        }
    });
    let routers = words.iter().filter(|word| word.contains('='));
    let specs = routers.map(|word| router(word)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<Arc<str>> = specs.iter().map(|spec| spec.config.name.clone()).collect();
    handle.apply(specs);
    for name in names {
        handle.tell(&name, Input::Eligible { eligible: true, reason: String::new() });
    }
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["apply", ref routers @ ..] => {
                handle.apply(routers.iter().map(|word| router(word)).collect::<Result<_, _>>()?);
            }
            ["eligible", name, word] => {
                let eligible = word == "yes";
                handle.tell(name, Input::Eligible { eligible, reason: if eligible { "".into() } else { "told so".into() } });
            }
            ["release", name] => {
                handle.tell(name, Input::Release);
            }
            ["status"] => {
                let _one_at_a_time = said.lock();
                let status = handle.status().ok_or("no answer")?;
                println!("- status guardian={} real-time={}", status.guardian, status.real_time);
                for router in status.routers {
                    let machine = router.machine;
                    let (name, family) = (&machine.config.name, machine.config.family.word());
                    let (state, mode) = (machine.state.word(), router.mode.word());
                    println!("- router {name} {family} state={state} mode={mode} held={:?} priority={}", router.held, machine.priority);
                    println!("- why {name} {family} {}", machine.explanation);
                    let counters = machine.counters;
                    println!("- counters {name} {family} {counters:?}");
                }
                println!("- links {:?}", status.links);
                println!("- end");
            }
            ["stop"] => break,
            _ => eprintln!("not understood: {line}"),
        }
    }
    handle.stop(Instant::now() + Duration::from_secs(3));
    Ok(())
}

fn print(report: &Report) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let at = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    let (name, family) = (&report.vip, report.family.word());
    match &report.kind {
        ReportKind::Transition(transition) => {
            println!("{at} transition {name} {family} {} {} {}", transition.from.word(), transition.to.word(), transition.why);
        }
        ReportKind::Event(event) => println!("{at} event {name} {family} {} {}", event.kind.word(), event.text),
        ReportKind::Warning(text) => println!("{at} warning {text}"),
    }
    let _ = std::io::stdout().flush();
}

fn router(word: &str) -> Result<RouterSpec, Failure> {
    let mut addresses = Vec::new();
    let mut peers = Vec::new();
    let (mut vrid, mut priority, mut interval, mut version) = (51u8, 250u8, 100u64, Version::V3);
    let (mut name, mut interface) = (String::from("vip"), String::from("eth0"));
    let (mut mode, mut checksum, mut preempt, mut keys) = (VipMode::Auto, ChecksumForm::PseudoHeader, true, None);
    let (mut source, mut group, mut follower, mut accept) = (None, None, false, true);
    let (mut refresh, mut preempt_delay) = (60_000u64, 0u64);
    for pair in word.split(',') {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("no value: {pair}"))?;
        match key {
            "name" => name = value.into(),
            "interface" => interface = value.into(),
            "vrid" => vrid = value.parse()?,
            "address" => {
                let (address, prefix_len) = value.split_once('/').ok_or("an address has a prefix length")?;
                addresses.push(VirtualAddress { address: address.parse()?, prefix_len: prefix_len.parse()? });
            }
            "priority" => priority = value.parse()?,
            "interval" => interval = value.parse()?,
            "version" => version = if value == "2" { Version::V2 } else { Version::V3 },
            "mode" => {
                mode = match value {
                    "tun" => VipMode::Tun,
                    "macvlan" => VipMode::Macvlan,
                    "interface" => VipMode::Interface,
                    _ => VipMode::Auto,
                }
            }
            "checksum" => checksum = if value == "rfc9568" { ChecksumForm::Rfc9568 } else { ChecksumForm::PseudoHeader },
            "preempt" => preempt = value == "yes",
            "preempt_delay" => preempt_delay = value.parse()?,
            "refresh" => refresh = value.parse()?,
            "peer" => peers.push(UnicastPeer { address: value.parse()?, ttl: (255, 255) }),
            "keys" => keys = Some(Arc::new(Keys::parse(&std::fs::read_to_string(value)?)?)),
            "source" => source = Some(value.parse()?),
            "group" => group = Some(value.into()),
            "follower" => follower = value == "yes",
            "accept" => accept = value == "yes",
            other => return Err(format!("unknown: {other}").into()),
        }
    }
    let first = addresses.first().ok_or("no address")?;
    let config = Config {
        family: Family::of(first.address),
        name: name.into(),
        interface: interface.into(),
        vrid: Vrid::new(vrid).ok_or("vrid 0")?,
        version,
        priority: Priority(priority),
        interval: AdvertisementInterval::from_duration(Duration::from_millis(interval), version).ok_or("interval")?,
        addresses,
        preempt,
        preempt_delay: Duration::from_millis(preempt_delay),
        startup_delay: Duration::ZERO,
        checksum,
        keys,
        peers,
        replay_window: Duration::from_secs(2),
        announce: Announcements { refresh: (refresh > 0).then(|| Duration::from_millis(refresh)), ..Announcements::default() },
        follower,
        shared: None,
    };
    Ok(RouterSpec { config, mode, accept, source, group })
}
