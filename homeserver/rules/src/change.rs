//! What a decision wants to become true. `storage` applies a list of changes in one transaction, gives it a position
//! in the log, and wakes whoever waits.

use std::sync::Arc;

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId,
    events::{StateEventType, receipt::ReceiptType, room::member::MembershipState},
};
use serde_json::value::RawValue;

use crate::pdu::Pdu;

/// A place in the log: 1, 2, 3, ... without gaps. 0 is before everything.
pub type Position = i64;

/// One thing that becomes true when the list it stands in is committed.
#[derive(Clone, Debug)]
pub enum Change {
    /// A room becomes known to this server.
    Room {
        /// Its id.
        room_id: OwnedRoomId,
        /// Its version.
        version: RoomVersionId,
    },
    /// An event is stored. Gets a position when its [`Placement`] is live.
    Event(Box<NewEvent>),
    /// The state that a room had when this server first entered it, by way of another server. It holds for all of the
    /// room's history before, until reading that history backwards teaches better: see [`Change::HistoricState`].
    InitialState {
        /// The room.
        room_id: OwnedRoomId,
        /// All entries; where the state is partial, some more of them: keys of which nothing is stored yet.
        entries: Vec<StateEntry>,
    },
    /// This server entered a room by the live event before this one in the list, and was not told of all members.
    PartialState {
        /// The room.
        room_id: OwnedRoomId,
        /// Our join.
        event_id: OwnedEventId,
        /// Who let us in.
        entered_by: OwnedServerName,
        /// The other servers that were said to be in the room.
        servers: Vec<OwnedServerName>,
        /// What was said to be part of the state, and could not be verified. Not members.
        unverified: Vec<OwnedEventId>,
        /// When that was, in milliseconds since the epoch.
        now_ms: u64,
    },
    /// All members of a room with a partial state are known. Gets a position. Replaces what is stored of the state from
    /// our join on, and what held when we joined.
    CompleteState(Box<CompleteState>),
    /// A stored event was judged anew when a partial state became complete. One that is in the timeline and is not
    /// accepted any more keeps its position, and is never shown again.
    Rejudged {
        /// The event.
        event_id: OwnedEventId,
        /// What the checks say now.
        standing: Standing,
        /// The state before it, if it is not what the state was at the position before it.
        state_before: Option<StateReference>,
    },
    /// We enter a room anew of which not all members had been known, and are told of all of them. Gets a position.
    EnteredWhole {
        /// The room.
        room_id: OwnedRoomId,
    },
    /// Entries of the resolved room state, from the position of the [`Change::Event`] before this one in the list on.
    State {
        /// The room.
        room_id: OwnedRoomId,
        /// Only entries that differ from the current state.
        entries: Vec<StateEntry>,
    },
    /// The events that new events of the room will name as `prev_events`.
    ForwardExtremities {
        /// The room.
        room_id: OwnedRoomId,
        /// All of them.
        event_ids: Vec<OwnedEventId>,
    },
    /// What the room state was in the past, learned by reading history backwards: before the backfilled event before
    /// this one in the list, the key had the value `before`; from that event on it has the event itself.
    HistoricState {
        /// The room.
        room_id: OwnedRoomId,
        /// The event type of the key.
        event_type: StateEventType,
        /// The state key.
        state_key: String,
        /// The value before the event; `None` when there was none, or it is not known.
        before: Option<OwnedEventId>,
    },
    /// A server has its first joined member in the room, or has lost its last.
    RoomServer {
        /// The room.
        room_id: OwnedRoomId,
        /// The server.
        server: OwnedServerName,
        /// Whether it is in the room from now on.
        present: bool,
    },
    /// The live event before this one in the list is to be sent to a server that is not in the room, too: it ends an
    /// invitation or a knock of one of its users, of which it would not hear otherwise.
    Recipient {
        /// The server.
        server: OwnedServerName,
    },
    /// A live event of this list is delivered to whoever is in the room until a time, whatever happens after it.
    Sticky {
        /// The room.
        room_id: OwnedRoomId,
        /// The event.
        event_id: OwnedEventId,
        /// Until when, in milliseconds since the epoch.
        until_ms: u64,
    },
    /// A stored event is to be sent to servers that were not in its room when it was made. Gets a position.
    Resend {
        /// The event.
        event_id: OwnedEventId,
        /// Which servers.
        servers: Vec<OwnedServerName>,
    },
    /// A local user's relation to a room changed. Gets a position.
    Membership {
        /// The local user.
        user_id: OwnedUserId,
        /// The room.
        room_id: OwnedRoomId,
        /// The new membership.
        membership: MembershipState,
        /// The member event.
        event_id: OwnedEventId,
        /// Who sent the member event.
        sender: OwnedUserId,
        /// For invites and knocks: the stripped state that the user is shown, as a JSON array.
        stripped_state: Option<Box<RawValue>>,
    },
    /// A stored event is redacted: its JSON is replaced for good.
    Redaction {
        /// The event that is redacted.
        event_id: OwnedEventId,
        /// The redacting event.
        redacted_by: OwnedEventId,
        /// What remains, as canonical JSON.
        json: Box<str>,
    },
    /// A redaction came before the event that it redacts: see `Storage::awaited_redactions`.
    AwaitedRedaction {
        /// The event to redact, which is not stored yet.
        event_id: OwnedEventId,
        /// The redacting event.
        redacted_by: OwnedEventId,
    },
    /// A read receipt moved. Gets a position.
    Receipt {
        /// The room.
        room_id: OwnedRoomId,
        /// Who read; local or remote.
        user_id: OwnedUserId,
        /// `m.read` or `m.read.private`.
        receipt_type: ReceiptType,
        /// `None` for an unthreaded receipt, else `main` or the thread's root.
        thread_id: Option<String>,
        /// Up to which event.
        event_id: OwnedEventId,
        /// When, by the clock of the reader's server.
        ts: MilliSecondsSinceUnixEpoch,
    },
    /// Local users are notified of an event: the live one of that id in the list, or the one behind the membership
    /// change before this in the list.
    Notification {
        /// The room.
        room_id: OwnedRoomId,
        /// The event.
        event_id: OwnedEventId,
        /// Who sent it, and is not notified.
        sender: OwnedUserId,
        /// The root of the thread that it is in; `None` for the main timeline.
        thread_root: Option<OwnedEventId>,
        /// When, by our clock.
        ts: MilliSecondsSinceUnixEpoch,
        /// Whether somebody calls: such events count as missed calls until they are read.
        is_call: bool,
        /// The different things that are done about it: JSON arrays of actions.
        actions: Vec<Box<RawValue>>,
        /// What it comes to for the local users who are joined to the room and not named in `notified`.
        everyone: Option<Notice>,
        /// For whom it comes to something else.
        notified: Vec<Notified>,
    },
    /// A local user has read a room, or one thread of it. Going back changes nothing.
    Read {
        /// The room.
        room_id: OwnedRoomId,
        /// The user.
        user_id: OwnedUserId,
        /// `None` for all of the room, else `main` or the thread's root.
        thread_id: Option<String>,
        /// Up to which order of the timeline; `None` for the last position before this change in the list.
        up_to: Option<i64>,
    },
    /// Account data of a local user is set. Gets a position.
    AccountData {
        /// The user.
        user_id: OwnedUserId,
        /// The room, or `None` for global account data.
        room_id: Option<OwnedRoomId>,
        /// The event type.
        event_type: String,
        /// The content.
        content: Box<RawValue>,
    },
    /// A local user follows a thread from now on, or no more. Gets a position.
    ThreadSubscription {
        /// The user.
        user_id: OwnedUserId,
        /// The room.
        room_id: OwnedRoomId,
        /// The root of the thread.
        thread_root: OwnedEventId,
        /// Whether the user follows it.
        subscribed: bool,
        /// Whether a client did that of itself.
        automatic: bool,
    },
    /// The identity keys of a device: those it has from now on, or that the device is gone, and with it its one-time
    /// keys and the messages that wait for it.
    DeviceKeys {
        /// Whose device, local or remote.
        user_id: OwnedUserId,
        /// The device.
        device_id: OwnedDeviceId,
        /// The signed keys, as a JSON object; `None` when the device is gone.
        keys: Option<Box<RawValue>>,
        /// The name that another server gives the device; our own devices have theirs elsewhere.
        display_name: Option<String>,
    },
    /// A device of a local user goes: with its tokens, its keys, and all that is kept for it. An unknown one is none.
    LogOut {
        /// Whose.
        user_id: OwnedUserId,
        /// The device.
        device_id: OwnedDeviceId,
    },
    /// A cross-signing key of a user is set or goes.
    CrossSigningKey {
        /// Whose, local or remote.
        user_id: OwnedUserId,
        /// `master`, `self_signing` or `user_signing`.
        usage: String,
        /// The key, as a JSON object.
        key: Option<Box<RawValue>>,
    },
    /// A local user signed a device or a cross-signing key. The signature was checked.
    KeySignature {
        /// Whose device or key is signed.
        target_user_id: OwnedUserId,
        /// The device id, or the public part of the cross-signing key.
        target_id: String,
        /// Who signed.
        signer: OwnedUserId,
        /// With which key, such as `ed25519:PUBLIC`.
        key_id: String,
        /// The signature, in base64.
        signature: String,
    },
    /// The devices of a user or their keys changed. Gets a position.
    DeviceList {
        /// Whose, local or remote.
        user_id: OwnedUserId,
        /// Which device; `None` where that is not known, or the change is one of cross-signing keys.
        device_id: Option<OwnedDeviceId>,
        /// The local user who alone sees the change: it is one of their own signatures. The user themselves, together with
        /// a device: nothing has changed, nobody here sees it, and only the servers are told.
        viewer: Option<OwnedUserId>,
        /// The servers that are to be sent an `m.device_list_update` of it.
        servers: Vec<OwnedServerName>,
    },
    /// A message for one device of a local user. Gets a position.
    ToDevice {
        /// Whose device.
        user_id: OwnedUserId,
        /// The device.
        device_id: OwnedDeviceId,
        /// Who sent it.
        sender: OwnedUserId,
        /// The type of the message.
        event_type: String,
        /// The content.
        content: Box<RawValue>,
    },
    /// Messages to devices were taken under this id, and are not to be taken again.
    ToDeviceId {
        /// Who names them so: a device of ours, or another server.
        sender: String,
        /// The id.
        message_id: String,
        /// When.
        ts: MilliSecondsSinceUnixEpoch,
    },
    /// An EDU that other servers are to be sent even after restarts. Gets a position.
    Edu {
        /// Which servers.
        servers: Vec<OwnedServerName>,
        /// Such as `m.direct_to_device`.
        edu_type: String,
        /// The content, which must be canonical JSON but for its order.
        content: Box<RawValue>,
    },
    /// A request of a client is done, and the same request again gets the same answer.
    TransactionId {
        /// Who asked.
        user_id: OwnedUserId,
        /// From which device.
        device_id: OwnedDeviceId,
        /// What was asked: endpoint and path parameters but for the transaction id.
        scope: String,
        /// The client's transaction id.
        transaction_id: String,
        /// What came of it.
        event_id: OwnedEventId,
        /// When it was done, in milliseconds since the epoch.
        ts: u64,
    },
}

