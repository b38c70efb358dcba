//! By tickets of a desk over HTTP: an incident is one ticket, which is opened, commented and closed. Its name at the desk is the message's
//! reference. An attempt that may have been answered unheard looks first whether it did its work.

mod jira;
mod redmine;

use hyper::{Method, StatusCode};
use serde_json::Value;
use weir_config::{HttpLogin, Language, TicketChannel, TicketStyle};

use super::http::{Answer, Ask, Server};
use super::{Channel, Delivery, Fault, Receipt};
use crate::message::{Kind, Message};
use crate::transcript::Transcript;

/// A desk.
#[derive(Debug)]
pub struct Ticket {
    settings: TicketChannel,
    language: Language,
}

/// What is told.
#[derive(Debug, Default)]
struct Story {
    key: String,
    /// By which it is found again.
    mark: String,
    title: String,
    text: String,
    links: Vec<String>,
}

/// A conversation with a desk about one message.
struct Desk<'a> {
    settings: &'a TicketChannel,
    server: Server,
    story: Story,
    transcript: &'a mut Transcript,
}

impl Ticket {
    /// With texts in this language.
    pub fn new(settings: TicketChannel, language: Language) -> Ticket {
        Ticket { settings, language }
    }

    async fn send(&self, message: &Message, transcript: &mut Transcript) -> Result<Receipt, Fault> {
        let TicketChannel { style, address, login, ca_file, .. } = &self.settings;
        let login = match (style, login) {
            (TicketStyle::Redmine, HttpLogin::Token(None, source)) => HttpLogin::Token(Some(redmine::TOKEN_HEADER.into()), source.clone()),
            (_, login) => login.clone(),
        };
        let server = Server::new(address, &login, ca_file.as_deref(), transcript)?;
        let words = message.text(self.language.tag());
        let links = [&message.links.acknowledge, &message.links.incident].into_iter().flatten().cloned().collect();
        let story = Story {
            key: message.key.clone(),
            mark: format!("weir:{}", message.key),
            title: words.title.clone(),
            text: words.text.clone(),
            links,
        };
        Desk { settings: &self.settings, server, story, transcript }.tell(message).await
    }
}

impl Channel for Ticket {
    fn deliver<'a>(&'a self, message: &'a Message, transcript: &'a mut Transcript) -> Delivery<'a> {
        Box::pin(self.send(message, transcript))
    }
}

impl Desk<'_> {
    async fn tell(&mut self, message: &Message) -> Result<Receipt, Fault> {
        let again = message.attempt > 1;
        let told = |id: &str, what: &str| Receipt { reference: Some(id.to_owned()), said: format!("ticket {id}: {what}") };
        let Some(id) = message.reference.clone() else {
            if message.kind == Kind::Resolved {
                // Its opening was given up; a ticket about what is over helps nobody.
                return Ok(Receipt { reference: None, said: "there is no ticket to close".into() });
            }
            let before = if again { self.find().await? } else { None };
            let (id, what) = match before {
                Some(id) => (id, "it was opened before"),
                None => (self.open().await?, "opened"),
            };
            if message.kind == Kind::Test {
                self.close(&id).await?;
                return Ok(told(&id, "opened and closed"));
            }
            return Ok(told(&id, what));
        };
        let (is_told, is_closed) = if again { self.stands(&id).await? } else { (false, false) };
        if !is_told {
            self.comment(&id).await?;
        }
        if message.kind == Kind::Resolved {
            if !is_closed {
                self.close(&id).await?;
            }
            return Ok(told(&id, "closed"));
        }
        Ok(told(&id, if is_told { "it was commented before" } else { "commented" }))
    }

    async fn open(&mut self) -> Result<String, Fault> {
        let jira = self.is_jira();
        let ask = if jira { jira::open(self.settings, &self.story) } else { redmine::open(self.settings, &self.story) };
        let answer = self.good(ask).await?;
        let id = if jira { jira::opened(&answer.json()) } else { redmine::opened(&answer.json()) };
        id.ok_or_else(|| {
            Fault::permanent(self.transcript.clean(format!("{} does not say which ticket it made: {}", self.server.name(), answer.said())))
        })
    }

    /// The ticket that an earlier attempt made, if it did.
    async fn find(&mut self) -> Result<Option<String>, Fault> {
        if !self.is_jira() {
            let ask = redmine::find(&self.story);
            return Ok(redmine::found(&self.good(ask).await?.json()));
        }
        let answer = self.server.ask(jira::find(&self.story, false), self.transcript).await?;
        // Jira's own cloud has given up the first place.
        let answer = match answer.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => self.good(jira::find(&self.story, true)).await?,
            _ => answer.good(&self.server.name(), self.transcript)?,
        };
        Ok(jira::found(&answer.json()))
    }

    /// Whether this was told already, and whether the ticket is closed.
    async fn stands(&mut self, id: &str) -> Result<(bool, bool), Fault> {
        let answer = self.good(if self.is_jira() { jira::read(id) } else { redmine::read(id) }).await?.json();
        let mark = &self.story.mark;
        Ok(if self.is_jira() { jira::stands(&answer, mark) } else { redmine::stands(&answer, mark) })
    }

    async fn comment(&mut self, id: &str) -> Result<(), Fault> {
        let ask = if self.is_jira() { jira::comment(id, &self.story) } else { redmine::comment(id, &self.story) };
        self.good(ask).await.map(drop)
    }

    async fn close(&mut self, id: &str) -> Result<(), Fault> {
        let named = self.settings.close.as_deref();
        let way = match (self.settings.style, named) {
            (TicketStyle::Redmine, Some(status)) => Ok(status.to_owned()),
            (TicketStyle::Redmine, None) => redmine::way(&self.good(redmine::ways()).await?.json()),
            (TicketStyle::Jira, named) => jira::way(&self.good(jira::ways(id)).await?.json(), named),
        };
        let way = way.map_err(|names| {
            let text = format!("{} has no way to close ticket {id}; name one as `close`: {names}", self.server.name());
            Fault::permanent(self.transcript.clean(text))
        })?;
        self.good(if self.is_jira() { jira::close(id, &way) } else { redmine::close(id, &way) }).await.map(drop)
    }

    async fn good(&mut self, ask: Ask) -> Result<Answer, Fault> {
        self.server.ask(ask, self.transcript).await?.good(&self.server.name(), self.transcript)
    }

    fn is_jira(&self) -> bool {
        self.settings.style == TicketStyle::Jira
    }
}

/// Changes something.
fn ask(method: Method, path: String, body: &Value) -> Ask {
    Ask { method, path, media_type: "application/json", body: body.to_string(), hands_over: true, ..Ask::default() }
}

/// Changes nothing.
fn get(path: String) -> Ask {
    Ask { method: Method::GET, path, ..Ask::default() }
}
