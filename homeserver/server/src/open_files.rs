//! How many files and connections this process may have open, and what for.

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

/// What is kept for the database, for files and for logs.
const RESERVED: u64 = 128;

/// How many connections may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// To those who call us.
    pub(crate) callers: usize,
    /// To those whom we call: a quarter of all.
    pub(crate) called: usize,
}

impl Shares {
    /// As this process is limited.
    pub(crate) fn of_process() -> Self {
        Self::of(max())
    }

    fn of(max: Option<u64>) -> Self {
        let max = max.unwrap_or(u64::MAX);
        let called = max / 4;
        // Where there is so little that the reserve would leave nothing, it is a quarter too.
        let callers = max - called - RESERVED.min(max / 4);
        let count = |share| usize::try_from(share).unwrap_or(usize::MAX);
        Self { callers: count(callers), called: count(called) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_34_few_descriptors_are_shared_out() {
        let share = |callers, called| Shares { callers, called };
        assert_eq!(Shares::of(Some(256)), share(128, 64));
        assert_eq!(Shares::of(Some(1_024)), share(640, 256));
        assert_eq!(Shares::of(Some(524_288)), share(393_088, 131_072));
        assert!(Shares::of(None).callers > 1 << 60);
    }
}
