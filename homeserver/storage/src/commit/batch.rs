//! One transaction's worth of submissions: check each against the facts, note what is to be written, write it all.

use std::{collections::HashSet, sync::atomic::Ordering};

use rules::change::{Change, StateEntry};
use ruma::{EventId, OwnedServerName};

use crate::{
    Result, StorageError,
    commit::{
        BeforeNews, CommitError, Committed, Submission,
        apply::Applying,
        facts::{ClientTransaction, Facts, Head, names_of},
        write::Writes,
    },
    database::{Shared, Transaction},
    dialect::{is_storable, storable},
    log::Published,
    names::encode,
};

/// What became of a transaction whose end nobody told us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Committed,
    TakenBack,
    /// It took no number, or somebody else has written since.
    Unknowable,
}

/// Facts, and what follows from the submissions decided so far.
pub(super) struct Batch {
    pub(super) server_name: OwnedServerName,
    /// The counters before anything was decided.
    pub(super) found: Head,
    pub(super) facts: Facts,
    pub(super) writes: Writes,
}

impl Batch {
    /// Reads what has to be known.
    pub(super) async fn load(
        shared: &Shared,
        transaction: &mut Transaction,
        submissions: &[Submission],
    ) -> Result<Self> {
        let facts = Facts::load(shared, transaction, submissions).await?;
        let (server_name, found) = (shared.server_name.clone(), facts.head);
        Ok(Self { server_name, found, facts, writes: Writes::default() })
    }

    /// Decides on one submission, and notes what it writes if it succeeds.
    pub(super) fn decide(&mut self, submission: &Submission) -> Result<Committed, CommitError> {
        self.check_done(submission)?;
        self.check_guard(submission)?;
        check_storable(submission)?;
        self.check_extremities(submission)?;
        Ok(Applying::new(self).apply(submission))
    }

    /// Writes everything that was noted.
    pub(super) async fn write(&mut self, transaction: &mut Transaction) -> Result<()> {
        self.writes.write(&self.facts, transaction).await
    }

    /// What became of it, by the counters as they are once it is over.
    pub(super) fn fate(&self, head: Head) -> Fate {
        if self.found == self.facts.head {
            Fate::Unknowable
        } else if head == self.facts.head {
            Fate::Committed
        } else if head == self.found {
            Fate::TakenBack
        } else {
            Fate::Unknowable
        }
    }

    /// To be called once it is committed: who submitted hears of it before the log tells anybody.
    pub(super) fn succeed(
        self,
        shared: &Shared,
        outcomes: &[Result<Committed, CommitError>],
        before_news: &mut [Option<BeforeNews>],
    ) {
        for (outcome, before_news) in outcomes.iter().zip(before_news) {
            if let (Ok(committed), Some(before_news)) = (outcome, before_news.take()) {
                before_news(Ok(committed));
            }
        }
        shared.commits.fetch_add(1, Ordering::Relaxed);
        self.publish(shared);
    }

    /// To be called when it is found out what the counters are after its end, long after those who submitted were told
    /// that it failed.
    pub(super) fn settle(self, shared: &Shared, head: Head) {
        match self.fate(head) {
            Fate::TakenBack => {}
            Fate::Committed => {
                tracing::info!("a commit whose end nobody knew did happen");
                self.publish(shared);
            }
            Fate::Unknowable => {
                self.forget(shared);
                shared.bus.publish(Published::default(), head.position);
            }
        }
    }

    /// What caches hold is not what is stored any more.
    fn forget(&self, shared: &Shared) {
        shared.events.forget(&self.writes.altered);
        if !self.writes.related_rooms.is_empty() {
            shared.related_rooms.forget(&self.writes.related_rooms);
        }
    }

    /// Tells caches and readers, once it is committed.
    fn publish(mut self, shared: &Shared) {
        let rows = u64::try_from(self.writes.inserted_rows).unwrap_or(u64::MAX);
        shared.inserted_rows.fetch_add(rows, Ordering::Relaxed);
        for (name, nid) in std::mem::take(&mut self.facts.names) {
            if shared.names.get(&name).is_none() {
                shared.names.put(name, nid);
            }
        }
        for event in std::mem::take(&mut self.writes.live) {
            shared.events.put_new(event);
        }
        self.forget(shared);
        if !self.writes.sticky_rooms.is_empty() {
            shared.sticky_rooms.extend(self.writes.sticky_rooms);
        }
        let entries = self.writes.log.into_iter().map(|row| row.entry).collect();
        let (state_changes, unread_changes) = (self.writes.state_changes, self.writes.unread_changes);
        shared.bus.publish(Published { entries, state_changes, unread_changes }, self.facts.head.position);
    }

    /// The number of a name; it gets one if it has none.
    pub(super) fn name(&mut self, name: &str) -> i64 {
        let encoded = encode(name);
        if let Some(nid) = self.facts.names.get(&*encoded) {
            return *nid;
        }
        self.facts.head.name_nid += 1;
        let nid = self.facts.head.name_nid;
        self.writes.names.push((nid, encoded.clone().into_owned()));
        self.facts.names.insert(encoded.into_owned(), nid);
        nid
    }

    fn check_done(&self, submission: &Submission) -> Result<(), CommitError> {
        let done = submission.changes.iter().filter_map(client_transaction).find_map(|key| self.facts.done.get(&key));
        done.map_or(Ok(()), |event_id| Err(CommitError::AlreadyDone(event_id.clone())))
    }

