//! How many files and connections this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes all that the system allows. What it gives at first is meant for programs that cannot deal with many, often 1,024.
pub(crate) fn take_all() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(?current, ?maximum, %error, "no more files and connections can be open than at first");
    }
}

/// How many may be open; nothing where there is no limit.
pub(crate) fn max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}
