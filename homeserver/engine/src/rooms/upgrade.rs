//! Replacing a room by one of another version.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#room-upgrades>

use rules::{
    RoomSnapshot,
    room::{
        create::{NewRoom, Preset, first_events},
        member,
        send::Intent,
        upgrade::{self, TAKEN_OVER},
    },
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
    state_res::events::RoomCreateEvent,
};
use serde_json::{Value, json};

use super::remote::ROOM_VERSIONS;
use crate::{Engine, EngineError, Requester, Result};

/// How many users banned from the old room are banned from the new one.
const MAX_BANS: usize = 5_000;
/// How many rooms of a space are taken over.
const MAX_CHILDREN: usize = 2_000;
/// How many additional creators the new room may have.
const MAX_ADDITIONAL_CREATORS: usize = 50;
/// How many spaces and rooms are told of the new room.
const MAX_LINKS: usize = 200;

/// A room to be replaced.
struct Upgrade<'a> {
    requester: &'a Requester,
    old: &'a RoomSnapshot,
    version: RoomVersionId,
    rules: RoomVersionRules,
    additional_creators: Vec<OwnedUserId>,
}

impl Engine {
    /// Replaces a room by a new one of the given version, and closes the old one. Returns the new one's id.
    pub async fn upgrade_room(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        version: RoomVersionId,
        additional_creators: Vec<OwnedUserId>,
    ) -> Result<OwnedRoomId> {
        Self::require_joined(&*self.known_room(room_id).await?, &requester.user_id)?;
        // Who is banned is to stay so, and may not be known yet.
        let old = self.whole_room(room_id).await?;
        Self::require_joined(&old, &requester.user_id)?;
        let rules = version.rules().filter(|_| ROOM_VERSIONS.contains(&version));
        let rules = rules.ok_or_else(|| EngineError::UnsupportedRoomVersion(version.clone()))?;
        if additional_creators.len() > MAX_ADDITIONAL_CREATORS {
            return Err(EngineError::invalid_param(format!("More than {MAX_ADDITIONAL_CREATORS} additional creators")));
        }
        // 1. Checks that the user has permission to send m.room.tombstone events in the room.
        let levels = self.power_levels(&old).await?;
        if !levels.may_send_state(&requester.user_id, &TimelineEventType::RoomTombstone) {
            return Err(EngineError::forbidden("You may not upgrade this room"));
        }
        let upgrade = Upgrade { requester, old: &old, version, rules, additional_creators };
        // 2. Creates a replacement room. 3. Replicates transferable state events to the new room.
        let new = self.create_replacement(&upgrade).await?;
        // 5. Before the aliases: nobody is to be led to a room that the old one does not lead to.
        let content = json!({"body": "This room has been replaced", "replacement_room": new});
        self.send_state(requester, room_id, TimelineEventType::RoomTombstone, "", &content).await?;
        // 4. Moves any local aliases to the new room.
        self.move_aliases(&upgrade, &new).await?;
        self.move_directory_entry(room_id, &new).await?;
        self.close_replaced(&upgrade).await;
        self.link_replacement(&upgrade, &new).await?;
        self.carry_over(&requester.user_id, &new).await?;
        Ok(new)
    }

    async fn create_replacement(&self, upgrade: &Upgrade<'_>) -> Result<OwnedRoomId> {
        let levels = self.replacement_levels(upgrade).await?;
        let new_room = NewRoom {
            version: upgrade.version.clone(),
            creator: upgrade.requester.user_id.clone(),
            preset: Preset::PrivateChat,
            alias: None,
            name: None,
            topic: None,
            initial_state: self.state_taken_over(upgrade).await?,
            creation_content: self.creation_content(upgrade).await?,
            power_level_content_override: Some(levels.at_first),
            invite: Vec::new(),
            member_content: self.member_content(&upgrade.requester.user_id, None).await?,
        };
        let mut intents = first_events(&new_room, &upgrade.rules)?;
        intents.extend(self.space_taken_over(upgrade).await?);
        intents.extend(bans_taken_over(upgrade));
        if let Some(levels) = levels.in_the_end {
            intents.push(state(upgrade, TimelineEventType::RoomPowerLevels, "", levels));
        }
        let decision = self.decide_new(&new_room, &intents, &upgrade.rules).await?;
        let room_id = decision.room.room_id.clone();
        self.commit_new_room(upgrade.requester, decision, None).await?;
        Ok(room_id)
    }

    async fn creation_content(&self, upgrade: &Upgrade<'_>) -> Result<CanonicalJsonObject> {
        let old = self.content(upgrade.old, &StateEventType::RoomCreate).await?.unwrap_or_default();
        let mut content: CanonicalJsonObject = ["type", "m.federate"]
            .into_iter()
            .filter_map(|field| Some((field.to_owned(), old.get(field)?.clone())))
            .collect();
        let mut predecessor = json!({"room_id": upgrade.old.room_id});
        if !upgrade.rules.authorization.room_create_event_id_as_room_id {
            let last = upgrade.old.forward_extremities.iter().max_by_key(|(_, depth)| *depth);
            predecessor["event_id"] = json!(last.map(|(event_id, _)| event_id));
        }
        content.insert("predecessor".to_owned(), canonical(predecessor)?);
        if upgrade.rules.authorization.additional_room_creators && !upgrade.additional_creators.is_empty() {
            content.insert("additional_creators".to_owned(), canonical(json!(upgrade.additional_creators))?);
        }
        Ok(content)
    }

