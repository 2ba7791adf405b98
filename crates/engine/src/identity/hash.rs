//! Argon2id, off the threads that serve everybody, and only so many at a time.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use argon2::Argon2;
use argon2::Params;
use argon2::password_hash::PasswordHasher;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use unicode_normalization::UnicodeNormalization;

/// The longest password in bytes. It is told before any work is done for it.
pub const MAX_BYTES: usize = 1024;

/// Hashes at a time for the doors where anybody may knock. Each takes 19 MiB and some 50 ms.
const PERMITS: usize = 2;
/// Tries that may wait for a permit.
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

/// Computes and checks hashes.
#[derive(Clone, Debug)]
pub(super) struct Hasher {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Hasher {
    pub(super) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(PERMITS)), waiting: Arc::default() }
    }

    /// Waits for its turn.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit, HashError> {
        let _waiting = Waiting::enter(&self.waiting)?;
        match timeout(LONGEST_WAIT, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(HashError::Busy),
        }
    }

    /// Whether the password is the stored one. Without a stored one, or with one that is not to be
    /// trusted, the same work is done and the answer is no.
    ///
    /// The permit goes into the thread: a caller who leaves does not stop the work, and must not
    /// make room for more of it.
    pub(super) async fn verify(
        permit: OwnedSemaphorePermit,
        password: &[u8],
        stored: Option<String>,
    ) -> Result<bool, HashError> {
        let password = normal(password);
        let work = spawn_blocking(move || {
            let _permit = permit;
            // Made by whoever comes first, so that the first unknown name does not take longer.
            let dummy = dummy();
            let real = stored.as_deref().and_then(acceptable);
            let is_real = real.is_some();
            let hash = real.or_else(|| acceptable(dummy)).ok_or(HashError::Broken)?;
            let matches = argon2().verify_password(&password, &hash).is_ok();
            Ok(matches && is_real)
        });
        work.await.map_err(|_| HashError::Broken)?
    }

    /// The hash to store, as a PHC string.
    pub(super) async fn hash(&self, password: &str) -> Result<String, HashError> {
        let permit = self.permit().await?;
        let password = normal(password.as_bytes());
        let work = spawn_blocking(move || {
            let _permit = permit;
            phc(&password)
        });
        work.await.map_err(|_| HashError::Broken)?
    }
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

/// m = 19 MiB, t = 2, p = 1: OWASP's first choice.
fn argon2() -> Argon2<'static> {
    Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, Params::DEFAULT)
}

fn phc(password: &[u8]) -> Result<String, HashError> {
    let hash: PasswordHash = argon2().hash_password(password).map_err(|_| HashError::Broken)?;
    Ok(hash.to_string())
}

/// A hash of nothing anybody knows, with the cost of a real one.
fn dummy() -> &'static str {
    static DUMMY: OnceLock<String> = OnceLock::new();
    DUMMY.get_or_init(|| {
        let mut nobody_knows = [0; 32];
        // Without randomness the hash is known, but a match with it is still refused.
        let _ = getrandom::fill(&mut nobody_knows);
        phc(&nobody_knows).unwrap_or_default()
    })
}

/// Reads a stored hash, if it is Argon2id at a bearable cost.
fn acceptable(stored: &str) -> Option<PasswordHash> {
    let hash = PasswordHash::new(stored).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let bearable = hash.algorithm.as_str() == "argon2id"
        && params.m_cost() <= MAX_MEMORY_KIB
        && params.t_cost() <= MAX_TIME
        && params.p_cost() <= MAX_LANES;
    bearable.then_some(hash)
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

    async fn check(password: &str, stored: Option<&str>) -> bool {
        let permit = Hasher::new().permit().await.unwrap();
        Hasher::verify(permit, password.as_bytes(), stored.map(str::to_owned)).await.unwrap()
    }

    #[tokio::test]
    async fn a_hash_is_argon2id_and_fits_only_its_password() {
        let hash = Hasher::new().hash("correct horse b\u{e4}ttery").await.unwrap();
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
    async fn only_so_many_wait() {
        let hasher = Hasher::new();
        let (_a, _b) = (hasher.permit().await.unwrap(), hasher.permit().await.unwrap());
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(hasher.permit())).collect();
        for wait in &mut waiting {
            let polled = timeout(Duration::ZERO, wait).await;
            assert!(polled.is_err(), "waits");
        }
        assert_eq!(hasher.permit().await.unwrap_err(), HashError::Busy);
        drop(waiting);
        assert_eq!(hasher.waiting.load(Ordering::Relaxed), 0);
    }
}
