//! Rules made ready to be asked about many events, and asking them.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    OwnedRoomId, OwnedUserId, UInt, UserId,
    push::{Action, PushCondition, RoomMemberCountIs, Ruleset, ScalarJsonValue},
};
use serde_json::Value;

use super::{
    defaults::{CONTAINS_DISPLAY_NAME, CONTAINS_USER_NAME, ROOM_NOTIFICATION},
    event::{Path, PushEvent},
    pattern::{Pattern, contains_words},
};

/// What is to be done about an event that notifies.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The actions of the rule that matched; `notify` is among them.
    pub actions: Vec<Action>,
    /// Whether the event is to stand out.
    pub highlight: bool,
}

/// Somebody who may be notified.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// Who.
    pub user_id: &'a UserId,
    /// Their display name in the room, in lower case; only where [`PushRules::wants_display_name`] says so.
    pub display_name: Option<&'a str>,
}

/// The rules of a user that are enabled and can match, the most important first. Nothing in those of users who changed
/// nothing depends on the user, so that all these can share one.
#[derive(Clone, Debug)]
pub struct PushRules {
    rules: Vec<Rule>,
    /// Whether a rule that the user made looks for the display name.
    display_name: bool,
    /// The kinds of notification whose power is asked for by rules that the user made.
    permissions: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Rule {
    conditions: Vec<Condition>,
    /// Nothing when the rule says not to notify.
    outcome: Option<Arc<Outcome>>,
}

#[derive(Clone, Debug)]
enum Condition {
    /// A text matches a pattern; that of a message word by word.
    Matches(Path, Pattern),
    /// A text is the user's id.
    IsOwnId(Path),
    /// The text of the message contains the local part of the user's id.
    ContainsOwnName,
    ContainsDisplayName,
    Is(Path, ScalarJsonValue),
    Contains(Path, ScalarJsonValue),
    ContainsOwnId(Path),
    MemberCount(RoomMemberCountIs),
    Permission(String),
    Room(OwnedRoomId),
    Sender(OwnedUserId),
    /// The event does not say whom it mentions.
    WithoutMentions,
}

impl PushRules {
    /// Makes a user's rules ready.
    pub fn new(rules: &Ruleset, user_id: &UserId) -> Self {
        let mut ready = Self { rules: Vec::new(), display_name: false, permissions: BTreeSet::new() };
        let compiler = Compiler { user_id };
        for rule in rules.override_.iter().filter(|rule| rule.enabled) {
            ready.add(compiler.conditional(&rule.rule_id, &rule.conditions), &rule.actions, rule.default);
        }
        for rule in rules.content.iter().filter(|rule| rule.enabled) {
            let is_own = rule.default && rule.rule_id == CONTAINS_USER_NAME && rule.pattern == user_id.localpart();
            let text = Condition::Matches(Path::new("content.body"), Pattern::new(&rule.pattern));
            let conditions =
                if is_own { vec![Condition::WithoutMentions, Condition::ContainsOwnName] } else { vec![text] };
            ready.add(Some(conditions), &rule.actions, rule.default);
        }
        for rule in rules.room.iter().filter(|rule| rule.enabled) {
            ready.add(Some(vec![Condition::Room(rule.rule_id.clone())]), &rule.actions, rule.default);
        }
        for rule in rules.sender.iter().filter(|rule| rule.enabled) {
            ready.add(Some(vec![Condition::Sender(rule.rule_id.clone())]), &rule.actions, rule.default);
        }
        for rule in rules.underride.iter().filter(|rule| rule.enabled) {
            ready.add(compiler.conditional(&rule.rule_id, &rule.conditions), &rule.actions, rule.default);
        }
        ready
    }

    fn add(&mut self, conditions: Option<Vec<Condition>>, actions: &[Action], is_default: bool) {
        let Some(conditions) = conditions else { return };
        if !is_default {
            self.display_name |= conditions.iter().any(|it| matches!(it, Condition::ContainsDisplayName));
            self.permissions.extend(conditions.iter().filter_map(|condition| match condition {
                Condition::Permission(key) => Some(key.clone()),
                _ => None,
            }));
        }
        let notifies = actions.iter().any(Action::should_notify);
        let highlight = actions.iter().any(Action::is_highlight);
        let outcome = notifies.then(|| Arc::new(Outcome { actions: actions.to_vec(), highlight }));
        self.rules.push(Rule { conditions, outcome });
    }

    /// What is to be done about an event for a user; nothing when they are not to be notified. Nobody is of what they
    /// did themselves.
    pub fn evaluate(&self, event: &PushEvent, recipient: Recipient<'_>) -> Option<&Arc<Outcome>> {
        if event.sender == recipient.user_id { None } else { self.outcome(event, Some(recipient)) }
    }

    /// What is to be done about an event for those whom it does not name, neither by [`PushEvent::named`] nor in
    /// [`PushEvent::text_with_names`], if these are their rules.
    pub fn evaluate_unnamed(&self, event: &PushEvent) -> Option<&Arc<Outcome>> {
        self.outcome(event, None)
    }

    fn outcome(&self, event: &PushEvent, recipient: Option<Recipient<'_>>) -> Option<&Arc<Outcome>> {
        let matching = self.rules.iter().find(|rule| rule.conditions.iter().all(|it| it.holds(event, recipient)));
        matching?.outcome.as_ref()
    }

