//! What proves who somebody is: failures, devices, ceremonies, second factors, one-time links.

use std::time::Duration;

use super::*;

on_both! {
    failures_are_counted_with_their_account_and_address,
    of_many_failures_at_once_each_counts,
    what_is_counted_is_bounded_and_forgotten,
    a_success_ends_the_row_and_is_remembered,
    a_ceremony_has_so_many_tries,
    a_step_of_an_authenticator_is_used_once,
    a_recovery_code_is_used_once,
    a_link_is_used_once_and_ends_what_the_password_opened,
}

const RULES: FailureRules = FailureRules {
    wait: |count| Duration::from_secs(count.into()),
    memory: Duration::from_secs(100),
    window: Duration::from_secs(50),
    disable_at: 10,
};

const NOW: Wall = Wall(1_000_000_000);

fn seconds(n: u64) -> Wall {
    NOW.after(Duration::from_secs(n))
}

async fn fail(store: &Store, user: Option<UserId>, bucket: &str, at: Wall) -> bool {
    let failure = Failure { user, bucket: Some(bucket), origin: "there", at };
    let events = (event(Action::LoginFailed), event(Action::UserPasswordDisabled));
    store.count_failure(&failure, &RULES, &events.0, &events.1).await.unwrap()
}

async fn failures_are_counted_with_their_account_and_address(house: House) {
    let (store, id) = (&house.store, with_alice(&house).await);
    for n in 1..=9 {
        assert!(!fail(store, Some(id), "alice", seconds(n)).await, "{n}");
    }
    let known = store.failures("alice", seconds(9)).await.unwrap();
    assert_eq!((known.count, known.until), (9, seconds(18)));
    let there = store.failures("there", seconds(9)).await.unwrap();
    assert_eq!(there.recent, (1..=9).map(seconds).collect::<Vec<_>>());
    assert!(!fail(store, None, "nobody", seconds(55)).await);
    let there = store.failures("there", seconds(55)).await.unwrap();
    assert_eq!(there.recent.len(), 5, "those of the window: {there:?}");

    let version = store.accounts_version().await.unwrap();
    assert!(fail(store, Some(id), "alice", seconds(60)).await, "the tenth disables");
    assert!(!fail(store, Some(id), "alice", seconds(61)).await, "once");
    let user = store.user_by_id(id).await.unwrap().unwrap();
    assert_eq!(user.password_disabled_at, Some(seconds(60)));
    assert_ne!(store.accounts_version().await.unwrap(), version);
    let told = store.untold(100).await.unwrap();
    let disabled = told.iter().filter(|event| event.action == Action::UserPasswordDisabled);
    assert_eq!(disabled.count(), 1);
    store
        .set_password(id, Some("$argon2id$..."), false, &event(Action::UserPasswordChanged))
        .await
        .unwrap();
    assert_eq!(store.user_by_id(id).await.unwrap().unwrap().password_disabled_at, None);
    assert!(!fail(store, Some(id), "alice", seconds(62)).await, "the first of a new row");
}

async fn of_many_failures_at_once_each_counts(house: House) {
    let id = with_alice(&house).await;
    let tries = (0..20).map(|_| {
        let store = house.store.clone();
        tokio::spawn(async move { fail(&store, Some(id), "alice", NOW).await })
    });
    let mut disabled = 0;
    for came in tries.collect::<Vec<_>>() {
        disabled += usize::from(came.await.unwrap());
    }
    assert!(disabled <= 1);
    assert_eq!(house.store.failures("alice", NOW).await.unwrap().count, 20);
    assert_eq!(house.store.failures("there", NOW).await.unwrap().recent.len(), 20);
    // Whatever came in between, the next one finds the row too long.
    fail(&house.store, Some(id), "alice", NOW).await;
    let user = house.store.user_by_id(id).await.unwrap().unwrap();
    assert!(user.password_disabled_at.is_some());
}

