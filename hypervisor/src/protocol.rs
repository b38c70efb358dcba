//! What `weir` and `weir-libvirt` say to each other: frames over the child's standard input and output.
//!
//! ```text
//!   0        4        8            16
//!   ┌────────┬────────┬────────────┬───────────────┬─────────────────┐
//!   │ JSON   │ payload│ call's     │ JSON: Request │ payload: bytes  │
//!   │ length │ length │ number     │ or Answer     │                 │
//!   └────────┴────────┴────────────┴───────────────┴─────────────────┘
//! ```
//!
//! Numbers are big-endian. Both lengths are bounded, so that neither side can be made to allocate without limit. Calls run side by side and
//! are answered in any order. The first call is [`Request::Hello`], in which both sides must name the same [`VERSION`]: the two programs are
//! installed together, so there is nothing to negotiate.
//!
//! Each request is one step that can be repeated: a caller that did not hear the answer may ask again. A change names the machine by UUID, so
//! that another one that happens to have the same name is never touched.

use std::io;

use serde::{Deserialize, Serialize};

/// Both sides must speak the same one.
pub const VERSION: u32 = 3;

/// Longest JSON part. The XML of five thousand domains needs half of it.
pub const JSON_BYTES_MAX: usize = 64 << 20;

/// Longest payload: a screenshot of a large screen.
pub const PAYLOAD_BYTES_MAX: usize = 32 << 20;

/// Length of what stands before each frame's parts.
pub const HEADER_BYTES: usize = 16;

/// The fixed part of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Bytes of JSON.
    pub json_bytes: usize,
    /// Bytes of payload after it.
    pub payload_bytes: usize,
    /// Which call; the answer has the same.
    pub call: u64,
}

impl Header {
    /// Reads a header; a length beyond its bound is an error, after which the stream cannot be trusted any more.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> io::Result<Header> {
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (json_bytes, payload_bytes) = (number(0) as usize, number(4) as usize);
        if json_bytes > JSON_BYTES_MAX || payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {json_bytes} + {payload_bytes} bytes is too long")));
        }
        Ok(Header { json_bytes, payload_bytes, call: u64::from(number(8)) << 32 | u64::from(number(12)) })
    }
}

/// A whole frame as bytes. What is longer than the bounds is an error.
pub fn encode<T: Serialize>(call: u64, body: &T, payload: &[u8]) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(body)?;
    if json.len() > JSON_BYTES_MAX || payload.len() > PAYLOAD_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} + {} bytes do not fit a frame", json.len(), payload.len())));
    }
    let mut frame = Vec::with_capacity(HEADER_BYTES + json.len() + payload.len());
    frame.extend_from_slice(&(json.len() as u32).to_be_bytes());
    frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    frame.extend_from_slice(&call.to_be_bytes());
    frame.extend_from_slice(&json);
    frame.extend_from_slice(payload);
    Ok(frame)
}

