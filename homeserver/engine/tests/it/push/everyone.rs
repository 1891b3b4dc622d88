//! What an event comes to is worked out once for everyone, and one by one for those who differ. It comes to the same as
//! asking each member, and costs the same whatever their number.

use std::collections::{BTreeMap, BTreeSet};

use engine::{Requester, SendCommand};
use rules::{
    Pdu,
    push::{PushEvent, PushRules, Recipient},
};
use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UserId,
    events::{TimelineEventType, receipt::ReceiptType, room::member::MembershipState},
    push::{
        Action, NewConditionalPushRule, NewPatternedPushRule, NewPushRule, NewSimplePushRule, PushCondition, RuleKind,
        Tweak,
    },
};
use serde_json::{Value, json};

use crate::stage::{Dice, Stage, raw};

const WORDS: [&str; 12] = [
    "hello",
    "tea",
    "user1",
    "User2",
    "@user3:test",
    "@room",
    "Jean-Luc",
    "jean",
    "\u{738b}\u{5c0f}\u{660e}",
    "picard",
    "\u{43c}\u{438}\u{445}\u{430}",
    "bob-2",
];
const NAMES: [&str; 6] = ["Jean-Luc Picard", "tea", "\u{738b}", "\u{41c}\u{438}\u{445}\u{430}", "bob-2", " Hello "];
const USERS: usize = 7;
const STEPS: usize = 150;

/// What each user should have been told, worked out member by member.
#[derive(Default)]
struct Naive {
    members: BTreeMap<OwnedUserId, (MembershipState, String)>,
    ignored: BTreeMap<OwnedUserId, BTreeSet<OwnedUserId>>,
    /// All that notified them, with whether it stood out.
    listed: BTreeMap<OwnedUserId, Vec<(String, bool)>>,
    /// How many of these they have read.
    read: BTreeMap<OwnedUserId, usize>,
    seen: usize,
}

impl Naive {
    async fn follow(&mut self, stage: &Stage, room_id: &RoomId, creator: &UserId) {
        let timeline = stage.timeline(room_id).await;
        for event_id in timeline.iter().skip(self.seen) {
            let event_id = event_id.as_str().try_into().unwrap();
            let event = stage.engine.storage().event(event_id).await.unwrap().unwrap();
            self.event(stage, &event.pdu, creator).await;
        }
        self.seen = timeline.len();
    }

    async fn event(&mut self, stage: &Stage, pdu: &Pdu, creator: &UserId) {
        let mut settled = None;
        if let Some((user_id, membership)) = pdu.membership() {
            let name = pdu.content_str("displayname").unwrap_or_default().trim().to_lowercase();
            let before = self.members.insert(user_id.clone(), (membership.clone(), name));
            let changed = before.is_none_or(|(before, _)| before != membership);
            settled = (changed && membership != MembershipState::Invite).then_some(user_id);
        }
        let joined = self.members.values().filter(|(membership, _)| *membership == MembershipState::Join).count();
        let mut event = PushEvent::new(pdu, joined as u64);
        if pdu.sender == *creator {
            event.permissions.insert("room".to_owned());
        }
        for (user_id, (membership, name)) in &self.members {
            let is_invited =
                *membership == MembershipState::Invite && pdu.state_key.as_deref() == Some(user_id.as_str());
            let ignores = self.ignored.get(user_id).is_some_and(|ignored| ignored.contains(&pdu.sender));
            if *membership != MembershipState::Join && !is_invited || pdu.state_key.is_none() && ignores {
                continue;
            }
            let rules = PushRules::new(&stage.engine.push_rules(user_id).await.unwrap(), user_id);
            if let Some(outcome) = rules.evaluate(&event, Recipient { user_id, display_name: Some(name) }) {
                self.listed.entry(user_id.clone()).or_default().push((pdu.event_id.to_string(), outcome.highlight));
            }
        }
        if let Some(user_id) = settled {
            self.reads(&user_id);
        }
        if pdu.state_key.is_none() {
            self.reads(&pdu.sender);
        }
    }

    fn reads(&mut self, user_id: &UserId) {
        self.read.insert(user_id.to_owned(), self.listed.get(user_id).map_or(0, Vec::len));
    }

