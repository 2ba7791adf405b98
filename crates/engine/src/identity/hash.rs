//! Argon2id, off the threads that serve everybody, and only so many at a time.

mod memory;
mod workers;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use argon2::Params;
use argon2::password_hash::phc::PasswordHash;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use unicode_normalization::UnicodeNormalization;

use memory::Memory;
use workers::Workers;

/// The longest password in bytes. It is told before any work is done for it.
pub const MAX_BYTES: usize = 1024;

/// Tries that may wait for a permit, by door.
const WAITING: usize = 32;
/// How long they may.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The most a stored hash may cost. A row that asks for more was not written by this program.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_TIME: u32 = 16;
const MAX_LANES: u32 = 8;

/// No hash could be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Too many wait.
    #[error("too many sign-ins at the same time; try again in a moment")]
    Busy,
    /// Argon2 or its thread gave up.
    #[error("the password could not be hashed")]
    Broken,
}

/// What a hash costs whoever computes it, and so whoever guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    memory: u32,
    /// Passes over it.
    passes: u32,
}

impl Cost {
    /// OWASP's first choice, and the least that is taken: 19 MiB, twice over.
    pub const LEAST: Self = Self { memory: 19 * 1024, passes: 2 };

    /// Next to nothing, for tests that sign in a hundred times.
    #[cfg(test)]
    pub(super) const CHEAP: Self = Self { memory: 8, passes: 1 };

    /// A cost that is no less than [`Cost::LEAST`] and no more than a stored hash may have.
    #[must_use]
    pub const fn new(memory_kib: u32, passes: u32) -> Option<Self> {
        let enough = memory_kib >= Self::LEAST.memory && passes >= Self::LEAST.passes;
        let bearable = memory_kib <= MAX_MEMORY_KIB && passes <= MAX_TIME;
        if enough && bearable { Some(Self { memory: memory_kib, passes }) } else { None }
    }

    fn phc(self, password: &[u8], memory: &mut Memory) -> Result<String, HashError> {
        let params = Params::new(self.memory, self.passes, 1, None);
        let params = params.map_err(|_| HashError::Broken)?;
        Ok(memory.hash(&params, password)?.to_string())
    }

    /// Whether a hash of these parameters is cheaper to guess.
    fn exceeds(self, params: &Params) -> bool {
        params.m_cost() < self.memory || params.t_cost() < self.passes
    }
}

impl Default for Cost {
    #[cfg(not(feature = "test-clock"))]
    fn default() -> Self {
        Self::LEAST
    }

    /// In programs made for tests it can be next to nothing, so that a thousand sign-ins are a test of
    /// what happens between them.
    #[cfg(feature = "test-clock")]
    fn default() -> Self {
        match std::env::var_os("SOJOURN_TEST_CHEAP_HASHES") {
            Some(_) => Self { memory: Params::MIN_M_COST, passes: Params::MIN_T_COST },
            None => Self::LEAST,
        }
    }
}

/// At which door a password is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// The web door.
    Web,
    /// The SSH door.
    Ssh,
    /// Somebody who is signed in and proves it again, or a password that is to be stored: strangers
    /// who fill the other queues are not to keep people from changing theirs.
    Own,
}

/// The right to compute one hash.
#[derive(Debug)]
pub(super) struct Permit {
    _narrow: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

/// Computes and checks hashes.
#[derive(Clone, Debug)]
pub(super) struct Hasher {
    cost: Cost,
    /// One for two cores: signing in must not take all of the machine.
    all: Arc<Semaphore>,
    /// Through it those of the SSH door come first, one at least fewer than there are permits if that
    /// can be: however many they are, whoever is at the web door has next to nobody in front of them.
    narrow: Arc<Semaphore>,
    waiting: Arc<[AtomicUsize; 3]>,
    workers: Workers,
}

impl Hasher {
    pub(super) fn new(cost: Cost) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with_permits(cost, (cores / 2).max(1))
    }

