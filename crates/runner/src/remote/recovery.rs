//! What a runner finds when it starts: sessions that an earlier one held when it died. Their programs
//! are gone, or ended now; what was cut off and what nobody can answer any more is told, and then
//! their end.

use std::fs;
use std::sync::Arc;

use sojourn_core::end::EndReason;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Outcome;
use tokio::sync::Notify;

use super::held::Held;
use super::held::Parts;
use super::hub::Hub;
use super::leash::Leash;
use super::outbox::Outbox;
use super::record::Record;
use crate::process;
use crate::process::Left;

/// Takes up every session that something is left of.
pub(super) async fn run(hub: &Arc<Hub>, work: &Arc<Notify>) {
    let _none = fs::create_dir_all(hub.state.agents());
    for session in hub.state.sessions() {
        let directory = hub.state.session(session);
        let Some(record) = Record::load(&directory).filter(|record| record.session == session)
        else {
            tracing::warn!(%session, "what is left of a session cannot be read; it is removed");
            let _stays = fs::remove_dir_all(&directory);
            continue;
        };
        let was_over = record.over;
        if was_over && !directory.join("events").is_dir() {
            continue;
        }
        let opened =
            Outbox::open(&directory, session, 0, hub.options.spool, work.clone()).map(Arc::new);
        let outbox = match opened {
            Ok(outbox) => outbox,
            Err(error) => {
                tracing::error!(%session, %error, "what is left of a session cannot be read");
                continue;
            }
        };
        let clock = hub.options.clock.clone();
        let held = Arc::new(Held::new(Parts {
            record,
            directory,
            outbox,
            leash: Leash::new(clock.clone(), None),
            clock,
            inbox: None,
            keys: None,
        }));
        match was_over {
            true => held.outbox.close_at_head(),
            false => tell(&held).await,
        }
        hub.hold(held);
    }
}

/// Tells of a session that was cut off.
async fn tell(held: &Held) {
    let session = held.session.to_string();
    let left = process::swept(&session).await;
    tracing::warn!(%session, ?left, "a session was cut off by the death of its runner");
    held.outbox.ending();
    let (asks, in_turn) = {
        let record = held.record();
        (record.asks.clone(), record.in_turn)
    };
    for request in asks {
        let _no_room = held.tell(Event::Resolved { request, outcome: Outcome::Lost }).await;
    }
    if in_turn {
        let _no_room = held.tell(Event::TurnCut { why: "runner_died".to_owned() }).await;
    }
    let message = match left {
        Left::Stubborn(processes) => {
            format!("the runner died; {processes} processes could not be ended: look there")
        }
        Left::Nothing | Left::Alive => "the runner died; resume the session".to_owned(),
    };
    held.tell_end(EndReason::RunnerLost, None, Some(message));
}
