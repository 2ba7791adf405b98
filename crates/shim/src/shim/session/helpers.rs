//! Channels that `init` serves itself: the sandbox's files.
//!
//! They leave no recording: what moves is in the audit log. They serve the gateway that asked for
//! them, so they end with its connection, and are killed rather than told: nothing of theirs is lost
//! by that, and a prisoner may have stopped them.

use std::io;
use std::os::fd::AsFd;

use rustix::pipe::PipeFlags;
use rustix::process::Signal;
use sojourn_core::wire::shim::ChannelSpec;
use sojourn_core::wire::shim::Program;
use sojourn_term::sidecar::Moved;

use super::Session;
use crate::init_link::Helper;
use crate::seqpacket;
use crate::shim::channel::Channel;
use crate::shim::channel::Ends;
use crate::shim::channel::Input;
use crate::shim::channel::Life;
use crate::shim::program::Kind;

impl Session {
    /// Has `init` serve a channel.
    pub(super) fn begin_helper(&mut self, number: u16, spec: &ChannelSpec) -> io::Result<Channel> {
        self.record.channel(number, spec, None);
        let helper = match &spec.program {
            Program::Files => Helper::Files { cwd: &self.assign.account.home },
            _ => return Err(io::Error::other("not possible yet")),
        };
        let (theirs_in, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (output, theirs_out) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        // Each end has a flag of its own: theirs still waits.
        for ours in [&input, &output] {
            seqpacket::set_nonblocking(ours)?;
        }
        let asked =
            self.sandbox.link().help(number, &helper, [theirs_in.as_fd(), theirs_out.as_fd()]);
        asked.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Channel {
            number,
            kind: Kind::of(&spec.program),
            life: Life::Starting,
            ends: Ends::Pipes { input: Some(input), output: Some(output), errors: None },
            input: Input::default(),
            credit: Some(spec.credit),
            recorder: None,
            tty: false,
            afterwards: 0,
            moved: Moved::default(),
        })
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

    /// The gateway that all helpers served is gone.
    pub(super) fn orphan_helpers(&mut self) {
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
