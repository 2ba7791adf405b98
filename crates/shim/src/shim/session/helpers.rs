//! What `init` serves itself: the sandbox's files, connections made from inside, and those that are
//! taken there.
//!
//! What moves is in the audit log and not recorded; a session whose first channel is one of them has
//! a recording all the same, with its beginning and its end. They serve the gateway that asked for
//! them, so they end with its connection, and are killed rather than told: nothing of theirs is lost
//! by that, and a prisoner may have stopped them.

use std::io;
use std::os::fd::AsFd;

use rustix::pipe::PipeFlags;
use rustix::process::Signal;
use sojourn_core::time::Mono;
use sojourn_core::wire::shim::ChannelSpec;
use sojourn_core::wire::shim::Endpoint;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::Program;
use sojourn_term::sidecar::Moved;

use super::Phase;
use super::Session;
use crate::init_link::Helper;
use crate::init_link::StartError;
use crate::seqpacket;
use crate::shim::channel::Channel;
use crate::shim::channel::Ends;
use crate::shim::channel::Input;
use crate::shim::channel::Life;
use crate::shim::program::Kind;

impl Session {
    /// Has `init` serve a channel.
    pub(super) fn begin_helper(&mut self, number: u16, spec: &ChannelSpec) -> io::Result<Channel> {
        let listener = match &spec.program {
            Program::Accept(listener) => self.listeners.iter().find(|known| known.0 == *listener),
            _ => None,
        };
        self.record.channel(number, spec, listener.map(|(_, endpoint)| endpoint));
        let (theirs_in, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (output, theirs_out) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        // Each end has a flag of its own: theirs still waits.
        for ours in [&input, &output] {
            seqpacket::set_nonblocking(ours)?;
        }
        let recorder = match number {
            0 => self.begin_recording(number, spec)?,
            _ => None,
        };
        let mut channel = Channel {
            number,
            kind: Kind::of(&spec.program),
            life: Life::Starting,
            ends: Ends::Pipes { input: Some(input), output: Some(output), errors: None },
            input: Input::default(),
            credit: Some(spec.credit),
            recorder,
            tty: false,
            afterwards: 0,
            hang_up_by: Mono::NEVER,
            moved: Moved::default(),
        };
        let helper = match &spec.program {
            Program::Files => Helper::Files { cwd: &self.assign.account.home },
            Program::Connect(endpoint) => Helper::Connect(endpoint),
            Program::Accept(listener) => Helper::Accept { listener: *listener },
            Program::Shell | Program::Exec(_) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let theirs = [theirs_in.as_fd(), theirs_out.as_fd()];
        if let Err(error) = self.sandbox.link().help(number, &helper, theirs) {
            self.seal(&mut channel);
            return Err(io::Error::other(error.to_string()));
        }
        Ok(channel)
    }

    /// Kills a channel's helper, if it has one.
    pub(super) fn kill_helper(&mut self, number: u16) -> bool {
        let is_it = |channel: &&Channel| channel.number == number && channel.kind != Kind::Program;
        if self.channels.iter().find(is_it).is_none() {
            return false;
        }
        if self.sandbox.link().signal(number, Signal::KILL.as_raw()).is_err() {
            self.lose_sandbox();
        }
        true
    }

    /// Has `init` listen. It answers.
    pub(super) fn listen(&mut self, number: u16, endpoint: Endpoint) {
        if self.phase != Phase::Live {
            return;
        }
        match self.sandbox.link().listen(number, &endpoint) {
            Ok(()) => self.listeners.push((number, endpoint)),
            Err(StartError::Link(_)) => self.lose_sandbox(),
            Err(error) => self.tell(&FromShim::ListenFailed(number, error.to_string())),
        }
    }

    /// Has `init` listen no more.
    pub(super) fn unlisten(&mut self, number: u16) {
        self.listeners.retain(|(known, _)| *known != number);
        if self.phase == Phase::Live && self.sandbox.link().unlisten(number).is_err() {
            self.lose_sandbox();
        }
    }

    /// `init` says how listening came out, which may not be wanted any more.
    pub(super) fn heed_listener(&mut self, number: u16, listens: Result<u16, i32>) {
        let Some(index) = self.listeners.iter().position(|(known, _)| *known == number) else {
            return;
        };
        match listens {
            Ok(port) => self.tell(&FromShim::Listening(number, port)),
            Err(errno) => {
                self.listeners.swap_remove(index);
                let why = io::Error::from_raw_os_error(errno).to_string();
                self.tell(&FromShim::ListenFailed(number, why));
            }
        }
    }

    /// The gateway that all helpers served is gone.
    pub(super) fn orphan_helpers(&mut self) {
        while let Some((number, _)) = self.listeners.last() {
            self.unlisten(*number);
        }
        for channel in self.channels.iter_mut().filter(|channel| channel.kind != Kind::Program) {
            channel.credit = None;
        }
    }

    /// Lets go of helpers that serve nobody.
    pub(super) fn end_orphans(&mut self) {
        let mut index = 0;
        while let Some(channel) = self.channels.get(index) {
            if channel.kind == Kind::Program || channel.credit.is_some() {
                index += 1;
                continue;
            }
            self.kill_helper(channel.number);
            // Its end, when it comes, is nobody's business any more.
            let mut channel = self.channels.remove(index);
            self.seal(&mut channel);
        }
    }
}
