//! `/_matrix/client/v3/user/{userId}/...`

pub(crate) mod account_data;
pub(crate) mod filter;
pub(crate) mod openid;
pub(crate) mod tags;
