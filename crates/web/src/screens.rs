//! `GET /api/screens`: a WebSocket to the screens of many terminals at the same time, small and as text.
//!
//! A browser says which it shows; it is sent each when it has changed, once a second at most. To see a
//! screen is to look on at its session: who may not is not shown it, and another's is on record.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::CloseFrame;
use axum::extract::ws::Message;
use axum::extract::ws::WebSocket;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use serde::Deserialize;
use serde::Serialize;
use sojourn_core::ids::SessionId;
use sojourn_core::scope::Scope;
use sojourn_engine::presence::Seat;
use sojourn_engine::visiting::Person;
use sojourn_engine::watching::Thumbnail;
use sojourn_engine::watching::Watching;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;

use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// The most screens that one browser is shown: what fits on a large one.
const MOST: usize = 24;

/// How often it is looked whether one has changed.
const EVERY: Duration = Duration::from_secs(1);

/// The longest message of a browser: [`MOST`] ids and what is around them.
const LONGEST: usize = 4 << 10;

/// How long a browser may take for one message, and say nothing at all.
const PATIENCE: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(60);

/// Looks between two pings.
const PING_EVERY: u32 = 20;

/// Close codes, as of the sockets of sessions.
const GOING_DOWN: u16 = 1001;
const NOT_ALLOWED: u16 = 4403;
const LOGIN_ENDED: u16 = 4401;
const TOO_SLOW: u16 = 4429;

/// The routes of this file.
pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get(
        "/api/screens",
        Access::Scope(Scope::Read),
        Activity::Passive,
        screens,
        Doc::of("watchScreens", "A WebSocket to the screens of many terminals, small and as text.")
            .gives_nothing(101, "The connection is a WebSocket from now on.")
            .refuses(&[Code::Malformed]),
    )]
}

/// What a browser says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Said {
    /// It shows these sessions from now on, and no others.
    Look { sessions: Vec<SessionId> },
}

/// What a browser is told.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Tell {
    /// A session's screen.
    Screen {
        session: SessionId,
        #[serde(flatten)]
        screen: Shown,
    },
    /// A session has none to be seen.
    Dark { session: SessionId },
    /// The login has ended.
    LoginEnded { reason: &'static str },
}

/// A screen.
#[derive(Debug, Serialize)]
struct Shown {
    cols: u16,
    rows: u16,
    lines: Vec<Vec<sojourn_engine::watching::Run>>,
}

/// Somebody who looks at many.
struct Visit {
    gate: Gate,
    caller: Caller,
    person: Person,
    looking: BTreeMap<SessionId, Look>,
}

/// At one of them.
enum Look {
    /// Nothing is to be seen, and they were told.
    Dark,
    /// This was seen last.
    At { watching: Watching, last: Option<Arc<Thumbnail>>, _seat: Seat },
}

