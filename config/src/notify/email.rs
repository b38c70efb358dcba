//! `[notify.NAME.email]`

use std::path::PathBuf;

use super::language::{LANGUAGE_WORDS, Language};
use super::secret::secret;
use super::server::{self, Schemes};
use crate::parse::absolute_path;
use crate::reader::{Field, Table};
use crate::secret::SecretSource;
use crate::settings::{NONE, Setting};
use crate::spec::{Key, Keys, Kind, word};

/// People on one mail. More belong on a mailing list.
const RECIPIENTS_MAX: usize = 100;

const SCHEMES: Schemes = Schemes { what: "mail server", plain: ("smtp", 587), tls: ("smtps", 465), host: "mail.example.com" };

/// Mail through one server.
#[derive(Clone, PartialEq, Debug)]
pub struct EmailChannel {
    /// Host of `smtp`, a name or an address without brackets.
    pub host: String,
    /// Port of `smtp`.
    pub port: u16,
    /// Scheme of `smtp`, and `starttls`.
    pub security: MailSecurity,
    /// `from`: the sender's address.
    pub from: String,
    /// `to`: never empty.
    pub to: Vec<Recipient>,
    /// `user` and where its password is.
    pub login: Option<(String, SecretSource)>,
    /// `ca_file`: the authorities that are trusted; absent: the system's.
    pub ca_file: Option<PathBuf>,
    /// `html`: with an HTML part. Default true.
    pub html: bool,
    /// `picture`: with a small picture of the metric, where there is one. Default true.
    pub picture: bool,
}

/// One recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipient {
    /// The address.
    pub address: String,
    /// `language`; absent: the channel's.
    pub language: Option<Language>,
}

/// How the connection is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MailSecurity {
    /// `smtps://`: TLS from the first byte (RFC 8314).
    Tls,
    /// `smtp://` with `starttls = "required"`: TLS before anything is told (RFC 3207).
    StartTls,
    /// `smtp://` with `starttls = "none"`: not at all; for a relay on the same machine.
    None,
}

pub(super) static EMAIL: Keys = Keys {
    place: "[notify.NAME.email]",
    about: "Mail through one server.",
    keys: &[
        Key::text(
            "smtp",
            "\"smtp://mail.example.com:587\"",
            "The server: smtp://HOST:PORT (587 if absent), or smtps://HOST:PORT (465) for TLS from the first byte.",
        )
        .required(),
        Key::choice(
            "starttls",
            &[word("required", "TLS before anything is told"), word("none", "never; for a relay on the same machine")],
            "Only for smtp://; absent: required.",
        ),
        Key::text("from", "\"weir@example.com\"", "The sender's address.").required(),
        Key {
            example: "[\"ops@example.com\", { address = \"kim@example.com\", language = \"ko\" }]",
            ..Key::new("to", Kind::Endpoints(&RECIPIENT), "The recipients, as addresses or tables.")
        }
        .required(),
        Key::text("user", "\"weir\"", "The name to log in with; absent: without."),
        Key::text("password_file", "\"/etc/weir/smtp.password\"", "A file that holds the password of `user`."),
        Key::text("password_env", "\"SMTP_PASSWORD\"", "Or the environment variable that holds it."),
        Key::text(
            "ca_file",
            "\"/etc/weir/ca.pem\"",
            "The authorities that the server's certificate is checked against; absent: the system's.",
        ),
        Key::flag("html", "true", "With an HTML part beside the text."),
        Key::flag("picture", "true", "With a small picture of the metric around the incident, where there is one."),
    ],
};

static RECIPIENT: Keys = Keys {
    place: "a recipient",
    about: "One who is told.",
    keys: &[
        Key::text("address", "\"kim@example.com\"", "The address.").required(),
        Key::choice("language", LANGUAGE_WORDS, "The language of the texts; absent: the channel's."),
    ],
};

pub(super) fn email(table: &Table<'_>) -> Option<EmailChannel> {
    let server = table.field("smtp").and_then(|field| field.checked(server::parse(field.text()?, &SCHEMES)));
    let starttls = table.choice("starttls");
    let from = table.field("from").and_then(|field| field.checked(parse_address(field.text()?)));
    let to = recipients(table);
    let login = login(table);
    let ca_file = table.has("ca_file").then(|| absolute_path(table, "ca_file")).flatten();
    let (html, picture) = (table.flag("html"), table.flag("picture"));
    let (tls, host, port) = server?;
    if tls {
        table.refuse(&["starttls"], "with smtps://, which is TLS from the first byte");
    }
    let security = match (tls, starttls) {
        (true, _) => MailSecurity::Tls,
        (false, Some("none")) => MailSecurity::None,
        (false, _) => MailSecurity::StartTls,
    };
    if security == MailSecurity::None {
        table.refuse(&["user", "password_file", "password_env"], "with starttls = \"none\": the password would be readable on the wire");
        table.refuse(&["ca_file"], "with starttls = \"none\"");
    }
    Some(EmailChannel { host, port, security, from: from?, to, login, ca_file, html: html?, picture: picture? })
}

