//! Signing in, new tokens, and ending by people.

use super::*;

#[tokio::test]
async fn a_login_is_good_until_it_is_ended() {
    let house = House::new().await;
    let (token, login) = house.begin().await;
    assert_eq!(house.found(&token).await, Ok(()));
    assert_eq!((login.name(), login.role(), login.user()), ("alice", Role::Member, house.alice));
    let by = login.actor(&client());
    assert_eq!(house.logins.end(login.id(), LoginEnd::Logout, &by).await, Ok(true));
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Logout)));
    assert_eq!(now(login.ended()).await, LoginEnd::Logout);
    assert_eq!(house.logins.end(login.id(), LoginEnd::Revoked, &by).await, Ok(false));
    let told = house.told().await;
    assert_eq!(told, ["login_succeeded", "login_ended", "login_used_after_end"]);
}

#[tokio::test]
async fn l_02_what_is_kept_opens_nothing() {
    let house = House::new().await;
    let (token, login) = house.begin().await;
    let kept = house.store.login(login.id()).await.unwrap().unwrap();
    for other in [kept.token_hash.as_str(), &login.id().to_string(), &login.csrf_token()] {
        assert_eq!(house.found(other).await, Err(None));
        assert_eq!(house.found(&format!("sjw1_{other:.43}")).await, Err(None));
    }
    let secret = token.strip_prefix("sjw1_").unwrap();
    let shown = format!("{login:?} {kept:?} {:?}", house.entries().await);
    assert!(!shown.contains(secret) && !shown.contains(&login.csrf_token()));
    house.logins.flush().await;
    for entry in walk(house.dir.path()) {
        let bytes = std::fs::read(&entry).unwrap();
        let has = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!has, "{} holds a token", entry.display());
    }
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn l_08_signing_in_ends_what_the_browser_had() {
    let house = House::new().await;
    let (old_token, old) = house.begin().await;
    let begun = house.logins.begin(&house.proof().await, &client(), Some(&old)).await;
    let (token, login) = begun.unwrap();
    assert_ne!(token.expose(), old_token);
    assert_ne!(login.id(), old.id());
    assert_eq!(house.found(&old_token).await, Err(Some(LoginEnd::Replaced)));
    assert_eq!(house.found(token.expose()).await, Ok(()));
    assert_eq!(house.logins.list(house.alice).await.unwrap().len(), 1);
}

#[tokio::test]
async fn l_10_proving_it_again_gives_a_new_token_and_starts_both_deadlines() {
    let house = House::new().await;
    let (old_token, login) = house.begin().await;
    let (old_csrf, before) = (login.csrf_token(), login.deadlines(house.logins.now()));
    house.clock.advance(20 * MINUTE);
    assert!(!login.is_fresh(house.logins.now()));
    let why = Rotation::Reauthenticated(house.proof().await);
    let (token, same) = house.logins.rotate(&login, why, &client()).await.unwrap();
    assert_eq!(same.id(), login.id());
    assert!(login.is_fresh(house.logins.now()) && login.is_over().is_none(), "sockets go on");
    assert_eq!(house.found(&old_token).await, Err(None));
    assert_eq!(house.found(token.expose()).await, Ok(()));
    let after = login.deadlines(house.logins.now());
    assert_eq!(after.lifetime_expires_at, before.lifetime_expires_at.after(20 * MINUTE));
    assert_eq!(after.idle_expires_at, after.now.after(30 * MINUTE));
    assert!(!login.is_csrf_token(&old_csrf) && login.is_csrf_token(&login.csrf_token()));
    assert_eq!(house.logins.list(house.alice).await.unwrap().len(), 1);
    house.clock.advance(Duration::from_secs(599));
    assert!(login.is_fresh(house.logins.now()), "9:59");
    house.clock.advance(Duration::from_secs(2));
    assert!(!login.is_fresh(house.logins.now()), "10:01");
    let (other, _) = house.logins.rotate(&login, Rotation::Changed, &client()).await.unwrap();
    assert_eq!(login.deadlines(house.logins.now()).lifetime_expires_at, after.lifetime_expires_at);
    // It is found by its new token after a restart, and by that alone.
    let again = house.after_a_crash().await;
    assert_eq!(found(&again, other.expose()).await, Ok(()));
    assert_eq!(found(&again, token.expose()).await, Err(None));
    let told = house.told().await;
    assert_eq!(told, ["login_succeeded", "login_reauthenticated", "login_rotated"]);
}

#[tokio::test]
async fn nobody_proves_it_for_somebody_else_or_too_late() {
    let house = House::new().await;
    let (_token, login) = house.begin().await;
    let none = Methods::default();
    house.accounts.add("bob", Role::Admin, None, Actor::local(0)).await.unwrap();
    let bob = house.store.user_by_name("bob").await.unwrap().unwrap();
    let why = Rotation::Reauthenticated(SignedIn::new(&bob, none));
    let refused = house.logins.rotate(&login, why, &client()).await.unwrap_err();
    assert_eq!(refused, SignInError::Stale);
    house.clock.advance(30 * MINUTE);
    let why = Rotation::Reauthenticated(house.proof().await);
    let refused = house.logins.rotate(&login, why, &client()).await.unwrap_err();
    assert_eq!(refused, SignInError::Stale);
}

