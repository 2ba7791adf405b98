//! Second factors: an authenticator's code of the moment, and recovery codes for when it is lost.

use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;
use sojourn_store::StoreError;
use sojourn_store::User;
use totp_rs::Builder;

use super::Identity;
use super::Unavailable;
use super::claim::store_gone;
use super::seal::SealError;
use crate::secret::Secret;
use crate::secret::hash_of;

/// Bytes of an authenticator's secret, as RFC 4226 recommends.
const SECRET: usize = 20;
/// Digits of a code.
const DIGITS: usize = 6;
/// Seconds a code is good for, and as long again for whoever types slowly.
const STEP: u64 = 30;
/// What authenticators show the account under.
const ISSUER: &str = "Sojourn";

/// Recovery codes of a set.
pub const RECOVERY_CODES: usize = 10;
/// Letters of one, in groups: 120 bits, so that a plain hash is all it takes to keep them.
const LETTERS: usize = 24;
const GROUP: usize = 4;
/// Crockford's base 32: no letter that looks like a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// An authenticator that is being set up. It counts once a code of it was shown.
#[derive(Debug)]
pub struct Enrolment {
    /// The secret in base 32, to type.
    pub secret: Secret,
    /// The same as an `otpauth:` address, for a QR code.
    pub uri: Secret,
}

/// What an account has besides its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondFactor {
    /// Since when.
    pub added_at: Wall,
    /// Recovery codes that were not used yet.
    pub recovery_codes_left: usize,
}

/// Why a second factor was not changed.
#[derive(Debug, thiserror::Error)]
pub enum FactorError {
    /// There is one.
    #[error("there is a second factor already; remove it first")]
    Exists,
    /// There is none, or none that waits to be confirmed.
    #[error("there is no second factor to do that with")]
    Missing,
    /// Not the code of this moment.
    #[error("the code is not right; check the clock of the device that shows it")]
    Code,
    /// The key that seals secrets does not work.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What comes of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It is right, and used now.
    Yes,
    /// It was right once.
    Replayed,
    /// It is wrong.
    No,
}

