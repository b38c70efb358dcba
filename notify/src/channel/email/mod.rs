//! By e-mail: one session for each message, one mail for each language of its recipients.

mod mime;
mod picture;
mod smtp;

use std::collections::BTreeMap;

use weir_config::{EmailChannel, Language};

use super::{Channel, Delivery, Fault, Receipt};
use crate::message::Message;
use crate::transcript::Transcript;
use mime::Mail;
use smtp::Session;

/// Mail through one server.
#[derive(Debug)]
pub struct Email {
    settings: EmailChannel,
    language: Language,
}

impl Email {
    /// With the language of recipients that have none of their own.
    pub fn new(settings: EmailChannel, language: Language) -> Email {
        Email { settings, language }
    }

    async fn send(&self, message: &Message, transcript: &mut Transcript) -> Result<Receipt, Fault> {
        let EmailChannel { from, to, html, picture, .. } = &self.settings;
        let mut by_language: BTreeMap<Language, Vec<&str>> = BTreeMap::new();
        for recipient in to {
            by_language.entry(recipient.language.unwrap_or(self.language)).or_default().push(&recipient.address);
        }
        let mut session = Session::open(&self.settings, transcript).await?;
        let (mut said, mut refused) = (String::new(), Vec::new());
        for (language, to) in &by_language {
            let mail = Mail { message, language: language.tag(), from, to, html: *html, picture: *picture };
            let (answer, missed) = session.send(from, to, &mime::build(&mail)).await?;
            said = answer;
            refused.extend(missed);
        }
        session.quit().await;
        // Others were told; another attempt would tell them again.
        refused.iter().for_each(|fault| said.push_str(&format!("; {fault}")));
        let language = by_language.keys().next().map_or(self.language, |language| *language);
        Ok(Receipt { reference: Some(mime::message_id(message, language.tag())), said: transcript.clean(said) })
    }
}

impl Channel for Email {
    fn deliver<'a>(&'a self, message: &'a Message, transcript: &'a mut Transcript) -> Delivery<'a> {
        Box::pin(self.send(message, transcript))
    }
}
