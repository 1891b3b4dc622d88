//! Saying something in a room, once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::WorkError;
use crate::conversation::answer::{self, About};
use crate::conversation::event::{Event, Object};
use crate::conversation::limits::Permission;
use crate::conversation::room::Room;
use crate::matrix::As;
use crate::service::Service;

/// The id of the transaction that sends one thing that a bot says about an event, so that it is sent once.
pub(super) fn transaction_id(purpose: &str, bot: &str, event_id: &str) -> String {
    let digest = Sha256::digest(format!("{bot}\n{event_id}").as_bytes());
    format!("{purpose}-{}", URL_SAFE_NO_PAD.encode(&digest[..16]))
}

/// Sends the content of a message about an event, encrypted where the room is.
pub(super) async fn message(
    service: &Service,
    bot: &str,
    trigger: &Event,
    transaction_id: &str,
    content: Object,
) -> Result<String, WorkError> {
    let room_id = trigger.room_id.as_str();
    let mut room = service.room(room_id).await?;
    if why_not(service, bot, trigger, &room).await.is_some() {
        // It may have become encrypted, or the bot have come, since it was looked at.
        service.forget_room(room_id).await;
        room = service.room(room_id).await?;
        if let Some(reason) = why_not(service, bot, trigger, &room).await {
            return Err(WorkError::Withheld(reason));
        }
    }
    let (kind, content) = match room.encryption {
        Some(_) => ("m.room.encrypted", service.devices.seal(bot, room_id, &room, &content).await?),
        None => ("m.room.message", content),
    };
    Ok(service.homeserver.send(As::User(bot), room_id, kind, transaction_id, content).await?)
}

/// Why a bot must not speak in a room as it is known: nothing may become readable that was not.
async fn why_not(service: &Service, bot: &str, trigger: &Event, room: &Room) -> Option<&'static str> {
    if !room.is_joined(bot) {
        return Some("the bot is not in the room");
    }
    if room.encryption.is_some() {
        let is_able = service.configuration.conversation.encryption;
        return (!is_able).then_some("the room is encrypted, and `conversation.encryption` is off");
    }
    if trigger.was_encrypted {
        return Some("what it is about was encrypted, and the room does not say so");
    }
    let was_encrypted = service.devices.knows_as_encrypted(bot, &trigger.room_id).await;
    was_encrypted.then_some("the room was encrypted, and does not say so any more")
}

/// What a bot says of itself when somebody asks: it counts as one of the room's replies.
pub(super) async fn reply(service: &Service, bot: &str, event: &Event, text: &str) -> Result<(), WorkError> {
    match service.ask_for_reply(&event.room_id, &event.sender, bot).await {
        Permission::Granted => notice(service, bot, event, text).await,
        refused => limited(service, bot, event, refused).await,
    }
}

/// The room has had enough, and is told so once.
pub(super) async fn limited(
    service: &Service,
    bot: &str,
    event: &Event,
    permission: Permission,
) -> Result<(), WorkError> {
    metrics::counter!("aibots_replies_limited_total").increment(1);
    if permission != Permission::RefusedFirst {
        return Ok(());
    }
    notice(service, bot, event, "That is a lot at once; I will be quiet for a minute.").await
}

/// A notice of a bot about an event. A room that does not let it speak does not hear it.
pub(super) async fn notice(service: &Service, bot: &str, event: &Event, text: &str) -> Result<(), WorkError> {
    let name = service.bot(bot).map_or(bot, |bot| bot.settings.localpart.as_str());
    let about =
        About { bot: name, model: "", in_reply_to: &event.event_id, thread: event.thread(), msgtype: "m.notice" };
    let content = answer::content(text, &about);
    match message(service, bot, event, &transaction_id("n", bot, &event.event_id), content).await {
        Err(error) if error.is_final() => {
            tracing::debug!(%error, room.id = event.room_id, "a notice was not let into the room");
            Ok(())
        }
        outcome => outcome.map(drop),
    }
}
