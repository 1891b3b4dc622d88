//! Addresses of people, for e-mail: showing that one is theirs, adding it to an account, taking it away.
//!
//! A session belongs to a purpose, an address and the client's secret. A letter brings a link with a token to the
//! address; who follows it has shown that the address is theirs. What the session shows counts once.
//!
//! Whoever asks gets the same answer whether the address belongs to an account or not; the letter says which it is.
//! <https://spec.matrix.org/v1.19/client-server-api/#adding-account-administrative-contact-information>

use ruma::{OwnedUserId, UserId};
use storage::{AddressValidation, ThirdPartyId};

use super::mail;
use crate::{
    Engine, EngineError, Result,
    tokens::{self, TokenKind},
};

/// The one medium that there is a way to.
const EMAIL: &str = "email";

/// How long a session lasts: from the first letter to the use of what it shows.
const SESSION_LIFETIME_MS: u64 = 60 * 60 * 1000;

const SESSION_ID_LENGTH: usize = 24;

/// The longest address that there can be.
const ADDRESS_BYTES_MAX: usize = 254;

/// The longest link to go on to.
const LINK_BYTES_MAX: usize = 500;

/// How many addresses an account may have.
const ADDRESSES_MAX: usize = 20;

/// What somebody shows an address for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPurpose {
    /// To register.
    Register,
    /// To set another password, or to confirm an action.
    Password,
    /// To add it to an account.
    Add,
}

impl AddressPurpose {
    const fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Password => "password",
            Self::Add => "add",
        }
    }
}

/// The wish for a letter.
#[derive(Clone)]
pub struct LetterRequest {
    /// What for.
    pub purpose: AddressPurpose,
    /// Where to.
    pub address: String,
    /// What only the client knows.
    pub client_secret: String,
    /// A higher number than before asks for another letter.
    pub send_attempt: u64,
    /// Where to go on afterwards.
    pub next_link: Option<String>,
}

/// An address that somebody has shown to be theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedAddress {
    /// The session in which they did.
    pub session_id: String,
    /// What kind of address.
    pub medium: String,
    /// The address.
    pub address: String,
    /// When they did, in milliseconds since the epoch.
    pub validated_ts: u64,
}

impl Engine {
    /// Whether letters can be sent.
    pub fn sends_letters(&self) -> bool {
        self.inner.accounts.mailer.is_some()
    }

    /// Sends a letter with a link, and returns the session. The same attempt again sends nothing.
    pub async fn request_letter(&self, request: LetterRequest) -> Result<String> {
        let Some(mailer) = &self.inner.accounts.mailer else {
            let text = "This server sends no e-mail, so addresses cannot be confirmed";
            return Err(EngineError::MediumNotSupported(text.to_owned()));
        };
        let address = canonical_address(&request.address)?;
        check_next_link(request.next_link.as_deref())?;
        let (purpose, storage) = (request.purpose.name(), self.storage());
        let _lock = self.inner.accounts.profile_locks.lock(&format!("{purpose} {address}")).await;
        let now_ts = self.world().clock.now_ms();
        let before = storage.address_validation_of(purpose, EMAIL, &address, &request.client_secret).await?;
        let before = before.filter(|session| session.expires_ts > now_ts);
        if let Some(session) = before.as_ref().filter(|session| session.send_attempt >= request.send_attempt) {
            return Ok(session.session_id.clone());
        }
        let new_id = || self.world().random_string(SESSION_ID_LENGTH);
        let token = tokens::new_token(self.world(), TokenKind::Letter);
        let validation = AddressValidation {
            session_id: before.map_or_else(new_id, |session| session.session_id),
            purpose: purpose.to_owned(),
            medium: EMAIL.to_owned(),
            address: address.clone(),
            client_secret: request.client_secret,
            send_attempt: request.send_attempt,
            token_hash: tokens::hash_token(&token),
            next_link: request.next_link,
            expires_ts: now_ts + SESSION_LIFETIME_MS,
            validated_ts: None,
        };
        let known = self.owner_of_address(EMAIL, &address).await?.is_some();
        let (subject, text) = self.letter(request.purpose, known, &validation, &token);
        storage.put_address_validation(&validation, now_ts).await?;
        let letter = mail::Letter { subject, text, html: None, unsubscribe: None };
        mailer.send(&address, letter).await.map_err(|error| {
            tracing::warn!(%error, "a letter was not sent");
            EngineError::CannotFederate("The letter could not be sent; try again later".to_owned())
        })?;
        Ok(validation.session_id)
    }