async fn what_is_counted_is_bounded_and_forgotten(house: House) {
    let store = &house.store;
    fail(store, None, "one", NOW).await;
    fail(store, None, "other", seconds(60)).await;
    let count = async |key: &str, at: Wall| store.failures(key, at).await.unwrap().count;
    assert_eq!(count("one", seconds(100)).await, 1);
    assert_eq!(count("one", seconds(101)).await, 0, "after its wait and its memory");
    fail(store, None, "one", seconds(101)).await;
    assert_eq!(count("one", seconds(101)).await, 1, "begins anew");
    store.forget_failures(seconds(162)).await.unwrap();
    assert_eq!((count("one", NOW).await, count("other", NOW).await), (1, 0));
    store.clear_failures("one").await.unwrap();
    assert_eq!(count("one", NOW).await, 0);
}

async fn a_success_ends_the_row_and_is_remembered(house: House) {
    let (store, id) = (&house.store, with_alice(&house).await);
    fail(store, Some(id), "alice", NOW).await;
    let known = async |user, device: &str, at| store.knows_device(user, device, at).await.unwrap();
    let success = async |device: &str, until| {
        let known = [device];
        let success = Success { user: id, bucket: "alice", known: &known, until };
        store.count_success(&success).await.unwrap();
    };
    success("browser", seconds(10)).await;
    assert_eq!(store.failures("alice", NOW).await.unwrap().count, 0);
    assert!(known(Some(id), "browser", seconds(9)).await);
    assert!(!known(Some(id), "browser", seconds(10)).await, "forgotten");
    assert!(!known(Some(UserId::new()), "browser", NOW).await, "another's");
    assert!(!known(None, "browser", NOW).await);
    for n in 0..MAX_DEVICES {
        success(&format!("browser{n}"), seconds(20)).await;
    }
    assert!(!known(Some(id), "browser", NOW).await, "made room");
    assert!(known(Some(id), "browser0", NOW).await);
    store.rehash(id, "another", "new").await.unwrap();
    store.rehash(id, "$argon2id$...", "new").await.unwrap();
    assert_eq!(store.user_by_id(id).await.unwrap().unwrap().password.as_deref(), Some("new"));
}

async fn a_ceremony_has_so_many_tries(house: House) {
    let (store, user) = (&house.store, with_alice(&house).await);
    let begin = async |id_hash: &str, at: Wall| {
        let (purpose, bucket, expires_at) = ("test", "b", at.after(Duration::from_secs(10)));
        let new = NewCeremony { id_hash, user, epoch: 3, purpose, bucket, at, expires_at };
        store.begin_ceremony(&new).await.unwrap();
    };
    let attempt = async |id: &str, purpose: &str, at: Wall| {
        store.try_ceremony(id, purpose, 2, at).await.unwrap().map(|ceremony| ceremony.tries)
    };
    begin("one", NOW).await;
    assert_eq!(attempt("one", "another", NOW).await, None);
    assert_eq!(attempt("one", "test", NOW).await, Some(1));
    let second = store.try_ceremony("one", "test", 2, seconds(9)).await.unwrap().unwrap();
    assert_eq!(second, Ceremony { user, epoch: 3, bucket: "b".to_owned(), tries: 2 });
    assert_eq!(attempt("one", "test", NOW).await, None, "used up");
    begin("late", NOW).await;
    assert_eq!(attempt("late", "test", seconds(10)).await, None, "too old");
    assert!(store.end_ceremony("late").await.unwrap());
    assert!(!store.end_ceremony("late").await.unwrap());
    for n in 0..MAX_CEREMONIES + 1 {
        begin(&format!("many{n}"), seconds(1 + u64::try_from(n).unwrap() % 2)).await;
    }
    assert_eq!(attempt("one", "test", NOW).await, None);
    let mut left = 0;
    for n in 0..MAX_CEREMONIES + 1 {
        left += usize::from(attempt(&format!("many{n}"), "test", seconds(2)).await.is_some());
    }
    assert_eq!(left, MAX_CEREMONIES);
}

