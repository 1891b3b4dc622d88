//! What other servers are still to be sent: a cursor into the log per server.

mod edus;
mod saving;

use std::{collections::HashMap, sync::Arc};

use rules::{Pdu, change::Position};
use ruma::{OwnedEventId, OwnedServerName, ServerName};

pub use self::edus::{DeviceListUpdate, OutboundEdu};
use crate::{
    ReceiptRecord, Result, Storage, StorageError,
    dialect::{db, parsed, storable},
    log::LogKind,
    names::{decode, encode},
};

/// How much the EDUs of one answer may hold, in bytes, but for the first: with the events beside them they fit into the
/// 13 MB that servers take.
const EDU_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How far another server has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The server.
    pub server: OwnedServerName,
    /// Everything up to this position has been sent to it.
    pub cursor: Position,
    /// The transaction that is being sent: its id, and up to which position it reaches.
    pub in_flight: Option<(String, Position)>,
    /// Since when nothing gets through, in milliseconds since the epoch.
    pub failing_since_ts: Option<u64>,
    /// When to try again, in milliseconds since the epoch.
    pub retry_at_ts: Option<u64>,
    /// How many attempts failed in a row.
    pub failures: u32,
}

/// Something that another server is to be sent.
#[derive(Clone, Debug)]
pub enum OutboundItem {
    /// An event.
    Event(Position, Arc<Pdu>),
    /// A read receipt of a local user.
    Receipt(Position, ReceiptRecord),
    /// A change of a device of a local user.
    DeviceList(Position, Box<DeviceListUpdate>),
    /// An EDU.
    Edu(Position, OutboundEdu),
}

/// What a server is to be sent next.
#[derive(Clone, Debug, Default)]
pub struct Outbound {
    /// In the order of positions.
    pub items: Vec<OutboundItem>,
    /// Whether nothing was left out for want of room.
    pub is_complete: bool,
}

/// Server, cursor, transaction in flight and up to where, failing since, retry at, failures.
type Row = (String, Position, Option<String>, Option<Position>, Option<i64>, Option<i64>, i64);

