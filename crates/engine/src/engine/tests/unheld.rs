//! Sessions that the runner opened and that nobody came to hold.

use sojourn_core::wire::runner::About;
use sojourn_core::wire::runner::Held;

use super::house::pair;
use super::*;

impl House {
    /// What the runner is asked to do with this session, until it forgets it.
    async fn is_disowned(&self, session: SessionId) {
        let summary =
            Summary { session, ..crate::records::lost(session, EndReason::Closed, &*self.clock) };
        let (mut killed, mut ended) = (false, None);
        loop {
            let Numbered { id, body } = self.request().await;
            let answer = match body {
                Request::List { .. } => {
                    let (profile, about) = (DEFAULT.to_owned(), About::default());
                    let held = Held { session, profile, about, ended: ended.clone() };
                    Reply::Sessions { items: vec![held], more: false }
                }
                Request::Kill { session: of } => {
                    assert_eq!(of, session);
                    (killed, ended) = (true, Some(summary.clone()));
                    Reply::Done
                }
                Request::Forget { session: of } => {
                    assert!(of == session && killed && ended.is_some());
                    return self.reply(id, Reply::Done, None).await;
                }
                other => panic!("{other:?}"),
            };
            self.reply(id, answer, None).await;
        }
    }
}

fn opened() -> Reply {
    Reply::Opened { sandbox: "s0-1".to_owned(), warm: true, recording: "x.cast".to_owned() }
}

#[tokio::test]
async fn a_session_whose_socket_was_lost_on_the_way_is_ended_and_forgotten() {
    let house = House::new(1).await;
    let serve = async {
        let Numbered { id, body } = house.request().await;
        let Request::Open(open) = body else { panic!("not an open") };
        // As when the gateway had no descriptor left for it.
        house.reply(id, opened(), None).await;
        open.session
    };
    let (refused, session) = tokio::join!(house.engine.open(house.stay()), serve);
    assert!(matches!(refused, Err(Refusal::Sandbox { .. })));
    house.is_disowned(session).await;
    let (_again, _shim) = house.open().await;
}

#[tokio::test]
async fn a_session_that_its_person_did_not_wait_for_is_ended_and_forgotten() {
    let house = House::new(1).await;
    let (engine, stay) = (house.engine.clone(), house.stay());
    let waiting = tokio::spawn(async move { engine.open(stay).await.map(drop) });
    let Numbered { id, body } = house.request().await;
    let Request::Open(open) = body else { panic!("not an open") };
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let (_ours, theirs) = pair();
    house.reply(id, opened(), Some(theirs)).await;
    house.is_disowned(open.session).await;
}

#[tokio::test]
async fn a_session_that_was_opened_for_a_gateway_that_is_gone_is_forgotten() {
    let house = House::new(1).await;
    let released = async |session| {
        let event = RunnerEvent::Released { session, summary: None };
        house.say(&FromRunner::Event { event }, None).await;
    };
    let session = SessionId::new();
    released(session).await;
    house.is_disowned(session).await;
    // Of one that was here it is known what is told of it, and nothing is asked.
    let (session, shim) = house.open().await;
    session.connection_gone().await;
    shim.say(&FromShim::Ended(Box::new(shim.summary(EndReason::Closed)))).await;
    house.see_off().await;
    session.over().await;
    released(shim.id).await;
    let (_again, _shim) = house.open().await;
}
