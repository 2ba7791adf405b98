//! Logins, as both engines keep them. What they mean is the engine's affair.

use sojourn_core::ids::LoginId;
use sojourn_core::login::LoginEnd;

use super::*;

on_both! {
    a_login_begins_rotates_and_ends_once,
    the_least_recently_seen_makes_room,
    a_changed_password_ends_them_all,
    logins_that_begin_and_end_at_once_do_not_get_in_each_others_way,
    people_who_take_each_others_places_all_get_in,
}

const HOUR: Duration = Duration::from_secs(3600);

fn login(user: UserId, at: i64) -> Login {
    let id = LoginId::new();
    Login {
        id,
        token_hash: format!("hash of {id}"),
        user,
        epoch: 0,
        created_at: Wall(at),
        authenticated_at: Wall(at),
        last_seen_at: Wall(at),
        idle_timeout: HOUR,
        lifetime_ends_at: Wall(at).after(HOUR),
        methods: "password".to_owned(),
        address: "192.0.2.7".to_owned(),
        device: "Firefox".to_owned(),
        over: None,
    }
}

fn evicted(_id: LoginId) -> Event {
    event(Action::LoginEvicted)
}

async fn begin(store: &Store, login: &Login, max: usize) -> Result<Option<Begun>, StoreError> {
    let event = event(Action::LoginSucceeded);
    let new =
        Beginning { login, event: &event, replacing: None, max, seen: &[], evicted: &evicted };
    store.begin_login(&new).await
}

fn over(why: LoginEnd) -> LoginOver {
    LoginOver { at: Wall(9000), why }
}

async fn a_login_begins_rotates_and_ends_once(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let new = login(alice, 5000);
    let begun = begin(store, &new, 10).await.unwrap().unwrap();
    assert_eq!((begun.user.id, begun.replaced, begun.evicted.len()), (alice, false, 0));
    assert_eq!(store.login_by_token(&new.token_hash).await.unwrap().as_ref(), Some(&new));
    let to = Rotated {
        id: new.id,
        epoch: 0,
        token_hash: "another",
        authenticated_at: Wall(6000),
        last_seen_at: Wall(6000),
        idle_timeout: HOUR / 2,
        lifetime_ends_at: Wall(7000),
        methods: "password totp",
    };
    let rotated = event(Action::LoginRotated);
    assert!(store.rotate_login(alice, &to, &rotated).await.unwrap());
    assert!(store.login_by_token(&new.token_hash).await.unwrap().is_none());
    let kept = store.login_by_token("another").await.unwrap().unwrap();
    assert_eq!((kept.id, kept.idle_timeout, kept.methods.as_str()), (new.id, HOUR / 2, to.methods));
    store.touch_logins(&[(new.id, Wall(6500)), (new.id, Wall(6400))]).await.unwrap();
    assert_eq!(store.login(new.id).await.unwrap().unwrap().last_seen_at, Wall(6500));
    let idle = over(LoginEnd::Inactivity);
    let expired = event(Action::SessionExpiredInactivity);
    assert!(!store.expire_login(new.id, Wall(6499), idle, &expired).await.unwrap(), "it was seen");
    assert!(store.expire_login(new.id, Wall(6500), idle, &expired).await.unwrap());
    let ended = event(Action::LoginEnded);
    assert!(!store.end_login(new.id, over(LoginEnd::Logout), &ended).await.unwrap());
    assert_eq!(store.login(new.id).await.unwrap().unwrap().over, Some(idle));
    assert!(store.logins_of(alice).await.unwrap().is_empty());
    assert_eq!(store.forget_logins(Wall(9000)).await.unwrap(), 0);
    assert_eq!(store.forget_logins(Wall(9001)).await.unwrap(), 1);
    let wanted = [Action::LoginSucceeded, Action::LoginRotated, Action::SessionExpiredInactivity];
    assert_eq!(told(store).await[1..], wanted);
}

