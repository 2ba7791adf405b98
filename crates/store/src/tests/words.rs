//! What sessions are found by, and browsers that are told.

use sojourn_core::ids::LoginId;
use sojourn_core::ids::PushId;

use super::sessions::end;
use super::sessions::stay;
use super::*;

on_both! {
    words_are_kept_once_found_literally_and_go_with_the_recording,
    a_browser_is_somebodys_and_the_oldest_goes,
}

/// A session that was over then.
async fn ended(store: &Store, at: Wall) -> SessionId {
    let new = stay(None);
    super::sessions::begin(store, &new).await;
    let end = SessionEnd { at, ..end(EndReason::Exited) };
    store.end_session(new.id, &end, &event(Action::SessionEnded)).await.unwrap();
    new.id
}

async fn words_are_kept_once_found_literally_and_go_with_the_recording(house: House) {
    let store = &house.store;
    let mut ids = Vec::new();
    for at in 1..=3 {
        let id = ended(store, Wall(at * 1000)).await;
        ids.push(id);
    }
    let without = |since| async move {
        let sessions = store.sessions_without_words(Wall(since), 50).await.unwrap();
        sessions.into_iter().map(|session| session.new.id).collect::<Vec<_>>()
    };
    assert_eq!(without(0).await, [ids[2], ids[1], ids[0]]);
    assert_eq!(without(2000).await, [ids[2]]);
    store.keep_words(ids[0], "make 100% of_it \\ done").await.unwrap();
    store.keep_words(ids[0], "something else").await.unwrap();
    store.keep_words(ids[1], "make it").await.unwrap();
    assert_eq!(without(0).await, [ids[2]]);
    let with = |text: &'static str| {
        let (oldest, newest) = (ids[0], ids[2]);
        async move { store.sessions_with_words(oldest, newest, text).await.unwrap() }
    };
    assert_eq!(with("make").await.len(), 2);
    for text in ["100% of", "of_it", "\\ done"] {
        assert_eq!(with(text).await.into_iter().collect::<Vec<_>>(), [ids[0]], "{text}");
    }
    for text in ["100%of", "m_ke", "else", "%"] {
        let wanted = usize::from(text == "%");
        assert_eq!(with(text).await.len(), wanted, "{text}");
    }
    let gone = Gone { at: Wall(9000), why: "its time was over".to_owned() };
    store.remove_recording(ids[1], &gone, &event(Action::RecordingRemoved)).await.unwrap();
    assert_eq!(with("make").await.into_iter().collect::<Vec<_>>(), [ids[0]]);
    assert_eq!(store.words(ids[1]).await.unwrap().as_deref(), Some(""), "and stay gone");
    assert_eq!(store.words(ids[2]).await.unwrap(), None);
    let long = "x".repeat(MOST_WORDS + 1);
    assert!(store.keep_words(ids[2], &long).await.is_err());
}

async fn a_browser_is_somebodys_and_the_oldest_goes(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let device = |n: i64| PushDevice {
        id: PushId::new(),
        user: alice,
        login: LoginId::new(),
        endpoint: format!("https://push.example.org/{n}"),
        p256dh: "key".to_owned(),
        auth: "secret".to_owned(),
        device: "Firefox on Linux".to_owned(),
        added_at: Wall(n * 1000),
        signed_in: false,
    };
    let listed = || async { store.push_devices(alice, Wall(0), Wall(0)).await.unwrap() };
    let told = || event(Action::PushAdded);
    let all: Vec<PushDevice> = (1..=MAX_PUSH_DEVICES + 1).map(device).collect();
    for one in &all {
        store.add_push_device(one, &told()).await.unwrap();
    }
    assert_eq!(listed().await, all[1..]);
    // One that comes again takes its own place.
    let again = PushDevice { id: PushId::new(), added_at: Wall(99_000), ..all[5].clone() };
    store.add_push_device(&again, &told()).await.unwrap();
    assert_eq!(listed().await.len(), all.len() - 1);
    let gone = || event(Action::PushRemoved);
    assert!(!store.remove_push_device(UserId::new(), again.id, &gone()).await.unwrap());
    assert!(store.remove_push_device(alice, again.id, &gone()).await.unwrap());
    assert!(!store.remove_push_device(alice, again.id, &gone()).await.unwrap());
    // What is old is forgotten, and everything when the password changes.
    let young = store.push_devices(alice, Wall(0), Wall(8000)).await.unwrap();
    assert!(young.iter().all(|one| one.added_at >= Wall(8000)) && !young.is_empty());
    let nobody = PushDevice { user: UserId::new(), ..device(50) };
    assert!(store.add_push_device(&nobody, &told()).await.is_err());
}