    fn with_permits(cost: Cost, permits: usize) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            cost,
            all: semaphore(permits),
            narrow: semaphore((permits - 1).max(1)),
            waiting: Arc::default(),
            workers: Workers::new(permits),
        }
    }

    /// Waits for its turn.
    pub(super) async fn permit(&self, queue: Queue) -> Result<Permit, HashError> {
        let _waiting = Waiting::enter(&self.waiting[queue as usize])?;
        let turn = async {
            let narrow = match queue {
                Queue::Web | Queue::Own => None,
                Queue::Ssh => Some(Arc::clone(&self.narrow).acquire_owned().await.ok()?),
            };
            let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Permit { _narrow: narrow, _all: all })
        };
        timeout(LONGEST_WAIT, turn).await.ok().flatten().ok_or(HashError::Busy)
    }

    /// Whether the password is the stored one. Without a stored one, or with one that is not to be
    /// trusted, the same work is done and the answer is no.
    ///
    /// The permit goes into the thread: a caller who leaves does not stop the work, and must not
    /// make room for more of it. It comes back with the answer, to be kept until that is counted:
    /// else the next try would begin before this one counts.
    pub(super) async fn verify(
        &self,
        permit: Permit,
        password: &[u8],
        stored: Option<String>,
    ) -> Result<(Verified, Permit), HashError> {
        let password = normal(password);
        let cost = self.cost;
        let work = self.workers.run(move |memory| {
            // Made by whoever comes first, so that the first unknown name does not take longer.
            let dummy = dummy(cost, memory);
            let real = stored.as_deref().and_then(acceptable);
            let is_real = real.is_some();
            let (hash, params) = real.or_else(|| acceptable(dummy)).ok_or(HashError::Broken)?;
            let matches = memory.fits(&hash, &params, &password)?;
            if !matches || !is_real {
                return Ok((Verified::No, permit));
            }
            let better = cost.exceeds(&params).then(|| cost.phc(&password, memory));
            Ok((Verified::Yes { better: better.transpose()? }, permit))
        });
        work.await.ok_or(HashError::Broken)?
    }

    /// The hash to store, as a PHC string.
    pub(super) async fn hash(&self, password: &str) -> Result<String, HashError> {
        let permit = self.permit(Queue::Own).await?;
        let password = normal(password.as_bytes());
        let cost = self.cost;
        let work = self.workers.run(move |memory| {
            let _permit = permit;
            cost.phc(&password, memory)
        });
        work.await.ok_or(HashError::Broken)?
    }
}

/// Whether a password is the stored one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verified {
    /// It is. `better` is to be stored in place of what there is, which costs less than is wanted now.
    Yes {
        /// A PHC string.
        better: Option<String>,
    },
    /// It is not.
    No,
}

/// Somebody in the queue for a permit.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Result<Self, HashError> {
        let waiting = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) >= WAITING {
            Err(HashError::Busy)
        } else {
            Ok(waiting)
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A hash of nothing anybody knows, with the cost of a real one.
fn dummy(cost: Cost, memory: &mut Memory) -> &'static str {
    static DUMMY: OnceLock<String> = OnceLock::new();
    DUMMY.get_or_init(|| {
        let mut nobody_knows = [0; 32];
        // Without randomness the hash is known, but a match with it is still refused.
        let _ = getrandom::fill(&mut nobody_knows);
        cost.phc(&nobody_knows, memory).unwrap_or_default()
    })
}

/// Reads a stored hash, if it is Argon2id at a bearable cost.
fn acceptable(stored: &str) -> Option<(PasswordHash, Params)> {
    let hash = PasswordHash::new(stored).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let bearable = hash.algorithm.as_str() == "argon2id"
        && hash.version == Some(argon2::Version::V0x13.into())
        && params.m_cost() <= MAX_MEMORY_KIB
        && params.t_cost() <= MAX_TIME
        && params.p_cost() <= MAX_LANES;
    bearable.then_some((hash, params))
}

