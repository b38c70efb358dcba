//! How gateways are asked, and what their answers mean. Pure.

use hyper::Method;
use serde_json::json;
use weir_config::{BodySyntax, OwnGateway, SmsGateway, percent_encoded};

use super::super::http::{Answer, Ask};
use super::super::{Fault, body};
use super::length::Alphabet;
use crate::message::Message;
use crate::transcript::Transcript;

/// One short message to one number.
#[derive(Debug)]
pub(super) struct Short<'a> {
    pub(super) message: &'a Message,
    pub(super) language: &'a str,
    /// What is told.
    pub(super) text: &'a str,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    /// With which to log in where the gateway wants that in the body.
    pub(super) user: &'a str,
    pub(super) password: &'a str,
}

/// What the gateway is asked.
pub(super) fn ask(gateway: &SmsGateway, short: &Short<'_>) -> Ask {
    let Short { message, text, from, to, user, password, .. } = short;
    let form = |fields: &[(&str, &str)]| {
        let field = |(name, value): &(&str, &str)| format!("{name}={}", percent_encoded(value));
        fields.iter().map(field).collect::<Vec<_>>().join("&")
    };
    let digits = to.trim_start_matches('+');
    let (path, syntax, body) = match gateway {
        SmsGateway::Twilio => {
            let path = format!("/2010-04-01/Accounts/{user}/Messages.json");
            (path, BodySyntax::Form, form(&[("To", to), ("From", from), ("Body", text)]))
        }
        SmsGateway::Vonage => {
            let kind = if Alphabet::of(text) == Alphabet::Gsm { "text" } else { "unicode" };
            let fields = [("api_key", *user), ("api_secret", password), ("from", from), ("to", digits), ("type", kind), ("text", text)];
            ("/sms/json".into(), BodySyntax::Form, form(&fields))
        }
        SmsGateway::Sinch => {
            let body = json!({ "from": from, "to": [digits], "body": text, "client_reference": message.key });
            (format!("/xms/v1/{user}/batches"), BodySyntax::Json, body.to_string())
        }
        SmsGateway::Own(own) => return ask_own(own, short),
    };
    Ask { method: Method::POST, path, media_type: syntax.media_type(), body, hands_over: true, ..Ask::default() }
}

fn ask_own(own: &OwnGateway, short: &Short<'_>) -> Ask {
    let body = own.body.render(|name| match name {
        "message" => short.text.to_owned(),
        "to" => short.to.to_owned(),
        "from" => short.from.to_owned(),
        "user" => short.user.to_owned(),
        "password" => short.password.to_owned(),
        name => body::field(short.message, short.language, name),
    });
    let ask = Ask { hands_over: true, media_type: own.body.syntax.media_type(), ..Ask::default() };
    if own.is_query {
        // What was written between the fields must not end the line of the request.
        let query: String =
            body.chars().map(|c| if c.is_ascii_graphic() { c.to_string() } else { percent_encoded(c.encode_utf8(&mut [0; 4])) }).collect();
        return Ask { method: Method::GET, path: format!("?{query}"), ..ask };
    }
    Ask { method: Method::POST, body, ..ask }
}

/// What the gateway says, where it took the message.
pub(super) fn read(gateway: &SmsGateway, answer: Answer, server: &str, transcript: &Transcript) -> Result<String, Fault> {
    let json = answer.json();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    match gateway {
        SmsGateway::Twilio => {
            if let (false, Some(why)) = (answer.status.is_success(), text(&json["message"])) {
                return Err(answer.fault(server, &format!("{why} (code {})", json["code"]), transcript));
            }
            let good = answer.good(server, transcript)?;
            Ok(text(&json["sid"]).map_or_else(|| good.said(), |sid| format!("taken as {sid}")))
        }
        SmsGateway::Vonage => {
            // It answers 200 whatever happened, and says in the body what.
            let answer = answer.good(server, transcript)?;
            let part = &json["messages"][0];
            let why = text(&part["error-text"]).unwrap_or_else(|| answer.excerpt());
            match text(&part["status"]).as_deref() {
                Some("0") => Ok(text(&part["message-id"]).map_or_else(|| answer.said(), |id| format!("taken as {id}"))),
                // Throttled, an error of its own, too many requests at once.
                Some(status @ ("1" | "5" | "10")) => {
                    Err(Fault::temporary(transcript.clean(format!("{server} refuses the message for now: {why} (status {status})"))))
                }
                Some(status) => Err(Fault::permanent(transcript.clean(format!("{server} refuses the message: {why} (status {status})")))),
                None => Err(Fault::permanent(transcript.clean(format!("{server} does not answer like Vonage: {why}")))),
            }
        }
        SmsGateway::Sinch => {
            if let (false, Some(why)) = (answer.status.is_success(), text(&json["text"])) {
                return Err(answer.fault(server, &why, transcript));
            }
            let good = answer.good(server, transcript)?;
            Ok(text(&json["id"]).map_or_else(|| good.said(), |id| format!("taken as {id}")))
        }
        SmsGateway::Own(own) => {
            let answer = answer.good(server, transcript)?;
            match &own.success {
                Some(success) if !String::from_utf8_lossy(&answer.body).contains(success) => {
                    let text =
                        format!("{server} does not say {success:?}, which would mean that the message was taken, but {}", answer.said());
                    Err(Fault::permanent(transcript.clean(text)))
                }
                _ => Ok(answer.said()),
            }
        }
    }
}