    async fn replacement_levels(&self, upgrade: &Upgrade<'_>) -> Result<upgrade::Levels> {
        let old = self.content(upgrade.old, &StateEventType::RoomPowerLevels).await?.unwrap_or_default();
        let mut creators = vec![upgrade.requester.user_id.clone()];
        creators.extend(upgrade.additional_creators.iter().cloned());
        let rules = &upgrade.old.rules.authorization;
        let create = self.state_pdu(upgrade.old, &StateEventType::RoomCreate, "").await?;
        let former = create.filter(|_| rules.explicitly_privilege_room_creators);
        let former = former.and_then(|create| RoomCreateEvent::new(create).creators(rules).ok()).unwrap_or_default();
        let former: Vec<OwnedUserId> = former.into_iter().collect();
        Ok(upgrade::levels(&old, &creators, &former, &upgrade.rules.authorization))
    }

    async fn state_taken_over(
        &self,
        upgrade: &Upgrade<'_>,
    ) -> Result<Vec<(TimelineEventType, String, CanonicalJsonObject)>> {
        let mut taken_over = Vec::new();
        if let Some(content) = self.content(upgrade.old, &StateEventType::RoomJoinRules).await? {
            let content = upgrade::join_rules(&content, &upgrade.rules.authorization);
            taken_over.push((TimelineEventType::RoomJoinRules, String::new(), content));
        }
        for event_type in TAKEN_OVER {
            let content = self.content(upgrade.old, &event_type).await?;
            let content = content.filter(|content| !content.is_empty());
            taken_over.extend(content.map(|content| (event_type.to_string().into(), String::new(), content)));
        }
        if !taken_over.iter().any(|(event_type, ..)| *event_type == TimelineEventType::RoomGuestAccess) {
            // No guests, as before: the preset would let them in.
            let content = CanonicalJsonObject::from([("guest_access".to_owned(), "forbidden".into())]);
            taken_over.push((TimelineEventType::RoomGuestAccess, String::new(), content));
        }
        Ok(taken_over)
    }

    /// The links of a room to the spaces that it is in, and of a space to the rooms in it.
    async fn space_taken_over(&self, upgrade: &Upgrade<'_>) -> Result<Vec<Intent>> {
        let is_link = |event_type: &StateEventType| {
            matches!(event_type, StateEventType::SpaceChild | StateEventType::SpaceParent)
        };
        let links = upgrade.old.state().filter(|((event_type, _), _)| is_link(event_type));
        let event_ids: Vec<_> = links.map(|(_, value)| value.event_id.clone()).take(MAX_CHILDREN).collect();
        let events = self.storage().events(&event_ids).await?;
        let intent = |event: &std::sync::Arc<storage::StoredEvent>| {
            let content =
                event.pdu.content_as::<CanonicalJsonObject>().filter(|content| content.contains_key("via"))?;
            let state_key = event.pdu.state_key.as_deref()?;
            Some(state(upgrade, event.pdu.event_type.clone(), state_key, content))
        };
        Ok(events.iter().filter_map(intent).collect())
    }

    /// Points our aliases to the new room, which says so itself; the old one forgets them.
    async fn move_aliases(&self, upgrade: &Upgrade<'_>, new: &RoomId) -> Result<()> {
        let old = &upgrade.old.room_id;
        let canonical = self.content(upgrade.old, &StateEventType::RoomCanonicalAlias).await?.unwrap_or_default();
        let moved = self.storage().aliases_of(old).await?;
        self.storage().move_aliases(old, new).await?;
        let is_moved = |alias: &CanonicalJsonValue| moved.iter().any(|moved| alias.as_str() == Some(moved.as_str()));
        let mut content = CanonicalJsonObject::new();
        content.extend(
            canonical.get("alias").filter(|alias| is_moved(alias)).map(|alias| ("alias".to_owned(), alias.clone())),
        );
        if let Some(CanonicalJsonValue::Array(others)) = canonical.get("alt_aliases") {
            let others: Vec<_> = others.iter().filter(|alias| is_moved(alias)).cloned().collect();
            if !others.is_empty() {
                content.insert("alt_aliases".to_owned(), CanonicalJsonValue::Array(others));
            }
        }
        if content.is_empty() {
            return Ok(());
        }
        let event_type = TimelineEventType::RoomCanonicalAlias;
        self.try_state(upgrade.requester, old, event_type.clone(), "", CanonicalJsonObject::new()).await;
        self.try_state(upgrade.requester, new, event_type, "", content).await;
        Ok(())
    }

