//! What other servers are to be sent that is of no room: updates of device lists, and EDUs that must not get lost.

use std::sync::Arc;

use rules::change::Position;
use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName};
use serde_json::value::RawValue;

use crate::{
    DeviceKeysRecord, KeySignatureRecord, OutboundItem, Result, Storage,
    database::Transaction,
    device_keys::json,
    dialect::{db, number_list, parsed},
    log::LogKind,
    names::{decode, encode},
};

/// How many earlier updates of one user are looked through for the last one that a server was sent. Beyond that the
/// server is told of one that it never got, and asks for all devices.
const CHAIN_MAX: i64 = 500;

/// A change of a device of a local user.
#[derive(Clone, Debug)]
pub struct DeviceListUpdate {
    /// Whose.
    pub user_id: OwnedUserId,
    /// Which device.
    pub device_id: OwnedDeviceId,
    /// The name of the device, if it is still there.
    pub display_name: Option<String>,
    /// Its keys as they are now, if it has any.
    pub keys: Option<DeviceKeysRecord>,
    /// The signatures of its owner on it that came later.
    pub signatures: Vec<KeySignatureRecord>,
    /// Whether the device is gone.
    pub deleted: bool,
    /// The position of the last change of the device: the number of this update. A server that the device is made known
    /// to gets the number that the others had.
    pub stream_id: Position,
    /// The position of the update of the same user that the server was sent before; 0 when there was none.
    pub previous: Position,
}

/// An EDU.
#[derive(Clone, Debug)]
pub struct OutboundEdu {
    /// Its type.
    pub edu_type: String,
    /// Its content.
    pub content: Box<RawValue>,
}

impl Storage {
    /// What of no room a server is to be sent with `cursor < position <= until`. Updates of devices that changed again
    /// since are left out.
    pub(super) async fn outbound_edus(
        &self,
        server: &ServerName,
        cursor: Position,
        until: Position,
        limit: i64,
    ) -> Result<Vec<(Position, LogKind)>> {
        const SQL: &str = "SELECT t.position, l.kind FROM log_recipients t JOIN log l ON l.position = t.position
            WHERE l.room_nid IS NULL
            AND t.server_nid = (SELECT name_nid FROM names WHERE name = $1) AND t.position > $2 AND t.position <= $3
            AND NOT EXISTS (SELECT 1 FROM device_list_log d JOIN device_list_log e ON e.user_nid = d.user_nid
                AND e.position > d.position AND e.device_id = d.device_id AND e.position <= $3
                JOIN log_recipients f ON f.position = e.position AND f.server_nid = t.server_nid
                WHERE d.position = t.position)
            ORDER BY t.position LIMIT +$4";
        let name = encode(server.as_str());
        let rows: Vec<(Position, i16)> = db!(self.read(), |pool| {
            sqlx::query_as(SQL).bind(&*name).bind(cursor).bind(until).bind(limit).fetch_all(pool).await
        })?;
        let kind = |(position, kind)| {
            let is_of = |expected: &LogKind| i64::from(kind) == expected.code();
            (position, [LogKind::DeviceList, LogKind::Resend].into_iter().find(is_of).unwrap_or(LogKind::Edu))
        };
        Ok(rows.into_iter().map(kind).collect())
    }

