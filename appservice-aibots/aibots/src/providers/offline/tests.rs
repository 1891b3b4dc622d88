//! Tests of the conversationalist without a model.

use super::{Offline, reply};
use crate::provider::{Message, Progress, Provider as _, Request, Role};

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
