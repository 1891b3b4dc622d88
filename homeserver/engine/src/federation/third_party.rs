//! Invitations of e-mail addresses and the like, once an identity server knows whose address it is: it tells the server
//! of that user, which asks the server of whoever invited to make a real invitation of it.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#third-party-invites>

use std::time::Duration;

use rules::{
    event::weak::proves_object,
    room::member::{self, Action},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomId, OwnedServerName, OwnedServerSigningKeyId, OwnedUserId,
    RoomId, ServerName, SigningKeyAlgorithm, UserId, events::StateEventType, serde::Base64,
};

use crate::{Engine, EngineError, Result, rooms::map_call_error};

/// How many invitations one notice of an identity server may bring.
const INVITES_MAX: usize = 50;
/// How long these may take together.
const BOUND_DEADLINE: Duration = Duration::from_secs(30);
/// How many signatures of one identity server are looked at, and how long the name of a key may be.
const SIGNATURES_MAX: usize = 3;
const KEY_ID_BYTES_MAX: usize = 100;

/// An invitation that has waited for somebody at an identity server.
#[derive(Clone, Debug)]
pub struct BoundInvite {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who invited.
    pub sender: OwnedUserId,
    /// What the identity server has signed.
    pub signed: CanonicalJsonObject,
}

impl Engine {
    /// An identity server says that an address belongs to a user of ours from now on, and what has waited for it. Anybody
    /// may say so: only what an identity server that the operator allows has signed makes us tell or ask others. Whoever
    /// says so is not told what became of it, nor whether there is such a user.
    pub async fn address_bound(&self, user_id: &UserId, invites: Vec<BoundInvite>) -> Result<()> {
        if invites.len() > INVITES_MAX {
            return Err(EngineError::InvalidParam(format!("No more than {INVITES_MAX} invitations are taken at once")));
        }
        if !self.is_local(user_id) {
            return Ok(());
        }
        let exchanged = tokio::time::timeout(BOUND_DEADLINE, self.exchange_all_bound(user_id, invites)).await;
        exchanged.unwrap_or_else(|_| {
            tracing::info!(user.id = %user_id, "not all invitations that were bound are made in time");
            Ok(())
        })
    }

    async fn exchange_all_bound(&self, user_id: &UserId, invites: Vec<BoundInvite>) -> Result<()> {
        for BoundInvite { room_id, sender, signed } in invites {
            if text(&signed, "mxid") != Some(user_id.as_str()) || !self.is_signed_by_allowed_server(&signed).await {
                tracing::info!(room.id = %room_id, "an invitation that was bound is not signed by an allowed server");
                continue;
            }
            if self.storage().account(user_id).await?.is_none() {
                return Ok(());
            }
            if let Err(error) = self.exchange_bound(&room_id, &sender, user_id, signed).await {
                tracing::info!(room.id = %room_id, user.id = %user_id, %error, "an invitation that was bound is none");
            }
        }
        Ok(())
    }

    async fn exchange_bound(
        &self,
        room_id: &RoomId,
        sender: &UserId,
        target: &UserId,
        signed: CanonicalJsonObject,
    ) -> Result<()> {
        let invite = CanonicalJsonObject::from([("signed".to_owned(), CanonicalJsonValue::Object(signed))]);
        if self.is_local(sender) {
            return self.make_third_party_invite(room_id, sender, target, invite).await;
        }
        let server = sender.server_name();
        let asking = self.federation().exchange_third_party_invite(server, room_id, sender, target, invite);
        asking.await.map_err(|error| map_call_error(server, &error))
    }

    async fn is_signed_by_allowed_server(&self, signed: &CanonicalJsonObject) -> bool {
        let signers = signed.get("signatures").and_then(|signatures| signatures.as_object());
        let Some(signers) = signers else { return false };
        for server in &self.settings().accounts.identity_servers {
            let signatures = signers.get(server.as_str()).and_then(|signatures| signatures.as_object());
            for (key_id, signature) in signatures.into_iter().flatten().take(SIGNATURES_MAX) {
                if self.is_signed_with(server, key_id, signature, signed).await {
                    return true;
                }
            }
        }
        false
    }

