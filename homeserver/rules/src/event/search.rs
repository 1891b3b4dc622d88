//! What of an event can be searched for, and how texts are made alike.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#server-side-search>

use std::collections::BTreeSet;

use ruma::events::TimelineEventType;
use serde_json::Value;

use crate::Pdu;

/// How much of a text is searched, in bytes: more is hardly typed by a person.
pub const TEXT_MAX_BYTES: usize = 8_192;

/// Which field of which event a text is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchField {
    /// `content.body` of `m.room.message`.
    Body,
    /// `content.name` of `m.room.name`.
    Name,
    /// `content.topic` of `m.room.topic`.
    Topic,
}

/// The text of an event that can be searched for, normalised.
pub fn text(pdu: &Pdu) -> Option<(SearchField, String)> {
    let (field, name) = match pdu.event_type {
        TimelineEventType::RoomMessage if pdu.state_key.is_none() => (SearchField::Body, "body"),
        TimelineEventType::RoomName => (SearchField::Name, "name"),
        TimelineEventType::RoomTopic => (SearchField::Topic, "topic"),
        _ => return None,
    };
    let content: Value = pdu.content_as()?;
    let mut text = content.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if field == SearchField::Topic {
        text.push_str(plain_topic(&content, &text).as_str());
    }
    let text = normalised(&text);
    (!text.is_empty()).then_some((field, text))
}

/// The plain representations of an extensible topic, where they say something else than `topic`.
fn plain_topic(content: &Value, known: &str) -> String {
    let representations = content["m.topic"]["m.text"].as_array().into_iter().flatten();
    let plain = representations.filter(|one| one.get("mimetype").is_none_or(|mimetype| mimetype == "text/plain"));
    let bodies = plain.filter_map(|one| one["body"].as_str()).filter(|body| *body != known);
    bodies.fold(String::new(), |joined, body| joined + "\n" + body)
}

/// A text as it is stored and looked for: in lower case, without NUL, and of bounded length.
pub fn normalised(text: &str) -> String {
    let mut normalised = String::with_capacity(text.len().min(TEXT_MAX_BYTES));
    for character in text.trim().chars().filter(|character| *character != '\0').flat_map(char::to_lowercase) {
        if normalised.len() + character.len_utf8() > TEXT_MAX_BYTES {
            break;
        }
        normalised.push(character);
    }
    normalised
}

/// The pieces of a normalised text by which it is found: every three characters in a row, and, since a word of a
/// script without spaces is often shorter, every two of which one is not ASCII. A code point has 21 bits, so that a
/// piece is a number of 63.
pub fn grams(text: &str) -> impl Iterator<Item = i64> {
    let number = |character: char| i64::from(u32::from(character));
    let seconds = text.chars().skip(1);
    let pairs = text.chars().zip(seconds).filter(|(one, two)| !one.is_ascii() || !two.is_ascii());
    let pairs = pairs.map(move |(one, two)| (number(one) << 21) | number(two));
    let triples = text.chars().zip(text.chars().skip(1)).zip(text.chars().skip(2));
    let triples = triples.map(move |((one, two), three)| (number(one) << 42) | (number(two) << 21) | number(three));
    triples.chain(pairs)
}

/// The pieces of a name in lower case: those of [`grams`], and the first one and two characters of each of its words, so
/// that what is too short to have pieces of its own is found at the beginning of a word.
pub fn name_pieces(name: &str) -> BTreeSet<i64> {
    let words = name.split(|character: char| !character.is_alphanumeric());
    let beginnings = words.flat_map(|word| [prefix(word, 1), prefix(word, 2)]).flatten();
    grams(name).chain(beginnings).chain(prefix(name, 1)).chain(prefix(name, 2)).collect()
}

/// The pieces that a name has in which a text in lower case occurs: at the beginning of a word, if it has one or two
/// ASCII characters. What follows a colon is a server's name, and not looked at.
pub fn wanted_pieces(text: &str) -> BTreeSet<i64> {
    let text = text.split(':').next().unwrap_or_default();
    let pieces: BTreeSet<i64> = grams(text).collect();
    if pieces.is_empty() { prefix(text, text.chars().count()).into_iter().collect() } else { pieces }
}

/// The first characters of a word as a number, if it has as many.
fn prefix(word: &str, length: usize) -> Option<i64> {
    let number =
        word.chars().take(length).fold(0, |number, character| (number << 21) | i64::from(u32::from(character)));
    (length > 0 && word.chars().count() >= length).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    fn text_of(event_type: &str, content: &Value) -> Option<(SearchField, String)> {
        let json = json!({
            "room_id": "!room:test", "sender": "@a:test", "type": event_type, "content": content,
            "origin_server_ts": 1, "depth": 1, "prev_events": [], "auth_events": [],
        });
        text(&Pdu::from_json("$event".try_into().unwrap(), json.to_string().into(), false).unwrap())
    }

    #[test]
    fn texts_are_in_lower_case_and_bounded() {
        let body = |text: &str| text_of("m.room.message", &json!({ "body": text }));
        assert_eq!(body(" Hello\0 \u{c4}PFEL "), Some((SearchField::Body, "hello \u{e4}pfel".to_owned())));
        assert_eq!(body("  "), None);
        assert_eq!(body(&"\u{e4}".repeat(9_000)).unwrap().1.len(), TEXT_MAX_BYTES);
        assert_eq!(text_of("m.room.message", &json!({ "body": 1 })), None);
        assert_eq!(text_of("m.room.encrypted", &json!({ "body": "a" })), None);
        let topic = json!({ "topic": "Tea", "m.topic": { "m.text": [
            { "body": "Tea" }, { "body": "<b>", "mimetype": "text/html" }, { "body": "Cake", "mimetype": "text/plain" },
        ] } });
        assert_eq!(text_of("m.room.topic", &topic), Some((SearchField::Topic, "tea\ncake".to_owned())));
    }

    #[test]
    fn names_are_found_by_what_they_hold_and_how_their_words_begin() {
        let finds = |name: &str, text: &str| wanted_pieces(text).is_subset(&name_pieces(name));
        for text in ["al", "a", "wond", "wo", "w", "alice in", "lice", "alice:example.org", "\u{e4}p", "pf\u{e4}"] {
            assert!(finds("alice in-wonderland \u{e4}pf\u{e4}l", text), "{text}");
        }
        assert!(!finds("alice", "lic e") && !finds("alice", "li") && !finds("alice", "bob"));
        assert!(wanted_pieces("").is_empty() && wanted_pieces(":a").is_empty());
    }

    #[test]
    fn what_a_text_holds_has_no_other_grams() {
        for (text, part) in [("hello world", "lo wo"), ("\u{6771}\u{4eac}\u{90fd}", "\u{4eac}\u{90fd}"), ("abc", "b")] {
            let all: HashSet<i64> = grams(text).collect();
            assert!(grams(part).all(|gram| all.contains(&gram)), "{part}");
        }
        assert_eq!(grams("ab").count(), 0);
        assert_eq!(grams("\u{4eac}\u{90fd}").count(), 1);
    }
}
