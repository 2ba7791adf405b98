//! Tokens: who they stand for, from when on and until when, and what is on record of them.

use std::time::Instant;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::audit;
use crate::audit::AuditWriter;
use crate::clock::ManualClock;
use crate::identity::Accounts;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct House {
    dir: TempDir,
    store: Store,
    clock: Arc<ManualClock>,
    audit: AuditHandle,
    accounts: Accounts,
    tokens: Tokens,
    alice: UserId,
}

impl House {
    async fn new() -> Self {
        let (house, writer) = Self::without_a_log().await;
        tokio::spawn(writer.run(CancellationToken::new()));
        house
    }

    /// With a log that nobody writes yet.
    async fn without_a_log() -> (Self, AuditWriter) {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let clock = Arc::new(ManualClock::new());
        let options = audit::AuditOptions {
            data_dir: dir.path().to_owned(),
            on_failure: audit::OnFailure::Refuse,
        };
        let (audit, writer) = audit::start(&options, store.clone(), clock.clone()).await.unwrap();
        let accounts = Accounts::new(store.clone(), clock.clone(), dir.path().to_owned());
        let alice = accounts.add("alice", Role::Member, None, Actor::local(0)).await.unwrap();
        let tokens = Tokens::new(store.clone(), audit.clone(), clock.clone());
        (Self { dir, store, clock, audit, accounts, tokens, alice }, writer)
    }

    async fn make(&self, wanted: Wanted) -> (Secret, TokenView) {
        self.tokens.create(self.alice, wanted, &Actor::local(0)).await.unwrap()
    }

    async fn found(&self, secret: &Secret) -> Option<Arc<ApiToken>> {
        self.tokens.resolve(secret.expose()).await.unwrap()
    }

    /// Action and details of what is on record of tokens.
    async fn told(&self) -> Vec<(String, serde_json::Value)> {
        self.audit.settled().await.unwrap();
        let mut reader = audit::LogReader::open(&self.dir.path().join(audit::DIR)).unwrap();
        let lines = std::iter::from_fn(|| reader.next_line().unwrap());
        let entries = lines.map(|line| line.entry().unwrap());
        let is_of_tokens = |entry: &sojourn_core::audit::Entry| {
            entry.action.starts_with("token_") || entry.action == "access_refused"
        };
        let of_tokens = entries.filter(is_of_tokens);
        of_tokens.map(|entry| (entry.action, json!(entry.details))).collect()
    }
}

fn wanted(scopes: &str) -> Wanted {
    Wanted {
        name: "deploy".to_owned(),
        scopes: scopes.parse().unwrap(),
        expires_at: None,
        runner: None,
    }
}

fn for_runner(name: &str) -> Wanted {
    Wanted { runner: Some(name.to_owned()), ..wanted("") }
}

