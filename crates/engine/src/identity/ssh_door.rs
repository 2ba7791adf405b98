//! The SSH door: by password, by a conversation that may also ask for a code, and what makes a key
//! whole where that is not enough.

use std::time::Duration;

use sojourn_store::User;

use super::Attempt;
use super::Half;
use super::How;
use super::Identity;
use super::Peer;
use super::Unavailable;
use super::Verdict;
use super::claim::Browser;
use super::claim::Checked;
use super::claim::store_gone;
use super::cut;
use super::factors::Proof;
use super::hash::Queue;
use super::is_open;

/// The name of the method in the audit log.
const CONVERSATION: &str = "keyboard-interactive";
/// Tries at the code after one password or key.
const TRIES: u32 = 5;
/// How long somebody may take for it.
const LIFETIME: Duration = Duration::from_secs(300);

/// What came of a password, on the record unless it was right.
enum Tried {
    Right(User, String),
    Refused,
    Throttled(Duration),
}

impl Identity {
    /// Somebody gives a password for `name`, and nothing else will come: where there is a second
    /// factor, that is not enough.
    pub async fn password(&self, name: &str, password: &[u8], peer: &Peer) -> Verdict {
        let attempt = self.attempt(name, How::Password.name(), peer);
        self.by_password(attempt, password, false).await
    }

    /// Somebody gives a password for `name`, and can be asked for a code after it.
    pub async fn conversation(&self, name: &str, password: &[u8], peer: &Peer) -> Verdict {
        let attempt = self.attempt(name, CONVERSATION, peer);
        self.by_password(attempt, password, true).await
    }

    /// Somebody who is known but for the code gives one: of their authenticator, or a recovery code.
    pub async fn code(&self, half: &mut Half, code: &str, peer: &Peer) -> Verdict {
        let name = half.user.name.clone();
        let attempt = self.attempt(&name, CONVERSATION, peer);
        let attempt = attempt.with("after", half.how.name());
        half.tries += 1;
        if half.tries > TRIES || half.begun.after(LIFETIME) < self.clock.wall() {
            return self.refused(attempt, "too late");
        }
        match self.try_code_at_ssh(half, code, &attempt).await {
            Err(why) => self.unavailable(attempt, why),
            Ok(Tried::Refused) => Verdict::Refused,
            Ok(Tried::Throttled(wait)) => self.throttled(attempt, wait),
            Ok(Tried::Right(user, bucket)) => {
                let fingerprint = half.fingerprint.clone();
                self.whole(attempt, user, &bucket, half.how, fingerprint).await
            }
        }
    }

    /// Whether a key, which is right, is enough for its user here.
    pub(super) async fn by_key(
        &self,
        attempt: Attempt<'_>,
        user: User,
        how: How,
        fingerprint: &str,
    ) -> Verdict {
        let fingerprint = Some(fingerprint.to_owned());
        if !self.rules.ssh_key_needs_totp() {
            return self.accepted(attempt, user, how, fingerprint).await;
        }
        match self.has_second_factor(user.id).await {
            Err(error) => self.unavailable(attempt, store_gone(&error)),
            Ok(false) => self.accepted(attempt, user, how, fingerprint).await,
            Ok(true) => match self.claim(&user.name, attempt.peer.address, None).await {
                Err(why) => self.unavailable(attempt, why),
                Ok(claim) => self.half(attempt, user, claim.bucket, how, fingerprint),
            },
        }
    }

    async fn by_password(&self, attempt: Attempt<'_>, password: &[u8], may_ask: bool) -> Verdict {
        let (user, bucket) = match self.try_password(&attempt, password).await {
            Err(why) => return self.unavailable(attempt, why),
            Ok(Tried::Refused) => return Verdict::Refused,
            Ok(Tried::Throttled(retry_after)) => return Verdict::Throttled { retry_after },
            Ok(Tried::Right(user, bucket)) => (user, bucket),
        };
        match self.has_second_factor(user.id).await {
            Err(error) => self.unavailable(attempt, store_gone(&error)),
            Ok(false) => self.whole(attempt, user, &bucket, How::Password, None).await,
            Ok(true) if may_ask => self.half(attempt, user, bucket, How::Password, None),
            Ok(true) => self.refused(attempt, "second factor"),
        }
    }