    /// The new room stands in our directory where the old one did.
    pub(super) async fn move_directory_entry(&self, old: &RoomId, new: &RoomId) -> Result<()> {
        if self.storage().room(old).await?.is_some_and(|room| room.published) {
            self.storage().set_room_published(new, true).await?;
            self.storage().set_room_published(old, false).await?;
        }
        Ok(())
    }

    /// 6. If possible, the power levels in the old room should also be modified to prevent sending of events and
    ///    inviting new users.
    async fn close_replaced(&self, upgrade: &Upgrade<'_>) {
        let Ok(room) = self.known_room(&upgrade.old.room_id).await else { return };
        let levels = self.content(&room, &StateEventType::RoomPowerLevels).await.ok().flatten();
        if let Some(levels) = upgrade::closed(&levels.unwrap_or_default()) {
            self.try_state(upgrade.requester, &room.room_id, TimelineEventType::RoomPowerLevels, "", levels).await;
        }
    }

    /// The spaces that hold the old room get the new one in its place, and so do the rooms of a space.
    async fn link_replacement(&self, upgrade: &Upgrade<'_>, new: &RoomId) -> Result<()> {
        let old = upgrade.old.room_id.as_str();
        let user_id = &upgrade.requester.user_id;
        for (event_type, timeline_type) in [
            (StateEventType::SpaceChild, TimelineEventType::SpaceChild),
            (StateEventType::SpaceParent, TimelineEventType::SpaceParent),
        ] {
            let rooms = self.storage().joined_rooms_with_state(user_id, &event_type, old, None).await?;
            for room_id in rooms.iter().filter(|room_id| *room_id != old && *room_id != new).take(MAX_LINKS) {
                let Some(room) = self.resident_room(room_id).await? else { continue };
                let link = self.state_pdu(&room, &event_type, old).await?;
                let content = link.and_then(|link| link.content_as::<CanonicalJsonObject>());
                let Some(mut content) = content.filter(|content| content.contains_key("via")) else { continue };
                content.insert("via".to_owned(), canonical(json!([self.server_name()]))?);
                let linked =
                    self.try_state(upgrade.requester, room_id, timeline_type.clone(), new.as_str(), content).await;
                if linked {
                    let gone = CanonicalJsonObject::new();
                    self.try_state(upgrade.requester, room_id, timeline_type.clone(), old, gone).await;
                }
            }
        }
        Ok(())
    }

    /// Sends state where the user may; says whether it went.
    async fn try_state(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        event_type: TimelineEventType,
        state_key: &str,
        content: CanonicalJsonObject,
    ) -> bool {
        let sender = requester.user_id.clone();
        let intent = Intent {
            sender,
            event_type,
            state_key: Some(state_key.to_owned()),
            content,
            redacts: None,
            sticky_duration_ms: None,
            origin_server_ts: None,
        };
        let sent = self.send_intent(room_id, intent, None).await;
        sent.inspect_err(|error| tracing::info!(room.id = %room_id, %error, "state was not set upon an upgrade"))
            .is_ok()
    }

    async fn send_state(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        event_type: TimelineEventType,
        state_key: &str,
        content: &Value,
    ) -> Result<()> {
        let content = serde_json::from_value(content.clone()).map_err(EngineError::internal)?;
        let sender = requester.user_id.clone();
        let intent = Intent {
            sender,
            event_type,
            state_key: Some(state_key.to_owned()),
            content,
            redacts: None,
            sticky_duration_ms: None,
            origin_server_ts: None,
        };
        self.send_intent(room_id, intent, None).await.map(drop)
    }

    /// The content of a state event with an empty key.
    async fn content(&self, room: &RoomSnapshot, event_type: &StateEventType) -> Result<Option<CanonicalJsonObject>> {
        let event = self.state_pdu(room, event_type, "").await?;
        Ok(event.and_then(|event| event.content_as()))
    }
}

fn state(
    upgrade: &Upgrade<'_>,
    event_type: TimelineEventType,
    state_key: &str,
    content: CanonicalJsonObject,
) -> Intent {
    let sender = upgrade.requester.user_id.clone();
    Intent {
        sender,
        event_type,
        state_key: Some(state_key.to_owned()),
        content,
        redacts: None,
        sticky_duration_ms: None,
        origin_server_ts: None,
    }
}

fn bans_taken_over(upgrade: &Upgrade<'_>) -> Vec<Intent> {
    let mut banned: Vec<OwnedUserId> = upgrade.old.members(&MembershipState::Ban).collect();
    if banned.len() > MAX_BANS {
        tracing::warn!(room.id = %upgrade.old.room_id, banned = banned.len(), "not all bans go over to the new room");
    }
    banned.sort();
    banned.retain(|user_id| *user_id != upgrade.requester.user_id && !upgrade.additional_creators.contains(user_id));
    banned.truncate(MAX_BANS);
    let sender = &upgrade.requester.user_id;
    let ban = |target: &OwnedUserId| member::change(sender, target, &MembershipState::Ban, CanonicalJsonObject::new());
    banned.iter().map(ban).collect()
}

fn canonical(value: Value) -> Result<CanonicalJsonValue> {
    serde_json::from_value(value).map_err(EngineError::internal)
}
