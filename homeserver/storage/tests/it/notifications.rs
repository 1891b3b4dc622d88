//! What users are notified of, and how much of it they have not read.

use homeserver_storage::UnreadCounts;
use rules::{
    Change,
    change::{Notice, Notified},
};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, UInt};
use serde_json::{json, value::to_raw_value};

use crate::stage::{
    Stage, event_id, extremities, live, member, membership, message, on_each_database, room, set_state, user,
};

const ALICE: &str = "@alice:here";
const BOB: &str = "@bob:here";
const CAROL: &str = "@carol:here";

pub(crate) fn notification(id: &str, thread: Option<&str>, users: &[(&str, bool)]) -> Change {
    let notified = users.iter().map(|(name, highlight)| Notified {
        user_id: user(name),
        notice: Some(Notice { highlight: *highlight, actions: usize::from(*highlight) }),
    });
    Change::Notification {
        room_id: room(),
        event_id: event_id(id),
        sender: user(CAROL),
        thread_root: thread.map(|root| OwnedEventId::try_from(root).unwrap()),
        ts: MilliSecondsSinceUnixEpoch(UInt::from(1_000_u32)),
        is_call: false,
        actions: vec![
            to_raw_value(&json!(["notify"])).unwrap(),
            to_raw_value(&json!(["notify", {"set_tweak": "highlight"}])).unwrap(),
        ],
        everyone: None,
        notified: notified.collect(),
    }
}

fn read(name: &str, thread: Option<&str>, up_to: Option<i64>) -> Change {
    Change::Read { room_id: room(), user_id: user(name), thread_id: thread.map(ToOwned::to_owned), up_to }
}

/// Sends a message that notifies, and returns its position.
async fn say(stage: &Stage, id: &str, after: &str, thread: Option<&str>, users: &[(&str, bool)]) -> i64 {
    let changes = vec![live(&message(id, after)), extremities(&[id]), notification(id, thread, users)];
    stage.commit(changes).await.positions[0].1
}

async fn counts(stage: &Stage, name: &str) -> Vec<(String, u64, u64)> {
    let counts = stage.storage.unread_counts(&user(name), &room()).await.unwrap();
    counts.into_iter().map(|(thread, counts)| (thread, counts.notifications, counts.highlights)).collect()
}

fn of(expected: &[(&str, u64, u64)]) -> Vec<(String, u64, u64)> {
    expected.iter().map(|(thread, all, loud)| ((*thread).to_owned(), *all, *loud)).collect()
}