async fn the_least_recently_seen_makes_room(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let [first, second, third] = [1, 2, 3].map(|n| login(alice, n * 1000));
    for new in [&first, &second] {
        begin(store, new, 2).await.unwrap().unwrap();
    }
    let event = event(Action::LoginSucceeded);
    let new = Beginning {
        login: &third,
        event: &event,
        replacing: None,
        max: 2,
        seen: &[(first.id, Wall(2500))],
        evicted: &evicted,
    };
    assert_eq!(store.begin_login(&new).await.unwrap().unwrap().evicted, [second.id]);
    let ids = store.logins_of(alice).await.unwrap().into_iter().map(|login| login.id);
    assert_eq!(ids.collect::<Vec<_>>(), [third.id, first.id]);
    let ended = store.end_logins_of(alice, Some(third.id), over(LoginEnd::Revoked), &|_| {
        super::event(Action::LoginRevoked)
    });
    assert_eq!(ended.await.unwrap(), [first.id]);
    let live = store.live_logins(None, 10).await.unwrap();
    assert_eq!(live.iter().map(|login| login.id).collect::<Vec<_>>(), [third.id]);
}

async fn a_changed_password_ends_them_all(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let new = login(alice, 1000);
    begin(store, &new, 10).await.unwrap().unwrap();
    let changed = |_, _| event(Action::PasswordChangedAllSessionsInvalidated);
    let change = PasswordChange { user: alice, epoch: 0, hash: "$other", event: &changed };
    let ended = store.change_password(&change).await.unwrap().unwrap();
    assert_eq!((ended.logins, ended.sessions), (1, 0));
    assert_eq!(store.change_password(&change).await.unwrap(), None, "the epoch has moved on");
    assert!(begin(store, &login(alice, 2000), 10).await.unwrap().is_none(), "the old password");
    let again = Login { epoch: 1, ..login(alice, 2000) };
    assert!(begin(store, &again, 10).await.unwrap().is_some());
    let event = event(Action::UserDisabled);
    store.disable_user(alice, &event).await.unwrap();
    let over = store.login(again.id).await.unwrap().unwrap().over.unwrap();
    assert_eq!(over.why, LoginEnd::Disabled);
}

async fn logins_that_begin_and_end_at_once_do_not_get_in_each_others_way(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let other = house.again().await;
    let mut live = Vec::new();
    for n in 0..6 {
        let new = login(alice, n);
        begin(store, &new, 6).await.unwrap().unwrap();
        live.push((new.id, Wall(50_000)));
    }
    let work = (0..60).map(|n| {
        let store = if n % 2 == 0 { store.clone() } else { other.clone() };
        let mut seen = live.clone();
        seen.rotate_left(n % 6);
        if n % 3 == 0 {
            seen.reverse();
        }
        tokio::spawn(async move {
            match n % 5 {
                0 | 1 => {
                    let at = Wall(60_000 + i64::try_from(n).unwrap());
                    let seen: Vec<_> = seen.iter().map(|(id, _)| (*id, at)).collect();
                    store.touch_logins(&seen).await
                }
                2 | 3 => begin(&store, &login(alice, 100_000), 6).await.map(drop),
                _ => {
                    let over = over(LoginEnd::Revoked);
                    let event = |_| event(Action::LoginRevoked);
                    store.end_logins_of(alice, Some(seen[0].0), over, &event).await.map(drop)
                }
            }
        })
    });
    for done in work.collect::<Vec<_>>() {
        done.await.unwrap().unwrap();
    }
    assert!(store.logins_of(alice).await.unwrap().len() <= 6);
}

async fn people_who_take_each_others_places_all_get_in(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let bob = user("bob");
    store.add_user(&bob, &event(Action::UserAdded)).await.unwrap();
    for round in 0..5 {
        let at = 1000 * round;
        let (hers, his) = (login(alice, at), login(bob.id, at));
        for login in [&hers, &his] {
            begin(store, login, 1).await.unwrap().unwrap();
        }
        let take = |place: LoginId, user| {
            let store = store.clone();
            tokio::spawn(async move {
                let (login, began) = (login(user, at + 1), event(Action::LoginSucceeded));
                let replaced = event(Action::LoginEnded);
                let new = Beginning {
                    login: &login,
                    event: &began,
                    replacing: Some((place, &replaced)),
                    max: 1,
                    seen: &[],
                    evicted: &evicted,
                };
                store.begin_login(&new).await.unwrap().unwrap();
            })
        };
        let (one, two) = (take(his.id, alice), take(hers.id, bob.id));
        one.await.unwrap();
        two.await.unwrap();
        assert_eq!(store.live_logins(None, 10).await.unwrap().len(), 2);
    }
}
