//! The guest image, out of Debian packages and the files in `guest/`: a kernel, an initramfs and a disk.
//!
//! Built once and kept in `target/lab`, under the hash of everything that went in. The disk is a qcow2 file with an ext4 file system, so that
//! an overlay on it means something; nothing of the machine is mounted or installed for it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::LabError;
use crate::command::{run, run_within, words};

/// Goes into the hash: to be raised when the way an image is built changes.
const RECIPE: u32 = 3;
/// What the kernel package is called by; it names the real one.
const KERNEL: &str = "linux-image-cloud-amd64";
/// QEMU's guest agent, and whose libraries it needs.
const AGENT: &[&str] = &["qemu-guest-agent", "libc6", "libglib2.0-0", "libnuma1", "libpcre2-8-0", "libudev1", "liburing2"];
/// Its libraries, as it names them.
const LIBRARIES: &[&str] = &[
    "libc.so.6",
    "libm.so.6",
    "libglib-2.0.so.0",
    "libgmodule-2.0.so.0",
    "libnuma.so.1",
    "libpcre2-8.so.0",
    "libudev.so.1",
    "liburing.so.2",
];
/// Size of the guest's disk in MiB.
const DISK_MIB: u32 = 128;
/// Modules that the initramfs loads, in this order. The kernel has ext4 built in, but nothing of virtio.
const MODULES: &[&str] = &[
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_balloon",
    "virtio_console",
    "virtio-rng",
    "evdev",
    "button",
];
/// Modules that are loaded when a seed is there.
const SEED_MODULES: &[&str] = &["cdrom", "isofs", "fat", "nls_cp437", "nls_ascii", "vfat"];

/// A guest that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The folder with everything.
    pub folder: PathBuf,
    /// For direct boot: `<kernel>`.
    pub kernel: PathBuf,
    /// For direct boot: `<initrd>`.
    pub initramfs: PathBuf,
    /// The qcow2 disk; not to be written to, for all labs share it.
    pub disk: PathBuf,
}

impl Image {
    /// What `<cmdline>` must hold: the console. The root file system is found by its label.
    pub const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check cryptomgr.notests";

    fn at(folder: PathBuf) -> Self {
        Self { kernel: folder.join("kernel"), initramfs: folder.join("initramfs"), disk: folder.join("disk.qcow2"), folder }
    }

    /// The image for the files of this source tree: the one kept, or a new one, which takes some seconds.
    ///
    /// # Errors
    ///
    /// A program or package that is missing, or whatever the building programs say.
    pub fn get() -> Result<Self, LabError> {
        let home = home();
        fs::create_dir_all(&home).map_err(LabError::file(&home))?;
        let lock = home.join("lock");
        let held = File::options().create(true).truncate(false).write(true).open(&lock).map_err(LabError::file(&lock))?;
        flock(&held, FlockOperation::LockExclusive).map_err(|error| LabError::file(&lock)(error.into()))?;
        let packages = packages(&home)?;
        let image = Self::at(home.join(format!("image-{}", key(&packages)?)));
        if !image.disk.exists() {
            let draft = home.join("draft");
            let _ = fs::remove_dir_all(&draft);
            fs::create_dir(&draft).map_err(LabError::file(&draft))?;
            build(&draft, &packages)?;
            fs::rename(&draft, &image.folder).map_err(LabError::file(&image.folder))?;
        }
        Ok(image)
    }
}

/// Where images and packages are kept.
pub(crate) fn home() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let home = target.join("lab");
    // libvirt wants absolute paths, and a person short ones.
    let mut plain = PathBuf::new();
    for part in std::path::absolute(&home).unwrap_or(home).components() {
        match part {
            std::path::Component::ParentDir => _ = plain.pop(),
            part => plain.push(part),
        }
    }
    plain
}

/// The guest's sources.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest")
}

/// The packages as files, fetched if they are not kept yet. Kept ones are good: newer ones do not make a better test.
fn packages(home: &Path) -> Result<Vec<PathBuf>, LabError> {
    let kept = home.join("packages");
    if !kept.exists() {
        let fetch = home.join("fetch");
        let _ = fs::remove_dir_all(&fetch);
        fs::create_dir(&fetch).map_err(LabError::file(&fetch))?;
        if download(&fetch).is_err() {
            // The lists may be missing, or so old that what they name is gone.
            run_within(&mut words("apt-get update -q"), Duration::from_secs(300))?;
            download(&fetch)?;
        }
        fs::rename(&fetch, &kept).map_err(LabError::file(&kept))?;
    }
    let files: BTreeSet<PathBuf> = fs::read_dir(&kept).map_err(LabError::file(&kept))?.flatten().map(|entry| entry.path()).collect();
    Ok(files.into_iter().collect())
}

