//! The directory of public rooms of another server.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#public-room-directory>

use http::Method;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, ServerName, UInt};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{CallError, Federation, path::Target};
use crate::CallLimits;

const PATH: &str = "/_matrix/federation/v1/publicRooms";

/// Which part of the directory is wanted.
#[derive(Clone, Debug, Default)]
pub struct PublicRoomsAsked {
    /// How many rooms at most.
    pub limit: u64,
    /// From where to read on.
    pub since: Option<String>,
    /// A text to search for.
    pub search_term: Option<String>,
    /// Only rooms of these types; `None` stands for rooms without one.
    pub room_types: Vec<Option<String>>,
    /// Whether rooms of other networks are wanted, too.
    pub include_all_networks: bool,
    /// Only rooms of this network.
    pub third_party_instance_id: Option<String>,
}

/// The answer: nothing of it is checked.
#[derive(Clone, Debug, Deserialize)]
pub struct PublicRoomsAnswer {
    /// The rooms.
    #[serde(deserialize_with = "ruma::serde::none_as_default")]
    pub chunk: Vec<Box<RawValue>>,
    /// From where to read on.
    #[serde(default)]
    pub next_batch: Option<String>,
    /// From where to read back.
    #[serde(default)]
    pub prev_batch: Option<String>,
    /// How many rooms there are.
    #[serde(default)]
    pub total_room_count_estimate: Option<u64>,
}

impl Federation {
    /// A part of the directory of a server. Only a filter needs the newer form of the call.
    pub async fn public_rooms(
        &self,
        destination: &ServerName,
        asked: PublicRoomsAsked,
    ) -> Result<PublicRoomsAnswer, CallError> {
        if asked.search_term.is_none() && asked.room_types.is_empty() {
            return self.get(destination, asked.into_target(), CallLimits::PUBLIC_ROOMS).await;
        }
        let (target, body) = (Target::new(PATH), asked.into_body());
        self.call(destination, Method::POST, target, Some(body), CallLimits::PUBLIC_ROOMS).await
    }
}

impl PublicRoomsAsked {
    fn into_target(self) -> Target {
        let mut target = Target::new(PATH).query("limit", &self.limit.to_string());
        if self.include_all_networks {
            target = target.query("include_all_networks", "true");
        }
        let optional = [("since", self.since), ("third_party_instance_id", self.third_party_instance_id)];
        let given = optional.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        given.fold(target, |target, (name, value)| target.query(name, value))
    }

    fn into_body(self) -> CanonicalJsonObject {
        let text = CanonicalJsonValue::String;
        let room_types = self.room_types.into_iter().map(|room_type| room_type.map_or(CanonicalJsonValue::Null, text));
        let mut filter = CanonicalJsonObject::new();
        let room_types: Vec<_> = room_types.collect();
        if !room_types.is_empty() {
            filter.insert("room_types".to_owned(), CanonicalJsonValue::Array(room_types));
        }
        filter.extend(self.search_term.map(|term| ("generic_search_term".to_owned(), text(term))));
        let mut body = CanonicalJsonObject::from([
            ("limit".to_owned(), CanonicalJsonValue::Integer(UInt::new_saturating(self.limit).into())),
            ("filter".to_owned(), CanonicalJsonValue::Object(filter)),
        ]);
        if self.include_all_networks {
            body.insert("include_all_networks".to_owned(), CanonicalJsonValue::Bool(true));
        }
        body.extend(self.since.map(|since| ("since".to_owned(), text(since))));
        body.extend(self.third_party_instance_id.map(|id| ("third_party_instance_id".to_owned(), text(id))));
        body
    }
}
