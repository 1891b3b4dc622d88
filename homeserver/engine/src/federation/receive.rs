//! One event that another server sent us: the one way in.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>

use std::sync::Arc;

use rules::{Pdu, RoomSnapshot, change::Standing};
use ruma::{
    RoomId, ServerName,
    events::{StateEventType, TimelineEventType},
};
use serde_json::value::RawValue;

use super::{append::Provenance, verify::Dropped};
use crate::{Engine, EngineError};

/// How often, for one event that was sent to us, we take another server's word for the state before an event.
const MAX_CLAIMED_STATES: usize = 3;

/// The word of another server for the states before events.
#[derive(Debug)]
pub(super) struct Claims {
    /// How often it is still taken.
    left: usize,
    /// Whether it is enough to reject an event for good.
    may_refuse: bool,
}

impl Claims {
    /// Of the server that sent an event.
    pub(super) fn of_sender() -> Self {
        Self { left: MAX_CLAIMED_STATES, may_refuse: true }
    }

    /// Of any other: it must not get the event of somebody else rejected by telling of an older state.
    pub(super) fn of_third() -> Self {
        Self { left: MAX_CLAIMED_STATES, may_refuse: false }
    }
}

impl Engine {
    /// Takes an event that `origin` sent for a room. Events of one room are taken one after the other.
    pub(crate) async fn receive(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        raw: &RawValue,
    ) -> Result<Standing, Dropped> {
        self.receive_with(origin, room_id, raw, Claims::of_sender()).await
    }

    /// Takes an event for a room, asking `origin` for what it lacks.
    pub(super) async fn receive_with(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        raw: &RawValue,
        mut claims: Claims,
    ) -> Result<Standing, Dropped> {
        let _turn = self.inner.ingest.lock(room_id.as_str()).await;
        let room = self.resident_room(room_id).await?.ok_or(Dropped::OtherRoom)?;
        let pdu = self.verified(room_id, &room.rules, raw).await?;
        // What was soft-failed may pass now: what it lacked may have come since.
        if let Some(stored) = self.stored_event(&pdu.event_id).await?
            && !matches!(stored.standing, Standing::Outlier | Standing::SoftFailed(_))
        {
            return Ok(stored.standing.clone());
        }
        if self.is_local(&pdu.sender) {
            return Err(Dropped::Impostor);
        }
        let sender_server = pdu.sender.server_name();
        let is_allowed = self.acl_allows(&room, sender_server).await?
            && (origin == sender_server || self.acl_allows(&room, origin).await?);
        if !is_allowed {
            return Err(self.denied(origin, &room, &pdu).await?);
        }
        let taken = async {
            self.fill_gap(origin, &room, &pdu, &mut claims).await?;
            self.take(origin, &room, &pdu, &mut claims).await
        };
        match taken.await {
            Err(Dropped::MissingAncestors | Dropped::UnverifiedState) => Err(self.set_aside(origin, &pdu).await),
            taken => taken,
        }
    }

    /// What becomes of an event whose server the room denies. Where not all members are known, nobody knows yet whether who
    /// has denied it since may do so: then it waits, if there is room for it.
    async fn denied(&self, origin: &ServerName, room: &RoomSnapshot, pdu: &Pdu) -> Result<Dropped, Dropped> {
        let acl = match room.state_event_id(&StateEventType::RoomServerAcl, "") {
            Some(event_id) if room.is_partial() => self.stored_event(event_id).await?,
            _ => None,
        };
        // What we were told of when we entered has no place in the timeline.
        if acl.is_none_or(|acl| acl.order.is_none_or(|order| order <= 0)) {
            return Ok(Dropped::BannedServer);
        }
        match self.set_aside(origin, pdu).await {
            Dropped::MissingAncestors => Ok(Dropped::BannedServer),
            dropped => Ok(dropped),
        }
    }

    /// Takes an event of ours that another server has put into a room that we are in: it may build on what that server
    /// has and we lack.
    pub(crate) async fn receive_own(&self, server: &ServerName, pdu: &Arc<Pdu>) -> crate::Result<()> {
        let _turn = self.inner.ingest.lock(pdu.room_id.as_str()).await;
        let room = self.resident_room(&pdu.room_id).await?;
        let room = room.ok_or_else(|| EngineError::forbidden("This server is not in the room"))?;
        let mut claims = Claims::of_sender();
        let taken = async {
            self.fill_gap(server, &room, pdu, &mut claims).await?;
            self.take(server, &room, pdu, &mut claims).await
        };
        match taken.await {
            Ok(Standing::Accepted) => Ok(()),
            Ok(Standing::SoftFailed(reason) | Standing::Rejected(reason)) => Err(EngineError::Forbidden(reason)),
            Ok(Standing::Outlier) => Err(EngineError::internal("an appended event became an outlier")),
            Err(Dropped::Engine(error)) => Err(error),
            Err(reason) => {
                Err(EngineError::CannotFederate(format!("{server} gave what does not fit the room: {reason}")))
            }
        }
    }