    /// Subject and text.
    fn letter(
        &self,
        purpose: AddressPurpose,
        known: bool,
        session: &AddressValidation,
        token: &str,
    ) -> (String, String) {
        let server = self.server_name();
        let what = match purpose {
            AddressPurpose::Register => "create an account",
            AddressPurpose::Password => "confirm a change of your account",
            AddressPurpose::Add => "add this address to your account",
        };
        let wanted = format!("Somebody, most likely you, wants to {what} on {server} with this address.");
        // An address for which nothing can come of it gets no link to follow.
        let rest = match (purpose, known) {
            (AddressPurpose::Password, false) => format!("But no account on {server} has this address."),
            (AddressPurpose::Register | AddressPurpose::Add, true) => {
                format!("But it belongs to an account on {server} already. You can log in with it.")
            }
            _ => format!(
                "To go on, open this page, within an hour:\n\n{}\n\nIf it was not you, leave this letter alone.",
                self.link(session, token)
            ),
        };
        (format!("Your address at {server}"), format!("{wanted}\n\n{rest}\n"))
    }

    /// None of its parts needs to be percent-encoded.
    fn link(&self, session: &AddressValidation, token: &str) -> String {
        let base = self.settings().accounts.mail.as_ref().map_or("", |mail| mail.link_base_url.trim_end_matches('/'));
        let (id, secret) = (&session.session_id, &session.client_secret);
        format!("{base}/_nudge/client/v1/validate_address?sid={id}&client_secret={secret}&token={token}")
    }

    /// Notes that somebody followed the link in a letter. Returns where they may go on.
    pub async fn validate_address(&self, session_id: &str, client_secret: &str, token: &str) -> Result<Option<String>> {
        let refusal = || EngineError::ThirdPartyIdAuthFailed("The link is not valid any more".to_owned());
        if !tokens::is_well_formed(token, TokenKind::Letter) {
            return Err(refusal());
        }
        let (hash, now_ts) = (tokens::hash_token(token), self.world().clock.now_ms());
        if !self.storage().validate_address(session_id, client_secret, &hash, now_ts).await? {
            return Err(refusal());
        }
        Ok(self.storage().address_validation(session_id).await?.and_then(|session| session.next_link))
    }

    /// The address that a session shows, if it does so for that purpose.
    pub async fn validated_address(
        &self,
        purpose: AddressPurpose,
        session_id: &str,
        client_secret: &str,
    ) -> Result<Option<ValidatedAddress>> {
        let Some(session) = self.storage().address_validation(session_id).await? else { return Ok(None) };
        let is_it = session.purpose == purpose.name()
            && session.client_secret == client_secret
            && session.expires_ts > self.world().clock.now_ms();
        Ok(session.validated_ts.filter(|_| is_it).map(|validated_ts| ValidatedAddress {
            session_id: session.session_id,
            medium: session.medium,
            address: session.address,
            validated_ts,
        }))
    }

    /// Ends the session: what it shows has been used.
    pub async fn spend_address(&self, address: &ValidatedAddress) -> Result<()> {
        if self.storage().spend_address_validation(&address.session_id).await? {
            return Ok(());
        }
        Err(EngineError::ThirdPartyIdAuthFailed("This session was used before".to_owned()))
    }

