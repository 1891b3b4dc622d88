//! Events of a room, one after another, as they came: who is to answer?

use serde_json::Value;

use super::{PutOff, WorkError, command, membership, say};
use crate::conversation::event::{Event, Object};
use crate::conversation::room::Room;
use crate::conversation::trigger::{Arrival, Candidate, Decision, decide};
use crate::devices::Opened;
use crate::matrix::CallError;
use crate::service::{Bot, Service};
use crate::store::{Owed, Received};

/// For how long an event that cannot be decrypted waits for its key.
pub(super) const WAITING_FOR_KEY_MS: u64 = 5 * 60 * 1000;

/// How long a verification may take. What is older comes to those who were away for longer than anybody waits.
const VERIFICATION_MS: u64 = 10 * 60 * 1000;

/// Works off the events of a room. Gives whether all of them could be read.
pub(super) async fn events_of(service: &Service, room_id: &str) -> Result<bool, PutOff> {
    let (mut after, mut has_read_all, mut state_changed) = (0, true, false);
    loop {
        let received = service.store.next_of(room_id, after).await?;
        let Some(last) = received.last() else { break };
        after = last.position;
        for one in &received {
            match take(service, room_id, one).await {
                Ok(taken) => {
                    has_read_all &= taken != Taken::Later;
                    state_changed |= taken == Taken::State;
                }
                Err(error) => give_up_or_wait(service, room_id, one.position, error).await?,
            }
        }
    }
    if state_changed {
        membership::leave_if_alone(service, room_id).await?;
    }
    Ok(has_read_all)
}

/// An event is not waited for in its room for ever: what fails as often as it may is given up.
async fn give_up_or_wait(service: &Service, room_id: &str, position: i64, error: WorkError) -> Result<(), PutOff> {
    let is_too_large = matches!(error, WorkError::Call(CallError::TooLarge));
    let error = if is_too_large { membership::leave_too_large(service, room_id).await.err() } else { Some(error) };
    if let Some(error) = error {
        let attempts = service.store.event_failed(position).await?;
        if attempts < error.attempts_max() {
            return Err(PutOff { error, attempts });
        }
        tracing::error!(%error, room.id = room_id, attempts, "an event is given up");
    }
    Ok(service.store.work_off(&[position], &[], service.now_ms()).await?)
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Message,
    State,
    /// Its key may still come.
    Later,
}

async fn take(service: &Service, room_id: &str, received: &Received) -> Result<Taken, WorkError> {
    let object: Option<Object> = serde_json::from_str(&received.event).ok();
    let Some(event) = object.as_ref().and_then(|object| Event::read(object, room_id)) else {
        service.store.work_off(&[received.position], &[], service.now_ms()).await?;
        return Ok(Taken::Message);
    };
    if event.kind == "m.room.redaction" {
        // Bots may remember in other words what is to be gone.
        service.store.forget(room_id).await?;
    }
    if event.state_key.is_some() {
        service.forget_room(room_id).await;
        membership::take(service, &event).await?;
        service.store.work_off(&[received.position], &[], service.now_ms()).await?;
        return Ok(Taken::State);
    }
    take_message(service, received, object.unwrap_or_default(), event).await
}

async fn take_message(
    service: &Service,
    received: &Received,
    object: Object,
    event: Event,
) -> Result<Taken, WorkError> {
    if service.is_ours(&event.sender) {
        service.store.work_off(&[received.position], &[], service.now_ms()).await?;
        return Ok(Taken::Message);
    }
    let room = service.room(&event.room_id).await?;
    let bots = room.bots(|user_id| service.bot(user_id).is_some());
    let owed = match opened(service, &bots, &object, event).await {
        Opened::NotYet
            if service.configuration.conversation.encryption
                && service.now_ms() < received.received_ms.saturating_add(WAITING_FOR_KEY_MS) =>
        {
            return Ok(Taken::Later);
        }
        Opened::NotYet | Opened::Never => {
            metrics::counter!("aibots_events_ignored_total", "reason" => "unreadable").increment(1);
            Vec::new()
        }
        Opened::Yes(event) if event.is_verification() => {
            verify(service, &bots, &event).await?;
            Vec::new()
        }
        Opened::Yes(event) => owed_for(service, received, &room, &bots, &event).await?,
    };
    service.store.work_off(&[received.position], &owed, service.now_ms()).await?;
    if !owed.is_empty() {
        service.work.notify_one();
    }
    Ok(Taken::Message)
}

