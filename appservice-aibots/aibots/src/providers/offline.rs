//! A conversationalist without a model, a key or a network: a few rules, for the first run and for tests. It says what it
//! is. The same request has the same answer, since its chance is [`Request::seed`] and its time [`Request::now_ms`].

mod arithmetic;
mod clock;
mod facts;
mod mirror;
mod rules;
mod voice;

pub(crate) use self::clock::in_words;
use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::sleep;

use self::voice::Voice;
use crate::{
    context,
    provider::{Answer, Error, FinishReason, Part, Progress, Provider, Request, Role},
};

/// Between two words, so that answers grow like those of a model.
const PAUSE: Duration = Duration::from_millis(15);

/// The provider without a model.
pub struct Offline {
    name: String,
}

/// What the rules look at.
struct Heard<'a> {
    /// The bot's own name.
    bot_name: &'a str,
    /// What was said last, in a group without the name before it.
    text: &'a str,
    /// Who said it, if that stood before it.
    speaker: Option<&'a str>,
    /// Whether there was a picture.
    has_picture: bool,
    /// Everything that they said before, newest first.
    earlier: Vec<&'a str>,
    /// What the time is.
    now_ms: u64,
    /// For choosing among phrases.
    chance: Chance,
    voice: Voice,
}

/// A small generator, good enough for choosing among phrases.
#[derive(Clone, Copy)]
struct Chance(u64);

impl Chance {
    /// Some number, another one each time.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of the phrases.
    fn pick<'a>(&mut self, phrases: &[&'a str]) -> &'a str {
        phrases[usize::try_from(self.next() % phrases.len() as u64).unwrap_or(0)]
    }
}

impl Offline {
    /// The provider, under this name.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    async fn say(&self, request: &Request, progress: &Progress) -> Result<Answer, Error> {
        let text = reply(request);
        for word in text.split_inclusive(' ') {
            progress.push(word);
            sleep(PAUSE).await;
        }
        let usage = Some(context::estimate_usage(request, &text));
        let model = request.model.clone();
        Ok(Answer { text, tool_calls: Vec::new(), finish_reason: FinishReason::Stop, usage, model })
    }
}

impl Provider for Offline {
    fn name(&self) -> &str {
        &self.name
    }

    fn answer<'a>(&'a self, request: &'a Request, progress: &'a Progress) -> BoxFuture<'a, Result<Answer, Error>> {
        self.say(request, progress).boxed()
    }
}

fn reply(request: &Request) -> String {
    let said: Vec<&str> = said(request).collect();
    let (speaker, text) = match &request.asked {
        Some(asked) => (asked.speaker.as_deref(), asked.words.as_str()),
        None => split_name(said.first().copied().unwrap_or("")),
    };
    let has_picture = request
        .messages
        .last()
        .is_some_and(|message| message.parts.last().is_some_and(|part| matches!(part, Part::Image(_))));
    let seed = text.bytes().fold(request.seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    // In a group, what others said of themselves is not about the one who asks.
    let own = said.into_iter().filter_map(|said| match (speaker, split_name(said)) {
        (Some(speaker), (Some(name), words)) => (name == context::quiet_name(speaker)).then_some(words),
        (Some(_), (None, _)) => None,
        (None, _) => Some(said),
    });
    let mut heard = Heard {
        bot_name: if request.bot_name.is_empty() { "a bot" } else { &request.bot_name },
        text,
        speaker,
        has_picture,
        earlier: own.collect(),
        now_ms: request.now_ms,
        chance: Chance(seed),
        voice: Voice::of(&request.model, &request.bot_name),
    };
    let answer = rules::answer(&mut heard);
    let is_first = !request.messages.iter().any(|message| message.role == Role::Assistant);
    if is_first && !answer.contains("no language model") {
        return format!(
            "{answer} (You should know: I am a simple program with a few rules; I have no language model.)"
        );
    }
    answer
}

/// What users said, newest first.
fn said(request: &Request) -> impl Iterator<Item = &str> {
    let messages = request.messages.iter().rev().filter(|message| message.role == Role::User);
    messages.flat_map(|message| message.parts.iter().rev()).filter_map(|part| match part {
        Part::Text(text) => Some(text.as_str()),
        _ => None,
    })
}

/// In a group a name stands before the words.
fn split_name(text: &str) -> (Option<&str>, &str) {
    match text.split_once(": ") {
        Some((name, words)) if name.len() <= 40 && !name.contains('\n') && name.split(' ').count() <= 4 => {
            (Some(name), words)
        }
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests;
