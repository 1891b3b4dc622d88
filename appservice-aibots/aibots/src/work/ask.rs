//! What a model is asked: the conversation as the bot may know it.

use std::time::Duration;

use serde_json::Value;

use super::WorkError;
use super::decide::opened_history;
use super::reply::has_tools;
use crate::context::{self, Persona, Speaker, Window, estimate_text, system_prompt};
use crate::conversation::command::Task;
use crate::conversation::event::Event;
use crate::conversation::history::{Turn, turns};
use crate::conversation::room::{Room, RoomSettings};
use crate::devices::Opened;
use crate::provider::{Asked, Image, Request};
use crate::providers::Candidate;
use crate::service::{Bot, Service};

/// How many events are read in search of messages that count: edits and notices stand between them.
const EVENTS_MAX: usize = 200;

/// How many events are asked for at once.
const PAGE: usize = 100;

/// The newest pictures are shown to a model, so many of them.
const PICTURES_MAX: usize = 2;

/// Larger pictures are not shown to a model: providers refuse them.
const PICTURE_BYTES_MAX: usize = 5 * 1024 * 1024;

/// How long a picture is waited for. Without it there is still something to answer.
const PICTURE_DEADLINE: Duration = Duration::from_secs(10);

/// The newest events of a room as a bot sees them, decrypted, newest first.
pub(super) async fn events(service: &Service, bot: &str, room_id: &str) -> Result<Vec<Event>, WorkError> {
    let reader = [bot.to_owned()];
    let (mut events, mut from) = (Vec::new(), None);
    while events.len() < EVENTS_MAX {
        let (page, end) = service.homeserver.messages(bot, room_id, from.as_deref(), PAGE).await?;
        let is_last = page.is_empty() || end.is_none() || end == from;
        for object in page.iter().filter_map(Value::as_object) {
            let Some(event) = Event::read(object, room_id) else { continue };
            if let Opened::Yes(event) = opened_history(service, &reader, object, event).await {
                events.push(*event);
            }
        }
        if is_last {
            break;
        }
        from = end;
    }
    Ok(events)
}

/// What a bot knows of a conversation when it is asked.
pub(super) struct Known {
    said: Vec<Turn>,
    told: Vec<context::Turn>,
    summary: Option<String>,
    system: String,
    window: Window,
    is_group: bool,
}

impl Known {
    /// Gathers it.
    pub(super) async fn gather(
        service: &Service,
        bot: &Bot,
        room: (&str, &Room, &RoomSettings),
        events: &[Event],
        trigger: &Event,
        candidate: &Candidate,
    ) -> Result<Self, WorkError> {
        let (room_id, room, settings) = room;
        let thread = trigger.thread();
        let in_thread =
            |event: &&Event| thread.is_none() || event.thread() == thread || Some(event.event_id.as_str()) == thread;
        let summary = service.store.summary(room_id, &bot.user_id).await?;
        let until: Vec<&str> =
            settings.forgotten_until.iter().chain(summary.iter().map(|(_, until)| until)).map(String::as_str).collect();
        // What is forgotten is forgotten in all threads, also in those that the marker does not stand in.
        let is_known = |event: &&Event| !until.contains(&event.event_id.as_str());
        let events: Vec<Event> = events.iter().take_while(is_known).filter(in_thread).cloned().collect();
        let said = turns(&events, &until, EVENTS_MAX);
        let is_group = !room.is_direct(|user_id| service.is_ours(user_id));
        let mut told: Vec<context::Turn> = said.iter().map(|turn| told(turn, bot, room)).collect();
        if bot.sees {
            show_pictures(service, bot, &said, &mut told).await;
        }
        let persona = Persona {
            name: &bot.settings.name,
            prompt: &bot.settings.prompt,
            is_group,
            has_tools: has_tools(service, settings),
        };
        let conversation = &service.configuration.conversation;
        let window = Window {
            context_tokens: service.completions.context_tokens(candidate),
            output_tokens_max: conversation.answer_tokens,
            messages_max: conversation.history_messages,
            images_max: if bot.sees { PICTURES_MAX } else { 0 },
        };
        let summary = summary.map(|(summary, _)| summary);
        Ok(Self { said, told, summary, system: system_prompt(persona), window, is_group })
    }

