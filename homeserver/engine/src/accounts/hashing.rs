//! What is stored of passwords: Argon2id, off the async threads, a few at a time.

use std::{hint::black_box, sync::Arc, time::Duration};

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use rules::world::World;
use tokio::sync::Semaphore;

use crate::{EngineError, PasswordHashing, Result};

/// How many passwords are hashed at the same time, at most, and as a share of the cores. Each takes a core and 19 MiB;
/// chat must go on beside them.
const SLOTS_MAX: usize = 2;
const CORES_PER_SLOT: usize = 2;

/// How long a log-in waits for a slot, and how many may wait: at 18 ms each, as many as have their turn in that time.
const WAIT_MAX: Duration = Duration::from_secs(5);
const WAITING_MAX: usize = 300;

/// The longest password, in bytes: longer ones only serve to keep the hash busy.
pub(super) const PASSWORD_BYTES_MAX: usize = 512;

const SALT_BYTES: usize = 16;

pub(super) struct Hashing {
    argon2: Argon2<'static>,
    slots: Arc<Semaphore>,
    /// Places to wait in; those who are hashing keep theirs.
    places: Semaphore,
}

impl Hashing {
    pub(super) fn new(cost: PasswordHashing) -> Self {
        let params = match cost {
            PasswordHashing::Strong => Params::new(19 * 1024, 2, 1, None),
            PasswordHashing::Cheap => Params::new(Params::MIN_M_COST, Params::MIN_T_COST, Params::MIN_P_COST, None),
        };
        let params = params.expect("both are within the limits of Argon2");
        Self {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            slots: Arc::new(Semaphore::new(slots())),
            places: Semaphore::new(WAITING_MAX),
        }
    }

    /// The hash of a password, as a PHC string.
    pub(super) async fn hash(&self, world: &World, password: &str) -> Result<String> {
        let mut salt = [0_u8; SALT_BYTES];
        world.chance.fill(&mut salt);
        let password = password.to_owned();
        let hash = self.in_slot(move |argon2| digest(argon2, &password, &salt)).await?;
        hash.map_err(EngineError::internal)
    }

    /// Whether the password is the one that was hashed. Without a (usable) hash it is not, which takes the same time.
    pub(super) async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool> {
        if !is_possible(password) {
            return Ok(false);
        }
        let password = password.to_owned();
        let hash = hash.and_then(|hash| PasswordHash::new(hash).ok());
        self.in_slot(move |argon2| {
            if let Some(hash) = hash {
                return argon2.verify_password(password.as_bytes(), &hash).is_ok();
            }
            let _ = black_box(digest(argon2, &password, &[0; SALT_BYTES]));
            false
        })
        .await
    }

    async fn in_slot<T: Send + 'static>(&self, work: impl FnOnce(&Argon2<'static>) -> T + Send + 'static) -> Result<T> {
        let refused = || {
            metrics::counter!("engine_password_hashes_refused_total").increment(1);
            EngineError::Busy
        };
        let _place = self.places.try_acquire().map_err(|_| refused())?;
        let waiting = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.slots).acquire_owned());
        let slot = waiting.await.map_err(|_| refused())?;
        let slot = slot.map_err(EngineError::internal)?;
        let argon2 = self.argon2.clone();
        let done = tokio::task::spawn_blocking(move || {
            let outcome = work(&argon2);
            drop(slot);
            outcome
        });
        metrics::counter!("engine_password_hashes_total").increment(1);
        done.await.map_err(EngineError::internal)
    }
}

/// How many passwords this machine hashes at the same time.
fn slots() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / CORES_PER_SLOT).clamp(1, SLOTS_MAX)
}

/// Whether it is worth a hash. Refused before hashing whoever the user is, so it tells nothing about them.
pub(super) fn is_possible(password: &str) -> bool {
    (1..=PASSWORD_BYTES_MAX).contains(&password.len())
}

