//! Deadlines, to the millisecond; and what is written when.

use super::*;

const IDLE: Duration = Duration::from_secs(1800);

#[tokio::test]
async fn l_14_half_an_hour_of_nothing_is_the_end() {
    let house = House::new().await;
    let (token, login) = house.begin().await;
    house.clock.advance(IDLE - MILLISECOND);
    assert_eq!(house.found(&token).await, Ok(()), "29:59.999");
    assert_eq!(house.found(&token).await, Ok(()), "being looked at is no activity");
    house.clock.advance(MILLISECOND);
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Inactivity)), "30:00.000");
    house.logins.touch(&login);
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Inactivity)), "too late for that");
    house.logins.look().await;
    assert_eq!(now(login.ended()).await, LoginEnd::Inactivity);
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Inactivity)), "from the store");
}

#[tokio::test]
async fn l_15_seven_days_whatever_the_activity() {
    let house = House::new().await;
    let (token, login) = house.begin().await;
    let mut passed = Duration::ZERO;
    while passed + 20 * MINUTE < 7 * DAY {
        house.pass(20 * MINUTE).await;
        passed += 20 * MINUTE;
        house.logins.touch(&login);
        assert_eq!(house.found(&token).await, Ok(()), "after {passed:?}");
    }
    house.clock.advance(7 * DAY - passed - MILLISECOND);
    assert_eq!(house.found(&token).await, Ok(()));
    house.clock.advance(MILLISECOND);
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Lifetime)));
    house.logins.look().await;
    assert_eq!(now(login.ended()).await, LoginEnd::Lifetime);
    let told = house.told().await;
    assert_eq!(told, ["login_succeeded", "login_used_after_end", "login_expired_lifetime"]);
}

#[tokio::test]
async fn l_17_a_clock_that_is_set_back_moves_no_deadline() {
    let house = House::new().await;
    let (token, login) = house.begin().await;
    let before = login.deadlines(house.logins.now());
    house.clock.set_back(Duration::from_secs(3600));
    let after = login.deadlines(house.logins.now());
    assert_eq!(before, after, "nor is it earlier than it was");
    house.logins.touch(&login);
    assert_eq!(login.deadlines(house.logins.now()), before);
    house.clock.advance(IDLE - MILLISECOND);
    assert_eq!(house.found(&token).await, Ok(()));
    house.clock.advance(MILLISECOND);
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Inactivity)));
}

#[tokio::test]
async fn l_18_it_is_seldom_written_and_a_crash_only_shortens() {
    let house = House::new().await;
    let (token, login) = house.begin().await;
    let written = async || {
        let kept = house.store.login(login.id()).await.unwrap().unwrap();
        kept.last_seen_at
    };
    let mut writes = 0;
    let mut last = written().await;
    for _ in 0..1000 {
        house.clock.advance(Duration::from_millis(60));
        house.logins.touch(&login);
        house.logins.look().await;
        let now = written().await;
        writes += u32::from(now != last);
        last = now;
    }
    assert!((1..=2).contains(&writes), "{writes} in a minute");
    for seconds in 1..600 {
        house.pass(Duration::from_secs(1)).await;
        house.logins.touch(&login);
        if seconds % 37 == 0 {
            let behind = login.last_seen().0 - written().await.0;
            assert!((0..=60_000_000).contains(&behind), "{behind} after {seconds} s");
        }
    }
    let again = house.after_a_crash().await;
    let Found::Login(same) = again.resolve(&token).await.unwrap() else { panic!() };
    let (before, after) = (login.deadlines(again.now()), same.deadlines(again.now()));
    assert!(after.idle_expires_at <= before.idle_expires_at);
    assert_eq!(after.lifetime_expires_at, before.lifetime_expires_at);
    assert_eq!(same.csrf_token(), login.csrf_token(), "pages that are open go on");
    house.logins.flush().await;
    assert_eq!(written().await, login.last_seen(), "an orderly stop writes all");
}

#[tokio::test]
async fn l_19_nobody_has_to_come_for_the_end_to_be_on_record() {
    let house = House::new().await;
    let (token, _login) = house.begin().await;
    house.pass(31 * MINUTE).await;
    assert_eq!(house.told().await, ["login_succeeded", "session_expired_inactivity"]);
    let entries = house.entries().await;
    let expired = entries.iter().find(|e| e.action == "session_expired_inactivity").unwrap();
    assert_eq!(expired.actor.user.as_deref(), Some("alice"));
    assert_eq!(expired.actor.ip_address, Some([192, 0, 2, 7].into()));
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Inactivity)));
    house.pass(30 * DAY).await;
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Inactivity)));
    house.pass(DAY).await;
    assert_eq!(house.found(&token).await, Err(None), "forgotten");
}

#[tokio::test]
async fn the_timer_wakes_by_itself_when_the_clock_is_moved() {
    let house = House::new().await;
    let (_token, login) = house.begin().await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(house.logins.clone().run(stop.clone()));
    house.clock.advance(IDLE);
    assert_eq!(now(login.ended()).await, LoginEnd::Inactivity);
    let (_token, login) = house.begin().await;
    stop.cancel();
    now(running).await.unwrap();
    assert_eq!(login.is_over(), None);
}

