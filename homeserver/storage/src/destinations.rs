//! What other servers are still to be sent: a cursor into the log per server.

use std::sync::Arc;

use rules::{Pdu, change::Position};
use ruma::{OwnedServerName, ServerName};

use crate::{ReceiptRecord, Result, Storage};

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
}

impl Storage {
    /// All servers that have a row.
    pub async fn destinations(&self) -> Result<Vec<Destination>> {
        todo!()
    }

    /// How far a server has got; cursor 0 and no failures when there is no row.
    pub async fn destination(&self, server: &ServerName) -> Result<Destination> {
        todo!()
    }

    /// What a server is to be sent from the log after `cursor`, in the order of positions: events and receipts of local
    /// users in rooms that the server was in before that position. Stops before either maximum would be exceeded.
    pub async fn outbound_since(
        &self,
        server: &ServerName,
        cursor: Position,
        until: Option<Position>,
        max_events: usize,
        max_receipts: usize,
    ) -> Result<Vec<OutboundItem>> {
        todo!()
    }

    /// Replaces the row of a server.
    pub async fn save_destination(&self, destination: &Destination) -> Result<()> {
        todo!()
    }

    /// All servers that have something to be sent to them.
    pub async fn destinations_behind(&self) -> Result<Vec<OwnedServerName>> {
        todo!()
    }
}
