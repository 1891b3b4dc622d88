//! The machine: its parts, how it is made and loaded, and what holds its changes until they are stored.

use std::collections::{BTreeMap, BTreeSet};

use rules::world::World;
use ruma::api::client::to_device::send_event_to_device;
use ruma::serde::Raw;
use ruma::to_device::DeviceIdOrAllDevices;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, TransactionId, UserId};
use serde_json::Value;

use crate::account::AccountState;
use crate::backup::BackupState;
use crate::cross_signing::CrossSigningState;
use crate::devices::Users;
use crate::inbound::InboundSessions;
use crate::key_request::KeyRequests;
use crate::olm::OlmSessions;
use crate::outbound::OutboundSessions;
use crate::request::{Place, Purpose, Request, RequestBody, RequestId};
use crate::rooms::Rooms;
use crate::secrets::SecretRequests;
use crate::signed_json::Object;
use crate::store::{Batch, Held, Record, StoreKey, Table, Vault};
use crate::verification::Verifications;

/// Most messages in one request to devices: large enough to need few requests, small enough for a server's body limit.
const MESSAGES_PER_REQUEST: usize = 200;

/// Length of request ids in characters of which each is worth almost 6 bits.
const REQUEST_ID_LENGTH: usize = 24;

/// What a device does for end-to-end encryption, without any input or output of its own.
///
/// Whatever changes the machine gives its results as [`Held`]: they come with the changes to store first.
pub struct Machine {
    pub(crate) world: World,
    pub(crate) user_id: OwnedUserId,
    pub(crate) device_id: OwnedDeviceId,
    pub(crate) account: AccountState,
    pub(crate) users: Users,
    pub(crate) olm: OlmSessions,
    pub(crate) rooms: Rooms,
    pub(crate) outbound: OutboundSessions,
    pub(crate) inbound: InboundSessions,
    pub(crate) key_requests: KeyRequests,
    pub(crate) cross_signing: CrossSigningState,
    pub(crate) secret_requests: SecretRequests,
    pub(crate) backup: BackupState,
    pub(crate) verifications: Verifications,
    pub(crate) notices: Vec<crate::Notice>,
    vault: Vault,
    changed: BTreeSet<(Table, String)>,
    outbox: Vec<Request>,
    pub(crate) pending: BTreeMap<RequestId, Purpose>,
}