impl Identity {
    /// What an account has besides its password; none: nothing.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn second_factor_of(
        &self,
        user: UserId,
    ) -> Result<Option<SecondFactor>, FactorError> {
        let confirmed = self.store.totp(user).await?.filter(|totp| totp.confirmed_at.is_some());
        let Some(totp) = confirmed else { return Ok(None) };
        let recovery_codes_left = self.store.recovery_codes_left(user).await?;
        let added_at = totp.confirmed_at.unwrap_or(totp.added_at);
        Ok(Some(SecondFactor { added_at, recovery_codes_left }))
    }

    pub(super) async fn has_second_factor(&self, user: UserId) -> Result<bool, StoreError> {
        Ok(self.store.totp(user).await?.is_some_and(|totp| totp.confirmed_at.is_some()))
    }

    /// Begins to set up an authenticator. Whoever asks has proved a moment ago who they are.
    ///
    /// # Errors
    /// When there is one.
    pub async fn begin_totp(&self, user: UserId) -> Result<Enrolment, FactorError> {
        let account = self.store.user_by_id(user).await?.ok_or(FactorError::Missing)?;
        let mut secret = [0; SECRET];
        getrandom::fill(&mut secret).map_err(|_| SealError::Random)?;
        let sealed = self.seal.seal(&secret, &user.to_string())?;
        self.store.begin_totp(user, &sealed, self.clock.wall()).await.map_err(|e| match e {
            StoreError::Exists(_) => FactorError::Exists,
            error => FactorError::Store(error),
        })?;
        let text = BASE32_NOPAD.encode(&secret);
        // Names and issuer have no characters that would have to be escaped.
        let uri = format!(
            "otpauth://totp/{ISSUER}:{}?secret={text}&issuer={ISSUER}&algorithm=SHA1\
             &digits={DIGITS}&period={STEP}",
            account.name
        );
        Ok(Enrolment { secret: Secret::new(text), uri: Secret::new(uri) })
    }

    /// The authenticator counts from now on: this is a code of it. The recovery codes are shown once.
    ///
    /// # Errors
    /// When the code is wrong, or nothing waits for one.
    pub async fn confirm_totp(
        &self,
        user: UserId,
        code: &str,
        actor: &Actor,
    ) -> Result<Vec<Secret>, FactorError> {
        let waiting = self.store.totp(user).await?.filter(|totp| totp.confirmed_at.is_none());
        let totp = waiting.ok_or(FactorError::Missing)?;
        let secret = self.seal.open(&totp.secret, &user.to_string())?;
        let step = step_of(&secret, code, self.clock.wall()).ok_or(FactorError::Code)?;
        let codes = recovery_codes()?;
        let hashes: Vec<_> = codes.iter().map(|code| hash_of(&plain(code.expose()))).collect();
        let event = self.about(Action::UserTotpAdded, user, actor).await?;
        self.store
            .confirm_totp(user, &totp.secret, step, &hashes, &event)
            .await
            .map_err(missing)?;
        Ok(codes)
    }

    /// The account has no second factor any more. Whoever asks has proved a moment ago who they are,
    /// or is an admin.
    ///
    /// # Errors
    /// When there is none.
    pub async fn remove_totp(&self, user: UserId, actor: &Actor) -> Result<(), FactorError> {
        let event = self.about(Action::UserTotpRemoved, user, actor).await?;
        self.store.remove_totp(user, &event).await.map_err(missing)
    }

    /// A new set of recovery codes, shown once; every earlier one is void.
    ///
    /// # Errors
    /// When there is no second factor.
    pub async fn renew_recovery_codes(
        &self,
        user: UserId,
        actor: &Actor,
    ) -> Result<Vec<Secret>, FactorError> {
        if !self.has_second_factor(user).await? {
            return Err(FactorError::Missing);
        }
        let codes = recovery_codes()?;
        let hashes: Vec<_> = codes.iter().map(|code| hash_of(&plain(code.expose()))).collect();
        let event = self.about(Action::UserRecoveryCodesMade, user, actor).await?;
        self.store.set_recovery_codes(user, &hashes, &event).await?;
        Ok(codes)
    }

    /// Whether this is the account's code of the moment, which it is once only.
    pub(super) async fn prove_totp(
        &self,
        user: &User,
        code: &str,
        actor: &Actor,
    ) -> Result<Proof, Unavailable> {
        let totp = self.store.totp(user.id).await.map_err(|error| store_gone(&error))?;
        let Some(totp) = totp.filter(|totp| totp.confirmed_at.is_some()) else {
            return Ok(Proof::No);
        };
        let secret = match self.seal.open(&totp.secret, &user.id.to_string()) {
            Ok(secret) => secret,
            Err(error) => {
                tracing::error!(user = user.name, %error, "second factor not checked");
                return Ok(Proof::No);
            }
        };
        let now = self.clock.wall();
        let Some(step) = step_of(&secret, code, now) else { return Ok(Proof::No) };
        let used = self.store.use_totp_step(user.id, step).await;
        if used.map_err(|error| store_gone(&error))? {
            return Ok(Proof::Yes);
        }
        let event = Event::new(now, Action::UserTotpReplayed, actor.clone());
        let told = self.store.tell(&event.detail("user", user.name.as_str())).await;
        told.map_err(|error| store_gone(&error))?;
        Ok(Proof::Replayed)
    }

    /// Whether this is a recovery code of the account, which is used up by it.
    pub(super) async fn prove_recovery(
        &self,
        user: &User,
        code: &str,
        actor: &Actor,
    ) -> Result<Proof, Unavailable> {
        let code = plain(code);
        if code.len() != LETTERS {
            return Ok(Proof::No);
        }
        let event = Event::new(self.clock.wall(), Action::UserRecoveryCodeUsed, actor.clone())
            .detail("user", user.name.as_str());
        let used = self.store.use_recovery_code(user.id, &hash_of(&code), &event).await;
        Ok(if used.map_err(|error| store_gone(&error))? { Proof::Yes } else { Proof::No })
    }

    /// A code at a prompt that takes either.
    pub(super) async fn prove_either(
        &self,
        user: &User,
        code: &str,
        actor: &Actor,
    ) -> Result<Proof, Unavailable> {
        if plain(code).len() == LETTERS {
            self.prove_recovery(user, code, actor).await
        } else {
            self.prove_totp(user, code, actor).await
        }
    }

    async fn about(
        &self,
        action: Action,
        user: UserId,
        actor: &Actor,
    ) -> Result<Event, FactorError> {
        let account = self.store.user_by_id(user).await?.ok_or(FactorError::Missing)?;
        Ok(Event::new(self.clock.wall(), action, actor.clone()).detail("user", account.name))
    }
}

