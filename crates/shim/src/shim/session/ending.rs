//! How a session ends: programs told, then killed; recordings sealed; the word left behind.

use std::io;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::process::Signal;
use sojourn_core::end::Configured;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::end::warning;
use sojourn_core::lease::Effect;
use sojourn_core::wire::MAX_MESSAGE;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::HEADER;
use sojourn_core::wire::shim::Summary;

use super::KILL_EVERY;
use super::Phase;
use super::Session;
use crate::clock;
use crate::control::OnFailure;
use crate::shim::channel::Channel;
use crate::shim::gateway::Gateway;
use crate::shim::program::Kind;
use crate::shim::remains::Remains;

/// How long the last frame may take on its way to a gateway.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(2);

/// Recordings named in the last frame. The state and the sidecar name all.
const MAX_NAMED: usize = 256;

impl Session {
    /// Ends the session, unless it is ending: the first reason wins. `announce`: the gateway did not
    /// ask for it and has to be told.
    pub(super) fn end(&mut self, reason: EndReason, announce: bool) {
        if self.phase != Phase::Live {
            return;
        }
        match &mut self.lease {
            Some(lease) => {
                lease.end(reason, self.now);
            }
            None => self.reason = Some(reason),
        }
        self.begin_to_end(reason, announce);
    }

    fn begin_to_end(&mut self, reason: EndReason, announce: bool) {
        if announce {
            let (reached, configured) = self.reached(reason).unwrap_or_default();
            self.tell(&FromShim::Expired { reason, reached, configured });
        }
        if let Some(gateway) = &mut self.gateway {
            gateway.forget_output();
            gateway.flush();
        }
        self.phase = Phase::Ending;
        // Programs first, the disk after: a full one must not keep anybody here.
        for signal in [Signal::HUP, Signal::TERM, Signal::CONT] {
            self.sandbox.signal_all(signal);
        }
        let now = self.now;
        let note = self.record.last_note(reason);
        for channel in &mut self.channels {
            // What came before its client closed it is still to be taken.
            if !channel.is_closing() {
                channel.close_input();
            }
            if let Some(recorder) = &mut channel.recorder {
                // It is ending already; a gap here is marked by the recording itself.
                let _recorded = recorder.note(now, &note);
            }
        }
        self.record.ending(reason);
        if self.has_only_init() {
            self.kill();
        }
    }

    /// The sandbox is gone, or does not keep to the rules. That is how the session ended only where
    /// something still ran in it.
    pub(super) fn lose_sandbox(&mut self) {
        let is_idle = self.channels.is_empty() && self.last_exit.is_some();
        let reason = if is_idle { self.own_reason() } else { EndReason::RunnerLost };
        self.end(reason, true);
        self.kill();
    }

    fn kill(&mut self) {
        self.sandbox.kill();
        let init_ended = matches!(self.phase, Phase::Killing { init_ended: true, .. });
        self.phase = Phase::Killing { again_at: self.now.after(KILL_EVERY), init_ended };
    }

    /// Whether nothing is left but process 1. Everything else inside is its child or has an ancestor
    /// that is.
    fn has_only_init(&self) -> bool {
        let pid = self.sandbox.pid().as_raw_pid();
        match std::fs::read(format!("/proc/{pid}/task/{pid}/children")) {
            Ok(children) => children.iter().all(u8::is_ascii_whitespace),
            Err(_) => false,
        }
    }

    /// Does what the lease says is due.
    pub(super) fn keep_lease(&mut self) {
        while let Some(effect) = self.lease.as_mut().and_then(|lease| lease.poll(self.now)) {
            match effect {
                Effect::Warn { limit, left } => self.warn(limit, left),
                Effect::Expire(reason) => self.begin_to_end(reason, true),
                Effect::Kill => self.kill(),
            }
        }
        match self.phase {
            Phase::Live => {}
            Phase::Ending => {
                if self.lease.is_none() || self.has_only_init() {
                    self.kill();
                }
            }
            Phase::Killing { again_at, .. } => {
                if self.now >= again_at {
                    self.kill();
                }
            }
        }
    }

    fn warn(&mut self, limit: Limit, left: Duration) {
        self.tell(&FromShim::Warned { limit, left });
        self.record.warned();
        let mut recorded = Ok(());
        for recorder in self.channels.iter_mut().filter_map(|channel| channel.recorder.as_mut()) {
            recorded = recorded.and(recorder.note(self.now, &warning(left)));
        }
        self.heed_recording(recorded);
    }

    /// What was reached and what it was set to, in seconds or bytes, where a limit ended it.
    fn reached(&self, reason: EndReason) -> Option<(u64, u64)> {
        let (limit, lease) = (Limit::of(reason)?, self.lease.as_ref()?);
        let reached = match limit {
            Limit::MaxRuntime => self.now.since(lease.started()).as_secs(),
            Limit::IdleTimeout => self.now.since(lease.last_activity()).as_secs(),
            Limit::MaxOutput => lease.output(),
            Limit::MaxCost => lease.cost(),
        };
        match lease.configured(limit)? {
            Configured::Time(time) => Some((reached, time.as_secs())),
            Configured::Bytes(size) => Some((reached, size.0)),
            Configured::Cost(micros) => Some((reached, micros)),
        }
    }

