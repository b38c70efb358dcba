//! `[notify.NAME.smpp]`

use std::path::PathBuf;

use super::http::{self, needs_password};
use super::phone;
use super::secret::secret;
use super::server::{self, Schemes};
use crate::reader::Table;
use crate::secret::SecretSource;
use crate::settings::{NONE, Setting};
use crate::spec::{Key, Keys, word};

/// Names that SMPP takes have a byte less than their fields (SMPP 3.4 section 5.2).
const USER_BYTES_MAX: usize = 15;
const SYSTEM_TYPE_BYTES_MAX: usize = 12;

/// Short messages through a centre that speaks SMPP 3.4.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SmppChannel {
    /// Host of `server`.
    pub host: String,
    /// Port of `server`.
    pub port: u16,
    /// `smpps://`: TLS from the first byte.
    pub tls: bool,
    /// `user`: the system's id.
    pub user: String,
    /// Where the password is.
    pub password: SecretSource,
    /// `system_type`. Default empty.
    pub system_type: String,
    /// `from`
    pub from: String,
    /// `to`: never empty.
    pub to: Vec<String>,
    /// `parts_max`. Default 1.
    pub parts_max: u32,
    /// `alphabet = "ucs2"`: always with 16 bits for a character. Default false.
    pub always_ucs2: bool,
    /// `ca_file`: the authorities that are trusted; absent: the system's.
    pub ca_file: Option<PathBuf>,
}

const SCHEMES: Schemes =
    Schemes { what: "centre for short messages", plain: ("smpp", 2775), tls: ("smpps", 3550), host: "smsc.example.com" };

pub(super) static SMPP: Keys = Keys {
    place: "[notify.NAME.smpp]",
    about: "Short messages through a centre that speaks SMPP 3.4: the title, with the link that acknowledges where that fits.",
    keys: &[
        Key::text(
            "server",
            "\"smpps://smsc.example.com\"",
            "The centre: smpp://HOST:PORT (2775 if absent), or smpps://HOST:PORT (3550) for TLS.",
        )
        .required(),
        Key::text("user", "\"weir\"", "The name to bind with, called system_id by SMPP.").required(),
        Key::text("password_file", "\"/etc/weir/smpp.password\"", "A file that holds the password of `user`; SMPP takes 8 bytes at most."),
        Key::text("password_env", "\"SMPP_PASSWORD\"", "Or the environment variable that holds it."),
        Key::text("system_type", "\"weir\"", "What some centres want to know besides; absent: nothing."),
        phone::FROM.required(),
        phone::TO,
        phone::PARTS_MAX,
        Key::choice(
            "alphabet",
            &[word("gsm", "GSM 03.38 where that has all characters, UCS-2 otherwise"), word("ucs2", "always UCS-2")],
            "How texts are written: ucs2 for a centre whose own alphabet is another one.",
        )
        .default("gsm"),
        http::CA_FILE,
    ],
};

pub(super) fn smpp(table: &Table<'_>) -> Option<SmppChannel> {
    let server = table.field("server").and_then(|field| field.checked(server::parse(field.text()?, &SCHEMES)));
    let short = |key: &str, bytes_max: usize| {
        let field = table.field(key)?;
        field.checked(parse_short(field.text()?, key, bytes_max))
    };
    let (user, system_type) = (short("user", USER_BYTES_MAX), short("system_type", SYSTEM_TYPE_BYTES_MAX));
    let password = secret(table, "password_file", "password_env");
    if let (Some(field), false) = (table.field("user"), table.has("password_file") || table.has("password_env")) {
        needs_password(&field);
    }
    let (from, to, parts_max) = (phone::sender(table), phone::numbers(table), table.count_u32("parts_max"));
    let (always_ucs2, ca_file) = (table.choice("alphabet") == Some("ucs2"), http::ca_file(table));
    if table.has("system_type") && system_type.is_none() {
        return None;
    }
    let (tls, host, port) = server?;
    if !tls {
        table.refuse(&["ca_file"], "with smpp://");
    }
    let system_type = system_type.unwrap_or_default();
    Some(SmppChannel {
        host,
        port,
        tls,
        user: user?,
        password: password?,
        system_type,
        from: from?,
        to: to?,
        parts_max: parts_max?,
        always_ucs2,
        ca_file,
    })
}

fn parse_short(text: &str, key: &str, bytes_max: usize) -> Result<String, String> {
    let good = !text.is_empty() && text.len() <= bytes_max && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(text.to_owned()) } else { Err(format!("`{key}` must have 1 to {bytes_max} printable characters of ASCII")) }
}

pub(super) fn settings(smpp: &SmppChannel) -> Vec<Setting> {
    let SmppChannel { host, port, tls, user, password, system_type, from, to, parts_max, always_ucs2, ca_file } = smpp;
    vec![
        ("smpp.server", server::shown(&SCHEMES, *tls, host, *port)),
        ("smpp.user", user.clone()),
        ("smpp.password", password.to_string()),
        ("smpp.system_type", if system_type.is_empty() { NONE.into() } else { system_type.clone() }),
        ("smpp.from", from.clone()),
        ("smpp.to", to.join(", ")),
        ("smpp.parts_max", parts_max.to_string()),
        ("smpp.alphabet", if *always_ucs2 { "ucs2" } else { "gsm" }.into()),
        ("smpp.ca_file", http::file_setting(ca_file.as_ref())),
    ]
}
