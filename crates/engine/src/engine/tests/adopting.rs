//! A gateway that starts, and the runner of the one before it.

use sojourn_core::wire::runner::About;
use sojourn_core::wire::runner::Held;

use super::*;
use crate::adopt::Unadopted;
use crate::runner_link::RunnerError;

fn held(session: SessionId, ended: Option<Summary>) -> Held {
    let about = About { user: "alice".to_owned(), door: "ssh".to_owned(), ..About::default() };
    Held { session, profile: DEFAULT.to_owned(), about, ended }
}

/// How a session ended that had started.
fn ended(house: &House, session: SessionId) -> Summary {
    let started_at = Some(house.engine.clock().wall());
    let lost = crate::records::lost(session, EndReason::Closed, &*house.clock);
    Summary { session, started_at, ..lost }
}

#[tokio::test]
async fn a_runner_that_dies_meanwhile_loses_no_session() {
    let mut house = House::new(4).await;
    let id = SessionId::new();
    let dies = async {
        house.list(vec![held(id, None)]).await;
        let attach = house.request().await;
        assert!(matches!(attach.body, Request::Attach { session } if session == id));
        // As a runner that was killed.
        rustix::net::shutdown(&*house.runner, rustix::net::Shutdown::Both).unwrap();
    };
    let (adopted, ()) = tokio::join!(house.engine.adopt(), dies);
    assert!(matches!(adopted, Err(Unadopted::Runner(RunnerError::Gone))), "{adopted:?}");
    assert!(house.kept(id).await.end.is_none());

    house.next_runner(vec![held(id, None)]).await;
    let (adopted, _shim) = tokio::join!(house.engine.adopt(), house.goes_on(held(id, None)));
    assert_eq!(adopted.unwrap().running, 1);
    assert!(house.engine.session(id).is_some());
    assert!(house.kept(id).await.end.is_none());
}

#[tokio::test]
async fn a_session_of_which_only_the_runner_knows_is_on_record_with_its_end() {
    let mut house = House::new(4).await;
    let id = SessionId::new();
    let over = held(id, Some(ended(&house, id)));
    house.next_runner(vec![over]).await;
    let Numbered { id: asked, body } = house.request().await;
    assert!(matches!(body, Request::Forget { session } if session == id), "{body:?}");
    house.reply(asked, Reply::Done, None).await;
    let kept = house.kept(id).await;
    assert!(kept.end.is_some(), "{kept:?}");
    assert_eq!(kept.new.user_name.as_deref(), Some("alice"));
}

#[tokio::test]
async fn a_session_that_never_started_is_forgotten_without_a_line() {
    let mut house = House::new(4).await;
    let id = SessionId::new();
    let lost = crate::records::lost(id, EndReason::Closed, &*house.clock);
    house.next_runner(vec![held(id, Some(lost))]).await;
    let Numbered { body, .. } = house.request().await;
    assert!(matches!(body, Request::Forget { session } if session == id), "{body:?}");
    assert!(house.store.session(id).await.unwrap().is_none());
}