fn download(to: &Path) -> Result<(), LabError> {
    let depends = run(&mut words(&format!("apt-cache depends --important {KERNEL}")))?;
    let kernel = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).unwrap_or(KERNEL);
    let mut command = words("apt-get download -q");
    run_within(command.arg(kernel).args(AGENT).current_dir(to), Duration::from_secs(300)).map(drop)
}

/// What identifies an image: everything that goes in.
fn key(packages: &[PathBuf]) -> Result<String, LabError> {
    let mut hash = Sha256::new();
    let names: Vec<_> = packages.iter().map(|package| package.file_name()).collect();
    hash.update(format!("{RECIPE} {DISK_MIB} {MODULES:?} {SEED_MODULES:?} {names:?}\n"));
    let busybox = busybox()?;
    let bytes = fs::read(&busybox).map_err(LabError::file(&busybox))?;
    hash.update(&bytes);
    let folder = sources();
    let files: BTreeSet<PathBuf> = fs::read_dir(&folder).map_err(LabError::file(&folder))?.flatten().map(|entry| entry.path()).collect();
    for file in files {
        hash.update(file.file_name().expect("a file has a name").as_encoded_bytes());
        hash.update(fs::read(&file).map_err(LabError::file(&file))?);
    }
    Ok(hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}

fn busybox() -> Result<PathBuf, LabError> {
    let path = PathBuf::from("/usr/bin/busybox");
    // The one of the package busybox needs libraries, which the image does not have: it names their loader.
    let loader = b"/ld-linux";
    let is_static = fs::read(&path).is_ok_and(|bytes| !bytes.windows(loader.len()).any(|window| window == loader));
    if is_static { Ok(path) } else { Err(LabError::Missing { program: "a static busybox", package: "busybox-static" }) }
}

fn build(draft: &Path, packages: &[PathBuf]) -> Result<(), LabError> {
    let unpacked = draft.join("package");
    for package in packages {
        run_within(Command::new("dpkg").arg("-x").arg(package).arg(&unpacked), Duration::from_secs(120))?;
    }
    let kernel = find(&unpacked.join("boot"), &|name| name.starts_with("vmlinuz-"));
    let kernel = kernel.ok_or_else(|| LabError::Options(format!("the package of {KERNEL} holds no kernel")))?;
    let image = fs::read(&kernel).map_err(LabError::file(&kernel))?;
    let to = draft.join("kernel");
    fs::write(&to, crate::kernel::unpacked(&image).unwrap_or(image)).map_err(LabError::file(&to))?;
    build_initramfs(draft, &unpacked)?;
    build_disk(draft, &unpacked)?;
    for folder in ["package", "initramfs.d", "root.d"] {
        let folder = draft.join(folder);
        fs::remove_dir_all(&folder).map_err(LabError::file(&folder))?;
    }
    Ok(())
}

fn build_initramfs(draft: &Path, unpacked: &Path) -> Result<(), LabError> {
    let root = draft.join("initramfs.d");
    folders(&root, &["bin", "dev", "proc", "sys", "root", "modules"])?;
    copy(&busybox()?, &root.join("bin/busybox"), 0o755)?;
    copy(&sources().join("init"), &root.join("init"), 0o755)?;
    modules(unpacked, MODULES, &root.join("modules"))?;
    write(&root.join("modules/order"), &MODULES.join("\n"))?;
    // Not compressed: the guest's processor is slower at unpacking than the machine at copying.
    let pack = format!(
        "cd {} && find . | {} cpio -o -H newc 2>/dev/null >{}",
        quoted(&root),
        "/usr/bin/busybox",
        quoted(&draft.join("initramfs"))
    );
    run(Command::new("/usr/bin/busybox").args(["sh", "-c", &pack])).map(drop)
}

fn build_disk(draft: &Path, unpacked: &Path) -> Result<(), LabError> {
    let root = draft.join("root.d");
    folders(&root, &["bin", "sbin", "dev", "proc", "sys", "run", "tmp", "root", "modules", "etc/acpi/PWRF", "var/lib"])?;
    copy(&busybox()?, &root.join("bin/busybox"), 0o755)?;
    for applet in run(&mut words("/usr/bin/busybox --list"))?.lines().filter(|applet| *applet != "busybox" && *applet != "init") {
        let path = root.join("bin").join(applet);
        symlink("busybox", &path).map_err(LabError::file(&path))?;
    }
    let guest = sources();
    for (from, to, mode) in [
        ("rc", "sbin/init", 0o755),
        ("inittab", "etc/inittab", 0o644),
        ("network", "etc/network", 0o755),
        ("serve", "etc/serve", 0o755),
        ("udhcpc", "etc/udhcpc", 0o755),
        ("power", "etc/acpi/PWRF/00000080", 0o755),
        ("agent", "etc/agent", 0o755),
        ("shutdown", "sbin/shutdown", 0o755),
    ] {
        copy(&guest.join(from), &root.join(to), mode)?;
    }
    modules(unpacked, SEED_MODULES, &root.join("modules"))?;
    agent(unpacked, &root)?;
    write(&root.join("etc/passwd"), "root::0:0:root:/root:/bin/sh\n")?;
    compile(&root.join("bin/guest"))?;
    let raw = draft.join("disk.raw");
    let mut make = words("mke2fs -q -t ext4 -F -L weir-guest -E lazy_itable_init=1,root_owner=0:0,nodiscard -J size=4 -m 0 -d");
    run(make.arg(&root).arg(&raw).arg(format!("{DISK_MIB}m")))?;
    run(words("qemu-img convert -f raw -O qcow2").arg(&raw).arg(draft.join("disk.qcow2")))?;
    fs::remove_file(&raw).map_err(LabError::file(&raw))
}

/// The guest's program: static, for there is no library in the image.
fn compile(output: &Path) -> Result<(), LabError> {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(compiler);
    command.args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "--crate-name", "guest", "-o"]);
    run_within(command.arg(output).arg(sources().join("main.rs")), Duration::from_secs(120)).map(drop)
}

