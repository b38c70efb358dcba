//! `[notify.NAME.snmp]`

use super::secret::secret;
use crate::reader::{Field, Table};
use crate::secret::SecretSource;
use crate::settings::{NONE, Setting};
use crate::spec::{Key, Keys, Kind, word};

/// Receivers of one channel.
const RECEIVERS_MAX: usize = 10;
/// Where receivers listen (RFC 3418).
const PORT: u16 = 162;
/// The longest name of a user (RFC 3414 section 5).
const USER_BYTES_MAX: usize = 32;
/// What arcs begin with: `enterprises` (RFC 2578).
const ENTERPRISES: [u32; 6] = [1, 3, 6, 1, 4, 1];
/// The number that IANA keeps for examples (RFC 5612), and the first below it: the project has none of its own.
const ARC: [u32; 8] = [1, 3, 6, 1, 4, 1, 32_473, 1];
/// The longest arc: far from the 128 numbers that a name may have, and short enough for names to fit into a datagram.
const ARC_NUMBERS_MAX: usize = 24;

/// Notifications of SNMP, to each of these receivers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnmpChannel {
    /// `to`: hosts and ports; never empty.
    pub to: Vec<(String, u16)>,
    /// `inform`: receivers confirm. Default true.
    pub inform: bool,
    /// `version`
    pub version: SnmpVersion,
    /// `arc`: below which the names of WEIR-MIB stand.
    pub arc: SnmpArc,
}

/// An arc below `enterprises`: the number of an enterprise, and at will more numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnmpArc(Vec<u32>);

impl SnmpArc {
    /// All its numbers, from the root.
    pub fn numbers(&self) -> &[u32] {
        &self.0
    }

    /// Whose it is.
    pub fn enterprise(&self) -> u32 {
        self.0.get(ENTERPRISES.len()).copied().unwrap_or_default()
    }
}

impl Default for SnmpArc {
    fn default() -> SnmpArc {
        SnmpArc(ARC.to_vec())
    }
}

impl std::fmt::Display for SnmpArc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

/// Which SNMP, and who we are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnmpVersion {
    /// With a community; absent: `public`.
    V2c(Option<SecretSource>),
    /// With a user.
    V3(SnmpUser),
}

/// A user (RFC 3414).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnmpUser {
    /// `user`
    pub name: String,
    /// `auth`, and the password for it; absent: nothing is signed.
    pub auth: Option<(SnmpAuth, SecretSource)>,
    /// The password by which messages are encrypted, with AES of 128 bits; absent: they are not. Never there without `auth`.
    pub privacy: Option<SecretSource>,
    /// `engine_id`: of traps; absent: made of the node's name.
    pub engine_id: Option<Vec<u8>>,
}

/// How messages are signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SnmpAuth {
    /// HMAC-SHA-1 with 96 bits (RFC 3414).
    Sha1,
    /// HMAC-SHA-224 with 128 bits (RFC 7860, as the others).
    Sha224,
    /// HMAC-SHA-256 with 192 bits.
    #[default]
    Sha256,
    /// HMAC-SHA-384 with 256 bits.
    Sha384,
    /// HMAC-SHA-512 with 384 bits.
    Sha512,
}

/// Each by its word.
const AUTHS: &[(&str, SnmpAuth)] = &[
    ("sha1", SnmpAuth::Sha1),
    ("sha224", SnmpAuth::Sha224),
    ("sha256", SnmpAuth::Sha256),
    ("sha384", SnmpAuth::Sha384),
    ("sha512", SnmpAuth::Sha512),
];

pub(super) static SNMP: Keys = Keys {
    place: "[notify.NAME.snmp]",
    about: "Notifications of SNMP, described by WEIR-MIB.",
    keys: &[
        Key { example: "[\"nms.example.com\"]", ..Key::new("to", Kind::TextOrTexts, "The receivers: HOST or HOST:PORT (162 if absent).") }
            .required(),
        Key::choice("version", &[word("2c", "with a community"), word("3", "with a user")], "Which SNMP.").default("2c"),
        Key::flag(
            "inform",
            "true",
            "Receivers confirm, and what is not confirmed is sent again. Otherwise a trap, which may be lost unseen.",
        ),
        Key::text(
            "arc",
            "\"1.3.6.1.4.1.32473.1\"",
            "Where the names of WEIR-MIB stand, if not below the number that is kept for examples: below that of an enterprise of yours.",
        )
        .default("1.3.6.1.4.1.32473.1"),
        Key::text("community_file", "\"/etc/weir/snmp.community\"", "Of version 2c: a file that holds the community; absent: public."),
        Key::text("community_env", "\"SNMP_COMMUNITY\"", "Or the environment variable that holds it."),
        Key::text("user", "\"weir\"", "Of version 3: the user."),
        Key::choice(
            "auth",
            &[
                word("sha1", "HMAC-SHA-1-96"),
                word("sha224", "HMAC-SHA-224-128"),
                word("sha256", "HMAC-SHA-256-192"),
                word("sha384", "HMAC-SHA-384-256"),
                word("sha512", "HMAC-SHA-512-384"),
            ],
            "Of version 3: how messages are signed, where there is a password for that; absent: sha256.",
        ),
        Key::text(
            "auth_password_file",
            "\"/etc/weir/snmp.auth\"",
            "Of version 3: a file that holds the password for signing; absent: unsigned.",
        ),
        Key::text("auth_password_env", "\"SNMP_AUTH\"", "Or the environment variable that holds it."),
        Key::text(
            "privacy_password_file",
            "\"/etc/weir/snmp.privacy\"",
            "Of version 3: a file that holds the password for AES-128; absent: readable.",
        ),
        Key::text("privacy_password_env", "\"SNMP_PRIVACY\"", "Or the environment variable that holds it."),
        Key::text(
            "engine_id",
            "\"80007ed9046c622d61\"",
            "Of version 3: who sends traps, 5 to 32 bytes in hexadecimal; absent: made of the node's name.",
        ),
    ],
};

