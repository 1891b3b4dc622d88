//! By whom users let themselves be invited.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#invite-permission>, and the finer rules of
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4155>.

use std::collections::BTreeMap;

use ruma::{OwnedUserId, UserId};
use serde_json::Value;

use crate::{Engine, Result};

/// The account data types that can block all invitations: that of the specification, and the one from before.
const PERMISSION: [&str; 2] = ["m.invite_permission_config", "org.matrix.msc4380.invite_permission_config"];
/// The account data type of the finer rules.
const FINER_RULES: &str = "org.matrix.msc4155.invite_permission_config";
/// How many patterns of one list are looked at.
const PATTERNS_MAX: usize = 1_000;

/// What becomes of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The user is shown it.
    Allow,
    /// The user is not shown it, and the inviter not told.
    Ignore,
    /// It is refused.
    Block,
}

/// By whom one user lets themselves be invited.
#[derive(Debug, Default)]
pub(crate) struct InvitationRules {
    blocks_all: bool,
    finer: Value,
}

impl Engine {
    /// By whom a user of ours may be invited.
    pub(crate) async fn invitation_rules(&self, user_id: &UserId) -> Result<InvitationRules> {
        let mut rules = InvitationRules::default();
        for event_type in PERMISSION {
            let content = self.global_content(user_id, event_type).await?;
            rules.blocks_all |= content.get("default_action").is_some_and(|action| action == "block");
        }
        rules.finer = self.global_content(user_id, FINER_RULES).await?;
        Ok(rules)
    }

    /// How many of the invitations by these the user does not want to see. They may have come before the user said so.
    pub(crate) async fn hidden_invitations(&self, user_id: &UserId, inviters: &[OwnedUserId]) -> Result<usize> {
        if inviters.is_empty() {
            return Ok(0);
        }
        let (ignored, rules) = (self.ignored_users(user_id).await?, self.invitation_rules(user_id).await?);
        let is_hidden = |inviter: &UserId| {
            ignored.contains(inviter) || !self.is_notices_user(inviter) && rules.verdict(inviter) != Verdict::Allow
        };
        let mut known: BTreeMap<&UserId, bool> = BTreeMap::new();
        let is_hidden = inviters.iter().map(|inviter| *known.entry(inviter).or_insert_with(|| is_hidden(inviter)));
        Ok(is_hidden.filter(|is_hidden| *is_hidden).count())
    }

    async fn global_content(&self, user_id: &UserId, event_type: &str) -> Result<Value> {
        let record = self.storage().account_data(user_id, None, event_type).await?;
        Ok(record.and_then(|record| serde_json::from_str(record.content.get()).ok()).unwrap_or_default())
    }
}

/// Whether account data of this type says by whom a user lets themselves be invited.
pub(crate) fn hides_invitations(event_type: &str) -> bool {
    event_type == FINER_RULES || PERMISSION.contains(&event_type)
}

impl InvitationRules {
    /// What becomes of an invitation by that user. Of the lists that the user is on, the first counts.
    pub(crate) fn verdict(&self, inviter: &UserId) -> Verdict {
        if self.finer.get("enabled").is_none_or(|enabled| enabled != false) {
            let server = inviter.server_name().as_str();
            for (list, name, verdict) in [
                ("allowed_users", inviter.as_str(), Verdict::Allow),
                ("ignored_users", inviter.as_str(), Verdict::Ignore),
                ("blocked_users", inviter.as_str(), Verdict::Block),
                ("allowed_servers", server, Verdict::Allow),
                ("ignored_servers", server, Verdict::Ignore),
                ("blocked_servers", server, Verdict::Block),
            ] {
                if self.names(list, name) {
                    return verdict;
                }
            }
        }
        if self.blocks_all { Verdict::Block } else { Verdict::Allow }
    }

    fn names(&self, list: &str, name: &str) -> bool {
        let patterns = self.finer.get(list).and_then(Value::as_array).into_iter().flatten();
        patterns.take(PATTERNS_MAX).filter_map(Value::as_str).any(|pattern| fits(pattern, name))
    }
}

/// Whether a text fits a pattern in which `*` stands for any characters and `?` for one. Of several stars only the last
/// is ever tried again, so that it takes no longer than the product of both lengths.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(character) if *character == '?' || *character == text[read] => (at, read) = (at + 1, read + 1),
            _ => match &mut star {
                Some((star_at, star_read)) => {
                    *star_read += 1;
                    (at, read) = (*star_at + 1, *star_read);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|character| *character == '*')
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("@user-?*", "@user-1:test", true),
            ("@user-?*", "@user-", false),
            ("hs*", "hs2", true),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("exact", "exactly", false),
            ("?", "", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_list_that_names_the_inviter_counts() {
        let bob = user_id!("@bob:hs2");
        let verdict = |finer: Value| InvitationRules { blocks_all: false, finer }.verdict(bob);
        assert_eq!(verdict(json!({})), Verdict::Allow);
        assert_eq!(verdict(json!({ "blocked_users": null, "allowed_users": 1 })), Verdict::Allow);
        assert_eq!(verdict(json!({ "blocked_users": ["@bob:hs2"] })), Verdict::Block);
        assert_eq!(verdict(json!({ "blocked_users": ["@bob:hs2"], "enabled": false })), Verdict::Allow);
        assert_eq!(verdict(json!({ "ignored_servers": ["hs*"] })), Verdict::Ignore);
        assert_eq!(verdict(json!({ "allowed_users": ["@b*"], "blocked_servers": ["hs2"] })), Verdict::Allow);
        assert_eq!(verdict(json!({ "blocked_users": ["@b*"], "allowed_servers": ["hs2"] })), Verdict::Block);
        let lists = json!({ "ignored_users": ["@b*"], "blocked_users": ["@b*"], "allowed_users": ["@b*"] });
        assert_eq!(verdict(lists), Verdict::Allow);
        let all = InvitationRules { blocks_all: true, finer: json!({ "allowed_servers": ["hs2"] }) };
        assert_eq!((all.verdict(bob), all.verdict(user_id!("@a:hs1"))), (Verdict::Allow, Verdict::Block));
    }
}
