//! One channel: its program's start, what it prints, and its end. What the client sends goes through
//! [`crate::intake`], in a task of its own.
//!
//! Output goes through the channel's own writer alone, which waits for the client's window. So a client
//! that does not read holds up its own channel and no other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::Sig;
use russh::server::Handle;
use russh::server::Msg;
use sojourn_core::audit::Action;
use sojourn_core::end::EXIT_ENDED;
use sojourn_core::end::EXIT_REFUSED;
use sojourn_core::end::Exit;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::Stream;
use sojourn_engine::door::ChannelEvent;
use sojourn_engine::door::ChannelRequest;
use sojourn_engine::door::Cut;
use tokio::sync::oneshot;

use crate::connection::Connection;
use crate::connection::TIMEOUT;
use crate::connection::WHY;
use crate::files::EitherInput;
use crate::files::EitherOutput;
use crate::files::Service;
use crate::forward::Asked;
use crate::gate::Gate;
use crate::gate::GateInput;
use crate::gate::GateOutput;
use crate::gate::GateSession;
use crate::intake::Intake;
use crate::intake::LAST_BYTES;
use crate::intake::Over;
use crate::intake::unheard;
use crate::places::Place;
use crate::spool::Spool;
use crate::valve::Hold;

/// How long the last line may take; a client whose window is closed never gets it.
const LAST_LINE: Duration = Duration::from_millis(300);

/// How long the exit status and the close behind it may take.
const LAST_STATUS: Duration = Duration::from_millis(500);

/// How long a session that broke off may take to say why.
const REASON: Duration = Duration::from_millis(500);

/// Standard error's number in SSH.
const STDERR: u32 = 1;

/// A channel on its way to the client.
struct Line<G: Gate> {
    connection: Arc<Connection<G>>,
    write: ChannelWriteHalf<Msg>,
    handle: Handle,
    /// Whether it has a terminal, where everything said goes to one place.
    terminal: bool,
}

/// What is to be started in a channel.
pub(crate) struct Start {
    pub(crate) request: ChannelRequest,
    /// What the door serves itself over it.
    pub(crate) service: Option<Service>,
    /// The X server that its client offers.
    pub(crate) x11: Option<Asked>,
}

/// How a channel ends.
enum Ending {
    /// Its program ended.
    Exited(Exit),
    /// Its session was ended from outside, or somebody else has the channel now.
    Cut(Cut),
    /// Its client takes nothing any more.
    Unheard,
    /// Its client, or what the client sent, ended it.
    Over(Over),
    /// It broke off without a word.
    Lost,
}

/// Serves a channel that was opened; `request` comes when its program is to start.
pub(crate) fn serve<G: Gate>(
    connection: Arc<Connection<G>>,
    channel: russh::Channel<Msg>,
    handle: Handle,
    request: oneshot::Receiver<Start>,
    place: Place,
) {
    let (read, write) = channel.split();
    let (give_input, input) = oneshot::channel();
    let (over, is_over) = oneshot::channel();
    let spool = Spool::new(connection.spools.clone());
    let patience = connection.spools.limits().patience;
    let hold = Hold::new(connection.wire.valve.clone());
    let intake = Intake::new(read, spool, patience, connection.gone.clone(), hold);
    connection.tasks.spawn(intake.run(input, over));
    let tasks = connection.tasks.clone();
    let line = Line { connection, write, handle, terminal: false };
    tasks.spawn(async move {
        line.run(request, give_input, is_over).await;
        drop(place);
    });
}

type Input<G> = EitherInput<<<G as Gate>::Session as GateSession>::Input>;

