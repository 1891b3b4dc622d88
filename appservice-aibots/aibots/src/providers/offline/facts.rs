//! Rules about what can be known: who it is, what it can do, the time, sums, names.

use super::{
    Heard, arithmetic, clock,
    rules::{after, says},
};

pub(super) fn picture(heard: &mut Heard<'_>, _: &str) -> Option<String> {
    heard.has_picture.then(|| "I cannot see pictures. Would you tell me what is in it?".to_owned())
}

pub(super) fn nothing_said(_: &mut Heard<'_>, lower: &str) -> Option<String> {
    lower.trim().is_empty().then(|| "I can only read words. What did you want to say?".to_owned())
}

pub(super) fn nudge(heard: &mut Heard<'_>, _: &str) -> Option<String> {
    heard.text.starts_with("*nudges you").then(|| heard.chance.pick(heard.voice.on_calls()).to_owned())
}

pub(super) fn identity(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
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

pub(super) fn help(_: &mut Heard<'_>, lower: &str) -> Option<String> {
    /// Longer texts with the word in them are about somebody else's help.
    const WORDS_MAX: usize = 6;
    let is_call = says(lower, &["help"]) && lower.split_whitespace().count() <= WORDS_MAX;
    (is_call || says(lower, &["help me", "what can you do", "what do you do", "how do you work"])).then(|| {
        "I can chat a little, tell the time, do sums such as 12 * 7, toss a coin, roll a die, tell a joke, and remember \
         your name while we talk. For more I would need a language model. `!ai help` lists what can be set in this room."
            .to_owned()
    })
}

pub(super) fn time(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
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
pub(super) fn sums(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
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

pub(super) fn chance(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    if says(lower, &["coin"]) {
        return Some(format!("It shows {}.", heard.chance.pick(&["heads", "tails"])));
    }
    says(lower, &["dice", "die roll", "roll a die", "roll the die"])
        .then(|| format!("It shows {}.", heard.chance.pick(&["one", "two", "three", "four", "five", "six"])))
}

pub(super) fn own_name(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
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
