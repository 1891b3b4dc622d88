//! `/_matrix/client/v3/users/{userId}/...`: what one user does about another.

pub(crate) mod report;
