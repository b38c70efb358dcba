//! Which pool takes a request.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use weir_config::HttpListener;

use crate::snapshot::ListenerSnapshot;

/// The pool of the first route that matches, else the listener's own. `host` is without port.
pub(crate) fn pool(listener: &ListenerSnapshot, http: &HttpListener, host: &[u8], path: &[u8]) -> Option<u32> {
    for (route, pool) in http.routes.iter().zip(&listener.route_pools) {
        let host_fits = route.host.as_ref().is_none_or(|wanted| wanted.as_bytes().eq_ignore_ascii_case(host));
        let path_fits = route.path.as_ref().is_none_or(|prefix| path.starts_with(prefix.as_bytes()));
        if host_fits && path_fits {
            return Some(*pool);
        }
    }
    listener.pool
}