/// One step on one host.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// The first call.
    Hello {
        /// [`VERSION`] of who asks.
        version: u32,
    },
    /// Connects to this libvirt URI; everything else needs it. Answered with [`Answer::Text`]: the driver's name.
    Open {
        /// Such as `qemu+tls://kvm-a/system`.
        uri: String,
    },
    /// State and counters of all domains and of the host, in one bulk call. Answered with [`Answer::Sample`].
    Sample,
    /// The persistent XML of domains; those that are gone are left out. Answered with [`Answer::Descriptions`].
    Describe {
        /// UUIDs.
        uuids: Vec<String>,
    },
    /// Whether a domain of that name exists, and its XML. Answered with [`Answer::Descriptions`], of at most one.
    Find {
        /// Name of the domain.
        name: String,
    },
    /// Space and place of a storage pool, freshly read. Answered with [`Answer::Storage`].
    Storage {
        /// Name of the storage pool.
        storage: String,
    },
    /// How much the host's tasks wait for what they lack, as its kernel says it. Answered with [`Answer::Pressure`].
    Pressure,
    /// Names of all volumes. Answered with [`Answer::Names`].
    Volumes {
        /// Name of the storage pool.
        storage: String,
    },
    /// One volume. Answered with [`Answer::Volume`].
    Volume {
        /// Name of the storage pool.
        storage: String,
        /// Name of the volume.
        volume: String,
    },
    /// The volume behind a path, wherever it is. Answered with [`Answer::Volume`].
    VolumeAt {
        /// Path on the host.
        path: String,
    },
    /// Makes a volume, and writes the payload into it if there is one. A volume that is there already is a success, unless it must be new: then
    /// it is [`FaultKind::Exists`]. Answered with [`Answer::Done`].
    CreateVolume {
        /// Name of the storage pool.
        storage: String,
        /// Name of the volume.
        volume: String,
        /// libvirt's description of it.
        xml: String,
        /// A volume whose content is copied into it, flattened.
        content_of: Option<String>,
        /// It must not be there yet.
        fresh: bool,
    },
    /// Deletes a volume; one that is gone already is a success. Answered with [`Answer::Done`].
    DeleteVolume {
        /// Name of the storage pool.
        storage: String,
        /// Name of the volume.
        volume: String,
    },
    /// Copies a piece of a local file into a volume. Answered with [`Answer::Text`]: SHA-256 of the piece, hexadecimal.
    Upload {
        /// Name of the storage pool.
        storage: String,
        /// Name of the volume.
        volume: String,
        /// A file on the machine where `weir` runs.
        path: String,
        /// Where the piece begins, in file and volume.
        offset: u64,
        /// Its length.
        length: u64,
    },
    /// Copies a piece of a volume into a local file. Answered with [`Answer::Text`]: SHA-256 of the piece, hexadecimal.
    Download {
        /// Path of the volume on the host.
        source: String,
        /// A file on the machine where `weir` runs; it must exist.
        path: String,
        /// Where the piece begins, in file and volume.
        offset: u64,
        /// Its length.
        length: u64,
    },
    /// SHA-256 of a piece of a volume, read back. Answered with [`Answer::Text`].
    Digest {
        /// Name of the storage pool.
        storage: String,
        /// Name of the volume.
        volume: String,
        /// Where the piece begins.
        offset: u64,
        /// Its length.
        length: u64,
    },
    /// Writes the payload into a volume, from its beginning. Answered with [`Answer::Done`].
    Write {
        /// Name of the storage pool.
        storage: String,
        /// Name of the volume.
        volume: String,
    },
    /// The last bytes of a volume that something on the host may still be writing. Answered with [`Answer::Bytes`].
    Tail {
        /// Name of the storage pool.
        storage: String,
        /// Name of the volume.
        volume: String,
        /// At most so many.
        bytes_max: u64,
    },
    /// Defines a domain, or defines it again. Answered with [`Answer::Done`].
    Define {
        /// libvirt's description of it, with name and UUID.
        xml: String,
    },
    /// Removes the definition with saved memory; one that is gone is a success. Answered with [`Answer::Done`].
    Undefine {
        /// UUID.
        uuid: String,
    },
    /// Starts a transient domain, which is gone when it ends. Answered with [`Answer::Done`].
    StartTransient {
        /// libvirt's description of it.
        xml: String,
    },
    /// A change of the machine's power. What is so already is a success. Answered with [`Answer::Done`].
    Power {
        /// UUID.
        uuid: String,
        /// What to do.
        act: PowerAct,
    },
    /// Replaces our metadata. Answered with [`Answer::Done`].
    SetMetadata {
        /// UUID.
        uuid: String,
        /// The element.
        xml: String,
        /// Its prefix.
        prefix: String,
        /// Its namespace.
        namespace: String,
    },
    /// Addresses of its interfaces. Answered with [`Answer::Addresses`].
    Addresses {
        /// UUID.
        uuid: String,
        /// Who is asked.
        source: AddressFrom,
    },
    /// Sets the guest's clock through its agent. Answered with [`Answer::Done`].
    SetTime {
        /// UUID.
        uuid: String,
        /// Seconds since 1970.
        seconds: i64,
        /// And nanoseconds.
        nanoseconds: i32,
    },
    /// A picture of its screen. Answered with [`Answer::Bytes`]; the text is the MIME type.
    Screenshot {
        /// UUID.
        uuid: String,
    },
    /// Copies what the base holds into the overlay while the machine runs. Answered with [`Answer::Done`] when it has begun.
    Flatten {
        /// UUID.
        uuid: String,
        /// The disk, such as `vda`.
        disk: String,
    },
    /// How far a running copy is. Answered with [`Answer::Progress`]; `end` 0: none is running.
    FlattenProgress {
        /// UUID.
        uuid: String,
        /// The disk.
        disk: String,
    },
    /// Moves a running machine to another host and ends there. Answered with [`Answer::Done`].
    Migrate {
        /// UUID.
        uuid: String,
        /// libvirt URI of the target, as seen from this host.
        target: String,
        /// Copy the disks too, for they are not on shared storage.
        copy_storage: bool,
        /// MiB/s at most; 0: no bound.
        bandwidth_mib: u64,
    },
}

/// Changes of power.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerAct {
    /// From off.
    Start,
    /// Freezes it.
    Suspend,
    /// Thaws it.
    Resume,
    /// Asks the guest to shut down.
    Shutdown,
    /// Asks the guest to reboot.
    Reboot,
    /// Pulls the reset line.
    Reset,
    /// Pulls the plug.
    PowerOff,
    /// Saves its memory to disk and stops it; the next start goes on from there.
    Save,
}

/// Who knows an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressFrom {
    /// The DHCP server of libvirt's network.
    Lease,
    /// The guest's agent.
    Agent,
    /// The host's ARP table.
    Arp,
}

/// What comes back when a step succeeded.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing to say.
    Done,
    /// A word or line.
    Text(String),
    /// Names.
    Names(Vec<String>),
    /// See [`Request::Sample`].
    Sample(RawSample),
    /// See [`Request::Describe`].
    Descriptions(Vec<Description>),
    /// See [`Request::Storage`].
    Storage(StorageInfo),
    /// The kernel's files `/proc/pressure/*`.
    Pressure {
        /// `cpu`
        cpu: String,
        /// `memory`
        memory: String,
        /// `io`
        io: String,
    },
    /// `None`: no such volume.
    Volume(Option<VolumeInfo>),
    /// See [`Request::Addresses`].
    Addresses(Vec<InterfaceAddress>),
    /// The payload, and what it is.
    Bytes(String),
    /// See [`Request::FlattenProgress`].
    Progress {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        end: u64,
    },
}

