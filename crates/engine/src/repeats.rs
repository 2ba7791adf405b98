//! Requests that may be sent again: the work is done once, and whoever repeats a request with the same
//! key gets the first one's answer for a day.
//!
//! Work that has begun is finished though its caller has gone: a caller who lost the connection is the
//! very one who will ask again.
//!
//! An answer may show a secret that is shown once, so the store must not be able to tell it: it has a
//! digest of the caller's key, and the answer sealed with that key. Whoever reads the database has
//! neither.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use aes_gcm::Aes256Gcm;
use aes_gcm::KeyInit;
use aes_gcm::aead::Aead;
use aes_gcm::aead::Payload;
use data_encoding::BASE64URL_NOPAD;
use data_encoding::HEXLOWER;
use sha2::Digest;
use sha2::Sha256;
use sojourn_core::ids::SessionId;
use sojourn_store::Asked;
use sojourn_store::MAX_ANSWER;
use sojourn_store::Store;
use sojourn_store::StoreError;
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::engine::Engine;

/// How often old answers are forgotten.
const SWEEP: Duration = Duration::from_secs(3600);

/// Bytes that make each sealing another one.
const NONCE: usize = 12;

/// The longest answer that is kept, in bytes: what is left of the store's when it is sealed.
pub const LONGEST_ANSWER: usize = MAX_ANSWER / 4 * 3 - 64;
/// The longest key, in bytes.
pub const LONGEST_KEY: usize = 255;

/// The lowest status of a refusal. Nothing was done then, so it may be tried again.
const REFUSED: u16 = 400;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// A session that was started and not answered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// What runs in it.
    pub harness: String,
}

/// What comes of a request with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The work was done now.
    First(Reply),
    /// It was done before, with this answer.
    Again(Reply),
    /// It was done by the gateway before this one, which was not there to answer: it started this session.
    Made(Session),
    /// It is being done.
    InFlight,
    /// The key was used for another request.
    Mismatch,
    /// The work broke off without an answer.
    Broken,
}

tokio::task_local! {
    /// The session that a request with a key starts, if it starts one: its id is on record before it.
    static PLANNED: Cell<Option<SessionId>>;
}

/// The id of a session that is about to be started.
pub(crate) fn session_id() -> SessionId {
    PLANNED.try_with(Cell::take).ok().flatten().unwrap_or_else(SessionId::new)
}

/// Requests with their answers. Cheap to clone.
#[derive(Clone)]
pub struct Repeats {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Repeats {
    /// Keeps answers in `store`.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Does `work`, unless the owner of this key had it done before. `request` is all that makes a
    /// request another one: method, path, body.
    ///
    /// A refusal is not kept: with the same key it may be tried again.
    ///
    /// # Errors
    /// When the key is too long, its owner has used too many, or the store does not answer; then
    /// nothing is done.
    pub async fn once<F>(
        &self,
        owner: &str,
        key: &str,
        request: &[&[u8]],
        work: F,
    ) -> Result<Repeat, StoreError>
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let seal = Seal { key: key.to_owned(), owner: owner.to_owned(), digest: digest(request) };
        let (key, session, now) = (seal.name(), SessionId::new(), self.clock.wall());
        match self.store.begin_request(owner, &key, &seal.digest, session, now).await? {
            Asked::InFlight => return Ok(Repeat::InFlight),
            Asked::Mismatch => return Ok(Repeat::Mismatch),
            Asked::Done { status, body } => {
                let body = seal.open(&body).ok_or(StoreError::Impossible("answer"))?;
                return Ok(Repeat::Again(Reply { status, body }));
            }
            Asked::Made(id) => {
                let kept = self.store.session(id).await?;
                let harness = kept.ok_or(StoreError::Impossible("session"))?.new.harness;
                return Ok(Repeat::Made(Session { id, harness }));
            }
            Asked::Fresh => {}
        }
        let (store, owner) = (self.store.clone(), owner.to_owned());
        let done = tokio::spawn(async move {
            let reply = PLANNED.scope(Cell::new(Some(session)), work).await;
            let sealed = seal.close(&reply.body).filter(|_| reply.status < REFUSED);
            let kept = match sealed {
                Some(body) => store.finish_request(&owner, &key, reply.status, &body).await,
                None => store.drop_request(&owner, &key).await,
            };
            if let Err(error) = kept {
                tracing::error!(%error, "an answer is not kept for who asks again");
            }
            reply
        });
        Ok(done.await.map_or(Repeat::Broken, Repeat::First))
    }
}

/// Seals an answer under the caller's key, for its owner and this one request.
struct Seal {
    key: String,
    owner: String,
    digest: String,
}

impl Seal {
    /// What the store has in place of the key.
    fn name(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(self.key.as_bytes()))
    }

    fn cipher(&self) -> Aes256Gcm {
        // Another one than what the store has of the key.
        let key = Sha256::new().chain_update(b"sojourn answer\0").chain_update(&self.key);
        let key: [u8; 32] = key.finalize().into();
        Aes256Gcm::new(&key.into())
    }

    fn belongs(&self) -> String {
        format!("{}\0{}", self.owner, self.digest)
    }

    /// None when the system has no random bytes; then the answer is not kept.
    fn close(&self, body: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).ok()?;
        let belongs = self.belongs();
        let payload = Payload { msg: body, aad: belongs.as_bytes() };
        let sealed = self.cipher().encrypt(&nonce.into(), payload).ok()?;
        Some(BASE64URL_NOPAD.encode(&[&nonce[..], &sealed].concat()))
    }

    fn open(&self, sealed: &str) -> Option<Vec<u8>> {
        let bytes = BASE64URL_NOPAD.decode(sealed.as_bytes()).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
        let belongs = self.belongs();
        let payload = Payload { msg: sealed, aad: belongs.as_bytes() };
        self.cipher().decrypt(&(*nonce).into(), payload).ok()
    }
}