#[tokio::test]
async fn a_token_stands_for_its_user_and_is_nowhere_but_with_them() {
    let house = House::new().await;
    let (secret, view) = house.make(wanted("sessions")).await;
    assert!(secret.expose().starts_with("sjt1_") && secret.expose().len() == 48);
    for _ in 0..2 {
        let token = house.found(&secret).await.unwrap();
        assert_eq!((token.id, token.user, token.name.as_str()), (view.id, house.alice, "alice"));
        assert_eq!(token.asker(), Asker::User(house.alice, Role::Member));
    }
    assert_eq!((view.status, view.user.as_str()), (TokenStatus::Active, "alice"));
    let told = house.told().await;
    let details = json!({"user": "alice", "token": view.id, "name": "deploy",
        "scopes": ["sessions"], "runner": null, "expires_at": null});
    assert_eq!(told, [("token_created".to_owned(), details)]);

    house.store.close().await;
    for entry in walk(house.dir.path()) {
        let content = std::fs::read(&entry).unwrap();
        let secret = secret.expose().as_bytes();
        let is_in_it = content.windows(secret.len()).any(|bytes| bytes == secret);
        assert!(!is_in_it, "the secret is in {}", entry.display());
    }
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn what_a_token_covers_is_what_it_was_made_for() {
    let house = House::new().await;
    for (scopes, covered) in [
        ("read", [true, false, false]),
        ("sessions", [true, true, false]),
        ("admin", [true, true, true]),
    ] {
        let (secret, _) = house.make(wanted(scopes)).await;
        let token = house.found(&secret).await.unwrap();
        assert_eq!(Scope::ALL.map(|scope| token.has(scope)), covered, "{scopes}");
    }
    let (secret, view) = house.make(for_runner("laptop")).await;
    assert!(secret.expose().starts_with("sjrunner1_"));
    let token = house.found(&secret).await.unwrap();
    assert_eq!(token.runner.as_deref(), Some("laptop"));
    assert_eq!(Scope::ALL.map(|scope| token.has(scope)), [false; 3], "for no request");
    // Whatever the store may hold.
    let token = ApiToken { scopes: [Scope::Admin].into_iter().collect(), ..(*token).clone() };
    assert_eq!(Scope::ALL.map(|scope| token.has(scope)), [false; 3]);
    assert_eq!(view.runner.as_deref(), Some("laptop"));
}

#[tokio::test]
async fn a_revoked_token_stands_for_nobody_at_once() {
    let house = House::new().await;
    let ((secret, view), (other, _)) =
        (house.make(wanted("read")).await, house.make(wanted("read")).await);
    assert!(house.found(&secret).await.is_some() && house.found(&other).await.is_some());
    let by = Actor::local(0);
    let stranger = house.tokens.revoke(view.id, Some(UserId::new()), &by).await;
    assert!(matches!(stranger, Err(TokenError::NoToken)), "another's is as if it never was");
    assert!(house.found(&secret).await.is_some());
    assert!(house.tokens.revoke(view.id, Some(house.alice), &by).await.unwrap());
    assert!(house.found(&secret).await.is_none());
    assert!(!house.tokens.still_stands(view.id).await.unwrap());
    assert!(house.found(&other).await.is_some());
    assert!(!house.tokens.revoke(view.id, None, &by).await.unwrap());
    let told = house.told().await;
    assert_eq!(told.iter().filter(|(action, _)| action == "token_revoked").count(), 1);
    let listed = house.tokens.list(Some(house.alice), None, 10).await.unwrap();
    let stand = listed.iter().map(|token| token.status).collect::<Vec<_>>();
    assert_eq!(stand, [TokenStatus::Active, TokenStatus::Revoked]);
    assert_eq!(listed[1].revoked_at, Some(house.clock.wall()));
}

#[tokio::test]
async fn who_still_uses_a_token_that_is_none_any_more_is_on_record() {
    let house = House::new().await;
    let end = house.clock.wall().after(Duration::from_secs(60));
    let (revoked, view) = house.make(wanted("read")).await;
    let (expired, _) = house.make(Wanted { expires_at: Some(end), ..wanted("read") }).await;
    assert!(house.found(&expired).await.is_some());
    house.tokens.revoke(view.id, None, &Actor::local(0)).await.unwrap();
    house.clock.advance(Duration::from_secs(61));
    let client = Client::new([192, 0, 2, 7].into(), "somebody's");
    for secret in [&revoked, &expired] {
        let found = house.tokens.resolve_from(secret.expose(), Some(&client)).await.unwrap();
        assert!(found.is_none());
    }
    let told = house.told().await;
    let codes: Vec<_> = (told.iter().filter(|(action, _)| action == "access_refused"))
        .map(|(_, details)| details["code"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(codes, ["token_revoked", "token_expired"], "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_comes_in_after_a_revocation_is_answered() {
    let house = House::new().await;
    for _ in 0..20 {
        let (secret, view) = house.make(wanted("read")).await;
        let over = CancellationToken::new();
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (tokens, secret, over) = (house.tokens.clone(), secret.clone(), over.clone());
                tokio::spawn(async move {
                    while !over.is_cancelled() {
                        tokens.resolve(secret.expose()).await.unwrap();
                    }
                })
            })
            .collect();
        assert!(house.found(&secret).await.is_some());
        house.tokens.revoke(view.id, None, &Actor::local(0)).await.unwrap();
        for _ in 0..50 {
            assert!(house.found(&secret).await.is_none());
        }
        over.cancel();
        for caller in callers {
            caller.await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_another_process_revokes_or_closes_is_heard_of() {
    let house = House::new().await;
    let other = Store::open(house.dir.path()).await.unwrap();
    let elsewhere = Tokens::new(other.clone(), house.audit.clone(), house.clock.clone());
    let ((one, view), (two, _)) =
        (house.make(wanted("read")).await, house.make(wanted("read")).await);
    assert!(house.found(&one).await.is_some() && house.found(&two).await.is_some());
    elsewhere.revoke(view.id, None, &Actor::local(0)).await.unwrap();
    let gone = async |secret| {
        let begun = Instant::now();
        while house.found(secret).await.is_some() {
            assert!(begun.elapsed() < PATIENCE, "it is still let in");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    gone(&one).await;
    assert!(house.found(&two).await.is_some());
    let event = Event::new(house.clock.wall(), Action::UserDisabled, Actor::SYSTEM);
    other.disable_user(house.alice, &event).await.unwrap();
    gone(&two).await;
}

#[tokio::test]
async fn a_closed_account_has_no_tokens_until_it_is_opened() {
    let house = House::new().await;
    let (secret, view) = house.make(wanted("read")).await;
    assert!(house.found(&secret).await.is_some());
    house.accounts.disable("alice", Actor::local(0)).await.unwrap();
    assert!(house.found(&secret).await.is_none());
    assert!(!house.tokens.still_stands(view.id).await.unwrap());
    let listed = house.tokens.named(&view.id.short(), None).await.unwrap();
    assert_eq!(listed[0].status, TokenStatus::Disabled);
    let refused = house.tokens.create(house.alice, wanted("read"), &Actor::local(0)).await;
    assert!(matches!(refused, Err(TokenError::Disabled(_))));
    house.accounts.enable("alice", Actor::local(0)).await.unwrap();
    assert!(house.found(&secret).await.is_some());
    house.accounts.set_role("alice", Role::Auditor, Actor::local(0)).await.unwrap();
    assert_eq!(house.found(&secret).await.unwrap().role, Role::Auditor, "at once");
}

#[tokio::test]
async fn a_token_expires_to_the_microsecond() {
    let house = House::new().await;
    let end = house.clock.wall().after(Duration::from_secs(60));
    let (secret, view) = house.make(Wanted { expires_at: Some(end), ..wanted("read") }).await;
    house.clock.advance(Duration::from_micros(59_999_999));
    assert!(house.found(&secret).await.is_some());
    house.clock.advance(Duration::from_micros(1));
    assert!(house.found(&secret).await.is_none(), "though it is known");
    assert!(!house.tokens.still_stands(view.id).await.unwrap());
    let listed = house.tokens.list(None, None, 10).await.unwrap();
    assert_eq!((listed[0].status, listed[0].expires_at), (TokenStatus::Expired, Some(end)));
    let fresh = Tokens::new(house.store.clone(), house.audit.clone(), house.clock.clone());
    assert!(fresh.resolve(secret.expose()).await.unwrap().is_none(), "and where it is not");
}

#[tokio::test]
async fn uses_are_noted_once_a_minute() {
    let house = House::new().await;
    let (secret, view) = house.make(wanted("read")).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        house.found(&secret).await.unwrap();
        let kept = house.store.token(view.id).await.unwrap().unwrap();
        seen.push(kept.last_used_at.unwrap());
        house.clock.advance(Duration::from_secs(20));
    }
    assert!(seen[0] == seen[1] && seen[1] == seen[2]);
    assert_eq!(seen[3], seen[0].after(Duration::from_secs(60)));
}

#[tokio::test]
async fn what_is_no_token_is_refused_before_the_store_is_asked() {
    let house = House::new().await;
    let (secret, _) = house.make(wanted("read")).await;
    house.store.close().await;
    let rest = &secret.expose()[5..];
    for text in [
        "",
        "sjt1_",
        rest,
        &format!("sjt2_{rest}"),
        &format!("sjt1_{rest}x"),
        &format!("sjt1_{}", &rest[1..]),
        &format!("sjt1_{}=", &rest[1..]),
        &format!("sjt1_{}\u{e9}", &rest[2..]),
        &"sjt1_".repeat(100_000),
    ] {
        assert_eq!(house.tokens.resolve(text).await, Ok(None), "{text:.60}");
    }
    let formed = Secret::random(PREFIX).unwrap();
    assert_eq!(house.tokens.resolve(formed.expose()).await, Err(Unavailable::Store));
}

#[tokio::test]
async fn nothing_is_made_that_would_be_good_for_nothing() {
    let house = House::new().await;
    let now = house.clock.wall();
    let is = async |wanted: Wanted| {
        house.tokens.create(house.alice, wanted, &Actor::local(0)).await.unwrap_err().to_string()
    };
    let named = |name: &str| Wanted { name: name.to_owned(), ..wanted("read") };
    for name in ["", "  ", "a\nb", &"x".repeat(65)] {
        assert!(is(named(name)).await.contains("a token's name has"), "{name:?}");
    }
    for name in ["", "-x", "Laptop", "a b", "a/b", &"x".repeat(33)] {
        assert!(is(for_runner(name)).await.contains("cannot be a runner's name"), "{name:?}");
    }
    assert!(is(wanted("")).await.contains("at least one scope"));
    assert!(
        is(Wanted { scopes: wanted("read").scopes, ..for_runner("x") }).await.contains("no scopes")
    );
    for end in [now, Wall(0), Wall(i64::MAX)] {
        assert!(is(Wanted { expires_at: Some(end), ..wanted("read") }).await.contains("100 years"));
    }
    let nobody = house.tokens.create(UserId::new(), wanted("read"), &Actor::local(0)).await;
    assert!(matches!(nobody, Err(TokenError::NoUser)));
    assert!(house.tokens.list(None, None, 10).await.unwrap().is_empty());
    house.make(for_runner("laptop")).await;
    assert_eq!(is(for_runner("laptop")).await, "there is already a runner \"laptop\"");
}

#[tokio::test]
async fn without_a_log_nothing_is_made_and_revoking_works() {
    let (house, writer) = House::without_a_log().await;
    // It looks as if the log could be written, until the token is in the store.
    let by = Actor::local(0);
    let create = house.tokens.create(house.alice, wanted("read"), &by);
    let fail = async {
        let begun = Instant::now();
        while house.tokens.list(None, None, 1).await.unwrap().is_empty() {
            assert!(begun.elapsed() < PATIENCE, "no token came");
            tokio::task::yield_now().await;
        }
        drop(writer);
    };
    let (made, ()) = tokio::join!(create, fail);
    assert!(matches!(made, Err(TokenError::Audit(_))));
    let listed = house.tokens.list(None, None, 10).await.unwrap();
    assert_eq!(listed[0].status, TokenStatus::Revoked, "what nobody has seen is good for nothing");
    let again = house.tokens.create(house.alice, wanted("read"), &Actor::local(0)).await;
    assert!(matches!(again, Err(TokenError::Audit(_))));
    assert_eq!(house.tokens.list(None, None, 10).await.unwrap().len(), 1, "not even begun");
    assert!(!house.tokens.revoke(listed[0].id, None, &Actor::local(0)).await.unwrap());
}

proptest! {
    #[test]
    fn only_what_has_the_form_of_a_token_is_looked_up(text in "(sjt1_|sjrunner1_|sjr1_|x)?[A-Za-z0-9_=/+-]{40,48}") {
        let formed = [PREFIX, RUNNER_PREFIX].iter().any(|prefix| secret::is_formed(&text, prefix));
        let expected = text.len() == 48
            && (text.starts_with(PREFIX) || text.starts_with(RUNNER_PREFIX))
            && !text.contains(['=', '/', '+']);
        prop_assert_eq!(formed, expected);
    }
}