    fn check_guard(&self, submission: &Submission) -> Result<(), CommitError> {
        let Some(guard) = &submission.room else { return Ok(()) };
        let nid = self.facts.names.get(&*encode(guard.room_id.as_str()));
        let room = nid.and_then(|nid| self.facts.rooms.get(nid));
        let follows = guard.follows.as_ref().is_none_or(|last| room.is_some_and(|room| room.ends_with(last)));
        let is_same = room.map_or(0, |room| room.revision) == guard.revision && follows;
        if is_same { Ok(()) } else { Err(CommitError::Conflict) }
    }

    /// What new events will build upon has to be stored: otherwise the room could not go on.
    fn check_extremities(&self, submission: &Submission) -> Result<()> {
        let mut new: HashSet<&EventId> = HashSet::new();
        for change in &submission.changes {
            match change {
                Change::Event(event) => drop(new.insert(&event.pdu.event_id)),
                Change::ForwardExtremities { event_ids, .. } => {
                    let stored = |id: &&EventId| new.contains(*id) || self.facts.events.contains_key(*id);
                    if let Some(missing) = event_ids.iter().map(|id| &**id).find(|id| !stored(id)) {
                        return Err(StorageError::NotStored(missing.to_owned()));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What identifies the request that a change makes idempotent.
pub(super) fn client_transaction(change: &Change) -> Option<ClientTransaction> {
    match change {
        Change::TransactionId { user_id, device_id, scope, transaction_id, .. } => {
            Some((user_id.to_string(), device_id.to_string(), scope.clone(), transaction_id.clone()))
        }
        _ => None,
    }
}

fn check_storable(submission: &Submission) -> Result<()> {
    for change in &submission.changes {
        for name in names_of(change) {
            // Only their length: what one database cannot keep is escaped.
            if !is_storable(&encode(&name)) {
                return Err(StorageError::Unstorable("a name"));
            }
        }
        check_texts(change)?;
    }
    Ok(())
}

fn check_entries(entries: &[StateEntry]) -> Result<()> {
    let mut event_ids = entries.iter().filter_map(|entry| entry.event_id.as_ref());
    event_ids.try_for_each(|event_id| storable(event_id.as_str(), "an event id").map(drop))
}

fn check_texts(change: &Change) -> Result<()> {
    match change {
        Change::Event(new) => drop(storable(new.pdu.event_id.as_str(), "an event id")?),
        Change::State { entries, .. } | Change::InitialState { entries, .. } => check_entries(entries)?,
        Change::CompleteState(complete) => {
            check_entries(&complete.before)?;
            for (_, entries) in &complete.since {
                check_entries(entries)?;
            }
        }
        Change::AwaitedRedaction { event_id, redacted_by } => {
            storable(event_id.as_str(), "an event id")?;
            storable(redacted_by.as_str(), "an event id")?;
        }
        Change::Membership { event_id, .. }
        | Change::Sticky { event_id, .. }
        | Change::Resend { event_id, .. }
        | Change::PartialState { event_id, .. }
        | Change::Rejudged { event_id, .. } => {
            storable(event_id.as_str(), "an event id")?;
        }
        Change::Notification { event_id, thread_root, .. } => {
            storable(event_id.as_str(), "an event id")?;
            storable(thread_root.as_ref().map_or("", |root| root.as_str()), "the root of a thread")?;
        }
        Change::Read { thread_id, .. } => drop(storable(thread_id.as_deref().unwrap_or_default(), "a thread")?),
        Change::Receipt { receipt_type, thread_id, event_id, .. } => {
            storable(receipt_type.as_str(), "a receipt's type")?;
            storable(thread_id.as_deref().unwrap_or_default(), "a receipt's thread")?;
            storable(event_id.as_str(), "an event id")?;
        }
        Change::AccountData { event_type, .. } => drop(storable(event_type, "the type of account data")?),
        Change::ThreadSubscription { thread_root, .. } => {
            storable(thread_root.as_str(), "the root of a thread")?;
        }
        Change::TransactionId { device_id, scope, transaction_id, .. } => {
            storable(device_id.as_str(), "a device id")?;
            storable(scope, "the scope of a transaction")?;
            storable(transaction_id, "a transaction id")?;
        }
        Change::DeviceKeys { user_id, device_id, display_name, .. } => {
            storable(user_id.as_str(), "a user id")?;
            storable(device_id.as_str(), "a device id")?;
            storable(display_name.as_deref().unwrap_or_default(), "the name of a device")?;
        }
        Change::CrossSigningKey { user_id, usage, .. } => {
            storable(user_id.as_str(), "a user id")?;
            storable(usage, "the usage of a key")?;
        }
        Change::KeySignature { target_user_id, target_id, signer, key_id, signature } => {
            for text in [target_user_id.as_str(), target_id, signer.as_str(), key_id, signature] {
                storable(text, "a part of a signature")?;
            }
        }
        Change::DeviceList { device_id: Some(device_id), .. } => drop(storable(device_id.as_str(), "a device id")?),
        Change::ToDevice { user_id, device_id, sender, event_type, .. } => {
            for text in [user_id.as_str(), device_id.as_str(), sender.as_str(), event_type] {
                storable(text, "a part of a message to a device")?;
            }
        }
        Change::ToDeviceId { sender, message_id, .. } => {
            storable(sender, "who sent a message")?;
            storable(message_id, "the id of a message")?;
        }
        Change::Edu { edu_type, .. } => drop(storable(edu_type, "the type of an EDU")?),
        Change::DeviceList { device_id: None, .. }
        | Change::Room { .. }
        | Change::ForwardExtremities { .. }
        | Change::HistoricState { .. }
        | Change::RoomServer { .. }
        | Change::EnteredWhole { .. }
        | Change::Recipient { .. }
        | Change::LogOut { .. }
        | Change::Redaction { .. } => {}
    }
    Ok(())
}