    /// Why it is ending, if it is.
    pub(super) fn reason(&self) -> Option<EndReason> {
        self.lease.as_ref().and_then(|lease| lease.reason()).or(self.reason)
    }

    /// The reason of a session that nothing ended but its programs.
    pub(in crate::shim) fn own_reason(&self) -> EndReason {
        match &self.last_exit {
            Some(Exit::Code(_)) => EndReason::Exited,
            Some(Exit::Signal(_)) => EndReason::Signalled,
            None => EndReason::Closed,
        }
    }

    /// A recording that cannot be written ends the session, if the policy says so, and its grace if it
    /// is ending; else the recording marks the gap.
    pub(super) fn heed_recording(&mut self, recorded: io::Result<()>) {
        if recorded.is_ok() || self.assign.recording.on_failure == OnFailure::Continue {
            return;
        }
        match self.phase {
            Phase::Live => self.end(EndReason::Failed, true),
            Phase::Ending => self.kill(),
            Phase::Killing { .. } => {}
        }
    }

    /// Ends a channel's recording, or notes what went through one that has none.
    pub(super) fn seal(&mut self, channel: &mut Channel) {
        if channel.kind != Kind::Program {
            self.record.moved(channel.number, channel.moved);
        }
        if let Some(recorder) = channel.recorder.take() {
            let (facts, sealed) = recorder.seal(self.now);
            self.record.sealed(facts);
            self.heed_recording(sealed);
        }
    }

    /// Syncs what is due, and writes the state anew where it is out of date.
    pub(super) fn keep_files(&mut self) {
        let mut synced = Ok(());
        for recorder in self.channels.iter_mut().filter_map(|channel| channel.recorder.as_mut()) {
            synced = synced.and(recorder.sync_if_due(self.now));
        }
        self.record.sync_if_due(self.now);
        self.heed_recording(synced);
    }

    /// Completes the recordings of a session whose every process is gone.
    pub(in crate::shim) fn seal_all(&mut self) {
        self.now = clock::mono();
        self.read_the_rest();
        for mut channel in std::mem::take(&mut self.channels) {
            self.seal(&mut channel);
        }
    }

    /// Leaves its word, and tells the gateway. `own`: the reason where nothing had ended it before.
    pub(in crate::shim) fn leave_word(&mut self, own: EndReason) {
        let early = self.reason.unwrap_or(own);
        let reason = self.lease.as_mut().map_or(early, |lease| lease.emptied(own));
        let output_bytes = self.lease.as_ref().map_or(0, |lease| lease.output());
        let reached = self.reached(reason).map(|(reached, _)| reached);
        let summary = self.record.over(reason, output_bytes, reached);
        let mut buf = self.take_buffer();
        if let Some(gateway) = &mut self.gateway {
            gateway.stop_hearing(&mut buf);
            tell_ended(gateway, summary);
        }
        self.record.settle();
    }

    /// What the shim stays for when the session is over; none where nobody would come for it.
    pub(in crate::shim) fn take_remains(&mut self) -> Option<Remains> {
        let layers = self.sandbox.take_layers()?;
        let comeback = self.comeback.take()?;
        let signals = rustix::io::fcntl_dupfd_cloexec(&self.signals, 3).ok()?;
        Some(Remains { layers, comeback, signals, control: self.control.take() })
    }

    /// Lets go of the sandbox's control groups.
    pub(in crate::shim) fn release(self) -> io::Result<()> {
        self.sandbox.release()
    }

    /// Kills everything at once, after a mistake of ours.
    pub(in crate::shim) fn abandon(&mut self) {
        self.kill();
        let patience = clock::mono().after(LAST_WORD_WITHIN);
        while !self.sandbox.is_empty() && clock::mono() < patience {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Sends the last frame, waiting for a slow gateway, but not for long.
fn tell_ended(gateway: &mut Gateway, mut summary: Summary) {
    let mut frame = Vec::new();
    FromShim::Ended(Box::new(summary.clone())).encode(&mut frame);
    if frame.len() > MAX_MESSAGE - HEADER {
        summary.recordings.truncate(MAX_NAMED);
    }
    gateway.tell(&FromShim::Ended(Box::new(summary)));
    gateway.flush();
    let until = clock::mono().after(LAST_WORD_WITHIN);
    while !gateway.is_clear() && !gateway.is_lost() {
        let left = until.since(clock::mono());
        let Ok(timeout) = rustix::event::Timespec::try_from(left) else { return };
        let mut fds = [PollFd::new(&*gateway, PollFlags::OUT)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(_) => return,
            Ok(_) => gateway.flush(),
        }
    }
}
