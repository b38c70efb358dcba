//! What each request does.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use virt::domain::{Domain, DomainState, MigrateParameters};
use virt::error::Error;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use weir_hypervisor::protocol::{
    AddressFrom, Answer, Description, Fault, FaultKind, InterfaceAddress, PAYLOAD_BYTES_MAX, PowerAct, RawSample, Request, StorageInfo,
    VERSION, VolumeInfo,
};
use weir_hypervisor::xml::Element;

use crate::connection::Connection;
use crate::convert::{fault, neighbours};
use crate::sys;

/// Bytes that go through a stream at a time: libvirt's own messages hold a little more.
const CHUNK_BYTES: usize = 256 << 10;

/// Seconds that a guest's agent may take for an answer. Without a bound a guest that hangs would hang the call, and a call that hangs costs the
/// connection to the host.
const AGENT_ANSWER_S: i32 = 5;

/// How long a seed or the like may take to be written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

/// The storage pools over the kernel's files.
const PRESSURE_POOL: &str = "weir-pressure";
const NEIGHBOURS_POOL: &str = "weir-neighbours";

type Outcome = Result<(Answer, Vec<u8>), Fault>;

/// Carries out one request.
pub(crate) fn carry_out(connection: &Connection, request: Request, payload: &[u8]) -> Outcome {
    let answer = match request {
        Request::Hello { version } => hello(version)?,
        Request::Open { uri } => Answer::Text(connection.open(&uri)?),
        Request::Sample => {
            let connect = connection.get()?;
            Answer::Sample(RawSample { node: sys::node(&connect)?, domains: sys::domains(&connect)? })
        }
        Request::Describe { uuids } => describe(connection, &uuids)?,
        Request::Find { name } => {
            let found = gone_is_none(connection.get()?.lookup_domain_by_name(&name).map_err(fault))?;
            Answer::Descriptions(found.map(|domain| description(&domain)).transpose()?.into_iter().collect())
        }
        Request::Storage { storage } => storage_info(connection, &storage)?,
        Request::Pressure => pressure(connection)?,
        Request::Volumes { storage } => {
            let pool = connection.storage(&storage)?;
            look_into(&pool);
            Answer::Names(pool.list_volumes().map_err(fault)?)
        }
        Request::Volume { storage, volume } => Answer::Volume(match gone_is_none(connection.volume(&storage, &volume))? {
            Some(volume) => Some(volume_info(&volume)?),
            None => None,
        }),
        Request::VolumeAt { path } => {
            let found = gone_is_none(connection.get()?.lookup_storage_vol_by_path(&path).map_err(fault))?;
            Answer::Volume(found.map(|volume| volume_info(&volume)).transpose()?)
        }
        Request::CreateVolume { storage, volume, xml, content_of, fresh } => {
            match (create_volume(connection, &storage, &xml, content_of), fresh) {
                (Err(fault), false) if fault.kind == FaultKind::Exists && is_there(connection, &storage, &volume)? => Answer::Done,
                (outcome, _) => outcome?,
            };
            if !payload.is_empty() {
                write(connection, &connection.volume(&storage, &volume)?, payload)?;
            }
            Answer::Done
        }
        Request::DeleteVolume { storage, volume } => {
            if let Some(volume) = gone_is_none(connection.volume(&storage, &volume))? {
                gone_is_none(volume.delete(0).map_err(fault))?;
            }
            Answer::Done
        }
        Request::Upload { storage, volume, path, offset, length } => {
            upload(connection, &connection.volume(&storage, &volume)?, &path, offset, length)?
        }
        Request::Download { source, path, offset, length } => {
            let volume = connection.get()?.lookup_storage_vol_by_path(&source).map_err(fault)?;
            let file = File::options().write(true).open(&path).map_err(|error| local(&path, &error))?;
            let mut at = offset;
            download(connection, &volume, offset, length, |bytes| {
                file.write_all_at(bytes, at).map_err(|error| local(&path, &error))?;
                at += bytes.len() as u64;
                Ok(())
            })?
        }
        Request::Digest { storage, volume, offset, length } => {
            download(connection, &connection.volume(&storage, &volume)?, offset, length, |_| Ok(()))?
        }
        Request::Write { storage, volume } => {
            write(connection, &connection.volume(&storage, &volume)?, payload)?;
            Answer::Done
        }
        Request::Tail { storage, volume, bytes_max } => return tail(connection, &storage, &volume, bytes_max),
        Request::Define { xml } => {
            connection.get()?.define_domain_xml(&xml).map_err(fault)?;
            Answer::Done
        }
        Request::Undefine { uuid } => undefine(connection, &uuid)?,
        Request::StartTransient { xml } => {
            connection.get()?.create_domain_xml(&xml, virt_sys::VIR_DOMAIN_START_AUTODESTROY).map_err(fault)?;
            Answer::Done
        }
        Request::Power { uuid, act } => {
            let domain = connection.domain(&uuid)?;
            looking_again(|| power(&domain, act))?
        }
        Request::SetMetadata { uuid, xml, prefix, namespace } => {
            let domain = connection.domain(&uuid)?;
            looking_again(|| {
                let live = if domain.is_active().map_err(fault)? { virt_sys::VIR_DOMAIN_AFFECT_LIVE } else { 0 };
                let kind = virt_sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
                let flags = live | virt_sys::VIR_DOMAIN_AFFECT_CONFIG;
                domain.set_metadata(kind, Some(&xml), Some(&prefix), Some(&namespace), flags).map_err(fault)
            })?;
            Answer::Done
        }
        Request::Addresses { uuid, source } => addresses(connection, &connection.domain(&uuid)?, source)?,
        Request::SetTime { uuid, seconds, nanoseconds } => {
            let domain = connection.domain(&uuid)?;
            sys::bound_agent(&domain, AGENT_ANSWER_S)?;
            domain.set_time(seconds, nanoseconds, 0).map_err(fault)?;
            Answer::Done
        }
        Request::Screenshot { uuid } => {
            let domain = connection.domain(&uuid)?;
            let stream = Stream::new(&connection.get()?, 0).map_err(fault)?;
            let mime = domain.screenshot(&stream, 0, 0).map_err(fault)?;
            let mut picture = Vec::new();
            receive(&stream, |bytes| {
                picture.extend_from_slice(bytes);
                bounded(&picture)
            })?;
            stream.finish().map_err(fault)?;
            return Ok((Answer::Bytes(mime), picture));
        }
        Request::Flatten { uuid, disk } => {
            sys::pull(&connection.domain(&uuid)?, &disk)?;
            Answer::Done
        }
        Request::FlattenProgress { uuid, disk } => {
            let (done, end) = sys::pull_progress(&connection.domain(&uuid)?, &disk)?.unwrap_or((0, 0));
            Answer::Progress { done, end }
        }
        Request::Migrate { uuid, target, copy_storage, bandwidth_mib } => {
            migrate(&connection.domain(&uuid)?, &target, copy_storage, bandwidth_mib)?
        }
    };
    Ok((answer, Vec::new()))
}

