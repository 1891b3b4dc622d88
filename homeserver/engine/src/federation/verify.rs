//! Checks 1 to 3 on receipt of a PDU: form, signatures, content hash. And that it is of the room it was asked for.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>

use std::{collections::VecDeque, sync::Arc};

use outbound::{KeyNeeds, VerifyError};
use rules::{
    Pdu, PduError,
    event::{ReadError, read_json, read_pdu},
};
use ruma::{
    CanonicalJsonObject, OwnedRoomId, RoomId, canonical_json::redact_in_place, room_version_rules::RoomVersionRules,
    signatures::Verified,
};
use serde_json::value::RawValue;
use tokio::task::JoinHandle;

use crate::{Engine, EngineError};

/// How many events one task verifies: some ten milliseconds of work.
const VERIFIED_BY_ONE_TASK: usize = 256;
/// After how many events others get a turn.
const VERIFIED_AT_ONCE: usize = 16;

/// How many tasks can work at the same time.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Gives some of the events to each of several tasks on all cores, and hands on what these make of them, in order. One
/// that panicked has made nothing.
async fn on_all_cores<T, W>(raws: &[Box<RawValue>], work: impl Fn(Vec<Box<RawValue>>) -> W + Send + Sync) -> Vec<T>
where
    T: Send + Default + 'static,
    W: Future<Output = T> + Send + 'static,
{
    let (mut outcomes, mut running) = (Vec::new(), VecDeque::new());
    for raws in raws.chunks(VERIFIED_BY_ONE_TASK) {
        if running.len() >= cores() {
            outcomes.push(outcome(running.pop_front()).await);
        }
        running.push_back(tokio::spawn(work(raws.to_vec())));
    }
    while !running.is_empty() {
        outcomes.push(outcome(running.pop_front()).await);
    }
    outcomes
}

async fn outcome<T: Default>(task: Option<JoinHandle<T>>) -> T {
    match task {
        Some(task) => task.await.unwrap_or_default(),
        None => T::default(),
    }
}

/// The keys that the events need. What is no event of the room is found out when they are verified.
async fn key_needs(rules: RoomVersionRules, raws: Vec<Box<RawValue>>) -> KeyNeeds {
    let mut needs = KeyNeeds::default();
    for (number, raw) in raws.iter().enumerate() {
        if number % VERIFIED_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
        if let Ok(object) = read_json(raw.get()) {
            needs.add(&object, &rules);
        }
    }
    needs
}

/// Those of some events that are of a room, as far as their form tells.
fn read_all(room_id: &RoomId, rules: &RoomVersionRules, raws: &[Box<RawValue>]) -> Vec<(Pdu, CanonicalJsonObject)> {
    let read = raws.iter().filter_map(|raw| read_pdu(raw.get(), rules).ok());
    read.filter(|(pdu, _)| pdu.room_id == room_id).collect()
}

/// Why an event from outside is dropped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Dropped {
    #[error(transparent)]
    Form(#[from] ReadError),
    #[error(transparent)]
    Pdu(#[from] PduError),
    #[error("it belongs to another room")]
    OtherRoom,
    #[error("its sender is a user of this server, which did not send it")]
    Impostor,
    #[error("its signatures cannot be verified: {0}")]
    Signatures(#[from] VerifyError),
    #[error("it cannot be redacted: {0}")]
    Redaction(#[from] ruma::canonical_json::CanonicalJsonFieldError),
    #[error("events that it builds on cannot be had")]
    MissingAncestors,
    #[error("recent events of the state before it cannot be verified")]
    UnverifiedState,
    #[error("events that it builds on cannot be had now; it is judged when they can")]
    SetAside,
    #[error("its server does not give the events that it builds on")]
    Withheld,
    #[error("its server is banned from the room")]
    BannedServer,
    #[error("{0}")]
    Engine(#[from] EngineError),
}

impl From<storage::StorageError> for Dropped {
    fn from(error: storage::StorageError) -> Self {
        Self::Engine(error.into())
    }
}

impl Engine {
    /// The event that a peer sent for a room, if it is one and its servers signed it. Where the content hash does not
    /// fit, only what redaction leaves of it.
    pub(crate) async fn verified(
        &self,
        room_id: &RoomId,
        rules: &RoomVersionRules,
        raw: &RawValue,
    ) -> Result<Arc<Pdu>, Dropped> {
        let (pdu, object) = read_pdu(raw.get(), rules)?;
        if pdu.room_id != room_id {
            return Err(Dropped::OtherRoom);
        }
        self.check_signatures(pdu, object, rules).await.map(Arc::new)
    }

    /// The same for several events: the keys are fetched together, and those that fail are left out. Many are checked on
    /// all cores.
    pub(crate) async fn verified_all(
        &self,
        room_id: &RoomId,
        rules: &RoomVersionRules,
        raws: &[Box<RawValue>],
    ) -> Vec<Arc<Pdu>> {
        if raws.len() <= VERIFIED_BY_ONE_TASK {
            let read = read_all(room_id, rules, raws);
            let mut needs = KeyNeeds::default();
            for (_, object) in &read {
                needs.add(object, rules);
            }
            self.federation().key_ring().prefetch(needs).await;
            return self.checked(room_id, rules, read).await;
        }
        // Before they are given to tasks: if each fetched keys, more would be wanted at once than may be.
        let mut needs = KeyNeeds::default();
        on_all_cores(raws, |raws| key_needs(rules.clone(), raws)).await.into_iter().for_each(|some| needs.extend(some));
        self.federation().key_ring().prefetch(needs).await;
        let verify = |raws| self.clone().verified_by_task(room_id.to_owned(), rules.clone(), raws);
        on_all_cores(raws, verify).await.into_iter().flatten().collect()
    }

    async fn verified_by_task(
        self,
        room_id: OwnedRoomId,
        rules: RoomVersionRules,
        raws: Vec<Box<RawValue>>,
    ) -> Vec<Arc<Pdu>> {
        let read = read_all(&room_id, &rules, &raws);
        self.checked(&room_id, &rules, read).await
    }

    async fn checked(
        &self,
        room_id: &RoomId,
        rules: &RoomVersionRules,
        read: Vec<(Pdu, CanonicalJsonObject)>,
    ) -> Vec<Arc<Pdu>> {
        let mut verified = Vec::with_capacity(read.len());
        for (number, (pdu, object)) in read.into_iter().enumerate() {
            if number % VERIFIED_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
            let event_id = pdu.event_id.clone();
            match self.check_signatures(pdu, object, rules).await {
                Ok(pdu) => verified.push(Arc::new(pdu)),
                Err(reason) => tracing::warn!(room.id = %room_id, event.id = %event_id, %reason, "event dropped"),
            }
        }
        verified
    }

    async fn check_signatures(
        &self,
        pdu: Pdu,
        mut object: CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<Pdu, Dropped> {
        match self.federation().key_ring().verify_event(&object, rules).await? {
            Verified::All => Ok(pdu),
            Verified::Signatures => {
                redact_in_place(&mut object, &rules.redaction, None)?;
                Ok(Pdu::from_canonical(pdu.event_id, &object)?)
            }
        }
    }
}
