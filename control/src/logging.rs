//! What the program says about itself: `tracing` on standard error, as plain text for the journal and for people.

use std::io;

use tracing::warn;
use tracing_subscriber::EnvFilter;

/// The variable that sets the level: `debug`, or `info,weir_lb=trace`.
const VARIABLE: &str = "WEIR_LOG";

/// To be called once, at the start.
pub(crate) fn start() {
    let wish = std::env::var(VARIABLE).ok().filter(|wish| !wish.is_empty());
    let filter = wish.as_deref().map(|wish| wish.parse::<EnvFilter>());
    let (filter, error) = match filter {
        None => (EnvFilter::new("info"), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new("info"), Some(error)),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_target(false).with_writer(io::stderr).finish();
    // An error: somebody else has set one up already, which is as good.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if let Some(error) = error {
        warn!(%error, "{VARIABLE} is not understood: logging at level info");
    }
}