pub(super) fn snmp(table: &Table<'_>) -> Option<SnmpChannel> {
    let (to, inform) = (receivers(table), table.flag("inform"));
    let community = secret(table, "community_file", "community_env");
    let user = user(table);
    let arc = match table.field("arc") {
        Some(field) => field.text().and_then(|text| field.checked(parse_arc(text))),
        None => Some(SnmpArc::default()),
    };
    let version = if table.choice("version") == Some("3") {
        table.refuse(&["community_file", "community_env"], "with version = \"3\"");
        if !table.has("user") {
            table.report(table.problem("version", "version 3 needs `user`").help("add `user = \"weir\"`").needs_whole_file());
        }
        user.map(SnmpVersion::V3)
    } else {
        let only_3 =
            ["user", "auth", "auth_password_file", "auth_password_env", "privacy_password_file", "privacy_password_env", "engine_id"];
        table.refuse(&only_3, "with version = \"2c\"");
        Some(SnmpVersion::V2c(community))
    };
    Some(SnmpChannel { to: to?, inform: inform?, version: version?, arc: arc? })
}

fn user(table: &Table<'_>) -> Option<SnmpUser> {
    let auth_password = secret(table, "auth_password_file", "auth_password_env");
    let privacy = secret(table, "privacy_password_file", "privacy_password_env");
    let has_auth = table.has("auth_password_file") || table.has("auth_password_env");
    if !has_auth {
        table.refuse(&["auth", "privacy_password_file", "privacy_password_env"], "without `auth_password_file`");
    }
    let word = table.choice("auth");
    let auth = AUTHS.iter().find(|(name, _)| Some(*name) == word).map_or(SnmpAuth::default(), |(_, auth)| *auth);
    let engine_id = match table.field("engine_id") {
        Some(field) => Some(field.checked(parse_engine_id(field.text()?))?),
        None => None,
    };
    let field = table.field("user")?;
    let name = field.checked(parse_user(field.text()?))?;
    Some(SnmpUser { name, auth: auth_password.map(|password| (auth, password)), privacy, engine_id })
}

fn receivers(table: &Table<'_>) -> Option<Vec<(String, u16)>> {
    let field = table.field("to")?;
    let receiver = |item: &Field<'_>| item.text().and_then(|text| item.checked(parse_receiver(text)));
    let items = field.one_or_many();
    let found: Vec<(String, u16)> = items.iter().filter_map(receiver).collect();
    if items.is_empty() {
        field.report(field.problem("`to` names nobody").help("for example `to = [\"nms.example.com\"]`"));
    }
    if items.len() > RECEIVERS_MAX {
        field.report(field.problem(format!("`to` names more than {RECEIVERS_MAX} receivers")).help("make more channels"));
    }
    (!found.is_empty() && found.len() == items.len()).then_some(found)
}

fn parse_receiver(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("{text:?} is not a receiver; write it as \"nms.example.com\" or \"10.0.0.9:162\"");
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(wrong)?)),
        None if text.matches(':').count() > 1 => (text, None),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None => PORT,
        Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?,
    };
    let good =
        !host.is_empty() && host.len() <= 253 && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
    if good { Ok((host.to_owned(), port)) } else { Err(wrong()) }
}

fn parse_user(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.len() <= USER_BYTES_MAX && !text.chars().any(char::is_control);
    if good { Ok(text.to_owned()) } else { Err(format!("`user` must have 1 to {USER_BYTES_MAX} bytes and no control characters")) }
}