    /// How much is unread, and how much of it stands out.
    fn unread(&self, user_id: &UserId) -> (u64, u64) {
        let read = self.read.get(user_id).copied().unwrap_or(0);
        let unread = self.listed.get(user_id).map(|listed| &listed[read..]).unwrap_or_default();
        (unread.len() as u64, unread.iter().filter(|(_, highlight)| *highlight).count() as u64)
    }

    async fn compare(&self, stage: &Stage, room_id: &RoomId, users: &[Requester], what: &str) {
        for Requester { user_id, .. } in users {
            let unread = stage.engine.unread(user_id, room_id).await.unwrap().total();
            assert_eq!((unread.notifications, unread.highlights), self.unread(user_id), "{user_id} after {what}");
            let total = stage.engine.storage().unread_total(user_id).await.unwrap();
            assert_eq!((total.notifications, total.highlights), self.unread(user_id), "{user_id} after {what}");
        }
    }

    async fn compare_lists(&self, stage: &Stage, users: &[Requester]) {
        for Requester { user_id, .. } in users {
            for only_highlights in [false, true] {
                let listed = self.listed.get(user_id).map(Vec::as_slice).unwrap_or_default();
                let wanted = listed.iter().rev().filter(|(_, highlight)| *highlight || !only_highlights);
                let wanted: Vec<_> = wanted.cloned().collect();
                let (found, _) =
                    stage.engine.storage().notifications(user_id, i64::MAX, 10_000, only_highlights).await.unwrap();
                let found: Vec<_> = found.iter().map(|it| (it.event_id.to_string(), it.highlight)).collect();
                assert_eq!(found, wanted, "{user_id}");
            }
        }
    }
}

fn sentence(dice: &mut Dice) -> Value {
    let words: Vec<&str> = (0..=dice.below(4)).map(|_| WORDS[dice.below(WORDS.len())]).collect();
    let mut content = json!({"msgtype": "m.text", "body": words.join([" ", ", ", "-"][dice.below(3)])});
    if dice.percent(40) {
        let user_ids: Vec<String> = (0..dice.below(3)).map(|_| format!("@user{}:test", dice.below(USERS))).collect();
        content["m.mentions"] = json!({"user_ids": user_ids, "room": dice.percent(20)});
    }
    content
}

#[expect(deprecated, reason = "users still have rules that look for their display name")]
fn rule(dice: &mut Dice, room_id: &RoomId) -> NewPushRule {
    let loud = || vec![Action::Notify, Action::SetTweak(Tweak::Highlight(ruma::push::HighlightTweakValue::Yes))];
    match dice.below(4) {
        0 => NewPushRule::Room(NewSimplePushRule::new(room_id.to_owned(), vec![])),
        1 => {
            let user_id = format!("@user{}:test", dice.below(USERS)).try_into().unwrap();
            NewPushRule::Sender(NewSimplePushRule::new(user_id, vec![]))
        }
        2 => NewPushRule::Content(NewPatternedPushRule::new("tea".into(), "tea".into(), loud())),
        _ => NewPushRule::Override(NewConditionalPushRule::new(
            "name".into(),
            vec![PushCondition::ContainsDisplayName],
            loud(),
        )),
    }
}

