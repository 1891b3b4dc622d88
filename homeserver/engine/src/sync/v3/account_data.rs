//! Account data as sync shows it.

use ruma::api::client::{
    filter::{Filter, RoomEventFilter},
    sync::sync_events::v3::{GlobalAccountData, RoomAccountData},
};
use serde::Serialize;
use serde_json::value::RawValue;
use storage::AccountDataRecord;

use super::raw;
use crate::{
    Result,
    sync::filter::{allows_global_type, allows_room_type, covers_room},
};

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    content: &'a RawValue,
}

impl<'a> From<&'a AccountDataRecord> for Event<'a> {
    fn from(record: &'a AccountDataRecord) -> Self {
        Self { event_type: &record.event_type, content: &record.content }
    }
}

/// Account data that is of no room.
pub(in crate::sync) fn global(records: &[AccountDataRecord], filter: &Filter) -> Result<GlobalAccountData> {
    let wanted = records.iter().filter(|record| allows_global_type(filter, &record.event_type));
    let mut shown = GlobalAccountData::new();
    shown.events = wanted.map(|record| raw(&Event::from(record))).collect::<Result<_>>()?;
    Ok(shown)
}

/// Account data of one room.
pub(in crate::sync) fn of_room(records: &[AccountDataRecord], filter: &RoomEventFilter) -> Result<RoomAccountData> {
    let is_wanted = |record: &&AccountDataRecord| {
        let covered = record.room_id.as_deref().is_some_and(|room_id| covers_room(filter, room_id));
        covered && allows_room_type(filter, &record.event_type)
    };
    let mut shown = RoomAccountData::new();
    shown.events = records.iter().filter(is_wanted).map(|record| raw(&Event::from(record))).collect::<Result<_>>()?;
    Ok(shown)
}
