//! By short message, through a gateway over HTTP: the title, and the link that acknowledges where it fits; one request for each number.

mod gateway;
pub(super) mod length;

use weir_config::{HttpLogin, Language, SmsChannel, SmsGateway, percent_encoded};

use super::http::Server;
use super::progress::Progress;
use super::{Channel, Delivery, Fault, FaultKind, Receipt};
use crate::message::{Kind, Message};
use crate::secret::Secret;
use crate::transcript::Transcript;
use gateway::Short;

/// A gateway.
#[derive(Debug)]
pub struct Sms {
    settings: SmsChannel,
    language: Language,
    progress: Progress,
}

impl Sms {
    /// With texts in this language.
    pub fn new(settings: SmsChannel, language: Language) -> Sms {
        Sms { settings, language, progress: Progress::default() }
    }

    async fn send(&self, message: &Message, transcript: &mut Transcript) -> Result<Receipt, Fault> {
        let SmsChannel { gateway, address, login, ca_file, from, to, parts_max } = &self.settings;
        let (user, password) = match login {
            HttpLogin::Password(user, source) => {
                let secret = Secret::read(source).map_err(|error| Fault::permanent(error.to_string()))?;
                let text = secret.expose_text().map_err(|error| Fault::permanent(error.to_string()))?;
                // In a form it is spelled in another way.
                transcript.hide(&Secret::from_bytes(percent_encoded(text).into_bytes()));
                (user.as_str(), Some(secret))
            }
            _ => ("", None),
        };
        let in_body = HttpLogin::None;
        let bearer;
        let by_header = match (gateway, login) {
            (SmsGateway::Vonage, _) => &in_body,
            (SmsGateway::Sinch, HttpLogin::Password(_, source)) => {
                bearer = HttpLogin::Token(None, source.clone());
                &bearer
            }
            (SmsGateway::Own(own), _) if own.body.template.fields().any(|name| name == "password") => &in_body,
            _ => login,
        };
        if let Some(secret) = &password {
            transcript.hide(secret);
        }
        let server = Server::new(address, by_header, ca_file.as_deref(), transcript)?;
        let text = text(message, self.language.tag(), usize::try_from(*parts_max).unwrap_or(1), false);
        let (told, mut said, mut refused) = (self.progress.of(&message.key), String::new(), Vec::new());
        let mut count = told.len();
        for to in to.iter().filter(|to| !told.contains(*to)) {
            let password = password.as_ref().and_then(|secret| secret.expose_text().ok()).unwrap_or_default();
            let short = Short {
                message,
                language: self.language.tag(),
                text: &text,
                from: from.as_deref().unwrap_or_default(),
                to,
                user,
                password,
            };
            let answer = server.ask(gateway::ask(gateway, &short), transcript).await?;
            match gateway::read(gateway, answer, &server.name(), transcript) {
                Ok(answer) => {
                    self.progress.add(&message.key, to);
                    (said, count) = (answer, count + 1);
                }
                Err(fault) if fault.kind == FaultKind::Permanent => refused.push((to, fault)),
                Err(fault) => return Err(fault),
            }
        }
        self.progress.forget(&message.key);
        if let (0, Some((_, fault))) = (count, refused.pop_if(|_| count == 0)) {
            return Err(fault);
        }
        // Others were told; another attempt would tell nobody else.
        refused.iter().for_each(|(to, fault)| said.push_str(&format!("; not to {to}: {fault}")));
        Ok(Receipt { reference: None, said: transcript.clean(said) })
    }
}

impl Channel for Sms {
    fn deliver<'a>(&'a self, message: &'a Message, transcript: &'a mut Transcript) -> Delivery<'a> {
        Box::pin(self.send(message, transcript))
    }
}

/// The title, with the link that acknowledges where both fit; a link is whole or not there.
pub(super) fn text(message: &Message, language: &str, parts_max: usize, always_ucs2: bool) -> String {
    let title = &message.text(language).title;
    let is_asked = !matches!(message.kind, Kind::Resolved | Kind::Acknowledged | Kind::Test);
    if let (true, Some(link)) = (is_asked, &message.links.acknowledge) {
        let both = length::fitted(&format!("{title} {link}"), parts_max, always_ucs2);
        if both.ends_with(link.as_str()) {
            return both;
        }
    }
    length::fitted(title, parts_max, always_ucs2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    #[test]
    fn a_link_is_whole_or_not_there() {
        let mut message = sample("k", 0);
        message.kind = Kind::Opened;
        message.links.acknowledge = Some("https://lb.example.com/ack/abc".into());
        assert_eq!(text(&message, "en", 1, false), "[test] pool web https://lb.example.com/ack/abc");
        message.texts.get_mut("en").unwrap().title = "word ".repeat(29);
        assert_eq!(text(&message, "en", 1, false), "word ".repeat(29).trim_end());
        assert!(text(&message, "en", 2, false).ends_with("/ack/abc"));
        message.kind = Kind::Resolved;
        assert!(!text(&message, "en", 2, false).contains("/ack/"));
    }
}
