//! What application services are still to be sent, and the rooms that they list.

use rules::change::Position;
use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId, RoomId};

use crate::{
    Result, Storage, StorageError,
    dialect::{db, is_storable, parsed, storable},
};

/// How far a service has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceQueue {
    /// The service.
    pub service: String,
    /// Everything up to this position is done with.
    pub position: Position,
    /// What is on its way.
    pub in_flight: Option<ServiceTransaction>,
}

/// A transaction, as it is sent until the service has taken it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTransaction {
    /// Its id.
    pub transaction_id: String,
    /// Up to which position it reaches.
    pub until: Position,
    /// What is sent: a JSON object, which as such holds no NUL character.
    pub body: String,
    /// The devices that messages in it are for, and up to which position.
    pub to_devices: Vec<(OwnedUserId, OwnedDeviceId, Position)>,
}

/// Service, position, transaction, up to where, body, devices.
type Row = (String, Position, Option<String>, Option<Position>, Option<String>, Option<String>);

impl Storage {
    /// How far a service has got; `None` if it is new.
    pub async fn service_queue(&self, service: &str) -> Result<Option<ServiceQueue>> {
        const SQL: &str = "SELECT service, position, transaction_id, transaction_until, body, to_devices
            FROM service_queues WHERE service = $1";
        let service = storable(service, "the id of a service")?;
        let row: Option<Row> = db!(self.read(), |pool| sqlx::query_as(SQL).bind(service).fetch_optional(pool).await)?;
        row.map(queue).transpose()
    }

    /// Notes how far a service has got, and what is on its way to it.
    pub async fn save_service_queue(&self, queue: &ServiceQueue) -> Result<()> {
        const SQL: &str = "INSERT INTO service_queues (service, position, transaction_id, transaction_until, body,
                to_devices) VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (service) DO UPDATE SET position = excluded.position,
                transaction_id = excluded.transaction_id, transaction_until = excluded.transaction_until,
                body = excluded.body, to_devices = excluded.to_devices";
        let service = storable(&queue.service, "the id of a service")?;
        // JSON as we write it has no NUL character, and no index holds it, so that it may be long.
        let in_flight = queue.in_flight.as_ref();
        let to_devices = in_flight.map(|transaction| serde_json::json!(transaction.to_devices).to_string());
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(SQL).bind(service).bind(queue.position);
            let query = query.bind(in_flight.map(|transaction| transaction.transaction_id.as_str()));
            let query = query.bind(in_flight.map(|transaction| transaction.until));
            let query = query.bind(in_flight.map(|transaction| transaction.body.as_str())).bind(to_devices);
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// Lists a room for a network of a service, or takes it out.
    pub async fn set_service_room(&self, service: &str, network: &str, room_id: &RoomId, listed: bool) -> Result<()> {
        const LIST: &str = "INSERT INTO service_rooms (service, network, room_id) VALUES ($1, $2, $3)
            ON CONFLICT (service, network, room_id) DO NOTHING";
        const UNLIST: &str = "DELETE FROM service_rooms WHERE service = $1 AND network = $2 AND room_id = $3";
        let (service, network) = (storable(service, "the id of a service")?, storable(network, "a network")?);
        let room_id = storable(room_id.as_str(), "a room id")?;
        let mut transaction = self.begin().await?;
        db!(transaction.connection(), |connection| {
            let query = sqlx::query(if listed { LIST } else { UNLIST }).bind(service).bind(network).bind(room_id);
            query.execute(connection).await.map(drop)
        })?;
        transaction.commit().await
    }

    /// The rooms that services list: those for one network of one of them, or all.
    pub async fn service_rooms(&self, network: Option<(&str, &str)>, limit: usize) -> Result<Vec<OwnedRoomId>> {
        const SQL: &str = "SELECT DISTINCT room_id FROM service_rooms
            WHERE ($1 = '' OR service = $1) AND ($2 = '' OR network = $2) ORDER BY room_id LIMIT +$3";
        let (service, network) = network.unwrap_or_default();
        if !is_storable(service) || !is_storable(network) {
            return Ok(Vec::new());
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rooms: Vec<String> = db!(self.read(), |pool| {
            sqlx::query_scalar(SQL).bind(service).bind(network).bind(limit).fetch_all(pool).await
        })?;
        rooms.iter().map(|room_id| parsed(room_id, "service_rooms", "room_id")).collect()
    }
}

fn queue((service, position, transaction_id, until, body, to_devices): Row) -> Result<ServiceQueue> {
    let corrupt =
        |error: &serde_json::Error| StorageError::corrupt("service_queues", "to_devices", service.as_str(), error);
    let to_devices = serde_json::from_str(to_devices.as_deref().unwrap_or("[]")).map_err(|error| corrupt(&error))?;
    let in_flight = match (transaction_id, until, body) {
        (Some(transaction_id), Some(until), Some(body)) => {
            Some(ServiceTransaction { transaction_id, until, body, to_devices })
        }
        _ => None,
    };
    Ok(ServiceQueue { service, position, in_flight })
}
