//! The rules that everybody has until they change them.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#predefined-rules>, and two sets more: those for polls
//! (MSC3930), and the three that looked for mentions in the text, which the specification dropped with version 1.17.
//! Clients and bots that say nothing of `m.mentions` are still many, and their users want to be heard.

use ruma::{
    UInt, UserId,
    push::{
        Action, ConditionalPushRule, ConditionalPushRuleInit, EventMatchConditionData, HighlightTweakValue,
        PatternedPushRule, PatternedPushRuleInit, PushCondition, RoomMemberCountConditionData, RoomMemberCountIs,
        Ruleset, SenderNotificationPermissionConditionData, SoundTweakValue, Tweak,
    },
};

/// Looks for the user's display name.
pub const CONTAINS_DISPLAY_NAME: &str = ".m.rule.contains_display_name";
/// Looks for the name by which a sender with the power for it speaks to the whole room.
pub const ROOM_NOTIFICATION: &str = ".m.rule.roomnotif";
/// Looks for the local part of the user's id.
pub const CONTAINS_USER_NAME: &str = ".m.rule.contains_user_name";
/// The text by which a sender speaks to the whole room.
pub(super) const WHOLE_ROOM: &str = "@room";

/// The default rules of a user.
pub fn default_rules(user_id: &UserId) -> Ruleset {
    let mut rules = Ruleset::server_default(user_id);
    insert_after(&mut rules, ".m.rule.is_user_mention", contains_display_name());
    insert_after(&mut rules, ".m.rule.is_room_mention", room_notification());
    rules.override_.insert(poll_rule("poll_response", "org.matrix.msc3381.poll.response", Group::Any, Vec::new()));
    rules.content.insert(contains_user_name(user_id));
    for (name, event_type) in [("start", "org.matrix.msc3381.poll.start"), ("end", "org.matrix.msc3381.poll.end")] {
        let loud = vec![Action::Notify, sound()];
        rules.underride.insert(poll_rule(&format!("poll_{name}_one_to_one"), event_type, Group::Two, loud));
        rules.underride.insert(poll_rule(&format!("poll_{name}"), event_type, Group::Any, vec![Action::Notify]));
    }
    rules
}

/// How many are in the room.
#[derive(Clone, Copy)]
enum Group {
    Two,
    Any,
}

fn insert_after(rules: &mut Ruleset, rule_id: &str, rule: ConditionalPushRule) {
    let place = rules.override_.get_index_of(rule_id).map_or(rules.override_.len(), |index| index + 1);
    let (inserted, _) = rules.override_.insert_full(rule);
    rules.override_.move_index(inserted, place.min(inserted));
}

#[expect(deprecated, reason = "what the specification dropped is what is wanted here")]
fn contains_display_name() -> ConditionalPushRule {
    let actions = vec![Action::Notify, sound(), highlight()];
    conditional(CONTAINS_DISPLAY_NAME, vec![PushCondition::ContainsDisplayName], actions)
}

fn room_notification() -> ConditionalPushRule {
    let permission =
        PushCondition::SenderNotificationPermission(SenderNotificationPermissionConditionData::new("room".into()));
    conditional(
        ROOM_NOTIFICATION,
        vec![matches("content.body", WHOLE_ROOM), permission],
        vec![Action::Notify, highlight()],
    )
}

fn contains_user_name(user_id: &UserId) -> PatternedPushRule {
    let rule = PatternedPushRuleInit {
        actions: vec![Action::Notify, sound(), highlight()],
        default: true,
        enabled: true,
        rule_id: CONTAINS_USER_NAME.to_owned(),
        pattern: user_id.localpart().to_owned(),
    };
    rule.into()
}

fn poll_rule(name: &str, event_type: &str, group: Group, actions: Vec<Action>) -> ConditionalPushRule {
    let mut conditions = Vec::new();
    if matches!(group, Group::Two) {
        let two = RoomMemberCountIs::from(UInt::from(2_u32));
        conditions.push(PushCondition::RoomMemberCount(RoomMemberCountConditionData::new(two)));
    }
    conditions.push(matches("type", event_type));
    conditional(&format!(".org.matrix.msc3930.rule.{name}"), conditions, actions)
}

fn conditional(rule_id: &str, conditions: Vec<PushCondition>, actions: Vec<Action>) -> ConditionalPushRule {
    let rule_id = rule_id.to_owned();
    ConditionalPushRuleInit { actions, default: true, enabled: true, rule_id, conditions }.into()
}

fn matches(key: &str, pattern: &str) -> PushCondition {
    PushCondition::EventMatch(EventMatchConditionData::new(key.to_owned(), pattern.to_owned()))
}

fn sound() -> Action {
    Action::SetTweak(Tweak::Sound(SoundTweakValue::Default))
}

fn highlight() -> Action {
    Action::SetTweak(Tweak::Highlight(HighlightTweakValue::Yes))
}
