//! Searching for words in rooms.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#server-side-search>

mod results;
mod sealing;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use rules::event::search::{SearchField, normalised, text};
use ruma::{
    OwnedRoomId, OwnedUserId,
    api::client::{
        filter::RoomEventFilter,
        search::search_events::v3::{Criteria, OrderBy, ResultRoomEvents, SearchKeys},
    },
    events::StateEventType,
};
use storage::{SearchHit, StoredEvent};

use crate::{
    Engine, EngineError, RelationFilter, Requester, Result,
    rooms::{RoomView, SeenEvent},
    sync::{allows, covers_room},
};

/// How many events a search finds at most, the latest ones. All of them are looked at for each page.
const HITS_MAX: usize = 1_000;
/// How many a page has at most, and when the client does not say.
const PAGE_HITS_MAX: usize = 50;
const PAGE_HITS_DEFAULT: usize = 10;
/// How many words are looked for.
const TERMS_MAX: usize = 10;
/// How much better a match of whole words is than one inside of words.
const WHOLE_WORD_WEIGHT: f64 = 2.0;

/// What is searched for.
#[derive(Clone, Debug)]
pub struct SearchCommand {
    /// What the client asks.
    pub criteria: Criteria,
    /// The part of its filter that is about relations.
    pub relations: RelationFilter,
    /// Where the page before ended.
    pub next_batch: Option<String>,
}

/// A point in the results of a search: how many were shown, and the number of the latest event that counts.
#[derive(Clone)]
struct SearchToken {
    offset: usize,
    until: i64,
    /// The group whose results alone are counted and shown, if it is only one.
    group: Option<Group>,
}

/// Results that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Group {
    /// Those of a room.
    Room(OwnedRoomId),
    /// Those that a user sent.
    Sender(OwnedUserId),
}

impl Group {
    fn has(&self, found: &Found) -> bool {
        match self {
            Self::Room(room_id) => found.seen.event.pdu.room_id == *room_id,
            Self::Sender(user_id) => found.seen.event.pdu.sender == *user_id,
        }
    }
}

/// An event that was found.
struct Found {
    seen: SeenEvent,
    rank: f64,
}

/// All that a search found.
struct Findings {
    found: Vec<Found>,
    views: HashMap<OwnedRoomId, RoomView>,
    /// The number of the latest event.
    until: i64,
}

impl Engine {
    /// The events in which words occur, out of what the asker may see.
    pub async fn search(&self, requester: &Requester, command: SearchCommand) -> Result<ResultRoomEvents> {
        let token = command.next_batch.as_deref().map(SearchToken::parse).transpose()?;
        let terms = terms(&command.criteria.search_term);
        let mut findings = self.findings(requester, &command, &terms, token.as_ref()).await?;
        if let Some(group) = token.as_ref().and_then(|token| token.group.as_ref()) {
            findings.found.retain(|found| group.has(found));
        }
        self.search_page(requester, &command, &terms, findings, token).await
    }

    async fn findings(
        &self,
        requester: &Requester,
        command: &SearchCommand,
        terms: &[String],
        token: Option<&SearchToken>,
    ) -> Result<Findings> {
        let criteria = &command.criteria;
        let mut findings = Findings { found: Vec::new(), views: HashMap::new(), until: i64::MAX };
        if terms.is_empty() {
            return Ok(findings);
        }
        let query = storage::SearchQuery {
            rooms: self.searched_rooms(requester, &criteria.filter).await?,
            terms: terms.to_vec(),
            fields: fields(criteria.keys.as_deref()),
            until: token.map(|token| token.until),
            limit: HITS_MAX,
        };
        let hits = self.storage().search(&query).await?;
        findings.until = hits.iter().map(|hit| hit.number).max().unwrap_or(i64::MAX);
        let event_ids: Vec<_> = hits.into_iter().map(|hit: SearchHit| hit.event_id).collect();
        let ignored = self.ignored_users(&requester.user_id).await?;
        let mut events = self.storage().events(&event_ids).await?;
        events.retain(|event| {
            let is_ignored = event.pdu.state_key.is_none() && ignored.contains(&event.pdu.sender);
            !is_ignored && allows(&criteria.filter, &event.pdu) && command.relations.allows(&event.pdu)
        });
        for event in events {
            if let Some(seen) = self.seen_in(requester, event, &mut findings.views).await? {
                let rank = rank(&seen.event, terms);
                findings.found.push(Found { seen, rank });
            }
        }
        self.retain_related_found(&command.relations, &mut findings.found).await?;
        if criteria.order_by != Some(OrderBy::Recent) {
            // They are in order of time already, and equals stay in it.
            findings.found.sort_by_key(|found| Reverse(OrderedRank(found.rank)));
        }
        Ok(findings)
    }

