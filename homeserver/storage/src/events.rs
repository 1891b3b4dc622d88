//! Events by id, and the graph between them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rules::{
    Pdu,
    change::{Position, Standing, StateEntry, StateReference},
};
use ruma::{EventId, OwnedEventId, RoomId};

use crate::{
    Result, Storage, StorageError,
    cache::{Reading, RowCache},
    dialect::{db, event_id_list, list, number_list, parsed},
    names::encode,
    state,
    turns::in_turns,
};

/// How many bytes of events are kept in memory.
const CACHED_BYTES: u64 = 32 << 20;
/// What an event takes in memory beside its JSON and its content, in bytes: its fields, once more as clients are shown
/// them, and the cache's own.
const EVENT_OVERHEAD: usize = 1_100;

/// How many events are read at once; then others have their turn.
const EVENTS_AT_ONCE: usize = 500;

/// An event as it is stored.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// The event. `rejected` is set from its standing.
    pub pdu: Arc<Pdu>,
    /// What the checks said.
    pub standing: Standing,
    /// Its place in the room's timeline: a position, or negative when it was backfilled; `None` when it has none.
    pub order: Option<i64>,
    /// The state before the event, when it is not the resolved state after the order before it.
    pub state_before: Option<StateReference>,
    /// The event that redacted it. The JSON is what remained.
    pub redacted_by: Option<OwnedEventId>,
}

/// Events by id that were used lately.
pub(crate) struct EventCache(RowCache<OwnedEventId, Arc<StoredEvent>>);

impl Default for EventCache {
    fn default() -> Self {
        Self(RowCache::new(CACHED_BYTES, |_, event: &Arc<StoredEvent>| {
            let content = event.pdu.content.get().len();
            // The content is there by itself and as clients are shown it.
            u32::try_from(event.pdu.json.len() + 2 * content + EVENT_OVERHEAD).unwrap_or(u32::MAX)
        }))
    }
}

impl EventCache {
    /// Puts in an event that is new in the database.
    pub(crate) fn put_new(&self, event: Arc<StoredEvent>) {
        self.0.put_new(event.pdu.event_id.clone(), event);
    }

    /// Forgets events that have changed.
    pub(crate) fn forget(&self, event_ids: &[OwnedEventId]) {
        if !event_ids.is_empty() {
            self.0.forget(event_ids);
        }
    }

    /// The size of all events in it, in bytes.
    pub(crate) fn forget_all(&self) {
        self.0.forget_all();
    }

    pub(crate) fn weight(&self) -> u64 {
        self.0.weight()
    }

    fn get(&self, event_id: &OwnedEventId) -> Option<Arc<StoredEvent>> {
        self.0.get(event_id)
    }

    fn offer(&self, reading: Reading, event: Arc<StoredEvent>) {
        self.0.offer(reading, event.pdu.event_id.clone(), event);
    }
}

/// Number, id, JSON, standing, reason, order, state base, redacted by.
type Row = (i64, String, String, i16, Option<String>, Option<i64>, Option<Position>, Option<String>);

/// Number of the event, type, state key, event, membership.
type DeltaRow = (i64, String, String, Option<String>, Option<String>);

impl Storage {
    /// An event, if it is stored.
    pub async fn event(&self, event_id: &EventId) -> Result<Option<Arc<StoredEvent>>> {
        Ok(self.events(&[event_id.to_owned()]).await?.pop())
    }

    /// Those of the events that are stored, in the order asked.
    pub async fn events(&self, event_ids: &[OwnedEventId]) -> Result<Vec<Arc<StoredEvent>>> {
        let mut events = Vec::with_capacity(event_ids.len());
        for (number, event_ids) in event_ids.chunks(EVENTS_AT_ONCE).enumerate() {
            if number > 0 {
                tokio::task::yield_now().await;
            }
            events.extend(self.some_events(event_ids).await?.into_iter().flatten());
        }
        Ok(events)
    }

