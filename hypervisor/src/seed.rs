//! The seed of a machine: cloud-init's NoCloud data source as a small CD-ROM image. Pure.
//!
//! ```text
//!   sector  0..15   nothing
//!           16      primary volume descriptor, label `cidata`       (ECMA-119 §8.4)
//!           17      supplementary descriptor: Joliet, UCS-2 names    (§8.5 and the Joliet specification)
//!           18      set terminator                                   (§8.3)
//!           19..22  path tables: primary little and big endian, Joliet little and big endian  (§9.4)
//!           23, 24  root directories: primary, Joliet                (§9.1)
//!           25..    the files, then nothing up to the least size
//! ```
//!
//! Joliet, because `meta-data` is no name that the plain standard can write.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::fmt::Write as _;
use std::net::IpAddr;

use weir_config::StaticAddresses;

use crate::names::{MachineId, MachineName};

const SECTOR: usize = 2048;
const LABEL: &str = "cidata";
const FIRST_FILE: usize = 25;

/// The least size of an image, in sectors. Who looks for file systems of all kinds reads the first 68 KiB of a disk, and some (busybox's `findfs`)
/// give one up that has less.
const SECTORS_MIN: usize = 64;

/// What a machine is told at its first boot.
#[derive(Clone, Debug)]
pub struct Seed<'a> {
    /// Its host name.
    pub name: &'a MachineName,
    /// Its UUID, from which the instance id comes: a new machine is a new instance.
    pub id: &'a MachineId,
    /// Its MAC.
    pub mac: &'a str,
    /// The address that was given out to it, with what belongs to it.
    pub address: Option<(IpAddr, &'a StaticAddresses)>,
    /// The template's file, as it is.
    pub user_data: Option<&'a str>,
    /// The template's file, instead of the one that is made here.
    pub network_config: Option<&'a str>,
}

impl Seed<'_> {
    /// The files by name.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let Seed { name, id, .. } = self;
        let meta_data = format!("instance-id: {id}\nlocal-hostname: {name}\n");
        let user_data = self.user_data.unwrap_or("#cloud-config\n").to_owned();
        let network_config = self.network_config.map_or_else(|| self.network(), str::to_owned);
        vec![("meta-data", meta_data), ("user-data", user_data), ("network-config", network_config)]
    }

    /// Version 2 of cloud-init's network configuration, for the interface with our MAC.
    fn network(&self) -> String {
        let mut text = format!("version: 2\nethernets:\n  primary:\n    match:\n      macaddress: \"{}\"\n", self.mac);
        let Some((address, StaticAddresses { prefix, gateway, dns, .. })) = &self.address else {
            text.push_str("    dhcp4: true\n    dhcp6: false\n");
            return text;
        };
        let _ = write!(text, "    dhcp4: false\n    addresses: [\"{address}/{prefix}\"]\n");
        if let Some(gateway) = gateway {
            let _ = write!(text, "    routes:\n      - to: default\n        via: {gateway}\n");
        }
        if !dns.is_empty() {
            let servers: Vec<_> = dns.iter().map(|server| format!("\"{server}\"")).collect();
            let _ = write!(text, "    nameservers:\n      addresses: [{}]\n", servers.join(", "));
        }
        text
    }

    /// The image.
    pub fn image(&self) -> Vec<u8> {
        image(&self.files())
    }
}

/// A number in both byte orders, as ECMA-119 §7.2.3 and §7.3.3 want it.
fn both16(number: u16) -> [u8; 4] {
    let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
    [little[0], little[1], big[0], big[1]]
}

