//! `/_matrix/client/v3/account/...`

pub(crate) mod deactivate;
pub(crate) mod password;
pub(crate) mod third_party_ids;
pub(crate) mod whoami;