/// Goes on with a verification. Who begins one is told where to find what to compare.
async fn verify(service: &Service, bots: &[String], event: &Event) -> Result<(), WorkError> {
    const WHERE: &str = "My emoji stand in the log of whoever runs me: only they can tell you whether they are the same as \
        yours.";
    if event.sent_ms.saturating_add(VERIFICATION_MS) < service.now_ms() {
        return Ok(());
    }
    service.devices.verify(service, bots, event).await;
    match bots.iter().find(|bot| event.text("to") == bot.as_str()) {
        Some(bot) if event.begins_verification() && service.configuration.is_allowed(&event.sender) => {
            say::reply(service, bot, event, WHERE).await
        }
        _ => Ok(()),
    }
}

/// An event, decrypted where that is needed, as one of these bots can.
pub(super) async fn opened(service: &Service, bots: &[String], object: &Object, event: Event) -> Opened {
    if event.kind == "m.room.encrypted" {
        return service.devices.open(bots, object, event).await;
    }
    Opened::Yes(Box::new(event))
}

async fn owed_for(
    service: &Service,
    received: &Received,
    room: &Room,
    present: &[String],
    event: &Event,
) -> Result<Vec<Owed>, WorkError> {
    let settings = service.settings_of(&event.room_id, room).await?;
    let bots: Vec<Candidate> = present.iter().filter_map(|user_id| service.bot(user_id)).map(candidate).collect();
    let replied_to = match event.replies_to() {
        Some(event_id) => service.store.sender_of(event_id).await?,
        None => None,
    };
    let arrival = Arrival {
        received_ms: received.received_ms,
        is_sender_allowed: service.configuration.is_allowed(&event.sender),
    };
    let decision = decide(event, room, &settings, &bots, replied_to.as_deref(), arrival);
    let owed = |bot: String, task: Option<&str>| Owed {
        event_id: event.event_id.clone(),
        bot,
        room_id: event.room_id.clone(),
        task: task.map(str::to_owned),
        event: received.event.clone(),
    };
    match decision {
        Decision::Ignore(reason) => {
            metrics::counter!("aibots_events_ignored_total", "reason" => reason).increment(1);
            tracing::debug!(reason, event.id = event.event_id, room.id = event.room_id, "not answered");
            Ok(Vec::new())
        }
        Decision::Answer(bots) => Ok(bots.into_iter().map(|bot| owed(bot, None)).collect()),
        Decision::Command { bot, words } => {
            let task = command::obey(service, room, settings, event, &bot, &words).await?;
            Ok(task.map(|task| owed(bot, Some(task.name()))).into_iter().collect())
        }
    }
}

fn candidate(bot: &Bot) -> Candidate {
    Candidate {
        user_id: bot.user_id.clone(),
        names: vec![bot.settings.name.clone(), bot.settings.localpart.clone()],
        sees_images: bot.sees,
    }
}

/// The same for what is told as history, and not answered.
pub(super) async fn opened_history(service: &Service, bots: &[String], object: &Object, event: Event) -> Opened {
    if event.kind == "m.room.encrypted" {
        return service.devices.open_history(bots, object, event).await;
    }
    Opened::Yes(Box::new(event))
}

/// The relation that says in which thread an event is, which stands outside of what is encrypted.
pub(super) fn thread_of(event: &str) -> Option<String> {
    let event: Value = serde_json::from_str(event).ok()?;
    Event::read(event.as_object()?, "")?.thread().map(str::to_owned)
}
