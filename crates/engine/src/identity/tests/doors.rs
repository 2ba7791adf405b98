//! The second factor at the SSH door.

use super::factors::code_of;
use super::*;

fn half(verdict: Verdict) -> Half {
    match verdict {
        Verdict::CodeNeeded(half) => half,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_password_alone_is_refused_where_there_is_a_second_factor() {
    let house = House::new().await;
    let conversation = async |password: &str| {
        house.identity.conversation("alice", password.as_bytes(), &peer()).await
    };
    assert!(matches!(conversation(PASSWORD).await, Verdict::Accepted(_)), "there is none yet");
    let (secret, codes) = house.enrol().await;
    assert_eq!(house.try_password("alice", PASSWORD).await, Verdict::Refused);
    assert_eq!(conversation("wrong wrong wrong").await, Verdict::Refused);

    let mut asked = half(conversation(PASSWORD).await);
    assert_eq!(house.identity.code(&mut asked, "000000", &peer()).await, Verdict::Refused);
    let right = code_of(&secret, &house.clock);
    let verdict = house.identity.code(&mut asked, &right, &peer()).await;
    let Verdict::Accepted(alice) = verdict else { panic!("{verdict:?}") };
    assert_eq!((alice.name.as_str(), alice.how), ("alice", How::Password));
    let mut asked = half(conversation(PASSWORD).await);
    assert_eq!(house.identity.code(&mut asked, &right, &peer()).await, Verdict::Refused, "replay");
    let verdict = house.identity.code(&mut asked, codes[0].expose(), &peer()).await;
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    let mut attempts = house.attempts().await;
    attempts.sort();
    assert_eq!(
        attempts,
        [
            "keyboard-interactive alice accepted -",
            "keyboard-interactive alice accepted -",
            "keyboard-interactive alice accepted -",
            "keyboard-interactive alice partial -",
            "keyboard-interactive alice partial -",
            "keyboard-interactive alice refused code",
            "keyboard-interactive alice refused code used before",
            "keyboard-interactive alice refused password",
            "password alice refused second factor",
        ]
    );
}

#[tokio::test]
async fn half_of_a_proof_is_good_for_five_tries_and_five_minutes() {
    let house = House::new().await;
    let (secret, _) = house.enrol().await;
    let ask =
        async || half(house.identity.conversation("alice", PASSWORD.as_bytes(), &peer()).await);
    let mut asked = ask().await;
    house.clock.advance(Duration::from_secs(301));
    let code = async |asked: &mut Half| {
        let right = code_of(&secret, &house.clock);
        house.identity.code(asked, &right, &peer()).await
    };
    assert_eq!(code(&mut asked).await, Verdict::Refused, "too late");
    let mut asked = ask().await;
    house.accounts.set_password("alice", Some(PASSWORD), Actor::local(0)).await.unwrap();
    assert_eq!(code(&mut asked).await, Verdict::Refused, "the password is another");
    let mut asked = ask().await;
    for _ in 0..5 {
        assert_eq!(house.identity.code(&mut asked, "000000", &peer()).await, Verdict::Refused);
    }
    house.clock.advance(Duration::from_secs(30));
    assert_eq!(code(&mut asked).await, Verdict::Refused, "the sixth");
    assert!(matches!(code(&mut ask().await).await, Verdict::Accepted(_)));
}

#[tokio::test]
async fn a_key_is_enough_unless_it_is_not_to_be() {
    let house = House::new().await;
    let key = house.accounts.add_key("alice", KEY, Actor::local(0)).await.unwrap();
    let strict = house.with(Settings { ssh_key_needs_totp: true, ..cheap() });
    let fingerprint = key.fingerprint.as_str();
    let verdict = strict.public_key("alice", fingerprint, &peer()).await;
    assert!(matches!(verdict, Verdict::Accepted(_)), "no second factor, none is asked for");
    let (secret, _) = house.enrol().await;
    let verdict = house.identity.public_key("alice", fingerprint, &peer()).await;
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    let mut asked = half(strict.public_key("alice", fingerprint, &peer()).await);
    assert_eq!(strict.code(&mut asked, "", &peer()).await, Verdict::Refused);
    let verdict = strict.code(&mut asked, &code_of(&secret, &house.clock), &peer()).await;
    let Verdict::Accepted(alice) = verdict else { panic!("{verdict:?}") };
    assert_eq!((alice.how, alice.fingerprint.as_deref()), (How::Key, Some(fingerprint)));
    // It may be wanted from now on only.
    house.identity.set_settings(&Settings { ssh_key_needs_totp: true, ..cheap() });
    half(house.identity.public_key("alice", fingerprint, &peer()).await);
}

#[tokio::test]
async fn what_is_wanted_of_new_passwords_may_change() {
    let house = House::new().await;
    let guessable = "aaaaaaaaaaaaaaaaaaaaaaab";
    let accounts = house.identity.accounts();
    let by_rule =
        async || accounts.set_password("alice", Some(guessable), Actor::local(0)).await.is_ok();
    assert!(!by_rule().await);
    house.identity.set_settings(&Settings { policy: Policy::new(&[], 0), ..cheap() });
    assert!(by_rule().await, "for those as well who were there before");
}

#[tokio::test]
async fn both_doors_count_together() {
    let house = House::new().await;
    for n in 0..6 {
        let client = at(&format!("198.51.100.{n}"));
        assert!(is_refused(&house.sign_in("alice", "wrong wrong wrong", &client).await));
    }
    let verdict = house.try_password("alice", PASSWORD).await;
    assert_eq!(verdict, Verdict::Throttled { retry_after: Duration::from_secs(30) });
}