/// The guest agent with its libraries, and the one program that it calls by its path.
fn agent(unpacked: &Path, root: &Path) -> Result<(), LabError> {
    folders(root, &["lib64", "lib"])?;
    copy(&unpacked.join("usr/sbin/qemu-ga"), &root.join("sbin/qemu-ga"), 0o755)?;
    for (names, to) in [(LIBRARIES, "lib"), (&["ld-linux-x86-64.so.2"][..], "lib64")] {
        for name in names {
            let found = ["lib", "usr/lib"].iter().find_map(|folder| find(&unpacked.join(folder), &|candidate| candidate == *name));
            let found = found.ok_or_else(|| LabError::Options(format!("no package holds {name}")))?;
            copy(&found, &root.join(to).join(name), 0o755)?;
        }
    }
    symlink("../bin/busybox", root.join("sbin/hwclock")).map_err(LabError::file(root.join("sbin/hwclock")))
}

/// Copies modules, wherever the kernel's package has them.
fn modules(unpacked: &Path, names: &[&str], to: &Path) -> Result<(), LabError> {
    let tree = unpacked.join("lib/modules");
    for name in names {
        let file = format!("{name}.ko");
        let found = find(&tree, &|candidate| candidate == file)
            .ok_or_else(|| LabError::Options(format!("the kernel's package holds no module {name}")))?;
        copy(&found, &to.join(&file), 0o644)?;
    }
    Ok(())
}

fn find(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let entries: BTreeSet<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.into_iter().find_map(|path| {
        if path.is_dir() && !path.is_symlink() {
            find(&path, wanted)
        } else {
            path.file_name()?.to_str().is_some_and(wanted).then_some(path)
        }
    })
}

fn folders(root: &Path, names: &[&str]) -> Result<(), LabError> {
    names.iter().try_for_each(|name| {
        let path = root.join(name);
        fs::create_dir_all(&path).map_err(LabError::file(&path))
    })
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), LabError> {
    fs::copy(from, to).map_err(LabError::file(from))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).map_err(LabError::file(to))
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, format!("{text}\n")).map_err(LabError::file(path))
}

/// A path as one word for a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
