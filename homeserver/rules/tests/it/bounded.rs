//! How often property tests are tried.

use proptest::test_runner::{Config, RngSeed};

/// The same few cases each time, so that the tests are quick without optimisation and fail for a reason in the code.
/// With `PROPTEST_CASES` set, that many others each time.
pub(crate) fn bounded(cases: u32, seed: u64) -> Config {
    let usual = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return usual;
    }
    Config { cases, rng_seed: RngSeed::Fixed(seed), ..usual }
}
