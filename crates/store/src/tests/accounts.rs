//! Accounts and keys.

use super::*;

on_both! {
    an_account_is_found_as_it_was_made,
    changes_of_an_account_move_its_epoch_and_the_version,
    keys_are_bounded_and_unique_per_user,
    many_who_add_users_at_once_keep_the_bound,
    of_many_first_users_one_is_made,
    changes_of_one_account_do_not_get_in_each_others_way,
}

pub(super) fn key(user: UserId, fingerprint: &str) -> UserKey {
    UserKey {
        id: KeyId::new(),
        user,
        openssh: "ssh-ed25519 AAAA".to_owned(),
        fingerprint: fingerprint.to_owned(),
        comment: "laptop".to_owned(),
        added_at: Wall(2000),
    }
}

async fn an_account_is_found_as_it_was_made(house: House) {
    let (store, id) = (&house.store, with_alice(&house).await);
    let user = store.user_by_name("alice").await.unwrap().unwrap();
    assert_eq!(store.user_by_id(id).await.unwrap().as_ref(), Some(&user));
    assert_eq!(store.users().await.unwrap(), std::slice::from_ref(&user));
    assert_eq!((user.role, user.epoch, user.disabled_at), (Role::Member, 0, None));
    assert!(!format!("{user:?}").contains("argon2"), "hashes are not shown");
    assert!(store.user_by_name("ALICE").await.unwrap().is_none());
    let taken = store.add_user(&alice(), &event(Action::UserAdded)).await.unwrap_err();
    assert_eq!(taken.to_string(), "there is already a user \"alice\"");
    assert!(!store.add_first_user(&alice(), &event(Action::UserAdded)).await.unwrap());
}

async fn changes_of_an_account_move_its_epoch_and_the_version(house: House) {
    let (store, id) = (&house.store, with_alice(&house).await);
    let version = store.accounts_version().await.unwrap();
    store.set_password(id, None, false, &event(Action::UserPasswordChanged)).await.unwrap();
    store.disable_user(id, &event(Action::UserDisabled)).await.unwrap();
    store.set_role(id, Role::Auditor, &event(Action::UserRoleChanged)).await.unwrap();
    let user = store.user_by_id(id).await.unwrap().unwrap();
    assert_eq!((user.epoch, user.role), (2, Role::Auditor));
    assert_eq!(user.disabled_at, Some(Wall(1000)));
    assert_eq!(user.password, None);
    store.enable_user(id, &event(Action::UserEnabled)).await.unwrap();
    assert_eq!(store.user_by_id(id).await.unwrap().unwrap().disabled_at, None);
    assert_eq!(store.accounts_version().await.unwrap(), version + 4);
    let error = store.enable_user(UserId::new(), &event(Action::UserEnabled)).await.unwrap_err();
    assert!(matches!(error, StoreError::Missing(_)));
}

async fn keys_are_bounded_and_unique_per_user(house: House) {
    let (store, id) = (&house.store, with_alice(&house).await);
    let first = key(id, "SHA256:0");
    store.add_key(&first, &event(Action::KeyAdded)).await.unwrap();
    let again = store.add_key(&key(id, "SHA256:0"), &event(Action::KeyAdded)).await.unwrap_err();
    assert_eq!(again.to_string(), "there is already a key SHA256:0");
    assert_eq!(store.key_of(id, "SHA256:0").await.unwrap(), Some(first.clone()));
    assert_eq!(store.key_of(UserId::new(), "SHA256:0").await.unwrap(), None);
    for n in 1..MAX_KEYS {
        store.add_key(&key(id, &format!("SHA256:{n}")), &event(Action::KeyAdded)).await.unwrap();
    }
    let over = store.add_key(&key(id, "SHA256:x"), &event(Action::KeyAdded)).await.unwrap_err();
    assert!(matches!(over, StoreError::TooMany { limit: MAX_KEYS, .. }));
    store.remove_key(id, first.id, &event(Action::KeyRemoved)).await.unwrap();
    assert_eq!(store.keys_of(id).await.unwrap().len(), MAX_KEYS - 1);
    let gone = store.remove_key(id, first.id, &event(Action::KeyRemoved)).await.unwrap_err();
    assert!(matches!(gone, StoreError::Missing(_)));
}

async fn many_who_add_users_at_once_keep_the_bound(house: House) {
    house
        .run(
            "INSERT INTO users (id, name, role, must_change, epoch, created_at)
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
            SELECT CAST(i AS TEXT), 'user' || CAST(i AS TEXT), 'member', 0, 0, 1 FROM n",
        )
        .await;
    let (store, other) = (&house.store, house.again().await);
    let tries = (0..12).map(|n| {
        let store = if n % 2 == 0 { store.clone() } else { other.clone() };
        let new = user(&format!("new{n}"));
        tokio::spawn(async move { store.add_user(&new, &event(Action::UserAdded)).await })
    });
    let mut made = 0;
    for tried in tries.collect::<Vec<_>>() {
        match tried.await.unwrap() {
            Ok(()) => made += 1,
            Err(error) => assert!(matches!(error, StoreError::TooMany { .. }), "{error:?}"),
        }
    }
    assert_eq!(made, 1);
}

async fn of_many_first_users_one_is_made(house: House) {
    let (store, other) = (&house.store, house.again().await);
    let tries = (0..12).map(|n| {
        let store = if n % 2 == 0 { store.clone() } else { other.clone() };
        let new = user(&format!("admin{n}"));
        tokio::spawn(async move { store.add_first_user(&new, &event(Action::UserAdded)).await })
    });
    let mut made = 0;
    for tried in tries.collect::<Vec<_>>() {
        made += i32::from(tried.await.unwrap().unwrap());
    }
    assert_eq!((made, store.users().await.unwrap().len()), (1, 1));
    assert_eq!(told(store).await, [Action::UserAdded]);
}

async fn changes_of_one_account_do_not_get_in_each_others_way(house: House) {
    let (store, id) = (&house.store, with_alice(&house).await);
    let other = house.again().await;
    let version = store.accounts_version().await.unwrap();
    let changes = (0..48).map(|n| {
        let store = if n % 2 == 0 { store.clone() } else { other.clone() };
        tokio::spawn(async move {
            match n % 4 {
                0 => store.set_role(id, Role::Auditor, &event(Action::UserRoleChanged)).await,
                1 => store.disable_user(id, &event(Action::UserDisabled)).await,
                2 => store.add_key(&key(id, &n.to_string()), &event(Action::KeyAdded)).await,
                _ => store.set_password(id, None, false, &event(Action::UserPasswordChanged)).await,
            }
        })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.unwrap().unwrap();
    }
    assert_eq!(store.accounts_version().await.unwrap(), version + 48, "each counts");
    assert_eq!(store.user_by_id(id).await.unwrap().unwrap().epoch, 24);
    let ids = store.untold_ids().await.unwrap();
    let backwards: Vec<_> = ids.iter().rev().copied().collect();
    let (one, two) = tokio::join!(store.forget_told(&ids), other.forget_told(&backwards));
    one.and(two).unwrap();
    assert!(told(store).await.is_empty());
}
