//! A libvirtd of the test's own: in namespaces of its own, which the kernel empties when the test ends in any way.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Seconds that `virsh` has while libvirtd is starting: one that connects then may wait for ever.
const PROBE: &str = "5";
/// And afterwards, also beside other tests on a busy machine.
const PATIENCE: &str = "60";

/// Needs root, and the packages that scripts/test installs.
pub(crate) struct Daemon {
    pub(crate) folder: tempfile::TempDir,
    child: Child,
}

/// Run inside the namespaces. `$1` is the folder.
const SCRIPT: &str = r#"
set -e
cd "$1"
mkdir -p run lib cache log etc/qemu pool /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /etc/libvirt
mount --bind run /run/libvirt
mount --bind lib /var/lib/libvirt
mount --bind cache /var/cache/libvirt
mount --bind log /var/log/libvirt
mount --bind etc /etc/libvirt
printf 'auth_unix_rw = "none"\n' >/etc/libvirt/libvirtd.conf
printf 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\ncgroup_controllers = []\nnamespaces = []\nstdio_handler = "logd"\n' >/etc/libvirt/qemu.conf
ip link set lo up
ip link add weirbr0 type bridge
ip link set weirbr0 up
virtlogd --daemon --pid-file /run/libvirt/virtlogd.pid
# Not as the first process, which is everybody's parent: libvirtd would miss its own children among strangers.
# Started again when it ends, unless there is a file that says no.
while :; do
    libvirtd --pid-file /run/libvirt/libvirtd.pid &
    wait $! || true
    while [ -e stopped ]; do sleep 0.05; done
done
"#;

impl Daemon {
    pub(crate) fn start() -> Daemon {
        let folder = tempfile::tempdir().expect("a folder");
        let log = std::fs::File::create(folder.path().join("daemon.log")).expect("writable");
        let child = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", SCRIPT, "bash"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("unshare is there (package util-linux)");
        let daemon = Daemon { folder, child };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !daemon.virsh_within(PROBE, &["uri"]) {
            let log = || std::fs::read_to_string(daemon.folder.path().join("daemon.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "libvirtd does not start; root and the packages of scripts/test are needed:\n{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        let pool = daemon.pool();
        assert!(daemon.virsh(&["pool-define-as", "default", "dir", "--target", &pool.display().to_string()]));
        daemon
    }

    pub(crate) fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.folder.path().join("run/libvirt-sock").display())
    }

    pub(crate) fn pool(&self) -> PathBuf {
        self.folder.path().join("pool")
    }

    pub(crate) fn virsh(&self, arguments: &[&str]) -> bool {
        self.virsh_within(PATIENCE, arguments)
    }

    fn virsh_within(&self, seconds: &str, arguments: &[&str]) -> bool {
        let mut command = Command::new("timeout");
        command
            .args([seconds, "virsh", "-c", &self.uri()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().expect("virsh is there (package libvirt-clients)").success()
    }

    /// libvirtd itself, by its process id.
    fn libvirtd(&self) -> String {
        let children = |parent: u32| std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let pids = |text: String| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>();
        let inside: Vec<u32> = pids(children(self.child.id())).into_iter().flat_map(|shell| pids(children(shell))).collect();
        let name = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        inside.iter().find(|pid| name(pid).trim() == "libvirtd").expect("libvirtd runs").to_string()
    }

    /// Sends libvirtd itself a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.libvirtd()]).status().expect("kill is there");
        assert!(status.success());
    }

    /// What it starts from now on may have so much address space; `u64::MAX`: any. It keeps what it has itself.
    #[allow(dead_code)] // not every test that starts one starves it
    pub(crate) fn limit_memory(&self, bytes: u64) {
        let limit = if bytes == u64::MAX { "unlimited".to_owned() } else { bytes.to_string() };
        // The soft limit alone, so that it can be raised again.
        let words = ["--pid", &self.libvirtd(), &format!("--as={limit}:")];
        assert!(Command::new("prlimit").args(words).status().expect("prlimit is there (package util-linux)").success());
    }

    /// Runs a command, of words between spaces, in its network.
    #[allow(dead_code)] // not every test that starts one looks inside
    pub(crate) fn inside(&self, command: &str) {
        let mut words = Command::new("timeout");
        words.args([PATIENCE, "nsenter", "--target", &self.libvirtd(), "--net"]).args(command.split(' ')).stdin(Stdio::null());
        let output = words.output().expect("nsenter is there (package util-linux)");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What it and its helpers wrote.
    #[allow(dead_code)] // the same
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("daemon.log")).unwrap_or_default()
    }

    /// Ends libvirtd; it stays away. What it runs goes on.
    #[allow(dead_code)] // not every test that starts one stops it
    pub(crate) fn stop(&self) {
        std::fs::write(self.folder.path().join("stopped"), "").expect("writable");
        self.signal("KILL");
    }

    /// Lets it start again.
    #[allow(dead_code)] // the same
    pub(crate) fn go_on(&self) {
        std::fs::remove_file(self.folder.path().join("stopped")).expect("it was stopped");
    }

    pub(crate) fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = read(&self.pool()).collect();
        names.sort();
        names
    }
}

fn read(folder: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.file_name().to_string_lossy().into_owned())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The first process of the namespace takes all others with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