    /// The whole request. The model of it is the candidate's.
    pub(super) fn request(
        &self,
        service: &Service,
        bot: &Bot,
        room: &Room,
        making: (&Event, Option<Task>),
        candidate: &Candidate,
    ) -> Request {
        let (trigger, task) = making;
        let last = task.map(|task| task.instruction().to_owned()).or_else(|| {
            // What is to be answered may have been forgotten or redacted since; models want to answer something.
            self.told.last().is_none_or(|last| last.speaker == Speaker::Bot).then(|| trigger.words())
        });
        let last = last.map(|text| context::Turn {
            speaker: Speaker::Other(room.name_of(&trigger.sender).to_owned()),
            text,
            images: Vec::new(),
        });
        let told: Vec<context::Turn> = self.told.iter().cloned().chain(last).collect();
        let tokens = estimate_text(&self.system);
        Request {
            model: candidate.model.clone(),
            bot_name: bot.settings.name.clone(),
            messages: context::build(&told, self.summary.as_deref(), self.is_group, tokens, self.window).messages,
            asked: task.is_none().then(|| self.asked(room, trigger)),
            system: self.system.clone(),
            temperature: Some(bot.settings.temperature),
            output_tokens_max: self.window.output_tokens_max,
            tools: Vec::new(),
            is_done_with_tools: false,
            now_ms: service.now_ms(),
            seed: service.world.random_below(u64::MAX),
        }
    }

    /// The words of the event, as they are told of it in the conversation.
    fn asked(&self, room: &Room, trigger: &Event) -> Asked {
        let turn = self.said.iter().rev().find(|turn| turn.event_id == trigger.event_id);
        let words = turn.map_or_else(|| trigger.words(), |turn| turn.words.clone());
        Asked { speaker: self.is_group.then(|| room.name_of(&trigger.sender).to_owned()), words }
    }

    /// What is to be asked for remembering, if there is more than fits; and the last event that will be covered.
    pub(super) fn fold(&self, bot: &Bot) -> Option<(Request, String)> {
        let tokens = estimate_text(&self.system);
        let fold = context::fold(&self.told, self.summary.as_deref(), &bot.settings.name, tokens, self.window)?;
        let until = self.said.get(fold.turns.checked_sub(1)?)?.event_id.clone();
        Some((fold.request, until))
    }
}

fn told(turn: &Turn, bot: &Bot, room: &Room) -> context::Turn {
    let speaker =
        if turn.sender == bot.user_id { Speaker::Bot } else { Speaker::Other(room.name_of(&turn.sender).to_owned()) };
    context::Turn { speaker, text: turn.words.clone(), images: Vec::new() }
}

async fn show_pictures(service: &Service, bot: &Bot, said: &[Turn], told: &mut [context::Turn]) {
    let pictures = said.iter().zip(told).rev().filter(|(turn, _)| turn.image.is_some() && turn.sender != bot.user_id);
    for (turn, told) in pictures.take(PICTURES_MAX) {
        told.images.extend(picture(service, bot, turn).await);
    }
}

async fn picture(service: &Service, bot: &Bot, turn: &Turn) -> Option<Image> {
    let content = turn.image.as_ref()?;
    let info = content.get("info").and_then(Value::as_object);
    let claimed = info.and_then(|info| info.get("size")).and_then(Value::as_u64).unwrap_or(0);
    let media_type = info.and_then(|info| info.get("mimetype")).and_then(Value::as_str).unwrap_or("image/png");
    if claimed > PICTURE_BYTES_MAX as u64
        || !matches!(media_type, "image/png" | "image/jpeg" | "image/gif" | "image/webp")
    {
        return None;
    }
    let file = content.get("file").and_then(Value::as_object);
    let uri = file.and_then(|file| file.get("url")).or_else(|| content.get("url")).and_then(Value::as_str)?;
    let download = service.homeserver.download(&bot.user_id, uri, PICTURE_BYTES_MAX, PICTURE_DEADLINE);
    let bytes = download.await.inspect_err(|error| tracing::debug!(%error, "a picture is left out")).ok()?;
    let bytes = match file {
        None => bytes,
        Some(file) => {
            let key: machine::AttachmentKey = serde_json::from_value(Value::Object(file.clone())).ok()?;
            let mut bytes = bytes.to_vec();
            machine::decrypt_attachment(&key, &mut bytes).ok()?;
            bytes.into()
        }
    };
    Some(Image { media_type: media_type.to_owned(), bytes })
}