/// One thing that somebody does.
async fn act(stage: &Stage, dice: &mut Dice, naive: &mut Naive, users: &[Requester], room_id: &OwnedRoomId) -> String {
    let actor = &users[dice.below(users.len())];
    let other = &users[dice.below(users.len())].user_id;
    let is_joined = naive.members.get(&actor.user_id).is_some_and(|(it, _)| *it == MembershipState::Join);
    match dice.below(12) {
        0 if !is_joined => stage.join(actor, room_id).await,
        0 if actor.user_id != users[0].user_id => stage.leave(actor, room_id).await,
        1 if is_joined => drop(stage.engine.invite(actor, room_id, other, None).await),
        2 => {
            let name = NAMES[dice.below(NAMES.len())];
            stage.engine.set_display_name(actor, Some(name.to_owned())).await.unwrap();
        }
        3 => stage.engine.set_push_rule(actor, rule(dice, room_id), None, None).await.unwrap(),
        4 => {
            let kinds = [(RuleKind::Room, room_id.as_str()), (RuleKind::Content, "tea"), (RuleKind::Override, "name")];
            let (kind, rule_id) = &kinds[dice.below(3)];
            drop(stage.engine.delete_push_rule(actor, kind.clone(), rule_id).await);
        }
        5 if dice.percent(30) => {
            let ignored = raw(&json!({"ignored_users": {other.as_str(): {}}}));
            stage.engine.set_account_data(actor, None, "m.ignored_user_list", ignored).await.unwrap();
            naive.ignored.insert(actor.user_id.clone(), [other.clone()].into());
        }
        6 if is_joined => {
            let last: ruma::OwnedEventId = stage.timeline(room_id).await.pop().unwrap().try_into().unwrap();
            stage.engine.receipt(actor, room_id, ReceiptType::ReadPrivate, &last, None).await.unwrap();
            naive.reads(&actor.user_id);
        }
        7 => {
            let topic = json!({"topic": dice.below(99).to_string()});
            stage.set_state(&users[0], room_id, "m.room.topic", &topic).await;
        }
        _ if is_joined => {
            let (room_id, content) = (room_id.clone(), sentence(dice));
            let what = content.to_string();
            let content = raw(&content);
            let command =
                SendCommand { room_id, event_type: TimelineEventType::RoomMessage, content, transaction_id: None };
            stage.engine.send(actor, command).await.unwrap();
            return format!("{} says {what}", actor.user_id);
        }
        _ => {}
    }
    format!("something of {}", actor.user_id)
}

#[tokio::test]
async fn asking_few_comes_to_the_same_as_asking_all() {
    for seed in 0..4 {
        let stage = Stage::new().await;
        let mut dice = Dice::new(seed);
        let mut users = Vec::new();
        for number in 0..USERS {
            users.push(stage.user(&format!("user{number}")).await);
        }
        let room_id = stage.room(&users[0], "shared").await;
        for user in &users[1..4] {
            stage.join(user, &room_id).await;
        }
        let mut naive = Naive::default();
        naive.follow(&stage, &room_id, &users[0].user_id).await;
        for _ in 0..STEPS {
            let what = act(&stage, &mut dice, &mut naive, &users, &room_id).await;
            naive.follow(&stage, &room_id, &users[0].user_id).await;
            naive.compare(&stage, &room_id, &users, &what).await;
        }
        naive.compare_lists(&stage, &users).await;
        let happened: usize = naive.listed.values().map(Vec::len).sum();
        assert!(happened > STEPS / 4, "too little happened: {happened}");
        assert_eq!(stage.engine.storage().fsck().await.unwrap(), []);
    }
}

/// How often the database is read for a message, and how many rows are written.
async fn cost_of_a_message(members: usize) -> (u64, u64) {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.room(&alice, "shared").await;
    for number in 0..members {
        let user_id = format!("@member{number}:test").try_into().unwrap();
        stage.join(&Requester { user_id, device_id: "D".into() }, &room_id).await;
    }
    let muted = Requester { user_id: "@member1:test".try_into().unwrap(), device_id: "D".into() };
    let mute = NewPushRule::Room(NewSimplePushRule::new(room_id.clone(), vec![]));
    stage.engine.set_push_rule(&muted, mute, None, None).await.unwrap();
    stage.send(&alice, &room_id, "to make the room known").await;
    let mut least = (u64::MAX, u64::MAX);
    // The least counts, for other tasks of the server may read meanwhile.
    for _ in 0..8 {
        let storage = stage.engine.storage();
        let before = (storage.reads(), storage.inserted_rows());
        stage.send(&alice, &room_id, "hello member2").await;
        least = (least.0.min(storage.reads() - before.0), least.1.min(storage.inserted_rows() - before.1));
    }
    let unread = async |name: &str| {
        let user_id: OwnedUserId = name.try_into().unwrap();
        let unread = stage.engine.unread(&user_id, &room_id).await.unwrap().total();
        (unread.notifications, unread.highlights)
    };
    assert_eq!(unread("@member0:test").await, (9, 0));
    assert_eq!(unread("@member1:test").await, (0, 0));
    assert_eq!(unread("@member2:test").await, (9, 8));
    least
}

#[tokio::test]
async fn a_message_costs_the_same_in_a_room_of_many() {
    assert_eq!(cost_of_a_message(4).await, cost_of_a_message(200).await);
}
