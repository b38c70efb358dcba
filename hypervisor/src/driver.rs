//! The seam between what is decided and who carries it out: calls to one host.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::error::CallError;
use crate::protocol::{Answer, Request};

/// What comes back.
pub type Reply = Result<(Answer, Vec<u8>), CallError>;

/// A future that may go anywhere.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One host to which calls can be made. There are two: [`crate::agent::Agent`] over a process with libvirt, and [`crate::memory::MemoryHost`],
/// which plays a host for tests and simulations.
pub trait Driver: fmt::Debug + Send + Sync + 'static {
    /// Makes a call. It never takes longer than `deadline`.
    fn call(&self, request: Request, payload: Vec<u8>, deadline: Duration) -> Boxed<'_, Reply>;

    /// Whether there is a connection; the error says why not.
    fn link(&self) -> Result<String, String>;
}

impl Request {
    /// For messages: what was being done.
    pub fn what(&self) -> &'static str {
        match self {
            Request::Hello { .. } => "the greeting",
            Request::Open { .. } => "connecting",
            Request::Sample => "reading the counters",
            Request::Describe { .. } | Request::Find { .. } => "reading a machine's definition",
            Request::Pressure => "reading its pressure",
            Request::Storage { .. } => "reading the storage pool",
            Request::Volumes { .. } | Request::Volume { .. } | Request::VolumeAt { .. } => "looking for a volume",
            Request::CreateVolume { .. } => "making a volume",
            Request::DeleteVolume { .. } => "deleting a volume",
            Request::Upload { .. } | Request::Write { .. } => "writing a volume",
            Request::Download { .. } | Request::Digest { .. } | Request::Tail { .. } => "reading a volume",
            Request::Define { .. } => "defining the machine",
            Request::Undefine { .. } => "removing the definition",
            Request::StartTransient { .. } => "starting a machine for a try",
            Request::Power { act, .. } => act.what(),
            Request::SetMetadata { .. } => "writing its metadata",
            Request::Addresses { .. } => "asking for its address",
            Request::SetTime { .. } => "setting its clock",
            Request::Screenshot { .. } => "taking a picture of its screen",
            Request::Flatten { .. } | Request::FlattenProgress { .. } => "flattening its disk",
            Request::Migrate { .. } => "the migration",
        }
    }
}

impl crate::protocol::PowerAct {
    fn what(self) -> &'static str {
        use crate::protocol::PowerAct;
        match self {
            PowerAct::Start => "the start",
            PowerAct::Suspend => "the suspension",
            PowerAct::Resume => "the resumption",
            PowerAct::Shutdown => "the shutdown",
            PowerAct::Reboot => "the reboot",
            PowerAct::Reset => "the reset",
            PowerAct::PowerOff => "the power-off",
            PowerAct::Save => "saving its memory",
        }
    }
}
