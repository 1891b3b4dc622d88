//! Whom to answer, and which bots do.

use super::event::Event;
use super::room::{Mode, Room, RoomSettings};
use crate::names::COMMAND;

/// What is older than this when it reaches us is history: a service that was away does not answer everything at once.
const FRESH_MS: u64 = 2 * 60 * 1000;

/// At most so many automated messages follow one of a human.
pub(crate) const AUTOMATED_IN_A_ROW_MAX: usize = 5;

/// A bot as far as it matters to who is meant.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) user_id: String,
    pub(crate) names: Vec<String>,
    pub(crate) sees_images: bool,
}

/// What to do about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing, for a reason that metrics tell.
    Ignore(&'static str),
    /// Somebody wants something of the bots themselves; the first of them answers.
    Command { bot: String, words: String },
    /// These answer, one after another.
    Answer(Vec<String>),
}

/// How an event came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// When it reached us.
    pub(crate) received_ms: u64,
    /// Whether its sender is of a homeserver whose users may talk with bots, on their operator's account.
    pub(crate) is_sender_allowed: bool,
}

/// Decides about an event. `bots` are ours that are in the room, in their order; `replied_to` is the bot whose message
/// the event replies to.
pub(crate) fn decide(
    event: &Event,
    room: &Room,
    settings: &RoomSettings,
    bots: &[Candidate],
    replied_to: Option<&str>,
    arrival: Arrival,
) -> Decision {
    if let Some(reason) = reason_to_ignore(event, room, bots, arrival) {
        return Decision::Ignore(reason);
    }
    let words = event.words();
    if let Some(command) = command_in(&words) {
        return Decision::Command { bot: bots[0].user_id.clone(), words: command.to_owned() };
    }
    let is_image = event.msgtype() == "m.image";
    if !is_image && words.is_empty() && !event.is_nudge() {
        return Decision::Ignore("empty");
    }
    let is_ours = |user_id: &str| bots.iter().any(|bot| bot.user_id == user_id);
    let named: Vec<&Candidate> =
        bots.iter().filter(|bot| replied_to == Some(bot.user_id.as_str()) || is_named(event, &words, bot)).collect();
    let chosen: Vec<&Candidate> = match settings.mode.unwrap_or_default() {
        _ if room.is_direct(is_ours) && settings.mode != Some(Mode::Off) => bots.iter().collect(),
        Mode::Off => return Decision::Ignore("off"),
        // Whoever speaks to one of several does not want to hear all of them.
        _ if !named.is_empty() => named,
        Mode::All if speaks_to_another_human(event, bots) => return Decision::Ignore("for_another"),
        Mode::All => bots.iter().collect(),
        Mode::Mention => return Decision::Ignore("not_mentioned"),
    };
    let able = chosen.into_iter().filter(|bot| !is_image || bot.sees_images);
    let chosen: Vec<String> = able.take(AUTOMATED_IN_A_ROW_MAX).map(|bot| bot.user_id.clone()).collect();
    if chosen.is_empty() { Decision::Ignore("cannot_see") } else { Decision::Answer(chosen) }
}

fn reason_to_ignore(event: &Event, room: &Room, bots: &[Candidate], arrival: Arrival) -> Option<&'static str> {
    if bots.is_empty() {
        return Some("no_bot");
    }
    if event.kind != "m.room.message" || event.state_key.is_some() {
        return Some("no_message");
    }
    if !arrival.is_sender_allowed {
        return Some("foreign");
    }
    if event.is_automated() || room.is_flagged_as_bot(&event.sender) {
        return Some("automated");
    }
    if !matches!(event.msgtype(), "m.text" | "m.emote" | "m.image") {
        return Some("kind");
    }
    if event.edits().is_some() {
        return Some("edit");
    }
    (event.sent_ms.saturating_add(FRESH_MS) < arrival.received_ms).then_some("old")
}

/// The words after the prefix of commands.
fn command_in(words: &str) -> Option<&str> {
    let rest = words.strip_prefix(COMMAND)?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| rest.trim())
}

fn is_named(event: &Event, words: &str, bot: &Candidate) -> bool {
    // A list says who is meant, but not every client of today writes one for a name that was typed by hand.
    event.mentions().is_some_and(|mentions| mentions.contains(&bot.user_id.as_str()))
        || words.contains(&bot.user_id)
        || bot.names.iter().any(|name| has_word(words, name))
}

fn speaks_to_another_human(event: &Event, bots: &[Candidate]) -> bool {
    let mentions = event.mentions().unwrap_or_default();
    !mentions.is_empty() && !mentions.iter().any(|user_id| bots.iter().any(|bot| bot.user_id == *user_id))
}

/// Whether `name` stands in `text` as words of its own, however it is written.
fn has_word(text: &str, name: &str) -> bool {
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    let is_apart = |part: Option<char>| !part.is_some_and(char::is_alphanumeric);
    !name.is_empty()
        && text.match_indices(&name).any(|(start, found)| {
            is_apart(text[..start].chars().next_back()) && is_apart(text[start + found.len()..].chars().next())
        })
}

#[cfg(test)]
mod tests;
