//! Runners.

use sojourn_core::ids::RunnerId;
use sojourn_core::ids::TokenId;

use super::*;

on_both! {
    a_runner_is_its_token_and_what_it_said,
    a_revoked_runner_is_none_any_more,
}

async fn enrol(store: &Store, user: UserId, name: &str) -> RunnerId {
    let id = TokenId::new();
    let new = NewToken {
        id,
        hash: id.to_string(),
        user,
        name: name.to_owned(),
        runner: Some(name.to_owned()),
        scopes: Default::default(),
        created_at: Wall(1000),
        expires_at: None,
    };
    store.add_token(&new, &event(Action::TokenCreated)).await.unwrap();
    id.into()
}

async fn a_runner_is_its_token_and_what_it_said(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let laptop = enrol(store, alice, "laptop").await;
    let desktop = enrol(store, alice, "desktop").await;
    let all = store.runners(None).await.unwrap();
    let names: Vec<&str> = all.iter().map(|runner| runner.name.as_str()).collect();
    assert_eq!(names, ["desktop", "laptop"]);
    assert_eq!(store.runners(Some(alice)).await.unwrap(), all);
    assert_eq!(store.runners(Some(UserId::new())).await.unwrap(), []);
    let found = store.runner(laptop).await.unwrap().unwrap();
    assert_eq!((found.owner, found.owner_name.as_str(), found.paused), (alice, "alice", false));
    assert_eq!((found.seen_at, found.hello), (None, None));
    assert!(store.runner_came(laptop, Wall(5), "192.0.2.7", "{}").await.unwrap());
    store.runner_seen(laptop, Wall(7)).await.unwrap();
    assert!(store.pause_runner(laptop, true).await.unwrap());
    let found = store.runner(laptop).await.unwrap().unwrap();
    assert_eq!((found.seen_at, found.seen_from.as_deref()), (Some(Wall(7)), Some("192.0.2.7")));
    assert_eq!((found.hello.as_deref(), found.paused), (Some("{}"), true));
    let other = store.runner(desktop).await.unwrap().unwrap();
    assert_eq!((other.seen_at, other.paused), (None, false));
    let long = "x".repeat(2 << 20);
    assert!(store.runner_came(laptop, Wall(9), "192.0.2.7", &long).await.is_err());
}

async fn a_revoked_runner_is_none_any_more(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let laptop = enrol(store, alice, "laptop").await;
    store.revoke_token(laptop.into(), &event(Action::TokenRevoked)).await.unwrap();
    assert!(store.runner(laptop).await.unwrap().is_none());
    assert_eq!(store.runners(None).await.unwrap(), []);
    assert!(!store.runner_came(laptop, Wall(5), "192.0.2.7", "{}").await.unwrap());
    assert!(!store.pause_runner(laptop, true).await.unwrap());
    let again = enrol(store, alice, "laptop").await;
    assert_ne!(again, laptop, "its name is free");
}
