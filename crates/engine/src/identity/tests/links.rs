//! One-time links for a new password.

use super::factors::code_of;
use super::*;

const NEW: &str = "another four words here";

impl House {
    async fn link(&self) -> Secret {
        self.accounts.issue_reset("alice", Actor::local(0)).await.unwrap().token
    }

    async fn reset(&self, link: &Secret) -> Result<UserId, ResetError> {
        self.identity.reset(link.expose(), NEW, NEW, &at("192.0.2.1")).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l_59_a_link_is_good_once_of_twenty_at_the_same_time() {
    let house = House::new().await;
    let link = house.link().await;
    let tries = (0..20).map(|_| {
        let (identity, link) = (house.identity.clone(), link.clone());
        tokio::spawn(async move {
            identity.reset(link.expose(), NEW, NEW, &at("192.0.2.1")).await.is_ok()
        })
    });
    let mut used = 0;
    for came in tries.collect::<Vec<_>>() {
        used += usize::from(came.await.unwrap());
    }
    assert_eq!(used, 1);
    let alice = house.alice().await;
    assert_eq!((alice.epoch, alice.must_change), (1, false));
    assert!(is_refused(&house.sign_in("alice", PASSWORD, &at("192.0.2.1")).await));
    done(house.sign_in("alice", NEW, &at("192.0.2.1")).await);
    assert_eq!(house.told("user_reset").await, ["user_reset_issued", "user_reset_used"]);
}

#[tokio::test]
async fn l_59_a_link_lasts_an_hour_and_the_newest_is_the_one() {
    let house = House::new().await;
    let (first, second) = (house.link().await, house.link().await);
    assert!(matches!(house.reset(&first).await, Err(ResetError::Link)), "void");
    house.clock.advance(LINK_LIFETIME - Duration::from_micros(1));
    assert!(house.identity.is_reset_good(second.expose()).await.unwrap());
    house.clock.advance(Duration::from_micros(1));
    assert!(!house.identity.is_reset_good(second.expose()).await.unwrap());
    assert!(matches!(house.reset(&second).await, Err(ResetError::Link)), "too old");
    for other in ["", "sjr1_", &format!("sjr1_{}", "A".repeat(43))] {
        let came = house.reset(&Secret::new(other.to_owned())).await;
        assert!(matches!(came, Err(ResetError::Link)), "{other}");
    }
    done(house.sign_in("alice", PASSWORD, &at("192.0.2.1")).await);
}

#[tokio::test]
async fn l_59_a_refused_password_does_not_use_the_link_up() {
    let house = House::new().await;
    let link = house.link().await;
    let reset = async |new: &str, again: &str| {
        house.identity.reset(link.expose(), new, again, &at("192.0.2.1")).await
    };
    assert!(matches!(reset(NEW, "something else").await, Err(ResetError::Confirmation)));
    assert!(matches!(reset("short", "short").await, Err(ResetError::Password(_))));
    reset(NEW, NEW).await.unwrap();
    assert!(matches!(reset(NEW, NEW).await, Err(ResetError::Link)));
}

#[tokio::test]
async fn l_59_a_second_factor_is_still_asked_for() {
    let house = House::new().await;
    let (secret, _) = house.enrol().await;
    let link = house.link().await;
    house.reset(&link).await.unwrap();
    let came = house.sign_in("alice", NEW, &at("192.0.2.1")).await;
    let SignIn::SecondFactor(ceremony) = came else { panic!("{came:?}") };
    let code = code_of(&secret, &house.clock);
    let client = at("192.0.2.1");
    done(house.identity.second_factor(ceremony.expose(), &code, &client, None).await);
}

#[tokio::test]
async fn a_closed_account_gets_no_link_and_uses_none() {
    let house = House::new().await;
    let link = house.link().await;
    house.accounts.disable("alice", Actor::local(0)).await.unwrap();
    assert!(matches!(house.reset(&link).await, Err(ResetError::Link)));
    let refused = house.accounts.issue_reset("alice", Actor::local(0)).await.unwrap_err();
    assert!(refused.to_string().contains("disabled"), "{refused}");
}

#[tokio::test]
async fn l_59_whoever_gets_a_new_password_does_not_wait_for_the_old_one() {
    let house = House::new().await;
    for n in 0..6 {
        let client = at(&format!("198.51.100.{n}"));
        assert!(is_refused(&house.sign_in("alice", "wrong wrong wrong", &client).await));
    }
    let link = house.link().await;
    house.reset(&link).await.unwrap();
    done(house.sign_in("alice", NEW, &at("203.0.113.1")).await);
}
