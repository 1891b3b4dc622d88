//! Inviting somebody of whom only an e-mail address or a phone number is known.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#third-party-invites>,
//! <https://spec.matrix.org/v1.19/identity-service-api/#association-lookup>

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use outbound::{CallError, StoredInvite};
use rules::{RoomSnapshot, room::send::Intent};
use ruma::{
    CanonicalJsonObject, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId,
    events::{StateEventType, TimelineEventType},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{CreateRoomCommand, moderate::check_reason};
use crate::{Engine, EngineError, Requester, Result};

/// The longest address, token or name of an identity server, in bytes.
const TEXT_BYTES_MAX: usize = 500;
/// The longest token that an identity server may give an invitation: it becomes a state key.
const TOKEN_BYTES_MAX: usize = 255;
/// How many keys of an identity server an invitation names.
const KEYS_MAX: usize = 10;
/// How many addresses are invited into a new room.
const INVITED_MAX: usize = 20;

/// Whom to invite, and who may know them.
#[derive(Clone, Debug)]
pub struct AddressInvite {
    /// `email` or `msisdn`.
    pub medium: String,
    /// The address.
    pub address: String,
    /// The identity server, with its port if that is not the usual one.
    pub id_server: String,
    /// The asker's token there.
    pub id_access_token: String,
}

impl Engine {
    /// Invites whoever has an address: by their user id, if the identity server knows it; else the invitation waits there
    /// until somebody shows that the address is theirs.
    pub async fn invite_by_address(
        &self,
        requester: &Requester,
        room_id: &RoomId,
        invite: AddressInvite,
        reason: Option<String>,
    ) -> Result<()> {
        check_reason(reason.as_deref())?;
        let server = self.identity_server(&invite)?;
        let room = self.known_room(room_id).await?;
        Self::require_joined(&room, &requester.user_id)?;
        if !self.power_levels(&room).await?.may_invite(&requester.user_id) {
            return Err(EngineError::forbidden("You may not invite others into this room"));
        }
        if let Some(user_id) = self.owner_of(&server, &invite).await? {
            return self.invite(requester, room_id, &user_id, reason).await;
        }
        let about = self.about_invitation(requester, &room, &invite).await?;
        let stored = self.federation().identity_store_invite(&server, &invite.id_access_token, &about).await;
        let stored = stored.map_err(|error| not_answered(&server, &error))?;
        let intent = waiting(requester, &stored)?;
        self.send_intent(room_id, intent, None).await.map(drop)
    }

    /// Creates a room, and invites into it also some of whom only addresses are known.
    pub async fn create_room_with_addresses(
        &self,
        requester: &Requester,
        command: CreateRoomCommand,
        invites: Vec<AddressInvite>,
    ) -> Result<OwnedRoomId> {
        if invites.len() > INVITED_MAX {
            return Err(EngineError::InvalidParam(format!(
                "No more than {INVITED_MAX} addresses can be invited at once"
            )));
        }
        for invite in &invites {
            self.identity_server(invite)?;
        }
        let room_id = self.create_room(requester, command).await?;
        for invite in invites {
            // The room is there, and who made it can invite again.
            if let Err(error) = self.invite_by_address(requester, &room_id, invite, None).await {
                tracing::warn!(room.id = %room_id, %error, "invitation of an address into a new room failed");
            }
        }
        Ok(room_id)
    }

    /// The identity server, if the operator lets users go by it.
    fn identity_server(&self, invite: &AddressInvite) -> Result<OwnedServerName> {
        let AddressInvite { medium, address, id_server, id_access_token } = invite;
        let allowed = &self.settings().accounts.identity_servers;
        if allowed.is_empty() {
            return Err(EngineError::forbidden("Inviting by e-mail or phone number is not possible here"));
        }
        if !["email", "msisdn"].contains(&&**medium) {
            return Err(EngineError::invalid_param("`medium` is `email` or `msisdn`"));
        }
        if address.is_empty() || [address, id_server, id_access_token].iter().any(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(EngineError::InvalidParam(format!(
                "There is no address of 0 or more than {TEXT_BYTES_MAX} bytes"
            )));
        }
        let server = allowed.iter().find(|server| server.as_str().eq_ignore_ascii_case(id_server)).cloned();
        server.ok_or_else(|| EngineError::forbidden("This server does not invite by that identity server"))
    }

    /// Whose the address is, if the identity server knows.
    async fn owner_of(&self, server: &ServerName, invite: &AddressInvite) -> Result<Option<OwnedUserId>> {
        let AddressInvite { medium, address, id_access_token, .. } = invite;
        let failed = |error: CallError| not_answered(server, &error);
        let details = self.federation().identity_hash_details(server, id_access_token).await.map_err(failed)?;
        let pepper = &details.lookup_pepper;
        let knows = |algorithm: &str| details.algorithms.iter().any(|known| known == algorithm);
        let address = normalised(medium, address);
        let (algorithm, hidden) = if knows("sha256") {
            ("sha256", URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{address} {medium} {pepper}"))))
        } else if knows("none") {
            ("none", format!("{address} {medium}"))
        } else {
            return Err(EngineError::CannotFederate(
                "The identity server knows no way of asking that we know".to_owned(),
            ));
        };
        let asking = self.federation().identity_lookup(server, id_access_token, (algorithm, pepper), &hidden);
        let found = asking.await.map_err(failed)?;
        Ok(found.and_then(|user_id| user_id.try_into().ok()))
    }

    /// What the identity server may tell whoever has the address.
    async fn about_invitation(
        &self,
        requester: &Requester,
        room: &RoomSnapshot,
        invite: &AddressInvite,
    ) -> Result<Value> {
        let mut about = json!({
            "medium": invite.medium,
            "address": normalised(&invite.medium, &invite.address),
            "room_id": room.room_id,
            "sender": requester.user_id,
        });
        for (event_type, field, name) in [
            (StateEventType::RoomCanonicalAlias, "alias", "room_alias"),
            (StateEventType::RoomAvatar, "url", "room_avatar_url"),
            (StateEventType::RoomJoinRules, "join_rule", "room_join_rules"),
            (StateEventType::RoomName, "name", "room_name"),
            (StateEventType::RoomCreate, "type", "room_type"),
        ] {
            let event = self.state_pdu(room, &event_type, "").await?;
            if let Some(text) = event.and_then(|event| event.content_str(field)) {
                about[name] = text.into();
            }
        }
        let profile = self.state_pdu(room, &StateEventType::RoomMember, requester.user_id.as_str()).await?;
        for (field, name) in [("displayname", "sender_display_name"), ("avatar_url", "sender_avatar_url")] {
            if let Some(text) = profile.as_ref().and_then(|event| event.content_str(field)) {
                about[name] = text.into();
            }
        }
        Ok(about)
    }
}

/// Mailboxes are the same in capitals and not, as far as identity servers go; phone numbers are digits only.
fn normalised(medium: &str, address: &str) -> String {
    if medium == "email" { address.to_lowercase() } else { address.trim_start_matches('+').to_owned() }
}

/// The event that lets in whoever the identity server will sign for.
fn waiting(requester: &Requester, stored: &StoredInvite) -> Result<Intent> {
    let StoredInvite { token, display_name, public_keys } = stored;
    let Some(first) = public_keys.first() else {
        return Err(EngineError::CannotFederate("The identity server named no key".to_owned()));
    };
    let fits = (1..=TOKEN_BYTES_MAX).contains(&token.len()) && display_name.len() <= TEXT_BYTES_MAX;
    if !fits {
        return Err(EngineError::CannotFederate("The identity server gave an answer that makes no sense".to_owned()));
    }
    let keys = public_keys.iter().take(KEYS_MAX);
    let keys = keys.map(|key| json!({ "public_key": key.public_key, "key_validity_url": key.key_validity_url }));
    let content = json!({
        "display_name": display_name,
        "key_validity_url": first.key_validity_url,
        "public_key": first.public_key,
        "public_keys": keys.collect::<Vec<_>>(),
    });
    let content: CanonicalJsonObject = serde_json::from_value(content).map_err(EngineError::internal)?;
    let sender = UserId::to_owned(&requester.user_id);
    let event_type = TimelineEventType::RoomThirdPartyInvite;
    let state_key = Some(token.clone());
    Ok(Intent {
        sender,
        event_type,
        state_key,
        content,
        redacts: None,
        sticky_duration_ms: None,
        origin_server_ts: None,
    })
}

fn not_answered(server: &ServerName, error: &CallError) -> EngineError {
    tracing::info!(%server, %error, "an identity server does not help");
    let text = match error {
        CallError::Refused { status: 401 | 403, .. } => {
            "The identity server refuses your token, or wants its terms accepted"
        }
        _ => "The identity server does not answer, or not in a way that makes sense",
    };
    EngineError::CannotFederate(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hashed_as_the_specification_has_it() {
        // The example of the identity service's chapter.
        let hash = |text: &str| URL_SAFE_NO_PAD.encode(Sha256::digest(text));
        assert_eq!(hash("alice@example.com email matrixrocks"), "4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc");
        assert_eq!(normalised("email", "Alice@Example.com"), "alice@example.com");
        assert_eq!(normalised("msisdn", "+4477900900"), "4477900900");
    }
}
