//! Sending letters by SMTP.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::authentication::Credentials,
};
use tokio::sync::Semaphore;

use crate::{MailSecurity, MailSettings};

/// How long the mail server may take for a letter.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How many letters are on their way at the same time; more wait.
const AT_ONCE: usize = 4;

/// Why a letter was not sent. The mail server's words are for the log.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// A part of the settings cannot be used.
    #[error("the mail settings cannot be used: {0}")]
    Settings(String),
    /// There can be no such address, or no letter to it.
    #[error("the letter cannot be written: {0}")]
    Letter(String),
    /// The mail server did not take it.
    #[error("the mail server did not take the letter: {0}")]
    Refused(String),
}

/// The way to the mail server.
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    places: Semaphore,
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
        Ok(Self { transport: builder.build(), from, places: Semaphore::new(AT_ONCE) })
    }

    /// Sends a letter of plain text.
    pub(crate) async fn send(&self, to: &str, subject: &str, text: String) -> Result<(), MailError> {
        let letter = |error: &dyn std::fmt::Display| MailError::Letter(error.to_string());
        let to: lettre::Address = to.parse().map_err(|error: lettre::address::AddressError| letter(&error))?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(subject)
            .header(ContentType::TEXT_PLAIN)
            .body(text)
            .map_err(|error| letter(&error))?;
        let _place = self.places.acquire().await.map_err(|error| letter(&error))?;
        let sent = tokio::time::timeout(TIMEOUT, self.transport.send(message)).await;
        metrics::counter!("engine_letters_total").increment(1);
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(MailError::Refused(error.to_string())),
            Err(_) => Err(MailError::Refused("it did not answer in time".to_owned())),
        }
    }
}

/// Whether letters can be sent to it, as far as one can see.
pub(super) fn is_address(address: &str) -> bool {
    address.parse::<lettre::Address>().is_ok()
}