async fn screens(
    State(gate): State<Gate>,
    caller: Caller,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refused> {
    let upgrade = upgrade
        .map_err(|_| Refused::Malformed("this is a WebSocket: ask for an upgrade".to_owned()))?;
    let person = caller.person();
    let visit = Visit { gate, caller, person, looking: BTreeMap::new() };
    let upgrade = upgrade.read_buffer_size(LONGEST).max_frame_size(LONGEST);
    Ok(upgrade.max_message_size(LONGEST).on_upgrade(|socket| visit.run(socket)))
}

impl Visit {
    async fn run(mut self, mut socket: WebSocket) {
        let _counted = self.gate.engine().metrics().web_socket();
        let code = self.show(&mut socket).await;
        if let Some(code) = code {
            let close = Message::Close(Some(CloseFrame { code, reason: "".into() }));
            let _late = tokio::time::timeout(PATIENCE, socket.send(close)).await;
        }
    }

    /// Shows until the browser is gone, or may not look any more; then with which code it is closed.
    async fn show(&mut self, socket: &mut WebSocket) -> Option<u16> {
        let (gate, caller) = (self.gate.clone(), self.caller.clone());
        let mut ended = Box::pin(gate.ended(&caller));
        let mut looks = tokio::time::interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut beat) = (Instant::now(), 0_u32);
        loop {
            let told = tokio::select! {
                biased;
                why = &mut ended => {
                    let _gone = send(socket, &Tell::LoginEnded { reason: why.name() }).await;
                    return Some(LOGIN_ENDED);
                }
                () = gate.engine().shutdown().cancelled() => return Some(GOING_DOWN),
                message = socket.recv() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                            Ok(Said::Look { sessions }) if sessions.len() <= MOST => {
                                self.turn_to(sessions).await
                            }
                            _ => return Some(NOT_ALLOWED),
                        },
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Vec::new(),
                        Some(Ok(Message::Binary(_))) => return Some(NOT_ALLOWED),
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    }
                }
                _ = looks.tick() => {
                    beat += 1;
                    if heard.elapsed() > SILENCE {
                        return None;
                    }
                    if beat.is_multiple_of(PING_EVERY) {
                        socket.send(Message::Ping(Vec::new().into())).await.ok()?;
                    }
                    self.look().await
                }
            };
            for tell in told {
                match tokio::time::timeout(PATIENCE, send(socket, &tell)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return None,
                    Err(_) => return Some(TOO_SLOW),
                }
            }
        }
    }

    /// They look at these from now on.
    async fn turn_to(&mut self, sessions: Vec<SessionId>) -> Vec<Tell> {
        let wanted: BTreeSet<SessionId> = sessions.into_iter().collect();
        self.looking.retain(|id, _| wanted.contains(id));
        let mut told = Vec::new();
        for session in wanted {
            if self.looking.contains_key(&session) {
                continue;
            }
            let engine = self.gate.engine();
            let look = match engine.look_on(&self.person, session, None).await {
                Ok(watching) => {
                    let seat = engine.presence().enter(session, self.person.who.name(), false);
                    Look::At { watching, last: None, _seat: seat }
                }
                Err(_) => {
                    told.push(Tell::Dark { session });
                    Look::Dark
                }
            };
            self.looking.insert(session, look);
        }
        told.extend(self.look().await);
        told
    }

    /// What has changed since they looked last.
    async fn look(&mut self) -> Vec<Tell> {
        let mut told = Vec::new();
        for (session, look) in &mut self.looking {
            let Look::At { watching, last, .. } = look else { continue };
            let session = *session;
            match watching.thumbnail().await {
                Ok(now) if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &now)) => {
                    let (cols, rows, lines) = (now.cols, now.rows, now.lines.clone());
                    told.push(Tell::Screen { session, screen: Shown { cols, rows, lines } });
                    *last = Some(now);
                }
                Ok(_) => {}
                Err(_) if watching.session().goes_on() => {}
                Err(_) => {
                    told.push(Tell::Dark { session });
                    *look = Look::Dark;
                }
            }
        }
        told
    }
}

async fn send(socket: &mut WebSocket, tell: &Tell) -> Result<(), axum::Error> {
    // None of these has anything that JSON cannot say.
    socket.send(Message::Text(serde_json::to_string(tell).unwrap_or_default().into())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_and_told_has_these_shapes() {
        let id = "01932b5e-7c1a-7f00-8000-00003f2a91c0";
        let look = serde_json::json!({"type": "look", "sessions": [id]}).to_string();
        assert!(
            matches!(serde_json::from_str(&look), Ok(Said::Look { sessions }) if sessions.len() == 1)
        );
        for wrong in ["{}", "[]", r#"{"type":"look"}"#, r#"{"type":"look","sessions":["x"]}"#] {
            assert!(serde_json::from_str::<Said>(wrong).is_err(), "{wrong}");
        }
        let screen = Shown { cols: 80, rows: 24, lines: vec![Vec::new()] };
        let told = Tell::Screen { session: id.parse().unwrap(), screen };
        assert_eq!(
            serde_json::to_value(told).unwrap(),
            serde_json::json!({"type": "screen", "session": id, "cols": 80, "rows": 24,
                "lines": [[]]})
        );
    }
}
