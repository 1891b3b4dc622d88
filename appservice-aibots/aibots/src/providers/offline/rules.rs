//! The rules, the first that fits.

use super::{Heard, arithmetic, clock, mirror::mirrored};

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

fn says(lower: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| lower.contains(&format!(" {phrase} ")))
}

/// What follows a phrase in the text, with the text's own letters.
fn after<'a>(text: &'a str, phrases: &[&str]) -> Option<&'a str> {
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

fn picture(heard: &mut Heard<'_>, _: &str) -> Option<String> {
    heard.has_picture.then(|| "I cannot see pictures. Would you tell me what is in it?".to_owned())
}

fn nothing_said(_: &mut Heard<'_>, lower: &str) -> Option<String> {
    lower.trim().is_empty().then(|| "I can only read words. What did you want to say?".to_owned())
}

fn nudge(heard: &mut Heard<'_>, _: &str) -> Option<String> {
    heard.text.starts_with("*nudges you").then(|| heard.chance.pick(heard.voice.on_calls()).to_owned())
}

fn identity(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    let of_kind =
        ["a bot", "human", "real", "an ai", "a robot", "a person", "a human", "a program", "alive", "chatgpt"];
    let asked = [
        "who are you",
        "what are you",
        "your name",
        "introduce yourself",
        "about yourself",
        "which model",
        "what model",
    ];
    let is_asked = says(lower, &asked) || of_kind.iter().any(|kind| says(lower, &[&format!("are you {kind}")]));
    is_asked.then(|| {
        format!(
            "I am {}: a bot that follows a few simple rules, on this very server. I am not human, and I have no language \
             model; whoever runs this server can give me one.",
            heard.bot_name
        )
    })
}

fn help(_: &mut Heard<'_>, lower: &str) -> Option<String> {
    /// Longer texts with the word in them are about somebody else's help.
    const WORDS_MAX: usize = 6;
    let is_call = says(lower, &["help"]) && lower.split_whitespace().count() <= WORDS_MAX;
    (is_call || says(lower, &["help me", "what can you do", "what do you do", "how do you work"])).then(|| {
        "I can chat a little, tell the time, do sums such as 12 * 7, toss a coin, roll a die, tell a joke, and remember \
         your name while we talk. For more I would need a language model. `!ai help` lists what can be set in this room."
            .to_owned()
    })
}

fn time(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    let asked = [
        "what time",
        "what's the time",
        "what is the time",
        "tell me the time",
        "the time please",
        "current time",
        "what day",
        "which day",
        "what date",
        "what's the date",
        "what is the date",
        "today's date",
    ];
    says(lower, &asked).then(|| format!("It is {}.", clock::in_words(heard.now_ms)))
}

/// Where a sum is asked for: numbers stand in many sentences that are about something else.
fn sums(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    let asked = ["what", "what's", "how much", "how many", "calculate", "compute", "sum", "equals", "solve"];
    let (sum, result) = arithmetic::sum_in(heard.text)?;
    let is_alone = !heard.text.contains(char::is_alphabetic) && !looks_like_a_date(&sum);
    (is_alone || says(lower, &asked) || heard.text.contains('=')).then(|| format!("{sum} is {result}."))
}

/// `2026-11-22`, `22/11/2026`, or a telephone number: three numbers or more, and nothing but one sign between them.
fn looks_like_a_date(sum: &str) -> bool {
    ['-', '/', '.'].iter().any(|sign| {
        let parts: Vec<&str> = sum.split(*sign).collect();
        parts.len() >= 3 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

fn chance(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    if says(lower, &["coin"]) {
        return Some(format!("It shows {}.", heard.chance.pick(&["heads", "tails"])));
    }
    says(lower, &["dice", "die roll", "roll a die", "roll the die"])
        .then(|| format!("It shows {}.", heard.chance.pick(&["one", "two", "three", "four", "five", "six"])))
}

fn own_name(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    if let Some(name) = told_name(heard.text) {
        return Some(format!("Nice to meet you, {name}!"));
    }
    if !says(lower, &["what is my name", "what's my name", "who am i", "do you know my name", "remember my name"]) {
        return None;
    }
    let told = heard.earlier.iter().find_map(|text| told_name(text));
    Some(match told.or_else(|| heard.speaker.map(ToOwned::to_owned)) {
        Some(name) => format!("You are {name}, as far as I know."),
        None => "You have not told me yet.".to_owned(),
    })
}

/// The name by which somebody wants to be called.
fn told_name(text: &str) -> Option<String> {
    /// What people say after "call me" that is no name.
    const NO_NAMES: &[&str] = &[
        "a", "an", "the", "back", "later", "when", "if", "maybe", "tomorrow", "tonight", "at", "on", "in", "crazy",
        "old",
    ];
    let name = |text: &str| {
        let word = text.split_whitespace().next()?.trim_matches(|c: char| !c.is_alphanumeric());
        (!word.is_empty() && word.len() <= 40).then(|| word.to_owned())
    };
    if let Some(name) = after(text, &["my name is ", "my name's "]).and_then(name) {
        return Some(name);
    }
    if let Some(name) = after(text, &["call me "]).and_then(name) {
        return (!NO_NAMES.contains(&name.to_lowercase().as_str())).then_some(name);
    }
    // "I am Ada", but not "I am tired".
    let rest = after(text, &["i am ", "i'm "])?.trim_end_matches(['.', '!', ' ']);
    let is_name = rest.starts_with(char::is_uppercase) && rest.chars().all(char::is_alphabetic);
    is_name.then(|| name(rest)).flatten()
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