    /// The item at a position; `None` when it is gone.
    pub(super) async fn outbound_edu(
        &self,
        server: &ServerName,
        cursor: Position,
        position: Position,
        kind: LogKind,
    ) -> Result<Option<OutboundItem>> {
        const SQL: &str = "SELECT type, content FROM outbound_edus WHERE position = $1";
        if kind == LogKind::DeviceList {
            let update = self.device_list_update(server, cursor, position).await?;
            return Ok(update.map(|update| OutboundItem::DeviceList(position, Box::new(update))));
        }
        if kind == LogKind::Resend {
            return self.outbound_again(position).await;
        }
        let row: Option<(String, String)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(position).fetch_optional(pool).await)?;
        let Some((edu_type, content)) = row else { return Ok(None) };
        let content = json(content, "outbound_edus", &position.to_string())?;
        Ok(Some(OutboundItem::Edu(position, OutboundEdu { edu_type, content })))
    }

    /// A stored event that is sent once more.
    async fn outbound_again(&self, position: Position) -> Result<Option<OutboundItem>> {
        const SQL: &str = "SELECT event_id FROM log WHERE position = $1";
        let event_id: Option<String> =
            db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(position).fetch_one(pool).await)?;
        let event_id = parsed(&event_id.unwrap_or_default(), "log", "event_id")?;
        let found = self.events(&[event_id]).await?;
        Ok(found.into_iter().next().map(|event| OutboundItem::Event(position, Arc::clone(&event.pdu))))
    }

    async fn device_list_update(
        &self,
        server: &ServerName,
        cursor: Position,
        position: Position,
    ) -> Result<Option<DeviceListUpdate>> {
        const SQL: &str = "SELECT n.name, d.device_id, d.viewer_nid IS NOT NULL, (SELECT MAX(e.position)
                FROM device_list_log e WHERE e.user_nid = d.user_nid AND e.device_id = d.device_id
                AND e.position <= d.position AND e.viewer_nid IS NULL)
            FROM device_list_log d JOIN names n ON n.name_nid = d.user_nid
            WHERE d.position = $1 AND d.device_id IS NOT NULL";
        let row: Option<(String, String, bool, Option<Position>)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(position).fetch_optional(pool).await)?;
        let Some((user_id, device_id, is_introduction, changed_at)) = row else { return Ok(None) };
        let user_id: OwnedUserId = parsed(&decode(user_id), "device_list_log", "user_nid")?;
        let device_id = OwnedDeviceId::from(device_id);
        let device = self.device(&user_id, &device_id).await?;
        let keys = self.device_keys_of(&user_id, &device_id).await?;
        let mut signatures = self.key_signatures(std::slice::from_ref(&user_id), None).await?;
        signatures.retain(|signature| signature.target_id == device_id);
        // Who is told of a device for the first time has nothing that this could follow.
        let previous = if is_introduction { 0 } else { self.previous_update(server, cursor, position).await? };
        let stream_id = changed_at.unwrap_or(position);
        let deleted = device.is_none() && keys.is_none();
        let display_name = device.and_then(|device| device.display_name);
        Ok(Some(DeviceListUpdate { user_id, device_id, display_name, keys, signatures, deleted, stream_id, previous }))
    }

    /// The last update of the same user before a position that a server was, or will be, sent.
    async fn previous_update(&self, server: &ServerName, cursor: Position, position: Position) -> Result<Position> {
        // What was sent is forgotten; but what is above the cursor still says to whom it goes. What only some were told,
        // to whom the device was new, is no link in the chain.
        const SQL: &str = "SELECT d.position, CASE WHEN d.position <= $3 THEN 0 ELSE (
                SELECT COUNT(*) FROM device_list_log e JOIN log_recipients f ON f.position = e.position
                WHERE e.user_nid = d.user_nid AND e.position > d.position AND e.device_id = d.device_id
                AND e.viewer_nid IS NULL AND f.server_nid = (SELECT name_nid FROM names WHERE name = $2)) END
            FROM device_list_log d
            WHERE d.user_nid = (SELECT user_nid FROM device_list_log WHERE position = $1)
            AND d.position < $1 AND d.device_id IS NOT NULL AND d.viewer_nid IS NULL ORDER BY d.position DESC LIMIT +$4";
        let name = encode(server.as_str());
        let rows: Vec<(Position, i64)> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(position).bind(&*name).bind(cursor).bind(CHAIN_MAX);
            query.fetch_all(pool).await
        })?;
        Ok(rows.into_iter().find(|(_, later)| *later == 0).map_or(0, |(previous, _)| previous))
    }

    /// The servers that are to be sent what is at a position, beside those in a room.
    pub async fn recipients_without_room_at(&self, position: Position) -> Result<Vec<OwnedServerName>> {
        const SQL: &str = "SELECT n.name FROM log_recipients t JOIN names n ON n.name_nid = t.server_nid
            WHERE t.position = $1";
        let names: Vec<String> = db!(self.read(), |pool| sqlx::query_scalar(SQL).bind(position).fetch_all(pool).await)?;
        names.into_iter().map(|name| parsed(&decode(name), "names", "name")).collect()
    }
}

/// Forgets what a server has been sent, and what nobody is to be sent any more.
pub(super) async fn forget_delivered(transaction: &mut Transaction, server: &str, cursor: Position) -> Result<()> {
    const ROWS: &str = "DELETE FROM log_recipients WHERE position <= $2
        AND server_nid = (SELECT name_nid FROM names WHERE name = $1) RETURNING position";
    const EDUS: &str = "DELETE FROM outbound_edus WHERE position IN (SELECT CAST(value AS BIGINT) FROM json_each($1))
        AND NOT EXISTS (SELECT 1 FROM log_recipients t WHERE t.position = outbound_edus.position)";
    let name = encode(server);
    let delivered: Vec<Position> = db!(transaction.connection(), |connection| {
        sqlx::query_scalar(ROWS).bind(&*name).bind(cursor).fetch_all(connection).await
    })?;
    if !delivered.is_empty() {
        let delivered = number_list(delivered);
        db!(transaction.connection(), |connection| {
            sqlx::query(EDUS).bind(delivered).execute(connection).await.map(drop)
        })?;
    }
    Ok(())
}