fn missing(error: StoreError) -> FactorError {
    match error {
        StoreError::Missing(_) => FactorError::Missing,
        error => FactorError::Store(error),
    }
}

/// The step whose code this is: the present one or the one before, never a later one.
fn step_of(secret: &[u8], code: &str, now: Wall) -> Option<i64> {
    let digits: String = code.chars().filter(|c| !c.is_whitespace()).take(DIGITS + 1).collect();
    if digits.len() != DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let secret: [u8; SECRET] = secret.try_into().ok()?;
    let totp = Builder::new().with_secret(secret).with_skew(0).with_step_duration(STEP).build();
    let totp = totp.ok()?;
    let seconds = Duration::from_micros(u64::try_from(now.0).ok()?).as_secs();
    // Both are looked at in any case: which one it is shall not be told by the time it takes.
    let (present, before) =
        (totp.check(&digits, seconds), totp.check(&digits, seconds.saturating_sub(STEP)));
    i64::try_from(present.or(before)?).ok()
}

fn recovery_codes() -> Result<Vec<Secret>, FactorError> {
    let mut bytes = [0; RECOVERY_CODES * LETTERS];
    getrandom::fill(&mut bytes).map_err(|_| SealError::Random)?;
    let codes = bytes.chunks(LETTERS).map(|code| {
        let groups = code.chunks(GROUP).map(|group| {
            let letters = group.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
            letters.collect::<String>()
        });
        Secret::new(groups.collect::<Vec<_>>().join("-"))
    });
    Ok(codes.collect())
}

/// A recovery code as it is hashed, however it was typed. Bounded: what is longer is none.
fn plain(code: &str) -> String {
    let letters = code.chars().filter(|c| !c.is_whitespace() && *c != '-').take(LETTERS + 1);
    let alike = letters.map(|c| match c.to_ascii_lowercase() {
        'o' => '0',
        'i' | 'l' => '1',
        c => c,
    });
    alike.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Its appendix B, the last six of eight digits.
        let secret = b"12345678901234567890";
        for (seconds, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")]
        {
            let now = Wall(seconds * 1_000_000);
            assert_eq!(step_of(secret, code, now), Some(seconds / 30), "{seconds}");
        }
    }

    #[test]
    fn l_43_the_present_step_and_the_one_before_count() {
        let secret = b"12345678901234567890";
        let step = |seconds: i64| step_of(secret, "287082", Wall(seconds * 1_000_000 + 999_999));
        assert_eq!((step(29), step(30), step(59), step(60)), (None, Some(1), Some(1), Some(1)));
        assert_eq!((step(89), step(90)), (Some(1), None));
        let at = |code| step_of(secret, code, Wall(59_000_000));
        assert_eq!(at("287 082"), Some(1));
        for other in ["", "28708", "2870820", "28708x", "２８７０８２", "-87082"] {
            assert_eq!(at(other), None, "{other}");
        }
    }

    #[test]
    fn l_45_recovery_codes_are_ten_of_120_bits_and_are_read_as_people_type() {
        let codes = recovery_codes().unwrap();
        assert_eq!(codes.len(), 10);
        for code in &codes {
            let code = code.expose();
            assert_eq!(code.split('-').map(str::len).collect::<Vec<_>>(), [4; 6]);
            assert_eq!(plain(code).len() * 5, 120);
            assert_eq!(plain(&code.to_uppercase().replace('-', " ")), plain(code));
        }
        assert_eq!(plain("oIl-0"), "0110");
        assert_eq!(plain(&"a".repeat(10_000)).len(), LETTERS + 1);
    }
}