    async fn try_password(
        &self,
        attempt: &Attempt<'_>,
        password: &[u8],
    ) -> Result<Tried, Unavailable> {
        let claim = self.claim(attempt.name, attempt.peer.address, None).await?;
        let event = attempt.event.clone();
        let (checked, _counted) = self.check(&claim, password, Queue::Ssh).await?;
        match (checked, &claim.user) {
            (Checked::Right, Some(user)) => Ok(Tried::Right(user.clone(), claim.bucket)),
            (Checked::Throttled(wait), _) => {
                let event = event.detail("outcome", "throttled");
                self.audit.record_soon(event.detail("retry_after", wait.as_secs()));
                Ok(Tried::Throttled(wait))
            }
            (Checked::Held(wait), _) => {
                let event = event.detail("outcome", "throttled");
                self.hold(&claim.origin, &event.detail("retry_after", wait.as_secs())).await?;
                Ok(Tried::Throttled(wait))
            }
            (checked, user) => {
                let Checked::Wrong(why) = checked else { return Err(Unavailable::Store) };
                let event = event.detail("outcome", "refused").detail("reason", why);
                let user = user.as_ref().filter(|user| is_open(user));
                self.fail(user, Some(&claim.bucket), &claim.origin, &event).await?;
                Ok(Tried::Refused)
            }
        }
    }

    async fn try_code_at_ssh(
        &self,
        half: &Half,
        code: &str,
        attempt: &Attempt<'_>,
    ) -> Result<Tried, Unavailable> {
        let origin = self.origin(attempt.peer.address);
        let waits = [self.wait_at(&origin).await?, self.wait(&half.bucket).await?];
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Ok(Tried::Throttled(wait));
        }
        let found = self.store.user_by_id(half.user.id).await;
        let user = found.map_err(|error| store_gone(&error))?;
        // What the first half proved is proved no more when the account changed since.
        let is_same = |user: &User| {
            is_open(user) && (half.how != How::Password || user.epoch == half.user.epoch)
        };
        let user = user.filter(is_same);
        let proof = match &user {
            Some(user) => self.prove_either(user, code, &attempt.event.actor).await?,
            None => Proof::No,
        };
        match (proof, user) {
            (Proof::Yes, Some(user)) => Ok(Tried::Right(user, half.bucket.clone())),
            (proof, user) => {
                let why = if proof == Proof::Replayed { "code used before" } else { "code" };
                let event = attempt.event.clone().detail("outcome", "refused");
                let event = event.detail("reason", why);
                self.fail(user.as_ref(), Some(&half.bucket), &origin, &event).await?;
                Ok(Tried::Refused)
            }
        }
    }

    /// They have proved all that is asked for.
    async fn whole(
        &self,
        attempt: Attempt<'_>,
        user: User,
        bucket: &str,
        how: How,
        fingerprint: Option<String>,
    ) -> Verdict {
        let address = attempt.peer.address;
        if let Err(why) = self.succeed(&user, bucket, address, Browser::None).await {
            return self.unavailable(attempt, why);
        }
        self.accepted(attempt, user, how, fingerprint).await
    }

    /// They have to give a code as well.
    fn half(
        &self,
        attempt: Attempt<'_>,
        user: User,
        bucket: String,
        how: How,
        fingerprint: Option<String>,
    ) -> Verdict {
        self.audit.record_soon(attempt.event.detail("outcome", "partial"));
        let begun = self.clock.wall();
        Verdict::CodeNeeded(Half { user, how, fingerprint, bucket, begun, tries: 0 })
    }
}

impl Attempt<'_> {
    fn with(mut self, name: &str, value: &str) -> Self {
        self.event = self.event.detail(name, cut(value));
        self
    }
}
