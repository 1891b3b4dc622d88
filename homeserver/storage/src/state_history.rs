//! One key of a room's state through time.

use ruma::{
    OwnedEventId, RoomId, UserId,
    events::{StateEventType, room::member::MembershipState},
};

use crate::{
    Result, Storage,
    dialect::{db, parsed},
    names::encode,
};

/// How long one value of a key held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSpan {
    /// The first timeline order at which it held.
    pub since: i64,
    /// The first timeline order at which it no longer held; `None` when it holds now.
    pub until: Option<i64>,
    /// The event; `None` when the key had no value, or which it had is not known.
    pub event_id: Option<OwnedEventId>,
    /// For `m.room.member`: the membership that the event gives.
    pub membership: Option<MembershipState>,
}

impl StateSpan {
    /// Whether the value held after the event at this order.
    pub fn contains(&self, order: i64) -> bool {
        self.since <= order && self.until.is_none_or(|until| order < until)
    }
}

/// Since, until, event, membership.
type Row = (i64, Option<i64>, Option<String>, Option<String>);
/// Whether it is of the user, and the same.
type SightRow = (bool, i64, Option<i64>, Option<String>, Option<String>);

impl Storage {
    /// All values that a key has had, oldest first.
    pub async fn state_history(
        &self,
        room_id: &RoomId,
        event_type: &StateEventType,
        state_key: &str,
    ) -> Result<Vec<StateSpan>> {
        const SQL: &str = "SELECT s.since, s.until, s.event_id, s.membership FROM room_state s
            WHERE s.room_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND s.type_nid = (SELECT name_nid FROM names WHERE name = $2)
            AND s.state_key_nid = (SELECT name_nid FROM names WHERE name = $3)
            ORDER BY s.since";
        let type_text = event_type.to_string();
        let (room, type_name, key) = (encode(room_id.as_str()), encode(&type_text), encode(state_key));
        let rows: Vec<Row> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(&*room).bind(&*type_name).bind(&*key).fetch_all(pool).await
        })?;
        rows.into_iter().map(span).collect()
    }

    /// What decides which events of a room a user may see: all memberships of the user, and all settings of who may read
    /// the history, each oldest first.
    pub async fn sight_history(&self, room_id: &RoomId, user_id: &UserId) -> Result<(Vec<StateSpan>, Vec<StateSpan>)> {
        const SQL: &str = "SELECT TRUE AS own, s.since AS since, s.until, s.event_id, s.membership FROM room_state s
                WHERE s.room_nid = (SELECT name_nid FROM names WHERE name = $1)
                AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.member')
                AND s.state_key_nid = (SELECT name_nid FROM names WHERE name = $2)
            UNION ALL SELECT FALSE, s.since, s.until, s.event_id, s.membership FROM room_state s
                WHERE s.room_nid = (SELECT name_nid FROM names WHERE name = $1)
                AND s.type_nid = (SELECT name_nid FROM names WHERE name = 'm.room.history_visibility')
                AND s.state_key_nid = (SELECT name_nid FROM names WHERE name = '')
            ORDER BY since";
        let (room, user) = (encode(room_id.as_str()), encode(user_id.as_str()));
        let rows: Vec<SightRow> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(&*room).bind(&*user).fetch_all(pool).await)?;
        let (mut memberships, mut visibilities) = (Vec::new(), Vec::new());
        for (own, since, until, event_id, membership) in rows {
            let spans = if own { &mut memberships } else { &mut visibilities };
            spans.push(span((since, until, event_id, membership))?);
        }
        Ok((memberships, visibilities))
    }
}

fn span((since, until, event_id, membership): Row) -> Result<StateSpan> {
    let event_id = event_id.map(|id| parsed(&id, "room_state", "event_id")).transpose()?;
    Ok(StateSpan { since, until, event_id, membership: membership.map(Into::into) })
}
