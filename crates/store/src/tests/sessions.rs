//! Sessions, and what is kept of them.

use super::*;
use crate::sessions::MAX_ROWS;

on_both! {
    a_session_goes_from_start_to_one_end,
    sessions_are_found_by_what_is_known_of_them,
    all_that_are_not_over_are_found_however_many,
    what_is_too_long_is_refused,
    what_is_kept_and_removed_is_told_once,
    a_conversation_goes_with_its_recording,
    extensions_are_kept_in_order_and_bounded,
}

/// Keeps a session that has begun.
pub(super) async fn begin(store: &Store, new: &NewSession) {
    store.begin_session(new, Wall(4000), &event(Action::SessionStarted)).await.unwrap();
}

pub(super) fn stay(user: Option<UserId>) -> NewSession {
    NewSession {
        id: SessionId::new(),
        user,
        user_name: user.map(|_| "alice".to_owned()),
        door: "ssh".to_owned(),
        harness: "shell".to_owned(),
        profile: "default".to_owned(),
        cwd: None,
        why: Some("to see".to_owned()),
        labels: [("ticket".to_owned(), "42".to_owned())].into(),
        limits: Limits::default(),
        peer: Some("192.0.2.7:5000".to_owned()),
        client: Some("SSH-2.0-OpenSSH_9.2".to_owned()),
        auth_method: Some("password".to_owned()),
        auth_key: None,
        auth_epoch: Some(3),
        login: Some("l1".to_owned()),
        token: None,
        created_at: Wall(3000),
        remote: None,
    }
}

pub(super) fn end(reason: EndReason) -> SessionEnd {
    SessionEnd {
        at: Wall(5000),
        reason,
        exit: Some(Exit::Signal("TERM".to_owned())),
        by: Some("root".to_owned()),
        detail: None,
        output_bytes: 12,
        recording: Some(Recording {
            path: "2026/11/22/x.cast".to_owned(),
            bytes: 345,
            sha256: "ab".repeat(32),
        }),
    }
}

async fn a_session_goes_from_start_to_one_end(house: House) {
    let (store, id) = (&house.store, with_alice(&house).await);
    let new = stay(Some(id));
    begin(store, &new).await;
    let again = event(Action::SessionStarted);
    let again = store.begin_session(&new, Wall(4001), &again).await.unwrap_err();
    assert!(matches!(again, StoreError::Taken), "{again}");
    store.set_session_status(new.id, Status::Disconnected).await.unwrap();
    assert_eq!(store.sessions_not_over().await.unwrap().len(), 1);

    let over = event(Action::SessionEnded);
    assert!(store.end_session(new.id, &end(EndReason::MaxRuntime), &over).await.unwrap());
    let later = event(Action::SessionEnded);
    assert!(!store.end_session(new.id, &end(EndReason::Exited), &later).await.unwrap());
    store.set_session_status(new.id, Status::Running).await.unwrap();

    let kept = store.session(new.id).await.unwrap().unwrap();
    assert_eq!((kept.status, kept.started_at), (Status::Ended, Some(Wall(4000))));
    assert_eq!(kept.new.auth_epoch, Some(3));
    assert_eq!((&kept.new.labels, &kept.new.limits), (&new.labels, &new.limits));
    let kept_end = kept.end.unwrap();
    assert_eq!(kept_end.reason, EndReason::MaxRuntime);
    assert_eq!(kept_end.exit, Some(Exit::Signal("TERM".to_owned())));
    assert_eq!(kept_end.recording, end(EndReason::Exited).recording);
    assert!(store.sessions_not_over().await.unwrap().is_empty());

    let told: Vec<_> =
        store.untold(10).await.unwrap().into_iter().map(|event| event.action).collect();
    assert_eq!(told, [Action::UserAdded, Action::SessionStarted, Action::SessionEnded]);
}

async fn sessions_are_found_by_what_is_known_of_them(house: House) {
    let (store, id) = (&house.store, with_alice(&house).await);
    let (old, new) = (stay(Some(id)), stay(None));
    for session in [&old, &new] {
        begin(store, session).await;
    }
    let ids = |sessions: Vec<Session>| sessions.iter().map(|s| s.new.id).collect::<Vec<_>>();
    let all = store.sessions(&SessionFilter::default(), 10).await.unwrap();
    assert_eq!(ids(all), [new.id, old.id], "the newest first");
    let filter = SessionFilter { user: Some("alice".to_owned()), ..SessionFilter::default() };
    assert_eq!(ids(store.sessions(&filter, 10).await.unwrap()), [old.id]);
    let filter = SessionFilter { before: Some(new.id), ..SessionFilter::default() };
    assert_eq!(ids(store.sessions(&filter, 10).await.unwrap()), [old.id]);
    let filter = SessionFilter { status: Some(Status::Ended), ..SessionFilter::default() };
    assert!(store.sessions(&filter, 10).await.unwrap().is_empty());

    let short = new.id.short();
    assert_eq!(ids(store.sessions_ending_in(&short, 2).await.unwrap()), [new.id]);
    let full = old.id.to_string().to_uppercase();
    assert_eq!(ids(store.sessions_ending_in(&full, 2).await.unwrap()), [old.id]);
    for typed in ["", "%", "%%%%", "zzzz", &short[5..]] {
        assert!(store.sessions_ending_in(typed, 2).await.unwrap().is_empty(), "{typed:?}");
    }
}

async fn all_that_are_not_over_are_found_however_many(house: House) {
    let store = &house.store;
    let many = usize::try_from(MAX_ROWS).unwrap() + 1;
    for _ in 0..many {
        begin(store, &stay(None)).await;
    }
    let found = store.sessions_not_over().await.unwrap();
    let ids: std::collections::BTreeSet<_> = found.iter().map(|it| it.new.id.to_string()).collect();
    assert_eq!((found.len(), ids.len()), (many, many));
}

