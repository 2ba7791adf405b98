//! Tokens.

use sojourn_core::ids::TokenId;
use sojourn_core::scope::Scope;
use sojourn_core::scope::Scopes;

use super::*;

on_both! {
    a_token_is_found_by_its_digest_with_its_account,
    tokens_are_listed_by_user_and_of_all,
    a_revoked_token_stays_revoked_and_is_told_once,
    uses_are_noted_once_a_minute,
    tokens_that_can_be_used_are_bounded_and_the_others_forgotten,
    a_runner_has_one_token_of_its_name_and_owner,
    many_who_make_tokens_at_once_keep_the_bound,
}

const MINUTE: i64 = 60_000_000;

fn token(user: UserId, hash: &str) -> NewToken {
    NewToken {
        id: TokenId::new(),
        hash: hash.to_owned(),
        user,
        name: "deploy".to_owned(),
        runner: None,
        scopes: [Scope::Read, Scope::Sessions].into_iter().collect(),
        created_at: Wall(1000),
        expires_at: None,
    }
}

async fn add(store: &Store, new: &NewToken) -> Result<(), StoreError> {
    store.add_token(new, &event(Action::TokenCreated)).await
}

async fn a_token_is_found_by_its_digest_with_its_account(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let new = NewToken { expires_at: Some(Wall(9000)), ..token(alice, "ab") };
    let version = (store.account_changes(), store.accounts_version().await.unwrap());
    add(store, &new).await.unwrap();
    assert_eq!(
        (store.account_changes(), store.accounts_version().await.unwrap()),
        (version.0 + 1, version.1 + 1)
    );
    let found = store.token_by_hash("ab").await.unwrap().unwrap();
    assert_eq!((found.id, found.user, found.user_name.as_str()), (new.id, alice, "alice"));
    assert_eq!(
        (found.user_role, found.scopes, found.runner.as_deref()),
        (Role::Member, new.scopes, None)
    );
    assert_eq!(store.token(new.id).await.unwrap().as_ref(), Some(&found));
    assert!(store.token_by_hash("AB").await.unwrap().is_none());
    assert!(found.is_good(Wall(8999)) && !found.is_good(Wall(9000)), "to the microsecond");
    assert!(!format!("{new:?}").contains("ab\""), "digests are not shown");
    store.disable_user(alice, &event(Action::UserDisabled)).await.unwrap();
    assert!(!store.token_by_hash("ab").await.unwrap().unwrap().is_good(Wall(1)));
    let same = NewToken { id: TokenId::new(), ..new };
    assert!(add(store, &same).await.unwrap_err().is_refusal());
    assert_eq!(told(store).await[1..], [Action::TokenCreated, Action::UserDisabled]);
}

async fn tokens_are_listed_by_user_and_of_all(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let bob = user("bob");
    store.add_user(&bob, &event(Action::UserAdded)).await.unwrap();
    let made = [token(alice, "1"), token(bob.id, "2"), token(alice, "3")];
    for new in &made {
        add(store, new).await.unwrap();
    }
    let ids = |tokens: Vec<Token>| tokens.iter().map(|token| token.id).collect::<Vec<_>>();
    let [first, second, third] = made.map(|token| token.id);
    assert_eq!(ids(store.tokens(None, None, 10).await.unwrap()), [third, second, first]);
    assert_eq!(ids(store.tokens(None, Some(third), 1).await.unwrap()), [second]);
    assert_eq!(ids(store.tokens(Some(alice), None, 10).await.unwrap()), [third, first]);
    assert_eq!(ids(store.tokens_ending_in(&second.short(), 2).await.unwrap()), [second]);
    assert!(store.tokens_ending_in("%", 2).await.unwrap().is_empty());
}

async fn a_revoked_token_stays_revoked_and_is_told_once(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let new = token(alice, "ab");
    add(store, &new).await.unwrap();
    let changes = store.account_changes();
    assert!(store.revoke_token(new.id, &event(Action::TokenRevoked)).await.unwrap());
    assert_eq!(store.account_changes(), changes + 1);
    assert!(!store.revoke_token(new.id, &event(Action::TokenRevoked)).await.unwrap());
    assert!(!store.token_by_hash("ab").await.unwrap().unwrap().is_good(Wall(1)));
    let unknown = store.revoke_token(TokenId::new(), &event(Action::TokenRevoked)).await;
    assert!(matches!(unknown, Err(StoreError::Missing(_))));
    assert_eq!(told(store).await[1..], [Action::TokenCreated, Action::TokenRevoked]);
}

