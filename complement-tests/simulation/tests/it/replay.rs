//! A seed replays.

use simulation::{Options, run};

/// Enough steps for queues to fill, servers to restart and rooms to fork.
const OPTIONS: Options = Options { steps: 60 };

#[test]
fn the_same_seed_gives_the_same_universe() {
    for seed in 1_000..1_006 {
        let (first, second) = (run(seed, OPTIONS), run(seed, OPTIONS));
        assert_eq!(first.difference(&second), None, "seed {seed}");
    }
}

#[test]
fn another_seed_gives_another_universe() {
    assert_ne!(run(1, OPTIONS).digest, run(2, OPTIONS).digest);
}
