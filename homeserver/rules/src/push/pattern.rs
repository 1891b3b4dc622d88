//! Glob-style patterns: `*` stands for any characters, `?` for one; the case of letters does not matter.
//!
//! Patterns are users' and texts are strangers', so that matching must take time linear in the text whatever the
//! pattern is: all the ways to match are followed at once, one bit for each place in the pattern.
//!
//! Spec: <https://spec.matrix.org/v1.19/appendices#glob-style-matching>

use std::collections::HashMap;

/// How many characters of a pattern one word of the machine follows.
const WORD_BITS: usize = 64;

/// A pattern, ready to match.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Without wildcards; in lower case.
    Literal(Box<str>),
    /// With wildcards.
    Glob(Box<Glob>),
}

/// A pattern with wildcards, as an automaton: place `n` is reached when the first `n + 1` characters have matched.
#[derive(Clone, Debug)]
pub struct Glob {
    /// At which places a character fits.
    fits: HashMap<char, Bits>,
    /// At which places any does.
    any: Bits,
    /// Places that are held while any characters pass, because a `*` follows.
    held: Bits,
    /// Whether a `*` stands first.
    opens: bool,
    /// How many characters there are, `*` not counted.
    places: usize,
}

type Bits = Vec<u64>;

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Self {
        let text = text.to_lowercase();
        if text.contains(['*', '?']) { Self::Glob(Box::new(Glob::new(&text))) } else { Self::Literal(text.into()) }
    }

    /// Whether all of a text in lower case matches.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => **literal == *text,
            Self::Glob(glob) => glob.run(text, false),
        }
    }

    /// Whether a part of a text in lower case matches that begins and ends at the boundary of a word.
    pub fn matches_words(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => contains_words(text, literal),
            Self::Glob(glob) => glob.run(text, true),
        }
    }
}

/// Whether a text contains another one from word boundary to word boundary. Both are in lower case.
pub fn contains_words(text: &str, words: &str) -> bool {
    if words.is_empty() {
        return false;
    }
    let mut from = 0;
    while let Some(found) = text[from..].find(words) {
        let (start, end) = (from + found, from + found + words.len());
        if is_boundary(text[..start].chars().next_back(), words.chars().next())
            && is_boundary(words.chars().next_back(), text[end..].chars().next())
        {
            return true;
        }
        from = start + words.chars().next().map_or(1, char::len_utf8);
    }
    false
}

/// Whether a word may begin or end between two characters: not where both are of a word.
fn is_boundary(before: Option<char>, after: Option<char>) -> bool {
    !(before.is_some_and(is_of_word) && after.is_some_and(is_of_word))
}

/// Whether words are made of a character.
pub(super) fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

impl Glob {
    fn new(text: &str) -> Self {
        let places = text.chars().filter(|character| *character != '*').count();
        let empty = vec![0; places.div_ceil(WORD_BITS).max(1)];
        let mut glob = Self { fits: HashMap::new(), any: empty.clone(), held: empty.clone(), opens: false, places };
        let mut place = 0;
        for character in text.chars() {
            match (character, place) {
                ('*', 0) => glob.opens = true,
                ('*', _) => set(&mut glob.held, place - 1),
                ('?', _) => set(&mut glob.any, place),
                _ => set(glob.fits.entry(character).or_insert_with(|| empty.clone()), place),
            }
            place += usize::from(character != '*');
        }
        glob
    }

    /// Follows the text. In words, a match may begin and end at any boundary; else it is the whole text.
    fn run(&self, text: &str, in_words: bool) -> bool {
        if self.places == 0 {
            // Nothing but stars.
            return true;
        }
        let mut reached: Bits = vec![0; self.any.len()];
        let mut before = None;
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            // An opening star takes up all before.
            let begins = self.opens || before.is_none() || in_words && is_boundary(before, Some(character));
            self.step(&mut reached, character, begins);
            let ends = !in_words || is_boundary(Some(character), characters.peek().copied());
            if in_words && ends && self.is_through(&reached) {
                return true;
            }
            before = Some(character);
        }
        !in_words && self.is_through(&reached)
    }

    fn step(&self, reached: &mut Bits, character: char, begins: bool) {
        let fits = self.fits.get(&character);
        let mut carry = u64::from(begins);
        for (index, word) in reached.iter_mut().enumerate() {
            let fitting = self.any[index] | fits.map_or(0, |fits| fits[index]);
            let next = (*word << 1 | carry) & fitting | *word & self.held[index];
            carry = *word >> (WORD_BITS - 1);
            *word = next;
        }
    }

    fn is_through(&self, reached: &Bits) -> bool {
        let last = self.places - 1;
        reached[last / WORD_BITS] >> (last % WORD_BITS) & 1 == 1
    }
}

fn set(bits: &mut Bits, place: usize) {
    bits[place / WORD_BITS] |= 1 << (place % WORD_BITS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_texts() {
        for (pattern, text, expected) in [
            ("lunc?*", "lunch plans", true),
            ("lunc?*", "lunch", true),
            ("LUNC?*", "lunch", true),
            ("lunc?*", " lunch", false),
            ("lunc?*", "lunc", false),
            ("*", "", true),
            ("**", "anything", true),
            ("?", "", false),
            ("?", "\u{e9}", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbcd", false),
            ("*c", "abc", true),
            ("*b*", "abc", true),
            ("a*b*c", "acb", false),
            ("a**c", "ac", true),
            ("m.room.member", "m.room.member", true),
            ("m.room.member", "mxroom.member", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn words_in_texts() {
        for (pattern, text, expected) in [
            ("ex*ple", "an example event.", true),
            ("ex*ple", "exple", true),
            ("ex*ple", "an exciting triple-whammy", true),
            ("ex*ple", "an example_event", false),
            ("ex*ple", "anexample", false),
            ("cake", "cake", true),
            ("cake", "cakes", false),
            ("cake", "pancakes, cake!", true),
            ("cake*lie", "the cake is a lie.", true),
            ("cake*lie", "the cake is a lied", false),
            ("*lie", "a belie", true),
            ("*", "", true),
            ("@room", "hey @room!", true),
            ("@room", "@rooms", false),
            ("c?ke", "cuke", true),
            ("caf\u{e9}", "a caf\u{e9}.", true),
            ("", "x", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches_words(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_longer_than_a_word_of_the_machine() {
        let long = "x".repeat(130);
        assert!(Pattern::new(&format!("{long}*y")).matches(&format!("{long}---y")));
        assert!(!Pattern::new(&format!("{long}*y")).matches(&format!("{}---y", "x".repeat(129))));
        assert!(Pattern::new(&"?".repeat(130)).matches(&long));
    }

    #[test]
    fn s_135_hostile_patterns_take_linear_time() {
        let text = "a".repeat(60 * 1024);
        let started = std::time::Instant::now();
        for (pattern, expected) in
            [("*?*?".repeat(64), true), ("a*".repeat(120) + "b", false), ("?".repeat(255), false)]
        {
            let pattern = Pattern::new(&pattern);
            assert_eq!((pattern.matches(&text), pattern.matches_words(&text)), (expected, expected));
        }
        // Unoptimised and on a busy machine; backtracking would not end today.
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
    }
}