    async fn is_signed_with(
        &self,
        server: &OwnedServerName,
        key_id: &str,
        signature: &CanonicalJsonValue,
        signed: &CanonicalJsonObject,
    ) -> bool {
        let is_plain = |character: char| character.is_ascii_alphanumeric() || "_-:".contains(character);
        let Ok(id) = OwnedServerSigningKeyId::try_from(key_id) else { return false };
        if id.algorithm() != SigningKeyAlgorithm::Ed25519
            || !key_id.chars().all(is_plain)
            || key_id.len() > KEY_ID_BYTES_MAX
        {
            return false;
        }
        let (Some(key), Some(signature)) = (self.identity_key(server, id).await, signature.as_str()) else {
            return false;
        };
        proves_object(key.as_bytes(), signature, signed)
    }

    /// A key of an identity server, which is asked for one at a time: whoever makes up names of keys has us ask no more
    /// than that.
    async fn identity_key(&self, server: &OwnedServerName, key_id: OwnedServerSigningKeyId) -> Option<Base64> {
        let known = &self.inner.rooms.identity_keys;
        let name = (server.clone(), key_id);
        if let Some(key) = known.get(&name) {
            return Some(key);
        }
        let _turn = self.inner.ingest.lock(&format!("the keys of the identity server {server}")).await;
        if let Some(key) = known.get(&name) {
            return Some(key);
        }
        let asked = self.federation().identity_public_key(server, &name.1).await;
        let key = asked.inspect_err(|error| tracing::info!(%server, %error, "no key of the identity server")).ok()?;
        let key = Base64::parse(&key).ok()?;
        known.insert(name, key.clone());
        Some(key)
    }

    /// Makes the invitation of a user of `origin`, on the strength of what an identity server has signed. Whether that
    /// holds is for the authorisation rules: the room has the key.
    pub async fn federation_exchange_third_party_invite(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        sender: &UserId,
        target: &UserId,
        third_party_invite: &CanonicalJsonObject,
    ) -> Result<()> {
        if target.server_name() != origin {
            return Err(EngineError::forbidden("The user does not belong to the asking server"));
        }
        let room = self.resident_room(room_id).await?;
        let room = room.ok_or_else(|| EngineError::not_found("This server is not in that room"))?;
        self.require_acl(&room, origin).await?;
        if !self.is_local(sender) {
            return Err(EngineError::forbidden("The one who invites is not a user of this server"));
        }
        self.make_third_party_invite(room_id, sender, target, third_party_invite.clone()).await
    }

    async fn make_third_party_invite(
        &self,
        room_id: &RoomId,
        sender: &UserId,
        target: &UserId,
        mut invite: CanonicalJsonObject,
    ) -> Result<()> {
        let room = self.resident_room(room_id).await?;
        let room = room.ok_or_else(|| EngineError::not_found("This server is not in that room"))?;
        Self::require_joined(&room, sender)?;
        let signed = invite.get("signed").and_then(|signed| signed.as_object());
        if signed.and_then(|signed| text(signed, "mxid")) != Some(target.as_str()) {
            return Err(EngineError::forbidden("The identity server has signed for another user"));
        }
        let token = signed.and_then(|signed| text(signed, "token")).unwrap_or_default();
        // Who asks need not know the name under which the address was invited.
        let waiting = self.state_pdu(&room, &StateEventType::RoomThirdPartyInvite, token).await?;
        if let Some(name) = waiting.and_then(|event| event.content_str("display_name")) {
            invite.entry("display_name".to_owned()).or_insert(CanonicalJsonValue::String(name));
        }
        let mut content =
            if self.is_local(target) { self.member_content(target, None).await? } else { CanonicalJsonObject::new() };
        content.insert("third_party_invite".to_owned(), CanonicalJsonValue::Object(invite));
        let intent = member::intent(&room, Action::Invite, sender, target, content)
            .map_err(|reason| EngineError::forbidden(reason.to_string()))?;
        if self.is_local(target) {
            return self.send_intent(room_id, intent, None).await.map(drop);
        }
        self.invite_elsewhere(&room, target, intent).await
    }
}

fn text<'a>(object: &'a CanonicalJsonObject, field: &str) -> Option<&'a str> {
    object.get(field).and_then(|value| value.as_str())
}