#[tokio::test]
async fn counts_follow_from_what_was_notified_and_read() {
    on_each_database(async |stage| {
        stage.create_room().await;
        stage.commit_unguarded(vec![membership(ALICE, "join", "$m")]).await.unwrap();
        let first = say(&stage, "$1", "$create", None, &[(ALICE, false), (BOB, false)]).await;
        say(&stage, "$2", "$1", Some("$1"), &[(ALICE, true)]).await;
        let third = say(&stage, "$3", "$2", Some("$1"), &[(ALICE, false)]).await;
        assert_eq!(counts(&stage, ALICE).await, of(&[("$1", 2, 1), ("main", 1, 0)]));
        assert_eq!(counts(&stage, BOB).await, of(&[("main", 1, 0)]));
        let total = stage.storage.unread_total(&user(ALICE)).await.unwrap();
        assert_eq!(total, UnreadCounts { notifications: 3, highlights: 1 });
        // Bob is in no room.
        assert_eq!(stage.storage.unread_total(&user(BOB)).await.unwrap(), UnreadCounts::default());

        stage.commit_unguarded(vec![read(ALICE, Some("main"), Some(third))]).await.unwrap();
        assert_eq!(counts(&stage, ALICE).await, of(&[("$1", 2, 1)]));
        // Back again changes nothing, nor does the end of another thread.
        stage
            .commit_unguarded(vec![read(ALICE, Some("main"), Some(first)), read(ALICE, Some("$x"), Some(third))])
            .await
            .unwrap();
        assert_eq!(counts(&stage, ALICE).await, of(&[("$1", 2, 1)]));
        stage.commit_unguarded(vec![read(ALICE, None, Some(third - 1))]).await.unwrap();
        assert_eq!(counts(&stage, ALICE).await, of(&[("$1", 1, 0)]));
        stage.commit_unguarded(vec![read(ALICE, Some("$1"), Some(third))]).await.unwrap();
        assert!(counts(&stage, ALICE).await.is_empty());
        assert_eq!(counts(&stage, BOB).await, of(&[("main", 1, 0)]));
        assert!(stage.storage.read_changed(&user(ALICE), &room()).await.unwrap() >= third);
        assert_eq!(stage.storage.read_changed(&user(BOB), &room()).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn what_is_redacted_notifies_of_nothing() {
    on_each_database(async |stage| {
        stage.create_room().await;
        say(&stage, "$1", "$create", None, &[(ALICE, true)]).await;
        let redaction = Change::Redaction {
            event_id: event_id("$1"),
            redacted_by: event_id("$r"),
            json: message("$1", "$create").json.clone(),
        };
        stage.commit_unguarded(vec![redaction]).await.unwrap();
        assert!(counts(&stage, ALICE).await.is_empty());
        let (listed, _) = stage.storage.notifications(&user(ALICE), i64::MAX, 10, false).await.unwrap();
        assert!(listed.is_empty());
    })
    .await;
}

#[tokio::test]
async fn they_are_listed_by_pages() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let mut after = "$create".to_owned();
        let mut positions = Vec::new();
        for number in 0..5 {
            let id = format!("${number}");
            positions.push(say(&stage, &id, &after, None, &[(ALICE, number % 2 == 0), (BOB, false)]).await);
            after = id;
        }
        stage.commit_unguarded(vec![read(ALICE, None, Some(positions[2]))]).await.unwrap();
        let list = async |before, only| {
            let (page, more) = stage.storage.notifications(&user(ALICE), before, 2, only).await.unwrap();
            let page = page
                .iter()
                .map(|it| (it.event_id.to_string(), it.read, it.actions.get().to_owned()))
                .collect::<Vec<_>>();
            (page, more)
        };
        let (plain, loud) = (r#"["notify"]"#.to_owned(), r#"["notify",{"set_tweak":"highlight"}]"#.to_owned());
        let (page, more) = list(i64::MAX, false).await;
        assert_eq!(page, [("$4".to_owned(), false, loud.clone()), ("$3".to_owned(), false, plain.clone())]);
        let (page, more) = list(more.unwrap(), false).await;
        assert_eq!(page, [("$2".to_owned(), true, loud.clone()), ("$1".to_owned(), true, plain)]);
        let (page, more) = list(more.unwrap(), false).await;
        assert_eq!((page.len(), more), (1, None));
        let (page, more) = list(i64::MAX, true).await;
        assert_eq!(page.iter().map(|(id, ..)| id.as_str()).collect::<Vec<_>>(), ["$4", "$2"]);
        let (page, more) = list(more.unwrap(), true).await;
        assert_eq!((page.len(), more), (1, None));
    })
    .await;
}

#[tokio::test]
async fn what_was_read_long_ago_is_forgotten() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let first = say(&stage, "$1", "$create", None, &[(ALICE, false), (BOB, false)]).await;
        say(&stage, "$2", "$1", None, &[(ALICE, false)]).await;
        stage.commit_unguarded(vec![read(ALICE, None, Some(first))]).await.unwrap();
        let at = |ms: u32| MilliSecondsSinceUnixEpoch(UInt::from(ms));
        assert_eq!(stage.storage.prune_notifications(0, at(1_000)).await.unwrap(), None);
        let last = stage.storage.prune_notifications(0, at(1_001)).await.unwrap().unwrap();
        assert_eq!(stage.storage.prune_notifications(last, at(1_001)).await.unwrap(), None);
        let left = async |name| stage.storage.notifications(&user(name), i64::MAX, 10, false).await.unwrap().0.len();
        assert_eq!((left(ALICE).await, left(BOB).await), (1, 1));
        assert_eq!(
            (counts(&stage, ALICE).await, counts(&stage, BOB).await),
            (of(&[("main", 1, 0)]), of(&[("main", 1, 0)]))
        );
    })
    .await;
}

