//! Rooms with a policy server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use engine::{EngineError, Requester, SendCommand};
use fake_homeserver::{FakeHomeserver, Request, Response, Room, json as reply};
use rules::{Pdu, event::ServerKey};
use ruma::{CanonicalJsonObject, OwnedEventId, signatures::sign_event};
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage, Verdict, raw_json};

const SIGN: &str = "/_matrix/policy/v1/sign";

/// A policy server, the room that it is for, and how often it was asked.
struct Guarded {
    room: Room,
    policy: FakeHomeserver,
    key: Arc<ServerKey>,
    asked: Arc<AtomicUsize>,
}

fn public_key(key: &ServerKey) -> String {
    ruma::serde::Base64::<ruma::serde::base64::Standard, _>::new(key.public_key().to_vec()).encode()
}

/// A room of the remote server with alice in it, and a policy server that refuses what speaks of spam.
async fn guarded(stage: &Stage, alice: &Requester) -> Guarded {
    let policy = stage.network.add_fake("policy");
    let room = stage.joined_room(alice).await;
    let key = Arc::new(
        ServerKey::from_seed(policy.name().to_owned(), "policy_server", &std::array::from_fn(|index| index as u8))
            .unwrap(),
    );
    let guard = policy.user("guard");
    let join = room.send_state(&policy, &guard, "m.room.member", guard.as_str(), json!({"membership": "join"}));
    let rita = stage.remote.user("rita");
    let content = json!({"via": policy.name(), "public_keys": {"ed25519": public_key(&key)}});
    let named = room.send_state(&stage.remote, &rita, "m.room.policy", "", content);
    stage.receive(&[&join, &named]).await;
    assert_eq!(stage.verdict(&named.event_id).await, Verdict::Accepted);
    let guarded = Guarded { room, policy, key, asked: Arc::default() };
    guarded.answer();
    guarded
}

impl Guarded {
    fn answer(&self) {
        let (key, rules, asked) = (self.key.clone(), self.room.rules.clone(), self.asked.clone());
        self.policy.behave();
        self.policy.on(SIGN, move |request: &Request| -> Response {
            asked.fetch_add(1, Ordering::Relaxed);
            let mut object: CanonicalJsonObject = serde_json::from_slice(request.body()).unwrap();
            let text = serde_json::to_string(&object["content"]).unwrap();
            if text.contains("spam") {
                return reply(400, &json!({"errcode": "M_FORBIDDEN", "error": "This looks like spam"}));
            }
            object.remove("signatures");
            sign_event("policy", &*key, &mut object, &rules.redaction).unwrap();
            reply(200, &serde_json::to_value(&object["signatures"]).unwrap())
        });
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn message(&self, stage: &Stage, body: &str) -> Arc<Pdu> {
        self.room.send_message(&stage.remote, &stage.remote.user("rita"), body)
    }
}

async fn say(stage: &Stage, alice: &Requester, room: &Room, body: &str) -> engine::Result<OwnedEventId> {
    let command = SendCommand {
        room_id: room.id.clone(),
        event_type: "m.room.message".into(),
        content: raw_json(&json!({"msgtype": "m.text", "body": body})),
        transaction_id: None,
    };
    tokio::time::timeout(PATIENCE, stage.engine.send(alice, command)).await.expect("it ends")
}

fn has_policy_signature(event: &Value) -> bool {
    event["signatures"]["policy"]["ed25519:policy_server"].is_string()
}

#[tokio::test]
async fn our_events_are_signed_by_the_policy_server_before_they_are_sent() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let guarded = guarded(&stage, &alice).await;
    let sent = say(&stage, &alice, &guarded.room, "hello").await.unwrap();
    let event = stage.stored(&sent).await;
    assert!(has_policy_signature(&event) && event["signatures"]["test"].is_object(), "{event}");
    stage.flush(stage.remote.name()).await;
    assert!(stage.remote.received_pdus().iter().any(has_policy_signature));
    let head = stage.log_head();
    let refused = say(&stage, &alice, &guarded.room, "spam").await.unwrap_err();
    let EngineError::NotRecommended(refusal) = refused else { panic!("{refused:?}") };
    assert_eq!((refusal.status, &*refusal.errcode, &*refusal.error), (400, "M_FORBIDDEN", "This looks like spam"));
    assert_eq!(stage.log_head(), head);
}

