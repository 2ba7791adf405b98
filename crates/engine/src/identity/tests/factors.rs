//! Codes of the moment and recovery codes, at the web door.

use data_encoding::BASE32_NOPAD;
use totp_rs::Builder;

use super::*;

/// What an authenticator shows.
pub(super) fn code_of(secret: &Secret, clock: &ManualClock) -> String {
    let bytes: [u8; 20] =
        BASE32_NOPAD.decode(secret.expose().as_bytes()).unwrap().try_into().unwrap();
    let totp = Builder::new().with_secret(bytes).build().unwrap();
    totp.generate(u64::try_from(clock.wall().0).unwrap() / 1_000_000).to_string()
}

impl House {
    /// Gives alice an authenticator: its secret, and the recovery codes. A step later.
    pub(super) async fn enrol(&self) -> (Secret, Vec<Secret>) {
        let alice = self.alice().await.id;
        let begun = self.identity.begin_totp(alice).await.unwrap();
        let code = code_of(&begun.secret, &self.clock);
        let codes = self.identity.confirm_totp(alice, &code, &Actor::local(0)).await.unwrap();
        self.clock.advance(Duration::from_secs(30));
        (begun.secret, codes)
    }

    /// Begins to sign in: the ceremony.
    pub(super) async fn half_way(&self) -> Secret {
        match self.sign_in("alice", PASSWORD, &at("192.0.2.1")).await {
            SignIn::SecondFactor(ceremony) => ceremony,
            other => panic!("{other:?}"),
        }
    }

    async fn code(&self, ceremony: &Secret, code: &str) -> SignIn {
        self.identity.second_factor(ceremony.expose(), code, &at("192.0.2.1"), None).await
    }

    async fn recover(&self, ceremony: &Secret, code: &Secret) -> SignIn {
        self.identity.recovery(ceremony.expose(), code.expose(), &at("192.0.2.1"), None).await
    }
}

