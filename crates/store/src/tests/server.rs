//! What a PostgreSQL server has of its own: it can refuse, be gone, come back, and be another's.

use std::time::Instant;

use sojourn_testkit::DATABASE_PASSWORD;

use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an operator reads, with all causes, and all of it in every other form it can take.
fn shown(error: &StoreError) -> String {
    let text = format!("{error} {error:?}");
    assert!(!text.contains(DATABASE_PASSWORD), "the password is shown: {text}");
    text
}

async fn refusal(url: &str) -> StoreError {
    Store::open_at(Location::Postgres(url)).await.unwrap_err()
}

#[tokio::test]
async fn what_is_no_address_is_refused_without_showing_it() {
    for url in [
        "mysql://sojourn:the-word-of-the-url@db/x",
        "postgres://sojourn:the-word-of-the-url@db:port/x",
        "postgres://sojourn@db/x?the-word-of-the-url=1",
        "postgres://sojourn:the-word-of-the-url@db/x?sslmode=sometimes",
        "postgres://",
    ] {
        let error = refusal(url).await;
        let told = shown(&error);
        let is_address = matches!(error, StoreError::Address(_));
        assert!(is_address || url == "postgres://", "{url}: {told}");
    }
    let location = Location::Postgres("postgres://sojourn:the-word-of-the-url@db/x");
    assert!(!format!("{location:?}").contains(DATABASE_PASSWORD));
}

#[tokio::test]
async fn whoever_is_not_let_in_is_told_what_to_check() {
    let server = Postgres::shared();
    let database = server.database();
    let error = refusal(&database.url.replace(DATABASE_PASSWORD, "another")).await;
    assert!(matches!(error, StoreError::NotLetIn { .. }), "{}", shown(&error));
    assert!(error.to_string().contains(server.socket()), "{error}");
    let error = refusal(&database.url.replace(&database.name, "nowhere")).await;
    assert!(matches!(error, StoreError::NoDatabase { .. }), "{}", shown(&error));

    let begun = Instant::now();
    // Nobody listens there: the port is privileged and given to nothing.
    let error = refusal("postgres://sojourn:the-word-of-the-url@127.0.0.1:1/x").await;
    assert!(matches!(error, StoreError::Unreachable { .. }), "{}", shown(&error));
    assert!(error.to_string().contains("127.0.0.1:1 cannot be reached"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3), "at once, not after many tries");
}

#[tokio::test]
async fn a_database_that_takes_no_change_is_named() {
    let server = Postgres::shared();
    let database = server.database();
    server.admin(
        "postgres",
        &format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name),
    );
    let error = refusal(&database.url).await;
    assert!(matches!(error, StoreError::ReadOnly), "{}", shown(&error));

    let database = server.database();
    server.admin(&database.name, "ALTER SCHEMA public OWNER TO postgres");
    let error = refusal(&database.url).await;
    assert!(matches!(error, StoreError::NotAllowed { .. }), "{}", shown(&error));
}

#[tokio::test]
async fn what_the_server_reports_is_told_in_our_words() {
    let House { store, place } = House::postgres().await;
    let Place::Server(database) = place else { unreachable!("a server") };
    let is = |error: &StoreError, name: &str| format!("{error:?}").starts_with(name);
    for (code, name) in [
        ("23505", "Taken"),
        ("25006", "ReadOnly"),
        ("40001", "Conflict"),
        ("40P01", "Conflict"),
        ("42501", "NotAllowed"),
        ("53100", "Full"),
        ("53300", "Unreachable"),
        ("55P03", "Locked"),
        ("57014", "Locked"),
        ("57P03", "Unreachable"),
        ("22012", "Other"),
    ] {
        let body = format!("BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END");
        let trigger = format!(
            "CREATE OR REPLACE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $${body}$$;
            CREATE OR REPLACE TRIGGER no BEFORE INSERT ON outbox EXECUTE FUNCTION no()"
        );
        Postgres::shared().admin(&database.name, &trigger);
        let error = store.tell(&event(Action::KillSwitch)).await.unwrap_err();
        assert!(is(&error, name), "{code}: {}", shown(&error));
    }
    Postgres::shared().admin(&database.name, "DROP TRIGGER no ON outbox");
    store.tell(&event(Action::KillSwitch)).await.unwrap();
}

