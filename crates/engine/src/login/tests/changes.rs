//! What becomes of logins when the account behind them changes.

use super::*;
use crate::identity::BadPassword;

const NEW: &str = "walnut harbour seventeen";

#[tokio::test]
async fn l_12_a_changed_password_ends_every_login() {
    let house = House::new().await;
    let mut logins = Vec::new();
    for _ in 0..5 {
        logins.push(house.begin().await);
    }
    let (_, caller) = &logins[0];
    let changed = house.logins.change_password(caller, PASSWORD, NEW, &client()).await.unwrap();
    assert_eq!(changed, Changed { logins: 5, sessions: 0 });
    for (token, login) in &logins {
        assert_eq!(house.found(token).await, Err(Some(LoginEnd::PasswordChange)));
        assert_eq!(now(login.ended()).await, LoginEnd::PasswordChange);
    }
    let again = house.after_a_crash().await;
    assert_eq!(found(&again, &logins[0].0).await, Err(Some(LoginEnd::PasswordChange)));
    let entries = house.entries().await;
    let changed = entries.iter().find(|e| e.action.starts_with("password_changed")).unwrap();
    assert_eq!(changed.action, "password_changed_all_sessions_invalidated");
    assert_eq!(
        (&changed.details["logins_ended"], &changed.details["sessions_ended"]),
        (&5.into(), &0.into())
    );
    let (token, _login) = house.begin().await;
    assert_eq!(house.found(&token).await, Ok(()));
}

#[tokio::test]
async fn l_13_a_sign_in_with_the_old_password_does_not_outlive_it() {
    let house = House::with(Rules { max_per_user: 100, ..Rules::default() }).await;
    let (mut old, mut new) = (PASSWORD, NEW);
    for round in 0..20 {
        let (_, caller) = house.begin().await;
        let proof = house.proof().await;
        let sign_ins = (0..10).map(|_| {
            let (logins, proof) = (house.logins.clone(), proof.clone());
            tokio::spawn(async move { logins.begin(&proof, &client(), None).await })
        });
        let sign_ins: Vec<_> = sign_ins.collect();
        house.logins.change_password(&caller, old, new, &client()).await.unwrap();
        for sign_in in sign_ins {
            if let Ok((token, _)) = sign_in.await.unwrap() {
                let found = house.found(token.expose()).await;
                assert_eq!(found, Err(Some(LoginEnd::PasswordChange)), "round {round}");
            }
        }
        assert!(house.logins.list(house.alice).await.unwrap().is_empty(), "round {round}");
        assert!(house.store.logins_of(house.alice).await.unwrap().is_empty(), "round {round}");
        std::mem::swap(&mut old, &mut new);
    }
}

#[tokio::test]
async fn l_30_guessing_the_current_password_is_slowed_and_then_over() {
    let house = House::new().await;
    let (token, login) = house.begin().await;
    let try_it = async |current: &str| {
        house.logins.change_password(&login, current, NEW, &client()).await.unwrap_err()
    };
    for _ in 0..5 {
        assert_eq!(try_it("wrong wrong wrong").await, ChangeError::Wrong);
        assert_eq!(house.found(&token).await, Ok(()), "the login stays");
    }
    for _ in 6..10 {
        let refused = try_it(PASSWORD).await;
        assert!(matches!(refused, ChangeError::Throttled { .. }), "{refused:?}");
    }
    assert_eq!(try_it(PASSWORD).await, ChangeError::LoginOver);
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Revoked)));
    let told = house.told().await;
    let wrong = told.iter().filter(|action| *action == "invalid_current_password").count();
    assert_eq!(wrong, 10);
}

#[tokio::test]
async fn a_password_that_is_not_good_enough_changes_nothing() {
    let house = House::new().await;
    let (token, login) = house.begin().await;
    let refused = async |new: &str| {
        house.logins.change_password(&login, PASSWORD, new, &client()).await.unwrap_err()
    };
    assert_eq!(refused("short").await, ChangeError::Bad(BadPassword::TooShort { least: 15 }));
    assert_eq!(refused(PASSWORD).await, ChangeError::Same);
    assert_eq!(house.found(&token).await, Ok(()));
    let user = house.store.user_by_id(house.alice).await.unwrap().unwrap();
    assert_eq!(user.epoch, 0);
}

#[tokio::test]
async fn l_11_more_rights_are_signed_in_for_and_fewer_act_at_once() {
    let house = House::new().await;
    let (token, _login) = house.begin().await;
    house.accounts.add("root", Role::Admin, None, Actor::local(0)).await.unwrap();
    let role = async |role| house.accounts.set_role("alice", role, Actor::local(0)).await.unwrap();
    role(Role::Admin).await;
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::RoleChange)));
    let (token, login) = house.begin().await;
    assert_eq!(login.role(), Role::Admin);
    role(Role::Member).await;
    assert_eq!(house.found(&token).await, Ok(()));
    assert_eq!(login.role(), Role::Member);
}

#[tokio::test]
async fn l_26_what_another_process_changes_is_seen() {
    let house = House::new().await;
    let other = Store::open(house.dir.path()).await.unwrap();
    let commands = Accounts::new(other, house.clock.clone(), house.dir.path().to_owned());
    let (token, login) = house.begin().await;
    let version = house.logins.accounts_version().await.unwrap();
    commands.disable("alice", Actor::local(0)).await.unwrap();
    assert_ne!(house.logins.accounts_version().await.unwrap(), version);
    house.logins.recheck().await.unwrap();
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Disabled)));
    assert_eq!(now(login.ended()).await, LoginEnd::Disabled);
    commands.enable("alice", Actor::local(0)).await.unwrap();
    house.logins.recheck().await.unwrap();
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Disabled)), "it stays over");
    let (token, _login) = house.begin().await;
    commands.set_password("alice", Some(NEW), Actor::local(0)).await.unwrap();
    house.logins.recheck().await.unwrap();
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::PasswordChange)));
    let (token, _login) = house.begin().await;
    commands
        .add_key("alice", include_str!("../../identity/testdata/ed25519.pub"), Actor::local(0))
        .await
        .unwrap();
    house.logins.recheck().await.unwrap();
    assert_eq!(house.found(&token).await, Ok(()), "a key more is no reason");
}

#[tokio::test]
async fn the_first_password_is_forgotten_at_its_first_change() {
    let house = House::new().await;
    let proof = SignedIn::new(
        &house.store.user_by_id(house.alice).await.unwrap().unwrap(),
        Methods::default(),
    );
    let (_, login) = house.logins.begin(&proof, &client(), None).await.unwrap();
    assert!(!login.must_change());
    let file = house.dir.path().join(crate::identity::FIRST_ADMIN_FILE);
    std::fs::write(&file, "first admin: admin x").unwrap();
    house.logins.change_password(&login, PASSWORD, NEW, &client()).await.unwrap();
    assert!(file.exists(), "it is not alice's");
}