impl Storage {
    /// All servers that have a row.
    pub async fn destinations(&self) -> Result<Vec<Destination>> {
        const SQL: &str = "SELECT server, cursor, in_flight_transaction, in_flight_until, failing_since_ts,
            retry_at_ts, failures FROM destinations";
        let rows: Vec<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).fetch_all(pool).await)?;
        rows.into_iter().map(destination).collect()
    }

    /// How far a server has got; cursor 0 and no failures when there is no row.
    pub async fn destination(&self, server: &ServerName) -> Result<Destination> {
        const SQL: &str = "SELECT server, cursor, in_flight_transaction, in_flight_until, failing_since_ts,
            retry_at_ts, failures FROM destinations WHERE server = $1";
        let name = storable(server.as_str(), "a server name")?;
        let row: Option<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(name).fetch_optional(pool).await)?;
        row.map_or_else(|| Ok(Destination::new(server.to_owned())), destination)
    }

    /// What a server is to be sent from the log after `cursor`, in the order of positions: events and receipts of local
    /// users in rooms that the server was in before that position, events that it is told of though it was not, and what
    /// is for the server itself, such as messages to devices. Stops before either maximum would be exceeded: of events,
    /// and of what goes as EDUs.
    /// Receipts that have moved on since are left out: they come again at their new position. So are, up to `latest_until`,
    /// all events of a room but the latest.
    pub async fn outbound_since(
        &self,
        server: &ServerName,
        cursor: Position,
        until: Option<Position>,
        max_events: usize,
        max_edus: usize,
        latest_until: Position,
    ) -> Result<Outbound> {
        // One row more than may be answered, to notice that a maximum is reached.
        let limit = i64::try_from(max_events.saturating_add(max_edus).saturating_add(1)).unwrap_or(i64::MAX);
        let until = until.unwrap_or(Position::MAX);
        let rows = self.outbound_rows(server, cursor, until, limit, latest_until).await?;
        // What lies beyond the last row that was read is not looked at yet.
        let read_until = if rows.len() as i64 == limit { rows.last().map_or(until, |row| row.position) } else { until };
        let edus = self.outbound_edus(server, cursor, read_until, limit).await?;
        let mut order: Vec<_> = rows.iter().map(|row| (row.position, row.kind)).chain(edus).collect();
        order.sort_unstable_by_key(|(position, _)| *position);
        let (mut events_left, mut edus_left) = (max_events, max_edus);
        let is_within = |(_, kind): &(Position, LogKind)| {
            let is_event = matches!(kind, LogKind::Event | LogKind::Resend);
            let left = if is_event { &mut events_left } else { &mut edus_left };
            *left = left.checked_sub(1)?;
            Some(())
        };
        let within = order.iter().map_while(is_within).count();
        let all_read = rows.len() < limit as usize && within == order.len();
        order.truncate(within);
        let expected = order.len();
        let (items, looked_at) = self.outbound_items(server, cursor, order, rows).await?;
        Ok(Outbound { items, is_complete: all_read && looked_at == expected })
    }

    async fn outbound_rows(
        &self,
        server: &ServerName,
        cursor: Position,
        until: Position,
        limit: i64,
        latest_until: Position,
    ) -> Result<Vec<OutboundRow>> {
        // 1 is the kind of events, 3 that of receipts.
        const SQL: &str = "SELECT l.position, l.kind, r.name, l.event_id FROM log l
            JOIN names r ON r.name_nid = l.room_nid
            WHERE l.outbound AND l.position > $2 AND l.position <= $3 AND (EXISTS (
                SELECT 1 FROM room_servers s WHERE s.room_nid = l.room_nid
                AND s.server_nid = (SELECT name_nid FROM names WHERE name = $1)
                AND s.since < l.position AND (s.until IS NULL OR s.until >= l.position)
            ) OR EXISTS (
                SELECT 1 FROM log_recipients t WHERE t.position = l.position
                AND t.server_nid = (SELECT name_nid FROM names WHERE name = $1)
            )) AND (l.kind <> 3 OR EXISTS (
                SELECT 1 FROM receipts p WHERE p.room_nid = l.room_nid AND p.position = l.position
            )) AND (l.kind <> 1 OR NOT EXISTS (
                SELECT 1 FROM log n JOIN room_servers s ON s.room_nid = n.room_nid
                WHERE n.room_nid = l.room_nid AND n.outbound AND n.kind = 1 AND n.position > l.position
                AND n.position <= $5 AND s.server_nid = (SELECT name_nid FROM names WHERE name = $1)
                AND s.since < n.position AND (s.until IS NULL OR s.until >= n.position)
            )) ORDER BY l.position LIMIT +$4";
        let name = encode(server.as_str());
        let rows: Vec<(Position, i16, String, Option<String>)> = db!(self.read(), |pool| {
            let query = sqlx::query_as(SQL).bind(&*name).bind(cursor).bind(until).bind(limit).bind(latest_until);
            query.fetch_all(pool).await
        })?;
        let row = |(position, kind, room, event_id): (Position, i16, String, Option<String>)| {
            let event_id = parsed(&event_id.unwrap_or_default(), "log", "event_id")?;
            let kind = if i64::from(kind) == LogKind::Receipt.code() { LogKind::Receipt } else { LogKind::Event };
            Ok(OutboundRow { position, kind, room, event_id })
        };
        rows.into_iter().map(row).collect()
    }

    async fn outbound_items(
        &self,
        server: &ServerName,
        cursor: Position,
        order: Vec<(Position, LogKind)>,
        rows: Vec<OutboundRow>,
    ) -> Result<(Vec<OutboundItem>, usize)> {
        let last = order.last().map_or(cursor, |(position, _)| *position);
        let (receipts, events): (Vec<_>, Vec<_>) =
            rows.into_iter().filter(|row| row.position <= last).partition(|row| row.kind == LogKind::Receipt);
        let event_ids: Vec<OwnedEventId> = events.into_iter().map(|row| row.event_id).collect();
        let stored = self.events(&event_ids).await?;
        let mut pdus: HashMap<Position, Arc<Pdu>> =
            stored.iter().filter_map(|event| Some((event.order?, Arc::clone(&event.pdu)))).collect();
        let mut records: HashMap<Position, ReceiptRecord> = HashMap::new();
        if !receipts.is_empty() {
            let (rooms, positions) = (receipts.iter().map(|row| row.room.as_str()), receipts.iter());
            let found = self.receipts_at(rooms, positions.map(|row| row.position)).await?;
            records.extend(found.into_iter().map(|receipt| (receipt.position, receipt)));
        }
        let missing = |position: Position| {
            move || StorageError::corrupt("log", "event_id", position.to_string(), &"the event is not stored")
        };
        let (mut items, mut edu_bytes, mut looked_at) = (Vec::with_capacity(order.len()), 0, 0);
        for (position, kind) in order {
            let item = match kind {
                // A receipt that moved between the two queries comes again later.
                LogKind::Receipt => records.remove(&position).map(|receipt| OutboundItem::Receipt(position, receipt)),
                LogKind::Event => {
                    Some(OutboundItem::Event(position, pdus.remove(&position).ok_or_else(missing(position))?))
                }
                _ => self.outbound_edu(server, cursor, position, kind).await?,
            };
            if let Some(OutboundItem::Edu(_, edu)) = &item {
                edu_bytes += edu.content.get().len();
                if edu_bytes > EDU_BYTES_MAX && !items.is_empty() {
                    break;
                }
            }
            looked_at += 1;
            items.extend(item);
        }
        Ok((items, looked_at))
    }

    /// All servers that have something to be sent to them.
    pub async fn destinations_behind(&self) -> Result<Vec<OwnedServerName>> {
        const SQL: &str = "SELECT name FROM names WHERE name_nid IN (
                SELECT s.server_nid FROM room_servers s WHERE EXISTS (
                    SELECT 1 FROM log l WHERE l.outbound AND l.room_nid = s.room_nid AND l.position > s.since
                    AND (s.until IS NULL OR l.position <= s.until) AND l.position > COALESCE((
                        SELECT d.cursor FROM names n JOIN destinations d ON d.server = n.name
                        WHERE n.name_nid = s.server_nid
                    ), 0)
                ) UNION SELECT t.server_nid FROM log_recipients t WHERE t.position > COALESCE((
                    SELECT d.cursor FROM names n JOIN destinations d ON d.server = n.name
                    WHERE n.name_nid = t.server_nid
                ), 0)
            )";
        let names: Vec<String> = db!(self.read(), |pool| sqlx::query_scalar(SQL).fetch_all(pool).await)?;
        names.into_iter().map(|name| parsed(&decode(name), "names", "name")).collect()
    }
}

impl Destination {
    /// A server that was never sent anything.
    pub fn new(server: OwnedServerName) -> Self {
        Self { server, cursor: 0, in_flight: None, failing_since_ts: None, retry_at_ts: None, failures: 0 }
    }
}

/// An entry of the log that a server is to be sent.
struct OutboundRow {
    position: Position,
    kind: LogKind,
    /// The encoded name of the room.
    room: String,
    event_id: OwnedEventId,
}

fn destination(row: Row) -> Result<Destination> {
    let (server, cursor, in_flight, in_flight_until, failing_since_ts, retry_at_ts, failures) = row;
    Ok(Destination {
        server: parsed(&server, "destinations", "server")?,
        cursor,
        in_flight: in_flight.zip(in_flight_until),
        failing_since_ts: failing_since_ts.map(i64::unsigned_abs),
        retry_at_ts: retry_at_ts.map(i64::unsigned_abs),
        failures: u32::try_from(failures).unwrap_or(u32::MAX),
    })
}