/// Tells requests apart, wherever one part ends and the next begins.
fn digest(request: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in request {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    HEXLOWER.encode(&digest.finalize())
}

impl Engine {
    /// Forgets what the gateway before this one began and did not finish, but for sessions that it had
    /// started: whoever asks again gets those. To be called once, before any door is open.
    pub async fn settle_requests(&self) {
        match self.inner.records.store().drop_unanswered_requests().await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "requests were left unanswered by the last gateway"),
            Err(error) => tracing::warn!(%error, "unanswered requests are not forgotten"),
        }
    }

    /// Forgets, until the gateway goes down, what nobody may ask for any more.
    pub async fn keep_house(&self) {
        let (store, clock) = (self.inner.records.store(), self.clock());
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.shutdown().cancelled() => return,
                _ = sweep.tick() => {}
            }
            if let Err(error) = store.purge_requests(clock.wall()).await {
                tracing::warn!(%error, "old answers are not forgotten yet");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use tempfile::TempDir;
    use tokio::sync::oneshot;

    use super::*;
    use crate::clock::ManualClock;

    struct House {
        _dir: TempDir,
        clock: Arc<ManualClock>,
        repeats: Repeats,
        done: Arc<AtomicUsize>,
    }

    impl House {
        async fn new() -> Self {
            let dir = TempDir::new().unwrap();
            let store = Store::open(dir.path()).await.unwrap();
            let clock = Arc::new(ManualClock::new());
            let repeats = Repeats::new(store, clock.clone());
            Self { _dir: dir, clock, repeats, done: Arc::default() }
        }

        async fn ask(&self, key: &str, request: &[&[u8]], status: u16) -> Repeat {
            let done = self.done.clone();
            let work = async move {
                let body = done.fetch_add(1, Ordering::SeqCst).to_string();
                Reply { status, body: body.into_bytes() }
            };
            self.repeats.once("alice", key, request, work).await.unwrap()
        }
    }

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, body: body.as_bytes().to_vec() }
    }

    #[tokio::test]
    async fn what_is_asked_again_is_done_once() {
        let house = House::new().await;
        let request: &[&[u8]] = &[b"POST", b"/api/sessions", b"{}"];
        assert_eq!(house.ask("k", request, 201).await, Repeat::First(reply(201, "0")));
        assert_eq!(house.ask("k", request, 201).await, Repeat::Again(reply(201, "0")));
        let other: &[&[u8]] = &[b"POST", b"/api/sessions{", b"}"];
        assert_eq!(house.ask("k", other, 201).await, Repeat::Mismatch);
        assert_eq!(house.ask("another", request, 201).await, Repeat::First(reply(201, "1")));
        house.clock.advance(Duration::from_secs(24 * 3600));
        assert_eq!(house.ask("k", other, 201).await, Repeat::First(reply(201, "2")));
    }

    #[tokio::test]
    async fn what_was_refused_may_be_tried_again() {
        let house = House::new().await;
        for (status, body) in [(503, "0"), (429, "1"), (422, "2")] {
            let first = house.ask("k", &[b"x"], status).await;
            assert_eq!(first, Repeat::First(reply(status, body)));
        }
        assert_eq!(house.ask("k", &[b"x"], 201).await, Repeat::First(reply(201, "3")));
        assert_eq!(house.ask("k", &[b"x"], 201).await, Repeat::Again(reply(201, "3")));
    }

    #[test]
    fn an_answer_is_read_with_its_own_key_and_request_alone() {
        let seal = |key: &str, digest: &str| Seal {
            key: key.to_owned(),
            owner: "alice".to_owned(),
            digest: digest.to_owned(),
        };
        let body = vec![7_u8; 200];
        let closed = seal("k-1", "d").close(&body).unwrap();
        assert_ne!(seal("k-1", "d").close(&body).unwrap(), closed, "each sealing is another one");
        assert_eq!(seal("k-1", "d").open(&closed), Some(body));
        assert_eq!(seal("k-2", "d").open(&closed), None);
        assert_eq!(seal("k-1", "e").open(&closed), None);
        let mut changed = closed.into_bytes();
        changed[40] = if changed[40] == b'A' { b'B' } else { b'A' };
        assert_eq!(seal("k-1", "d").open(&String::from_utf8(changed).unwrap()), None);
    }

    #[tokio::test]
    async fn who_goes_away_finds_the_answer() {
        let house = House::new().await;
        let (go, gone) = oneshot::channel::<()>();
        let (start, started) = oneshot::channel::<()>();
        let work = async move {
            start.send(()).unwrap();
            gone.await.unwrap();
            reply(201, "made")
        };
        let repeats = house.repeats.clone();
        let caller =
            tokio::spawn(async move { repeats.once("alice", "k", &[b"x"], work).await.unwrap() });
        started.await.unwrap();
        assert_eq!(house.ask("k", &[b"x"], 500).await, Repeat::InFlight);
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        go.send(()).unwrap();
        let found = loop {
            let found = house.ask("k", &[b"x"], 500).await;
            if found != Repeat::InFlight {
                break found;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(found, Repeat::Again(reply(201, "made")));
    }
}
