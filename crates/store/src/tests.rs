//! The store: statements, migrations, two processes, and what it says when it cannot.

use std::os::unix::fs::PermissionsExt;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::authz::Role;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::ids::KeyId;
use sojourn_core::ids::SessionId;
use sojourn_core::ids::UserId;
use sojourn_core::limits::Limits;
use sojourn_core::status::Status;
use sojourn_core::time::Wall;
use sqlx::Executor;
use sqlx::Row;
use sqlx::SqlSafeStr;
use sqlx::SqlitePool;
use tempfile::TempDir;

use super::*;

async fn fresh() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    (dir, store)
}

fn event(action: Action) -> Event {
    Event::new(Wall(1000), action, Actor::SYSTEM)
}

fn alice() -> NewUser {
    NewUser {
        id: UserId::new(),
        name: "alice".to_owned(),
        role: Role::Member,
        password: Some("$argon2id$...".to_owned()),
        must_change: false,
        at: Wall(1000),
    }
}

async fn with_alice() -> (TempDir, Store, UserId) {
    let (dir, store) = fresh().await;
    let new = alice();
    store.add_user(&new, &event(Action::UserAdded)).await.unwrap();
    (dir, store, new.id)
}

fn key(user: UserId, fingerprint: &str) -> UserKey {
    UserKey {
        id: KeyId::new(),
        user,
        openssh: "ssh-ed25519 AAAA".to_owned(),
        fingerprint: fingerprint.to_owned(),
        comment: "laptop".to_owned(),
        added_at: Wall(2000),
    }
}

fn stay(user: Option<UserId>) -> NewSession {
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
        created_at: Wall(3000),
    }
}

fn end(reason: EndReason) -> SessionEnd {
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

/// The connections of a store that is SQLite's.
fn lite(db: &Db) -> &SqlitePool {
    match db {
        Db::Sqlite(pool) => pool,
        Db::Postgres(_) => unreachable!("a file"),
    }
}

async fn schema(store: &Store) -> Vec<(String, String)> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
            .fetch_all(lite(store.read()))
            .await
            .unwrap();
    rows
}

#[tokio::test]
async fn prepare_all() {
    let (_dir, store) = fresh().await;
    let mut connection = lite(&store.write).acquire().await.unwrap();
    for (name, statement) in sql::ALL {
        if let Err(error) = connection.prepare(statement.into_sql_str()).await {
            panic!("{name}: {error}");
        }
    }
}

#[tokio::test]
async fn a_fresh_schema_is_a_migrated_one() {
    let (_dir, fresh) = fresh().await;
    for older in 0..migrate::STEPS.len() {
        let dir = TempDir::new().unwrap();
        let options =
            SqliteConnectOptions::new().filename(dir.path().join(FILE)).create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        let db = Db::Sqlite(pool);
        migrate::migrate(&db, &migrate::STEPS[..older]).await.unwrap();
        db.close().await;
        let migrated = Store::open(dir.path()).await.unwrap();
        assert_eq!(schema(&migrated).await, schema(&fresh).await, "from schema {older}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (dir, store) = fresh().await;
    let mut change = store.change().await.unwrap();
    change.tx.run(sql::SET_META, args!["schema", 99]).await.unwrap();
    change.commit().await.unwrap();
    store.close().await;
    let error = Store::open(dir.path()).await.unwrap_err();
    let newest = i64::try_from(migrate::STEPS.len()).unwrap();
    let is_told = matches!(error, StoreError::Newer { found: 99, known } if known == newest);
    assert!(is_told, "{error}");
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join(FILE), "a letter to my aunt, ".repeat(100)).unwrap();
    let error = Store::open(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::NotADatabase), "{error}: {error:?}");
    let error = Store::open(&dir.path().join("nowhere")).await.unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
}

#[tokio::test]
async fn only_its_owner_reads_the_files() {
    let (dir, store, _) = with_alice().await;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        names.push(entry.file_name());
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
    assert!(names.len() >= 2, "the write-ahead log too: {names:?}");
    drop(store);
}

#[tokio::test]
async fn each_connection_is_set_up() {
    let (_dir, store) = fresh().await;
    for pool in [lite(&store.read), lite(&store.write)] {
        let mut connection = pool.acquire().await.unwrap();
        for (pragma, wanted) in [
            ("PRAGMA foreign_keys", "1"),
            ("PRAGMA journal_mode", "wal"),
            ("PRAGMA busy_timeout", "5000"),
        ] {
            let row = sqlx::query(pragma).fetch_one(&mut *connection).await.unwrap();
            let found =
                row.try_get(0).unwrap_or_else(|_| row.get_unchecked::<i64, _>(0).to_string());
            assert_eq!(found, wanted, "{pragma}");
        }
    }
}

