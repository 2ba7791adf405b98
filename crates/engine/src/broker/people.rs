//! People come, leave and come back: what the session's task does about it.

use std::sync::Arc;

use sojourn_core::end::EXIT_ENDED;
use sojourn_core::end::EndReason;
use sojourn_core::time::Mono;
use sojourn_core::wire::shim::Attached;
use sojourn_core::wire::shim::EndRequest;
use sojourn_core::wire::shim::OUTPUT_WINDOW;
use sojourn_core::wire::shim::ShimHello;
use sojourn_core::wire::shim::ToShim;

use super::Broker;
use crate::clock;
use crate::clock::Clock;
use crate::door::ChannelEvent;
use crate::door::Cut;
use crate::door::Door;
use crate::door::Refusal;
use crate::roster::Answer;
use crate::roster::Holder;
use crate::roster::Left;
use crate::roster::Reader;
use crate::session::Command;
use crate::watching::Stays;

impl Broker {
    pub(super) async fn heed(&mut self, command: Command) {
        match command {
            Command::Start { number, terminal, reader } => {
                self.onlookers.begin(number);
                self.roster.seat(number, terminal, reader);
            }
            Command::Enter(guest, answer) => {
                // One that ends has no room; an answer that is dropped says so.
                if !self.is_ending() {
                    let holder = self.roster.enter(guest);
                    if answer.send(holder).is_err() {
                        return self.leave(holder, Stays::ForGrace).await;
                    }
                    self.ends_at = None;
                    self.progress.send_modify(|p| p.attached = true);
                }
            }
            Command::Leave(holder, stays) => self.leave(holder, stays).await,
            Command::Attach(reader, wanted) => self.attach(reader, wanted).await,
            Command::Watch { number, answer } => self.look_on(number, answer).await,
            Command::Terminal { number, answer } => {
                let _gone = answer.send(self.roster.terminal(number));
            }
            Command::Unwatched => self.take_nothing_in_vain().await,
            Command::Locate { number, answer } => self.locate(number, answer).await,
            Command::Resized(number, size) => self.onlookers.resized(number, size),
            Command::Notice(line) => self.notice(&line),
        }
    }

    /// What there was before this gateway waits for its people from now on.
    pub(super) async fn found(&mut self, hello: &ShimHello) {
        for number in &hello.channels {
            let terminal = hello.terminals.contains(number) && self.may_return();
            self.roster.found(*number, terminal);
            if !terminal {
                self.send(&ToShim::Close(*number)).await;
            }
        }
        if !self.roster.is_held() && hello.lease.is_some() && hello.ending.is_none() {
            if self.roster.detached() > 0 {
                let (id, terminals) = (self.shared.id, self.roster.detached());
                self.inner.records.detached(id, None, terminals, self.shared.detach_grace);
            }
            // At the web door people come and go, and its gateway's end was no wish of theirs.
            let stays = match self.shared.door {
                Door::Ssh => Stays::ForGrace,
                Door::Web => Stays::ForLease,
            };
            self.wait_or_end(stays).await;
        }
    }

    /// A connection is gone.
    async fn leave(&mut self, holder: Holder, stays: Stays) {
        let Some(leaving) = self.roster.leave(holder, self.may_return()) else { return };
        for left in &leaving.channels {
            left.reader.hand.take_away().await;
        }
        let is_over = !self.roster.is_held() && self.roster.detached() == 0;
        let mut terminals = 0;
        // Where the whole session ends, one word tells its programs. A second one might kill what has
        // not done yet what it was told to do at the first.
        for left in leaving.channels.iter().filter(|left| !is_over && !left.reader.has_closed()) {
            terminals += usize::from(left.terminal);
            self.let_go(left).await;
        }
        self.show_drivers();
        if terminals > 0 && !self.is_ending() && stays != Stays::NotYet {
            let (id, grace) = (self.shared.id, self.shared.detach_grace);
            self.inner.records.detached(id, Some(leaving.guest), terminals, grace);
        }
        if !self.roster.is_held() {
            self.wait_or_end(stays).await;
        }
    }

    /// Says of a channel that somebody left what becomes of it.
    pub(super) async fn let_go(&mut self, left: &Left) {
        match (left.terminal, left.reader.has_closed()) {
            (true, false) => self.take_terminal(left.number).await,
            (true, true) => self.send(&ToShim::Detach(left.number)).await,
            (false, _) => self.send(&ToShim::Close(left.number)).await,
        }
    }

