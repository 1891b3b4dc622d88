//! What services are asked: whether a user or an alias of theirs exists, what they know of other networks, and whether
//! they are there.
//!
//! Spec: <https://spec.matrix.org/v1.19/application-service-api/#querying>

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use appservices::{Answer, CallError, Protocol, Service};
use futures_util::future::join_all;
use ruma::{OwnedRoomId, RoomAliasId, RoomId, UserId};
use serde_json::{Map, Value, json};

use crate::{AskingService, Engine, EngineError, Result};

/// How many rooms a service lists for its networks at most.
const LISTED_ROOMS_MAX: usize = 10_000;

/// What stands between a service and its network where both are named by one id.
const INSTANCE_SEPARATOR: char = '|';

impl Engine {
    /// Asks the services that have an alias among theirs for it; one that knows it has made it when this returns.
    /// An error when nobody knows it, but not everybody has answered.
    pub(crate) async fn ask_services_for_alias(&self, alias: &RoomAliasId) -> Result<bool> {
        let mut is_silent = false;
        for service in self.called_services().filter(|service| service.covers_alias(alias)) {
            match service.has_alias(alias).await {
                Ok(Answer::Exists) => return Ok(true),
                Ok(Answer::Unknown) => {}
                Err(error) => is_silent |= warn(service, &error),
            }
        }
        if is_silent { Err(EngineError::SilentService) } else { Ok(false) }
    }

    /// The same for a user of this server who does not exist yet.
    pub(crate) async fn ask_services_for_user(&self, user_id: &UserId) -> Result<bool> {
        let mut is_silent = false;
        for service in self.called_services().filter(|service| service.covers_user(user_id)) {
            match service.has_user(user_id).await {
                Ok(Answer::Exists) => return Ok(true),
                Ok(Answer::Unknown) => {}
                Err(error) => is_silent |= warn(service, &error),
            }
        }
        if is_silent { Err(EngineError::SilentService) } else { Ok(false) }
    }

