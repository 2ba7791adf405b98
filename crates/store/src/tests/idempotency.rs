//! Requests that are sent again.

use super::sessions::stay;
use super::*;

on_both! {
    the_second_time_gets_the_first_ones_answer,
    of_many_at_once_one_is_fresh,
    a_request_that_came_to_nothing_may_be_sent_again,
    a_session_that_was_started_and_not_answered_for_is_named,
    answers_are_kept_for_a_day,
    keys_and_answers_are_bounded,
}

const DAY: i64 = 24 * 3600 * 1_000_000;

async fn begin(store: &Store, key: &str, hash: &str, at: i64) -> Asked {
    store.begin_request("alice", key, hash, SessionId::new(), Wall(at)).await.unwrap()
}

async fn the_second_time_gets_the_first_ones_answer(house: House) {
    let store = &house.store;
    assert_eq!(begin(store, "k", "h", 1).await, Asked::Fresh);
    assert_eq!(begin(store, "k", "h", 2).await, Asked::InFlight);
    assert_eq!(begin(store, "k", "other", 2).await, Asked::Mismatch);
    let other = store.begin_request("bob", "k", "h", SessionId::new(), Wall(2)).await.unwrap();
    assert_eq!(other, Asked::Fresh, "each owner has keys of their own");
    store.finish_request("alice", "k", 201, "{}").await.unwrap();
    let done = Asked::Done { status: 201, body: "{}".to_owned() };
    assert_eq!(begin(store, "k", "h", 3).await, done);
    assert_eq!(begin(store, "k", "other", 3).await, Asked::Mismatch);
    let again = store.finish_request("alice", "k", 500, "").await.unwrap_err();
    assert!(matches!(again, StoreError::Missing(_)), "the first answer stands");
    assert_eq!(begin(store, "k", "h", 3).await, done);
    let secret = Asked::Done { status: 201, body: "sjt1_x".to_owned() };
    assert!(!format!("{secret:?}").contains("sjt1"));
}

async fn of_many_at_once_one_is_fresh(house: House) {
    let (store, other) = (&house.store, house.again().await);
    let tries = (0..20).map(|n| {
        let store = if n % 2 == 0 { store.clone() } else { other.clone() };
        tokio::spawn(async move { begin(&store, "k", "h", 1).await })
    });
    let mut fresh = 0;
    for tried in tries.collect::<Vec<_>>() {
        match tried.await.unwrap() {
            Asked::Fresh => fresh += 1,
            asked => assert_eq!(asked, Asked::InFlight),
        }
    }
    assert_eq!(fresh, 1);
}

async fn a_request_that_came_to_nothing_may_be_sent_again(house: House) {
    let store = &house.store;
    begin(store, "k", "h", 1).await;
    store.drop_request("alice", "k").await.unwrap();
    assert_eq!(begin(store, "k", "other", 2).await, Asked::Fresh);
    store.finish_request("alice", "k", 200, "").await.unwrap();
    store.drop_request("alice", "k").await.unwrap();
    let done = Asked::Done { status: 200, body: String::new() };
    assert_eq!(begin(store, "k", "other", 3).await, done, "what is answered stays");
    begin(store, "lost", "h", 3).await;
    assert_eq!(store.drop_unanswered_requests().await.unwrap(), 1);
    assert_eq!(begin(store, "lost", "h", 4).await, Asked::Fresh);
    assert_eq!(begin(store, "k", "other", 4).await, done);
}

async fn a_session_that_was_started_and_not_answered_for_is_named(house: House) {
    let store = &house.store;
    let (begun, never_begun, anybodys) = (SessionId::new(), SessionId::new(), SessionId::new());
    let alice = with_alice(&house).await;
    let owner = alice.to_string();
    let ask = async |owner: &str, key: &str, session| {
        store.begin_request(owner, key, "h", session, Wall(1)).await.unwrap()
    };
    for (owner, key, session) in [
        (owner.as_str(), "k", begun),
        (&owner, "none", never_begun),
        (&owner, "theirs", anybodys),
        ("local:0", "k", anybodys),
    ] {
        assert_eq!(ask(owner, key, session).await, Asked::Fresh);
    }
    for (id, user) in [(begun, Some(alice)), (anybodys, None)] {
        super::sessions::begin(store, &NewSession { id, user, ..stay(None) }).await;
    }
    assert_eq!(store.drop_unanswered_requests().await.unwrap(), 2);
    assert_eq!(ask(&owner, "k", SessionId::new()).await, Asked::Made(begun));
    assert_eq!(ask(&owner, "none", SessionId::new()).await, Asked::Fresh);
    assert_eq!(ask(&owner, "theirs", SessionId::new()).await, Asked::Fresh, "it is not theirs");
    assert_eq!(ask("local:0", "k", SessionId::new()).await, Asked::Made(anybodys));
    assert_eq!(store.drop_unanswered_requests().await.unwrap(), 2, "what is known stays so");
    assert_eq!(ask(&owner, "k", SessionId::new()).await, Asked::Made(begun));
    let other = store.begin_request(&owner, "k", "other", SessionId::new(), Wall(1)).await.unwrap();
    assert_eq!(other, Asked::Mismatch);
}

async fn answers_are_kept_for_a_day(house: House) {
    let store = &house.store;
    begin(store, "k", "h", 0).await;
    store.finish_request("alice", "k", 200, "").await.unwrap();
    assert_eq!(begin(store, "k", "other", DAY - 1).await, Asked::Mismatch);
    assert_eq!(store.purge_requests(Wall(DAY - 1)).await.unwrap(), 0);
    assert_eq!(begin(store, "k", "other", DAY).await, Asked::Fresh, "also when nobody purged");
    assert_eq!(store.purge_requests(Wall(2 * DAY)).await.unwrap(), 1);
}

async fn keys_and_answers_are_bounded(house: House) {
    let store = &house.store;
    let (session, long) = (SessionId::new(), "k".repeat(MAX_REQUEST_KEY + 1));
    let error = store.begin_request("alice", &long, "h", session, Wall(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLong { limit: MAX_REQUEST_KEY, .. }), "{error}");
    begin(store, &long[1..], "h", 1).await;
    let body = "x".repeat(MAX_ANSWER + 1);
    let error = store.finish_request("alice", &long[1..], 200, &body).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLong { limit: MAX_ANSWER, .. }), "{error}");
    store.finish_request("alice", &long[1..], 200, &body[1..]).await.unwrap();

    house
        .run(
            "INSERT INTO idempotency (owner, request_key, request_hash, created_at)
            WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
            SELECT 'alice', CAST(i AS TEXT), 'h', 1 FROM n",
        )
        .await;
    let error = store.begin_request("alice", "over", "h", session, Wall(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::TooMany { limit: MAX_REQUESTS, .. }), "{error}");
    assert_eq!(begin(store, "2", "h", 1).await, Asked::InFlight, "known ones are answered");
    assert_eq!(begin(store, "over", "h", DAY + 1).await, Asked::Fresh, "the day after");
}