    /// Some events, each in the place in which it was asked for.
    async fn some_events(&self, event_ids: &[OwnedEventId]) -> Result<Vec<Option<Arc<StoredEvent>>>> {
        let mut found: Vec<_> = event_ids.iter().map(|event_id| self.shared.events.get(event_id)).collect();
        let missing: Vec<&OwnedEventId> =
            event_ids.iter().zip(&found).filter(|(_, event)| event.is_none()).map(|(event_id, _)| event_id).collect();
        if !missing.is_empty() {
            let read = self.read_events(&missing).await?;
            for (event_id, slot) in event_ids.iter().zip(&mut found) {
                *slot = slot.take().or_else(|| read.get(event_id).cloned());
            }
        }
        Ok(found)
    }

    /// The same, for those who are only shown them: what cannot be read is left out, and the operator told. Never to be
    /// used for decisions, which would be others without it.
    pub async fn readable_events(&self, event_ids: &[OwnedEventId]) -> Result<Vec<Arc<StoredEvent>>> {
        match self.events(event_ids).await {
            Err(StorageError::Corrupt { .. }) => {}
            outcome => return outcome,
        }
        let mut readable = Vec::with_capacity(event_ids.len());
        for event_id in event_ids {
            match self.event(event_id).await {
                Ok(event) => readable.extend(event),
                Err(error @ StorageError::Corrupt { .. }) => {
                    tracing::error!(%event_id, %error, "an event cannot be read; leaving it out");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(readable)
    }

    async fn read_events(&self, event_ids: &[&OwnedEventId]) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>> {
        const SQL: &str = "SELECT event_nid, event_id, json, standing, reason, timeline_order, state_base, redacted_by
            FROM events WHERE event_id IN (SELECT value FROM json_each($1))";
        let reading = self.shared.events.0.reading();
        let asked = list(event_ids.iter().map(|event_id| event_id.as_str()));
        let rows: Vec<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(asked).fetch_all(pool).await)?;
        let forked: Vec<i64> = rows.iter().filter(|row| row.6.is_some()).map(|row| row.0).collect();
        let mut deltas = self.read_state_deltas(&forked).await?;
        let mut events = HashMap::with_capacity(rows.len());
        for row in rows {
            let delta = deltas.remove(&row.0).unwrap_or_default();
            let event = Arc::new(stored_event(row, delta)?);
            self.shared.events.offer(reading, Arc::clone(&event));
            events.insert(event.pdu.event_id.clone(), event);
        }
        Ok(events)
    }

    /// How the states before events differ from their bases, by the events' numbers.
    async fn read_state_deltas(&self, event_nids: &[i64]) -> Result<HashMap<i64, Vec<StateEntry>>> {
        const SQL: &str = "SELECT d.event_nid, t.name, k.name, d.event_id, d.membership FROM event_state_delta d
            JOIN names t ON t.name_nid = d.type_nid JOIN names k ON k.name_nid = d.state_key_nid
            WHERE d.event_nid IN (SELECT CAST(value AS BIGINT) FROM json_each($1))";
        let mut deltas: HashMap<i64, Vec<StateEntry>> = HashMap::new();
        if event_nids.is_empty() {
            return Ok(deltas);
        }
        let asked = number_list(event_nids.iter().copied());
        let rows: Vec<DeltaRow> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(asked).fetch_all(pool).await)?;
        for (nid, event_type, state_key, event_id, membership) in rows {
            let entry = state::entry((event_type, state_key, event_id, membership))?;
            deltas.entry(nid).or_default().push(entry);
        }
        Ok(deltas)
    }

    /// Which of the events are stored, with whatever standing.
    pub async fn event_ids_known(&self, event_ids: &[OwnedEventId]) -> Result<HashSet<OwnedEventId>> {
        const SQL: &str = "SELECT event_id FROM events WHERE event_id IN (SELECT value FROM json_each($1))";
        let asked = event_id_list(event_ids);
        let known: Vec<String> = db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(asked).fetch_all(pool).await)?;
        Ok(in_turns(known, |event_id: String| parsed_id(&event_id)).await?.into_iter().collect())
    }

