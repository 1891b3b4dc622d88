//! What passes each stage.

use std::net::IpAddr;

use engine::AddressPurpose;
use ruma::{UserId, api::client::uiaa::UserIdentifier};

use super::{Auth, Owner, Proofs, Session, Stage};
use crate::{Door, Result, error::ApiError, rate_limits::Class};

/// Whether a stage was passed, or why not.
type Verdict = Result<(), &'static str>;

impl Door {
    /// Looks at what the client gave for a stage, and notes in the session when it is right.
    pub(super) async fn pass(&self, session: &Session, stage: Stage, auth: &Auth, address: IpAddr) -> Result<Verdict> {
        let mut proofs = session.proofs();
        let verdict = match stage {
            Stage::Dummy | Stage::Terms => Ok(()),
            Stage::Password => self.pass_password(&session.owner, auth, address).await?,
            Stage::RegistrationToken => {
                proofs.registration_token.clone_from(&auth.token);
                self.pass_registration_token(auth.token.as_deref(), address).await?
            }
            Stage::Email => self.pass_email(&session.owner, auth, &mut proofs, address).await?,
        };
        if verdict.is_ok() {
            proofs.add(stage);
            session.keep(proofs);
        }
        Ok(verdict)
    }

    async fn pass_password(&self, owner: &Owner, auth: &Auth, address: IpAddr) -> Result<Verdict> {
        let limits = &self.inner.rate_limits;
        limits.check(Class::WrongPassword, address, self.now_ms())?;
        if owner.user_id().is_some_and(|user_id| self.names_another(auth, user_id)) {
            // No password makes that right, so there is nothing to try again.
            return Err(ApiError::forbidden("Only the user themself can confirm this"));
        }
        let right = match (owner.user_id(), auth.password.as_deref()) {
            (Some(user_id), Some(password)) if self.names(auth, user_id).await? => {
                self.engine.check_password(user_id, password).await?
            }
            _ => false,
        };
        if !right {
            limits.take(Class::WrongPassword, address, self.now_ms())?;
            return Ok(Err("Wrong user or password"));
        }
        Ok(Ok(()))
    }

    async fn names(&self, auth: &Auth, user_id: &UserId) -> Result<bool> {
        let user = match (&auth.identifier, &auth.user) {
            (Some(UserIdentifier::Matrix(identifier)), _) => &identifier.user,
            (Some(UserIdentifier::Email(identifier)), _) => {
                let owner = self.engine.owner_of_address("email", &identifier.address).await?;
                return Ok(owner.is_some_and(|owner| owner == *user_id));
            }
            (None, Some(user)) => user,
            _ => return Ok(false),
        };
        let named = UserId::parse_with_server_name(user.as_str(), self.engine.server_name());
        Ok(named.is_ok_and(|named| named == *user_id))
    }

    /// Whether a user id is given, and it is another one.
    fn names_another(&self, auth: &Auth, user_id: &UserId) -> bool {
        let Some(UserIdentifier::Matrix(identifier)) = &auth.identifier else { return false };
        let named = UserId::parse_with_server_name(identifier.user.as_str(), self.engine.server_name());
        named.is_ok_and(|named| named != *user_id)
    }

    async fn pass_registration_token(&self, token: Option<&str>, address: IpAddr) -> Result<Verdict> {
        self.inner.rate_limits.take(Class::RegistrationToken, address, self.now_ms())?;
        match token {
            Some(token) if self.engine.registration_token_valid(token).await? => Ok(Ok(())),
            _ => Ok(Err("The registration token is not valid")),
        }
    }

    async fn pass_email(&self, owner: &Owner, auth: &Auth, proofs: &mut Proofs, address: IpAddr) -> Result<Verdict> {
        // Clients ask again and again until their user has opened the letter.
        self.inner.rate_limits.take(Class::Other, address, self.now_ms())?;
        let Some(given) = &auth.threepid_creds else { return Ok(Err("There is no `threepid_creds`")) };
        let purpose = if *owner == Owner::Newcomer { AddressPurpose::Register } else { AddressPurpose::Password };
        let Some(shown) = self.engine.validated_address(purpose, &given.sid, &given.client_secret).await? else {
            return Ok(Err("Nobody has followed the link in the letter yet"));
        };
        let whose = self.engine.owner_of_address(&shown.medium, &shown.address).await?;
        let fits = match owner {
            Owner::Requester(requester) => whose.as_ref() == Some(&requester.user_id),
            Owner::Forgetful => whose.is_some(),
            Owner::Newcomer => whose.is_none(),
        };
        if !fits {
            return Ok(Err("This address cannot be used here"));
        }
        proofs.address = Some(shown);
        Ok(Ok(()))
    }

    /// A stage that was done on a page in a browser.
    pub(crate) async fn pass_in_browser(
        &self,
        session: &Session,
        stage: Stage,
        secret: Option<String>,
        address: IpAddr,
    ) -> Result<Verdict> {
        if !session.flows.iter().flatten().any(|other| *other == stage) {
            return Ok(Err("This is not asked for"));
        }
        let auth = Auth {
            stage: None,
            session: None,
            identifier: None,
            user: session.owner.user_id().map(ToString::to_string),
            password: secret.clone(),
            token: secret,
            threepid_creds: None,
        };
        self.pass(session, stage, &auth, address).await
    }
}
