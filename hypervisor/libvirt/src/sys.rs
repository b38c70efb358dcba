//! The few calls that the `virt` crate does not have, and the event loop that keep-alive needs.
#![expect(unsafe_code, reason = "libvirt's C functions that have no safe binding yet")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use weir_hypervisor::protocol::{Fault, FaultKind, RawDomain, RawNode};

use crate::convert::{fault, put};

/// Silences libvirt's own words on standard error, and runs the event loop without which a dead connection is never noticed.
pub(crate) fn prepare() {
    unsafe extern "C" fn silent(_: *mut c_void, _: virt_sys::virErrorPtr) {}
    // SAFETY: the function ignores its arguments, and no other thread exists yet.
    unsafe { virt_sys::virSetErrorFunc(ptr::null_mut(), Some(silent)) };
    if virt::event::event_register_default_impl().is_ok() {
        let work = || while virt::event::event_run_default_impl().is_ok() {};
        let _ = std::thread::Builder::new().name("events".into()).spawn(work);
    }
}

/// All domains in one call. A domain that is busy with a long job reports what needs no waiting.
pub(crate) fn domains(connect: &Connect) -> Result<Vec<RawDomain>, Fault> {
    let stats = virt_sys::VIR_DOMAIN_STATS_STATE
        | virt_sys::VIR_DOMAIN_STATS_CPU_TOTAL
        | virt_sys::VIR_DOMAIN_STATS_BALLOON
        | virt_sys::VIR_DOMAIN_STATS_VCPU
        | virt_sys::VIR_DOMAIN_STATS_INTERFACE
        | virt_sys::VIR_DOMAIN_STATS_BLOCK;
    let mut records: *mut virt_sys::virDomainStatsRecordPtr = ptr::null_mut();
    // SAFETY: the connection is open for as long as it is borrowed; libvirt fills the pointer when it returns 0 or more.
    let count = unsafe {
        virt_sys::virConnectGetAllDomainStats(connect.as_ptr(), stats, &raw mut records, virt_sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
    };
    if count < 0 {
        return Err(fault(Error::last_error()));
    }
    let mut found = Vec::with_capacity(count as usize);
    for at in 0..count as usize {
        // SAFETY: the array has `count` valid records, each with a domain and `nparams` parameters, until it is freed below.
        found.push(unsafe { record(&**records.add(at)) });
    }
    // SAFETY: the list came from libvirt and is not used any more.
    unsafe { virt_sys::virDomainStatsRecordListFree(records) };
    Ok(found)
}

/// # Safety
///
/// The record must be one of libvirt's, not freed yet.
unsafe fn record(record: &virt_sys::virDomainStatsRecord) -> RawDomain {
    let mut domain = RawDomain::default();
    let mut uuid = [0 as c_char; virt_sys::VIR_UUID_STRING_BUFLEN as usize];
    // SAFETY: the domain handle is valid with its record; the buffer has the length that libvirt asks for; neither call leaves the process.
    unsafe {
        let name = virt_sys::virDomainGetName(record.dom);
        if !name.is_null() {
            domain.name = CStr::from_ptr(name).to_string_lossy().into_owned();
        }
        if virt_sys::virDomainGetUUIDString(record.dom, uuid.as_mut_ptr()) == 0 {
            domain.uuid = CStr::from_ptr(uuid.as_ptr()).to_string_lossy().into_owned();
        }
    }
    for at in 0..usize::try_from(record.nparams).unwrap_or(0) {
        // SAFETY: there are `nparams` parameters; their names end with zero; `type_` says which member of the union is set.
        let (field, value) = unsafe {
            let parameter = &*record.params.add(at);
            (CStr::from_ptr(parameter.field.as_ptr()), number(parameter))
        };
        if let (Ok(field), Some(value)) = (field.to_str(), value) {
            put(&mut domain, field, value);
        }
    }
    domain
}

/// # Safety
///
/// The parameter must be one that libvirt filled.
unsafe fn number(parameter: &virt_sys::virTypedParameter) -> Option<i128> {
    // SAFETY: `type_` says which member of the union is set.
    unsafe {
        match parameter.type_ as u32 {
            virt_sys::VIR_TYPED_PARAM_INT => Some(i128::from(parameter.value.i)),
            virt_sys::VIR_TYPED_PARAM_UINT => Some(i128::from(parameter.value.ui)),
            virt_sys::VIR_TYPED_PARAM_LLONG => Some(i128::from(parameter.value.l)),
            virt_sys::VIR_TYPED_PARAM_ULLONG => Some(i128::from(parameter.value.ul)),
            virt_sys::VIR_TYPED_PARAM_BOOLEAN => Some(i128::from(parameter.value.b != 0)),
            _ => None,
        }
    }
}

/// The host's processors and memory; what the driver does not know stays out.
pub(crate) fn node(connect: &Connect) -> Result<RawNode, Fault> {
    let info = connect.node_info().map_err(fault)?;
    let mut node = RawNode { cpus: info.cpus, memory_total: info.memory.saturating_mul(1024), ..RawNode::default() };
    let cpu = cpu_stats(connect);
    let value = |name: &str| cpu.iter().find(|(field, _)| field == name).map(|(_, value)| *value);
    if let (Some(user), Some(kernel), Some(idle)) = (value("user"), value("kernel"), value("idle")) {
        node.cpu_busy_ns = Some(user.saturating_add(kernel));
        node.cpu_idle_ns = Some(idle.saturating_add(value("iowait").unwrap_or(0)));
    }
    let memory = memory_stats(connect);
    let kib = |name: &str| memory.iter().find(|(field, _)| field == name).map(|(_, value)| value.saturating_mul(1024));
    node.memory_free = kib("free").map(|free| free.saturating_add(kib("buffers").unwrap_or(0)).saturating_add(kib("cached").unwrap_or(0)));
    Ok(node)
}

fn cpu_stats(connect: &Connect) -> Vec<(String, u64)> {
    let all = virt_sys::VIR_NODE_CPU_STATS_ALL_CPUS;
    let mut count: c_int = 0;
    // SAFETY: with no array, libvirt only says how many there are.
    if unsafe { virt_sys::virNodeGetCPUStats(connect.as_ptr(), all, ptr::null_mut(), &raw mut count, 0) } < 0 || count <= 0 {
        return Vec::new();
    }
    let empty = virt_sys::virNodeCPUStats { field: [0; 80], value: 0 };
    let mut stats = vec![empty; count as usize];
    // SAFETY: the array has room for `count`.
    if unsafe { virt_sys::virNodeGetCPUStats(connect.as_ptr(), all, stats.as_mut_ptr(), &raw mut count, 0) } < 0 {
        return Vec::new();
    }
    // SAFETY: libvirt ends the names with zero, and those it did not fill are all zero.
    stats.iter().map(|stat| (unsafe { CStr::from_ptr(stat.field.as_ptr()) }.to_string_lossy().into_owned(), stat.value)).collect()
}

fn memory_stats(connect: &Connect) -> Vec<(String, u64)> {
    let all = virt_sys::VIR_NODE_MEMORY_STATS_ALL_CELLS;
    let mut count: c_int = 0;
    // SAFETY: with no array, libvirt only says how many there are.
    if unsafe { virt_sys::virNodeGetMemoryStats(connect.as_ptr(), all, ptr::null_mut(), &raw mut count, 0) } < 0 || count <= 0 {
        return Vec::new();
    }
    let empty = virt_sys::virNodeMemoryStats { field: [0; 80], value: 0 };
    let mut stats = vec![empty; count as usize];
    // SAFETY: the array has room for `count`.
    if unsafe { virt_sys::virNodeGetMemoryStats(connect.as_ptr(), all, stats.as_mut_ptr(), &raw mut count, 0) } < 0 {
        return Vec::new();
    }
    // SAFETY: libvirt ends the names with zero, and those it did not fill are all zero.
    stats.iter().map(|stat| (unsafe { CStr::from_ptr(stat.field.as_ptr()) }.to_string_lossy().into_owned(), stat.value)).collect()
}

/// From now on libvirt waits so many seconds for an answer of this guest's agent, and not for ever.
pub(crate) fn bound_agent(domain: &Domain, seconds: c_int) -> Result<(), Fault> {
    // SAFETY: the handle is valid.
    match unsafe { virt_sys::virDomainAgentSetResponseTimeout(domain.as_ptr(), seconds, 0) } {
        0 => Ok(()),
        _ => Err(fault(Error::last_error())),
    }
}

/// Begins to copy what a disk's base holds into the disk.
pub(crate) fn pull(domain: &Domain, disk: &str) -> Result<(), Fault> {
    let disk = c_string(disk)?;
    // SAFETY: the handle is valid and the string ends with zero.
    match unsafe { virt_sys::virDomainBlockPull(domain.as_ptr(), disk.as_ptr(), 0, 0) } {
        0 => Ok(()),
        _ => Err(fault(Error::last_error())),
    }
}

/// Bytes done and bytes in all of the copy that runs on a disk; `None`: none runs.
pub(crate) fn pull_progress(domain: &Domain, disk: &str) -> Result<Option<(u64, u64)>, Fault> {
    let disk = c_string(disk)?;
    let mut info = virt_sys::virDomainBlockJobInfo { type_: 0, bandwidth: 0, cur: 0, end: 0 };
    // SAFETY: the handle is valid, the string ends with zero, and `info` is only written to.
    match unsafe { virt_sys::virDomainGetBlockJobInfo(domain.as_ptr(), disk.as_ptr(), &raw mut info, 0) } {
        0 => Ok(None),
        1 => Ok(Some((info.cur, info.end))),
        _ => Err(fault(Error::last_error())),
    }
}

fn c_string(text: &str) -> Result<CString, Fault> {
    CString::new(text).map_err(|_| Fault { kind: FaultKind::Other, message: "a zero byte in a name".into() })
}
