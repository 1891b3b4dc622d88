//! Application services that ask: by their own token, for one of their users.
//!
//! Spec: <https://spec.matrix.org/v1.19/application-service-api/#identity-assertion>

use std::sync::Arc;

use appservices::Service;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use storage::{AccountCreation, NewAccount, ServiceQueue};

use crate::{
    AskingService, Authenticated, Engine, EngineError, NewDevice, Registered, Requester, Result, Session,
    accounts::check_of_service,
};

/// A service's wish for an account.
#[derive(Clone, Debug)]
pub struct ServiceRegistration {
    /// The name of the user.
    pub username: String,
    /// The first device.
    pub device: NewDevice,
    /// Whether the user is not to be logged in.
    pub inhibit_login: bool,
}

impl Engine {
    /// The service that a token stands for.
    pub fn service_of_token(&self, token: &str) -> Option<AskingService> {
        let service = self.services().by_token(token)?;
        self.inner.services.heard_from(service.id());
        Some(AskingService { id: service.id().to_owned(), rate_limited: false })
    }

    /// The user that a service speaks for, by default its own, and the device, by default none.
    pub async fn masquerade(
        &self,
        service: &AskingService,
        user_id: Option<&str>,
        device_id: Option<&str>,
    ) -> Result<Authenticated> {
        let service = self.service(&service.id)?;
        let user_id = user_id.map_or_else(|| Ok(service.sender().to_owned()), UserId::parse);
        let user_id = user_id.map_err(|error| EngineError::InvalidParam(format!("user_id: {error}")))?;
        if !service.covers_user(&user_id) {
            return Err(EngineError::forbidden("The application service cannot speak for this user"));
        }
        let account = self.storage().account(&user_id).await?;
        let account =
            account.ok_or_else(|| EngineError::forbidden("The application service has not registered this user"))?;
        if account.deactivated {
            return Err(EngineError::UserDeactivated);
        }
        let is_own = user_id == *service.sender();
        Ok(Authenticated {
            service: Some(AskingService {
                id: service.id().to_owned(),
                rate_limited: service.registration().rate_limited && !is_own,
            }),
            requester: Requester { device_id: self.device_of(&user_id, device_id).await?, user_id },
            locked: account.locked,
            suspended: account.suspended,
            guest: account.guest,
        })
    }

    async fn device_of(&self, user_id: &UserId, device_id: Option<&str>) -> Result<OwnedDeviceId> {
        let Some(device_id) = device_id else { return Ok("".into()) };
        let device_id: &DeviceId = device_id.into();
        match self.storage().device(user_id, device_id).await {
            Ok(Some(device)) => Ok(device.device_id),
            Ok(None) | Err(storage::StorageError::Unstorable(_)) => Err(EngineError::UnknownDevice),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn service(&self, id: &str) -> Result<&Arc<Service>> {
        self.services().by_id(id).ok_or_else(|| EngineError::not_found("There is no such application service"))
    }

    /// Creates an account of a service, without a password, and logs its first device in.
    pub async fn register_for_service(
        &self,
        service: &AskingService,
        registration: ServiceRegistration,
    ) -> Result<Registered> {
        let ServiceRegistration { username, device, inhibit_login } = registration;
        let user_id = UserId::parse_with_server_name(username.as_str(), self.server_name())
            .map_err(|error| EngineError::InvalidUsername(error.to_string()))?;
        self.require_own(service, &user_id)?;
        check_of_service(user_id.localpart(), self.server_name())?;
        device.check()?;
        if self.create_service_user(&user_id).await? == AccountCreation::UserIdTaken {
            return Err(EngineError::UserInUse);
        }
        let session = if inhibit_login { None } else { Some(self.open_session(user_id.clone(), device).await?) };
        Ok(Registered { user_id, session })
    }

    /// Logs a user of a service in.
    pub async fn login_for_service(&self, service: &AskingService, user: &str, device: NewDevice) -> Result<Session> {
        let user_id = UserId::parse_with_server_name(user, self.server_name())
            .map_err(|error| EngineError::InvalidUsername(error.to_string()))?;
        self.require_own(service, &user_id)?;
        self.open_session_if_allowed(user_id, device).await
    }

    /// Refuses users that a service may not make, nor log in as.
    fn require_own(&self, service: &AskingService, user_id: &UserId) -> Result<()> {
        let is_own = self.service(&service.id)?.covers_user(user_id);
        if !is_own || self.services().is_users_of_another(user_id, Some(&service.id)) {
            return Err(EngineError::Exclusive("This user ID does not belong to the application service".to_owned()));
        }
        Ok(())
    }

    async fn create_service_user(&self, user_id: &UserId) -> Result<AccountCreation> {
        let account = NewAccount {
            user_id: user_id.to_owned(),
            password_hash: None,
            display_name: None,
            created_ts: self.world().clock.now_ms(),
            guest: false,
            admin: false,
        };
        Ok(self.storage().create_account(account, None).await?)
    }

    /// Makes the services' own users, and notes where in the log a new service begins to hear. For the start, before
    /// anybody asks.
    pub async fn prepare_services(&self) -> Result<()> {
        for service in self.services().all() {
            self.create_service_user(service.sender()).await?;
            if self.storage().service_queue(service.id()).await?.is_none() {
                let queue =
                    ServiceQueue { service: service.id().to_owned(), position: self.storage().head(), in_flight: None };
                self.storage().save_service_queue(&queue).await?;
            }
        }
        Ok(())
    }

    /// Names a device of a user of a service, and makes it if there is none of that id. Says whether it did.
    pub async fn put_service_device(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        display_name: Option<&str>,
    ) -> Result<bool> {
        if self.storage().device(user_id, device_id).await?.is_some() {
            if display_name.is_some() {
                self.rename_device(user_id, device_id, display_name).await?;
            }
            return Ok(false);
        }
        let device = NewDevice {
            device_id: Some(device_id.to_owned()),
            display_name: display_name.map(ToOwned::to_owned),
            wants_refresh_token: false,
        };
        device.check()?;
        Ok(self.storage().create_device(user_id, device_id, display_name, self.world().clock.now_ms()).await?)
    }

    /// Refuses an alias that only a service may make or remove, unless that service asks, or one of its own users does.
    pub(crate) fn refuse_alias_of_another(
        &self,
        requester: &Requester,
        service: Option<&AskingService>,
        alias: &ruma::RoomAliasId,
    ) -> Result<()> {
        let owner = || self.services().all().iter().find(|service| service.owns_user(&requester.user_id));
        let asker = service.map(|service| service.id.as_str()).or_else(|| owner().map(|service| service.id()));
        if self.services().is_alias_of_another(alias, asker) {
            return Err(EngineError::Exclusive("This alias belongs to an application service".to_owned()));
        }
        Ok(())
    }

    /// Those of `users` that a service covers.
    pub(crate) fn covered(service: &Service, users: Vec<OwnedUserId>) -> impl Iterator<Item = OwnedUserId> {
        users.into_iter().filter(|user_id| service.covers_user(user_id))
    }
}
