//! Tests of the conversationalist without a model.

use super::{Offline, reply};
use crate::provider::{Asked, Message, Progress, Provider as _, Request, Role};

fn asked(text: &str) -> Request {
    Request {
        model: "friendly-assistant".to_owned(),
        bot_name: "Friendly Assistant".to_owned(),
        messages: vec![
            Message::text(Role::User, "call me Ada"),
            Message::text(Role::Assistant, "Nice to meet you, Ada!"),
            Message::text(Role::User, text),
        ],
        now_ms: 1_795_303_500_000,
        ..Request::default()
    }
}

#[test]
fn it_says_what_it_is() {
    let who = reply(&asked("So, who are you?"));
    assert!(
        who.contains("Friendly Assistant") && who.contains("not human") && who.contains("no language model"),
        "{who}"
    );
    let first = Request { messages: vec![Message::text(Role::User, "hello")], ..asked("") };
    assert!(reply(&first).contains("no language model"), "without being asked, when it speaks for the first time");
    assert!(!reply(&asked("hello")).contains("no language model"), "and then no more");
}

#[test]
fn it_knows_what_it_can_know() {
    assert_eq!(reply(&asked("what time is it?")), "It is 23:25 UTC on Saturday, 21 November 2026.");
    assert_eq!(reply(&asked("What is 6 * 7?")), "6 * 7 is 42.");
    assert_eq!(reply(&asked("what is my name?")), "You are Ada, as far as I know.");
    let group = Request { messages: vec![Message::text(Role::User, "Bob: who am I")], ..asked("") };
    assert!(reply(&group).starts_with("You are Bob"), "in a group it is told who speaks");
    assert!(reply(&asked("")).contains("words"));
}

#[test]
fn the_same_request_has_the_same_answer_and_another_seed_another() {
    let all: std::collections::BTreeSet<String> =
        (0..20).map(|seed| reply(&Request { seed, ..asked("hmm, well") })).collect();
    assert!(all.len() > 1);
    assert_eq!(reply(&asked("hmm, well")), reply(&asked("hmm, well")));
    let voice = |model: &str| reply(&Request { model: model.to_owned(), ..asked("I am tired of my job, really") });
    assert_ne!(voice("casual-friend"), voice("creative-companion"));
    assert!(voice("casual-friend").contains("tired of your job"), "{}", voice("casual-friend"));
}

#[test]
fn numbers_and_names_are_only_taken_for_what_they_are() {
    let not =
        |text: &str, wrong: &str| assert!(!reply(&asked(text)).contains(wrong), "{text}: {}", reply(&asked(text)));
    for text in ["my birthday is on 2026-11-22", "2026-11-22", "call 555-1234 for it", "I work 24/7", "22/11/2026"] {
        let said = reply(&asked(text));
        assert!(!said.contains(|character: char| character.is_ascii_digit()), "{text}: {said}");
    }
    assert_eq!(reply(&asked("12 * 7")), "12 * 7 is 84.");
    assert_eq!(reply(&asked("3 + 4 =")), "3 + 4 is 7.");
    not("call me later", "meet you");
    not("I am tired", "meet you");
    not("I spend all the time there", "UTC");
    assert_eq!(reply(&asked("I'm Ada.")), "Nice to meet you, Ada!");
    for seed in 0..8 {
        let plan = reply(&Request { seed, ..asked("I want to learn the piano") });
        assert!(plan.contains("to learn the piano"), "{plan}");
        let thing = reply(&Request { seed, ..asked("I want a piano") });
        assert!(!thing.contains("to a piano"), "{thing}");
    }
}

#[test]
fn each_of_the_three_has_a_voice_of_its_own_without_a_model() {
    let said = |bot_name: &str| {
        let of = |seed| Request { model: String::new(), bot_name: bot_name.to_owned(), seed, ..asked("hello") };
        (0..20).map(|seed| reply(&of(seed))).collect::<std::collections::BTreeSet<String>>()
    };
    let three = ["Friendly Assistant", "Casual Friend", "Creative Companion"].map(said);
    assert!(three[0].is_disjoint(&three[1]) && three[1].is_disjoint(&three[2]) && three[2].is_disjoint(&three[0]));
}

#[test]
fn in_a_group_it_answers_who_asked_and_knows_what_they_said_of_themselves() {
    let told = ["Bob: my name is Robert", "Cleo: who am I", "Other Bot: Who are you?"];
    let messages = told.map(|text| Message::text(Role::User, text)).to_vec();
    let asked_by = |speaker: &str| Request {
        asked: Some(Asked { speaker: Some(speaker.to_owned()), words: "who am I".to_owned() }),
        messages: messages.clone(),
        ..asked("")
    };
    assert!(reply(&asked_by("Cleo")).starts_with("You are Cleo"), "{}", reply(&asked_by("Cleo")));
    assert!(reply(&asked_by("Bob")).starts_with("You are Robert"), "{}", reply(&asked_by("Bob")));
}

#[test]
fn nothing_that_is_said_makes_it_stumble() {
    let texts = [
        "\u{0}",
        "I am",
        "i'm \u{2019}",
        "my name is ",
        "\u{130}\u{130} i am \u{130}",
        "\u{43f}\u{440}\u{438}\u{432}\u{435}\u{442}",
        "?",
        "I want",
        "call me \u{1f9a9}",
        ": ",
        "a: ",
        "I\u{2019}m f\u{fc}nf",
    ];
    for text in texts {
        for seed in 0..5 {
            assert!(!reply(&Request { seed, ..asked(text) }).is_empty(), "{text}");
        }
    }
    assert!(!reply(&Request::default()).is_empty(), "not even nothing");
}

#[tokio::test]
async fn its_answer_grows_like_those_of_a_model() {
    let (progress, watcher) = Progress::watched();
    let answer = Offline::new("offline").answer(&asked("2 + 2"), &progress).await.unwrap();
    assert_eq!(*watcher.borrow(), answer.text);
    assert!(answer.usage.is_some_and(|usage| usage.output_tokens > 0));
}
