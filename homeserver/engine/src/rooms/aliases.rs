//! Room aliases.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#room-aliases>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId,
    events::{StateEventType, TimelineEventType},
};
use serde_json::value::to_raw_value;

use super::remote::map_call_error;
use crate::{AskingService, Engine, EngineError, Requester, Result};

/// How many servers of a room are named to those who look up its alias.
const MAX_SERVERS_NAMED: usize = 50;
/// The longest alias, in bytes. <https://spec.matrix.org/v1.19/appendices/#room-aliases>
const MAX_ALIAS_BYTES: usize = 255;

/// How many aliases one event may add: each may be a question to another server.
const MAX_NEW_ALIASES: usize = 20;

impl Engine {
    /// The room that an alias points to, and servers that are in it.
    pub async fn resolve_alias(&self, alias: &RoomAliasId) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        if alias.server_name() == self.server_name() {
            return self.resolve_local_alias(alias).await;
        }
        let server = alias.server_name();
        let answer = self.federation().query_directory(server, alias).await;
        let answer = answer.map_err(|error| map_call_error(server, &error))?;
        let mut servers = answer.servers;
        if !servers.iter().any(|named| named == server) {
            servers.push(server.to_owned());
        }
        servers.truncate(MAX_SERVERS_NAMED);
        Ok((answer.room_id, servers))
    }

    /// The same for aliases of this server only, as other servers may ask.
    pub async fn resolve_local_alias(&self, alias: &RoomAliasId) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        let mut found = self.storage().alias(alias).await?;
        if found.is_none() && self.ask_services_for_alias(alias).await? {
            found = self.storage().alias(alias).await?;
        }
        let (room_id, _) = found.ok_or_else(|| EngineError::not_found(format!("There is no alias {alias}")))?;
        let mut servers = self.storage().room_servers(&room_id).await?;
        servers.sort_by_key(|server| server != self.server_name());
        servers.truncate(MAX_SERVERS_NAMED);
        Ok((room_id, servers))
    }

    /// Points an alias of this server to a room that the user is in.
    pub async fn create_alias(
        &self,
        requester: &Requester,
        service: Option<&AskingService>,
        alias: &RoomAliasId,
        room_id: &RoomId,
    ) -> Result<()> {
        if alias.server_name() != self.server_name() {
            return Err(EngineError::invalid_param("The alias does not belong to this server"));
        }
        if alias.alias().is_empty() {
            return Err(EngineError::invalid_param("The alias is empty"));
        }
        if alias.as_str().len() > MAX_ALIAS_BYTES {
            return Err(EngineError::invalid_param(format!("The alias is longer than {MAX_ALIAS_BYTES} bytes")));
        }
        self.refuse_alias_of_another(requester, service, alias)?;
        let room = self.known_room(room_id).await?;
        Self::require_joined(&room, &requester.user_id)?;
        if self.storage().create_alias(alias, room_id, &requester.user_id).await? {
            return Ok(());
        }
        Err(EngineError::RoomInUse)
    }

    /// Removes an alias: its creator may, and who may set the room's canonical alias.
    pub async fn delete_alias(
        &self,
        requester: &Requester,
        service: Option<&AskingService>,
        alias: &RoomAliasId,
    ) -> Result<()> {
        self.refuse_alias_of_another(requester, service, alias)?;
        let found = self.storage().alias(alias).await?;
        let (room_id, creator) = found.ok_or_else(|| EngineError::not_found(format!("There is no alias {alias}")))?;
        if creator != requester.user_id && !self.may_set_aliases(requester, &room_id).await? {
            return Err(EngineError::forbidden("Only who made the alias or moderates the room may remove it"));
        }
        self.storage().delete_alias(alias).await?;
        self.unname_alias(requester, &room_id, alias).await
    }

    /// Takes a removed alias out of the room's canonical aliases, where the user may.
    async fn unname_alias(&self, requester: &Requester, room_id: &RoomId, alias: &RoomAliasId) -> Result<()> {
        if !self.may_set_aliases(requester, room_id).await? {
            return Ok(());
        }
        let room = self.known_room(room_id).await?;
        let existing = self.state_pdu(&room, &StateEventType::RoomCanonicalAlias, "").await?;
        let existing = existing.and_then(|event| event.content_as::<CanonicalJsonObject>()).unwrap_or_default();
        let content = without_alias(existing.clone(), alias);
        if content == existing {
            return Ok(());
        }
        let content = to_raw_value(&content).map_err(EngineError::internal)?;
        self.set_state(requester, room_id, StateEventType::RoomCanonicalAlias, "", &content).await.map(drop)
    }

    /// The aliases on this server of a room.
    pub async fn local_aliases(&self, requester: &Requester, room_id: &RoomId) -> Result<Vec<OwnedRoomAliasId>> {
        let view = self.view(room_id, &requester.user_id).await?;
        if !view.is_joined() && !view.is_world_readable() {
            return Err(EngineError::forbidden("You are not in this room"));
        }
        Ok(self.storage().aliases_of(room_id).await?)
    }

    /// An alias of this server by its localpart.
    pub(crate) fn local_alias(&self, localpart: &str) -> Result<OwnedRoomAliasId> {
        let alias = format!("#{localpart}:{}", self.server_name());
        let unfit = localpart.is_empty() || alias.len() > MAX_ALIAS_BYTES || localpart.contains([':', '\0']);
        if unfit {
            return Err(EngineError::invalid_param("The alias is empty, too long, or holds a colon"));
        }
        RoomAliasId::parse(&alias).map_err(|error| EngineError::InvalidParam(error.to_string()))
    }

    /// Refuses a canonical alias event that names new aliases which do not point to the room. Who may not send it is
    /// refused first: to look where aliases point may mean to ask as many servers.
    pub(crate) async fn check_canonical_alias(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        content: &CanonicalJsonObject,
    ) -> Result<()> {
        let room = self.known_room(room_id).await?;
        Self::require_joined(&room, &requester.user_id)?;
        if !self.may_set_aliases(requester, room_id).await? {
            return Err(EngineError::forbidden("You may not set the aliases of this room"));
        }
        let existing = self.state_pdu(&room, &StateEventType::RoomCanonicalAlias, "").await?;
        let existing = existing.and_then(|event| event.content_as::<CanonicalJsonObject>()).unwrap_or_default();
        let known = named_aliases(&existing);
        let mut new = named_aliases(content);
        new.retain(|alias| !known.contains(alias));
        if new.len() > MAX_NEW_ALIASES {
            let text = format!("No more than {MAX_NEW_ALIASES} aliases can be added at once");
            return Err(EngineError::invalid_param(text));
        }
        for text in new {
            let alias = RoomAliasId::parse(&text)
                .map_err(|error| EngineError::invalid_param(format!("{text:?} is not an alias: {error}")))?;
            let (points_to, _) = self
                .resolve_alias(&alias)
                .await
                .map_err(|_| EngineError::BadAlias(format!("{alias} does not point to this room")))?;
            if points_to != room_id {
                return Err(EngineError::BadAlias(format!("{alias} does not point to this room")));
            }
        }
        Ok(())
    }

    async fn may_set_aliases(&self, requester: &Requester, room_id: &RoomId) -> Result<bool> {
        let Some(room) = self.resident_room(room_id).await? else { return Ok(false) };
        if Self::require_joined(&room, &requester.user_id).is_err() {
            return Ok(false);
        }
        let levels = self.power_levels(&room).await?;
        Ok(levels.may_send_state(&requester.user_id, &TimelineEventType::RoomCanonicalAlias))
    }
}

/// The content of a canonical alias event without one of its aliases.
fn without_alias(mut content: CanonicalJsonObject, alias: &RoomAliasId) -> CanonicalJsonObject {
    let is_gone = |value: &CanonicalJsonValue| value.as_str() == Some(alias.as_str());
    content.retain(|key, value| key != "alias" || !is_gone(value));
    if let Some(CanonicalJsonValue::Array(alternatives)) = content.get_mut("alt_aliases") {
        alternatives.retain(|value| !is_gone(value));
    }
    content
}

fn named_aliases(content: &CanonicalJsonObject) -> Vec<String> {
    let alternatives = match content.get("alt_aliases") {
        Some(CanonicalJsonValue::Array(list)) => list.clone(),
        _ => Vec::new(),
    };
    let all = content.get("alias").cloned().into_iter().chain(alternatives);
    all.filter_map(|value| value.as_str().map(ToOwned::to_owned)).collect()
}