#[tokio::test]
async fn an_account_is_found_as_it_was_made() {
    let (_dir, store, id) = with_alice().await;
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

#[tokio::test]
async fn changes_of_an_account_move_its_epoch_and_the_version() {
    let (_dir, store, id) = with_alice().await;
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

#[tokio::test]
async fn keys_are_bounded_and_unique_per_user() {
    let (_dir, store, id) = with_alice().await;
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

#[tokio::test]
async fn a_session_goes_from_start_to_one_end() {
    let (_dir, store, id) = with_alice().await;
    let new = stay(Some(id));
    store.add_session(&new).await.unwrap();
    let started = event(Action::SessionStarted);
    assert!(store.start_session(new.id, Wall(4000), &started).await.unwrap());
    let twice = event(Action::SessionStarted);
    assert!(!store.start_session(new.id, Wall(4001), &twice).await.unwrap());
    store.set_session_status(new.id, Status::Disconnected).await.unwrap();
    assert_eq!(store.sessions_not_over().await.unwrap().len(), 1);

    let over = event(Action::SessionEnded);
    assert!(store.end_session(new.id, &end(EndReason::MaxRuntime), &over).await.unwrap());
    let later = event(Action::SessionEnded);
    assert!(!store.end_session(new.id, &end(EndReason::Exited), &later).await.unwrap());
    store.set_session_status(new.id, Status::Running).await.unwrap();

    let kept = store.session(new.id).await.unwrap().unwrap();
    assert_eq!((kept.status, kept.started_at), (Status::Ended, Some(Wall(4000))));
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

#[tokio::test]
async fn sessions_are_found_by_what_is_known_of_them() {
    let (_dir, store, id) = with_alice().await;
    let (old, new) = (stay(Some(id)), stay(None));
    for session in [&old, &new] {
        store.add_session(session).await.unwrap();
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

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let (_dir, store) = fresh().await;
    let long = NewSession { why: Some("x".repeat(100_000)), ..stay(None) };
    let error = store.add_session(&long).await.unwrap_err();
    assert!(error.is_refusal(), "{error}");
    let many = (0..=MAX_LABELS).map(|n| (n.to_string(), String::new())).collect();
    let error = store.add_session(&NewSession { labels: many, ..stay(None) }).await.unwrap_err();
    assert!(matches!(error, StoreError::TooMany { limit: MAX_LABELS, .. }));
}

#[tokio::test]
async fn a_change_that_fails_tells_nothing() {
    let (_dir, store, _) = with_alice().await;
    store.add_user(&alice(), &event(Action::UserAdded)).await.unwrap_err();
    assert_eq!(store.untold(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn told_events_are_forgotten_and_their_arrival_is_announced() {
    let (dir, store) = fresh().await;
    let (first, second) = (event(Action::KillSwitch), event(Action::AuditGap));
    store.tell(&first).await.unwrap();
    store.told().notified().await;
    store.tell(&second).await.unwrap();
    let other_process = Store::open(dir.path()).await.unwrap();
    assert_eq!(other_process.untold(10).await.unwrap(), [first.clone(), second.clone()]);
    other_process.forget_told(&[first.event_id]).await.unwrap();
    assert_eq!(store.untold(10).await.unwrap(), [second]);
}

#[tokio::test]
async fn two_programs_write_at_the_same_time() {
    let (dir, store) = fresh().await;
    let other = Store::open(dir.path()).await.unwrap();
    let writes = (0..40).map(|n| {
        let store = if n % 2 == 0 { store.clone() } else { other.clone() };
        tokio::spawn(async move { store.tell(&event(Action::KillSwitch)).await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap().unwrap();
    }
    assert_eq!(store.untold(100).await.unwrap().len(), 40);
}

#[tokio::test]
async fn a_full_disk_is_named() {
    let (_dir, store) = fresh().await;
    let mut connection = lite(&store.write).acquire().await.unwrap();
    let pages: i64 =
        sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *connection).await.unwrap();
    let full = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::raw_sql(full).execute(&mut *connection).await.unwrap();
    drop(connection);
    let big = event(Action::KillSwitch).detail("text", "x".repeat(1 << 20));
    let error = store.tell(&big).await.unwrap_err();
    assert!(matches!(error, StoreError::Full), "{error:?}");
    assert!(store.untold(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_kept_and_removed_is_told_once() {
    let (_dir, store) = fresh().await;
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
