//! A libvirtd, a folder, and `weir` in it.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::Daemon;
use crate::port::free_port;

/// How long anything here may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is so.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The program beside the one under test.
pub(crate) fn libvirt_program() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_weir")).with_file_name("weir-libvirt");
    assert!(program.exists(), "{} is not there: cargo build --workspace", program.display());
    program
}

/// A libvirtd and what `weir` is told of it.
pub(crate) struct Site {
    pub(crate) daemon: Daemon,
    pub(crate) folder: tempfile::TempDir,
    api: u16,
}

impl Site {
    /// With one host `a` and the template `web` of an image of nothing; `more` follows the template's lines.
    pub(crate) fn new(image_bytes: usize, more: &str) -> Site {
        let site = Site { daemon: Daemon::start(), folder: tempfile::tempdir().expect("a folder"), api: free_port() };
        let content: Vec<u8> = (0..image_bytes).map(|at| (at / 4096) as u8).collect();
        std::fs::write(site.path("web.img"), content).expect("written");
        site.write(&format!("{}{more}", site.text()));
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The usual file.
    pub(crate) fn text(&self) -> String {
        format!(
            "[node]\nname = \"lb-a\"\nworkers = 1\nstate_dir = {:?}\ndrain_timeout = \"1s\"\n[api]\nbind = \"127.0.0.1:{}\"\n{}",
            self.path("state"),
            self.api,
            self.machines()
        )
    }

    /// Host and template.
    pub(crate) fn machines(&self) -> String {
        format!(
            "[host.a]\nuri = {:?}\ninterval = \"200ms\"\ntimeout = \"30s\"\ndomain_type = \"qemu\"\n\
             [template.web]\nimage = {:?}\nmemory = \"64MiB\"\nbridge = \"weirbr0\"\n",
            self.daemon.uri(),
            self.path("web.img"),
        )
    }

    pub(crate) fn write(&self, text: &str) {
        self.write_to("weir.toml", text);
    }

    /// In one step: a node looks at its file when it likes.
    pub(crate) fn write_to(&self, name: &str, text: &str) {
        let aside = self.path(&format!("{name}.new"));
        std::fs::write(&aside, text).expect("written");
        std::fs::rename(aside, self.path(name)).expect("renamed");
    }

    /// Starts `weir` and waits until it has seen its host and leads.
    pub(crate) fn start(&self, environment: &[(&str, String)]) -> Weir {
        let weir = self.spawn(environment);
        until("the host answers and the node leads", || {
            let fleet = self.fleet();
            fleet["leads"] == true && fleet["hosts"].as_array().is_some_and(|hosts| hosts.iter().any(|host| host["state"] == "up"))
        });
        weir
    }

    /// Starts `weir`.
    pub(crate) fn spawn(&self, environment: &[(&str, String)]) -> Weir {
        let _ = libvirt_program();
        let log = std::fs::File::options().create(true).append(true).open(self.path("weir.log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--config"])
            .arg(self.path("weir.toml"))
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        Weir(child)
    }

    pub(crate) fn weir(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(words).args(["--api", &format!("127.0.0.1:{}", self.api)]).env_remove("SUDO_USER").env("USER", "alice");
        command.stdin(Stdio::null()).output().expect("it runs")
    }

    /// What a command that succeeds prints.
    #[track_caller]
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let output = self.weir(words);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "weir {words:?}: {printed}{}\n{}", String::from_utf8_lossy(&output.stderr), self.log());
        printed
    }

    /// What a command that fails prints, on either stream.
    #[track_caller]
    pub(crate) fn refused(&self, words: &[&str]) -> String {
        let output = self.weir(words);
        let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "weir {words:?}: {printed}");
        printed
    }

    pub(crate) fn fleet(&self) -> Value {
        serde_json::from_slice(&self.weir(&["status", "vm", "--json"]).stdout).unwrap_or_default()
    }

    /// Machines of ours.
    pub(crate) fn ours(&self) -> Vec<Value> {
        let machines = self.fleet()["machines"].as_array().cloned().unwrap_or_default();
        machines.into_iter().filter(|machine| machine["metadata"].is_object()).collect()
    }

    /// Names of the domains that libvirtd itself shows.
    pub(crate) fn domains(&self) -> Vec<String> {
        let output = Command::new("timeout").args(["60", "virsh", "-c", &self.daemon.uri(), "list", "--all", "--name"]).output();
        let text = String::from_utf8_lossy(&output.expect("virsh is there").stdout).into_owned();
        let mut names: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// A domain that is not ours under this name, with a disk of its own that lies among ours.
    pub(crate) fn make_foreign(&self, name: &str) {
        let disk = self.daemon.pool().join(format!("{name}.disk.img"));
        std::fs::create_dir_all(self.daemon.pool()).expect("a folder");
        std::fs::write(&disk, b"foreign").expect("written");
        let file = self.path("foreign.xml");
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices><disk type='file'>\
             <source file='{}'/><target dev='vda' bus='virtio'/></disk></devices></domain>",
            disk.display()
        );
        std::fs::write(&file, xml).expect("written");
        assert!(self.daemon.virsh(&["define", &file.display().to_string()]));
    }

    #[track_caller]
    pub(crate) fn check_foreign(&self, name: &str) {
        assert!(self.domains().contains(&name.to_owned()), "the foreign domain {name} is gone");
        let disk = self.daemon.pool().join(format!("{name}.disk.img"));
        assert_eq!(std::fs::read(&disk).ok().as_deref(), Some(&b"foreign"[..]), "{name}");
    }

    /// What `weir` wrote of late.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.path("weir.log")).unwrap_or_default();
        text.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// A running `weir`; killed when it is dropped.
pub(crate) struct Weir(Child);

impl Weir {
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("it is ours").is_some()
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        self.kill();
    }
}