/// RFC 3411: 5 to 32 bytes, neither all zero nor all ones.
fn parse_engine_id(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("{text:?} is not an engine's id; write 5 to 32 bytes in hexadecimal");
    let text_bytes = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let (pairs, []) = text_bytes.as_chunks::<2>() else { return Err(wrong()) };
    let bytes: Vec<u8> = pairs.iter().map(|pair| crate::url_path::decoded(*pair)).collect::<Option<_>>().ok_or_else(wrong)?;
    let is_flat = bytes.iter().all(|byte| *byte == 0) || bytes.iter().all(|byte| *byte == 0xff);
    if (5..=32).contains(&bytes.len()) && !is_flat { Ok(bytes) } else { Err(wrong()) }
}

fn parse_arc(text: &str) -> Result<SnmpArc, String> {
    let wrong = || format!("{text:?} is no arc below an enterprise; write it as \"1.3.6.1.4.1.32473.1\", with the enterprise's own number");
    // As `snmptranslate -On` writes it.
    let numbers = text.strip_prefix('.').unwrap_or(text).split('.');
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| number.to_string() == text);
    let numbers: Vec<u32> = numbers.map(number).collect::<Option<_>>().ok_or_else(wrong)?;
    let is_good = numbers.strip_prefix(&ENTERPRISES).and_then(<[u32]>::first).is_some_and(|enterprise| *enterprise > 0);
    if is_good && numbers.len() <= ARC_NUMBERS_MAX { Ok(SnmpArc(numbers)) } else { Err(wrong()) }
}

pub(super) fn settings(snmp: &SnmpChannel) -> Vec<Setting> {
    let SnmpChannel { to, inform, version, arc } = snmp;
    let receiver = |(host, port): &(String, u16)| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let source = |source: &Option<SecretSource>| source.as_ref().map_or(NONE.into(), ToString::to_string);
    let mut settings = vec![
        ("snmp.to", to.iter().map(receiver).collect::<Vec<_>>().join(", ")),
        ("snmp.version", if matches!(version, SnmpVersion::V3(_)) { "3" } else { "2c" }.into()),
        ("snmp.inform", inform.to_string()),
        ("snmp.arc", arc.to_string()),
    ];
    match version {
        SnmpVersion::V2c(community) => settings.push(("snmp.community", source(community))),
        SnmpVersion::V3(SnmpUser { name, auth, privacy, engine_id }) => {
            let word = |auth: SnmpAuth| AUTHS.iter().find(|(_, other)| *other == auth).map_or(NONE, |(word, _)| word).to_owned();
            let id = engine_id.as_ref().map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            settings.extend([
                ("snmp.user", name.clone()),
                ("snmp.auth", auth.as_ref().map_or(NONE.into(), |(auth, _)| word(*auth))),
                ("snmp.auth_password", auth.as_ref().map_or(NONE.into(), |(_, source)| source.to_string())),
                ("snmp.privacy_password", source(privacy)),
                ("snmp.engine_id", id.unwrap_or(NONE.into())),
            ]);
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_and_engines() {
        for (text, want) in [
            ("nms", Some(("nms", 162))),
            ("10.0.0.9:1162", Some(("10.0.0.9", 1162))),
            ("[::1]:1162", Some(("::1", 1162))),
            ("::1", Some(("::1", 162))),
            ("", None),
            ("a b", None),
            ("a:0", None),
            ("[::1]x", None),
        ] {
            let parsed = parse_receiver(text);
            assert_eq!(parsed.as_ref().ok().map(|(host, port)| (host.as_str(), *port)), want, "{text}");
        }
        for (text, good) in [
            ("80007ed904", true),
            ("0x80007ED904", true),
            ("80007e", false),
            ("80007ed90", false),
            ("0000000000", false),
            ("zz007ed904", false),
        ] {
            assert_eq!(parse_engine_id(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn arcs() {
        for (text, want) in [
            ("1.3.6.1.4.1.32473.1", Some(32_473)),
            (".1.3.6.1.4.1.9", Some(9)),
            ("1.3.6.1.4.1.4294967295.1.2.3", Some(u32::MAX)),
            ("1.3.6.1.4.1", None),
            ("1.3.6.1.4.1.0.1", None),
            ("1.3.6.1.4.1.4294967296", None),
            ("1.3.6.1.4.1.9.", None),
            ("1.3.6.1.4.1.+9", None),
            ("1.3.6.1.4.1.09", None),
            ("1.3.6.1.2.1.1", None),
            ("", None),
            (&format!("1.3.6.1.4.1{}", ".1".repeat(19)), None),
        ] {
            assert_eq!(parse_arc(text).ok().map(|arc| arc.enterprise()), want, "{text}");
        }
        assert_eq!(parse_arc(".1.3.6.1.4.1.9").map(|arc| arc.to_string()), Ok("1.3.6.1.4.1.9".to_owned()));
        assert_eq!(SnmpArc::default().to_string(), "1.3.6.1.4.1.32473.1");
    }
}
