//! Finding out of many names those that a text may contain, without looking for each of them.
//!
//! Every name has a key: the longest word in it, or, when it has none, its first characters. A text that contains a name
//! from word boundary to word boundary contains the key as a whole word, or those characters.

use std::collections::BTreeSet;

use super::pattern::is_of_word;

/// How many characters the key of a name without words has: enough to tell most names apart.
const KEY_CHARACTERS: usize = 3;

/// The key of a name in lower case; none when it is empty.
pub fn key_of(name: &str) -> Option<&str> {
    let longest = words(name).max_by_key(|word| word.len());
    longest.or_else(|| openings(name, KEY_CHARACTERS).last())
}

/// The keys of all names that a text in lower case may contain.
pub fn keys_in(text: &str) -> BTreeSet<&str> {
    let places = text.char_indices().filter(|(_, character)| !is_of_word(*character));
    places.flat_map(|(place, _)| openings(&text[place..], KEY_CHARACTERS)).chain(words(text)).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character| !is_of_word(character)).filter(|word| !word.is_empty())
}

/// The first characters of a text, up to its first word: one, two, and so on.
fn openings(text: &str, count: usize) -> impl Iterator<Item = &str> {
    let characters = text.char_indices().take(count).take_while(|(_, character)| !is_of_word(*character));
    characters.map(|(place, character)| &text[..place + character.len_utf8()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::push::pattern::contains_words;

    #[test]
    fn keys() {
        for (name, expected) in [
            ("alice", Some("alice")),
            ("jean-luc picard", Some("picard")),
            ("-x-", Some("x")),
            ("\u{43c}\u{438}\u{445}\u{430}", Some("\u{43c}\u{438}\u{445}")),
            ("\u{738b}", Some("\u{738b}")),
            ("", None),
        ] {
            assert_eq!(key_of(name), expected, "{name}");
        }
        let keys = keys_in("hi, \u{738b}!");
        assert_eq!(
            keys.into_iter().collect::<Vec<_>>(),
            [" ", " \u{738b}", " \u{738b}!", ",", ", ", ", \u{738b}", "hi", "!", "\u{738b}", "\u{738b}!"]
                .into_iter()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
        );
    }

    proptest! {
        #[test]
        fn a_text_that_contains_a_name_has_its_key(text in "[ab_.\u{e9}\u{738b} -]{0,24}", name in "[ab_.\u{e9}\u{738b} -]{0,4}") {
            if contains_words(&text, &name) {
                prop_assert!(key_of(&name).is_some_and(|key| keys_in(&text).contains(key)));
            }
        }
    }
}
