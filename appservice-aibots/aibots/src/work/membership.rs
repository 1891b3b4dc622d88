//! Coming and going: who may invite a bot, and when it leaves.

use serde_json::json;

use super::{WorkError, say};
use crate::conversation::event::Event;
use crate::conversation::room::Room;
use crate::names::FUNCTIONAL_MEMBERS;
use crate::service::Service;

/// At most so many messages are taken in that were sent before a bot came.
const CAUGHT_UP_MAX: usize = 20;

/// What is said on leaving a room that is too large.
const TOO_LARGE: &str = "There are too many people in this room for me.";

/// Leaves a room whose state is larger than we read, with all bots: which of them are in it is not known.
pub(super) async fn leave_too_large(service: &Service, room_id: &str) -> Result<(), WorkError> {
    tracing::info!(room.id = room_id, "a room is too large for bots");
    for bot in service.bots() {
        match service.homeserver.leave(&bot.user_id, room_id, TOO_LARGE).await {
            Err(error) if !error.is_refusal() => return Err(error.into()),
            _ => {}
        }
    }
    service.forget_room(room_id).await;
    Ok(())
}

/// Takes in a change of membership, if it is one of ours.
pub(super) async fn take(service: &Service, event: &Event) -> Result<(), WorkError> {
    let Some(bot) = event.state_key.as_deref().and_then(|user_id| service.bot(user_id)) else { return Ok(()) };
    if event.kind != "m.room.member" {
        return Ok(());
    }
    if matches!(event.text("membership"), "leave" | "ban") {
        service.store.forget(&event.room_id).await?;
    }
    if event.text("membership") != "invite" {
        return Ok(());
    }
    let (user_id, room_id) = (bot.user_id.as_str(), event.room_id.as_str());
    let is_allowed = service.configuration.is_allowed(&event.sender);
    let outcome = if is_allowed {
        service.homeserver.join(user_id, room_id).await
    } else {
        service.homeserver.leave(user_id, room_id, "I only talk with people of my own homeserver.").await
    };
    match outcome {
        Ok(()) if is_allowed => after_joining(service, user_id, event).await,
        Ok(()) => Ok(()),
        Err(error) if error.is_refusal() => {
            tracing::info!(%error, user.id = user_id, room.id = room_id, "an invitation came to nothing");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn after_joining(service: &Service, user_id: &str, invitation: &Event) -> Result<(), WorkError> {
    let room_id = invitation.room_id.as_str();
    service.forget_room(room_id).await;
    let room = service.room(room_id).await?;
    let joined = room.members.values().filter(|member| member.is_joined).count();
    if joined > service.configuration.conversation.members_max {
        service.homeserver.leave(user_id, room_id, TOO_LARGE).await?;
        return Ok(());
    }
    metrics::counter!("aibots_rooms_joined_total").increment(1);
    flag(service, user_id, room_id).await?;
    if room.is_of_two(|user_id| service.is_ours(user_id)) {
        list(service, user_id, room_id, &room).await?;
    }
    let is_first = room.bots(|user_id| service.bot(user_id).is_some()).first().is_some_and(|bot| bot == user_id);
    if room.encryption.is_some() && is_first {
        welcome_encrypted(service, user_id, invitation).await?;
    }
    if room.is_direct(|user_id| service.is_ours(user_id)) {
        catch_up(service, user_id, invitation).await?;
    }
    Ok(())
}

/// Takes in what was said between the invitation and our coming: whoever invites somebody begins to talk at once.
async fn catch_up(service: &Service, user_id: &str, invitation: &Event) -> Result<(), WorkError> {
    let (newest, _) = service.homeserver.messages(user_id, &invitation.room_id, None, CAUGHT_UP_MAX).await?;
    let said = newest.iter().rev().filter_map(|event| {
        let event_id = event.get("event_id")?.as_str()?;
        Some((event_id.to_owned(), invitation.room_id.clone(), event.to_string()))
    });
    let said: Vec<_> = said.collect();
    // Those that came in a transaction as well count once.
    Ok(service.receive(&said).await?)
}

/// In an encrypted room people are told who else reads it.
async fn welcome_encrypted(service: &Service, user_id: &str, invitation: &Event) -> Result<(), WorkError> {
    if !service.configuration.conversation.encryption {
        let reason = "I cannot read encrypted rooms.";
        service.homeserver.leave(user_id, &invitation.room_id, reason).await?;
        return Ok(());
    }
    // Whoever has a model does not keep to themselves what they read.
    let room = service.room(&invitation.room_id).await?;
    let has_model = room.bots(|user_id| service.bot(user_id).is_some_and(|bot| !service.is_offline(bot)));
    let text = if has_model.is_empty() {
        "This room is encrypted, and I can read it: what you write here is answered by a few simple rules on this server, \
         and given to nobody else."
    } else {
        "This room is encrypted, and I can read it: what you write here is given to a language model, which may be run by \
         somebody else."
    };
    say::notice(service, user_id, invitation, text).await
}

/// Says in the membership that this is a bot, for other bots to see.
async fn flag(service: &Service, user_id: &str, room_id: &str) -> Result<(), WorkError> {
    let profile = service.homeserver.profile(user_id).await?;
    let mut content = json!({ "membership": "join", "bot": true });
    for field in ["displayname", "avatar_url"] {
        if let Some(value) = profile.get(field) {
            content[field] = value.clone();
        }
    }
    match service.homeserver.set_state(user_id, room_id, "m.room.member", user_id, &content).await {
        Err(error) if !error.is_refusal() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Lists a bot among those who are no persons, where it may: otherwise a room of two without a name would be named after
/// the bot too.
async fn list(service: &Service, user_id: &str, room_id: &str, room: &Room) -> Result<(), WorkError> {
    if room.functional_members().contains(user_id) || !room.may_send(user_id, FUNCTIONAL_MEMBERS) {
        return Ok(());
    }
    let members: Vec<&str> = room.functional_members().iter().map(String::as_str).chain([user_id]).collect();
    let content = json!({ "service_members": members });
    match service.homeserver.set_state(user_id, room_id, FUNCTIONAL_MEMBERS, "", &content).await {
        Err(error) if !error.is_refusal() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Leaves a room in which there are only bots.
pub(super) async fn leave_if_alone(service: &Service, room_id: &str) -> Result<(), WorkError> {
    let room = service.room(room_id).await?;
    if room.humans(|user_id| service.is_ours(user_id)) > 0 || service.is_lobby(room_id).await? {
        return Ok(());
    }
    for bot in room.bots(|user_id| service.bot(user_id).is_some()) {
        match service.homeserver.leave(&bot, room_id, "Nobody is left to talk with.").await {
            Err(error) if !error.is_refusal() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