#[tokio::test]
async fn what_the_policy_server_does_not_recommend_is_soft_failed() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let guarded = guarded(&stage, &alice).await;
    // What its server did not have signed is shown to the policy server by us.
    let good = guarded.message(&stage, "hello");
    stage.receive(&[&good]).await;
    assert_eq!(stage.verdict(&good.event_id).await, Verdict::Accepted);
    assert!(has_policy_signature(&stage.stored(&good.event_id).await));
    let bad = guarded.message(&stage, "spam");
    stage.receive(&[&bad]).await;
    assert_eq!(stage.verdict(&bad.event_id).await, Verdict::SoftFailed);
    assert!(!stage.sees(&alice, &guarded.room.id, &bad.event_id).await);
    let asked = guarded.asked();
    stage.receive(&[&bad]).await;
    assert_eq!(guarded.asked(), asked, "a refusal is remembered");
    // What it has signed needs no question.
    let mut object = fake_homeserver::object_of(&guarded.message(&stage, "signed"));
    sign_event("policy", &*guarded.key, &mut object, &guarded.room.rules.redaction).unwrap();
    let signed = rules::event::read_pdu(&fake_homeserver::text_of(&object), &guarded.room.rules).unwrap().0;
    stage.receive(&[&signed]).await;
    assert_eq!(stage.verdict(&signed.event_id).await, Verdict::Accepted);
    assert_eq!(guarded.asked(), asked);
    // An event of the policy server's own user has both of its signatures.
    let own = guarded.room.send_message(&guarded.policy, &guarded.policy.user("guard"), "mine");
    guarded.policy.send_pdus(&stage.name, &[&own]).await;
    let stored = stage.stored(&own.event_id).await;
    assert_eq!(stage.verdict(&own.event_id).await, Verdict::Accepted);
    assert!(has_policy_signature(&stored) && stored["signatures"]["policy"]["ed25519:fake"].is_string(), "{stored}");
}

#[tokio::test]
async fn a_policy_server_without_a_user_in_the_room_is_not_asked() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let guarded = guarded(&stage, &alice).await;
    let guard = guarded.policy.user("guard");
    let content = json!({"membership": "leave"});
    let gone = guarded.room.send_state(&guarded.policy, &guard, "m.room.member", guard.as_str(), content);
    guarded.policy.send_pdus(&stage.name, &[&gone]).await;
    let asked = guarded.asked();
    let sent = say(&stage, &alice, &guarded.room, "spam").await.unwrap();
    assert!(!has_policy_signature(&stage.stored(&sent).await));
    assert_eq!(guarded.asked(), asked);
}

