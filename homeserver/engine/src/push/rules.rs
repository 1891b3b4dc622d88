//! The push rules of a user, and changing them. They are account data of the type `m.push_rules`, which clients may
//! only change rule by rule.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#push-rules-api>

use rules::{Change, push::default_rules};
use ruma::{
    RoomId, UserId,
    push::{
        Action, AnyPushRule, AnyPushRuleRef, InsertPushRuleError, NewPushRule, RemovePushRuleError, RuleKind, Ruleset,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use storage::Submission;

use crate::{Engine, EngineError, Requester, Result, rooms::commit_error};

/// The account data type of push rules.
pub(crate) const PUSH_RULES: &str = "m.push_rules";
/// How many rules a user may have beside the default ones: all are looked at for each event.
const RULES_MAX: usize = 1_000;
/// The longest id of a rule, in bytes: as long as the id of a room or a user.
const RULE_ID_MAX_BYTES: usize = 255;
/// The largest rule, in bytes.
const RULE_MAX_BYTES: usize = 4_096;
/// The largest list of actions, in bytes: it is kept with each notification.
const ACTIONS_MAX_BYTES: usize = 1_024;
/// The largest set of rules, in bytes: each change sends all of it to all devices.
const RULES_MAX_BYTES: usize = 256 * 1_024;

#[derive(Deserialize)]
struct Stored {
    global: Ruleset,
}

/// Rules with a list for each kind, empty ones too, as clients expect.
#[derive(Serialize)]
struct Shown<'a> {
    global: Kinds<'a>,
}

#[derive(Serialize)]
struct Kinds<'a> {
    #[serde(rename = "override")]
    override_: Vec<&'a ruma::push::ConditionalPushRule>,
    content: Vec<&'a ruma::push::PatternedPushRule>,
    room: Vec<&'a ruma::push::SimplePushRule<ruma::OwnedRoomId>>,
    sender: Vec<&'a ruma::push::SimplePushRule<ruma::OwnedUserId>>,
    underride: Vec<&'a ruma::push::ConditionalPushRule>,
}

/// A user's rules out of account data, with the default rules as they are now.
pub(super) fn stored_rules(user_id: &UserId, content: &RawValue) -> Ruleset {
    let defaults = default_rules(user_id);
    match serde_json::from_str::<Stored>(content.get()) {
        Ok(Stored { global: mut rules }) => {
            rules.update_with_server_default(defaults);
            rules
        }
        Err(error) => {
            tracing::error!(user.id = %user_id, %error, "the stored push rules cannot be read; the default ones apply");
            defaults
        }
    }
}

/// Rules as the content of account data.
fn content(rules: &Ruleset) -> Result<Box<RawValue>> {
    let global = Kinds {
        override_: rules.override_.iter().collect(),
        content: rules.content.iter().collect(),
        room: rules.room.iter().collect(),
        sender: rules.sender.iter().collect(),
        underride: rules.underride.iter().collect(),
    };
    to_raw_value(&Shown { global }).map_err(EngineError::internal)
}

/// The content of `m.push_rules` as clients are shown it: what is stored, with the default rules as they are now.
pub(crate) fn shown_rules(user_id: &UserId, stored: Option<&RawValue>) -> Result<Box<RawValue>> {
    content(&stored.map_or_else(|| default_rules(user_id), |stored| stored_rules(user_id, stored)))
}

impl Engine {
    /// The push rules of a user.
    pub async fn push_rules(&self, user_id: &UserId) -> Result<Ruleset> {
        let record = self.storage().account_data(user_id, None, PUSH_RULES).await?;
        Ok(record.map_or_else(|| default_rules(user_id), |record| stored_rules(user_id, &record.content)))
    }

    /// The push rules of a user, as the content of an `m.push_rules` event, with a list for each kind.
    pub async fn push_rules_content(&self, user_id: &UserId) -> Result<Box<RawValue>> {
        content(&self.push_rules(user_id).await?)
    }

    /// One push rule.
    pub async fn push_rule(&self, user_id: &UserId, kind: &RuleKind, rule_id: &str) -> Result<AnyPushRule> {
        let rules = self.push_rules(user_id).await?;
        let rule = rules.get(kind.clone(), rule_id).map(AnyPushRuleRef::to_owned);
        rule.ok_or_else(no_such_rule)
    }