/// A domain's XML.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Description {
    /// Name.
    pub name: String,
    /// UUID.
    pub uuid: String,
    /// Persistent XML, metadata included.
    pub xml: String,
}

/// Space of a storage pool, in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StorageInfo {
    /// Folder on the host.
    pub path: String,
    /// In all.
    pub capacity: u64,
    /// Free.
    pub available: u64,
}

/// A volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Path on the host.
    pub path: String,
    /// Bytes as a guest sees them.
    pub capacity: u64,
    /// Bytes of the file that are in use; what a download ends at.
    pub physical: u64,
    /// `raw`, `qcow2`.
    pub format: String,
    /// When it was last written to, seconds since 1970 with fraction, as text; empty where the host does not say.
    pub modified: String,
}

/// An address of an interface.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// MAC, lower case.
    pub mac: String,
    /// IP address.
    pub address: String,
}

/// One look at a host. Counters only grow; rates come from two of these.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RawSample {
    /// The host.
    pub node: RawNode,
    /// Its domains.
    pub domains: Vec<RawDomain>,
}

/// A host's counters.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RawNode {
    /// Processors.
    pub cpus: u32,
    /// Nanoseconds that the processors spent working, all together.
    pub cpu_busy_ns: Option<u64>,
    /// And resting.
    pub cpu_idle_ns: Option<u64>,
    /// Bytes in all.
    pub memory_total: u64,
    /// Bytes that could be given away: free, buffers and caches.
    pub memory_free: Option<u64>,
}

/// A domain's counters; `None` where the driver or the guest does not say.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RawDomain {
    /// Name.
    pub name: String,
    /// UUID.
    pub uuid: String,
    /// `virDomainState`.
    pub state: i32,
    /// Why, by `virDomain*Reason`.
    pub reason: i32,
    /// Virtual processors.
    pub vcpus: u32,
    /// Nanoseconds of processor time.
    pub cpu_time_ns: Option<u64>,
    /// Bytes it has now.
    pub memory_current: Option<u64>,
    /// Bytes it may have at most.
    pub memory_max: Option<u64>,
    /// Bytes that the guest could still use, by its balloon driver.
    pub memory_available: Option<u64>,
    /// Bytes that the guest sees, by its balloon driver.
    pub memory_visible: Option<u64>,
    /// Bytes of the host's memory it occupies.
    pub memory_resident: Option<u64>,
    /// All disks together.
    pub disk: RawDisk,
    /// All interfaces together.
    pub net: RawNet,
}

/// Counters of all disks together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RawDisk {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Nanoseconds that reads and writes took.
    pub busy_ns: u64,
    /// Bytes of the images on the host.
    pub allocation: u64,
}

/// Counters of all interfaces together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RawNet {
    /// Bytes that the guest received.
    pub received_bytes: u64,
    /// Bytes that the guest sent.
    pub sent_bytes: u64,
    /// Packets lost or broken, both ways.
    pub errors: u64,
}

/// A step that failed, as the host says it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// What a caller would treat differently.
    pub kind: FaultKind,
    /// libvirt's words.
    pub message: String,
}

/// Kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// No such domain, volume or storage pool.
    NotFound,
    /// The name is taken by something else.
    Exists,
    /// The driver cannot do this.
    Unsupported,
    /// The state does not allow it, such as starting what is saved broken.
    State,
    /// The guest's agent does not answer.
    NoAgent,
    /// The connection to libvirt is gone.
    Connection,
    /// Not allowed.
    Denied,
    /// Space or memory is used up.
    Exhausted,
    /// Anything else.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_what_they_write() {
        let frame = encode(7 << 33, &Request::Find { name: "a\"b".into() }, b"xyz").expect("short");
        let header = Header::parse(frame[..HEADER_BYTES].try_into().expect("a header")).expect("in bounds");
        assert_eq!((header.call, header.payload_bytes, frame.len()), (7 << 33, 3, HEADER_BYTES + header.json_bytes + 3));
        let json = &frame[HEADER_BYTES..HEADER_BYTES + header.json_bytes];
        assert_eq!(serde_json::from_slice::<Request>(json).expect("JSON"), Request::Find { name: "a\"b".into() });
    }

    #[test]
    fn lengths_are_bounded() {
        let mut bytes = [0xff; HEADER_BYTES];
        assert!(Header::parse(&bytes).is_err());
        bytes[..4].copy_from_slice(&2_u32.to_be_bytes());
        assert!(Header::parse(&bytes).is_err());
        bytes[4..8].copy_from_slice(&0_u32.to_be_bytes());
        assert_eq!(Header::parse(&bytes).expect("in bounds").json_bytes, 2);
        assert!(encode(0, &(), &vec![0; PAYLOAD_BYTES_MAX + 1]).is_err());
    }
}