    /// The given events and all of their ancestors by `auth_events`, as far as they are stored, in no particular order.
    pub async fn auth_chain(&self, event_ids: &[OwnedEventId]) -> Result<Vec<OwnedEventId>> {
        // Only state events are in event_auth: nothing else authorises anything.
        const SQL: &str = "WITH RECURSIVE chain (event_id) AS (
                SELECT value FROM json_each($1)
                UNION
                SELECT a.auth_event_id FROM chain c JOIN events e ON e.event_id = c.event_id
                    JOIN event_auth a ON a.event_nid = e.event_nid
            )
            SELECT e.event_id FROM chain c JOIN events e ON e.event_id = c.event_id";
        let mut from: HashSet<OwnedEventId> = event_ids.iter().cloned().collect();
        for event in self.events(event_ids).await? {
            from.extend(event.pdu.auth_events.iter().cloned());
        }
        let from = list(from.iter().map(|event_id| event_id.as_str()));
        let chain: Vec<String> = db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(from).fetch_all(pool).await)?;
        in_turns(chain, |event_id: String| parsed_id(&event_id)).await
    }

    /// Redactions that came before the events that they redact: pairs of such an event and its redaction.
    pub async fn awaited_redactions(&self, event_ids: &[OwnedEventId]) -> Result<Vec<(OwnedEventId, OwnedEventId)>> {
        const SQL: &str = "SELECT event_id, redacted_by FROM awaited_redactions
            WHERE event_id IN (SELECT value FROM json_each($1)) ORDER BY event_id, redacted_by";
        let asked = event_id_list(event_ids);
        let rows: Vec<(String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(asked).fetch_all(pool).await)?;
        let pair = |(event_id, redacted_by): (String, String)| {
            let event_id = parsed(&event_id, "awaited_redactions", "event_id")?;
            Ok((event_id, parsed(&redacted_by, "awaited_redactions", "redacted_by")?))
        };
        rows.into_iter().map(pair).collect()
    }

    /// The backward extremities: events that are missing from the timeline, each with a known event that names it in
    /// its `prev_events`, and the depth of that.
    pub async fn missing_prev_events(&self, room_id: &RoomId) -> Result<Vec<(OwnedEventId, OwnedEventId, u64)>> {
        const SQL: &str = "SELECT b.missing_event_id, e.event_id, b.depth FROM backward_extremities b
            JOIN events e ON e.event_nid = b.event_nid
            WHERE b.room_nid = (SELECT name_nid FROM names WHERE name = $1)";
        let name = encode(room_id.as_str());
        let rows: Vec<(String, String, i64)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(&*name).fetch_all(pool).await)?;
        let extremity = |(missing, known, depth): (String, String, i64)| {
            let missing = parsed(&missing, "backward_extremities", "missing_event_id")?;
            Ok((missing, parsed(&known, "events", "event_id")?, depth.unsigned_abs()))
        };
        rows.into_iter().map(extremity).collect()
    }
}

fn parsed_id(event_id: &str) -> Result<OwnedEventId> {
    parsed(event_id, "events", "event_id")
}

fn stored_event(row: Row, delta: Vec<StateEntry>) -> Result<StoredEvent> {
    let (_, event_id, json, standing, reason, order, state_base, redacted_by) = row;
    let reason = reason.unwrap_or_default();
    let standing = match standing {
        0 => Standing::Accepted,
        1 => Standing::SoftFailed(reason),
        2 => Standing::Rejected(reason),
        3 => Standing::Outlier,
        other => return Err(StorageError::corrupt("events", "standing", event_id, &other)),
    };
    let rejected = matches!(standing, Standing::Rejected(_));
    let pdu = Pdu::from_json(parsed(&event_id, "events", "event_id")?, json.into(), rejected)
        .map_err(|error| StorageError::corrupt("events", "json", event_id, &error))?;
    Ok(StoredEvent {
        pdu: Arc::new(pdu),
        standing,
        order,
        state_before: state_base.map(|base| StateReference { base, delta }),
        redacted_by: redacted_by.map(|id| parsed(&id, "events", "redacted_by")).transpose()?,
    })
}