/// Records that are not a machine's.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Another key, or damage.
    #[error("a record of table {0} cannot be opened with this key")]
    Sealed(&'static str),
    /// It was opened, but is not what this version writes.
    #[error("a record of table {0} is not of this version: {1}")]
    Format(&'static str, serde_json::Error),
    /// Nothing is there.
    #[error("the store holds no account")]
    NoAccount,
}

impl Machine {
    /// A new device with new keys. Nothing is published yet: the first [`Machine::requests`] asks for that.
    pub fn new(world: World, user_id: &UserId, device_id: &DeviceId, key: &StoreKey) -> Held<Self> {
        let account = AccountState::new(user_id.to_owned(), device_id.to_owned());
        let mut machine = Self::with_account(world, account, key);
        machine.touch(Table::Account, "");
        // Our own other devices matter to everything we do.
        machine.track(&user_id.to_owned());
        let batch = machine.take_batch();
        Held::new(batch, machine)
    }

    /// The machine as it was when its last batch was stored.
    pub fn load(world: World, records: &[Record], key: &StoreKey) -> Result<Self, LoadError> {
        let vault = Vault::new(key);
        let mut opened: BTreeMap<Table, Vec<(String, Vec<u8>)>> = BTreeMap::new();
        for record in records {
            let (key, bytes) = vault.open(record).ok_or(LoadError::Sealed(record.table.name()))?;
            opened.entry(record.table).or_default().push((key, bytes.to_vec()));
        }
        let account = opened.remove(&Table::Account).unwrap_or_default();
        let (_, account) = account.first().ok_or(LoadError::NoAccount)?;
        let account =
            serde_json::from_slice(account).map_err(|error| LoadError::Format(Table::Account.name(), error))?;
        let mut machine = Self::with_account(world, account, key);
        for (table, records) in opened {
            for (key, bytes) in records {
                machine.load_record(table, &key, &bytes).map_err(|error| LoadError::Format(table.name(), error))?;
            }
        }
        Ok(machine)
    }

    fn with_account(world: World, account: AccountState, key: &StoreKey) -> Self {
        Self {
            world,
            user_id: account.user_id.clone(),
            device_id: account.device_id.clone(),
            account,
            users: Users::default(),
            olm: OlmSessions::default(),
            rooms: Rooms::default(),
            outbound: OutboundSessions::default(),
            inbound: InboundSessions::default(),
            key_requests: KeyRequests::default(),
            cross_signing: CrossSigningState::default(),
            secret_requests: SecretRequests::default(),
            backup: BackupState::default(),
            verifications: Verifications::default(),
            notices: Vec::new(),
            vault: Vault::new(key),
            changed: BTreeSet::new(),
            outbox: Vec::new(),
            pending: BTreeMap::new(),
        }
    }

    /// Whose device this is.
    pub fn user_id(&self) -> &UserId {
        &self.user_id
    }

    /// Which device this is.
    pub fn device_id(&self) -> &DeviceId {
        &self.device_id
    }

    /// The requests that are to be sent now. Each is given once; call this after everything else that may want some.
    pub fn requests(&mut self) -> Held<Vec<Request>> {
        self.want_keys_upload();
        self.want_keys_query();
        self.want_claims_for_unwedging();
        self.want_backup();
        self.expire_verifications();
        let requests = std::mem::take(&mut self.outbox);
        self.hold(requests)
    }

    /// Joins a value with all changes that were not stored yet.
    pub(crate) fn hold<T>(&mut self, value: T) -> Held<T> {
        Held::new(self.take_batch(), value)
    }

    /// Marks a record as changed: it becomes part of the next batch.
    pub(crate) fn touch(&mut self, table: Table, key: impl Into<String>) {
        self.changed.insert((table, key.into()));
    }

    fn take_batch(&mut self) -> Batch {
        let changed = std::mem::take(&mut self.changed);
        let seal = |(table, key): (Table, String)| {
            let bytes = self.record(table, &key);
            self.vault.seal(&self.world, table, &key, bytes.as_deref())
        };
        Batch { changes: changed.into_iter().map(seal).collect() }
    }

    /// The current bytes of a record, or `None` when it is gone.
    fn record(&self, table: Table, key: &str) -> Option<Vec<u8>> {
        match table {
            Table::Account => written(Some(&self.account)),
            Table::Users => written(self.users.record(key)),
            Table::OlmSessions => written(self.olm.record(key)),
            Table::Rooms => written(self.rooms.record(key)),
            Table::OutboundSessions => written(self.outbound.session_record(key)),
            Table::Shares => written(self.outbound.share_record(key)),
            Table::InboundSessions => written(self.inbound.record(key)),
            Table::Replays => written(self.inbound.replay_record(key)),
            Table::Withheld => written(self.inbound.withheld_record(key)),
            Table::CrossSigning => written(Some(&self.cross_signing)),
            Table::Backup => written(Some(&self.backup)),
        }
    }

    fn load_record(&mut self, table: Table, key: &str, bytes: &[u8]) -> Result<(), serde_json::Error> {
        match table {
            Table::Account => {}
            Table::Users => self.users.load(serde_json::from_slice(bytes)?),
            Table::OlmSessions => self.olm.load(key, serde_json::from_slice(bytes)?),
            Table::Rooms => self.rooms.load(key, serde_json::from_slice(bytes)?),
            Table::OutboundSessions => self.outbound.load_session(key, serde_json::from_slice(bytes)?),
            Table::Shares => self.outbound.load_share(key, serde_json::from_slice(bytes)?),
            Table::InboundSessions => self.inbound.load(serde_json::from_slice(bytes)?),
            Table::Replays => self.inbound.load_replay(key, serde_json::from_slice(bytes)?),
            Table::Withheld => self.inbound.load_withheld(key, serde_json::from_slice(bytes)?),
            Table::CrossSigning => self.cross_signing = serde_json::from_slice(bytes)?,
            Table::Backup => self.backup = serde_json::from_slice(bytes)?,
        }
        Ok(())
    }

    /// Queues a request, and remembers what for.
    pub(crate) fn ask(&mut self, purpose: Purpose, body: RequestBody) {
        let id = RequestId(self.world.random_string(REQUEST_ID_LENGTH));
        self.pending.insert(id.clone(), purpose);
        self.outbox.push(Request { id, body });
    }

    /// Whether a request of a kind is open.
    pub(crate) fn is_pending(&self, kind: impl Fn(&Purpose) -> bool) -> bool {
        self.pending.values().any(kind)
    }

    /// Queues messages to devices, in requests of bounded size. `purpose` is asked for each request's recipients.
    pub(crate) fn send_to_devices(
        &mut self,
        event_type: &str,
        messages: &[(Place, Object)],
        purpose: impl Fn(BTreeSet<Place>) -> Purpose,
    ) {
        for part in messages.chunks(MESSAGES_PER_REQUEST) {
            let mut request = send_event_to_device::v3::Messages::new();
            for ((user_id, device_id), content) in part {
                let of_user = request.entry(user_id.clone()).or_default();
                of_user.insert(DeviceIdOrAllDevices::DeviceId(device_id.clone()), raw(content.clone()));
            }
            let recipients = part.iter().map(|(place, _)| place.clone()).collect();
            self.send_request_to_devices(event_type, request, purpose(recipients));
        }
    }

    /// Queues one message to all devices of a user.
    pub(crate) fn send_to_all_devices(&mut self, event_type: &str, user_id: &UserId, content: Object) {
        let messages = BTreeMap::from([(DeviceIdOrAllDevices::AllDevices, raw(content))]);
        self.send_request_to_devices(event_type, BTreeMap::from([(user_id.to_owned(), messages)]), Purpose::ToDevice);
    }

    fn send_request_to_devices(
        &mut self,
        event_type: &str,
        messages: send_event_to_device::v3::Messages,
        purpose: Purpose,
    ) {
        let transaction_id = <&TransactionId>::from(self.world.random_string(REQUEST_ID_LENGTH).as_str()).to_owned();
        let request = send_event_to_device::v3::Request::new_raw(event_type.into(), transaction_id, messages);
        self.ask(purpose, RequestBody::ToDevice(request));
    }
}

/// JSON as one of ruma's types, unchecked.
pub(crate) fn raw<T>(object: Object) -> Raw<T> {
    let value = serde_json::value::to_raw_value(&Value::Object(object)).expect("a JSON object can be written");
    Raw::from_json(value)
}

/// One of ruma's types as a JSON object, with every field that it had.
pub(crate) fn object<T>(raw: &Raw<T>) -> Option<Object> {
    serde_json::from_str(raw.json().get()).ok()
}

fn written<T: serde::Serialize>(record: Option<T>) -> Option<Vec<u8>> {
    record.map(|record| serde_json::to_vec(&record).expect("records have text keys and no fractions"))
}