#[tokio::test]
async fn l_23_what_was_ended_stays_ended_after_a_crash() {
    let house = House::new().await;
    for _ in 0..20 {
        let (token, login) = house.begin().await;
        let by = login.actor(&client());
        house.logins.end(login.id(), LoginEnd::Logout, &by).await.unwrap();
        let again = house.after_a_crash().await;
        assert_eq!(found(&again, &token).await, Err(Some(LoginEnd::Logout)));
    }
    let (token, _login) = house.begin().await;
    assert_eq!(found(&house.after_a_crash().await, &token).await, Ok(()), "and what was not, not");
}

#[tokio::test]
async fn whoever_leaves_while_it_is_ended_does_not_save_it() {
    let house = House::new().await;
    for polls in 0..4 {
        let (token, login) = house.begin().await;
        let by = login.actor(&client());
        let mut ending = Box::pin(house.logins.end(login.id(), LoginEnd::Logout, &by));
        for _ in 0..polls {
            if tokio::time::timeout(Duration::ZERO, &mut ending).await.is_ok() {
                break;
            }
        }
        drop(ending);
        let kept = async || house.store.login(login.id()).await.unwrap().unwrap().over.is_some();
        if polls > 0 {
            now(login.ended()).await;
        }
        let is_good = house.found(&token).await.is_ok();
        assert_eq!(is_good, !kept().await, "store and memory agree");
    }
}

#[tokio::test]
async fn l_24_one_sees_ones_own_logins() {
    let house = House::new().await;
    let (_token, first) = house.begin().await;
    house.clock.advance(MINUTE);
    let (_token, second) = house.begin().await;
    house.clock.advance(MINUTE);
    house.logins.touch(&first);
    let views = house.logins.list(house.alice).await.unwrap();
    let ids: Vec<_> = views.iter().map(|view| view.id).collect();
    assert_eq!(ids, [first.id(), second.id()], "the last seen first");
    assert_eq!(views[0].device, "Firefox on Linux");
    assert_eq!(views[0].last_seen_at, house.logins.now());
    assert_eq!(views[0].methods.to_string(), "password");
    assert!(house.logins.list(UserId::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn l_25_the_others_end_and_this_one_goes_on() {
    let house = House::new().await;
    let (mine, login) = house.begin().await;
    let (other, _) = house.begin().await;
    let (third, _) = house.begin().await;
    let by = login.actor(&client());
    let ended = house.logins.end_all_of(house.alice, Some(login.id()), LoginEnd::Revoked, &by);
    assert_eq!(ended.await, Ok(2));
    assert_eq!(house.found(&mine).await, Ok(()));
    for token in [other, third] {
        assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Revoked)));
    }
    let nobody = house.logins.end_all_of(UserId::new(), None, LoginEnd::Revoked, &by).await;
    assert_eq!(nobody, Ok(0));
}

#[tokio::test]
async fn l_29_the_eleventh_takes_the_place_of_the_least_recently_seen() {
    let house = House::new().await;
    let mut logins = Vec::new();
    for _ in 0..10 {
        logins.push(house.begin().await);
        house.clock.advance(Duration::from_secs(1));
    }
    // Seen, and not yet written.
    house.logins.touch(&logins[0].1);
    let (_token, _eleventh) = house.begin().await;
    assert_eq!(house.found(&logins[0].0).await, Ok(()));
    assert_eq!(house.found(&logins[1].0).await, Err(Some(LoginEnd::Evicted)));
    assert_eq!(now(logins[1].1.ended()).await, LoginEnd::Evicted);
    assert_eq!(house.logins.list(house.alice).await.unwrap().len(), 10);
    assert!(house.told().await.contains(&"login_evicted".to_owned()));
}

#[tokio::test]
async fn many_who_sign_in_at_once_are_as_many_as_may() {
    let house = House::with(Rules { max_per_user: 3, ..Rules::default() }).await;
    let proof = house.proof().await;
    let sign_ins = (0..20).map(|_| {
        let (logins, proof) = (house.logins.clone(), proof.clone());
        tokio::spawn(async move { logins.begin(&proof, &client(), None).await.unwrap() })
    });
    let mut begun = Vec::new();
    for sign_in in sign_ins.collect::<Vec<_>>() {
        begun.push(sign_in.await.unwrap());
    }
    let mut good = 0;
    for (token, login) in begun {
        let is_good = house.found(token.expose()).await.is_ok();
        assert_eq!(is_good, login.is_over().is_none());
        good += usize::from(is_good);
    }
    assert_eq!(good, 3);
    assert_eq!(house.store.logins_of(house.alice).await.unwrap().len(), 3);
}
