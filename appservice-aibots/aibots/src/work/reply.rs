//! Answering: one answer for each message and bot, whatever happens in between.

use std::sync::Arc;
use std::time::Duration;

use super::show::Typing;
use super::{PutOff, WorkError, ask, decide, say};
use crate::budget::{Held, day_of};
use crate::context::estimate_usage;
use crate::conversation::answer::{About, Growth, content, edit};
use crate::conversation::command::Task;
use crate::conversation::event::{Event, Object};
use crate::conversation::limits::Permission;
use crate::conversation::room::{Room, RoomSettings};
use crate::devices::{DeviceFailure, Opened};
use crate::provider::{Answer, Error, Progress, Request, Usage};
use crate::providers::Candidate;
use crate::service::{Bot, Service};
use crate::store::Job;
use crate::tools::Caller;

/// How often it is looked whether an answer has grown.
const LOOK: Duration = Duration::from_millis(250);

/// What ends a text that is not whole.
const MORE: &str = " ...";

/// Why there is no answer.
enum Unanswered {
    /// The tokens of today are used, as the operator has limited them.
    Exhausted,
    /// No provider gave one.
    Failed(Error),
}

/// An answer in the making.
struct Making<'a> {
    service: &'a Arc<Service>,
    bot: &'a Bot,
    job: Job,
    event: Event,
    /// What the bot knew when it was asked.
    known: Option<ask::Known>,
}

/// Answers whatever is owed in a room, one after another.
pub(super) async fn all_in(service: &Arc<Service>, room_id: &str) -> Result<(), PutOff> {
    while let Some(job) = service.store.next_job(room_id).await? {
        let position = job.position;
        match one(service, room_id, job).await {
            Ok(()) => {}
            Err(error) if error.is_final() => {
                // The room has closed itself to the bot, perhaps in the middle.
                tracing::warn!(%error, room.id = room_id, "an answer is not let into the room");
                service.store.finish(position, None).await?;
            }
            Err(error) => {
                let attempts = service.store.job_failed(position).await?;
                if attempts < error.attempts_max() {
                    return Err(PutOff { error, attempts });
                }
                tracing::error!(%error, room.id = room_id, attempts, "an answer is given up");
                service.store.finish(position, None).await?;
            }
        }
    }
    Ok(())
}

async fn one(service: &Arc<Service>, room_id: &str, job: Job) -> Result<(), WorkError> {
    let object: Object = serde_json::from_str(&job.event).unwrap_or_default();
    let event = match Event::read(&object, room_id) {
        Some(event) => decide::opened(service, std::slice::from_ref(&job.bot), &object, event).await,
        None => Opened::Never,
    };
    let waits_for_key = service.now_ms() < job.created_ms.saturating_add(decide::WAITING_FOR_KEY_MS);
    if matches!(event, Opened::NotYet) && waits_for_key && service.configuration.conversation.encryption {
        return Err(DeviceFailure::NotReady.into());
    }
    let room = service.room(room_id).await?;
    let (Opened::Yes(event), Some(bot)) = (event, service.bot(&job.bot)) else {
        return Ok(service.store.finish(job.position, None).await?);
    };
    if !room.is_joined(&job.bot) {
        return Ok(service.store.finish(job.position, None).await?);
    }
    let mut making = Making { service, bot, job, event: *event, known: None };
    if making.is_begun() || making.may_begin(room_id).await? {
        making.make(&room).await?;
    }
    Ok(())
}