#[tokio::test]
async fn what_is_counted_is_kept_and_right_all_the_same() {
    on_each_database(async |stage| {
        stage.create_room().await;
        goes(&stage, "$a", ALICE, "join", "$create").await;
        goes(&stage, "$c", CAROL, "join", "$a").await;
        let total = async || stage.storage.unread_total(&user(ALICE)).await.unwrap().notifications;
        assert_eq!(total().await, 0);
        let mut after = "$c".to_owned();
        let mut positions = Vec::new();
        for number in 1..=4_u64 {
            let id = format!("${number}");
            positions.push(say_to_everyone(&stage, &id, &after, PLAIN, &[]).await);
            assert_eq!(total().await, number, "what came since is added");
            after = id;
        }
        stage.commit_unguarded(vec![read(ALICE, Some("main"), Some(positions[0]))]).await.unwrap();
        assert_eq!(total().await, 3);
        // Nothing came in between: both are read at the same position of the log.
        stage.commit_unguarded(vec![read(ALICE, Some("main"), Some(positions[1]))]).await.unwrap();
        assert_eq!(total().await, 2);
        let redaction = Change::Redaction {
            event_id: event_id("$3"),
            redacted_by: event_id("$r"),
            json: message("$3", "$2").json.clone(),
        };
        stage.commit_unguarded(vec![redaction]).await.unwrap();
        assert_eq!(total().await, 1, "what was taken back");
        say_to_everyone(&stage, "$5", "$4", PLAIN, &[]).await;
        assert_eq!(total().await, 2);
        goes(&stage, "$gone", ALICE, "leave", "$5").await;
        assert_eq!(total().await, 0);
        goes(&stage, "$back", ALICE, "join", "$gone").await;
        stage.commit_unguarded(vec![read(ALICE, None, None)]).await.unwrap();
        assert_eq!(total().await, 0);
        say_to_everyone(&stage, "$6", "$back", PLAIN, &[]).await;
        assert_eq!(total().await, 1);
        let reads = stage.storage.reads();
        assert_eq!(total().await, 1);
        assert!(stage.storage.reads() - reads <= 6, "however many rooms");
    })
    .await;
}

#[tokio::test]
async fn what_is_for_a_user_alone_counts_however_much_came_since_and_both_ways_of_counting_agree() {
    on_each_database(async |stage| {
        stage.create_room().await;
        goes(&stage, "$a", ALICE, "join", "$create").await;
        goes(&stage, "$b", BOB, "join", "$a").await;
        goes(&stage, "$c", CAROL, "join", "$b").await;
        say_to_everyone(&stage, "$0", "$c", PLAIN, &[(ALICE, Some(LOUD))]).await;
        // For her alone, without standing out.
        say(&stage, "$1", "$0", None, &[(ALICE, false)]).await;
        let total = async |name| stage.storage.unread_total(&user(name)).await.unwrap();
        let own = UnreadCounts { notifications: 2, highlights: 1 };
        let most = UnreadCounts { notifications: 10_000, highlights: 0 };
        assert_eq!(total(ALICE).await, own);
        total(BOB).await;
        for batch in 0..11 {
            let mut changes = Vec::new();
            for number in batch * 1_000..(batch + 1) * 1_000 {
                let id = format!("$m{number}");
                let mut change = notification(&id, None, &[]);
                if let Change::Notification { everyone, notified, .. } = &mut change {
                    *everyone = Some(PLAIN);
                    notified.push(Notified { user_id: user(ALICE), notice: None });
                }
                changes.extend([live(&message(&id, "$1")), change]);
            }
            stage.commit_unguarded(changes).await.unwrap();
        }
        assert_eq!((total(ALICE).await, total(BOB).await), (own, most), "what came is counted on");
        let json = message("$m5", "$1").json.clone();
        let redaction = Change::Redaction { event_id: event_id("$m5"), redacted_by: event_id("$r"), json };
        stage.commit_unguarded(vec![redaction]).await.unwrap();
        assert_eq!((total(ALICE).await, total(BOB).await), (own, most), "the room is counted anew");
    })
    .await;
}

const LOUD: Notice = Notice { highlight: true, actions: 1 };
const PLAIN: Notice = Notice { highlight: false, actions: 0 };

