//! `/_matrix/client/v3/directory/...`

pub(crate) mod list;
pub(crate) mod room;