impl Making<'_> {
    fn is_begun(&self) -> bool {
        self.job.is_begun || self.job.shown.is_some() || self.job.text.is_some()
    }

    /// What is sent from now on may arrive even if it fails: then the next attempt looks for it.
    async fn begin(&mut self) -> Result<(), WorkError> {
        self.service.store.note_begun(self.job.position).await?;
        self.job.is_begun = true;
        Ok(())
    }

    fn about<'a>(&'a self, model: &'a str, msgtype: &'a str) -> About<'a> {
        let bot = self.bot.settings.localpart.as_str();
        About { bot, model, in_reply_to: &self.event.event_id, thread: self.event.thread(), msgtype }
    }

    fn transaction_id(&self, purpose: &str) -> String {
        say::transaction_id(purpose, &self.job.bot, &self.event.event_id)
    }

    fn msgtype(&self) -> &'static str {
        if self.service.configuration.conversation.answer_with_notices { "m.notice" } else { "m.text" }
    }

    /// Whether this answer is to be made: no later message is to be answered with it, and the room has not had enough.
    async fn may_begin(&self, room_id: &str) -> Result<bool, WorkError> {
        let later = self.service.store.later_replies(room_id, &self.job).await?;
        let thread = self.event.thread();
        if self.job.task.is_none() && later.iter().any(|event| decide::thread_of(event).as_deref() == thread) {
            metrics::counter!("aibots_replies_joined_total").increment(1);
            self.service.store.finish(self.job.position, None).await?;
            return Ok(false);
        }
        if self.job.is_permitted {
            return Ok(true);
        }
        let permission = self.service.ask_for_reply(room_id, &self.event.sender, &self.job.bot).await;
        if permission == Permission::Granted {
            self.service.store.note_permitted(self.job.position).await?;
            return Ok(true);
        }
        say::limited(self.service, &self.job.bot, &self.event, permission).await?;
        self.service.store.finish(self.job.position, None).await?;
        Ok(false)
    }

    async fn make(&mut self, room: &Room) -> Result<(), WorkError> {
        let room_id = self.event.room_id.clone();
        let typing = Typing::begin(self.service, &self.job.bot, &room_id, &self.event.event_id);
        let events = ask::events(self.service, &self.job.bot, &room_id).await?;
        if self.job.is_begun && self.job.shown.is_none() {
            self.job.shown = self.sent_before(&events);
        }
        if self.job.text.is_none() {
            let settings = self.service.settings_of(&room_id, room).await?;
            match self.generate(room, &settings, &events).await? {
                Ok(answer) => {
                    self.service.store.note_text(self.job.position, &answer.text, &answer.model).await?;
                    (self.job.text, self.job.model) = (Some(answer.text), Some(answer.model));
                }
                Err(error) => {
                    self.apologize(&error).await?;
                    return Ok(());
                }
            }
        }
        drop(typing);
        self.deliver().await?;
        // In encrypted rooms nothing readable is kept.
        if room.encryption.is_none() && self.job.task.is_none() {
            self.remember().await?;
        }
        Ok(())
    }

    /// Puts what has no room any more in fewer words, for the next answer.
    async fn remember(&self) -> Result<(), WorkError> {
        let candidates = &self.bot.candidates;
        let Some((request, until)) = self.known.as_ref().and_then(|known| known.fold(self.bot)) else {
            return Ok(());
        };
        if self.service.completions.is_offline(&candidates[0]) {
            return Ok(());
        }
        let Some(held) = self.hold(&request, &candidates[0]).await? else { return Ok(()) };
        let progress = Progress::silent();
        let outcome = self.service.completions.answer(request, candidates, &progress).await;
        let usage = outcome.as_ref().ok().and_then(|answer| answer.usage).unwrap_or_default();
        self.settle(held.as_ref(), usage.plus(progress.lost())).await?;
        match outcome {
            Ok(answer) => {
                let (room_id, bot) = (&self.event.room_id, &self.bot.user_id);
                self.service.store.remember(room_id, bot, &answer.text, &until).await?;
            }
            // The next answer will try again; until then the oldest is left out.
            Err(error) => tracing::debug!(%error, "no summary"),
        }
        Ok(())
    }

    /// Holds what a request may cost: `None` when the tokens of today are used, nothing inside when it costs nothing.
    async fn hold(&self, request: &Request, candidate: &Candidate) -> Result<Option<Option<Held>>, WorkError> {
        if self.service.completions.is_offline(candidate) {
            return Ok(Some(None));
        }
        let (room_id, user_id) = (self.event.room_id.as_str(), self.event.sender.as_str());
        let tokens = estimate_usage(request, "").total().saturating_add(request.output_tokens_max.into());
        let spent = self.service.store.spent(day_of(self.service.now_ms()), room_id, user_id).await?;
        match self.service.budget.hold(room_id, user_id, tokens, spent) {
            Ok(held) => Ok(Some(Some(held))),
            Err(exhausted) => {
                tracing::info!(%exhausted, room.id = room_id, user.id = user_id, "no answer");
                Ok(None)
            }
        }
    }

    /// Charges what was used, with an answer or without.
    async fn settle(&self, held: Option<&Held>, usage: Usage) -> Result<(), WorkError> {
        if let Some(held) = held.filter(|_| usage.total() > 0) {
            self.service.store.charge(&held.settle(usage, self.service.now_ms())).await?;
        }
        Ok(())
    }

    /// The message that shows this answer or some of it, from before a restart.
    fn sent_before(&self, events: &[Event]) -> Option<String> {
        let is_it = |event: &&Event| {
            event.sender == self.job.bot && event.answers() == Some(&self.event.event_id) && event.edits().is_none()
        };
        events.iter().find(is_it).map(|event| event.event_id.clone())
    }

    /// Asks the model, and shows the answer while it grows.
    async fn generate(
        &mut self,
        room: &Room,
        settings: &RoomSettings,
        events: &[Event],
    ) -> Result<Result<Answer, Unanswered>, WorkError> {
        let service = self.service;
        let task = self.job.task.as_deref().and_then(Task::named);
        let candidates = self.candidates(settings);
        let place_of_room = (self.event.room_id.as_str(), room, settings);
        let known = ask::Known::gather(service, self.bot, place_of_room, events, &self.event, &candidates[0]).await?;
        let request = known.request(service, self.bot, room, (&self.event, task), &candidates[0]);
        let Some(held) = self.hold(&request, &candidates[0]).await? else { return Ok(Err(Unanswered::Exhausted)) };
        let (progress, watcher) = Progress::watched();
        let (user_id, room_id) = (self.event.sender.clone(), self.event.room_id.clone());
        let caller = Caller { bot_user_id: &self.bot.user_id, user_id: &user_id, room_id: &room_id };
        let may_call = has_tools(service, settings) && !service.completions.is_offline(&candidates[0]);
        let answering = async {
            if may_call {
                service.tools.answer(&service.completions, request, &candidates, &progress, caller).await
            } else {
                service.completions.answer(request, &candidates, &progress).await
            }
        };
        tokio::pin!(answering);
        let mut growth = Growth::new(service.now_ms(), self.job.shown.is_some());
        let mut count = 0;
        let outcome = loop {
            tokio::select! {
                outcome = &mut answering => break outcome,
                () = tokio::time::sleep(LOOK), if service.configuration.conversation.show_growth => {
                    let text = watcher.borrow().clone();
                    if growth.is_due(service.now_ms(), text.chars().count()) {
                        count += 1;
                        // What is not shown now is shown by the next edit, or the last: the model is not asked again.
                        if let Err(error) = self.show(&candidates[0].model, &text, count).await {
                            tracing::debug!(%error, room.id = self.event.room_id, "what there is of an answer is not shown");
                        }
                    }
                }
            }
        };
        let used = match &outcome {
            Ok(answer) => answer.usage.unwrap_or_default(),
            Err(_) => Usage::default(),
        };
        self.settle(held.as_ref(), used.plus(progress.lost())).await?;
        self.known = Some(known);
        let has_failed = outcome.as_ref().is_err_and(|error| !error.is_about_the_question());
        if self.bot.has_failed(has_failed) {
            service.mood.notify_one();
        }
        Ok(outcome.map_err(Unanswered::Failed))
    }

    /// The models to ask: what was set for the room, then the bot's own.
    fn candidates(&self, settings: &RoomSettings) -> Vec<Candidate> {
        let provider = self.bot.settings.provider.as_str();
        // Gone from the configuration since it was chosen, it is asked for no more.
        let chosen = settings.model.as_deref().and_then(|model| self.service.model(model, provider));
        chosen.into_iter().chain(self.bot.candidates.iter().cloned()).collect()
    }

    async fn show(&mut self, model: &str, text: &str, count: u32) -> Result<(), WorkError> {
        let text = format!("{}{MORE}", text.trim_end());
        let about = self.about(model, self.msgtype());
        if let Some(shown) = &self.job.shown {
            let content = edit(shown, &text, &about);
            let transaction_id = self.transaction_id(&format!("e{count}"));
            say::message(self.service, &self.job.bot, &self.event, &transaction_id, content).await?;
            return Ok(());
        }
        let content = content(&text, &about);
        self.begin().await?;
        let sent = say::message(self.service, &self.job.bot, &self.event, &self.transaction_id("a"), content).await?;
        self.service.store.note_shown(self.job.position, &sent).await?;
        self.job.shown = Some(sent);
        Ok(())
    }

    /// Sends the whole text, or puts it in the place of what is shown.
    async fn deliver(&mut self) -> Result<(), WorkError> {
        let (text, model) = (self.job.text.clone().unwrap_or_default(), self.job.model.clone().unwrap_or_default());
        let bot = self.job.bot.clone();
        let msgtype = self.msgtype();
        if self.job.shown.is_none() {
            let content = content(&text, &self.about(&model, msgtype));
            let was_begun = self.job.is_begun;
            self.begin().await?;
            let sent = say::message(self.service, &bot, &self.event, &self.transaction_id("a"), content).await?;
            self.service.store.note_shown(self.job.position, &sent).await?;
            if !was_begun {
                return self.finish(&sent).await;
            }
            // The same transaction may have sent a part of it before: then that is what stands there.
            self.job.shown = Some(sent);
        }
        let shown = self.job.shown.clone().unwrap_or_default();
        let content = edit(&shown, &text, &self.about(&model, msgtype));
        say::message(self.service, &bot, &self.event, &self.transaction_id("f"), content).await?;
        self.finish(&shown).await
    }

    async fn finish(&self, sent: &str) -> Result<(), WorkError> {
        metrics::counter!("aibots_replies_total", "bot" => self.bot.settings.localpart.clone()).increment(1);
        Ok(self.service.store.finish(self.job.position, Some(sent)).await?)
    }

    /// Says that there is no answer, in words for those who asked.
    async fn apologize(&mut self, why: &Unanswered) -> Result<(), WorkError> {
        let room_id = self.event.room_id.clone();
        let (text, is_said_once) = match why {
            Unanswered::Exhausted => ("I have said all that I may say in one day. Please ask me again tomorrow.", true),
            Unanswered::Failed(error) => {
                self.log(error);
                (apology(error), error.concerns_the_operator())
            }
        };
        if let Some(shown) = self.job.shown.clone() {
            let content = edit(&shown, text, &self.about("", "m.notice"));
            say::message(self.service, &self.job.bot, &self.event, &self.transaction_id("f"), content).await?;
        } else if !is_said_once || self.service.is_apology_due(&room_id).await {
            say::notice(self.service, &self.job.bot, &self.event, text).await?;
        }
        Ok(self.service.store.finish(self.job.position, None).await?)
    }

    fn log(&self, error: &Error) {
        let room_id = self.event.room_id.as_str();
        if error.concerns_the_operator() {
            tracing::error!(%error, provider = self.bot.settings.provider, "bots cannot answer until this is put right");
        } else {
            tracing::warn!(%error, provider = self.bot.settings.provider, room.id = room_id, "no answer");
        }
    }
}

/// Whether models may call functions in a room.
pub(super) fn has_tools(service: &Service, settings: &RoomSettings) -> bool {
    settings.tools && !service.tools.is_empty()
}

/// What people are told. Whose fault it is and what it says is for operators.
fn apology(error: &Error) -> &'static str {
    match error {
        Error::NotConfigured => "I am not configured yet: whoever runs this service has to give me a language model.",
        Error::RateLimited { .. } | Error::Overloaded { .. } | Error::Resting => {
            "I am sorry, I am overloaded at the moment. Please try again in a little while."
        }
        Error::Empty => "I have nothing to say to that.",
        Error::ContentRefused => "I am sorry, I cannot talk about that.",
        Error::ContextTooLong => "I am sorry, that is too much for me. `!ai reset` helps me to begin anew.",
        Error::Timeout | Error::Unreachable | Error::Malformed(_) => {
            "I am sorry, I cannot think clearly right now. Please try again in a little while."
        }
        Error::OverQuota | Error::BadKey | Error::UnknownModel(_) | Error::Rejected { .. } => {
            "I am sorry, I cannot answer at the moment. Whoever runs this service has been told."
        }
    }
}