fn login(table: &Table<'_>) -> Option<(String, SecretSource)> {
    let source = secret(table, "password_file", "password_env");
    let Some(field) = table.field("user") else {
        table.refuse(&["password_file", "password_env"], "without `user`");
        return None;
    };
    let user = field.text()?;
    let good = !user.is_empty() && user.len() <= 255 && !user.chars().any(char::is_control);
    let user =
        field.checked(if good { Ok(user.to_owned()) } else { Err("`user` must not be empty or hold control characters".to_owned()) });
    if !table.has("password_file") && !table.has("password_env") {
        let problem = field.problem("`user` needs a password");
        field.report(
            problem.help("add `password_file = \"/etc/weir/smtp.password\"` or `password_env = \"SMTP_PASSWORD\"`").needs_whole_file(),
        );
    }
    Some((user?, source?))
}

fn recipients(table: &Table<'_>) -> Vec<Recipient> {
    let Some(field) = table.field("to") else { return Vec::new() };
    let items = field.items().unwrap_or_default();
    if items.is_empty() {
        field.report(field.problem("`to` names nobody").help("for example `to = [\"ops@example.com\"]`"));
    }
    if items.len() > RECIPIENTS_MAX {
        field.report(field.problem(format!("`to` names more than {RECIPIENTS_MAX} people")).help("use a mailing list"));
    }
    let mut found: Vec<Recipient> = Vec::new();
    for item in &items {
        let Some(recipient) = recipient(item) else { continue };
        if found.iter().any(|other| other.address == recipient.address) {
            item.report(item.problem(format!("{} is here twice", recipient.address)));
        }
        found.push(recipient);
    }
    found
}

fn recipient(item: &Field<'_>) -> Option<Recipient> {
    match (item.as_text(), item.as_table()) {
        (Some(text), _) => Some(Recipient { address: item.checked(parse_address(text))?, language: None }),
        (None, Some(table)) => {
            let language = table.choice("language").and_then(Language::find);
            let field = table.field("address")?;
            Some(Recipient { address: field.checked(parse_address(field.text()?))?, language })
        }
        (None, None) => item.wrong_type("addresses as strings, or tables such as { address = \"kim@example.com\", language = \"ko\" }"),
    }
}

/// The plain form of RFC 5321: `local@domain` in ASCII, nothing that a mail server or a header could read as syntax.
fn parse_address(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not a mail address; write it plainly, such as \"ops@example.com\"");
    let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
    let local_is_good = !local.is_empty()
        && local.len() <= 64
        && !local.starts_with('.')
        && !local.ends_with('.')
        && local.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b));
    let domain_is_good = !domain.is_empty()
        && domain.len() <= 253
        && domain
            .split('.')
            .all(|label| !label.is_empty() && !label.starts_with('-') && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    if local_is_good && domain_is_good { Ok(text.to_owned()) } else { Err(wrong()) }
}

pub(super) fn settings(email: &EmailChannel) -> Vec<Setting> {
    let EmailChannel { host, port, security, from, to, login, ca_file, html, picture } = email;
    let recipient = |to: &Recipient| to.language.map_or(to.address.clone(), |language| format!("{} ({language})", to.address));
    vec![
        ("email.smtp", server::shown(&SCHEMES, *security == MailSecurity::Tls, host, *port)),
        ("email.starttls", if *security == MailSecurity::StartTls { "required" } else { NONE }.into()),
        ("email.from", from.clone()),
        ("email.to", to.iter().map(recipient).collect::<Vec<_>>().join(", ")),
        ("email.user", login.as_ref().map_or(NONE.into(), |(user, _)| user.clone())),
        ("email.password", login.as_ref().map_or(NONE.into(), |(_, source)| source.to_string())),
        ("email.ca_file", ca_file.as_ref().map_or(NONE.into(), |path| path.display().to_string())),
        ("email.html", html.to_string()),
        ("email.picture", picture.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for text in ["ops@example.com", "a.b+c@localhost", "x@10.example"] {
            assert!(parse_address(text).is_ok(), "{text}");
        }
        for text in ["", "ops", "@x", "a@", "a b@x", "a@x\r\nRCPT TO:<b@x>", "<a@x>", "a@x>", ".a@x", "a@-x", "a@x..y", "\"a\"@x", "a@é"] {
            assert!(parse_address(text).is_err(), "{text}");
        }
    }
}
