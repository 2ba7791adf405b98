//! Logins: they begin only on firm ground, end once, and are forgotten late.

use std::time::Duration;

use sojourn_core::ids::LoginId;
use sojourn_core::login::LoginEnd;

use super::accounts::key;
use super::sessions::stay;
use super::*;

on_both! {
    a_login_begins_only_while_its_proof_holds,
    what_a_new_login_ends_goes_with_it,
    a_login_ends_once_and_is_forgotten_late,
    expiry_waits_for_whoever_was_seen_later,
    a_new_token_is_the_only_one,
    l_31_a_changed_password_touches_no_other_table,
    changes_of_an_account_end_its_logins,
    l_13_a_sign_in_never_outlives_the_password_it_used,
}

const HALF_AN_HOUR: Duration = Duration::from_secs(1800);

fn login(user: UserId, token: &str, at: i64) -> Login {
    Login {
        id: LoginId::new(),
        token_hash: token.to_owned(),
        user,
        epoch: 0,
        created_at: Wall(at),
        authenticated_at: Wall(at),
        last_seen_at: Wall(at),
        idle_timeout: HALF_AN_HOUR,
        lifetime_ends_at: Wall(at).after(Duration::from_secs(7 * 86_400)),
        methods: "password".to_owned(),
        address: "192.0.2.7".to_owned(),
        device: "curl/8".to_owned(),
        over: None,
    }
}

async fn begin_with(
    store: &Store,
    login: &Login,
    max: usize,
    seen: &[(LoginId, Wall)],
    replacing: Option<LoginId>,
) -> Result<Option<Begun>, StoreError> {
    let replaced = event(Action::LoginEnded);
    let beginning = Beginning {
        login,
        event: &event(Action::LoginSucceeded),
        replacing: replacing.map(|id| (id, &replaced)),
        max,
        seen,
        evicted: &|_| event(Action::LoginEvicted),
    };
    store.begin_login(&beginning).await
}

async fn begin(store: &Store, login: &Login) -> Option<Begun> {
    begin_with(store, login, 10, &[], None).await.unwrap()
}

fn over(at: i64, why: LoginEnd) -> LoginOver {
    LoginOver { at: Wall(at), why }
}

async fn how(store: &Store, login: &Login) -> Option<LoginEnd> {
    store.login(login.id).await.unwrap().unwrap().over.map(|over| over.why)
}

async fn a_login_begins_only_while_its_proof_holds(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let good = login(alice, "t1", 1000);
    let begun = begin(store, &good).await.unwrap();
    assert_eq!(
        (begun.user.name.as_str(), begun.replaced, begun.evicted.len()),
        ("alice", false, 0)
    );
    assert_eq!(store.login_by_token("t1").await.unwrap().as_ref(), Some(&good));
    assert_eq!(store.login_by_token("T1").await.unwrap(), None);
    let stale = Login { epoch: 1, ..login(alice, "t2", 1000) };
    assert!(begin(store, &stale).await.is_none(), "another epoch");
    let nobody = login(UserId::new(), "t3", 1000);
    assert!(begin(store, &nobody).await.is_none());
    store.disable_user(alice, &event(Action::UserDisabled)).await.unwrap();
    let closed = Login { epoch: 1, ..login(alice, "t4", 1000) };
    assert!(begin(store, &closed).await.is_none(), "a closed account");
    assert!(store.live_logins(None, 10).await.unwrap().is_empty());
    let actions =
        [Action::UserAdded, Action::LoginSucceeded, Action::LoginRevoked, Action::UserDisabled];
    let mut told = told(store).await;
    told.sort_by_key(|action| actions.iter().position(|a| a == action));
    assert_eq!(told, actions);
}

async fn what_a_new_login_ends_goes_with_it(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let logins: Vec<Login> = (1..=3).map(|n| login(alice, &format!("t{n}"), 1000 * n)).collect();
    for login in &logins {
        begin(store, login).await.unwrap();
    }
    // The first was used last; that is not written yet.
    let seen = [(logins[0].id, Wall(9000))];
    let new = login(alice, "t4", 10_000);
    let begun = begin_with(store, &new, 3, &seen, Some(logins[2].id)).await.unwrap().unwrap();
    assert!(begun.replaced);
    assert!(begun.evicted.is_empty(), "the one that was replaced made room");
    let newer = login(alice, "t5", 11_000);
    let begun = begin_with(store, &newer, 3, &seen, None).await.unwrap().unwrap();
    assert_eq!(begun.evicted, [logins[1].id]);
    assert_eq!(how(store, &logins[1]).await, Some(LoginEnd::Evicted));
    assert_eq!(how(store, &logins[2]).await, Some(LoginEnd::Replaced));
    let live = store.logins_of(alice).await.unwrap();
    let ids: Vec<LoginId> = live.iter().map(|login| login.id).collect();
    assert_eq!(ids, [newer.id, new.id, logins[0].id], "the last seen first");
    assert_eq!(live[2].last_seen_at, Wall(9000));
}