fn digest(argon2: &Argon2<'static>, password: &str, salt: &[u8]) -> argon2::password_hash::Result<String> {
    argon2.hash_password_with_salt(password.as_bytes(), salt).map(|hash| hash.to_string())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use rules::world::{Chance, Clock};

    use super::*;

    struct Constant;

    impl Clock for Constant {
        fn now_ms(&self) -> u64 {
            0
        }
    }

    impl Chance for Constant {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    fn world() -> World {
        World { clock: Arc::new(Constant), chance: Arc::new(Constant) }
    }

    #[tokio::test]
    async fn only_the_password_that_was_hashed_is_right() {
        let hashing = Hashing::new(PasswordHashing::Cheap);
        let hash = hashing.hash(&world(), "\u{fc}bers3kr1t").await.expect("hashes");
        assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
        assert!(hashing.verify("\u{fc}bers3kr1t", Some(&hash)).await.expect("verifies"));
        for wrong in ["", "ubers3kr1t", "\u{fc}bers3kr1t ", &hash] {
            assert!(!hashing.verify(wrong, Some(&hash)).await.expect("verifies"), "{wrong:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn s_110_few_hashes_are_made_at_once_and_few_wait() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

        let (hashing, now, most) = (Hashing::new(PasswordHashing::Cheap), AtomicUsize::new(0), AtomicUsize::new(0));
        let (hashing, now, most) = (Arc::new(hashing), Arc::new(now), Arc::new(most));
        let tasks: Vec<_> = (0..1_000)
            .map(|_| {
                let (hashing, now, most) = (hashing.clone(), now.clone(), most.clone());
                tokio::spawn(async move {
                    let work = move |_: &Argon2<'static>| {
                        most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                        std::thread::sleep(Duration::from_millis(1));
                        now.fetch_sub(1, SeqCst);
                    };
                    hashing.in_slot(work).await
                })
            })
            .collect();
        let (mut done, mut refused) = (0, 0);
        for task in tasks {
            match task.await.expect("no task panics") {
                Ok(()) => done += 1,
                Err(EngineError::Busy) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(most.load(SeqCst) <= SLOTS_MAX, "{most:?}");
        assert!(done > 0 && refused > 0, "{done} done, {refused} refused");
        assert!(hashing.in_slot(|_| ()).await.is_ok(), "all places are free again");
    }

    #[tokio::test]
    async fn r_35_the_thread_that_asks_does_something_else_meanwhile() {
        let hashing = Hashing::new(PasswordHashing::Strong);
        tokio::select! {
            biased;
            _ = hashing.verify("correct horse", None) => panic!("it was hashed on the spot"),
            () = std::future::ready(()) => {}
        }
    }

    #[tokio::test]
    async fn nothing_authenticates_without_a_real_hash() {
        let hashing = Hashing::new(PasswordHashing::Cheap);
        for hash in [None, Some(""), Some("*"), Some("!"), Some("password"), Some("$argon2id$v=19$m=8,t=1,p=1")] {
            for password in ["", "*", "!", "password"] {
                assert!(!hashing.verify(password, hash).await.expect("verifies"), "{hash:?} {password:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_strong_hash_costs_what_it_says() {
        let hash = Hashing::new(PasswordHashing::Strong).hash(&world(), "password").await.expect("hashes");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    }

    #[tokio::test]
    async fn an_unknown_user_takes_as_long_as_a_wrong_password() {
        let hashing = Hashing::new(PasswordHashing::Strong);
        let hash = hashing.hash(&world(), "password").await.expect("hashes");
        let mut fastest = [Duration::MAX; 2];
        for _ in 0..5 {
            for (index, hash) in [Some(hash.as_str()), None].into_iter().enumerate() {
                let start = Instant::now();
                assert!(!hashing.verify("wrong password", hash).await.expect("verifies"));
                fastest[index] = fastest[index].min(start.elapsed());
            }
        }
        let [wrong, unknown] = fastest.map(|time| time.as_secs_f64());
        assert!((0.5..2.0).contains(&(wrong / unknown)), "{wrong} s for a wrong password, {unknown} s for no user");
    }

    #[tokio::test]
    async fn passwords_that_are_too_long_never_reach_the_hash() {
        assert!(is_possible(&"x".repeat(PASSWORD_BYTES_MAX)));
        assert!(!is_possible(&"x".repeat(PASSWORD_BYTES_MAX + 1)));
        assert!(!is_possible(&"\u{e9}".repeat(257)), "bytes count, not characters");
        assert!(!is_possible(""));
    }
}