#[tokio::test]
async fn l_56_twenty_who_come_at_the_end_are_one_event() {
    let house = House::new().await;
    let (token, _login) = house.begin().await;
    let stop = CancellationToken::new();
    tokio::spawn(house.logins.clone().run(stop.clone()));
    house.clock.advance(IDLE);
    let tries = (0..20).map(|_| {
        let (logins, token) = (house.logins.clone(), token.clone());
        tokio::spawn(async move { found(&logins, &token).await })
    });
    for found in tries.collect::<Vec<_>>() {
        assert_eq!(found.await.unwrap(), Err(Some(LoginEnd::Inactivity)));
    }
    house.logins.look().await;
    let told = house.told().await;
    let count = |name: &str| told.iter().filter(|action| *action == name).count();
    assert_eq!(count("session_expired_inactivity"), 1, "{told:?}");
    assert_eq!(count("login_used_after_end"), 1, "{told:?}");
    house.clock.advance(MINUTE);
    house.found(&token).await.unwrap_err();
    house.found(&token).await.unwrap_err();
    let late = house.told().await.iter().filter(|a| *a == "login_used_after_end").count();
    assert_eq!(late, 2, "once a minute");
    stop.cancel();
}

#[tokio::test]
async fn l_21_reminders_come_at_four_points_and_each_once() {
    let house = House::new().await;
    let (_token, login) = house.begin().await;
    let mut reminders = login.reminders();
    let remind = async |reminders: &mut Reminders| {
        let reminder = now(reminders.next()).await;
        (reminder.left, reminder.can_extend)
    };
    house.pass(25 * MINUTE - MILLISECOND).await;
    house.pass(MILLISECOND).await;
    assert_eq!(remind(&mut reminders).await, (5 * MINUTE, true));
    house.pass(4 * MINUTE).await;
    assert_eq!(remind(&mut reminders).await, (MINUTE, true));
    let before = login.deadlines(house.logins.now());
    let after = house.logins.extend(&login);
    assert_eq!(after.idle_expires_at, after.now.after(IDLE));
    assert_eq!(after.lifetime_expires_at, before.lifetime_expires_at, "that is not moved");
    // Somebody is there until a day is left, and until a quarter of an hour is.
    let mut told = Vec::new();
    for _ in 0..7 * 24 * 12 {
        house.pass(5 * MINUTE).await;
        house.logins.touch(&login);
        let waiting = tokio::time::timeout(Duration::ZERO, reminders.next()).await;
        told.extend(waiting.ok().map(|reminder| (reminder.left, reminder.can_extend)));
    }
    // The clock moved in steps of five minutes from 29 minutes on.
    let minute = |n: u32| n * MINUTE;
    assert_eq!(told, [(minute(24 * 60 - 4), false), (minute(11), false)]);
}

#[tokio::test]
async fn short_times_have_no_reminder_that_comes_at_once() {
    let rules = Rules {
        idle_timeout: Duration::from_secs(2),
        max_lifetime: Duration::from_secs(6),
        ..Rules::default()
    };
    let house = House::with(rules).await;
    let (token, login) = house.begin().await;
    let mut reminders = login.reminders();
    for _ in 0..5 {
        house.pass(Duration::from_secs(1)).await;
        house.logins.touch(&login);
        assert_eq!(house.found(&token).await, Ok(()));
        let waiting = tokio::time::timeout(Duration::ZERO, reminders.next()).await;
        assert!(waiting.is_err(), "{waiting:?}");
    }
    house.pass(Duration::from_secs(1)).await;
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Lifetime)));
}

#[tokio::test]
async fn l_60_a_request_asks_the_store_nothing() {
    let house = House::new().await;
    let (token, login) = house.begin().await;
    house.store.close().await;
    for _ in 0..10_000 {
        assert_eq!(house.found(&token).await, Ok(()));
        house.logins.touch(&login);
    }
    assert_eq!(house.logins.list(house.alice).await.unwrap().len(), 1);
}

#[tokio::test]
async fn l_58_what_cannot_be_checked_is_a_no() {
    let house = House::new().await;
    let (token, login) = house.begin().await;
    house.store.close().await;
    house.logins.accounts_version().await.unwrap_err();
    let unavailable = house.logins.resolve(&token).await.unwrap_err();
    assert_eq!(unavailable, crate::identity::Unavailable::Store);
    house.logins.list(house.alice).await.unwrap_err();
    let by = login.actor(&client());
    house.logins.end(login.id(), LoginEnd::Logout, &by).await.unwrap_err();
    assert_eq!(login.is_over(), None, "it is not on disk");
    // Its time is over all the same, and whoever depends on it hears that.
    house.pass(IDLE).await;
    assert_eq!(now(login.ended()).await, LoginEnd::Inactivity);
}