#[tokio::test]
async fn each_connection_is_set_up() {
    let House { store, place: _kept } = House::postgres().await;
    let Db::Postgres(pool, _) = &store.write else { unreachable!("a server") };
    for (setting, wanted) in [
        ("SHOW transaction_isolation", "read committed"),
        ("SHOW lock_timeout", "5s"),
        ("SHOW statement_timeout", "10s"),
        ("SHOW idle_in_transaction_session_timeout", "30s"),
        ("SHOW application_name", "sojourn"),
    ] {
        let found: String = sqlx::query_scalar(setting).fetch_one(pool).await.unwrap();
        assert_eq!(found, wanted, "{setting}");
    }
    assert!(!format!("{store:?}").contains(DATABASE_PASSWORD));
}

#[tokio::test]
async fn a_server_that_was_gone_is_used_again() {
    let mut server = Postgres::start();
    let database = server.database();
    let store = Store::open_at(Location::Postgres(&database.url)).await.unwrap();
    store.tell(&event(Action::KillSwitch)).await.unwrap();
    server.stop();
    let begun = Instant::now();
    let error = store.untold(1).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{}", shown(&error));
    let error = store.tell(&event(Action::KillSwitch)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{}", shown(&error));
    assert!(begun.elapsed() < PATIENCE / 2, "callers do not wait for long");
    server.launch();
    assert_eq!(store.untold(10).await.unwrap().len(), 1);
    store.tell(&event(Action::KillSwitch)).await.unwrap();
}

#[tokio::test]
async fn a_second_gateway_is_refused_and_told_whose_it_is() {
    let Place::Server(database) = Place::postgres() else { unreachable!("a server") };
    let location = Location::Postgres(&database.url);
    let (store, claim) = Store::open_alone(location).await.unwrap();
    let error = Store::open_alone(location).await.unwrap_err();
    let told = shown(&error);
    let whose = format!("in use by sojourn serve with pid {}", std::process::id());
    assert!(told.contains(&whose), "{told}");
    // A command that works beside the gateway is not one.
    Store::open_at(location).await.unwrap().tell(&event(Action::KillSwitch)).await.unwrap();
    assert_eq!(store.untold(10).await.unwrap().len(), 1);
    // Killed, its connections are gone a moment later; the next one may start at once.
    drop(claim);
    let _next = Store::open_alone(location).await.unwrap();
}

#[tokio::test]
async fn a_claim_whose_connection_broke_is_taken_again() {
    let Place::Server(database) = Place::postgres() else { unreachable!("a server") };
    let location = Location::Postgres(&database.url);
    let holders = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let holder = || Postgres::shared().admin(&database.name, holders);
    let (_store, mut claim) = Store::open_alone(location).await.unwrap();
    let watch = tokio::spawn(async move { claim.lost().await });
    let before = holder();
    Postgres::shared().admin(&database.name, &format!("SELECT pg_terminate_backend({before})"));
    let begun = Instant::now();
    while holder().is_empty() || holder() == before {
        assert!(begun.elapsed() < PATIENCE, "it was not taken again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = Store::open_alone(location).await.unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{}", shown(&error));
    assert!(!watch.is_finished(), "it was not lost");
    watch.abort();
}

#[tokio::test]
async fn a_claim_that_another_took_meanwhile_is_lost() {
    let mut server = Postgres::start();
    let database = server.database();
    let location = Location::Postgres(&database.url);
    let (_store, mut claim) = Store::open_alone(location).await.unwrap();
    server.stop();
    server.launch();
    let _other = Store::open_alone(location).await.unwrap();
    let lost = tokio::time::timeout(PATIENCE, claim.lost()).await.unwrap();
    assert!(matches!(lost, StoreError::InUse(_)), "{}", shown(&lost));
}
