//! The UDP listener: datagrams of a client go to one endpoint, what comes back goes to the client.
//!
//! One task per worker and listening socket owns everything. Each flow has a connected socket to its endpoint, so that the kernel sorts the
//! answers and reports an endpoint that refuses. All sockets sit in an epoll set of their own, of which the runtime sees one descriptor:
//! a wake-up serves every socket that is ready.
//!
//! ```text
//!   serve ── waits for: the epoll set, the table's deadline, a new snapshot, the order to stop
//!     └─ Server::turn ─┬─ serve_clients    one batch, sorted by flow, one call per flow
//!                      └─ serve_endpoints  what many flows answered, one call for all
//! ```

mod flows;
mod server;
mod sys;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use self::server::Server;
use super::worker::{Stop, Worker};

/// An alarm that nobody waits for.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Serves a socket until it is stopped and its flows have ended. `alive` is let go of then.
pub(super) async fn serve(worker: Rc<Worker>, socket: OwnedFd, address: SocketAddr, slot: u32, stop: Rc<Stop>, alive: Arc<()>) {
    let Some(listener) = worker.listener(slot) else { return };
    let mut server = match Server::new(&worker, socket, address, listener) {
        Ok(server) => server,
        Err(error) => return tracing::error!(%address, %error, "cannot serve a listening socket"),
    };
    let shared = Arc::clone(&worker.shared);
    // Renewed before what it told is acted on: a notification reaches only those that wait already.
    let mut changed = pin!(shared.changed.notified());
    changed.as_mut().enable();
    server.refresh();
    // Deadlines mostly move away, so the alarm is set again only for an earlier one, and when it went off.
    let mut alarm = pin!(tokio::time::sleep(FAR));
    let mut alarm_ms = u64::MAX;
    let mut more = false;
    while !server.is_done() {
        if let Some(due) = server.poll_timeout().filter(|due| *due < alarm_ms) {
            alarm_ms = due;
            let wait = due.saturating_sub(worker.timers.now_us() / 1000);
            alarm.as_mut().reset(tokio::time::Instant::now() + Duration::from_millis(wait));
        }
        tokio::select! {
            biased;
            () = stop.now.notified() => {
                server.stop(address, stop.mode.get());
                stop.done.replace(None);
            }
            () = changed.as_mut() => {
                changed.set(shared.changed.notified());
                changed.as_mut().enable();
                server.refresh();
            }
            () = alarm.as_mut(), if alarm_ms != u64::MAX => {
                alarm_ms = u64::MAX;
                server.handle_timeout();
            }
            // The runtime was told once of what is still there: come back by ourselves, after the others.
            () = tokio::task::yield_now(), if more => more = !server.turn(),
            ready = server.epoll.readable(), if !more => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                more = !server.turn();
            }
        }
    }
    drop(alive);
}
