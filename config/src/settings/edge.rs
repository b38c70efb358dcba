//! `[pool.NAME.session]`

use crate::model::{Session, SessionCookie, SessionMemory};
use crate::units::format_duration;

use super::{NONE, Setting, or_none_time};

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
        SessionMemory::Source { expiry, clients_max } => settings.extend([
            ("session.expiry", format_duration(*expiry)),
            ("session.clients_max", clients_max.to_string()),
        ]),
    }
    settings
}
