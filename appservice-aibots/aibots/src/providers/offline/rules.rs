//! The rules, the first that fits.

use super::{Heard, arithmetic, clock, mirror::mirrored};

type Rule = fn(&mut Heard<'_>, &str) -> Option<String>;

/// In this order: what can be known before what can only be talked about.
const RULES: &[Rule] = &[
    picture,
    nothing_said,
    identity,
    help,
    time,
    sums,
    chance,
    own_name,
    thanks,
    farewell,
    greeting,
    feelings,
    wishes,
    family,
    pastimes,
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

fn identity(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    let asked =
        says(lower, &["who are you", "what are you", "your name", "are you a bot", "are you human", "are you real"])
            || says(
                lower,
                &[
                    "are you an ai",
                    "are you a robot",
                    "are you a person",
                    "are you a human",
                    "which model",
                    "what model",
                ],
            );
    asked.then(|| {
        format!(
            "I am {}: a bot that follows a few simple rules, on this very server. I am not human, and I have no language \
             model; whoever runs this server can give me one.",
            heard.bot_name
        )
    })
}

fn help(_: &mut Heard<'_>, lower: &str) -> Option<String> {
    says(lower, &["help", "what can you do", "how do you work"]).then(|| {
        "I can chat a little, tell the time, do sums such as 12 * 7, toss a coin and roll a die, and remember your name \
         while we talk. For more I would need a language model."
            .to_owned()
    })
}

fn time(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    says(lower, &["what time", "the time", "what day", "what date", "today's date", "which day"])
        .then(|| format!("It is {}.", clock::in_words(heard.now_ms)))
}

fn sums(heard: &mut Heard<'_>, _: &str) -> Option<String> {
    arithmetic::sum_in(heard.text).map(|(sum, result)| format!("{sum} is {result}."))
}

fn chance(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    if says(lower, &["coin"]) {
        return Some(format!("It shows {}.", heard.chance.pick(&["heads", "tails"])));
    }
    says(lower, &["dice", "die roll", "roll a die", "roll the die"])
        .then(|| format!("It shows {}.", heard.chance.pick(&["one", "two", "three", "four", "five", "six"])))
}

fn own_name(heard: &mut Heard<'_>, lower: &str) -> Option<String> {
    if let Some(name) = after(heard.text, &["my name is ", "call me "]).and_then(first_name) {
        return Some(format!("Nice to meet you, {name}!"));
    }
    if !says(lower, &["what is my name", "what's my name", "who am i", "do you know my name"]) {
        return None;
    }
    let told = heard.earlier.iter().find_map(|text| after(text, &["my name is ", "call me "]).and_then(first_name));
    Some(match told.or_else(|| heard.speaker.map(ToOwned::to_owned)) {
        Some(name) => format!("You are {name}, as far as I know."),
        None => "You have not told me yet.".to_owned(),
    })
}

fn first_name(text: &str) -> Option<String> {
    let word = text.split_whitespace().next()?.trim_matches(|c: char| !c.is_alphanumeric());
    (!word.is_empty() && word.len() <= 40).then(|| word.to_owned())
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

fn feelings(heard: &mut Heard<'_>, _: &str) -> Option<String> {
    let rest = after(heard.text, &["i am ", "i'm ", "i feel ", "i was "])?;
    filled(heard.chance.pick(heard.voice.on_feelings()), &mirrored(rest)?)
}

fn wishes(heard: &mut Heard<'_>, _: &str) -> Option<String> {
    let rest = after(heard.text, &["i want ", "i need ", "i would like ", "i'd like ", "i wish for "])?;
    let rest = rest.strip_prefix("to ").unwrap_or(rest);
    filled(heard.chance.pick(heard.voice.on_wishes()), &mirrored(rest)?)
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
