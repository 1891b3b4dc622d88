//! Sending letters by SMTP.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox, MultiPart,
        header::{ContentType, Header, HeaderName, HeaderValue},
    },
    transport::smtp::authentication::Credentials,
};
use tokio::sync::Semaphore;

use crate::{MailSecurity, MailSettings};

/// How long the mail server may take for a letter.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How many letters for which somebody waits are on their way at the same time; more wait.
const AT_ONCE: usize = 4;
/// How many letters about unread messages are: so that they, however many, never hold up the others.
pub(crate) const DIGESTS_AT_ONCE: usize = 2;

/// Why a letter was not sent. The mail server's words are for the log.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// A part of the settings cannot be used.
    #[error("the mail settings cannot be used: {0}")]
    Settings(String),
    /// There can be no such address, or no letter to it.
    #[error("the letter cannot be written: {0}")]
    Letter(String),
    /// There is no mail server, or it takes no letters from us.
    #[error("the mail server did not take the letter: {0}")]
    Server(String),
    /// The mail server takes no letters to this address.
    #[error("the mail server did not take a letter to this address: {reason}")]
    Mailbox {
        /// Whether it says that it never will.
        is_permanent: bool,
        /// What it says.
        reason: String,
    },
}

/// The way to the mail server.
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    places: Semaphore,
    digest_places: Semaphore,
}

impl Mailer {
    /// `None`, and a line in the log, where the settings cannot be used.
    pub(crate) fn new(settings: &MailSettings) -> Option<Self> {
        Self::build(settings).inspect_err(|error| tracing::error!(%error, "no letters will be sent")).ok()
    }

    fn build(settings: &MailSettings) -> Result<Self, MailError> {
        let unusable = |error: &dyn std::fmt::Display| MailError::Settings(error.to_string());
        let from = settings.from.parse().map_err(|error: lettre::address::AddressError| unusable(&error))?;
        let host = &settings.host;
        let builder = match settings.security {
            MailSecurity::Tls => AsyncSmtpTransport::<Tokio1Executor>::relay(host),
            MailSecurity::StartTls => AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(host),
            MailSecurity::None => Ok(AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.as_str())),
        };
        let mut builder = builder.map_err(|error| unusable(&error))?.port(settings.port).timeout(Some(TIMEOUT));
        if let Some((user, password)) = &settings.credentials {
            builder = builder.credentials(Credentials::new(user.clone(), password.0.clone()));
        }
        Ok(Self {
            transport: builder.build(),
            from,
            places: Semaphore::new(AT_ONCE),
            digest_places: Semaphore::new(DIGESTS_AT_ONCE),
        })
    }

    /// Sends a letter for which somebody waits.
    pub(crate) async fn send(&self, to: &str, letter: Letter) -> Result<(), MailError> {
        self.send_from(to, letter, &self.places).await
    }

    /// Sends a letter about unread messages.
    async fn send_digest(&self, to: &str, letter: Letter) -> Result<(), MailError> {
        self.send_from(to, letter, &self.digest_places).await
    }

    async fn send_from(&self, to: &str, letter: Letter, places: &Semaphore) -> Result<(), MailError> {
        let message = self.written(to, letter)?;
        let _place = places.acquire().await.map_err(|error| MailError::Letter(error.to_string()))?;
        let sent = tokio::time::timeout(TIMEOUT, self.transport.send(message)).await;
        metrics::counter!("engine_letters_total").increment(1);
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(refusal(&error)),
            Err(_) => Err(MailError::Server("it did not answer in time".to_owned())),
        }
    }

    fn written(&self, to: &str, letter: Letter) -> Result<Message, MailError> {
        let unwritable = |error: &dyn std::fmt::Display| MailError::Letter(error.to_string());
        let to: lettre::Address = to.parse().map_err(|error: lettre::address::AddressError| unwritable(&error))?;
        let mut builder = Message::builder().from(self.from.clone()).to(Mailbox::new(None, to)).subject(letter.subject);
        if let Some(unsubscribe) = letter.unsubscribe {
            builder = builder.header(ListUnsubscribe(format!("<{unsubscribe}>"))).header(ListUnsubscribePost);
        }
        let message = match letter.html {
            Some(html) => builder.multipart(MultiPart::alternative_plain_html(letter.text, html)),
            None => builder.header(ContentType::TEXT_PLAIN).body(letter.text),
        };
        message.map_err(|error| unwritable(&error))
    }
}

/// Whether it is the mailbox that is refused, by the codes of the answer: <https://www.rfc-editor.org/rfc/rfc5321#section-4.2.3>.
fn refusal(error: &lettre::transport::smtp::Error) -> MailError {
    /// Of those that are about one mailbox: busy or full for now, not there or full for good.
    const MAILBOX: [u16; 8] = [450, 451, 452, 550, 551, 552, 553, 554];
    let reason = error.to_string();
    match error.status().map(u16::from) {
        Some(code) if MAILBOX.contains(&code) => MailError::Mailbox { is_permanent: code >= 500, reason },
        _ => MailError::Server(reason),
    }
}

/// What is written to somebody.
pub(crate) struct Letter {
    pub(crate) subject: String,
    pub(crate) text: String,
    /// The same for programs that show it.
    pub(crate) html: Option<String>,
    /// Where to ask for no more letters like this one.
    pub(crate) unsubscribe: Option<String>,
}

/// Where mail programs send their users who want no more letters: <https://www.rfc-editor.org/rfc/rfc8058>.
#[derive(Clone)]
struct ListUnsubscribe(String);

impl Header for ListUnsubscribe {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("List-Unsubscribe")
    }

    fn parse(value: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(value.to_owned()))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.clone())
    }
}

/// That asking there is enough.
#[derive(Clone)]
struct ListUnsubscribePost;

impl Header for ListUnsubscribePost {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("List-Unsubscribe-Post")
    }

    fn parse(_value: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "List-Unsubscribe=One-Click".to_owned())
    }
}

/// A text as it may stand in HTML.
pub(crate) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            character => html.push(character),
        }
    }
    html
}

impl crate::Engine {
    /// Sends a letter about unread messages, if this server sends letters.
    pub(crate) async fn send_digest_letter(&self, to: &str, letter: Letter) -> Result<(), MailError> {
        let mailer = self.inner.accounts.mailer.as_ref();
        let mailer = mailer.ok_or_else(|| MailError::Settings("there is no mail server".to_owned()))?;
        mailer.send_digest(to, letter).await
    }
}

/// Whether letters can be sent to it, as far as one can see.
pub(super) fn is_address(address: &str) -> bool {
    address.parse::<lettre::Address>().is_ok()
}