fn both32(number: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn image(files: &[(&str, String)]) -> Vec<u8> {
    let mut extents = Vec::new();
    let mut next = FIRST_FILE;
    for (name, content) in files {
        extents.push((*name, next, content.len()));
        next += content.len().div_ceil(SECTOR);
    }
    let sectors = next.max(SECTORS_MIN);
    let mut image = vec![0; sectors * SECTOR];
    let mut place = |sector: usize, bytes: &[u8]| image[sector * SECTOR..][..bytes.len()].copy_from_slice(bytes);
    place(16, &descriptor(1, sectors, 19, 23));
    place(17, &descriptor(2, sectors, 21, 24));
    place(18, b"\xffCD001\x01");
    for (table, root) in [(19, 23_u32), (21, 24)] {
        // One entry, the root: length 1, its sector, parent 1, name of one zero byte.
        let entry = |sector: [u8; 4], parent: [u8; 2]| [&[1, 0][..], &sector, &parent, &[0, 0]].concat();
        place(table, &entry(root.to_le_bytes(), 1_u16.to_le_bytes()));
        place(table + 1, &entry(root.to_be_bytes(), 1_u16.to_be_bytes()));
    }
    place(23, &directory(23, &extents, plain_name));
    place(24, &directory(24, &extents, joliet_name));
    for ((_, content), (_, sector, _)) in files.iter().zip(&extents) {
        place(*sector, content.as_bytes());
    }
    image
}

/// A volume descriptor, ECMA-119 §8.4 and §8.5. `kind` 2 is Joliet.
fn descriptor(kind: u8, sectors: usize, path_table: u32, root: u32) -> Vec<u8> {
    let joliet = kind == 2;
    let padded = |text: &str, length: usize| -> Vec<u8> {
        let mut bytes: Vec<u8> = if joliet { text.encode_utf16().flat_map(u16::to_be_bytes).collect() } else { text.bytes().collect() };
        while bytes.len() < length {
            bytes.extend_from_slice(if joliet { &[0, b' '] } else { b" " });
        }
        bytes.truncate(length);
        bytes
    };
    let mut bytes = vec![0; SECTOR];
    let mut place = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    place(0, &[kind]);
    place(1, b"CD001\x01");
    place(8, &padded("", 32));
    place(40, &padded(LABEL, 32));
    place(80, &both32(sectors as u32));
    if joliet {
        place(88, b"%/E");
    }
    place(120, &both16(1));
    place(124, &both16(1));
    place(128, &both16(SECTOR as u16));
    place(132, &both32(10));
    place(140, &path_table.to_le_bytes());
    place(148, &(path_table + 1).to_be_bytes());
    place(156, &record(&[0], root as usize, SECTOR, true));
    for (at, length) in [(190, 128), (318, 128), (446, 128), (574, 128), (702, 37), (739, 37), (776, 37)] {
        place(at, &padded("", length));
    }
    // No dates: digits of zero and an offset of zero (§8.4.26.1).
    for at in [813, 830, 847, 864] {
        place(at, b"0000000000000000\0");
    }
    place(881, &[1]);
    bytes
}

fn directory(sector: usize, extents: &[(&str, usize, usize)], name: fn(&str) -> Vec<u8>) -> Vec<u8> {
    let mut records = vec![record(&[0], sector, SECTOR, true), record(&[1], sector, SECTOR, true)];
    let mut files: Vec<_> = extents.iter().map(|(text, sector, length)| (name(text), *sector, *length)).collect();
    files.sort();
    records.extend(files.iter().map(|(name, sector, length)| record(name, *sector, *length, false)));
    records.concat()
}

/// `META_DAT.;1`: eight characters of the plain standard.
fn plain_name(text: &str) -> Vec<u8> {
    let stem: String = text.to_ascii_uppercase().replace('-', "_").chars().take(8).collect();
    format!("{stem}.;1").into_bytes()
}

fn joliet_name(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// A directory record, ECMA-119 §9.1.
fn record(name: &[u8], sector: usize, length: usize, folder: bool) -> Vec<u8> {
    let size = 33 + name.len();
    let size = size + size % 2;
    let mut bytes = vec![0; size];
    bytes[0] = size as u8;
    bytes[2..10].copy_from_slice(&both32(sector as u32));
    bytes[10..18].copy_from_slice(&both32(length as u32));
    // 1980-01-01, for a date must be there and ours says nothing.
    bytes[18..25].copy_from_slice(&[80, 1, 1, 0, 0, 0, 0]);
    bytes[25] = if folder { 2 } else { 0 };
    bytes[28..32].copy_from_slice(&both16(1));
    bytes[32] = name.len() as u8;
    bytes[33..33 + name.len()].copy_from_slice(name);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example<'a>(name: &'a MachineName, id: &'a MachineId, pool: Option<&'a StaticAddresses>) -> Seed<'a> {
        let address = pool.map(|pool| (pool.first, pool));
        Seed { name, id, mac: "52:54:00:00:00:01", address, user_data: None, network_config: None }
    }

    #[test]
    fn the_network_is_described() {
        let (name, id) = ("web-1".parse().expect("good"), MachineId("u-1".into()));
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let pool = StaticAddresses {
            first: ip("10.0.0.50"),
            last: ip("10.0.0.60"),
            prefix: 24,
            gateway: Some(ip("10.0.0.1")),
            dns: vec![ip("10.0.0.2")],
        };
        let files = example(&name, &id, Some(&pool)).files();
        assert_eq!(files[0], ("meta-data", "instance-id: u-1\nlocal-hostname: web-1\n".into()));
        let network = "version: 2\nethernets:\n  primary:\n    match:\n      macaddress: \"52:54:00:00:00:01\"\n    dhcp4: false\n    \
                       addresses: [\"10.0.0.50/24\"]\n    routes:\n      - to: default\n        via: 10.0.0.1\n    nameservers:\n      \
                       addresses: [\"10.0.0.2\"]\n";
        assert_eq!(files[2].1, network);
        assert!(example(&name, &id, None).files()[2].1.contains("dhcp4: true"));
    }

    /// The reader of the C library's own tools: `isoinfo` and the kernel are not needed to see that each field is in its place.
    #[test]
    fn the_image_is_read_back() {
        let (name, id) = ("web-1".parse().expect("good"), MachineId("u-1".into()));
        let long = "x".repeat(5000);
        let seed = Seed { user_data: Some(&long), ..example(&name, &id, None) };
        let image = seed.image();
        assert_eq!(image.len() % SECTOR, 0);
        assert_eq!(example(&name, &id, None).image().len(), SECTORS_MIN * SECTOR);
        for (sector, wide) in [(16, false), (17, true)] {
            let descriptor = &image[sector * SECTOR..][..SECTOR];
            assert_eq!(&descriptor[1..6], b"CD001");
            let label = &descriptor[40..72];
            let label: String =
                if wide { label.iter().skip(1).step_by(2).map(|b| *b as char).collect() } else { String::from_utf8_lossy(label).into() };
            assert_eq!(label.trim(), LABEL);
            let root = u32::from_le_bytes(descriptor[158..162].try_into().expect("four bytes")) as usize;
            let mut at = root * SECTOR;
            let mut found = Vec::new();
            while image[at] > 0 {
                let number = |from: usize| u32::from_le_bytes(image[at + from..at + from + 4].try_into().expect("four bytes")) as usize;
                let name = image[at + 33..][..usize::from(image[at + 32])].to_vec();
                if image[at + 25] == 0 {
                    found.push((name, image[number(2) * SECTOR..][..number(10)].to_vec()));
                }
                at += usize::from(image[at]);
            }
            let spell = if wide { joliet_name } else { plain_name };
            let mut expected: Vec<_> = seed.files().into_iter().map(|(name, content)| (spell(name), content.into_bytes())).collect();
            expected.sort();
            assert_eq!(found, expected);
        }
    }

    /// Two readers that do not know us: that of the tools for such images, and that which finds file systems by their labels.
    #[test]
    fn others_read_the_image() {
        let (name, id) = ("web-1".parse().expect("good"), MachineId("u-1".into()));
        let seed = example(&name, &id, None);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), seed.image()).expect("it can be written");
        let output = |program: &str, arguments: &[&str]| {
            let output = std::process::Command::new(program).args(arguments).output();
            let output = output.unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it"));
            assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("text")
        };
        let path = file.path().to_str().expect("plain");
        for (file, content) in seed.files() {
            assert_eq!(output("isoinfo", &["-i", path, "-J", "-x", &format!("/{file}")]), content, "{file}");
        }
        let label = output("blkid", &["--probe", path]);
        assert!(label.contains("LABEL=\"cidata\"") && label.contains("TYPE=\"iso9660\""), "{label}");
    }
}
