//! The relations of local users to rooms.

use rules::change::Position;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId, events::room::member::MembershipState};
use serde_json::value::RawValue;

use crate::{
    Result, Storage, StorageError,
    dialect::{db, parsed},
    names::{decode, encode},
};

/// A local user's relation to a room.
#[derive(Clone, Debug)]
pub struct MembershipRecord {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The user.
    pub user_id: OwnedUserId,
    /// The membership.
    pub membership: MembershipState,
    /// The member event.
    pub event_id: OwnedEventId,
    /// Who sent the member event.
    pub sender: OwnedUserId,
    /// When it became so.
    pub position: Position,
    /// For invites and knocks: the stripped state, as a JSON array.
    pub stripped_state: Option<Box<RawValue>>,
    /// Whether the user wants to see nothing of the room any more.
    pub forgotten: bool,
}

/// Room, user, membership, event, sender, position, stripped state, forgotten.
type Row = (String, String, String, String, String, Position, Option<String>, bool);

impl Storage {
    /// All rooms that a user has or had to do with, forgotten ones included.
    pub async fn memberships(&self, user_id: &UserId) -> Result<Vec<MembershipRecord>> {
        const SQL: &str = "SELECT r.name, u.name, m.membership, m.event_id, s.name, m.position, m.stripped_state,
                m.forgotten
            FROM memberships m JOIN names u ON u.name_nid = m.user_nid JOIN names r ON r.name_nid = m.room_nid
            JOIN names s ON s.name_nid = m.sender_nid WHERE u.name = $1";
        let user = encode(user_id.as_str());
        let rows: Vec<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(&*user).fetch_all(pool).await)?;
        rows.into_iter().map(record).collect()
    }

    /// A user's relation to one room.
    pub async fn membership(&self, user_id: &UserId, room_id: &RoomId) -> Result<Option<MembershipRecord>> {
        const SQL: &str = "SELECT r.name, u.name, m.membership, m.event_id, s.name, m.position, m.stripped_state,
                m.forgotten
            FROM memberships m JOIN names u ON u.name_nid = m.user_nid JOIN names r ON r.name_nid = m.room_nid
            JOIN names s ON s.name_nid = m.sender_nid WHERE u.name = $1 AND r.name = $2";
        let (user, room) = (encode(user_id.as_str()), encode(room_id.as_str()));
        let row: Option<Row> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(&*user).bind(&*room).fetch_optional(pool).await)?;
        row.map(record).transpose()
    }

    /// The rooms that a user, of whatever server, is joined to as far as this server knows.
    pub async fn joined_rooms(&self, user_id: &UserId) -> Result<Vec<OwnedRoomId>> {
        const SQL: &str = "SELECT r.name FROM room_state s JOIN names r ON r.name_nid = s.room_nid
            WHERE s.state_key_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND s.until IS NULL AND s.membership = 'join'";
        let user = encode(user_id.as_str());
        let rooms: Vec<String> = db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(&*user).fetch_all(pool).await)?;
        rooms.into_iter().map(|room_id| parsed(&decode(room_id), "room_state", "room_nid")).collect()
    }

    /// Marks a room as forgotten by a user, until their membership changes again.
    pub async fn forget_room(&self, user_id: &UserId, room_id: &RoomId) -> Result<()> {
        const SQL: &str = "UPDATE memberships SET forgotten = TRUE
            WHERE user_nid = (SELECT name_nid FROM names WHERE name = $1)
            AND room_nid = (SELECT name_nid FROM names WHERE name = $2)";
        let (user, room) = (encode(user_id.as_str()), encode(room_id.as_str()));
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            sqlx::query(SQL).bind(&*user).bind(&*room).execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }
}

fn record(row: Row) -> Result<MembershipRecord> {
    let (room_id, user_id, membership, event_id, sender, position, stripped_state, forgotten) = row;
    let (room_id, user_id, sender) = (decode(room_id), decode(user_id), decode(sender));
    let stripped_state = stripped_state
        .map(RawValue::from_string)
        .transpose()
        .map_err(|error| StorageError::corrupt("memberships", "stripped_state", event_id.as_str(), &error))?;
    Ok(MembershipRecord {
        room_id: parsed(&room_id, "memberships", "room_nid")?,
        user_id: parsed(&user_id, "memberships", "user_nid")?,
        membership: membership.into(),
        event_id: parsed(&event_id, "memberships", "event_id")?,
        sender: parsed(&sender, "memberships", "sender_nid")?,
        position,
        stripped_state,
        forgotten,
    })
}
