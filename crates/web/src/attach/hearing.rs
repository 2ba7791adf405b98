//! What a browser says: typed bytes go to the terminal at once, the rest is done or passed on.

use std::sync::atomic::Ordering;

use axum::extract::ws::Message;
use axum::extract::ws::WebSocket;
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use sojourn_core::authz::Deed;
use sojourn_core::wire::shim::WindowSize;
use tokio::sync::mpsc;

use super::Over;
use super::Shared;
use super::Visit;
use super::frames::Fault;
use super::frames::Said;
use super::frames::Tell;

/// Things that may wait to be done by the half that sends.
pub(super) const WAITING: usize = 16;

/// So much that makes no sense is answered; then it is the end.
const MOST_FAULTS: usize = 32;

/// What the half that sends is to do.
#[derive(Debug)]
pub(super) enum Todo {
    /// Tell them this.
    Tell(Tell),
    /// Take the keyboard.
    TakeOver,
}

impl Visit {
    /// Hears until the browser is gone.
    pub(super) async fn hear(
        &self,
        mut stream: SplitStream<WebSocket>,
        shared: &Shared,
        todo: mpsc::Sender<Todo>,
    ) -> Over {
        let mut faults = 0;
        let _gone = shared.settled.subscribe().wait_for(|settled| *settled).await.map(drop);
        let beat = self.gate.engine().pulse();
        while let Some(Ok(message)) = stream.next().await {
            shared.heard.store(*beat.borrow(), Ordering::Release);
            shared.busy.store(true, Ordering::Release);
            // What was on its way when the login ended has come too late.
            if self.caller.login().is_some_and(|login| login.is_over().is_some()) {
                return std::future::pending().await;
            }
            if super::is_too_long(&message) {
                return Over::TooLong;
            }
            let wrong = match message {
                Message::Binary(bytes) => self.type_in(shared, &bytes).await,
                Message::Text(text) => match Said::read(&text) {
                    Ok(said) => self.heed(shared, said, &todo).await,
                    Err(fault) => Err(fault_told(fault)),
                },
                Message::Close(_) => return Over::Gone,
                // Answered by the library, or an answer to ours.
                Message::Ping(_) | Message::Pong(_) => Ok(()),
            };
            if let Err(tell) = wrong {
                faults += 1;
                if faults > MOST_FAULTS {
                    return Over::Faults;
                }
                let _over = todo.send(Todo::Tell(tell)).await;
            }
            shared.busy.store(false, Ordering::Release);
        }
        Over::Gone
    }

    async fn type_in(&self, shared: &Shared, bytes: &[u8]) -> Result<(), Tell> {
        let Some(input) = shared.typing() else { return Err(not_driving()) };
        self.is_active();
        // A program that takes no more has closed its terminal, which is told otherwise.
        let _closed = input.send(bytes).await;
        Ok(())
    }

    async fn heed(
        &self,
        shared: &Shared,
        said: Said,
        todo: &mpsc::Sender<Todo>,
    ) -> Result<(), Tell> {
        let engine = self.gate.engine();
        match said {
            // A page says this by itself.
            Said::Ping {} => {
                let _over = todo.send(Todo::Tell(Tell::Pong)).await;
                return Ok(());
            }
            // The same.
            Said::Seen { seq } => {
                shared.seen.send_replace(Some(seq));
                return Ok(());
            }
            Said::Resize { cols, rows } => {
                let input = shared.typing().ok_or_else(not_driving)?;
                input.resize(WindowSize { cols, rows, ..WindowSize::default() }).await;
                return Ok(());
            }
            Said::Interrupt {} => {
                // Who has the keyboard could as well type Ctrl-C; who looks on takes it first.
                let may = engine.may_now(self.caller.asker(), Deed::Interrupt, self.id);
                let may = may.is_allowed() || shared.typing().is_some();
                if !may || self.is_reader() {
                    return Err(forbidden("you may not interrupt this session"));
                }
                engine.interrupt(&self.person, self.id, self.channel).await;
            }
            Said::End { reason } => {
                let may = engine.may_now(self.caller.asker(), Deed::End, self.id);
                if !may.is_allowed() || self.is_reader() {
                    return Err(forbidden("you may not end this session"));
                }
                let by = self.caller.ended_by(reason.as_deref());
                engine.end(self.id, by, &self.caller.actor()).await;
            }
            Said::TakeOver {} => {
                let _over = todo.send(Todo::TakeOver).await;
            }
            // Refused where they are read.
            Said::UserMessage {}
            | Said::MessageEdit {}
            | Said::MessageCancel {}
            | Said::PermissionResponse {}
            | Said::QuestionResponse {} => return Err(fault_told(Fault::NoAgent)),
        }
        self.is_active();
        Ok(())
    }

    /// A person did something.
    fn is_active(&self) {
        if let Some(login) = self.caller.login() {
            self.gate.logins().touch(login);
        }
    }
}

fn not_driving() -> Tell {
    forbidden("you look on here; take over first")
}

fn forbidden(message: &str) -> Tell {
    Tell::Error { code: "FORBIDDEN", message: message.to_owned() }
}

fn fault_told(fault: Fault) -> Tell {
    Tell::Error { code: fault.code(), message: fault.to_string() }
}