#[tokio::test]
async fn s_067_a_policy_server_that_does_not_answer_recommends_nothing_and_holds_up_nobody() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let guarded = guarded(&stage, &alice).await;
    stage.network.cut(guarded.policy.name());
    let refused = say(&stage, &alice, &guarded.room, "hello").await.unwrap_err();
    assert!(matches!(refused, EngineError::CannotFederate(_)), "{refused:?}");
    let tries = || stage.network.recorded_to(guarded.policy.name(), SIGN).len();
    let before = tries();
    say(&stage, &alice, &guarded.room, "hello again").await.unwrap_err();
    let theirs = guarded.message(&stage, "theirs");
    stage.receive(&[&theirs]).await;
    assert_eq!(stage.verdict(&theirs.event_id).await, Verdict::SoftFailed);
    assert_eq!(tries(), before, "it is left alone for a while");
    stage.network.mend(guarded.policy.name());
    stage.clock.advance(Duration::from_mins(1));
    say(&stage, &alice, &guarded.room, "at last").await.unwrap();
    assert_eq!(stage.verdict(&theirs.event_id).await, Verdict::SoftFailed);
    // What came meanwhile need not come again.
    assert_eq!(stage.engine.judge_set_aside().await.unwrap(), 1);
    assert_eq!(stage.verdict(&theirs.event_id).await, Verdict::Accepted);
    assert!(has_policy_signature(&stage.stored(&theirs.event_id).await));
    assert!(stage.engine.storage().events_set_aside(&guarded.room.id).await.unwrap().is_empty());
    // A room is freed of one that is gone for good.
    stage.network.cut(guarded.policy.name());
    let rita = stage.remote.user("rita");
    let freed = guarded.room.send_state(&stage.remote, &rita, "m.room.policy", "", json!({}));
    stage.receive(&[&freed]).await;
    assert_eq!(stage.verdict(&freed.event_id).await, Verdict::Accepted);
    say(&stage, &alice, &guarded.room, "free").await.unwrap();
}

#[tokio::test]
async fn a_policy_server_that_is_asked_too_much_is_left_alone_for_a_moment() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let guarded = guarded(&stage, &alice).await;
    guarded.policy.on(SIGN, |_| reply(429, &json!({"error": "Slow down"})));
    let asked = || stage.network.recorded_to(guarded.policy.name(), SIGN).len();
    let before = asked();
    for _ in 0..3 {
        let refused = say(&stage, &alice, &guarded.room, "hello").await.unwrap_err();
        let EngineError::NotRecommended(refusal) = refused else { panic!("{refused:?}") };
        assert_eq!((refusal.status, &*refusal.errcode, &*refusal.error), (429, "M_LIMIT_EXCEEDED", "Slow down"));
    }
    assert_eq!(asked(), before + 1);
    guarded.policy.behave();
    guarded.answer();
    stage.clock.advance(Duration::from_secs(6));
    say(&stage, &alice, &guarded.room, "hello").await.unwrap();
}

#[tokio::test]
async fn s_067_answers_that_make_no_sense_recommend_nothing() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let guarded = guarded(&stage, &alice).await;
    let answers: [(u16, Value); 8] = [
        (200, json!({})),
        (200, json!([])),
        (200, json!({"policy": {"ed25519:policy_server": "AAAA"}})),
        (200, json!({"policy": {"ed25519:policy_server": "A".repeat(86)}})),
        (200, json!({"policy": {"ed25519:other": "A".repeat(86)}})),
        (200, json!({"elsewhere": {"ed25519:policy_server": "A".repeat(86)}})),
        (200, json!({"policy": {"ed25519:policy_server": "A".repeat(1_000_000)}})),
        (401, json!({"errcode": "M_UNKNOWN_TOKEN", "soft_logout": true})),
    ];
    for (status, body) in answers {
        guarded.policy.behave();
        let answer = body.clone();
        guarded.policy.on(SIGN, move |_| reply(status, &answer));
        let refused = say(&stage, &alice, &guarded.room, "hello").await.unwrap_err();
        match refused {
            EngineError::CannotFederate(_) => {}
            // Nothing that a client would take for the end of its own session.
            EngineError::NotRecommended(refusal) => {
                assert_eq!((refusal.status, &*refusal.errcode), (403, "M_FORBIDDEN"));
            }
            other => panic!("{other:?}"),
        }
        let theirs = guarded.message(&stage, "theirs");
        stage.receive(&[&theirs]).await;
        assert_eq!(stage.verdict(&theirs.event_id).await, Verdict::SoftFailed);
        stage.clock.advance(Duration::from_mins(1));
    }
    guarded.answer();
    say(&stage, &alice, &guarded.room, "hello").await.unwrap();
}