async fn a_login_ends_once_and_is_forgotten_late(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let good = login(alice, "t1", 1000);
    begin(store, &good).await.unwrap();
    let ended = event(Action::LoginEnded);
    assert!(store.end_login(good.id, over(5000, LoginEnd::Logout), &ended).await.unwrap());
    let again = event(Action::LoginRevoked);
    assert!(!store.end_login(good.id, over(6000, LoginEnd::Revoked), &again).await.unwrap());
    let kept = store.login_by_token("t1").await.unwrap().unwrap();
    assert_eq!(kept.over, Some(over(5000, LoginEnd::Logout)));
    assert!(!told(store).await.contains(&Action::LoginRevoked), "nothing is told twice");
    assert_eq!(store.forget_logins(Wall(5000)).await.unwrap(), 0);
    assert_eq!(store.forget_logins(Wall(5001)).await.unwrap(), 1);
    assert_eq!(store.login_by_token("t1").await.unwrap(), None);
    // What has ended is on disk for whoever opens it next.
    let other = login(alice, "t2", 1000);
    begin(store, &other).await.unwrap();
    let ended = event(Action::LoginEnded);
    store.end_login(other.id, over(5000, LoginEnd::Logout), &ended).await.unwrap();
    if let Place::File(_) = house.place {
        assert_eq!(how(&house.again().await, &other).await, Some(LoginEnd::Logout));
    }
}

async fn expiry_waits_for_whoever_was_seen_later(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let good = login(alice, "t1", 1000);
    begin(store, &good).await.unwrap();
    store.touch_logins(&[(good.id, Wall(2000)), (LoginId::new(), Wall(2000))]).await.unwrap();
    store.touch_logins(&[(good.id, Wall(1500))]).await.unwrap();
    let expired = event(Action::SessionExpiredInactivity);
    let idle = over(9000, LoginEnd::Inactivity);
    assert!(!store.expire_login(good.id, Wall(1999), idle, &expired).await.unwrap());
    assert_eq!(how(store, &good).await, None);
    assert!(store.expire_login(good.id, Wall(2500), idle, &expired).await.unwrap());
    let again = event(Action::SessionExpiredInactivity);
    assert!(!store.expire_login(good.id, Wall(2500), idle, &again).await.unwrap());
    let kept = store.login(good.id).await.unwrap().unwrap();
    assert_eq!((kept.last_seen_at, kept.over), (Wall(2500), Some(idle)), "the last word counts");
    store.touch_logins(&[(good.id, Wall(3000))]).await.unwrap();
    assert_eq!(store.login(good.id).await.unwrap().unwrap().last_seen_at, Wall(2500));
}

async fn a_new_token_is_the_only_one(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let good = login(alice, "t1", 1000);
    begin(store, &good).await.unwrap();
    let rotated = |epoch| Rotated {
        id: good.id,
        epoch,
        token_hash: "t2",
        authenticated_at: Wall(5000),
        last_seen_at: Wall(5000),
        idle_timeout: HALF_AN_HOUR,
        lifetime_ends_at: Wall(9000),
        methods: "password,totp",
    };
    let told = event(Action::LoginReauthenticated);
    assert!(!store.rotate_login(alice, &rotated(1), &told).await.unwrap(), "another epoch");
    assert!(store.rotate_login(alice, &rotated(0), &told).await.unwrap());
    assert_eq!(store.login_by_token("t1").await.unwrap(), None);
    let kept = store.login_by_token("t2").await.unwrap().unwrap();
    assert_eq!((kept.id, kept.created_at), (good.id, Wall(1000)));
    assert_eq!((kept.authenticated_at, kept.lifetime_ends_at), (Wall(5000), Wall(9000)));
    let ended = event(Action::LoginEnded);
    store.end_login(good.id, over(6000, LoginEnd::Logout), &ended).await.unwrap();
    let told = event(Action::LoginReauthenticated);
    assert!(!store.rotate_login(alice, &rotated(0), &told).await.unwrap(), "it has ended");
}

/// Every row of every table but those that a change of a password is about.
async fn others(house: &House) -> Vec<String> {
    let questions = [
        "SELECT id || name || CAST(role AS TEXT) AS row FROM users ORDER BY id",
        "SELECT id || fingerprint || comment AS row FROM user_keys ORDER BY id",
        "SELECT id || status || COALESCE(end_reason, '-') AS row FROM sessions ORDER BY id",
        "SELECT id || token_hash AS row FROM tokens ORDER BY id",
        "SELECT user_id || secret AS row FROM totp ORDER BY user_id",
    ];
    let mut rows = Vec::new();
    for question in questions {
        for row in house.store.read().all(question, args![]).await.unwrap() {
            rows.push(row.text("row").unwrap());
        }
    }
    rows
}

