//! What the room state was in the past, learned by reading history backwards.
//!
//! Values that were there when we entered the room are stored as holding since the beginning of time. Each backfilled
//! state event says more: it holds from its own order on, and something else did before.

use rules::Pdu;
use ruma::{OwnedEventId, events::room::member::MembershipState};

use crate::{
    Result, StorageError,
    commit::write::{StateKeyNids, StateRow},
    database::Transaction,
    dialect::{db, is_storable, parsed},
    state::BEGINNING,
};

/// The least order that an event can have that came while we were in the room.
const FIRST_LIVE_ORDER: i64 = 1;

/// From `order` on the key had the event as its value, and `before` it had another.
pub(super) struct HistoricState {
    pub(super) key: StateKeyNids,
    pub(super) order: i64,
    pub(super) event_id: OwnedEventId,
    pub(super) membership: Option<MembershipState>,
    pub(super) before: Option<OwnedEventId>,
}

/// A stored value: since, until, event, membership.
type Span = (i64, Option<i64>, Option<String>, Option<String>);

impl HistoricState {
    pub(super) async fn write(&self, transaction: &mut Transaction) -> Result<()> {
        let mut rows = Vec::new();
        let beginning = match self.holding(transaction).await? {
            // The value was known, but not that it began here.
            Some((since, until, event_id, _)) if event_id.as_deref() == Some(self.event_id.as_str()) => {
                self.remove(since, transaction).await?;
                rows.push(self.row(self.order, until, Some(&self.event_id), self.membership.clone()));
                since
            }
            // Another value is known to hold afterwards, though nobody knows since when: the event stands for its own
            // moment only.
            Some((since, until, event_id, membership)) => {
                self.remove(since, transaction).await?;
                rows.push(self.row(self.order, Some(self.order + 1), Some(&self.event_id), self.membership.clone()));
                if until.is_none_or(|until| self.order + 1 < until) {
                    let event_id = event_id.map(|id| parsed(&id, "room_state", "event_id")).transpose()?;
                    rows.push(self.row(self.order + 1, until, event_id.as_ref(), membership.map(Into::into)));
                }
                since
            }
            None => {
                // Had it held when we entered the room, it would be known: what holds since is known from there on.
                let until = self.next(transaction).await?.unwrap_or(self.order + 1).min(FIRST_LIVE_ORDER);
                rows.push(self.row(self.order, Some(until), Some(&self.event_id), self.membership.clone()));
                BEGINNING
            }
        };
        if let Some(before) = self.before.as_ref().filter(|id| is_storable(id.as_str()) && beginning < self.order) {
            let membership = membership_of(before, transaction).await?;
            rows.push(self.row(beginning, Some(self.order), Some(before), membership));
        }
        StateRow::insert(&rows, transaction).await
    }

    fn row(
        &self,
        since: i64,
        until: Option<i64>,
        event_id: Option<&OwnedEventId>,
        membership: Option<MembershipState>,
    ) -> StateRow {
        StateRow { key: self.key, since, until, event_id: event_id.cloned(), membership }
    }

    /// The stored value at the order.
    async fn holding(&self, transaction: &mut Transaction) -> Result<Option<Span>> {
        const SQL: &str = "SELECT since, until, event_id, membership FROM room_state
            WHERE room_nid = $1 AND type_nid = $2 AND state_key_nid = $3
            AND since <= $4 AND (until IS NULL OR until > $4)";
        let (room_nid, type_nid, state_key_nid) = self.key;
        Ok(db!(transaction.connection(), |connection| {
            let query = sqlx::query_as(SQL).bind(room_nid).bind(type_nid).bind(state_key_nid).bind(self.order);
            query.fetch_optional(connection).await
        })?)
    }

    /// When the next stored value begins.
    async fn next(&self, transaction: &mut Transaction) -> Result<Option<i64>> {
        const SQL: &str = "SELECT MIN(since) FROM room_state
            WHERE room_nid = $1 AND type_nid = $2 AND state_key_nid = $3 AND since > $4";
        let (room_nid, type_nid, state_key_nid) = self.key;
        Ok(db!(transaction.connection(), |connection| {
            let query = sqlx::query_scalar(SQL).bind(room_nid).bind(type_nid).bind(state_key_nid).bind(self.order);
            query.fetch_one(connection).await
        })?)
    }

    async fn remove(&self, since: i64, transaction: &mut Transaction) -> Result<()> {
        const SQL: &str = "DELETE FROM room_state
            WHERE room_nid = $1 AND type_nid = $2 AND state_key_nid = $3 AND since = $4";
        let (room_nid, type_nid, state_key_nid) = self.key;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(room_nid).bind(type_nid).bind(state_key_nid).bind(since);
            query.execute(connection).await.map(drop)
        })?;
        Ok(())
    }
}

/// The membership that a stored member event gives.
async fn membership_of(event_id: &OwnedEventId, transaction: &mut Transaction) -> Result<Option<MembershipState>> {
    const SQL: &str = "SELECT json FROM events WHERE event_id = $1";
    let json: Option<String> = db!(transaction.connection(), |connection| {
        sqlx::query_scalar(SQL).bind(event_id.as_str()).fetch_optional(connection).await
    })?;
    let Some(json) = json else { return Ok(None) };
    let pdu = Pdu::from_json(event_id.clone(), json.into(), false)
        .map_err(|error| StorageError::corrupt("events", "json", event_id.as_str(), &error))?;
    Ok(pdu.membership().map(|(_, membership)| membership))
}
