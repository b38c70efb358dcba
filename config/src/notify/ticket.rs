//! `[notify.NAME.ticket]`

use std::path::PathBuf;

use super::http::{self, HttpAddress, HttpLogin, HttpUrl};
use crate::reader::Table;
use crate::settings::{NONE, Setting};
use crate::spec::{Key, Keys, word};

/// Tickets of a desk over HTTP: one for each incident.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TicketChannel {
    /// `style`
    pub style: TicketStyle,
    /// `url`: of the desk itself.
    pub address: HttpAddress,
    /// How to log in.
    pub login: HttpLogin,
    /// `ca_file`: the authorities that are trusted; absent: the system's.
    pub ca_file: Option<PathBuf>,
    /// `project`: where tickets are made.
    pub project: String,
    /// `issue_type`: of Jira the name of a type, of Redmine the number of a tracker.
    pub issue_type: Option<String>,
    /// `close`: of Jira the name of a transition, of Redmine the number of a status; absent: the first that closes.
    pub close: Option<String>,
}

/// How the desk is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TicketStyle {
    /// Jira, version 2 of its REST API.
    Jira,
    /// Redmine, its REST API in JSON.
    Redmine,
}

pub(super) static TICKET: Keys = Keys {
    place: "[notify.NAME.ticket]",
    about: "A ticket for each incident: opened, commented and closed.",
    keys: &[
        Key::choice(
            "style",
            &[
                word("jira", "Jira; user and password_file in its cloud, token_file elsewhere"),
                word("redmine", "Redmine; token_file holds the API key"),
            ],
            "How the desk is asked.",
        )
        .required(),
        Key::text("url", "\"https://tickets.example.com\"", "The desk, without the path of its API.").required(),
        Key::text("project", "\"OPS\"", "Where tickets are made: the project's key or identifier.").required(),
        Key::text(
            "issue_type",
            "\"Incident\"",
            "Of Jira the name of a type (absent: Task), of Redmine the number of a tracker (absent: the project's).",
        ),
        Key::text(
            "close",
            "\"Done\"",
            "Of Jira the name of a transition, of Redmine the number of a status; absent: the first that closes.",
        ),
        http::USER,
        http::PASSWORD_FILE,
        http::PASSWORD_ENV,
        http::TOKEN_FILE,
        http::TOKEN_ENV,
        http::TOKEN_HEADER,
        http::CA_FILE,
    ],
};

pub(super) fn ticket(table: &Table<'_>) -> Option<TicketChannel> {
    let style = match table.choice("style") {
        Some("jira") => Some(TicketStyle::Jira),
        Some("redmine") => Some(TicketStyle::Redmine),
        _ => None,
    };
    let address = table.field("url").and_then(|field| field.checked(HttpUrl::parse(field.text()?))).map(HttpAddress::Url);
    let (login, ca_file) = (http::login(table), http::ca_file(table));
    http::refuse_plain(table, address.as_ref());
    let project = table.field("project").and_then(|field| field.checked(parse_project(field.text()?)));
    let word = |key: &str| {
        let field = table.field(key)?;
        field.checked(parse_word(field.text()?, style))
    };
    let (issue_type, close) = (word("issue_type"), word("close"));
    Some(TicketChannel { style: style?, address: address?, login: login?, ca_file, project: project?, issue_type, close })
}

fn parse_project(text: &str) -> Result<String, String> {
    let good =
        !text.is_empty() && text.len() <= 100 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not the key of a project; it has letters, digits, hyphens and underscores"))
    }
}

fn parse_word(text: &str, style: Option<TicketStyle>) -> Result<String, String> {
    let is_number = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    match style {
        Some(TicketStyle::Redmine) if !is_number => Err(format!("{text:?} is not a number; Redmine names it so, as in \"5\"")),
        _ if text.is_empty() || text.len() > 100 || text.chars().any(char::is_control) => Err("this name is empty or too long".into()),
        _ => Ok(text.to_owned()),
    }
}

pub(super) fn settings(ticket: &TicketChannel) -> Vec<Setting> {
    let TicketChannel { style, address, login, ca_file, project, issue_type, close } = ticket;
    let style = match style {
        TicketStyle::Jira => "jira",
        TicketStyle::Redmine => "redmine",
    };
    let word = |word: &Option<String>| word.clone().unwrap_or(NONE.into());
    let mut settings: Vec<Setting> = vec![
        ("ticket.style", style.into()),
        ("ticket.url", address.to_string()),
        ("ticket.project", project.clone()),
        ("ticket.issue_type", word(issue_type)),
        ("ticket.close", word(close)),
    ];
    settings.extend(http::login_settings(["ticket.user", "ticket.password", "ticket.token"], login));
    settings.push(("ticket.ca_file", http::file_setting(ca_file.as_ref())));
    settings
}