/// NFC, so that a password is the same from any keyboard. What is not text is left as it is.
fn normal(password: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(password) {
        Ok(text) if !text.is_ascii() => text.nfc().collect::<String>().into_bytes(),
        _ => password.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn verify(hasher: &Hasher, password: &str, stored: Option<&str>) -> Verified {
        let permit = hasher.permit(Queue::Web).await.unwrap();
        hasher.verify(permit, password.as_bytes(), stored.map(str::to_owned)).await.unwrap().0
    }

    async fn check(password: &str, stored: Option<&str>) -> bool {
        verify(&Hasher::new(Cost::LEAST), password, stored).await != Verified::No
    }

    #[tokio::test]
    async fn a_hash_is_argon2id_and_fits_only_its_password() {
        let hash = Hasher::new(Cost::LEAST).hash("correct horse b\u{e4}ttery").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(check("correct horse b\u{e4}ttery", Some(&hash)).await);
        assert!(check("correct horse ba\u{308}ttery", Some(&hash)).await, "decomposed is the same");
        assert!(!check("correct horse battery", Some(&hash)).await);
        assert!(!check("", None).await);
    }

    #[test]
    fn stored_costs_are_bounded() {
        let tail = "$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let fits = |head: &str| acceptable(&format!("{head}{tail}")).is_some();
        assert!(fits("$argon2id$v=19$m=19456,t=2,p=1"));
        for head in [
            "$argon2id$v=19$m=4194304,t=2,p=1",
            "$argon2id$v=19$m=19456,t=4000,p=1",
            "$argon2id$v=19$m=19456,t=2,p=200",
            "$argon2i$v=19$m=19456,t=2,p=1",
            "$pbkdf2-sha256$i=1000",
        ] {
            assert!(!fits(head), "{head}");
        }
        assert!(acceptable("").is_none() && acceptable("password").is_none());
    }

    #[tokio::test]
    async fn l_36_a_hash_below_the_cost_that_is_wanted_now_is_made_anew() {
        let old = Hasher::new(Cost::LEAST).hash("plum orbit").await.unwrap();
        let dearer = Hasher::new(Cost::new(20 * 1024, 3).unwrap());
        let Verified::Yes { better: Some(better) } =
            verify(&dearer, "plum orbit", Some(&old)).await
        else {
            panic!("a better hash")
        };
        assert!(better.starts_with("$argon2id$v=19$m=20480,t=3,p=1$"), "{better}");
        let again = verify(&dearer, "plum orbit", Some(&better)).await;
        assert_eq!(again, Verified::Yes { better: None });
        assert_eq!(verify(&dearer, "plum  orbit", Some(&old)).await, Verified::No);
        assert_eq!(Cost::new(19 * 1024 - 1, 2), None);
        assert_eq!(Cost::new(19 * 1024, 1), None);
        assert_eq!(Cost::new(u32::MAX, 2), None);
    }

    #[tokio::test]
    async fn l_37_only_so_many_wait_and_ssh_does_not_starve_the_web_door() {
        for permits in [1, 2, 4] {
            let hasher = Hasher::with_permits(Cost::LEAST, permits);
            let mut flood = Vec::new();
            let mut held = Vec::new();
            for _ in 0..WAITING {
                let mut wait = Box::pin(hasher.permit(Queue::Ssh));
                match timeout(Duration::ZERO, &mut wait).await {
                    Ok(permit) => held.push(permit.unwrap()),
                    Err(_) => flood.push(wait),
                }
            }
            assert_eq!(held.len(), (permits - 1).max(1), "of {permits}");
            let mut web = Box::pin(hasher.permit(Queue::Web));
            if permits == 1 {
                assert!(timeout(Duration::ZERO, &mut web).await.is_err(), "there is but one");
                held.clear();
            }
            // The one that was let in before is all that web has in front of it.
            let web = timeout(Duration::ZERO, &mut web).await;
            assert!(web.is_ok(), "web is next, of {permits}");
            drop((web, held, flood));
            assert_eq!(hasher.waiting[Queue::Ssh as usize].load(Ordering::Relaxed), 0);
        }
        let hasher = Hasher::with_permits(Cost::LEAST, 1);
        let held = hasher.permit(Queue::Web).await.unwrap();
        let mut waiting: Vec<_> =
            (0..WAITING).map(|_| Box::pin(hasher.permit(Queue::Web))).collect();
        for wait in &mut waiting {
            assert!(timeout(Duration::ZERO, wait).await.is_err(), "waits");
        }
        assert_eq!(hasher.permit(Queue::Web).await.unwrap_err(), HashError::Busy);
        let mut own = Box::pin(hasher.permit(Queue::Own));
        assert!(timeout(Duration::ZERO, &mut own).await.is_err(), "has a place, and waits");
        drop((held, waiting));
        assert!(own.await.is_ok(), "and comes to its turn");
    }
}
