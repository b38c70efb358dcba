//! `[notify.NAME.sms]`

use std::path::PathBuf;

use super::body::{self, BODY_FIELDS, BodySyntax, BodyTemplate};
use super::http::{self, HttpAddress, HttpLogin, HttpUrl};
use super::phone;
use crate::error::Problem;
use crate::reader::Table;
use crate::settings::{NONE, Setting};
use crate::spec::{Key, Keys, word};

/// Short messages through a gateway over HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SmsChannel {
    /// `gateway`
    pub gateway: SmsGateway,
    /// `url`, `url_file`, `url_env`; absent: the gateway's usual one.
    pub address: HttpAddress,
    /// How to log in; with a password where the gateway is a known one.
    pub login: HttpLogin,
    /// `ca_file`: the authorities that are trusted; absent: the system's.
    pub ca_file: Option<PathBuf>,
    /// `from`; always there where the gateway is a known one.
    pub from: Option<String>,
    /// `to`: never empty.
    pub to: Vec<String>,
    /// `parts_max`. Default 1.
    pub parts_max: u32,
}

/// What kind of gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SmsGateway {
    /// Twilio, "Messages" of 2010-04-01.
    Twilio,
    /// Vonage, its SMS API.
    Vonage,
    /// Sinch, "batches" of its REST API.
    Sinch,
    /// Any other.
    Own(OwnGateway),
}

/// How another gateway is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnGateway {
    /// `body`: once for each recipient. Knows [`SMS_FIELDS`].
    pub body: BodyTemplate,
    /// `method = "get"`: the body becomes the query.
    pub is_query: bool,
    /// `success`: what an answer holds that means that the message was taken; absent: the status alone says so.
    pub success: Option<String>,
}

/// The fields of a gateway's body, apart from those of all bodies: the short message, its sender and recipient, and what to log in with.
pub const SMS_FIELDS: &[&str] = &["from", "message", "password", "to", "user"];

/// Words of the file and usual addresses.
const KNOWN: &[(&str, SmsGateway, &str)] = &[
    ("twilio", SmsGateway::Twilio, "https://api.twilio.com"),
    ("vonage", SmsGateway::Vonage, "https://rest.nexmo.com"),
    ("sinch", SmsGateway::Sinch, "https://us.sms.api.sinch.com"),
];

pub(super) static SMS: Keys = Keys {
    place: "[notify.NAME.sms]",
    about: "Short messages through a gateway over HTTP: the title, with the link that acknowledges where that fits.",
    keys: &[
        Key::choice(
            "gateway",
            &[
                word("twilio", "user: the account's SID, password: its token"),
                word("vonage", "user: the API key, password: its secret"),
                word("sinch", "user: the service plan, password: its token"),
                word("own", "any other, by `url` and `body`"),
            ],
            "How the gateway is asked.",
        )
        .required(),
        http::URL,
        http::URL_FILE,
        http::URL_ENV,
        http::USER,
        http::PASSWORD_FILE,
        http::PASSWORD_ENV,
        http::TOKEN_FILE,
        http::TOKEN_ENV,
        http::TOKEN_HEADER,
        phone::FROM,
        phone::TO,
        phone::PARTS_MAX,
        Key::text(
            "body",
            "'to=${to}&text=${message}'",
            "Of an own gateway: what is sent for each recipient. Fields as in a webhook, and ${message}, ${to}, ${from}, ${user}, ${password}.",
        ),
        body::BODY_TYPE,
        Key::choice(
            "method",
            &[word("post", "the body is sent"), word("get", "the body is the query")],
            "Of an own gateway; absent: post.",
        ),
        Key::text(
            "success",
            "\"OK\"",
            "Of an own gateway: what an answer holds when the message was taken; absent: the status alone decides.",
        ),
        http::CA_FILE,
    ],
};

