//! Whether KVM works on a host: by using it, once.
//!
//! That `/dev/kvm` can be opened says little: inside another virtual machine it may be there and a guest hang at its first instructions. So a
//! transient domain is started with KVM whose disk holds one boot sector. It switches the processor to protected mode, which is where halfway
//! virtualisation fails, and there pulls the reset line; with `on_reboot` set to `destroy` the domain is then gone. One that is still there
//! after the deadline hangs, and the host gets emulation. What was found out is remembered by URI.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;

use crate::domain::plain_volume;
use crate::error::{CallError, HypervisorError};
use crate::event::RoomEvent;
use crate::fleet::Shared;
use crate::host::Host;
use crate::names::MachineId;
use crate::protocol::{Answer, FaultKind, PowerAct, Request};
use crate::xml::Element;

/// Firmware and one sector take about a tenth of a second where KVM works. Where it only seems to, each trap is so slow that they take
/// seconds; a kernel would take for ever.
const TRY_MAX: Duration = Duration::from_millis(1500);

/// How long libvirt may take to start it.
const START_MAX: Duration = Duration::from_secs(20);

/// A guest that hangs in KVM can hang libvirt's questions to it, and the connection is then made anew. So long that may take.
const RECONNECT_MAX: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(100);

const VOLUME: &str = "weir-kvm-try.img";

/// The code at 0x7c00, and its assembly:
///
/// ```text
///   cli; xor ax,ax; mov ds,ax; lgdt [0x7c40]; mov eax,cr0; or al,1; mov cr0,eax; jmp 0x08:0x7c1a
///   0x7c1a (32 bits): mov ax,0x10; mov ds,ax; mov ss,ax; mov esp,0x7000; mov ecx,100000; loop $; mov al,0xfe; out 0x64,al; hlt; jmp $-1
///   0x7c40: limit 23, base 0x7c48     0x7c48: null, code, data descriptors (flat)
/// ```
fn boot_sector() -> Vec<u8> {
    let real: &[u8] = &[
        0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x0f, 0x01, 0x16, 0x40, 0x7c, 0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0xea, 0x1a, 0x7c, 0x08,
        0x00,
    ];
    let protected: &[u8] = &[
        0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x70, 0x00, 0x00, 0xb9, 0xa0, 0x86, 0x01, 0x00, 0xe2, 0xfe, 0xb0, 0xfe,
        0xe6, 0x64, 0xf4, 0xeb, 0xfd,
    ];
    let table: &[u8] = &[23, 0, 0x48, 0x7c, 0, 0, 0, 0];
    let code: &[u8] = &[0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0];
    let data: &[u8] = &[0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0];
    let mut sector = vec![0; 512];
    let mut place = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    place(0, real);
    place(0x1a, protected);
    place(0x40, table);
    place(0x50, code);
    place(0x58, data);
    place(510, &[0x55, 0xaa]);
    sector
}

/// How machines of this host are virtualised; tried now if that is not known yet.
pub(crate) async fn domain_type(shared: &Arc<Shared>, host: &Arc<Host>) -> Result<&'static str, HypervisorError> {
    let _one = host.trying.lock().await;
    if let Some(known) = host.domain_type() {
        return Ok(known);
    }
    let found = if try_kvm(host).await? { "kvm" } else { "qemu" };
    info!(host = %host.name, domain_type = found, "tried KVM");
    host.set_domain_type(found);
    shared.events.tell(RoomEvent::KvmTried { host: host.name.to_string(), domain_type: found });
    let uri = host.config().uri.clone();
    shared.memo.change(|facts| _ = facts.domain_types.insert(uri, found.into()));
    Ok(found)
}

async fn try_kvm(host: &Arc<Host>) -> Result<bool, HypervisorError> {
    let folder = host.storage().map_err(|why| host.failed("trying KVM", CallError::Down(why)))?.path;
    let storage = || host.config().storage_pool.clone();
    let sector = boot_sector();
    let xml = plain_volume(VOLUME, sector.len() as u64, "0644").to_string();
    host.call(Request::CreateVolume { storage: storage(), volume: VOLUME.into(), xml, content_of: None, fresh: false }).await?;
    host.call_with(Request::Write { storage: storage(), volume: VOLUME.into() }, sector, host.config().timeout).await?;
    let id = MachineId::random(&mut fastrand::Rng::new());
    let start = Request::StartTransient { xml: domain(&id, &format!("{folder}/{VOLUME}")).to_string() };
    let outcome = match host.call_within(start, START_MAX).await {
        Ok(_) => is_gone(host, &id).await,
        Err(error) => Err(error),
    };
    let outcome = match outcome {
        // libvirt itself refuses KVM: there is no such device, or it may not be used. What lacks now may be there the next time.
        Err(HypervisorError::Host { source: CallError::Fault(fault), .. }) if fault.kind != FaultKind::Exhausted => {
            info!(host = %host.name, "KVM cannot be used: {}", fault.message);
            Ok(false)
        }
        // Nobody answers since it was started: that is an answer.
        Err(HypervisorError::Host { source: CallError::Timeout { .. } | CallError::Down(_), .. }) => Ok(false),
        other => other,
    };
    // Both are gone already where all went well; a transient domain goes with the connection that started it.
    let until = Instant::now() + RECONNECT_MAX;
    loop {
        let _ = host.call(Request::Power { uuid: id.0.to_string(), act: PowerAct::PowerOff }).await;
        match host.call(Request::DeleteVolume { storage: storage(), volume: VOLUME.into() }).await {
            Ok(_) => return outcome,
            // It does not come back: then it was not the try that silenced it, and nothing is known.
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

async fn is_gone(host: &Host, id: &MachineId) -> Result<bool, HypervisorError> {
    let until = Instant::now() + TRY_MAX;
    while Instant::now() < until {
        match host.call(Request::Describe { uuids: vec![id.0.to_string()] }).await? {
            Answer::Descriptions(found) if found.is_empty() => return Ok(true),
            _ => sleep(LOOK_EVERY).await,
        }
    }
    Ok(false)
}

fn domain(id: &MachineId, disk: &str) -> Element {
    let mut os = Element::new("os").child(Element::new("boot").with("dev", "hd"));
    os.make(&["type"]).set_text("hvm");
    let disk = Element::new("disk")
        .with("type", "file")
        .child(Element::new("driver").with("name", "qemu").with("type", "raw"))
        .child(Element::new("source").with("file", disk))
        .child(Element::new("target").with("dev", "hda").with("bus", "ide"));
    let mut memory = Element::new("memory").with("unit", "MiB");
    memory.set_text(16);
    Element::new("domain")
        .with("type", "kvm")
        .text_child("name", format!("weir-kvm-try-{}", &id.0[..8]))
        .text_child("uuid", id)
        .child(memory)
        .child(os)
        .child(Element::new("features").child(Element::new("acpi")))
        .text_child("on_poweroff", "destroy")
        .text_child("on_reboot", "destroy")
        .text_child("on_crash", "destroy")
        .child(Element::new("devices").child(disk).child(Element::new("memballoon").with("model", "none")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sector_can_be_booted() {
        let sector = boot_sector();
        assert_eq!((sector.len(), &sector[510..]), (512, &[0x55, 0xaa][..]));
        // The far jump leads to where the 32-bit code is, and the table's address to the table.
        assert_eq!(u16::from_le_bytes([sector[0x13], sector[0x14]]), 0x7c1a);
        assert_eq!(u16::from_le_bytes([sector[0x42], sector[0x43]]), 0x7c48);
    }
}