    /// The addresses of a user.
    pub async fn third_party_ids(&self, user_id: &UserId) -> Result<Vec<ThirdPartyId>> {
        Ok(self.storage().third_party_ids(user_id).await?)
    }

    /// Adds the address that a session shows.
    pub async fn add_third_party_id(&self, user_id: &UserId, session_id: &str, client_secret: &str) -> Result<()> {
        let address = self.validated_address(AddressPurpose::Add, session_id, client_secret).await?;
        let refusal =
            || EngineError::ThirdPartyIdAuthFailed("Nobody has followed the link in the letter yet".to_owned());
        self.add_validated_address(user_id, &address.ok_or_else(refusal)?).await
    }

    pub(super) async fn add_validated_address(&self, user_id: &UserId, address: &ValidatedAddress) -> Result<()> {
        if self.storage().third_party_ids(user_id).await?.len() >= ADDRESSES_MAX {
            return Err(EngineError::forbidden(format!("An account has at most {ADDRESSES_MAX} addresses")));
        }
        self.spend_address(address).await?;
        let id = ThirdPartyId {
            medium: address.medium.clone(),
            address: address.address.clone(),
            user_id: user_id.to_owned(),
            validated_ts: address.validated_ts,
            added_ts: self.world().clock.now_ms(),
        };
        if !self.storage().add_third_party_id(&id).await? {
            return Err(EngineError::ThirdPartyIdInUse);
        }
        tracing::info!(user.id = %user_id, medium = id.medium, "address added");
        Ok(())
    }

    /// Takes an address away, if it is there.
    pub async fn delete_third_party_id(&self, user_id: &UserId, medium: &str, address: &str) -> Result<()> {
        // One that is not well-formed is no account's.
        let Ok(address) = canonical(medium, address) else { return Ok(()) };
        Ok(self.storage().delete_third_party_id(user_id, medium, &address).await?)
    }

    /// Whose address it is, if it is that of an account that is not deactivated.
    pub async fn owner_of_address(&self, medium: &str, address: &str) -> Result<Option<OwnedUserId>> {
        let Ok(address) = canonical(medium, address) else { return Ok(None) };
        Ok(self.storage().third_party_id(medium, &address).await?.map(|id| id.user_id))
    }
}

fn canonical(medium: &str, address: &str) -> Result<String> {
    if medium == EMAIL { canonical_address(address) } else { Ok(address.to_owned()) }
}

/// In lower case, as the specification wants it, so that each mailbox has one way of writing.
fn canonical_address(address: &str) -> Result<String> {
    let address = address.to_lowercase();
    if address.len() > ADDRESS_BYTES_MAX || !mail::is_address(&address) {
        return Err(EngineError::invalid_param("This is no e-mail address"));
    }
    Ok(address)
}

/// Only pages; nothing that a browser would run.
fn check_next_link(link: Option<&str>) -> Result<()> {
    let Some(link) = link else { return Ok(()) };
    let is_page = link.starts_with("https://") || link.starts_with("http://");
    if link.len() > LINK_BYTES_MAX || !is_page || !link.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(EngineError::invalid_param("next_link must be a short http(s) URL"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_118_addresses_and_links_are_bounded_and_cannot_inject_headers() {
        assert_eq!(canonical_address("Alice@Example.ORG").unwrap(), "alice@example.org");
        let long = format!("{}@example.org", "a".repeat(10_000));
        for address in ["", "alice", "a@b\r\nBcc: c@d.example", "a b@c.example", "<a@b.example>", &long] {
            assert!(canonical_address(address).is_err(), "{address:?}");
        }
        assert!(check_next_link(Some("https://app.example/#/done")).is_ok());
        let long = format!("https://a.example/{}", "a".repeat(500));
        for link in ["javascript:alert(1)", "//a.example", "https://a.example/\r\n", "https://a b", &long] {
            assert!(check_next_link(Some(link)).is_err(), "{link:?}");
        }
    }
}