/// Says something that notifies everyone who is joined, but for those named.
async fn say_to_everyone(
    stage: &Stage,
    id: &str,
    after: &str,
    everyone: Notice,
    others: &[(&str, Option<Notice>)],
) -> i64 {
    let mut change = notification(id, None, &[]);
    if let Change::Notification { everyone: notice, notified, .. } = &mut change {
        *notice = Some(everyone);
        notified.extend(others.iter().map(|(name, notice)| Notified { user_id: user(name), notice: *notice }));
    }
    stage.commit(vec![live(&message(id, after)), extremities(&[id]), change]).await.positions[0].1
}

/// A user's membership changes, in the room state and in the list of their rooms.
async fn goes(stage: &Stage, id: &str, name: &str, to: &str, after: &str) {
    let pdu = member(id, name, to, &[after]);
    stage.commit(vec![live(&pdu), set_state(&[&pdu]), extremities(&[id]), membership(name, to, id)]).await;
}

async fn listed(stage: &Stage, name: &str, only_highlights: bool) -> Vec<String> {
    let (listed, _) = stage.storage.notifications(&user(name), i64::MAX, 10, only_highlights).await.unwrap();
    listed.iter().map(|it| it.event_id.to_string()).collect()
}

#[tokio::test]
async fn what_notifies_everyone_notifies_who_is_joined_and_not_left_out() {
    on_each_database(async |stage| {
        stage.create_room().await;
        goes(&stage, "$a", ALICE, "join", "$create").await;
        goes(&stage, "$c", CAROL, "join", "$a").await;
        say_to_everyone(&stage, "$1", "$c", PLAIN, &[]).await;
        say_to_everyone(&stage, "$2", "$1", LOUD, &[]).await;
        say_to_everyone(&stage, "$3", "$2", PLAIN, &[(ALICE, None)]).await;
        let last = say_to_everyone(&stage, "$4", "$3", PLAIN, &[(ALICE, Some(LOUD)), (BOB, Some(PLAIN))]).await;
        let invited = async |name| stage.storage.unread_total(&user(name)).await.unwrap().notifications;
        assert_eq!(counts(&stage, ALICE).await, of(&[("main", 3, 2)]));
        assert_eq!(listed(&stage, ALICE, false).await, ["$4", "$2", "$1"]);
        assert_eq!(listed(&stage, ALICE, true).await, ["$4", "$2"]);
        // Carol sent all of it. Bob is invited, and hears only of what is for him.
        assert!(counts(&stage, CAROL).await.is_empty() && listed(&stage, CAROL, false).await.is_empty());
        goes(&stage, "$b", BOB, "invite", "$4").await;
        assert_eq!(counts(&stage, BOB).await, of(&[("main", 1, 0)]));
        let total = async |name| stage.storage.unread_total(&user(name)).await.unwrap();
        assert_eq!(invited(BOB).await, 0, "of what comes to who is invited, the invitation counts");
        assert_eq!(total(ALICE).await, UnreadCounts { notifications: 3, highlights: 2 });
        assert_eq!(total(CAROL).await, UnreadCounts::default());
        assert_eq!(listed(&stage, BOB, false).await, ["$4"]);
        // Who leaves keeps the list, and does not hear of what comes then.
        goes(&stage, "$gone", ALICE, "leave", "$b").await;
        stage.commit_unguarded(vec![read(ALICE, None, Some(last + 10))]).await.unwrap();
        say_to_everyone(&stage, "$5", "$gone", LOUD, &[]).await;
        assert_eq!(listed(&stage, ALICE, false).await, ["$4", "$2", "$1"]);
        assert!(counts(&stage, ALICE).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_notified_everyone_is_forgotten_when_all_have_read_it() {
    on_each_database(async |stage| {
        stage.create_room().await;
        goes(&stage, "$a", ALICE, "join", "$create").await;
        goes(&stage, "$b", BOB, "join", "$a").await;
        let first = say_to_everyone(&stage, "$1", "$b", PLAIN, &[]).await;
        let second = say_to_everyone(&stage, "$2", "$1", PLAIN, &[(ALICE, None), (BOB, Some(LOUD))]).await;
        let at = MilliSecondsSinceUnixEpoch(UInt::from(1_001_u32));
        let left = async || {
            stage.storage.prune_notifications(0, at).await.unwrap();
            (listed(&stage, ALICE, false).await.len(), listed(&stage, BOB, false).await.len())
        };
        stage.commit_unguarded(vec![read(ALICE, None, Some(second))]).await.unwrap();
        assert_eq!(left().await, (1, 2));
        stage.commit_unguarded(vec![read(BOB, Some("main"), Some(first))]).await.unwrap();
        assert_eq!(left().await, (0, 1));
        stage.commit_unguarded(vec![read(BOB, None, Some(second))]).await.unwrap();
        assert_eq!(left().await, (0, 0));
        assert!(counts(&stage, ALICE).await.is_empty());
        assert_eq!(stage.storage.prune_notifications(0, at).await.unwrap(), None);
    })
    .await;
}

/// What is remembered of earlier counts is added to, and must come to the same as counting anew.
#[tokio::test]
async fn counting_on_comes_to_the_same_as_counting_anew() {
    on_each_database(async |stage| {
        stage.create_room().await;
        for name in [ALICE, BOB] {
            stage.commit_unguarded(vec![membership(name, "join", "$m")]).await.unwrap();
        }
        let ids: Vec<String> = (0..24).map(|number| format!("$n{number}")).collect();
        let mut before = "$create";
        for (step, id) in ids.iter().enumerate() {
            let thread = (step % 3 == 1).then_some("$root");
            let position = say(&stage, id, before, thread, &[(ALICE, step % 4 == 0), (BOB, false)]).await;
            before = id;
            let more = match step % 8 {
                2 => vec![read(ALICE, Some("main"), Some(position - 1))],
                3 => vec![read(BOB, Some("$root"), Some(position))],
                4 => vec![redaction(id)],
                5 => vec![membership(BOB, "leave", "$l"), read(BOB, None, None)],
                6 => vec![membership(BOB, "join", "$j"), read(BOB, None, None)],
                7 => vec![read(ALICE, None, Some(position - 3))],
                _ => Vec::new(),
            };
            // Between the two, so that what follows is what there was to be counted anew for.
            let counted = counts(&stage, ALICE).await;
            assert!(!counted.is_empty(), "step {step}");
            if !more.is_empty() {
                stage.commit_unguarded(more).await.unwrap();
            }
            let anew = stage.another().await;
            for name in [ALICE, BOB] {
                let expected = anew.unread_counts(&user(name), &room()).await.unwrap();
                // Twice: after the first it is remembered.
                for _ in 0..2 {
                    let counted = stage.storage.unread_counts(&user(name), &room()).await.unwrap();
                    assert_eq!(counted, expected, "{name} after step {step}");
                }
            }
            anew.close().await;
        }
    })
    .await;
}

/// A message is told to everybody in its room at the same moment.
#[tokio::test]
async fn what_one_message_adds_is_counted_without_asking_the_database() {
    on_each_database(async |stage| {
        stage.create_room().await;
        for name in [ALICE, BOB, CAROL] {
            stage.commit_unguarded(vec![membership(name, "join", "$m")]).await.unwrap();
        }
        let everyone = Some(Notice { highlight: true, actions: 0 });
        let said = async |id: &str, after: &str| {
            let mut changes = vec![live(&message(id, after)), extremities(&[id]), notification(id, None, &[])];
            if let Some(Change::Notification { everyone: for_all, notified, .. }) = changes.last_mut() {
                *for_all = everyone;
                notified.push(Notified { user_id: user(BOB), notice: None });
            }
            stage.commit(changes).await;
        };
        said("$1", "$create").await;
        for name in [ALICE, BOB, CAROL] {
            counts(&stage, name).await;
        }
        said("$2", "$1").await;
        let reads = stage.storage.reads();
        assert_eq!(counts(&stage, ALICE).await, of(&[("main", 2, 2)]));
        // Of what is said to everyone, who is named hears as it says there, and who says it hears nothing.
        assert!(counts(&stage, BOB).await.is_empty() && counts(&stage, CAROL).await.is_empty());
        assert_eq!(stage.storage.reads(), reads);
        stage.commit_unguarded(vec![read(ALICE, None, None)]).await.unwrap();
        assert!(counts(&stage, ALICE).await.is_empty());
    })
    .await;
}

fn redaction(id: &str) -> Change {
    let json = message(id, "$create").json.to_string().into();
    Change::Redaction { event_id: event_id(id), redacted_by: event_id("$redaction"), json }
}
