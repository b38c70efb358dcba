//! Names and numbers of machines and of what belongs to them. What a name says is said nowhere else: leftovers are found by it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_config::TemplateName;

/// The longest host name label (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 63;

/// A hyphen and the longest number.
const NUMBER_BYTES_MAX: usize = 11;

/// A machine's name: its domain's, and its host name. A DNS label of lower case letters, digits and hyphens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineName(Arc<str>);

impl MachineName {
    /// `TEMPLATE-` and six digits of chance. What a template's name has that a host name cannot is left out.
    pub fn random(template: &TemplateName, rng: &mut fastrand::Rng) -> MachineName {
        MachineName(format!("{}-{:06x}", stem(&template.0), rng.u32(..1 << 24)).into())
    }

    /// `POOL-SLOT`: the same for the same wish, so that it can be repeated.
    pub fn of_slot(pool: &str, slot: u32) -> MachineName {
        MachineName(format!("{}-{slot}", stem(pool)).into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The volume with its disk.
    pub fn disk(&self) -> String {
        format!("weir-{self}.disk.img")
    }

    /// The volume with its seed.
    pub fn seed(&self) -> String {
        format!("weir-{self}.seed.iso")
    }

    /// The file that its console writes to.
    pub fn console(&self) -> String {
        format!("weir-{self}.console.log")
    }

    /// Whether this volume belongs to this machine.
    pub fn owns(&self, volume: &str) -> bool {
        let rotated = |rest: &str| rest.strip_prefix('.').is_some_and(|number| number.parse::<u8>().is_ok());
        volume == self.disk() || volume == self.seed() || volume.strip_prefix(&self.console()).is_some_and(|r| r.is_empty() || rotated(r))
    }
}

/// What of a name can be in a host name, with room for a number after it.
fn stem(name: &str) -> String {
    let stem: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let stem = stem.trim_matches('-');
    if stem.is_empty() { "machine".into() } else { stem[..stem.len().min(NAME_BYTES_MAX - NUMBER_BYTES_MAX)].to_owned() }
}

impl FromStr for MachineName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(good) || text.starts_with('-') || text.ends_with('-') {
            return Err(format!(
                "{text:?} is not a machine's name: at most {NAME_BYTES_MAX} lower case letters, digits and hyphens between them"
            ));
        }
        Ok(MachineName(text.into()))
    }
}

impl TryFrom<String> for MachineName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<MachineName> for String {
    fn from(name: MachineName) -> String {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A domain's UUID (RFC 9562), lower case with hyphens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MachineId(pub Arc<str>);

impl MachineId {
    /// A new one, version 4.
    pub fn random(rng: &mut fastrand::Rng) -> MachineId {
        let number = (rng.u128(..) & !(0xf << 76) & !(0b11 << 62)) | 4 << 76 | 0b10 << 62;
        let digits = format!("{number:032x}");
        let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        MachineId(parts.join("-").into())
    }

    /// As systemd's machine-id wants it: without hyphens.
    pub fn machine_id(&self) -> String {
        self.0.replace('-', "")
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A MAC address of QEMU's own range, which no hardware has.
pub fn random_mac(rng: &mut fastrand::Rng) -> String {
    format!("52:54:00:{:02x}:{:02x}:{:02x}", rng.u8(..), rng.u8(..), rng.u8(..))
}

/// The MAC address of who has an address that we give out: the same one for whoever has it next. With another, everybody who had spoken with the
/// one before would go on sending to it, for up to a minute, until the kernel asks anew. IPv4 lies beside QEMU's range, for no address begins
/// with zero; IPv6 has a range of its own.
pub fn mac_of(address: IpAddr) -> String {
    let (second, [a, b, c, d]) = match address {
        IpAddr::V4(v4) => ("52:54", v4.octets()),
        IpAddr::V6(v6) => ("56:54", (v6.to_bits() as u32).to_be_bytes()),
    };
    format!("{second}:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// One sealed state of a template's content. Clones are overlays on it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BaseName {
    /// The template.
    pub template: TemplateName,
    /// Counts up from 1 as the content changes.
    pub number: u32,
    /// The first twelve hexadecimal digits of the content's SHA-256.
    pub digest: String,
}

const BASE_PREFIX: &str = "weir-base-";
const IMAGE_SUFFIX: &str = ".img";
const SEAL_SUFFIX: &str = ".seal";

impl BaseName {
    /// The volume with the content.
    pub fn volume(&self) -> String {
        format!("{self}{IMAGE_SUFFIX}")
    }

    /// The volume that says that the content is whole.
    pub fn seal(&self) -> String {
        format!("{self}{SEAL_SUFFIX}")
    }

    /// From the name of either volume.
    pub fn of_volume(volume: &str) -> Option<BaseName> {
        volume.strip_suffix(IMAGE_SUFFIX).or_else(|| volume.strip_suffix(SEAL_SUFFIX))?.parse().ok()
    }
}

impl fmt::Display for BaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BASE_PREFIX}{}-{:04}-{}", self.template, self.number, self.digest)
    }
}

impl FromStr for BaseName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (rest, digest) = text.strip_prefix(BASE_PREFIX).and_then(|rest| rest.rsplit_once('-')).ok_or(())?;
        let (template, number) = rest.rsplit_once('-').ok_or(())?;
        let hex = digest.len() == 12 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let number = number.parse().ok().filter(|number| *number > 0).ok_or(())?;
        if !hex || template.is_empty() {
            return Err(());
        }
        Ok(BaseName { template: template.into(), number, digest: digest.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for (text, good) in
            [("web-1", true), ("a", true), ("", false), ("Web", false), ("-a", false), ("a-", false), ("a.b", false), ("a/b", false)]
        {
            assert_eq!(text.parse::<MachineName>().is_ok(), good, "{text:?}");
        }
        let mut rng = fastrand::Rng::with_seed(1);
        for template in ["web", "Web.App_2", "...", &"x".repeat(64)] {
            let name = MachineName::random(&template.into(), &mut rng);
            assert_eq!(name.as_str().parse::<MachineName>().as_ref(), Ok(&name), "{template}");
        }
    }

    #[test]
    fn volumes_belong_to_one_machine() {
        let name: MachineName = "web-1".parse().expect("good");
        for (volume, owned) in [
            ("weir-web-1.disk.img", true),
            ("weir-web-1.seed.iso", true),
            ("weir-web-1.console.log", true),
            ("weir-web-1.console.log.2", true),
            ("weir-web-1.console.log.x", false),
            ("weir-web-10.disk.img", false),
            ("web-1.disk.img", false),
        ] {
            assert_eq!(name.owns(volume), owned, "{volume}");
        }
    }

    #[test]
    fn uuids_have_version_and_variant() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..100 {
            let id = MachineId::random(&mut rng).0;
            assert_eq!((id.len(), &id[14..15], "89ab".contains(&id[19..20])), (36, "4", true), "{id}");
        }
    }

    #[test]
    fn bases_read_what_they_write() {
        let base = BaseName { template: "web-app".into(), number: 12, digest: "0123456789ab".into() };
        assert_eq!(base.volume(), "weir-base-web-app-0012-0123456789ab.img");
        assert_eq!((BaseName::of_volume(&base.volume()), BaseName::of_volume(&base.seal())), (Some(base.clone()), Some(base)));
        for foreign in
            ["weir-base-web.img", "weir-base--1-0123456789ab.img", "base-web-1-0123456789ab.img", "weir-base-web-0-0123456789ab.img"]
        {
            assert_eq!(BaseName::of_volume(foreign), None, "{foreign}");
        }
    }
}
