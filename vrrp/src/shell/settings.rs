//! Settings of interfaces that are changed while the kernel shall not speak for our addresses, and how they come back after this process was
//! killed: what they were is written down before anything is changed, and the next start puts it back.
//!
//! A boot or another network namespace has settings of its own; what was written down in another one means nothing.

use std::fs;
use std::io::Read;
use std::path::Path;

/// Settings of an interface that are 0, and what they are while the kernel shall not speak for our addresses.
pub(crate) const HUSHED: [(&str, &str); 2] = [("arp_ignore", "1"), ("arp_announce", "2")];

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Where a setting of an interface is.
pub(crate) fn path(interface: &str, setting: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{interface}/{setting}")
}

/// Whether a setting of an interface has a value now.
pub(crate) fn is(interface: &str, setting: &str, value: &str) -> bool {
    fs::read_to_string(path(interface, setting)).is_ok_and(|found| found.trim() == value)
}

/// Those settings of an interface that may be changed: they are 0.
pub(crate) fn changeable(interface: &str) -> impl Iterator<Item = &'static str> {
    HUSHED.into_iter().map(|(setting, _)| setting).filter(move |setting| is(interface, setting, "0"))
}

/// This boot and this network namespace.
fn here() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = fs::read_link("/proc/thread-self/ns/net").unwrap_or_default();
    format!("{} {}", boot.trim(), space.display())
}

/// What is written down: where, and a line for each setting that may be changed.
fn write(here: &str, settings: &[(String, &str)]) -> String {
    let lines: String = settings.iter().map(|(interface, setting)| format!("{interface} {setting}\n")).collect();
    format!("{here}\n{lines}")
}

/// The settings of a file that was written here, with the values they have while they are changed.
fn read<'a>(here: &str, text: &'a str) -> Vec<(&'a str, &'static str, &'static str)> {
    let Some((place, lines)) = text.split_once('\n') else { return Vec::new() };
    if place != here {
        return Vec::new();
    }
    let entry = |line: &'a str| {
        let (interface, name) = line.split_once(' ')?;
        let (setting, value) = HUSHED.into_iter().find(|(setting, _)| *setting == name)?;
        let is_name = !interface.is_empty() && !interface.contains('/') && interface != "." && interface != "..";
        is_name.then_some((interface, setting, value))
    };
    lines.lines().filter_map(entry).collect()
}

/// Writes down which settings may be changed from now on. None: the file is removed.
pub(crate) fn note(file: &Path, settings: &[(String, &str)]) -> std::io::Result<()> {
    if settings.is_empty() {
        return match fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    fs::write(file, write(&here(), settings))
}

/// Puts back what a process that was killed left changed.
pub(crate) fn restore(file: &Path) {
    let mut text = String::new();
    // There is none after a clean end, and none before the first start.
    if fs::File::open(file).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text)).is_err() {
        return;
    }
    for (interface, setting, value) in read(&here(), &text) {
        if is(interface, setting, value) {
            // The interface may be gone since.
            let _ = fs::write(path(interface, setting), "0");
        }
    }
    let _ = fs::remove_file(file);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_in_the_same_place_alone() {
        let settings = [("eth0".to_owned(), "arp_ignore"), ("eth0.7".to_owned(), "arp_announce")];
        let text = write("boot net:[1]", &settings);
        assert_eq!(read("boot net:[1]", &text), [("eth0", "arp_ignore", "1"), ("eth0.7", "arp_announce", "2")]);
        assert_eq!(read("boot net:[2]", &text), []);
        for wrong in ["", "boot net:[1]", "boot net:[1]\n../all arp_ignore\n.. arp_ignore\neth0 rp_filter\neth0\n arp_ignore\n"] {
            assert_eq!(read("boot net:[1]", wrong), [], "{wrong:?}");
        }
    }

    #[test]
    fn the_file_goes_when_nothing_is_changed() {
        let folder = std::env::temp_dir().join(format!("weir-settings-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("settings");
        note(&file, &[]).unwrap();
        note(&file, &[("nothing0".to_owned(), "arp_ignore")]).unwrap();
        assert!(file.exists());
        restore(&file);
        assert!(!file.exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
