//! Handing everything over to the program that takes our place.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use weir_lb::director::SavedVerdict;
use weir_lb::event::EventKind;
use weir_lb::shell::DataPlane;

use super::{ChangeError, Node, Stage, Writer, lock};
use crate::state::RawOverlay;
use crate::systemd;
use crate::upgrade::{self, Header};

impl Node {
    pub(super) fn upgrade_now(&self, writer: &mut Writer, binary: Option<PathBuf>) -> Result<u32, ChangeError> {
        let binary = match &binary {
            Some(path) => std::path::absolute(path).map_err(|error| ChangeError::Invalid(format!("{}: {error}", path.display())))?,
            None => self.inner.launch.program().to_owned(),
        };
        self.inner.events.record(EventKind::UpgradeStarted { binary: binary.display().to_string() });
        match self.hand_over(writer, &binary) {
            Ok(pid) => {
                self.inner.with_plane(|plane| plane.stop_accepting(true));
                lock(&self.inner.api).stop();
                systemd::handed_over(pid);
                self.inner.events.record(EventKind::Upgraded { pid });
                Ok(pid)
            }
            Err(reason) => {
                self.inner.events.record(EventKind::UpgradeFailed { reason: reason.clone() });
                Err(ChangeError::Failed(reason))
            }
        }
    }

    fn hand_over(&self, writer: &Writer, binary: &Path) -> Result<u32, String> {
        let text = |error: io::Error| error.to_string();
        let sockets = self.inner.with_plane(DataPlane::listening_sockets).ok_or("this node is stopping")?.map_err(text)?;
        let api = lock(&self.inner.api).socket().map_err(text)?;
        let verdicts: Vec<SavedVerdict> = self.inner.director.saved_verdicts();
        let mut header = Header::new(RawOverlay::from(&writer.overlay), writer.revision, self.inner.events.last(), verdicts);
        header.listeners = sockets.iter().map(|socket| socket.address).collect();
        header.ticket_keys = self.inner.with_plane(|plane| plane.tls().ticket_keys()).unwrap_or_default();
        header.sessions = lock(&self.inner.api).sessions();
        header.api = api.as_ref().map(|(address, _)| *address);
        let borrowed: Vec<_> =
            sockets.iter().map(|socket| socket.socket.as_fd()).chain(api.iter().map(|(_, socket)| socket.as_fd())).collect();
        let (ours, theirs) = UnixStream::pair().map_err(text)?;
        *lock(&self.inner.handover) = Some(ours.try_clone().map_err(text)?);
        // Who began to stop before it was there to be shut down could not end this.
        if self.stage() != Stage::Serving {
            lock(&self.inner.handover).take();
            return Err("this node is stopping".into());
        }
        let deadline = Instant::now() + upgrade::DEADLINE;
        let commit = |pid| {
            self.inner.stage.send_if_modified(|stage| {
                let serving = *stage == Stage::Serving;
                if serving {
                    *stage = Stage::HandedOver(pid);
                    self.inner.machines.lead(false);
                }
                serving
            })
        };
        let result = self.inner.launch.hand_over(binary, (&ours, theirs), &header, &borrowed, deadline, commit);
        lock(&self.inner.handover).take();
        result.map_err(|error| error.to_string())
    }
}

/// Lowered when the upgrade ended, however it ended.
pub(super) struct Upgrading(pub(super) Node);

impl Drop for Upgrading {
    fn drop(&mut self) {
        self.0.inner.upgrading.store(false, Ordering::Release);
    }
}