#[tokio::test]
async fn s_067_what_the_policy_server_could_not_be_asked_about_for_a_week_is_given_up_and_says_so() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let guarded = guarded(&stage, &alice).await;
    stage.network.cut(guarded.policy.name());
    let old = guarded.message(&stage, "old");
    stage.receive(&[&old]).await;
    let reason = async || {
        let stored = stage.engine.storage().event(&old.event_id).await.unwrap().unwrap();
        let rules::change::Standing::SoftFailed(reason) = &stored.standing else { panic!("{:?}", stored.standing) };
        reason.clone()
    };
    assert!(!reason().await.contains("given up"));
    stage.clock.advance(Duration::from_hours(8 * 24));
    stage.engine.judge_set_aside().await.unwrap();
    assert!(stage.engine.storage().events_set_aside(&guarded.room.id).await.unwrap().is_empty());
    assert!(reason().await.contains("given up"), "{}", reason().await);
    // What comes later, and is judged in the end, does not bring it back.
    let new = guarded.message(&stage, "new");
    stage.receive(&[&new]).await;
    stage.network.mend(guarded.policy.name());
    stage.clock.advance(Duration::from_hours(1));
    assert_eq!(stage.engine.judge_set_aside().await.unwrap(), 1);
    assert_eq!(stage.verdict(&new.event_id).await, Verdict::Accepted);
    assert!(stage.engine.storage().events_set_aside(&guarded.room.id).await.unwrap().is_empty());
    assert!(reason().await.contains("given up"));
}

#[tokio::test]
async fn a_policy_event_that_says_too_little_names_no_policy_server() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let guarded = guarded(&stage, &alice).await;
    let rita = stage.remote.user("rita");
    for content in [
        json!({"via": "policy"}),
        json!({"via": 7, "public_keys": {"ed25519": public_key(&guarded.key)}}),
        json!({"via": "policy", "public_keys": {"ed25519": 7}}),
        json!({"via": "policy", "public_keys": {"curve25519": public_key(&guarded.key)}}),
        // A key with which everybody can sign.
        json!({"via": "policy", "public_keys": {"ed25519": format!("AQ{}", "A".repeat(41))}}),
    ] {
        let changed = guarded.room.send_state(&stage.remote, &rita, "m.room.policy", "", content.clone());
        stage.receive(&[&changed]).await;
        assert_eq!(stage.verdict(&changed.event_id).await, Verdict::Accepted, "{content}");
        let asked = guarded.asked();
        let sent = say(&stage, &alice, &guarded.room, "spam").await.unwrap();
        assert!(!has_policy_signature(&stage.stored(&sent).await));
        assert_eq!(guarded.asked(), asked, "{content}");
    }
}

#[tokio::test]
async fn s_067_what_came_while_the_policy_server_was_silent_is_judged_later_however_much_it_is() {
    const MESSAGES: usize = 70;
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let guarded = guarded(&stage, &alice).await;
    stage.network.cut(guarded.policy.name());
    let sent: Vec<_> = (0..MESSAGES).map(|number| guarded.message(&stage, &number.to_string())).collect();
    for some in sent.chunks(35) {
        stage.receive(&some.iter().map(|pdu| &**pdu).collect::<Vec<_>>()).await;
    }
    let waiting = stage.engine.storage().events_set_aside(&guarded.room.id).await.unwrap().len();
    assert!(waiting < MESSAGES, "the places are {waiting}");
    stage.network.mend(guarded.policy.name());
    for _ in 0..2 * MESSAGES {
        stage.clock.advance(Duration::from_mins(2));
        if stage.engine.judge_set_aside().await.unwrap() == 0 {
            break;
        }
    }
    for pdu in &sent {
        assert_eq!(stage.verdict(&pdu.event_id).await, Verdict::Accepted, "{}", pdu.json);
    }
    assert!(stage.engine.storage().events_set_aside(&guarded.room.id).await.unwrap().is_empty());
}
