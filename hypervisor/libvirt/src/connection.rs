//! The one connection of this process, and what is looked up through it.

use std::sync::{Mutex, PoisonError};

use virt::connect::Connect;
use virt::domain::Domain;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use weir_hypervisor::protocol::{Fault, FaultKind};

use crate::convert::fault;

/// After so many seconds without an answer, and so many times, libvirt itself gives a connection up.
const KEEP_ALIVE_S: i32 = 5;
const KEEP_ALIVE_COUNT: u32 = 3;

/// Open after [`Connection::open`]; libvirt's handles may be used from many threads.
#[derive(Default)]
pub(crate) struct Connection {
    open: Mutex<Option<Connect>>,
}

impl Connection {
    /// Connects, and names the driver.
    pub(crate) fn open(&self, uri: &str) -> Result<String, Fault> {
        let connect = Connect::open(Some(uri)).map_err(fault)?;
        // Local drivers have no keep-alive, and need none.
        let _ = connect.set_keep_alive(KEEP_ALIVE_S, KEEP_ALIVE_COUNT);
        let driver = connect.driver_type().map_err(fault)?;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(connect);
        Ok(driver)
    }

    /// A handle of its own on the open connection.
    pub(crate) fn get(&self) -> Result<Connect, Fault> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.clone().ok_or_else(|| Fault { kind: FaultKind::Connection, message: "not connected yet".into() })
    }

    pub(crate) fn domain(&self, uuid: &str) -> Result<Domain, Fault> {
        self.get()?.lookup_domain_by_uuid_string(uuid).map_err(fault)
    }

    /// An active storage pool: one that is defined but stopped is started.
    pub(crate) fn storage(&self, name: &str) -> Result<StoragePool, Fault> {
        let pool = self.get()?.lookup_storage_pool_by_name(name).map_err(fault)?;
        if !pool.is_active().map_err(fault)? {
            let started = pool.create(0).map_err(fault);
            // Another node may have been faster.
            if !pool.is_active().map_err(fault)? {
                started?;
            }
        }
        Ok(pool)
    }

    /// A volume, also one that something else put into the folder since libvirt last looked.
    pub(crate) fn volume(&self, storage: &str, name: &str) -> Result<StorageVol, Fault> {
        let pool = self.storage(storage)?;
        pool.lookup_storage_vol_by_name(name)
            .or_else(|first| {
                // A pool that is busy with another volume cannot be read afresh; then what libvirt knows must do.
                pool.refresh(0).map_err(|_| first)?;
                pool.lookup_storage_vol_by_name(name)
            })
            .map_err(fault)
    }
}
