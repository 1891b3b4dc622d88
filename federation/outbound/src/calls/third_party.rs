//! Having an invitation of an address made one of a user.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#third-party-invites>

use http::Method;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, RoomId, ServerName, UserId};
use serde::de::IgnoredAny;

use super::{CallError, Federation, path::Target};
use crate::CallLimits;

impl Federation {
    /// Asks the server of whoever invited an address to invite the user of ours whose it is, on the strength of what an
    /// identity server has signed.
    pub async fn exchange_third_party_invite(
        &self,
        destination: &ServerName,
        room_id: &RoomId,
        sender: &UserId,
        target: &UserId,
        third_party_invite: CanonicalJsonObject,
    ) -> Result<(), CallError> {
        let text = |text: &str| CanonicalJsonValue::String(text.to_owned());
        let content = CanonicalJsonObject::from([
            ("membership".to_owned(), text("invite")),
            ("third_party_invite".to_owned(), CanonicalJsonValue::Object(third_party_invite)),
        ]);
        let body = CanonicalJsonObject::from([
            ("type".to_owned(), text("m.room.member")),
            ("room_id".to_owned(), text(room_id.as_str())),
            ("sender".to_owned(), text(sender.as_str())),
            ("state_key".to_owned(), text(target.as_str())),
            ("content".to_owned(), CanonicalJsonValue::Object(content)),
        ]);
        let path = Target::new("/_matrix/federation/v1/exchange_third_party_invite").segment(room_id.as_str());
        let _: IgnoredAny = self.call(destination, Method::PUT, path, Some(body), CallLimits::INVITE).await?;
        Ok(())
    }
}
