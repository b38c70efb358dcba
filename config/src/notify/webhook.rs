//! `[notify.NAME.webhook]`

use std::path::PathBuf;

use super::body::{self, BODY_FIELDS, BodyTemplate};
use super::http::{self, HttpAddress, HttpLogin};
use super::secret::secret;
use crate::reader::Table;
use crate::secret::SecretSource;
use crate::settings::{NONE, Setting};
use crate::spec::{Key, Keys, word};

/// One POST to a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebhookChannel {
    /// `url`, `url_file`, `url_env`
    pub address: HttpAddress,
    /// How to log in.
    pub login: HttpLogin,
    /// `ca_file`: the authorities that are trusted; absent: the system's.
    pub ca_file: Option<PathBuf>,
    /// `format`, or `body` with `body_type`.
    pub body: WebhookBody,
    /// `sign_secret_file`, `sign_secret_env`: with what each request is signed.
    pub sign: Option<SecretSource>,
}

/// What is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WebhookBody {
    /// What receivers of Prometheus' Alertmanager read, version 4.
    Alertmanager,
    /// What Slack's incoming webhooks read.
    Slack,
    /// What Mattermost's incoming webhooks read.
    Mattermost,
    /// The operator's own.
    Own(BodyTemplate),
}

impl WebhookBody {
    /// How it is shown.
    fn shown(&self) -> String {
        match self {
            WebhookBody::Alertmanager => "alertmanager".into(),
            WebhookBody::Slack => "slack".into(),
            WebhookBody::Mattermost => "mattermost".into(),
            WebhookBody::Own(body) => body::shown(body),
        }
    }
}

pub(super) static WEBHOOK: Keys = Keys {
    place: "[notify.NAME.webhook]",
    about: "One HTTP POST for each message. Redirects are not followed.",
    keys: &[
        http::URL,
        http::URL_FILE,
        http::URL_ENV,
        Key::choice(
            "format",
            &[
                word("alertmanager", "the JSON of Prometheus' Alertmanager, version 4"),
                word("slack", "an incoming webhook of Slack"),
                word("mattermost", "an incoming webhook of Mattermost"),
            ],
            "What is sent; absent: alertmanager, or `body` where that is written.",
        ),
        body::BODY,
        body::BODY_TYPE,
        http::USER,
        http::PASSWORD_FILE,
        http::PASSWORD_ENV,
        http::TOKEN_FILE,
        http::TOKEN_ENV,
        http::TOKEN_HEADER,
        Key::text(
            "sign_secret_file",
            "\"/etc/weir/hook.secret\"",
            "A file that holds what each request is signed with: HMAC-SHA256 as in Standard Webhooks, in the field webhook-signature.",
        ),
        Key::text("sign_secret_env", "\"HOOK_SECRET\"", "Or the environment variable that holds it."),
        http::CA_FILE,
    ],
};

pub(super) fn webhook(table: &Table<'_>) -> Option<WebhookChannel> {
    let address = http::address(table);
    let login = http::login(table);
    http::refuse_plain(table, address.as_ref());
    let sign = secret(table, "sign_secret_file", "sign_secret_env");
    let ca_file = http::ca_file(table);
    let own = body::body(table, BODY_FIELDS);
    let format = table.choice("format");
    if table.has("body") {
        table.refuse(&["format"], "beside `body`");
    } else {
        table.refuse(&["body_type"], "without `body`");
    }
    let body = match format {
        _ if table.has("body") => WebhookBody::Own(own?),
        Some("slack") => WebhookBody::Slack,
        Some("mattermost") => WebhookBody::Mattermost,
        _ => WebhookBody::Alertmanager,
    };
    Some(WebhookChannel { address: address?, login: login?, ca_file, body, sign })
}

pub(super) fn settings(webhook: &WebhookChannel) -> Vec<Setting> {
    let WebhookChannel { address, login, ca_file, body, sign } = webhook;
    let mut settings = vec![("webhook.url", address.to_string()), ("webhook.body", body.shown())];
    settings.extend(http::login_settings(["webhook.user", "webhook.password", "webhook.token"], login));
    settings.push(("webhook.sign_secret", sign.as_ref().map_or(NONE.into(), ToString::to_string)));
    settings.push(("webhook.ca_file", http::file_setting(ca_file.as_ref())));
    settings
}
