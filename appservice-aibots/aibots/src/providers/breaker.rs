//! When to leave a model alone: a provider that is down, or that refuses our key, is not asked for every message.

use std::time::Duration;

use crate::provider::Error;

/// So many failures in a row, and it is left alone.
const FAILURES_MAX: u32 = 5;
/// For how long at first; doubled each time that it fails again.
const REST_FIRST: Duration = Duration::from_secs(30);
/// And at most: an operator who has put things right does not want to wait longer.
const REST_MAX: Duration = Duration::from_mins(10);
/// How long the one request may take that finds out whether it is better. Then the next may try.
const PROBE_MAX: Duration = Duration::from_mins(1);

/// One model of one provider.
#[derive(Clone, Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    rests: u32,
    rest: Option<Rest>,
}

#[derive(Clone, Debug)]
struct Rest {
    until_ms: u64,
    why: Error,
}

impl Breaker {
    /// Whether it may be asked now; if not, what to say instead. After a rest one request at a time is let through.
    pub(super) fn admit(&mut self, now_ms: u64) -> Result<(), Error> {
        match &mut self.rest {
            Some(rest) if now_ms < rest.until_ms => Err(match &rest.why {
                why if why.concerns_the_operator() => why.clone(),
                _ => Error::Resting,
            }),
            Some(rest) => {
                rest.until_ms = now_ms.saturating_add(milliseconds(PROBE_MAX));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether it is being left alone, or would be but for the time that has passed.
    pub(super) fn is_resting(&self) -> bool {
        self.rest.is_some()
    }

    /// It has answered, even if only that it will not.
    pub(super) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// It has failed.
    pub(super) fn fail(&mut self, error: &Error, now_ms: u64) {
        match error {
            error if error.is_about_the_question() => return self.succeed(),
            Error::Resting => return,
            _ => self.failures += 1,
        }
        let must_rest = error.concerns_the_operator() || self.failures >= FAILURES_MAX || self.rest.is_some();
        let doubled = REST_FIRST.saturating_mul(1 << self.rests.min(8)).min(REST_MAX);
        let rest = error.retry_after().map_or(doubled, |wanted| wanted.max(doubled));
        if must_rest {
            self.rests += 1;
            self.rest = Some(Rest { until_ms: now_ms.saturating_add(milliseconds(rest)), why: error.clone() });
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Breaker;
    use crate::provider::Error;

    #[test]
    fn it_rests_after_failures_and_is_probed_by_one() {
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            breaker.fail(&Error::Unreachable, 0);
            assert!(breaker.admit(0).is_ok());
        }
        breaker.fail(&Error::Unreachable, 0);
        assert_eq!(breaker.admit(29_999), Err(Error::Resting));
        assert!(breaker.admit(30_000).is_ok(), "one may try");
        assert_eq!(breaker.admit(30_000), Err(Error::Resting), "and no other meanwhile");
        breaker.fail(&Error::Unreachable, 30_000);
        assert_eq!(breaker.admit(89_999), Err(Error::Resting), "longer the second time");
        assert!(breaker.admit(90_000).is_ok());
        breaker.succeed();
        assert!(!breaker.is_resting() && breaker.admit(90_000).is_ok());
    }

    #[test]
    fn a_probe_that_never_ends_blocks_nobody_for_ever() {
        let mut breaker = Breaker::default();
        (0..5).for_each(|_| breaker.fail(&Error::Timeout, 0));
        assert!(breaker.admit(30_000).is_ok());
        assert!(breaker.admit(90_000).is_ok());
    }

    #[test]
    fn what_only_the_operator_can_mend_is_said_again_without_asking() {
        let mut breaker = Breaker::default();
        breaker.fail(&Error::BadKey, 0);
        assert_eq!(breaker.admit(1), Err(Error::BadKey));
        breaker.fail(&Error::BadKey, 30_000);
        (0..100).for_each(|_| breaker.fail(&Error::BadKey, 30_000));
        assert!(breaker.admit(30_000 + 600_000).is_ok(), "the rest has a bound");
    }

    #[test]
    fn faults_of_the_request_are_not_the_providers() {
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            breaker.fail(&Error::ContextTooLong, 0);
            breaker.fail(&Error::ContentRefused, 0);
            breaker.fail(&Error::Empty, 0);
            breaker.fail(&Error::Rejected { status: 400 }, 0);
        }
        assert!(breaker.admit(0).is_ok());
    }

    #[test]
    fn the_provider_may_ask_for_a_longer_rest() {
        let mut breaker = Breaker::default();
        let error = Error::RateLimited { retry_after: Some(Duration::from_hours(1)) };
        (0..5).for_each(|_| breaker.fail(&error, 0));
        assert_eq!(breaker.admit(3_599_999), Err(Error::Resting));
    }
}