    /// The rooms that the user is or was in, as far as the filter lets them through.
    async fn searched_rooms(&self, requester: &Requester, filter: &RoomEventFilter) -> Result<Vec<OwnedRoomId>> {
        let records = self.storage().memberships(&requester.user_id).await?;
        let wanted = records.into_iter().filter(|record| !record.forgotten && covers_room(filter, &record.room_id));
        Ok(wanted.map(|record| record.room_id).collect())
    }

    /// An event as the user sees it. Rooms that are encrypted are not searched.
    async fn seen_in(
        &self,
        requester: &Requester,
        event: Arc<StoredEvent>,
        views: &mut HashMap<OwnedRoomId, RoomView>,
    ) -> Result<Option<SeenEvent>> {
        let room_id = event.pdu.room_id.clone();
        if !views.contains_key(&room_id) {
            match self.reading_view(requester, &room_id).await {
                Ok(view) => drop(views.insert(room_id.clone(), view)),
                Err(EngineError::Forbidden(_) | EngineError::NotFound(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let view = views.get(&room_id).filter(|view| {
            let is_encrypted = view.room.state_event_id(&StateEventType::RoomEncryption, "").is_some();
            event.redacted_by.is_none() && !is_encrypted
        });
        Ok(view.and_then(|view| view.see(event)))
    }

    async fn retain_related_found(&self, filter: &RelationFilter, found: &mut Vec<Found>) -> Result<()> {
        if !filter.asks_for_children() {
            return Ok(());
        }
        let seen = found.iter().map(|found| found.seen.clone()).collect();
        let kept = self.retain_related(filter, seen).await?;
        let kept: BTreeSet<_> = kept.iter().map(|seen| seen.event.pdu.event_id.clone()).collect();
        found.retain(|found| kept.contains(&found.seen.event.pdu.event_id));
        Ok(())
    }
}

impl SearchToken {
    fn parse(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, '_');
        let mut part = || parts.next();
        let read = |offset: Option<&str>, until: Option<&str>, group: Option<&str>| {
            let group = match group {
                None => None,
                Some(id) if id.starts_with('!') => Some(Group::Room(id.try_into().ok()?)),
                Some(id) => Some(Group::Sender(id.try_into().ok()?)),
            };
            Some(Self { offset: offset?.parse().ok()?, until: until?.parse().ok().filter(|until| *until >= 0)?, group })
        };
        let parts = read(part(), part(), part());
        parts.ok_or_else(|| EngineError::invalid_param("Not a token of this server's /search"))
    }
}

impl std::fmt::Display for SearchToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}_{}", self.offset, self.until)?;
        match &self.group {
            None => Ok(()),
            Some(Group::Room(room_id)) => write!(formatter, "_{room_id}"),
            Some(Group::Sender(user_id)) => write!(formatter, "_{user_id}"),
        }
    }
}

/// The words of what is searched for.
fn terms(search_term: &str) -> Vec<String> {
    let normalised = normalised(search_term);
    let words: BTreeSet<&str> = normalised.split_whitespace().take(TERMS_MAX).collect();
    words.into_iter().map(ToOwned::to_owned).collect()
}

fn fields(keys: Option<&[SearchKeys]>) -> Vec<SearchField> {
    let field = |key: &SearchKeys| match key {
        SearchKeys::ContentBody => Some(SearchField::Body),
        SearchKeys::ContentName => Some(SearchField::Name),
        SearchKeys::ContentTopic => Some(SearchField::Topic),
        _ => None,
    };
    match keys {
        None => vec![SearchField::Body, SearchField::Name, SearchField::Topic],
        Some(keys) => keys.iter().filter_map(field).collect(),
    }
}

/// How well an event matches: how much of its text the words are, those that stand alone more so.
fn rank(event: &StoredEvent, terms: &[String]) -> f64 {
    let Some((_, text)) = text(&event.pdu) else { return 0.0 };
    let words: Vec<&str> = text.split(|character: char| !character.is_alphanumeric()).collect();
    let weight = |term: &String| {
        let whole = words.iter().filter(|word| *word == term).count();
        let matched = precise(text.matches(term.as_str()).count()) + precise(whole) * (WHOLE_WORD_WEIGHT - 1.0);
        matched * precise(term.len())
    };
    terms.iter().map(weight).sum::<f64>() / precise(text.len().max(1))
}

#[expect(clippy::cast_precision_loss, reason = "texts are far shorter than 2^52 bytes")]
fn precise(count: usize) -> f64 {
    count as f64
}

/// Ranks are finite, so that they have an order.
struct OrderedRank(f64);

impl PartialEq for OrderedRank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for OrderedRank {}

impl PartialOrd for OrderedRank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderedRank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