    /// Whether the outcome depends on the user's display name in the room.
    pub fn wants_display_name(&self, event: &PushEvent) -> bool {
        event.body.is_some() && (self.display_name || !event.has_mentions)
    }

    /// The kinds of notification for which the sender's power is asked for, beside what [`PushEvent::speaks_to_room`]
    /// says.
    pub fn permissions(&self) -> &BTreeSet<String> {
        &self.permissions
    }
}

/// Reads rules of one user.
struct Compiler<'a> {
    user_id: &'a UserId,
}

impl Compiler<'_> {
    /// Nothing when one of the conditions can never hold.
    fn conditional(&self, rule_id: &str, conditions: &[PushCondition]) -> Option<Vec<Condition>> {
        let mut ready = conditions.iter().map(|condition| self.condition(condition)).collect::<Option<Vec<_>>>()?;
        if [CONTAINS_DISPLAY_NAME, ROOM_NOTIFICATION].contains(&rule_id) {
            ready.insert(0, Condition::WithoutMentions);
        }
        Some(ready)
    }

    #[expect(deprecated, reason = "users still have rules that look for their display name")]
    fn condition(&self, condition: &PushCondition) -> Option<Condition> {
        let is_own_id = |value: &ScalarJsonValue| matches!(value, ScalarJsonValue::String(it) if *it == *self.user_id);
        Some(match condition {
            PushCondition::EventMatch(data) if data.pattern == *self.user_id && data.key != "content.body" => {
                Condition::IsOwnId(Path::new(&data.key))
            }
            PushCondition::EventMatch(data) => Condition::Matches(Path::new(&data.key), Pattern::new(&data.pattern)),
            PushCondition::ContainsDisplayName => Condition::ContainsDisplayName,
            PushCondition::RoomMemberCount(data) => Condition::MemberCount(data.is),
            PushCondition::SenderNotificationPermission(data) => Condition::Permission(data.key.to_string()),
            PushCondition::EventPropertyIs(data) => Condition::Is(Path::new(&data.key), data.value.clone()),
            PushCondition::EventPropertyContains(data) if is_own_id(&data.value) => {
                Condition::ContainsOwnId(Path::new(&data.key))
            }
            PushCondition::EventPropertyContains(data) => Condition::Contains(Path::new(&data.key), data.value.clone()),
            _ => return None,
        })
    }
}

impl Condition {
    fn holds(&self, event: &PushEvent, recipient: Option<Recipient<'_>>) -> bool {
        let body_contains = |words: &str| event.body.as_ref().is_some_and(|body| contains_words(body, words));
        match self {
            Self::Matches(path, pattern) if path.is_body() => {
                event.body.as_ref().is_some_and(|body| pattern.matches_words(body))
            }
            Self::Matches(path, pattern) => {
                event.property(path).and_then(Value::as_str).is_some_and(|text| matches_whole(pattern, text))
            }
            Self::IsOwnId(path) => {
                let text = event.property(path).and_then(Value::as_str);
                let own_id = recipient.map(|recipient| recipient.user_id.as_str());
                text.zip(own_id).is_some_and(|(text, own_id)| text.eq_ignore_ascii_case(own_id))
            }
            Self::ContainsOwnName => {
                recipient.is_some_and(|recipient| body_contains(&recipient.user_id.localpart().to_lowercase()))
            }
            Self::ContainsDisplayName => recipient.and_then(|it| it.display_name).is_some_and(body_contains),
            Self::Is(path, value) => event.property(path).is_some_and(|found| is_same(found, value)),
            Self::Contains(path, value) => event.property(path).is_some_and(|found| contains(found, value)),
            Self::ContainsOwnId(path) => {
                let list = event.property(path).and_then(Value::as_array);
                let own_id = recipient.map(|recipient| recipient.user_id.as_str());
                list.zip(own_id).is_some_and(|(list, own_id)| list.iter().any(|value| value.as_str() == Some(own_id)))
            }
            Self::MemberCount(is) => {
                use std::ops::RangeBounds as _;
                is.contains(&UInt::new_saturating(event.joined_count))
            }
            Self::Permission(key) => event.permissions.contains(key),
            Self::Room(room_id) => event.room_id == *room_id,
            Self::Sender(user_id) => event.sender == *user_id,
            Self::WithoutMentions => !event.has_mentions,
        }
    }
}

/// Most texts are in lower case already.
fn matches_whole(pattern: &Pattern, text: &str) -> bool {
    if text.chars().all(|character| character.is_ascii() && !character.is_ascii_uppercase()) {
        pattern.matches(text)
    } else {
        pattern.matches(&text.to_lowercase())
    }
}

fn is_same(found: &Value, value: &ScalarJsonValue) -> bool {
    match value {
        ScalarJsonValue::Null => found.is_null(),
        ScalarJsonValue::Bool(value) => found.as_bool() == Some(*value),
        ScalarJsonValue::Integer(value) => found.as_i64() == Some((*value).into()),
        ScalarJsonValue::String(value) => found.as_str() == Some(value),
    }
}

fn contains(found: &Value, value: &ScalarJsonValue) -> bool {
    found.as_array().is_some_and(|list| list.iter().any(|element| is_same(element, value)))
}