async fn a_step_of_an_authenticator_is_used_once(house: House) {
    let (store, id) = (&house.store, with_alice(&house).await);
    assert!(store.totp(id).await.unwrap().is_none());
    store.begin_totp(id, "sealed", NOW).await.unwrap();
    assert!(!store.use_totp_step(id, 5).await.unwrap(), "not confirmed");
    store.begin_totp(id, "sealed anew", NOW).await.unwrap();
    let codes = ["a".to_owned(), "b".to_owned()];
    let added = event(Action::UserTotpAdded);
    assert!(store.confirm_totp(id, "sealed", 5, &codes, &added).await.is_err(), "another one");
    store.confirm_totp(id, "sealed anew", 5, &codes, &added).await.unwrap();
    assert!(store.confirm_totp(id, "sealed anew", 6, &codes, &added).await.is_err());
    let again = store.begin_totp(id, "third", NOW).await.unwrap_err();
    assert!(matches!(again, StoreError::Exists(_)), "{again}");
    assert!(!store.use_totp_step(id, 5).await.unwrap(), "shown when it was confirmed");
    let tries = (0..20).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.use_totp_step(id, 6).await.unwrap() })
    });
    let mut used = 0;
    for came in tries.collect::<Vec<_>>() {
        used += usize::from(came.await.unwrap());
    }
    assert_eq!(used, 1);
    assert_eq!(store.recovery_codes_left(id).await.unwrap(), 2);
    let removed = event(Action::UserTotpRemoved);
    store.remove_totp(id, &removed).await.unwrap();
    assert!(store.remove_totp(id, &removed).await.is_err());
    assert_eq!(store.recovery_codes_left(id).await.unwrap(), 0);
}

async fn a_recovery_code_is_used_once(house: House) {
    let (store, id) = (&house.store, with_alice(&house).await);
    let made = event(Action::UserRecoveryCodesMade);
    let codes: Vec<_> = (0..3).map(|n| format!("code{n}")).collect();
    store.set_recovery_codes(id, &codes, &made).await.unwrap();
    let tries = (0..20).map(|_| {
        let store = store.clone();
        let used = event(Action::UserRecoveryCodeUsed);
        tokio::spawn(async move { store.use_recovery_code(id, "code0", &used).await.unwrap() })
    });
    let mut used = 0;
    for came in tries.collect::<Vec<_>>() {
        used += usize::from(came.await.unwrap());
    }
    assert_eq!((used, store.recovery_codes_left(id).await.unwrap()), (1, 2));
    let another = event(Action::UserRecoveryCodeUsed);
    assert!(!store.use_recovery_code(UserId::new(), "code1", &another).await.unwrap());
    let made = event(Action::UserRecoveryCodesMade);
    store.set_recovery_codes(id, &codes[2..], &made).await.unwrap();
    let another = event(Action::UserRecoveryCodeUsed);
    assert!(!store.use_recovery_code(id, "code1", &another).await.unwrap(), "void");
    let many: Vec<_> = (0..=MAX_RECOVERY_CODES).map(|n| n.to_string()).collect();
    assert!(store.set_recovery_codes(id, &many, &made).await.is_err());
}

async fn a_link_is_used_once_and_ends_what_the_password_opened(house: House) {
    let (store, id) = (&house.store, with_alice(&house).await);
    let issued = event(Action::UserResetIssued);
    store.issue_reset(id, "first", seconds(3600), &issued).await.unwrap();
    let issued = event(Action::UserResetIssued);
    store.issue_reset(id, "second", seconds(3600), &issued).await.unwrap();
    assert_eq!(store.reset_for("first", NOW).await.unwrap(), None, "void");
    assert_eq!(store.reset_for("second", NOW).await.unwrap(), Some(id));
    assert_eq!(store.reset_for("second", seconds(3600)).await.unwrap(), None, "too old");
    let tries = (0..20).map(|n| {
        let store = store.clone();
        let used = Event::new(NOW, Action::UserResetUsed, Actor::SYSTEM);
        tokio::spawn(async move {
            store.use_reset(id, "second", &format!("hash{n}"), &used).await.unwrap()
        })
    });
    let mut used = 0;
    for came in tries.collect::<Vec<_>>() {
        used += usize::from(came.await.unwrap());
    }
    assert_eq!(used, 1);
    assert_eq!(store.user_by_id(id).await.unwrap().unwrap().epoch, 1);
}
