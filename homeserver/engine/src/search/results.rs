//! One page of what a search found, in the shape that clients get.

use std::collections::BTreeMap;

use ruma::{
    OwnedRoomId, OwnedUserId, UInt,
    api::client::search::search_events::v3::{
        EventContext, EventContextResult, GroupingKey, Groupings, ResultGroup, ResultGroupMap, ResultRoomEvents,
        SearchResult, UserProfile,
    },
    events::StateEventType,
};
use serde::Deserialize;
use storage::{Direction, TimelineRange};

use super::{Findings, Found, Group, PAGE_HITS_DEFAULT, PAGE_HITS_MAX, SearchCommand, SearchToken};
use crate::{
    ClientEvent, Engine, EngineError, Requester, Result,
    rooms::{RoomView, SeenEvent},
    sync::{Eyes, TimelineToken, senders},
};

/// How many events before and after one that was found are shown at most.
const CONTEXT_EVENTS_MAX: usize = 20;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Member {
    displayname: serde_json::Value,
    avatar_url: serde_json::Value,
}

impl Engine {
    pub(super) async fn search_page(
        &self,
        requester: &Requester,
        command: &SearchCommand,
        terms: &[String],
        findings: Findings,
        token: Option<SearchToken>,
    ) -> Result<ResultRoomEvents> {
        let criteria = &command.criteria;
        let limit =
            criteria.filter.limit.map_or(PAGE_HITS_DEFAULT, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let limit = limit.clamp(1, PAGE_HITS_MAX);
        let offset = token.as_ref().map_or(0, |token| token.offset);
        let until = token.as_ref().map_or(findings.until, |token| token.until);
        let only = token.and_then(|token| token.group);
        let page: Vec<&Found> = findings.found.iter().skip(offset).take(limit).collect();
        let mut shown = ResultRoomEvents::new();
        shown.count = UInt::try_from(findings.found.len()).ok();
        shown.highlights = terms.to_vec();
        let shown_so_far = &findings.found[..(offset + page.len()).min(findings.found.len())];
        let ends = Ends { all: &findings.found, shown: shown_so_far, until };
        shown.groups = groups(&criteria.groupings, &page, &ends).into_iter().collect();
        // The last page may be a full one: then the next is empty, and the last.
        let end = SearchToken { offset: offset + page.len(), until, group: only };
        shown.next_batch = (page.len() == limit).then(|| end.to_string());
        let seen: Vec<SeenEvent> = page.iter().map(|found| found.seen.clone()).collect();
        for (found, served) in page.iter().zip(self.client_events(requester, &seen, true).await?) {
            let mut result = SearchResult::new();
            result.rank = Some(found.rank);
            result.result = Some(served.into_raw());
            if let Some(view) = findings.views.get(&found.seen.event.pdu.room_id) {
                result.context = self.search_context(requester, view, &found.seen, &criteria.event_context).await?;
            }
            shown.results.push(result);
        }
        if criteria.include_state == Some(true) {
            for found in page {
                self.add_search_state(&findings, &found.seen.event.pdu.room_id, &mut shown).await?;
            }
        }
        Ok(shown)
    }

    async fn add_search_state(
        &self,
        findings: &Findings,
        room_id: &OwnedRoomId,
        shown: &mut ResultRoomEvents,
    ) -> Result<()> {
        let Some(view) = findings.views.get(room_id).filter(|_| !shown.state.contains_key(room_id)) else {
            return Ok(());
        };
        let event_ids = self.readable_state(view, view.reads_until(), |_, _| true).await?;
        let events = self.storage().readable_events(&event_ids).await?;
        let events = self.client_state(&events, true).await?;
        shown.state.insert(room_id.clone(), events.into_iter().map(ClientEvent::into_raw).collect());
        Ok(())
    }

    /// What surrounds an event that was found.
    async fn search_context(
        &self,
        requester: &Requester,
        view: &RoomView,
        seen: &SeenEvent,
        asked: &EventContext,
    ) -> Result<EventContextResult> {
        let order = seen.order().ok_or_else(|| EngineError::internal("what was found is in no timeline"))?;
        let limit = |asked: UInt| usize::try_from(asked).unwrap_or(usize::MAX).min(CONTEXT_EVENTS_MAX);
        let (before, start) = self.beside(view, order, Direction::Backward, limit(asked.before_limit)).await?;
        let (after, end) = self.beside(view, order, Direction::Forward, limit(asked.after_limit)).await?;
        let mut context = EventContextResult::new();
        context.start = Some(start.to_string());
        context.end = Some(end.to_string());
        if asked.include_profile {
            let mut users = senders(&before);
            users.extend(senders(&after));
            users.insert(seen.event.pdu.sender.clone());
            for user_id in users {
                let profile = self.profile_then(view, &user_id, order).await?;
                context.profile_info.insert(user_id, profile);
            }
        }
        let before = self.client_events(requester, &before, true).await?;
        let after = self.client_events(requester, &after, true).await?;
        context.events_before = before.into_iter().map(ClientEvent::into_raw).collect();
        context.events_after = after.into_iter().map(ClientEvent::into_raw).collect();
        Ok(context)
    }

    async fn beside(
        &self,
        view: &RoomView,
        order: i64,
        direction: Direction,
        limit: usize,
    ) -> Result<(Vec<SeenEvent>, TimelineToken)> {
        let (after, until, start) = match direction {
            Direction::Forward => (Some(order), view.reads_until(), order),
            Direction::Backward => (None, Some(order - 1), order - 1),
        };
        let range = TimelineRange { after, until, direction, limit };
        let scanned = self.scan_timeline(&view.room.room_id, range, Eyes::View(view), &|_| true).await?;
        Ok((scanned.events, scanned.reached.unwrap_or(TimelineToken(start))))
    }

    /// What a user showed of themselves in a room at a time.
    async fn profile_then(&self, view: &RoomView, user_id: &OwnedUserId, order: i64) -> Result<UserProfile> {
        let member = StateEventType::RoomMember;
        let entry = self.storage().state_entry_at(&view.room.room_id, &member, user_id.as_str(), order).await?;
        let event = match entry.and_then(|entry| entry.event_id) {
            Some(event_id) => self.stored_event(&event_id).await?,
            None => None,
        };
        let member: Member = event.and_then(|event| event.pdu.content_as()).unwrap_or_default();
        let mut profile = UserProfile::new();
        profile.displayname = member.displayname.as_str().map(ToOwned::to_owned);
        profile.avatar_url = member.avatar_url.as_str().map(Into::into);
        Ok(profile)
    }
}

/// The results of a page by room or by sender, each once however often it is asked for; the groups in the order of their
/// first result.
fn groups(asked: &Groupings, page: &[&Found], ends: &Ends<'_>) -> Vec<ResultGroupMap> {
    let is_asked = |key: &GroupingKey| asked.group_by.iter().any(|grouping| grouping.key.as_ref() == Some(key));
    let mut groups = Vec::new();
    if is_asked(&GroupingKey::RoomId) {
        let rooms = grouped(page, |found| &found.seen.event.pdu.room_id);
        groups.push(ResultGroupMap::RoomId(with_ends(rooms, |room_id| ends.of(Group::Room(room_id.clone())))));
    }
    if is_asked(&GroupingKey::Sender) {
        let senders = grouped(page, |found| &found.seen.event.pdu.sender);
        groups.push(ResultGroupMap::Sender(with_ends(senders, |user_id| ends.of(Group::Sender(user_id.clone())))));
    }
    groups
}

/// What is needed to say from where a group is to be read on.
struct Ends<'a> {
    all: &'a [Found],
    /// What was shown up to the end of this page.
    shown: &'a [Found],
    until: i64,
}

impl Ends<'_> {
    /// From where to read on in one group alone; nothing when all of it was shown.
    fn of(&self, group: Group) -> Option<String> {
        let count = |found: &[Found]| found.iter().filter(|found| group.has(found)).count();
        let offset = count(self.shown);
        (offset < count(self.all)).then(|| SearchToken { offset, until: self.until, group: Some(group) }.to_string())
    }
}

fn with_ends<Key: Ord>(
    mut groups: BTreeMap<Key, ResultGroup>,
    end: impl Fn(&Key) -> Option<String>,
) -> BTreeMap<Key, ResultGroup> {
    for (key, group) in &mut groups {
        group.next_batch = end(key);
    }
    groups
}

fn grouped<Key: Ord + Clone>(page: &[&Found], key: impl Fn(&Found) -> &Key) -> BTreeMap<Key, ResultGroup> {
    let mut groups: BTreeMap<Key, ResultGroup> = BTreeMap::new();
    for found in page {
        let order = groups.len() + 1;
        let group = groups.entry(key(found).clone()).or_default();
        group.order = group.order.or_else(|| UInt::try_from(order).ok());
        group.results.push(found.seen.event.pdu.event_id.clone());
    }
    groups
}
