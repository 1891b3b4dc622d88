//! Saying something in a room, once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::WorkError;
use crate::conversation::answer::{self, About};
use crate::conversation::event::{Event, Object};
use crate::matrix::As;
use crate::service::Service;

/// The id of the transaction that sends one thing that a bot says about an event, so that it is sent once.
pub(super) fn transaction_id(purpose: &str, bot: &str, event_id: &str) -> String {
    let digest = Sha256::digest(format!("{bot}\n{event_id}").as_bytes());
    format!("{purpose}-{}", URL_SAFE_NO_PAD.encode(&digest[..16]))
}

/// Sends the content of a message, encrypted where the room is.
pub(super) async fn message(
    service: &Service,
    bot: &str,
    room_id: &str,
    transaction_id: &str,
    content: Object,
) -> Result<String, WorkError> {
    let room = service.room(room_id).await?;
    let (kind, content) = match room.encryption {
        Some(_) => ("m.room.encrypted", service.devices.seal(bot, room_id, &room, &content).await?),
        None => ("m.room.message", content),
    };
    Ok(service.homeserver.send(As::User(bot), room_id, kind, transaction_id, content).await?)
}

/// A notice of a bot about an event. A room that does not let it speak does not hear it.
pub(super) async fn notice(service: &Service, bot: &str, event: &Event, text: &str) -> Result<(), WorkError> {
    let name = service.bot(bot).map_or(bot, |bot| bot.settings.localpart.as_str());
    let about =
        About { bot: name, model: "", in_reply_to: &event.event_id, thread: event.thread(), msgtype: "m.notice" };
    let content = answer::content(text, &about);
    match message(service, bot, &event.room_id, &transaction_id("n", bot, &event.event_id), content).await {
        Err(WorkError::Call(error)) if error.is_refusal() => {
            tracing::debug!(%error, room.id = event.room_id, "a notice was not let into the room");
            Ok(())
        }
        outcome => outcome.map(drop),
    }
}
