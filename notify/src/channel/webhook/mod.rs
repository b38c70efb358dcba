//! By one HTTP POST for each message. The key of the message is its `webhook-id`: a receiver that sees it twice can tell.

mod alertmanager;
mod chat;
mod sign;

use hyper::Method;
use weir_config::{BodySyntax, Language, WebhookBody, WebhookChannel};

use super::http::{Ask, Server};
use super::{Channel, Delivery, Fault, Receipt, body};
use crate::message::Message;
use crate::secret::Secret;
use crate::transcript::Transcript;

/// A receiver.
#[derive(Debug)]
pub struct Webhook {
    settings: WebhookChannel,
    name: String,
    language: Language,
}

impl Webhook {
    /// Of the channel of this name, with texts in this language.
    pub fn new(settings: WebhookChannel, name: &str, language: Language) -> Webhook {
        Webhook { settings, name: name.into(), language }
    }

    async fn send(&self, message: &Message, transcript: &mut Transcript) -> Result<Receipt, Fault> {
        let WebhookChannel { address, login, ca_file, body, sign } = &self.settings;
        let server = Server::new(address, login, ca_file.as_deref(), transcript)?;
        let language = self.language.tag();
        let (syntax, body) = match body {
            WebhookBody::Alertmanager => (BodySyntax::Json, alertmanager::body(message, &self.name, language)),
            WebhookBody::Slack => (BodySyntax::Json, chat::slack(message, language)),
            WebhookBody::Mattermost => (BodySyntax::Json, chat::mattermost(message, language)),
            WebhookBody::Own(own) => (own.syntax, own.render(|name| body::field(message, language, name))),
        };
        let mut headers = vec![("webhook-id", message.key.clone()), ("x-weir-attempt", message.attempt.to_string())];
        if let Some(source) = sign {
            let secret = Secret::read(source).map_err(|error| Fault::permanent(error.to_string()))?;
            transcript.hide(&secret);
            headers.extend(sign::headers(&secret, &message.key, now_s(), &body)?);
        }
        let ask = Ask { method: Method::POST, headers, media_type: syntax.media_type(), body, hands_over: true, ..Ask::default() };
        let answer = server.ask(ask, transcript).await?.good(&server.name(), transcript)?;
        Ok(Receipt { reference: None, said: transcript.clean(answer.said()) })
    }
}

impl Channel for Webhook {
    fn deliver<'a>(&'a self, message: &'a Message, transcript: &'a mut Transcript) -> Delivery<'a> {
        Box::pin(self.send(message, transcript))
    }
}

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
