//! Signing in at the web door by password alone, and what guessing comes to.

use super::*;

const WRONG: &str = "wrong wrong wrong";
const MINUTE: Duration = Duration::from_secs(60);

/// An address nobody used before.
fn anywhere(n: u32) -> Client {
    at(&format!("198.51.{}.{}", n / 250, n % 250 + 1))
}

#[tokio::test]
async fn l_42_every_no_is_the_same_no() {
    let house = House::new().await;
    house.accounts.add("carol", Role::Member, Some(PASSWORD), Actor::local(0)).await.unwrap();
    house.accounts.disable("carol", Actor::local(0)).await.unwrap();
    house.accounts.add("dave", Role::Member, None, Actor::local(0)).await.unwrap();
    for (n, (name, password)) in [
        ("alice", WRONG),
        ("alice", ""),
        ("nobody", PASSWORD),
        ("carol", PASSWORD),
        ("dave", PASSWORD),
        ("\u{1b}[2J\r\n\u{202e}", PASSWORD),
    ]
    .into_iter()
    .enumerate()
    {
        let client = anywhere(u32::try_from(n).unwrap());
        let came = house.sign_in(name, password, &client).await;
        assert!(is_refused(&came), "{name}: {came:?}");
    }
    let (signed_in, cookie) = done(house.sign_in("alice", PASSWORD, &anywhere(99)).await);
    assert_eq!((signed_in.name(), signed_in.epoch()), ("alice", 0));
    assert_eq!(signed_in.methods().to_string(), "password");
    assert!(cookie.is_some());
    assert_eq!(house.told("login_").await, ["login_failed"; 6], "the login tells its success");
}

#[tokio::test]
async fn l_39_failures_in_a_row_slow_a_name_down_also_after_a_restart() {
    let house = House::new().await;
    for name in ["alice", "nobody"] {
        for n in 0..6 {
            assert!(is_refused(&house.sign_in(name, WRONG, &anywhere(n)).await));
        }
    }
    // The wait is not to be seen, and the same for a name that nobody has.
    let again = house.restarted();
    let try_it = async |name, n| again.sign_in(name, PASSWORD, &anywhere(n), None).await;
    assert!(is_refused(&try_it("alice", 20).await) && is_refused(&try_it("nobody", 21).await));
    assert_eq!(house.told("login_throttled").await.len(), 2);
    house.clock.advance(Duration::from_secs(30) - Duration::from_micros(1));
    assert!(is_refused(&try_it("alice", 22).await), "not yet");
    house.clock.advance(Duration::from_micros(1));
    done(try_it("alice", 23).await);
    // Which ended the row: the next five are free again.
    for n in 30..35 {
        assert!(is_refused(&house.sign_in("alice", WRONG, &anywhere(n)).await));
    }
    done(try_it("alice", 40).await);
}

#[tokio::test]
async fn l_39_after_a_hundred_in_a_row_the_password_is_disabled_and_nothing_else() {
    let house = House::new().await;
    let key = house.accounts.add_key("alice", KEY, Actor::local(0)).await.unwrap();
    for n in 0..100 {
        assert_eq!(house.alice().await.password_disabled_at, None, "after {n}");
        assert!(is_refused(&house.sign_in("alice", WRONG, &anywhere(n)).await));
        // So slow that each is as free as the first.
        house.clock.advance(61 * MINUTE);
    }
    assert!(house.alice().await.password_disabled_at.is_some());
    assert_eq!(house.told("user_password_disabled").await.len(), 1);
    assert!(is_refused(&house.sign_in("alice", PASSWORD, &anywhere(210)).await));
    let verdict = house.identity.public_key("alice", &key.fingerprint, &peer()).await;
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");

    let link = house.accounts.issue_reset("alice", Actor::local(0)).await.unwrap();
    let new = "another four words here";
    house.identity.reset(link.token.expose(), new, new, &at("192.0.2.9")).await.unwrap();
    done(house.sign_in("alice", new, &anywhere(211)).await);
}

#[tokio::test]
async fn l_41_held_tries_do_not_count_to_the_hundred() {
    let house = House::new().await;
    for n in 0..120 {
        // Without a pause: all but the first six are held.
        assert!(is_refused(&house.sign_in("alice", WRONG, &anywhere(n)).await));
    }
    assert_eq!(house.alice().await.password_disabled_at, None);
    house.clock.advance(MINUTE);
    done(house.sign_in("alice", PASSWORD, &anywhere(300)).await);
}

