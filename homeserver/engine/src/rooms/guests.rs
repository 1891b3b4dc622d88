//! Guests in rooms: they join where the room lets guests in, and leave when it stops.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#guest-access>

use futures_util::{FutureExt, future::BoxFuture};
use ruma::{
    OwnedRoomId, RoomId, UserId,
    events::{StateEventType, room::member::MembershipState},
};

use crate::{Engine, EngineError, Requester, Result};

impl Engine {
    /// Refuses a guest who may not join. Rooms that only other servers know let no guests in: what they say of guest
    /// access is not known here.
    pub(crate) async fn refuse_unwanted_guest(&self, user_id: &UserId, room_id: &RoomId) -> Result<()> {
        if !self.is_guest(user_id).await? || self.lets_guests_in(room_id).await? {
            return Ok(());
        }
        Err(EngineError::GuestForbidden("Guests are not let into this room".to_owned()))
    }

    async fn lets_guests_in(&self, room_id: &RoomId) -> Result<bool> {
        let Some(room) = self.resident_room(room_id).await? else { return Ok(false) };
        let event = self.state_pdu(&room, &StateEventType::RoomGuestAccess, "").await?;
        let value = event.and_then(|event| event.content_str("guest_access"));
        Ok(value.is_some_and(|value| value == "can_join"))
    }

    /// The same as [`Engine::make_guests_leave`], as a future of its own.
    pub(crate) fn guests_leave(&self, room_id: OwnedRoomId) -> BoxFuture<'static, ()> {
        let engine = self.clone();
        async move {
            if let Err(error) = engine.make_guests_leave(&room_id).await {
                tracing::warn!(room.id = %room_id, %error, "guests stay in a room that lets no guests in");
            }
        }
        .boxed()
    }

    /// Makes our guests leave a room that lets no guests in any more.
    pub(crate) async fn make_guests_leave(&self, room_id: &RoomId) -> Result<()> {
        if !self.settings().accounts.guests || self.lets_guests_in(room_id).await? {
            return Ok(());
        }
        let room = self.known_room(room_id).await?;
        for user_id in room.members(&MembershipState::Join) {
            if !self.is_local(&user_id) || !self.is_guest(&user_id).await? {
                continue;
            }
            let requester = Requester { user_id, device_id: "GUEST".into() };
            if let Err(error) = self.leave(&requester, room_id, None).await {
                tracing::warn!(user.id = %requester.user_id, room.id = %room_id, %error, "a guest could not leave");
            }
        }
        Ok(())
    }
}
