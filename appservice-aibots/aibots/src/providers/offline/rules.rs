//! The rules, the first that fits.

use super::{
    Heard,
    facts::{chance, help, identity, nothing_said, nudge, own_name, picture, sums, time},
    mirror::mirrored,
};

type Rule = fn(&mut Heard<'_>, &str) -> Option<String>;

/// In this order: what can be known before what can only be talked about.
const RULES: &[Rule] = &[
    picture,
    nothing_said,
    nudge,
    identity,
    help,
    time,
    sums,
    chance,
    own_name,
    jokes,
    makings,
    thanks,
    farewell,
    mood,
    greeting,
    places,
    feelings,
    wishes,
    family,
    tastes,
    pastimes,
    yes_or_no,
    other_script,
    question,
];

const FAMILY: &[&str] = &[
    "mother", "father", "mum", "mom", "dad", "sister", "brother", "son", "daughter", "wife", "husband", "cat", "dog",
    "boss",
];
const PASTIMES: &[&str] = &[
    "music",
    "painting",
    "drawing",
    "football",
    "cooking",
    "hiking",
    "reading",
    "gaming",
    "games",
    "movies",
    "films",
    "photography",
    "gardening",
    "poetry",
    "writing",
    "cycling",
    "travelling",
    "chess",
];

/// What to answer.
pub(super) fn answer(heard: &mut Heard<'_>) -> String {
    let lower = format!(" {} ", plain(heard.text));
    RULES
        .iter()
        .find_map(|rule| rule(heard, &lower))
        .unwrap_or_else(|| heard.chance.pick(heard.voice.on_anything()).to_owned())
}

/// Lower case, words apart by one space, without punctuation but apostrophes.
fn plain(text: &str) -> String {
    let text = text.to_lowercase().replace('\u{2019}', "'");
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

pub(super) fn says(lower: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| lower.contains(&format!(" {phrase} ")))
}

/// What follows a phrase in the text, with the text's own letters.
pub(super) fn after<'a>(text: &'a str, phrases: &[&str]) -> Option<&'a str> {
    // Lower case of ASCII only keeps every index where it was.
    let lower = text.to_ascii_lowercase().replace('\u{2019}', "'");
    if lower.len() != text.len() {
        return None;
    }
    phrases.iter().find_map(|phrase| {
        let at = lower.find(phrase)?;
        let stands_alone = at == 0 || !lower.as_bytes()[at - 1].is_ascii_alphanumeric();
        stands_alone.then(|| text.get(at + phrase.len()..)).flatten()
    })
}

fn jokes(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    says(lower, &["joke", "jokes", "make me laugh", "something funny"])
        .then(|| heard.chance.pick(heard.voice.jokes()).to_owned())
}

fn makings(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    let asks = says(lower, &["write", "tell", "give", "make", "invent", "compose", "need", "sing", "want"]);
    let what = ["poem", "haiku", "story", "song", "idea", "ideas", "limerick", "rhyme"];
    (asks && says(lower, &what)).then(|| heard.chance.pick(heard.voice.makings()).to_owned())
}

fn thanks(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    says(lower, &["thanks", "thank you", "thx", "cheers"]).then(|| heard.chance.pick(heard.voice.thanks()).to_owned())
}

fn farewell(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    says(lower, &["bye", "goodbye", "see you", "good night", "farewell"])
        .then(|| heard.chance.pick(heard.voice.farewells()).to_owned())
}

fn greeting(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    says(lower, &["hello", "hi", "hey", "good morning", "good evening", "good afternoon", "greetings", "yo"])
        .then(|| heard.chance.pick(heard.voice.greetings()).to_owned())
}

fn mood(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    let asked = [
        "how are you",
        "how's it going",
        "how is it going",
        "how do you do",
        "how do you feel",
        "what's up",
        "how are things",
    ];
    says(lower, &asked).then(|| heard.chance.pick(heard.voice.moods()).to_owned())
}

fn places(heard: &mut Heard<'_>, _: &str) -> Option<String> {
    let rest = after(heard.text, &["i am from ", "i'm from ", "i live in ", "i come from "])?;
    filled(heard.chance.pick(heard.voice.on_places()), &mirrored(rest)?)
}

fn feelings(heard: &mut Heard<'_>, _: &str) -> Option<String> {
    let rest = after(heard.text, &["i am ", "i'm ", "i feel ", "i was "])?;
    filled(heard.chance.pick(heard.voice.on_feelings()), &mirrored(rest)?)
}

fn wishes(heard: &mut Heard<'_>, _: &str) -> Option<String> {
    let rest = after(heard.text, &["i want ", "i need ", "i would like ", "i'd like ", "i wish for "])?;
    let (phrases, rest) = match rest.strip_prefix("to ") {
        Some(plan) => (heard.voice.on_plans(), plan),
        None => (heard.voice.on_wishes(), rest),
    };
    filled(heard.chance.pick(phrases), &mirrored(rest)?)
}

fn tastes(heard: &mut Heard<'_>, _: &str) -> Option<String> {
    let rest = after(heard.text, &["i like ", "i love ", "i enjoy "])?;
    let rest = rest.strip_prefix("to ").unwrap_or(rest);
    // Who is meant by these stands elsewhere.
    let first = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("").to_lowercase();
    if ["it", "that", "this", "you", "them", "him", "her"].contains(&first.as_str()) {
        return None;
    }
    filled(heard.chance.pick(heard.voice.on_pastimes()), &mirrored(rest)?)
}

fn yes_or_no(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    /// Longer texts say more than that.
    const WORDS_MAX: usize = 3;
    if lower.split_whitespace().count() > WORDS_MAX {
        return None;
    }
    if says(lower, &["no", "nope", "nah", "never", "not really", "i don't know", "dunno"]) {
        return Some(heard.chance.pick(heard.voice.on_no()).to_owned());
    }
    says(lower, &["yes", "yeah", "yep", "sure", "ok", "okay", "fine", "good", "great", "of course"])
        .then(|| heard.chance.pick(heard.voice.on_yes()).to_owned())
}

fn family(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    let who = FAMILY.iter().find(|who| says(lower, &[&format!("my {who}")]))?;
    filled(heard.chance.pick(heard.voice.on_family()), who)
}

fn pastimes(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    let what = PASTIMES.iter().find(|what| says(lower, &[what]))?;
    filled(heard.chance.pick(heard.voice.on_pastimes()), what)
}

fn other_script(heard: &mut Heard<'_>, _: &str) -> Option<String> {
    let letters = heard.text.chars().filter(|c| c.is_alphabetic());
    let (latin, other): (Vec<char>, Vec<char>) = letters.partition(|c| (*c as u32) < 0x250);
    (other.len() > latin.len()).then(|| "I am sorry, my few rules are in English only.".to_owned())
}

fn question(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    let begins =
        ["what", "why", "how", "who", "where", "when", "can", "could", "do", "does", "is", "are", "will", "should"];
    let is_question = heard.text.trim_end().ends_with('?')
        || lower.split_whitespace().next().is_some_and(|first| begins.contains(&first));
    is_question.then(|| heard.chance.pick(heard.voice.on_questions()).to_owned())
}

/// The phrase with the words in its gap, and a capital letter at its beginning.
fn filled(phrase: &str, words: &str) -> Option<String> {
    let text = phrase.replace("{}", words);
    let mut letters = text.chars();
    let first = letters.next()?;
    Some(first.to_uppercase().chain(letters).collect())
}