#[tokio::test]
async fn l_41_whoever_signed_in_before_is_not_held_up_by_others() {
    let house = House::new().await;
    house.accounts.add("bob", Role::Member, Some(PASSWORD), Actor::local(0)).await.unwrap();
    let (_, cookie) = done(house.sign_in("alice", PASSWORD, &at("192.0.2.1")).await);
    let (_, of_bob) = done(house.sign_in("bob", PASSWORD, &at("192.0.2.2")).await);
    let (cookie, of_bob) = (cookie.unwrap(), of_bob.unwrap());
    for n in 0..20 {
        assert!(is_refused(&house.sign_in("alice", WRONG, &anywhere(n)).await));
    }
    let with = async |cookie: &str, client: &Client| {
        house.identity.sign_in("alice", PASSWORD, client, Some(cookie)).await
    };
    assert!(is_refused(&with(of_bob.expose(), &anywhere(50)).await), "another's browser");
    assert!(is_refused(&with("sjd1_nonsense", &anywhere(51)).await));
    let (_, again) = done(with(cookie.expose(), &anywhere(52)).await);
    assert!(again.is_none(), "it is known already");
    done(house.sign_in("alice", PASSWORD, &at("192.0.2.1")).await);

    // It never authenticates, and its own failures count.
    for n in 60..66 {
        let came =
            house.identity.sign_in("alice", WRONG, &anywhere(n), Some(cookie.expose())).await;
        assert!(is_refused(&came));
    }
    assert!(is_refused(&with(cookie.expose(), &anywhere(70)).await));

    house.clock.advance(throttle::KNOWN);
    for n in 80..86 {
        assert!(is_refused(&house.sign_in("alice", WRONG, &anywhere(n)).await));
    }
    assert!(is_refused(&with(cookie.expose(), &anywhere(90)).await), "forgotten after 30 days");
}

#[tokio::test]
async fn l_40_an_address_is_told_to_wait_whatever_the_name() {
    let house = House::new().await;
    let (_, cookie) = done(house.sign_in("alice", PASSWORD, &at("192.0.2.1")).await);
    let there = at("2001:db8:1:2::1");
    for n in 0..20 {
        assert!(is_refused(&house.sign_in(&format!("user{n}"), WRONG, &there).await), "{n}");
    }
    let neighbour = at("2001:db8:1:2:ffff::9");
    for name in ["alice", "nobody"] {
        let came = house.restarted().sign_in(name, PASSWORD, &neighbour, None).await;
        let SignIn::Throttled { retry_after } = came else { panic!("{name}: {came:?}") };
        assert_eq!(retry_after, 15 * MINUTE);
    }
    done(house.sign_in("alice", PASSWORD, &at("2001:db8:1:3::1")).await);
    let cookie = cookie.unwrap();
    done(house.identity.sign_in("alice", PASSWORD, &there, Some(cookie.expose())).await);
    house.clock.advance(15 * MINUTE - Duration::from_micros(1));
    let came = house.sign_in("alice", PASSWORD, &there).await;
    assert!(matches!(came, SignIn::Throttled { .. }), "{came:?}");
    house.clock.advance(Duration::from_micros(1));
    done(house.sign_in("alice", PASSWORD, &there).await);
}

#[tokio::test]
async fn l_36_a_cheaper_hash_is_replaced_at_the_next_sign_in() {
    let house = House::new().await;
    let before = house.alice().await;
    let dearer = house.with(Settings::default());
    assert!(is_refused(&dearer.sign_in("alice", WRONG, &anywhere(1), None).await));
    assert_eq!(house.alice().await.password, before.password);
    done(dearer.sign_in("alice", PASSWORD, &anywhere(2), None).await);
    let after = house.alice().await;
    let phc = after.password.unwrap();
    assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
    assert_eq!(after.epoch, before.epoch, "nothing ends by it");
    done(dearer.sign_in("alice", PASSWORD, &anywhere(3), None).await);
}

#[tokio::test]
async fn l_58_without_a_store_or_a_log_nobody_signs_in() {
    let house = House::new().await;
    house.writer.abort();
    while !house.audit.is_degraded() {
        tokio::task::yield_now().await;
    }
    let came = house.sign_in("alice", PASSWORD, &at("192.0.2.1")).await;
    assert!(matches!(came, SignIn::Unavailable(Unavailable::Audit)), "{came:?}");
    house.store.close().await;
    let came = house.sign_in("alice", PASSWORD, &at("192.0.2.1")).await;
    assert!(matches!(came, SignIn::Unavailable(Unavailable::Store)), "{came:?}");
}

#[tokio::test]
async fn l_30_whoever_is_signed_in_is_counted_apart() {
    let house = House::new().await;
    for n in 0..6 {
        assert!(is_refused(&house.sign_in("alice", WRONG, &anywhere(n)).await));
    }
    let alice = house.alice().await.id;
    let here = at("192.0.2.1");
    let again = async |password| house.identity.prove_again(alice, password, None, &here).await;
    assert!(matches!(again(PASSWORD).await, Again::Proved(_)), "not held up by strangers");
    for _ in 0..6 {
        assert!(matches!(again(WRONG).await, Again::Wrong));
    }
    let came = again(PASSWORD).await;
    let Again::Throttled { retry_after } = came else { panic!("{came:?}") };
    assert_eq!(retry_after, Duration::from_secs(30));
    house.clock.advance(retry_after);
    assert!(matches!(again(PASSWORD).await, Again::Proved(_)));
}