#[tokio::test]
async fn an_authenticator_counts_once_a_code_of_it_was_shown() {
    let house = House::new().await;
    let alice = house.alice().await.id;
    let by = Actor::local(0);
    let confirm = async |code: &str| house.identity.confirm_totp(alice, code, &by).await;
    assert!(matches!(confirm("123456").await, Err(FactorError::Missing)));
    let given_up = house.identity.begin_totp(alice).await.unwrap();
    let begun = house.identity.begin_totp(alice).await.unwrap();
    assert_ne!(given_up.secret, begun.secret);
    let uri = begun.uri.expose();
    assert!(
        uri.starts_with("otpauth://totp/Sojourn:alice?secret=")
            && uri.contains(begun.secret.expose())
    );
    assert!(!format!("{begun:?}").contains(begun.secret.expose()));
    done(house.sign_in("alice", PASSWORD, &at("192.0.2.1")).await);
    let old = code_of(&given_up.secret, &house.clock);
    assert!(matches!(confirm(&old).await, Err(FactorError::Code)));
    assert_eq!(house.identity.second_factor_of(alice).await.unwrap(), None);
    let codes = confirm(&code_of(&begun.secret, &house.clock)).await.unwrap();
    assert_eq!(codes.len(), RECOVERY_CODES);
    let factor = house.identity.second_factor_of(alice).await.unwrap().unwrap();
    assert_eq!((factor.added_at, factor.recovery_codes_left), (house.clock.wall(), 10));
    assert!(matches!(house.identity.begin_totp(alice).await, Err(FactorError::Exists)));

    let ceremony = house.half_way().await;
    let used = code_of(&begun.secret, &house.clock);
    assert!(is_refused(&house.code(&ceremony, &used).await), "used to confirm");
    house.clock.advance(Duration::from_secs(30));
    let (signed_in, _) = done(house.code(&ceremony, &code_of(&begun.secret, &house.clock)).await);
    assert_eq!(signed_in.methods().to_string(), "password,totp");
    house.clock.advance(Duration::from_secs(30));
    let late = house.code(&ceremony, &code_of(&begun.secret, &house.clock)).await;
    assert!(matches!(late, SignIn::Over), "a ceremony is good once");

    house.identity.remove_totp(alice, &by).await.unwrap();
    assert!(matches!(house.identity.remove_totp(alice, &by).await, Err(FactorError::Missing)));
    done(house.sign_in("alice", PASSWORD, &at("192.0.2.1")).await);
    assert_eq!(
        house.told("user_totp").await,
        ["user_totp_added", "user_totp_replayed", "user_totp_removed"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l_43_a_code_is_accepted_once_of_twenty_at_the_same_time() {
    let house = House::new().await;
    let (secret, _) = house.enrol().await;
    let mut ceremonies = Vec::new();
    for _ in 0..20 {
        ceremonies.push(house.half_way().await);
    }
    let code = code_of(&secret, &house.clock);
    let tries = ceremonies.into_iter().map(|ceremony| {
        let (identity, code) = (house.identity.clone(), code.clone());
        tokio::spawn(async move {
            let client = at("192.0.2.1");
            let came = identity.second_factor(ceremony.expose(), &code, &client, None).await;
            matches!(came, SignIn::Done(..))
        })
    });
    let mut accepted = 0;
    for came in tries.collect::<Vec<_>>() {
        accepted += usize::from(came.await.unwrap());
    }
    assert_eq!(accepted, 1);
}

#[tokio::test]
async fn l_43_an_older_step_is_no_good_after_a_newer_one() {
    let house = House::new().await;
    let (secret, _) = house.enrol().await;
    let (one, other) = (house.half_way().await, house.half_way().await);
    let older = code_of(&secret, &house.clock);
    house.clock.advance(Duration::from_secs(30));
    let newer = code_of(&secret, &house.clock);
    done(house.code(&one, &newer).await);
    assert!(is_refused(&house.code(&other, &older).await), "else it would do for 30 s more");
}

#[tokio::test]
async fn l_44_a_ceremony_has_five_tries_and_five_minutes() {
    let house = House::new().await;
    let (secret, _) = house.enrol().await;
    let ceremony = house.half_way().await;
    for n in 0..5 {
        assert!(is_refused(&house.code(&ceremony, "000000").await), "{n}");
    }
    let right = code_of(&secret, &house.clock);
    assert!(matches!(house.code(&ceremony, &right).await, SignIn::Over), "the sixth");
    for other in ["", "sjp1_", "nonsense", &format!("sjp1_{}", "A".repeat(43))] {
        let came = house.code(&Secret::new(other.to_owned()), &right).await;
        assert!(matches!(came, SignIn::Over), "{other}");
    }

    let ceremony = house.half_way().await;
    house.clock.advance(CEREMONY_LIFETIME - Duration::from_micros(1));
    let late = house.half_way().await;
    house.clock.advance(Duration::from_micros(1));
    let right = code_of(&secret, &house.clock);
    assert!(matches!(house.code(&ceremony, &right).await, SignIn::Over), "too old");
    house.clock.advance(CEREMONY_LIFETIME - Duration::from_micros(2));
    done(house.code(&late, &code_of(&secret, &house.clock)).await);
}

#[tokio::test]
async fn wrong_codes_count_as_wrong_passwords_do() {
    let house = House::new().await;
    let (secret, _) = house.enrol().await;
    let (one, other) = (house.half_way().await, house.half_way().await);
    for _ in 0..5 {
        assert!(is_refused(&house.code(&one, "000000").await));
    }
    assert!(is_refused(&house.code(&other, "000000").await));
    let came = house.code(&other, &code_of(&secret, &house.clock)).await;
    let SignIn::Throttled { retry_after } = came else { panic!("{came:?}") };
    assert_eq!(retry_after, Duration::from_secs(30));
    house.clock.advance(retry_after);
    done(house.code(&other, &code_of(&secret, &house.clock)).await);
}

#[tokio::test]
async fn a_ceremony_is_over_with_what_began_it() {
    let house = House::new().await;
    let (secret, _) = house.enrol().await;
    let ceremony = house.half_way().await;
    house.accounts.set_password("alice", Some(PASSWORD), Actor::local(0)).await.unwrap();
    let right = code_of(&secret, &house.clock);
    assert!(matches!(house.code(&ceremony, &right).await, SignIn::Over), "the password's epoch");
    let ceremony = house.half_way().await;
    house.accounts.disable("alice", Actor::local(0)).await.unwrap();
    assert!(matches!(house.code(&ceremony, &right).await, SignIn::Over), "the account is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l_45_a_recovery_code_is_good_once_and_a_new_set_voids_the_old() {
    let house = House::new().await;
    let (_, codes) = house.enrol().await;
    let alice = house.alice().await.id;
    let mut ceremonies = Vec::new();
    for _ in 0..20 {
        ceremonies.push(house.half_way().await);
    }
    let tries = ceremonies.into_iter().map(|ceremony| {
        let (identity, code) = (house.identity.clone(), codes[0].clone());
        tokio::spawn(async move {
            let client = at("192.0.2.1");
            let came = identity.recovery(ceremony.expose(), code.expose(), &client, None).await;
            matches!(came, SignIn::Done(..))
        })
    });
    let mut accepted = 0;
    for came in tries.collect::<Vec<_>>() {
        accepted += usize::from(came.await.unwrap());
    }
    assert_eq!(accepted, 1);
    house.clock.advance(Duration::from_secs(3600));
    let left = house.identity.second_factor_of(alice).await.unwrap().unwrap();
    assert_eq!(left.recovery_codes_left, 9);
    let new = house.identity.renew_recovery_codes(alice, &Actor::local(0)).await.unwrap();
    let ceremony = house.half_way().await;
    assert!(is_refused(&house.recover(&ceremony, &codes[1]).await), "void");
    let (signed_in, _) = done(house.recover(&ceremony, &new[0]).await);
    assert_eq!(signed_in.methods().to_string(), "password,recovery");
    let told = house.told("user_recovery").await;
    assert_eq!(told.iter().filter(|action| *action == "user_recovery_code_used").count(), 2);
    assert!(told.contains(&"user_recovery_codes_made".to_owned()));
}

#[tokio::test]
async fn somebody_signed_in_proves_again_with_a_code() {
    let house = House::new().await;
    let (secret, codes) = house.enrol().await;
    let (alice, here) = (house.alice().await.id, at("192.0.2.1"));
    let again =
        async |code: Option<&str>| house.identity.prove_again(alice, PASSWORD, code, &here).await;
    assert!(matches!(again(None).await, Again::CodeNeeded));
    assert!(matches!(again(Some("000000")).await, Again::Wrong));
    assert!(matches!(again(Some(&code_of(&secret, &house.clock))).await, Again::Proved(_)));
    assert!(matches!(again(Some(codes[0].expose())).await, Again::Proved(_)));
    assert!(matches!(again(Some(codes[0].expose())).await, Again::Wrong));
}

#[tokio::test]
async fn l_33_beside_a_second_factor_twelve_characters_do() {
    let house = House::new().await;
    let short = Some("x9#mQ2$vL7@n");
    let set = async || house.accounts.set_password("alice", short, Actor::local(0)).await;
    assert!(set().await.is_err());
    house.enrol().await;
    set().await.unwrap();
}