impl<G: Gate> Line<G> {
    async fn run(
        mut self,
        request: oneshot::Receiver<Start>,
        give_input: oneshot::Sender<Input<G>>,
        mut over: oneshot::Receiver<Over>,
    ) {
        let Start { mut request, service, x11 } = tokio::select! {
            request = request => match request {
                Ok(request) => request,
                // Closed, or the connection is gone.
                Err(_) => return,
            },
            _ = &mut over => return,
        };
        self.terminal = request.pty.is_some();
        let connection = self.connection.clone();
        let shell = request.pty.as_ref().filter(|_| request.program == Program::Shell);
        let shell = shell.map(|pty| pty.size);
        let session = match connection.session(&request.env, shell).await {
            Ok(session) => session,
            Err(denial) => return self.say(&connection.excuse(denial), EXIT_REFUSED).await,
        };
        request.env.retain(|(name, _)| ![TIMEOUT.as_bytes(), WHY.as_bytes()].contains(&&*name.0));
        request.own_env.extend(connection.agent.environment(&connection, session).await);
        if let Some(asked) = x11 {
            let display = connection.displays.environment(&connection, session, asked).await;
            request.own_env.extend(display);
        }
        let started = tokio::select! {
            biased;
            cut = session.cut() => return self.say(&cut.message, cut.status).await,
            started = session.start(request) => started,
        };
        connection.begun.cancel();
        let (input, output) = match started {
            Ok(started) => started,
            Err(refusal) => {
                connection.count_refusal(refusal.code());
                return self.say(&connection.excuse(refusal), EXIT_REFUSED).await;
            }
        };
        let (input, mut output) = match service {
            Some(service) => {
                let (input, output) = service.serve(connection.clone(), session, input, output);
                (EitherInput::Served(input), EitherOutput::Served(output))
            }
            None => (EitherInput::Program(input), EitherOutput::Program(output)),
        };
        if give_input.send(input.clone()).is_err() {
            // The client left before its program ran. A connection that is gone is another thing.
            if !matches!(over.await, Ok(Over::Gone)) {
                input.close().await;
            }
            return;
        }
        let mut ending = tokio::select! {
            biased;
            cut = session.cut() => Ending::Cut(cut),
            over = &mut over => over.map_or(Ending::Lost, Ending::Over),
            ending = self.pass(&mut output) => ending,
        };
        if matches!(ending, Ending::Unheard) {
            // Whether it closed the channel or is gone is known in a moment.
            let heard = unheard(&mut output, &mut over);
            let why = tokio::time::timeout(LAST_BYTES + REASON, heard).await;
            ending = why.map_or(Ending::Lost, |over| over.map_or(Ending::Lost, Ending::Over));
        }
        if matches!(ending, Ending::Lost) {
            // Nobody would hear of a program that still runs.
            input.close().await;
        }
        drop(output);
        self.end(ending, session).await;
    }

    /// Passes on what comes out of the program until that is over.
    async fn pass(&self, output: &mut impl GateOutput) -> Ending {
        while let Some(event) = output.next().await {
            let passed = match event {
                ChannelEvent::Output(Stream::Out, bytes) => self.write.data_bytes(bytes).await,
                ChannelEvent::Output(Stream::Err, bytes) => {
                    self.write.extended_data_bytes(STDERR, bytes).await
                }
                ChannelEvent::Notice(line) => self.tell(&line).await,
                // SSH has one end of output for both streams. It is told with the exit status and not
                // before, since a warning or the session's last line may be due until then.
                ChannelEvent::Eof(_) | ChannelEvent::InputClosed => Ok(()),
                ChannelEvent::TakenOver(cut) => return Ending::Cut(cut),
                ChannelEvent::Exit(exit) => return Ending::Exited(exit),
            };
            if passed.is_err() {
                return Ending::Unheard;
            }
        }
        Ending::Lost
    }

    async fn end(&self, ending: Ending, session: &G::Session) {
        match ending {
            Ending::Exited(exit) => self.finish(exit).await,
            Ending::Cut(cut) => self.say(&cut.message, cut.status).await,
            Ending::Over(Over::Closed | Over::Gone) | Ending::Unheard => {}
            Ending::Over(Over::Stuck { waited }) => {
                let seconds = waited.as_secs();
                let line = format!("Channel closed: its program took no input for {seconds} s");
                self.connection.record(Action::ChannelClosed, &[("code", "input_not_taken")]);
                self.say(&line, EXIT_ENDED).await;
            }
            Ending::Over(Over::Unreadable) => {
                self.connection.record(Action::ChannelClosed, &[("code", "spool")]);
                self.say("Channel closed: its input was lost", EXIT_ENDED).await;
            }
            Ending::Lost => match tokio::time::timeout(REASON, session.cut()).await {
                Ok(cut) => self.say(&cut.message, cut.status).await,
                Err(_) => self.say("Session ended: its sandbox was lost", EXIT_ENDED).await,
            },
        }
    }

    /// A line for the person.
    async fn tell(&self, line: &str) -> Result<(), russh::Error> {
        let bytes = Bytes::from(format!("\r\n{line}\r\n"));
        if self.terminal {
            self.write.data_bytes(bytes).await
        } else {
            self.write.extended_data_bytes(STDERR, bytes).await
        }
    }

    /// The last line and the exit status, in a bounded time.
    async fn say(&self, line: &str, status: u32) {
        let _unread = tokio::time::timeout(LAST_LINE, self.tell(line)).await;
        let finish = self.finish(Exit::Code(status));
        let _stalled = tokio::time::timeout(LAST_STATUS, finish).await;
    }

    /// How the program ended, the end of output, and the end of the channel: in this order, since a
    /// client whose input is over closes the channel as soon as it hears of the end of output, and the
    /// library takes nothing more for a channel that was closed.
    async fn finish(&self, exit: Exit) {
        // These fail when the connection is gone, which ends everything else as well.
        let _gone = match exit {
            Exit::Code(status) => self.write.exit_status(status).await.is_ok(),
            Exit::Signal(name) => {
                let (id, signal) = (self.write.id(), Sig::Custom(name));
                let nothing = String::new;
                let told = self.handle.exit_signal_request(id, signal, false, nothing(), nothing());
                told.await.is_ok()
            }
        };
        let _gone = self.write.eof().await;
        let _gone = self.write.close().await;
    }
}
