//! Who answers what.

use serde_json::json;

use super::{Arrival, Candidate, Decision, decide};
use crate::conversation::event::{Event, said};
use crate::conversation::room::{Mode, Room, RoomSettings, room_with};
use crate::names::AI;

const NOW: Arrival = Arrival { received_ms: 1_000_500, is_sender_allowed: true };

fn bots() -> Vec<Candidate> {
    let bot = |user_id: &str, name: &str, sees_images| Candidate {
        user_id: user_id.to_owned(),
        names: vec![name.to_owned()],
        sees_images,
    };
    vec![bot("@bot-a:test", "Ada", true), bot("@bot-b:test", "Bo", false)]
}

fn group() -> Room {
    room_with(&["@alice:test", "@bob:test", "@bot-a:test", "@bot-b:test"])
}

fn decided(event: &Event) -> Decision {
    decide(event, &group(), &RoomSettings::default(), &bots(), None, NOW)
}

fn answer(bots: &[&str]) -> Decision {
    Decision::Answer(bots.iter().map(|bot| (*bot).to_owned()).collect())
}

fn with(mut event: Event, field: &str, value: serde_json::Value) -> Event {
    event.content.insert(field.to_owned(), value);
    event
}

#[test]
fn every_bot_answers_a_human_once_and_in_order() {
    assert_eq!(decided(&said("$1", "@alice:test", "hello")), answer(&["@bot-a:test", "@bot-b:test"]));
}

#[test]
fn who_is_spoken_to_answers_alone() {
    assert_eq!(decided(&said("$1", "@alice:test", "what do you think, bo?")), answer(&["@bot-b:test"]));
    assert_eq!(decided(&said("$1", "@alice:test", "both of you?")), answer(&["@bot-a:test", "@bot-b:test"]));
    let event = with(said("$1", "@alice:test", "you?"), "m.mentions", json!({ "user_ids": ["@bot-a:test"] }));
    assert_eq!(decided(&event), answer(&["@bot-a:test"]));
    let event = with(said("$1", "@alice:test", "you?"), "m.mentions", json!({ "user_ids": ["@bob:test"] }));
    assert_eq!(decided(&event), Decision::Ignore("for_another"));
    let event = said("$1", "@alice:test", "yes");
    let decision = decide(&event, &group(), &RoomSettings::default(), &bots(), Some("@bot-b:test"), NOW);
    assert_eq!(decision, answer(&["@bot-b:test"]));
}

#[test]
fn nothing_automated_is_answered() {
    let event = with(said("$1", "@alice:test", "hello"), AI, json!({ "hop": 1 }));
    assert_eq!(decided(&event), Decision::Ignore("automated"));
    let notice = with(said("$1", "@alice:test", "hello"), "msgtype", json!("m.notice"));
    assert_eq!(decided(&notice), Decision::Ignore("kind"));
    let flagged = json!({ "type": "m.room.member", "state_key": "@other:test", "sender": "@other:test", "event_id": "$m",
        "content": { "membership": "join", "bot": true } });
    let room = Room::from_state(&[flagged]);
    let event = said("$1", "@other:test", "hello");
    let decision = decide(&event, &room, &RoomSettings::default(), &bots(), None, NOW);
    assert_eq!(decision, Decision::Ignore("automated"));
}

#[test]
fn edits_state_and_old_messages_are_not_answered() {
    let relation = json!({ "rel_type": "m.replace", "event_id": "$0" });
    assert_eq!(decided(&with(said("$1", "@alice:test", "* hi"), "m.relates_to", relation)), Decision::Ignore("edit"));
    let mut state = said("$1", "@alice:test", "hello");
    state.state_key = Some(String::new());
    assert_eq!(decided(&state), Decision::Ignore("no_message"));
    let event = said("$1", "@alice:test", "hello");
    let late = Arrival { received_ms: event.sent_ms + 121_000, ..NOW };
    let decision = decide(&event, &group(), &RoomSettings::default(), &bots(), None, late);
    assert_eq!(decision, Decision::Ignore("old"));
}

#[test]
fn modes_hold_in_groups_and_a_pair_needs_no_mention() {
    let mention = RoomSettings { mode: Some(Mode::Mention), ..RoomSettings::default() };
    let event = said("$1", "@alice:test", "hello");
    assert_eq!(decide(&event, &group(), &mention, &bots(), None, NOW), Decision::Ignore("not_mentioned"));
    let named = said("$1", "@alice:test", "Ada, hello");
    assert_eq!(decide(&named, &group(), &mention, &bots(), None, NOW), answer(&["@bot-a:test"]));
    let pair = room_with(&["@alice:test", "@bot-a:test"]);
    assert_eq!(decide(&event, &pair, &mention, &bots()[..1], None, NOW), answer(&["@bot-a:test"]));
    let off = RoomSettings { mode: Some(Mode::Off), ..RoomSettings::default() };
    assert_eq!(decide(&named, &group(), &off, &bots(), None, NOW), Decision::Ignore("off"));
    assert_eq!(decide(&event, &pair, &off, &bots()[..1], None, NOW), Decision::Ignore("off"));
}

#[test]
fn commands_go_to_the_first_bot_whatever_the_mode() {
    let off = RoomSettings { mode: Some(Mode::Off), ..RoomSettings::default() };
    let event = said("$1", "@alice:test", "!ai mode all");
    let decision = decide(&event, &group(), &off, &bots(), None, NOW);
    assert_eq!(decision, Decision::Command { bot: "@bot-a:test".to_owned(), words: "mode all".to_owned() });
    assert_ne!(decided(&said("$1", "@alice:test", "!aim high")), Decision::Ignore("empty"));
}

#[test]
fn pictures_are_for_those_who_see_and_nudges_for_all() {
    let image = with(said("$1", "@alice:test", "cat.png"), "msgtype", json!("m.image"));
    assert_eq!(decided(&image), answer(&["@bot-a:test"]));
    let nudge = with(said("$1", "@alice:test", ""), crate::names::NUDGE, json!({}));
    assert_eq!(decided(&nudge), answer(&["@bot-a:test", "@bot-b:test"]));
    assert_eq!(decided(&said("$1", "@alice:test", "  ")), Decision::Ignore("empty"));
}

#[test]
fn strangers_of_other_servers_are_not_answered_and_not_obeyed() {
    let stranger = Arrival { is_sender_allowed: false, ..NOW };
    for body in ["hello", "Ada?", "!ai summary"] {
        let event = said("$1", "@mallory:elsewhere", body);
        let decision = decide(&event, &group(), &RoomSettings::default(), &bots(), None, stranger);
        assert_eq!(decision, Decision::Ignore("foreign"), "{body}");
    }
}