fn hello(version: u32) -> Result<Answer, Fault> {
    match version {
        VERSION => Ok(Answer::Text(env!("CARGO_PKG_VERSION").into())),
        other => Err(Fault { kind: FaultKind::Unsupported, message: format!("weir speaks protocol {other}, weir-libvirt {VERSION}") }),
    }
}

/// What is gone is often what was wanted.
fn gone_is_none<T>(result: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn local(path: &str, error: &io::Error) -> Fault {
    let kind = if error.kind() == io::ErrorKind::StorageFull { FaultKind::Exhausted } else { FaultKind::Other };
    Fault { kind, message: format!("{path}: {error}") }
}

fn describe(connection: &Connection, uuids: &[String]) -> Result<Answer, Fault> {
    let mut found = Vec::with_capacity(uuids.len());
    for uuid in uuids {
        // A domain may vanish between any two calls.
        let domain = gone_is_none(connection.domain(uuid))?;
        if let Some(description) = domain.map(|domain| gone_is_none(description(&domain))).transpose()?.flatten() {
            found.push(description);
        }
    }
    Ok(Answer::Descriptions(found))
}

fn description(domain: &Domain) -> Result<Description, Fault> {
    let xml = domain.xml_desc(virt_sys::VIR_DOMAIN_XML_INACTIVE).map_err(fault)?;
    Ok(Description { name: domain.name().map_err(fault)?, uuid: domain.uuid_string().map_err(fault)?, xml })
}

/// Lets libvirt look into the folder, and not only into what it remembers. It does not while a volume is being written, which for all but a base
/// is over in a moment; after that its memory must do.
fn look_into(pool: &StoragePool) {
    let deadline = Instant::now() + WRITTEN_WITHIN;
    while pool.refresh(0).is_err() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn storage_info(connection: &Connection, storage: &str) -> Result<Answer, Fault> {
    let pool = connection.storage(storage)?;
    // The free space is only as fresh as the last look; a pool that is busy keeps the last one.
    let _ = pool.refresh(0);
    let info = pool.info().map_err(fault)?;
    let xml = pool.xml_desc(0).map_err(fault)?;
    let path = parsed(&xml)?.at(&["target", "path"]).map(Element::text).unwrap_or_default();
    Ok(Answer::Storage(StorageInfo { path, capacity: info.capacity, available: info.available }))
}

fn pressure(connection: &Connection) -> Result<Answer, Fault> {
    let read = |name: &str| kernel_file(connection, PRESSURE_POOL, "/proc/pressure", name);
    Ok(Answer::Pressure { cpu: read("cpu")?, memory: read("memory")?, io: read("io")? })
}

/// A file of the host's kernel, for which libvirt has no call. But it reads any folder as a storage pool, also on a host far away; this one is
/// transient and holds nothing.
fn kernel_file(connection: &Connection, pool: &str, folder: &str, name: &str) -> Result<String, Fault> {
    let connect = connection.get()?;
    let find = || gone_is_none(connect.lookup_storage_pool_by_name(pool).map_err(fault));
    let pool = match find()? {
        Some(pool) => pool,
        None => {
            let target = Element::new("target").text_child("path", folder);
            let xml = Element::new("pool").with("type", "dir").text_child("name", pool).child(target);
            match connect.create_storage_pool_xml(&xml.to_string(), 0).map_err(fault) {
                Ok(pool) => pool,
                // Another node may have been faster.
                Err(error) => find()?.ok_or(error)?,
            }
        }
    };
    let volume = pool.lookup_storage_vol_by_name(name).map_err(fault)?;
    let mut bytes = Vec::new();
    // The kernel says that these files are empty; no length means to their end.
    download(connection, &volume, 0, 0, |piece| {
        bytes.extend_from_slice(piece);
        bounded(&bytes)
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn parsed(xml: &str) -> Result<Element, Fault> {
    Element::parse(xml).map_err(|error| Fault { kind: FaultKind::Other, message: format!("libvirt's XML cannot be read: {error}") })
}

fn volume_info(volume: &StorageVol) -> Result<VolumeInfo, Fault> {
    let xml = parsed(&volume.xml_desc(0).map_err(fault)?)?;
    let text = |path: &[&str]| xml.at(path).map(Element::text).unwrap_or_default();
    let number = |path: &[&str]| text(path).parse().unwrap_or(0);
    let format = xml.at(&["target", "format"]).and_then(|format| format.attribute("type")).unwrap_or("raw").to_owned();
    let physical = xml.at(&["physical"]).map_or_else(|| number(&["allocation"]), |physical| physical.text().parse().unwrap_or(0));
    Ok(VolumeInfo {
        path: volume.path().map_err(fault)?,
        capacity: number(&["capacity"]),
        physical,
        format,
        modified: text(&["target", "timestamps", "mtime"]),
    })
}

fn is_there(connection: &Connection, storage: &str, volume: &str) -> Result<bool, Fault> {
    gone_is_none(connection.volume(storage, volume)).map(|found| found.is_some())
}

fn create_volume(connection: &Connection, storage: &str, xml: &str, content_of: Option<String>) -> Result<Answer, Fault> {
    let pool = connection.storage(storage)?;
    let made = match content_of {
        Some(source) => StorageVol::create_xml_from(&pool, xml, &connection.volume(storage, &source)?, 0),
        None => StorageVol::create_xml(&pool, xml, 0),
    };
    made.map_err(fault).map(|_| Answer::Done)
}

/// From the volume's beginning.
fn write(connection: &Connection, volume: &StorageVol, payload: &[u8]) -> Result<(), Fault> {
    let stream = Stream::new(&connection.get()?, 0).map_err(fault)?;
    volume.upload(&stream, 0, payload.len() as u64, 0).map_err(fault)?;
    send(&stream, payload)?;
    stream.finish().map_err(fault)
}

fn send(stream: &Stream, mut bytes: &[u8]) -> Result<(), Fault> {
    while !bytes.is_empty() {
        let sent = stream.send(&bytes[..bytes.len().min(CHUNK_BYTES)]).map_err(fault)?;
        bytes = &bytes[usize::try_from(sent).unwrap_or(0).max(1).min(bytes.len())..];
    }
    Ok(())
}

fn receive(stream: &Stream, mut take: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match usize::try_from(stream.recv(&mut buffer).map_err(fault)?) {
            Ok(0) => return Ok(()),
            Ok(length) => take(&buffer[..length])?,
            Err(_) => return Err(fault(Error::last_error())),
        }
    }
}

fn bounded(bytes: &[u8]) -> Result<(), Fault> {
    match bytes.len() <= PAYLOAD_BYTES_MAX {
        true => Ok(()),
        false => Err(Fault { kind: FaultKind::Other, message: format!("more than {PAYLOAD_BYTES_MAX} bytes") }),
    }
}

fn upload(connection: &Connection, volume: &StorageVol, path: &str, offset: u64, length: u64) -> Result<Answer, Fault> {
    let file = File::open(path).map_err(|error| local(path, &error))?;
    let stream = Stream::new(&connection.get()?, 0).map_err(fault)?;
    volume.upload(&stream, offset, length, 0).map_err(fault)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let end = offset.saturating_add(length);
    let mut at = offset;
    while at < end {
        let wanted = CHUNK_BYTES.min(usize::try_from(end - at).unwrap_or(CHUNK_BYTES));
        let piece = &mut buffer[..wanted];
        file.read_exact_at(piece, at).map_err(|error| local(path, &error))?;
        digest.update(&*piece);
        send(&stream, piece)?;
        at += wanted as u64;
    }
    stream.finish().map_err(fault)?;
    Ok(Answer::Text(hex(&digest.finalize())))
}

/// Reads a piece and says its digest.
fn download(
    connection: &Connection,
    volume: &StorageVol,
    offset: u64,
    length: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), Fault>,
) -> Result<Answer, Fault> {
    let stream = Stream::new(&connection.get()?, 0).map_err(fault)?;
    volume.download(&stream, offset, length, 0).map_err(fault)?;
    let mut digest = Sha256::new();
    receive(&stream, |bytes| {
        digest.update(bytes);
        take(bytes)
    })?;
    stream.finish().map_err(fault)?;
    Ok(Answer::Text(hex(&digest.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tail(connection: &Connection, storage: &str, volume: &str, bytes_max: u64) -> Outcome {
    // The file grows behind libvirt's back, so what it remembers of it is read afresh.
    let _ = connection.storage(storage)?.refresh(0);
    let volume = connection.volume(storage, volume)?;
    let size = volume.info().map_err(fault)?.capacity;
    let length = size.min(bytes_max).min(PAYLOAD_BYTES_MAX as u64);
    let mut bytes = Vec::new();
    if length > 0 {
        download(connection, &volume, size - length, length, |piece| {
            bytes.extend_from_slice(piece);
            bounded(&bytes)
        })?;
    }
    Ok((Answer::Bytes("text/plain".into()), bytes))
}

fn undefine(connection: &Connection, uuid: &str) -> Result<Answer, Fault> {
    let Some(domain) = gone_is_none(connection.domain(uuid))? else { return Ok(Answer::Done) };
    let flags =
        virt_sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | virt_sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | virt_sys::VIR_DOMAIN_UNDEFINE_NVRAM;
    let outcome = domain.undefine_flags(flags).map_err(fault);
    // Drivers that know none of these things refuse the flags.
    let outcome = outcome.or_else(|first| if first.kind == FaultKind::NotFound { Err(first) } else { domain.undefine().map_err(fault) });
    gone_is_none(outcome).map(|_| Answer::Done)
}

/// Does once more what looks at a domain's state and then acts: in between its QEMU may have died, or its guest gone down.
fn looking_again<T>(mut act: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    match act() {
        Err(fault) if fault.kind == FaultKind::State => act(),
        outcome => outcome,
    }
}

fn power(domain: &Domain, act: PowerAct) -> Result<Answer, Fault> {
    let state = domain.info().map_err(fault)?.state;
    let is = |wanted: DomainState| state.is_known_and(|state| state == wanted);
    let running = is(DomainState::Running) || is(DomainState::Blocked);
    let paused = is(DomainState::Paused);
    let off = is(DomainState::Shutoff) || is(DomainState::Crashed);
    match act {
        PowerAct::Start if running => Ok(()),
        PowerAct::Start if paused => domain.resume(),
        PowerAct::Start => domain.create(),
        PowerAct::Suspend if paused => Ok(()),
        PowerAct::Suspend => domain.suspend(),
        PowerAct::Resume if running => Ok(()),
        PowerAct::Resume if off && domain.has_managed_save(0).unwrap_or(false) => domain.create(),
        PowerAct::Resume => domain.resume(),
        PowerAct::Shutdown if off => Ok(()),
        PowerAct::Shutdown => domain.shutdown(),
        PowerAct::Reboot => domain.reboot(0),
        PowerAct::Reset => domain.reset(),
        PowerAct::PowerOff if off => Ok(()),
        PowerAct::PowerOff => domain.destroy(),
        PowerAct::Save if off => Ok(()),
        PowerAct::Save => domain.managed_save(0),
    }
    .map_err(fault)
    .map(|()| Answer::Done)
}

fn addresses(connection: &Connection, domain: &Domain, source: AddressFrom) -> Result<Answer, Fault> {
    let from = match source {
        AddressFrom::Lease => virt_sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
        AddressFrom::Agent => virt_sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
        AddressFrom::Arp => virt_sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
    };
    if source == AddressFrom::Agent {
        // One that does not answer in time costs its own answer, and not the connection of all. Refused: the drivers that cannot bound it.
        let _ = sys::bound_agent(domain, AGENT_ANSWER_S);
    }
    let interfaces = match domain.interface_addresses(from, 0).map_err(fault) {
        // libvirt up to 9.1 takes the kernel's answer for too short from Linux 6.9 on, which says more about each neighbour.
        Err(fault) if source == AddressFrom::Arp && fault.message.contains("wrong nlmsg len") => {
            return Ok(Answer::Addresses(neighbours(&kernel_file(connection, NEIGHBOURS_POOL, "/proc/net", "arp")?)));
        }
        other => other?,
    };
    let found = interfaces.into_iter().filter_map(|interface| Some((interface.hwaddr?.to_ascii_lowercase(), interface.addrs)));
    let found = found.flat_map(|(mac, addresses)| {
        addresses.into_iter().map(move |address| InterfaceAddress { mac: mac.clone(), address: address.addr })
    });
    Ok(Answer::Addresses(found.collect()))
}

fn migrate(domain: &Domain, target: &str, copy_storage: bool, bandwidth_mib: u64) -> Result<Answer, Fault> {
    let mut flags = virt_sys::VIR_MIGRATE_LIVE
        | virt_sys::VIR_MIGRATE_PEER2PEER
        | virt_sys::VIR_MIGRATE_PERSIST_DEST
        | virt_sys::VIR_MIGRATE_UNDEFINE_SOURCE
        | virt_sys::VIR_MIGRATE_AUTO_CONVERGE
        | virt_sys::VIR_MIGRATE_ABORT_ON_ERROR;
    flags |= match copy_storage {
        true => virt_sys::VIR_MIGRATE_NON_SHARED_INC,
        // Whether a folder is shared is said by the configuration; libvirt knows only the file systems it has heard of.
        false => virt_sys::VIR_MIGRATE_UNSAFE,
    };
    let bandwidth = (bandwidth_mib > 0).then_some(bandwidth_mib);
    // Memory and disks go where the connection goes: what the host calls itself may mean nothing elsewhere.
    let uri = host_of(target).map(|host| format!("tcp://{host}"));
    let parameters = MigrateParameters { bandwidth, uri, ..MigrateParameters::default() };
    domain.migrate_to_uri3(Some(target), parameters, flags).map_err(fault)?;
    Ok(Answer::Done)
}

/// The host of `driver+transport://user@host:port/path`, with its brackets; `None`: there is none.
fn host_of(uri: &str) -> Option<&str> {
    let authority = uri.split_once("://")?.1.split(['/', '?']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let end = if host.starts_with('[') { host.find(']')? + 1 } else { host.find(':').unwrap_or(host.len()) };
    Some(&host[..end]).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_uri() {
        for (uri, expected) in [
            ("qemu+tcp://10.0.0.1/system", Some("10.0.0.1")),
            ("qemu+ssh://root@kvm-a:22/system", Some("kvm-a")),
            ("qemu+tls://[2001:db8::1]:16514/system", Some("[2001:db8::1]")),
            ("qemu:///system", None),
            ("qemu+unix:///system?socket=/a@b", None),
            ("nonsense", None),
        ] {
            assert_eq!(host_of(uri), expected, "{uri}");
        }
    }
}
