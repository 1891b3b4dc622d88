//! Verifying a bot's device by emoji. There is nobody at its side who could compare them but its operator, who finds them
//! in the log: whoever trusts them learns from them whether they are the same. The bot itself says yes to all of them, since
//! nothing that it does depends on whom it has verified.
//! <https://spec.matrix.org/v1.19/client-server-api/#key-verification-framework>

use std::sync::Arc;

use machine::{Answer, Emoji, FlowId, RequestId, RoomEvent, Stage};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use tokio::sync::mpsc;

use super::{Device, DeviceFailure};
use crate::conversation::event::{Event, Object};
use crate::matrix::As;
use crate::service::Service;

/// At most so many events of verifications wait to be sent. Further ones are given up: the other side begins anew.
pub(super) const WAITING_MAX: usize = 32;

/// What a device wants to say in a room.
pub(super) type Outgoing = (RequestId, RoomEvent);

impl Event {
    /// Whether it asks for a verification.
    pub(crate) fn begins_verification(&self) -> bool {
        self.kind == "m.room.message" && self.msgtype() == "m.key.verification.request"
    }

    /// Whether it is part of a verification.
    pub(crate) fn is_verification(&self) -> bool {
        self.kind.starts_with("m.key.verification.") || self.begins_verification()
    }
}

impl Device {
    /// Takes in an event of a verification in a room.
    pub(super) async fn receive_in_room(&self, service: &Service, event: &Event) -> Result<bool, DeviceFailure> {
        let room_id: OwnedRoomId = event.room_id.as_str().try_into()?;
        let sender: OwnedUserId = event.sender.as_str().try_into()?;
        let event_id: OwnedEventId = event.event_id.as_str().try_into()?;
        let notices = {
            let mut inner = self.inner.lock().await;
            let held =
                inner.machine.receive_room_verification(&room_id, &sender, &event_id, &event.kind, &event.content);
            inner.keep(held)?;
            let held = inner.machine.notices();
            inner.keep(held)?
        };
        self.heed(service, &notices).await
    }

    /// Goes on with a verification as far as it can be gone on with alone.
    pub(super) async fn go_on(&self, service: &Service, flow_id: &FlowId) -> Result<(), DeviceFailure> {
        let mut inner = self.inner.lock().await;
        let Some(verification) = inner.machine.verification(flow_id) else { return Ok(()) };
        let held = match verification.stage {
            Stage::Offered if service.configuration.is_allowed(flow_id.user_id.as_str()) => {
                inner.machine.accept_verification(flow_id)
            }
            Stage::Offered => inner.machine.cancel_verification(flow_id),
            Stage::Compare { emoji, is_confirmed: false, .. } => {
                let emoji = in_words(&emoji);
                tracing::info!(user.id = self.user_id, by = %flow_id.user_id, %emoji, "a bot's device is being verified; these are its emoji");
                inner.machine.confirm_sas(flow_id)
            }
            _ => return Ok(()),
        };
        inner.keep(held)
    }
}

fn in_words(emoji: &[Emoji]) -> String {
    let words: Vec<String> = emoji.iter().map(|emoji| format!("{} {}", emoji.symbol, emoji.name)).collect();
    words.join(", ")
}

/// Says in rooms what verifications want said there, for as long as it is run.
pub(super) async fn say(service: &Arc<Service>, user_id: &str, device: &Device, mut said: mpsc::Receiver<Outgoing>) {
    while let Some((id, event)) = said.recv().await {
        let answer = match send(service, user_id, device, &event).await {
            Ok(event_id) => Some(Answer::RoomEvent(event_id)),
            Err(error) => {
                tracing::warn!(%error, user.id = user_id, room.id = %event.room_id, "a verification cannot go on");
                None
            }
        };
        if let Err(error) = device.answered(&id, answer.as_ref()).await {
            tracing::warn!(%error, user.id = user_id, "a device's store fails");
        }
    }
}

async fn send(
    service: &Arc<Service>,
    user_id: &str,
    device: &Device,
    event: &RoomEvent,
) -> Result<OwnedEventId, DeviceFailure> {
    let room_id = event.room_id.as_str();
    let room = service.room(room_id).await?;
    let (kind, content): (&str, Object) = match room.encryption {
        Some(_) => ("m.room.encrypted", device.encrypt(room_id, &room, &event.event_type, &event.content).await?),
        None => (event.event_type.as_str(), event.content.clone()),
    };
    let transaction_id = event.transaction_id.as_str();
    let sent = service.homeserver.send(As::User(user_id), room_id, kind, transaction_id, content).await?;
    Ok(sent.try_into()?)
}