    /// Nobody holds the session: its terminals wait, or it ends.
    pub(super) async fn wait_or_end(&mut self, stays: Stays) {
        self.progress.send_modify(|p| p.attached = false);
        if self.roster.detached() > 0 {
            let until = self.inner.clock.mono().after(self.shared.detach_grace);
            self.ends_at = (stays == Stays::ForGrace).then_some(until);
            return;
        }
        let started = self.shared.has_started();
        let (running, signalled) = (self.roster.running(), self.progress.borrow().signalled);
        let reason = match (running, started) {
            (0, true) if signalled => EndReason::Signalled,
            (0, true) => EndReason::Exited,
            _ => EndReason::Closed,
        };
        self.end(reason).await;
    }

    /// A session that nobody holds ends with the last of its terminals: nobody else will end it.
    pub(super) async fn end_if_deserted(&mut self) {
        if !self.roster.is_held() && self.roster.detached() == 0 {
            self.wait_or_end(Stays::ForGrace).await;
        }
    }

    /// Nobody came back.
    pub(super) async fn give_up(&mut self) {
        self.ends_at = None;
        tracing::info!(
            session = %self.shared.id, event = "detach_grace_over", "nobody came back in time"
        );
        self.end(EndReason::Closed).await;
    }

    async fn end(&mut self, reason: EndReason) {
        if !self.is_ending() {
            self.closing = true;
            self.ends_at = None;
            self.progress.send_modify(|p| p.ending = Some(reason));
            self.send(&ToShim::End(EndRequest { reason })).await;
        }
    }

    /// A terminal for somebody who has come back.
    async fn attach(&mut self, reader: Reader, wanted: Option<u16>) {
        let Some(guest) = self.roster.guest(reader.holder).cloned() else { return };
        let chosen = match wanted {
            Some(_) => self.roster.terminal(wanted),
            None => self.roster.choose(reader.holder),
        };
        let Some(number) = chosen else {
            if let Answer::Attached(answer) = reader.answer {
                let _gone = answer.send(Ok(None));
            }
            return;
        };
        if let Some(old) = self.roster.attach(number, reader) {
            old.hand.take_away().await;
            let line = format!("Session taken over by {} from {}", guest.name, guest.address);
            let from = self.roster.guest(old.holder).map(|guest| guest.address);
            self.inner.records.taken_over(self.shared.id, &guest, number, from);
            match old.answer {
                Answer::Attached(answer) => {
                    let _gone = answer.send(Err(Refusal::TakenOver(line)));
                }
                _ => {
                    let cut = Cut { message: line, status: EXIT_ENDED };
                    // Where there is no room, that nothing follows says it.
                    let _full = old.events.try_send(ChannelEvent::TakenOver(cut));
                }
            }
        }
        self.onlookers.give_up(number);
        self.show_drivers();
        self.send(&ToShim::Attach(number, OUTPUT_WINDOW)).await;
    }

    /// The shim says where the terminal stands, or that there is none.
    pub(super) async fn attached(&mut self, number: u16, attached: Option<Attached>) {
        if let Some(place) = &attached {
            self.onlookers.resume(number, place);
        }
        if let Some(number) = self.roster.attached(number, attached) {
            self.take_terminal(number).await;
            self.show_drivers();
        }
    }

    /// A line for everybody there.
    pub(super) fn notice(&self, line: &str) {
        for reader in self.roster.readers() {
            let _full = reader.events.try_send(ChannelEvent::Notice(line.to_owned()));
        }
    }

    pub(super) fn may_return(&self) -> bool {
        // What is started at the web door goes on before anybody looks at it, and after their login.
        !self.shared.detach_grace.is_zero() || self.shared.door == Door::Web
    }

    pub(super) fn is_ending(&self) -> bool {
        self.closing || self.progress.borrow().ending.is_some()
    }

    /// Tells the shim something. It reads whatever we do, so this takes no longer than it does.
    pub(super) async fn send(&self, frame: &ToShim<'_>) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        // A broken link is seen where frames are read.
        let _broken = self.shared.link.send(&bytes).await;
    }
}

/// Resolves when nobody has come back by then.
pub(super) async fn nobody_back(clock: Arc<dyn Clock>, by: Option<Mono>) {
    let Some(by) = by else { return std::future::pending().await };
    clock::until(clock.as_ref(), by).await;
}