    /// Takes the events between the head of the room and `pdu`, if there are any. What lacks something of the state
    /// before one of them lacks it for `pdu` too: then nothing more is asked.
    async fn fill_gap(
        &self,
        origin: &ServerName,
        room: &RoomSnapshot,
        pdu: &Pdu,
        claims: &mut Claims,
    ) -> Result<(), Dropped> {
        let lacking = self.missing_prev(room, pdu).await?;
        if lacking.is_empty() {
            return Ok(());
        }
        for missing in self.fetch_gap(origin, room, pdu, &lacking).await? {
            if self.is_local(&missing.sender) || missing.event_id == pdu.event_id || self.is_taken(&missing).await? {
                continue;
            }
            match self.take(origin, room, &missing, claims).await {
                Ok(_) => {}
                Err(Dropped::UnverifiedState) => return Err(Dropped::UnverifiedState),
                Err(reason) => {
                    tracing::info!(room.id = %room.room_id, event.id = %missing.event_id, %reason, "gap not filled");
                }
            }
        }
        Ok(())
    }

    /// Whether an event was judged before, so that nothing needs to be fetched for it.
    async fn is_taken(&self, pdu: &Pdu) -> crate::Result<bool> {
        Ok(self.stored_event(&pdu.event_id).await?.is_some_and(|stored| stored.standing != Standing::Outlier))
    }

    async fn take(
        &self,
        origin: &ServerName,
        room: &RoomSnapshot,
        pdu: &Arc<Pdu>,
        claims: &mut Claims,
    ) -> Result<Standing, Dropped> {
        let taken = self.take_as(origin, room, pdu, claims).await;
        if !room.is_partial() || !matches!(taken, Err(Dropped::MissingAncestors)) {
            return taken;
        }
        match self.resident_room(&room.room_id).await? {
            // All members became known meanwhile: what is lacking can be asked for.
            Some(now) if !now.is_partial() => self.take_as(origin, &now, pdu, claims).await,
            _ => taken,
        }
    }

    async fn take_as(
        &self,
        origin: &ServerName,
        room: &RoomSnapshot,
        pdu: &Arc<Pdu>,
        claims: &mut Claims,
    ) -> Result<Standing, Dropped> {
        let lacking = self.missing_prev(room, pdu).await?;
        // While not all members are known, a state that another server claims would come with all of them.
        let provenance = if lacking.is_empty() {
            Provenance::Theirs
        } else if room.is_partial() {
            if !self.is_local(&pdu.sender) && !self.leaves_room_for_gap(pdu, lacking.len()).await? {
                return Err(Dropped::MissingAncestors);
            }
            Provenance::TheirsWhilePartial
        } else {
            claims.left = claims.left.checked_sub(1).ok_or(Dropped::MissingAncestors)?;
            let claimed = self.fetch_claimed_states(origin, room, pdu, &lacking).await?;
            let mut claimed = claimed.verified(self.world().clock.now_ms())?;
            claimed.gaps.is_any |= !claims.may_refuse;
            Provenance::TheirsWithStates(Arc::new(claimed))
        };
        // After the states, which most often hold them.
        self.fetch_auth_events(origin, room, pdu).await?;
        let standing = self.try_append(pdu, provenance).await?;
        if standing == Standing::Outlier {
            // Refused by a state that is not complete.
            return Err(Dropped::MissingAncestors);
        }
        if room.is_partial() && !lacking.is_empty() {
            self.inner.rooms.completing.forget_lacking(&pdu.room_id);
        }
        if let Standing::SoftFailed(reason) = &standing {
            self.set_aside_soft_failed(origin, pdu, reason).await?;
        }
        if standing == Standing::Accepted && pdu.is_state(&TimelineEventType::RoomGuestAccess) {
            // A task of its own: that many may leave is not for the other server to wait for.
            tokio::spawn(self.guests_leave(pdu.room_id.clone()));
        }
        if standing == Standing::Accepted && room.is_partial() && pdu.is_state(&TimelineEventType::RoomServerAcl) {
            self.hasten_completion(&pdu.room_id).await?;
        }
        if standing == Standing::Accepted && pdu.event_type == TimelineEventType::RoomMember {
            self.forget_remote_profile(&pdu.sender).await;
        }
        Ok(standing)
    }
}