async fn l_31_a_changed_password_touches_no_other_table(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let bob = user("bob");
    store.add_user(&bob, &event(Action::UserAdded)).await.unwrap();
    store.add_key(&key(alice, "SHA256:0"), &event(Action::KeyAdded)).await.unwrap();
    let mut by_key = stay(Some(alice));
    (by_key.auth_method, by_key.login) = (Some("publickey".to_owned()), None);
    for session in [&stay(Some(alice)), &by_key, &stay(Some(bob.id)), &stay(None)] {
        super::sessions::begin(store, session).await;
    }
    let (first, second, other) =
        (login(alice, "t1", 1000), login(alice, "t2", 1000), login(bob.id, "t3", 1000));
    for login in [&first, &second, &other] {
        begin(store, login).await.unwrap();
    }
    let before = others(&house).await;
    let version = store.accounts_version().await.unwrap();
    let told_of = |logins: usize, sessions: usize| {
        event(Action::PasswordChangedAllSessionsInvalidated)
            .detail("logins_ended", logins)
            .detail("sessions_ended", sessions)
    };
    let change =
        |epoch| PasswordChange { user: alice, epoch, hash: "$argon2id$new", event: &told_of };
    assert_eq!(store.change_password(&change(1)).await.unwrap(), None, "another epoch");
    let ended = store.change_password(&change(0)).await.unwrap().unwrap();
    assert_eq!((ended.logins, ended.sessions), (2, 1), "those of a key go on");
    assert_eq!(others(&house).await, before);
    assert_eq!(store.accounts_version().await.unwrap(), version + 1);
    for login in [&first, &second] {
        assert_eq!(how(store, login).await, Some(LoginEnd::PasswordChange));
    }
    assert_eq!(how(store, &other).await, None);
    let user = store.user_by_id(alice).await.unwrap().unwrap();
    assert_eq!((user.epoch, user.password.as_deref()), (1, Some("$argon2id$new")));
    let last = store.untold(100).await.unwrap();
    let last = last.iter().find(|event| event.details.contains_key("logins_ended")).unwrap();
    assert_eq!(last.details["sessions_ended"], 1);
    assert_eq!(store.change_password(&change(0)).await.unwrap(), None, "not twice");
}

async fn changes_of_an_account_end_its_logins(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let begun = async |epoch: i64, token: &str| {
        let login = Login { epoch, ..login(alice, token, 1000) };
        begin(store, &login).await.unwrap();
        login
    };
    let role = async |role| {
        store.set_role(alice, role, &event(Action::UserRoleChanged)).await.unwrap();
    };
    let first = begun(0, "t1").await;
    role(Role::Admin).await;
    assert_eq!(how(store, &first).await, Some(LoginEnd::RoleChange), "more than before");
    let second = begun(0, "t2").await;
    role(Role::Admin).await;
    let less = store.set_role(alice, Role::Auditor, &event(Action::UserRoleChanged)).await;
    assert!(matches!(less, Err(StoreError::LastAdmin)), "{less:?}");
    let closed = store.disable_user(alice, &event(Action::UserDisabled)).await;
    assert!(matches!(closed, Err(StoreError::LastAdmin)), "{closed:?}");
    assert_eq!(how(store, &second).await, None, "nothing has happened");
    let other =
        NewUser { id: UserId::new(), name: "root".into(), role: Role::Admin, ..super::alice() };
    store.add_user(&other, &event(Action::UserAdded)).await.unwrap();
    role(Role::Auditor).await;
    assert_eq!(how(store, &second).await, None, "less than before");
    store.set_password(alice, None, false, &event(Action::UserPasswordChanged)).await.unwrap();
    assert_eq!(how(store, &second).await, Some(LoginEnd::PasswordChange));
    let third = begun(1, "t3").await;
    store.disable_user(alice, &event(Action::UserDisabled)).await.unwrap();
    assert_eq!(how(store, &third).await, Some(LoginEnd::Disabled));
    let revoked = told(store).await.into_iter().filter(|a| *a == Action::LoginRevoked).count();
    assert_eq!(revoked, 3, "each is on record");
}

async fn l_13_a_sign_in_never_outlives_the_password_it_used(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    for epoch in 0..20 {
        let sign_ins = (0..10).map(|n| {
            let store = store.clone();
            let login = Login { epoch, ..login(alice, &format!("t{epoch}-{n}"), 1000) };
            tokio::spawn(async move { begin_with(&store, &login, 100, &[], None).await.unwrap() })
        });
        let sign_ins: Vec<_> = sign_ins.collect();
        let told_of = |_: usize, _: usize| event(Action::PasswordChangedAllSessionsInvalidated);
        let change = PasswordChange { user: alice, epoch, hash: "$argon2id$x", event: &told_of };
        let changed = store.change_password(&change).await.unwrap().unwrap();
        let mut begun = 0;
        for sign_in in sign_ins {
            begun += usize::from(sign_in.await.unwrap().is_some());
        }
        assert_eq!(changed.logins, begun, "all that began before it ended with it");
        assert!(store.logins_of(alice).await.unwrap().is_empty(), "round {epoch}");
    }
}