async fn uses_are_noted_once_a_minute(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let new = token(alice, "ab");
    add(store, &new).await.unwrap();
    for (at, is_noted) in [(0, true), (MINUTE - 1, false), (MINUTE, true), (MINUTE + 1, false)] {
        assert_eq!(store.touch_token(new.id, Wall(at)).await.unwrap(), is_noted, "{at}");
    }
    assert_eq!(store.token(new.id).await.unwrap().unwrap().last_used_at, Some(Wall(MINUTE)));
    store.revoke_token(new.id, &event(Action::TokenRevoked)).await.unwrap();
    assert!(!store.touch_token(new.id, Wall(5 * MINUTE)).await.unwrap());
}

async fn tokens_that_can_be_used_are_bounded_and_the_others_forgotten(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    for n in 0..MAX_TOKENS {
        let expires_at = (n == 0).then_some(Wall(2000));
        let new = NewToken { expires_at, ..token(alice, &n.to_string()) };
        add(store, &new).await.unwrap();
    }
    let over = add(store, &token(alice, "over")).await.unwrap_err();
    assert!(matches!(over, StoreError::TooMany { limit: MAX_TOKENS, .. }), "{over}");
    let later = NewToken { created_at: Wall(2000), ..token(alice, "later") };
    add(store, &later).await.unwrap();
    for n in 0..70 {
        let newest = store.tokens(Some(alice), None, 1).await.unwrap()[0].id;
        store.revoke_token(newest, &event(Action::TokenRevoked)).await.unwrap();
        let next = NewToken { created_at: Wall(3000), ..token(alice, &format!("next {n}")) };
        add(store, &next).await.unwrap();
    }
    let kept = store.tokens(Some(alice), None, 1000).await.unwrap();
    let live = kept.iter().filter(|token| token.is_good(Wall(3000))).count();
    assert_eq!((live, kept.len()), (MAX_TOKENS, MAX_TOKENS + 50));
}

async fn a_runner_has_one_token_of_its_name_and_owner(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    let bob = user("bob");
    store.add_user(&bob, &event(Action::UserAdded)).await.unwrap();
    let runner = |user, hash: &str| NewToken {
        runner: Some("laptop".to_owned()),
        scopes: Scopes::NONE,
        ..token(user, hash)
    };
    let first = runner(alice, "1");
    add(store, &first).await.unwrap();
    let again = add(store, &runner(alice, "2")).await.unwrap_err();
    assert_eq!(again.to_string(), "there is already a runner \"laptop\"");
    add(store, &runner(bob.id, "3")).await.unwrap();
    store.revoke_token(first.id, &event(Action::TokenRevoked)).await.unwrap();
    add(store, &runner(alice, "4")).await.unwrap();
    add(store, &NewToken { expires_at: Some(Wall(9000)), ..token(alice, "5") }).await.unwrap();
    let good = async |at| store.good_tokens(Wall(at)).await.unwrap();
    assert_eq!(good(8999).await, GoodTokens { programs: 1, runners: 2 });
    assert_eq!(good(9000).await, GoodTokens { programs: 0, runners: 2 });
    store.disable_user(bob.id, &event(Action::UserDisabled)).await.unwrap();
    assert_eq!(good(9000).await, GoodTokens { programs: 0, runners: 1 });
}

async fn many_who_make_tokens_at_once_keep_the_bound(house: House) {
    let (store, alice) = (&house.store, with_alice(&house).await);
    for n in 1..MAX_TOKENS {
        add(store, &token(alice, &n.to_string())).await.unwrap();
    }
    let other = house.again().await;
    let tries = (0..10).map(|n| {
        let store = if n % 2 == 0 { store.clone() } else { other.clone() };
        tokio::spawn(async move { add(&store, &token(alice, &format!("x{n}"))).await })
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