    /// Makes a rule, or replaces the one of that kind and id, which stays enabled or disabled as it was.
    pub async fn set_push_rule(
        &self,
        requester: &Requester,
        rule: NewPushRule,
        before: Option<&str>,
        after: Option<&str>,
    ) -> Result<()> {
        check_size(
            "The push rule",
            to_raw_value(&Sized::of(&rule)).map_err(EngineError::internal)?.get(),
            RULE_MAX_BYTES,
        )?;
        if !(1..=RULE_ID_MAX_BYTES).contains(&rule.rule_id().len()) || rule.rule_id().contains('\0') {
            let text = format!("The id of a push rule must have 1 to {RULE_ID_MAX_BYTES} bytes");
            return Err(EngineError::invalid_param(text));
        }
        check_actions(actions_of(&rule))?;
        let user_id = &requester.user_id;
        // No mute begins or ends in between.
        let _lock = self.lock_mutes(user_id).await;
        let of_room = match &rule {
            NewPushRule::Override(rule) => RoomId::parse(&rule.rule_id).ok(),
            _ => None,
        };
        self.change_push_rules(user_id, |rules| {
            rules.insert(rule, after, before)?;
            if rules.iter().filter(|rule| !rule.is_server_default()).count() > RULES_MAX {
                return Err(EngineError::TooLarge(format!("There can be no more than {RULES_MAX} push rules")));
            }
            Ok(())
        })
        .await?;
        if let Some(room_id) = of_room {
            // A rule that the user sets is theirs from now on, and not taken back.
            self.storage().own_mute(user_id, &room_id).await?;
        }
        Ok(())
    }

    /// Removes a rule that the user made.
    pub async fn delete_push_rule(&self, requester: &Requester, kind: RuleKind, rule_id: &str) -> Result<()> {
        self.change_push_rules(&requester.user_id, |rules| Ok(rules.remove(kind, rule_id)?)).await
    }

    /// Enables or disables a rule.
    pub async fn enable_push_rule(
        &self,
        requester: &Requester,
        kind: RuleKind,
        rule_id: &str,
        enabled: bool,
    ) -> Result<()> {
        let change = |rules: &mut Ruleset| rules.set_enabled(kind, rule_id, enabled).map_err(|_| no_such_rule());
        self.change_push_rules(&requester.user_id, change).await
    }

    /// Sets what a rule does.
    pub async fn set_push_rule_actions(
        &self,
        requester: &Requester,
        kind: RuleKind,
        rule_id: &str,
        actions: Vec<Action>,
    ) -> Result<()> {
        check_actions(&actions)?;
        let change = |rules: &mut Ruleset| rules.set_actions(kind, rule_id, actions).map_err(|_| no_such_rule());
        self.change_push_rules(&requester.user_id, change).await
    }

    /// Changes the rules of a user, one change at a time.
    pub(super) async fn change_push_rules(
        &self,
        user_id: &UserId,
        change: impl FnOnce(&mut Ruleset) -> Result<()>,
    ) -> Result<()> {
        let _lock = self.inner.push.changing.lock(user_id.as_str()).await;
        let mut rules = self.push_rules(user_id).await?;
        change(&mut rules)?;
        let content = content(&rules)?;
        check_size("The push rules", content.get(), RULES_MAX_BYTES)?;
        let change = Change::AccountData {
            user_id: user_id.to_owned(),
            room_id: None,
            event_type: PUSH_RULES.to_owned(),
            content,
        };
        let submission = Submission { room: None, changes: vec![change] };
        self.storage().commit(submission).await.map_err(commit_error)?;
        self.inner.push.forget(user_id);
        Ok(())
    }
}

/// What of a new rule takes space.
#[derive(Serialize)]
struct Sized<'a> {
    actions: &'a [Action],
    conditions: &'a [ruma::push::PushCondition],
    pattern: &'a str,
}

impl<'a> Sized<'a> {
    fn of(rule: &'a NewPushRule) -> Self {
        let (conditions, pattern): (&[_], &str) = match rule {
            NewPushRule::Override(rule) | NewPushRule::Underride(rule) => (&rule.conditions, ""),
            NewPushRule::Content(rule) => (&[], &rule.pattern),
            _ => (&[], ""),
        };
        Self { actions: actions_of(rule), conditions, pattern }
    }
}

fn actions_of(rule: &NewPushRule) -> &[Action] {
    match rule {
        NewPushRule::Override(rule) | NewPushRule::Underride(rule) => &rule.actions,
        NewPushRule::Content(rule) => &rule.actions,
        NewPushRule::Room(rule) => &rule.actions,
        NewPushRule::Sender(rule) => &rule.actions,
        _ => &[],
    }
}

fn check_actions(actions: &[Action]) -> Result<()> {
    check_size("The list of actions", to_raw_value(actions).map_err(EngineError::internal)?.get(), ACTIONS_MAX_BYTES)
}

fn check_size(what: &str, json: &str, max_bytes: usize) -> Result<()> {
    if json.len() > max_bytes {
        return Err(EngineError::TooLarge(format!("{what} must not be larger than {max_bytes} bytes")));
    }
    Ok(())
}

fn no_such_rule() -> EngineError {
    EngineError::not_found("There is no such push rule")
}

impl From<InsertPushRuleError> for EngineError {
    fn from(error: InsertPushRuleError) -> Self {
        match error {
            InsertPushRuleError::UnknownRuleId => Self::invalid_param("The rule of `before` or `after` was not found"),
            error => Self::InvalidParam(error.to_string()),
        }
    }
}

impl From<RemovePushRuleError> for EngineError {
    fn from(error: RemovePushRuleError) -> Self {
        match error {
            RemovePushRuleError::NotFound => no_such_rule(),
            error => Self::InvalidParam(error.to_string()),
        }
    }
}