async fn what_is_too_long_is_refused(house: House) {
    let store = &house.store;
    let long = NewSession { why: Some("x".repeat(100_000)), ..stay(None) };
    let started = event(Action::SessionStarted);
    let error = store.begin_session(&long, Wall(4000), &started).await.unwrap_err();
    assert!(error.is_refusal(), "{error}");
    let many = (0..=MAX_LABELS).map(|n| (n.to_string(), String::new())).collect();
    let many = NewSession { labels: many, ..stay(None) };
    let error = store.begin_session(&many, Wall(4000), &started).await.unwrap_err();
    assert!(matches!(error, StoreError::TooMany { limit: MAX_LABELS, .. }));
    assert!(store.untold(10).await.unwrap().is_empty(), "nothing is told of what is not kept");
}

async fn what_is_kept_and_removed_is_told_once(house: House) {
    let store = &house.store;
    let session = SessionId::new();
    let kept = |name: &str| KeptFiles {
        name: name.to_owned(),
        entries: 3,
        bytes: 9,
        truncated: true,
        at: Wall(5),
    };
    assert_eq!(store.remains(session).await.unwrap(), Remains::default());
    let told = event(Action::FilesKept);
    assert!(store.keep_files(session, &kept("a"), &told).await.unwrap());
    assert!(!store.keep_files(session, &kept("b"), &event(Action::FilesKept)).await.unwrap());
    let gone = |why: &str| Gone { at: Wall(7), why: why.to_owned() };
    for _ in 0..2 {
        store.remove_files(session, &gone("old"), &event(Action::FilesRemoved)).await.unwrap();
        let event = event(Action::RecordingRemoved);
        store.remove_recording(session, &gone("full"), &event).await.unwrap();
    }
    let remains = store.remains(session).await.unwrap();
    assert_eq!(remains.files, Some(kept("a")));
    assert_eq!(remains.files_gone, Some(gone("old")));
    assert_eq!(remains.recording_gone, Some(gone("full")));
    let told: Vec<Action> = store.untold(10).await.unwrap().iter().map(|e| e.action).collect();
    assert_eq!(told, [Action::FilesKept, Action::FilesRemoved, Action::RecordingRemoved]);
    let other = SessionId::new();
    let event = event(Action::FilesRemoved);
    assert!(store.remove_files(other, &gone("could not be kept"), &event).await.unwrap());
    assert_eq!(store.remains(other).await.unwrap().files, None);
}

async fn a_conversation_goes_with_its_recording(house: House) {
    let store = &house.store;
    let new = stay(None);
    store.add_agent(&new, "{}", &event(Action::SessionStarted)).await.unwrap();
    let said = |seq| crate::AgentEvent { seq, epoch: 1, at: Wall(1), event: "{}".to_owned() };
    let batch = crate::AgentBatch {
        session: new.id,
        before: 0,
        events: vec![said(1), said(2)],
        state: "{}".to_owned(),
        changes: vec![crate::AgentChange::Asked { request: "r".to_owned(), seq: 1, epoch: 1 }],
    };
    store.keep_events(&[batch]).await.unwrap();
    let message = crate::AgentInput {
        client_msg_id: "m".to_owned(),
        content: "hello".to_owned(),
        by: "{}".to_owned(),
        state: crate::InputState::Kept,
        code: None,
    };
    store.add_input(new.id, &message, Wall(1), &event(Action::InputSent)).await.unwrap();
    let gone = Gone { at: Wall(7), why: "old".to_owned() };
    let removed = event(Action::RecordingRemoved);
    assert!(store.remove_recording(new.id, &gone, &removed).await.unwrap());
    assert_eq!(store.agent_events(new.id, 1, 9).await.unwrap().len(), 2, "it is not over");
    let over = event(Action::SessionEnded);
    assert!(store.end_session(new.id, &end(EndReason::Exited), &over).await.unwrap());
    // A second time: its conversation went on after the first.
    let again = event(Action::RecordingRemoved);
    assert!(!store.remove_recording(new.id, &gone, &again).await.unwrap());
    assert!(store.agent_events(new.id, 1, 9).await.unwrap().is_empty());
    assert_eq!(store.agent_prompt(new.id, "r").await.unwrap(), None);
    assert_eq!(store.input(new.id, "m").await.unwrap(), None);
    let head = store.agent(new.id).await.unwrap().map(|(head, _)| head);
    assert_eq!(head, Some(2), "how far it was is known, so that its numbers go on");
}

async fn extensions_are_kept_in_order_and_bounded(house: House) {
    let store = &house.store;
    let (session, other) = (SessionId::new(), SessionId::new());
    let nth = |n: u32| Extension {
        at: Wall(i64::from(n)),
        by: "root".to_owned(),
        micros: 1_800_000_000,
        deadline: Wall(9000),
        why: (n == 0).then(|| "nearly there".to_owned()),
    };
    assert!(store.extensions(session).await.unwrap().is_empty());
    for n in 0..MAX_EXTENSIONS + 2 {
        store.add_extension(session, &nth(n)).await.unwrap();
    }
    store.add_extension(other, &Extension { by: "ä".repeat(2000), ..nth(7) }).await.unwrap();
    let kept = store.extensions(session).await.unwrap();
    assert_eq!(kept, (0..MAX_EXTENSIONS).map(nth).collect::<Vec<_>>());
    let others = store.extensions(other).await.unwrap();
    assert_eq!(others.len(), 1);
    assert!(others[0].by.len() <= 1024);
}