    fn called_services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services().all().iter().filter(|service| service.registration().url.is_some())
    }

    /// Asks a service, at its own wish, whether it is there. Says how long that took.
    pub async fn ping_service(
        &self,
        asking: &AskingService,
        service_id: &str,
        transaction_id: Option<&str>,
    ) -> Result<Duration> {
        if asking.id != service_id {
            return Err(EngineError::forbidden("The access token is not that of this application service"));
        }
        Ok(self.service(service_id)?.ping(transaction_id).await?)
    }

    /// The networks that services bridge to, by name, or one of them. An error when that one is not known, but not every
    /// service that bridges to it has answered.
    pub async fn third_party_protocols(&self, wanted: Option<&str>) -> Result<BTreeMap<String, Value>> {
        let asked = self.called_services().flat_map(|service| {
            let names = service.registration().protocols.iter();
            let names = names.filter(|name| wanted.is_none_or(|wanted| wanted == name.as_str()));
            names
                .map(move |name| async move { (service, name, service.third_party(Protocol::Itself(name), &[]).await) })
        });
        let (mut protocols, mut is_silent) = (BTreeMap::new(), false);
        for (service, name, answer) in join_all(asked).await {
            match answer {
                Ok(Value::Object(protocol)) => merge(&mut protocols, service.id(), name, protocol),
                Ok(_) => drop(warn(service, &CallError::Senseless("a network that is no object".to_owned()))),
                Err(error) => is_silent |= warn(service, &error),
            }
        }
        // A list with a gap is worth more than none.
        if is_silent && wanted.is_some() && protocols.is_empty() {
            return Err(EngineError::SilentService);
        }
        Ok(protocols)
    }

    /// What services know of a network's users or locations. `None` if nobody bridges to it; an error when nothing is
    /// known, but not every service has answered.
    pub async fn third_party_lookup(
        &self,
        asked: Protocol<'_>,
        fields: &[(String, String)],
    ) -> Result<Option<Vec<Value>>> {
        let knows = |service: &&Arc<Service>| match asked {
            Protocol::Itself(name) | Protocol::Users(name) | Protocol::Locations(name) => {
                service.registration().protocols.iter().any(|known| known == name)
            }
            Protocol::UsersById | Protocol::LocationsByAlias => true,
        };
        let services: Vec<_> = self.called_services().filter(knows).collect();
        let is_about_network = !matches!(asked, Protocol::UsersById | Protocol::LocationsByAlias);
        if is_about_network && services.is_empty() {
            return Ok(None);
        }
        let answers = join_all(services.iter().map(|service| service.third_party(asked, fields))).await;
        let (mut found, mut is_silent) = (Vec::new(), false);
        for (service, answer) in services.into_iter().zip(answers) {
            match answer {
                Ok(Value::Array(part)) => found.extend(part.into_iter().filter(Value::is_object)),
                Ok(_) => drop(warn(service, &CallError::Senseless("what is found is no list".to_owned()))),
                Err(CallError::Refused { status: 404, .. }) => {}
                Err(error) => is_silent |= warn(service, &error),
            }
        }
        if is_silent && is_about_network && found.is_empty() {
            return Err(EngineError::SilentService);
        }
        Ok(Some(found))
    }

    /// Lists a room for a network of a service, or takes it out.
    pub async fn set_room_of_network(
        &self,
        service: &AskingService,
        network: &str,
        room_id: &RoomId,
        listed: bool,
    ) -> Result<()> {
        if listed {
            self.known_room(room_id).await?;
            if !self.is_room_of_service(self.service(&service.id)?, room_id).await? {
                return Err(EngineError::forbidden("The application service has nothing to do with this room"));
            }
        }
        Ok(self.storage().set_service_room(&service.id, network, room_id, listed).await?)
    }

    /// Whether a service covers a room by its id, an alias, or a user who is in it.
    async fn is_room_of_service(&self, service: &Service, room_id: &RoomId) -> Result<bool> {
        if service.covers_room(room_id) {
            return Ok(true);
        }
        if self.storage().aliases_of(room_id).await?.iter().any(|alias| service.covers_alias(alias)) {
            return Ok(true);
        }
        let members = self.storage().local_members_at(room_id, self.storage().head()).await?;
        Ok(members.iter().any(|user_id| service.covers_user(user_id)))
    }

    /// The rooms that services list for a network, which is named alone or with its service, or for all.
    /// Each with its revision, as far as this server knows it.
    pub(crate) async fn rooms_of_network(&self, network: Option<&str>) -> Result<Vec<(OwnedRoomId, i64)>> {
        let named = network.map(|id| id.split_once(INSTANCE_SEPARATOR).unwrap_or(("", id)));
        let rooms = self.storage().service_rooms(named, LISTED_ROOMS_MAX).await?;
        Ok(self.storage().room_revisions(&rooms).await?)
    }
}

/// Services that bridge to the same network are instances of it. The rest is what the first of them says.
fn merge(protocols: &mut BTreeMap<String, Value>, service: &str, name: &str, mut protocol: Map<String, Value>) {
    let mut instances = match protocol.remove("instances") {
        Some(Value::Array(instances)) => instances,
        _ => Vec::new(),
    };
    for instance in instances.iter_mut().filter_map(Value::as_object_mut) {
        let network = instance.get("network_id").and_then(Value::as_str).unwrap_or(name);
        let id = format!("{service}{INSTANCE_SEPARATOR}{network}");
        instance.insert("instance_id".to_owned(), json!(id));
    }
    let known = protocols.entry(name.to_owned()).or_insert_with(|| {
        protocol.insert("instances".to_owned(), json!([]));
        Value::Object(protocol)
    });
    if let Some(all) = known["instances"].as_array_mut() {
        all.append(&mut instances);
    }
}

/// Says whether the service has not answered at all, so that the question is open.
fn warn(service: &Service, error: &CallError) -> bool {
    tracing::warn!(service.id = service.id(), %error, "an application service does not answer a question");
    matches!(error, CallError::TimedOut(_) | CallError::Unreachable(_))
}