pub(super) fn sms(table: &Table<'_>) -> Option<SmsChannel> {
    let (from, to, parts_max) = (phone::sender(table), phone::numbers(table), table.count_u32("parts_max"));
    let (login, ca_file) = (http::login(table), http::ca_file(table));
    let word = table.choice("gateway")?;
    let known = KNOWN.iter().find(|(name, ..)| *name == word);
    let (gateway, address) = match known {
        Some((_, gateway, url)) => (Some(gateway.clone()), known_address(table, word, url, login.as_ref())),
        None => (own(table).map(SmsGateway::Own), http::address(table)),
    };
    http::refuse_plain(table, address.as_ref());
    Some(SmsChannel { gateway: gateway?, address: address?, login: login?, ca_file, from, to: to?, parts_max: parts_max? })
}

fn known_address(table: &Table<'_>, word: &str, url: &str, login: Option<&HttpLogin>) -> Option<HttpAddress> {
    table.refuse(&["body", "body_type", "method", "success"], "with a gateway that is known");
    table.refuse(&["token_file", "token_env", "token_header"], "with a gateway that is known: use `user` and `password_file`");
    for (key, help) in [("user", "add `user = \"...\"` and `password_file = \"/etc/weir/...\"`"), ("from", "add `from = \"+15550100\"`")] {
        if !table.has(key) {
            let problem = Problem::new(table.span(), table.path(), format!("{word} needs `{key}`"));
            table.report(problem.help(help).needs_whole_file());
        }
    }
    // A name that becomes part of a path.
    if let (Some(HttpLogin::Password(user, _)), Some(field)) = (login, table.field("user"))
        && !user.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    {
        field.report(field.problem(format!("the accounts of {word} have letters and digits only")));
    }
    let is_written = ["url", "url_file", "url_env"].iter().any(|key| table.has(key));
    if is_written { http::address(table) } else { HttpUrl::parse(url).ok().map(HttpAddress::Url) }
}

fn own(table: &Table<'_>) -> Option<OwnGateway> {
    if !table.has("body") {
        let problem = Problem::new(table.span(), table.path(), "an own gateway needs `body`");
        table.report(problem.help("for example `body = 'to=${to}&text=${message}'` and `body_type = \"form\"`").needs_whole_file());
    }
    let fields: Vec<&str> = BODY_FIELDS.iter().chain(SMS_FIELDS).copied().collect();
    let body = body::body(table, &fields);
    let is_query = table.choice("method") == Some("get");
    if let (true, Some(body)) = (is_query, &body)
        && body.syntax != BodySyntax::Form
    {
        let problem = table.problem("body", "a query is written as a form");
        table.report(problem.help("add `body_type = \"form\"`, or remove `method`").needs_whole_file());
    }
    Some(OwnGateway { body: body?, is_query, success: table.text("success").map(str::to_owned) })
}

pub(super) fn settings(sms: &SmsChannel) -> Vec<Setting> {
    let SmsChannel { gateway, address, login, ca_file, from, to, parts_max } = sms;
    let (word, body, method, success) = match gateway {
        SmsGateway::Own(OwnGateway { body, is_query, success }) => {
            let success = success.clone().unwrap_or(NONE.into());
            ("own", body::shown(body), if *is_query { "get" } else { "post" }.into(), success)
        }
        known => {
            let word = KNOWN.iter().find(|(_, gateway, _)| gateway == known).map_or(NONE, |(word, ..)| word);
            (word, NONE.into(), NONE.into(), NONE.into())
        }
    };
    let mut settings: Vec<Setting> = vec![("sms.gateway", word.into()), ("sms.url", address.to_string())];
    settings.extend(http::login_settings(["sms.user", "sms.password", "sms.token"], login));
    settings.extend([
        ("sms.from", from.clone().unwrap_or(NONE.into())),
        ("sms.to", to.join(", ")),
        ("sms.parts_max", parts_max.to_string()),
        ("sms.body", body),
        ("sms.method", method),
        ("sms.success", success),
        ("sms.ca_file", http::file_setting(ca_file.as_ref())),
    ]);
    settings
}
