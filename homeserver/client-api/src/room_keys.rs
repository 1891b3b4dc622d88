//! `/_matrix/client/v3/room_keys/...`: backups of room keys.

pub(crate) mod keys;
pub(crate) mod version;
