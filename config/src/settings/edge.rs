//! Sessions, retries and bounds of a pool.

use crate::model::{Adaptive, Breaker, RetryPolicy, Session, SessionCookie, SessionMemory, SuccessRate};
use crate::units::format_duration;

use super::{NONE, Setting, list, or_none, or_none_time};

pub(crate) fn of_session(session: &Session) -> Vec<Setting> {
    let Session { memory, gone } = session;
    let mut settings = vec![("session.type", memory.word().into()), ("session.gone", gone.word().into())];
    match memory {
        SessionMemory::Cookie(SessionCookie { name, key_file, path, domain, max_age, secure, same_site }) => settings.extend([
            ("session.name", name.clone()),
            ("session.key_file", key_file.display().to_string()),
            ("session.path", path.clone()),
            ("session.domain", domain.clone().unwrap_or(NONE.into())),
            ("session.max_age", or_none_time(*max_age)),
            ("session.secure", secure.word().into()),
            ("session.same_site", same_site.word().into()),
        ]),
        SessionMemory::Source { expiry, clients_max } => {
            settings.extend([("session.expiry", format_duration(*expiry)), ("session.clients_max", clients_max.to_string())])
        }
    }
    settings
}

pub(crate) fn of_retry(retry: &RetryPolicy) -> Vec<Setting> {
    let RetryPolicy { on, budget_percent, per_try } = retry;
    vec![
        ("retry.on", list(on)),
        ("retry.budget", budget_percent.map_or(NONE.into(), |percent| format!("{percent} %"))),
        ("retry.per_try", or_none_time(*per_try)),
    ]
}

pub(crate) fn of_breaker(breaker: &Breaker) -> Vec<Setting> {
    let Breaker { requests_max, connections_max, retries_max } = breaker;
    vec![
        ("breaker.requests_max", or_none(*requests_max)),
        ("breaker.connections_max", or_none(*connections_max)),
        ("breaker.retries_max", or_none(*retries_max)),
    ]
}

pub(crate) fn of_adaptive(adaptive: &Adaptive) -> Vec<Setting> {
    let Adaptive { least, most, tolerance_percent } = adaptive;
    vec![("adaptive.min", least.to_string()), ("adaptive.max", most.to_string()), ("adaptive.tolerance", format!("{tolerance_percent} %"))]
}

/// One line for all of it: it is on or off.
pub(crate) fn of_success_rate(rate: Option<&SuccessRate>) -> Vec<Setting> {
    let words = rate.map_or(NONE.into(), |SuccessRate { deviations, requests_min, endpoints_min, interval }| {
        let interval = format_duration(*interval);
        format!("{deviations} deviations, of {endpoints_min} endpoints with {requests_min} requests in {interval}")
    });
    vec![("ejection.success_rate", words)]
}
