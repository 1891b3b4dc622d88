//! Deactivation of an account, for good.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate>

use ruma::{UserId, events::room::member::MembershipState};

use super::{Requester, to_the_end};
use crate::{Engine, EngineError, Result};

impl Engine {
    /// Leaves all rooms, then takes password and sessions away. In this order a user whose server stopped half-way can
    /// ask again. With `erase` the profile goes too, and what the user sent is from now on shown only to those who were
    /// in the room when it was sent.
    pub async fn deactivate(&self, user_id: &UserId, erase: bool) -> Result<()> {
        if self.storage().account(user_id).await?.is_none() {
            return Err(EngineError::not_found("No such user"));
        }
        let engine = self.clone();
        let user_id = user_id.to_owned();
        to_the_end(async move {
            if erase {
                engine.forget_erased_profile(&user_id).await?;
            }
            engine.leave_all_rooms(&user_id).await?;
            engine.delete_other_devices(&user_id, None).await?;
            engine.storage().deactivate_account(&user_id, erase).await?;
            tracing::info!(user.id = %user_id, "account deactivated");
            Ok(())
        })
        .await?
    }

    /// Member events tell the profile to other servers; the last ones are to tell none.
    async fn forget_erased_profile(&self, user_id: &UserId) -> Result<()> {
        self.storage().set_display_name(user_id, None).await?;
        self.storage().set_avatar_url(user_id, None).await?;
        self.refresh_member_events(user_id).await
    }

    /// A room that cannot be left, because its other servers are gone or do not answer, keeps nobody here.
    async fn leave_all_rooms(&self, user_id: &UserId) -> Result<()> {
        let requester = Requester { user_id: user_id.to_owned(), device_id: "DEACTIVATION".into() };
        for record in self.storage().memberships(user_id).await? {
            let is_in =
                matches!(record.membership, MembershipState::Join | MembershipState::Invite | MembershipState::Knock);
            if !is_in {
                continue;
            }
            if let Err(error) = self.leave(&requester, &record.room_id, None).await {
                let room_id = &record.room_id;
                tracing::warn!(user.id = %user_id, room.id = %room_id, %error, "could not leave at deactivation");
            }
        }
        Ok(())
    }
}