/// The state of a room, now that all of it is known.
#[derive(Clone, Debug)]
pub struct CompleteState {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The position of our join.
    pub joined_at: Position,
    /// The state before our join, which holds for the history before it, too.
    pub before: Vec<StateEntry>,
    /// What changed since, by position, in order.
    pub since: Vec<(Position, Vec<StateEntry>)>,
    /// The entries that differ now from what readers of the log were told: they count from this change's own position
    /// on, too.
    pub corrected: Vec<StateEntry>,
}

/// How somebody is notified of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether it is to stand out.
    pub highlight: bool,
    /// What is done about it: an index of the actions that come along.
    pub actions: usize,
}

/// A local user for whom an event comes to something else than for everyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notified {
    /// Who.
    pub user_id: OwnedUserId,
    /// How; `None` when they are not to be notified.
    pub notice: Option<Notice>,
}

/// An event to be stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event.
    pub pdu: Arc<Pdu>,
    /// What the checks said.
    pub standing: Standing,
    /// Where it goes in the room's timeline.
    pub placement: Placement,
    /// The state before the event, when it is not the resolved state at the position before it.
    pub state_before: Option<StateReference>,
    /// Whether the servers in the room are to be sent this event by us: our own events, and those of other servers
    /// that entered the room through us.
    pub outbound: bool,
}

/// The outcome of the checks on receipt of a PDU.
/// <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Passed all of them.
    Accepted,
    /// Fails against the current state: kept, never shown, not built upon.
    SoftFailed(String),
    /// Fails against its auth events or the state before it, for this reason.
    Rejected(String),
    /// Known only as part of state or an auth chain; not part of the timeline.
    Outlier,
}

impl Standing {
    /// Why an event is not accepted.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::SoftFailed(reason) | Self::Rejected(reason) => Some(reason),
            Self::Accepted | Self::Outlier => None,
        }
    }
}

/// Where an event goes in its room's timeline, which is one linear order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// At the head: the order is the position that the commit gives it.
    Live,
    /// Before everything known so far: the order is one less than the least.
    Backfilled,
    /// Nowhere: outliers, rejected and soft-failed events.
    None,
}

/// The state before an event that forks the graph: the resolved state at a position, and what differs from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateReference {
    /// The position whose resolved state is the base. 0 is the empty state.
    pub base: Position,
    /// What differs from the base.
    pub delta: Vec<StateEntry>,
}

/// One entry of a room state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateEntry {
    /// The event type.
    pub event_type: StateEventType,
    /// The state key.
    pub state_key: String,
    /// The event that is the value; `None` when the key has none.
    pub event_id: Option<OwnedEventId>,
    /// For `m.room.member`: the membership that the event gives.
    pub membership: Option<MembershipState>,
}
