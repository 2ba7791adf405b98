//! `sojourn session attach`: a session's terminal in this one, across cut connections; `talk` is the
//! same for an agent's conversation.
//!
//! ```text
//!   keyboard ──thread──▶ keys ─┐
//!   SIGWINCH ──────────────────┼──▶ one loop ◀──▶ WebSocket
//!   time ──────────────────────┘        └──▶ screen
//! ```

mod keyboard;
mod screen;
mod talk;

use std::io;
use std::io::IsTerminal;
use std::time::Duration;

use serde_json::Value as Json;
use serde_json::json;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_engine::records::SHELL;
use sojourn_engine::view::SessionView;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::time::Instant;

use super::session;
use crate::cli::Attach;
use crate::cli::Common;
use crate::client::Client;
use crate::client::Frame;
use crate::client::Socket;
use crate::client::Target;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::failure::complain;
use crate::output;
use crate::terminal::Raw;
use keyboard::Key;
use keyboard::Keyboard;
use screen::Screen;

/// The first pause before a cut connection is made anew, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// How long it is tried where nobody is there who could give up.
const ALONE: Duration = Duration::from_secs(300);

/// How often it is asked whether the gateway is there, and how long it may be silent.
const PING: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(45);

/// Whoever has no terminal and nothing more to type goes when nothing has come for so long: the first
/// is for what is there already, which comes as soon as the gateway has it.
const FIRST: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_secs(1);

/// An exit status of a program that a signal ended is this and the signal's number.
const SIGNALLED: u32 = 128;

/// Codes with which the gateway closes.
const LOGIN_ENDED: u16 = 4401;
const NOT_ALLOWED: u16 = 4403;

pub(super) fn run(common: &Common, options: &Attach) -> Outcome {
    let client = session::client(common)?;
    let view: SessionView = client.get(&session::path(&options.id.id)?)?;
    attach(client, &view, Wish { watch: options.watch, raw: options.raw, take: options.take_over })
}

/// What somebody wants of a terminal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// Only look.
    pub(super) watch: bool,
    /// With everything that acts on this terminal.
    pub(super) raw: bool,
    /// Take the keyboard from whoever has it.
    pub(super) take: bool,
}

/// Attaches to a session until it is over or left. Its exit status becomes this command's.
pub(super) fn attach(client: Client, session: &SessionView, wish: Wish) -> Outcome {
    if session.status.is_over() {
        return over(session.end_reason, session.exit.as_ref());
    }
    if session.harness != SHELL {
        return talk::attach(client, session, wish);
    }
    let is_terminal = io::stdin().is_terminal();
    if is_terminal && !wish.raw && wish.watch {
        complain("watching: Ctrl-] leaves; what is typed goes nowhere");
    } else if is_terminal {
        let short = session.id.short();
        complain(format_args!("attached to {short}: Ctrl-] leaves it running"));
    }
    let raw = if is_terminal { Raw::take() } else { None };
    let path = format!("/api/sessions/{}", session.id);
    let left = client.run(async |target| {
        let mut visit = Visit {
            target,
            path,
            wish,
            keyboard: Keyboard::start(),
            screen: Screen::new(wish.watch && !wish.raw),
            resized: signal(SignalKind::window_change())?,
            told_to_go: signal(SignalKind::terminate())?,
            hung_up: signal(SignalKind::hangup())?,
            drives: false,
            drove: false,
            owes_size: false,
            hinted: false,
            is_terminal,
            typed: false,
            input_ended: false,
        };
        let left = visit.stay().await;
        visit.screen.restore();
        left
    });
    drop(raw);
    match left? {
        Left::Over(reason, exit) => over(reason, exit.as_ref()),
        Left::Detached => {
            complain(format_args!(
                "left; come back with \"sojourn session attach {}\"",
                session.id.short()
            ));
            Ok(())
        }
    }
}

/// Whether something of the session is in it.
fn shows(frame: &Frame) -> bool {
    match frame {
        Frame::Output(..) => true,
        Frame::Text(message) => message["type"] == "snapshot",
        Frame::Closed(_) | Frame::Alive => false,
    }
}

/// Why a session ends soon, and what helps.
fn why_soon(limit: Option<&str>, drives: bool) -> &'static str {
    match (limit, drives) {
        (Some("idle_timeout"), true) => ": nothing happens in it; press a key to go on",
        (Some("idle_timeout"), false) => ": nothing happens in it",
        (Some("max_runtime"), _) => ": its time is over; \"sojourn session extend\" gives it more",
        _ => "",
    }
}

/// How a visit ends.
enum Left {
    /// The session is over.
    Over(Option<EndReason>, Option<Exit>),
    /// It goes on.
    Detached,
}

/// How one connection ends.
enum Cut {
    Left(Left),
    /// It broke, and is to be made anew.
    Broken,
}

struct Visit<'a> {
    target: &'a Target,
    path: String,
    wish: Wish,
    keyboard: Keyboard,
    screen: Screen,
    resized: Signal,
    told_to_go: Signal,
    hung_up: Signal,
    /// Whether what is typed here goes to the session.
    drives: bool,
    /// Whether the gateway has said so on this connection.
    drove: bool,
    /// The gateway is to hear how large the terminal is.
    owes_size: bool,
    /// Whoever types has been told that it goes nowhere.
    hinted: bool,
    is_terminal: bool,
    /// Whether anything was typed here: then it is waited for what comes of it.
    typed: bool,
    /// Whether standard input has ended, and is no terminal.
    input_ended: bool,
}

impl Visit<'_> {
    /// Until the session is over, or left; a connection that breaks is made anew.
    async fn stay(&mut self) -> Result<Left, Failure> {
        let mut pause = PAUSES.0;
        let mut broken_since = None;
        loop {
            match Socket::open(self.target, &self.address()).await {
                Ok(socket) => {
                    if broken_since.take().is_some() {
                        self.screen.say("connected again");
                    }
                    pause = PAUSES.0;
                    if let Cut::Left(left) = self.visit(socket).await? {
                        return Ok(left);
                    }
                }
                Err(Failure::Unreachable(_)) if broken_since.is_some() => {}
                // The session is over, or it is not ours to see any more: the view tells which.
                Err(failure) if broken_since.is_some() => return self.what_became(failure).await,
                Err(failure) => return Err(failure),
            }
            let since = *broken_since.get_or_insert_with(|| {
                self.screen.say("connection lost; trying again (Ctrl-] leaves)");
                Instant::now()
            });
            if !self.is_terminal && since.elapsed() > ALONE {
                let line = self.target.line("the connection broke and cannot be made anew");
                return Err(Failure::Unreachable(line));
            }
            if self.wait(pause).await {
                return Ok(Left::Detached);
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn address(&self) -> String {
        let mut address = format!("{}/attach", self.path);
        let mut sign = '?';
        let mut add = |part: String| {
            address.push(sign);
            address.push_str(&part);
            sign = '&';
        };
        if self.wish.watch {
            add("mode=watch".to_owned());
        }
        if let Some(seq) = self.screen.next_wanted() {
            add(format!("from={seq}"));
        }
        address
    }

    /// A pause, spread so that many do not come at once. True when its person leaves meanwhile.
    async fn wait(&mut self, pause: Duration) -> bool {
        let spread = sojourn_core::ids::EventId::new().to_string().bytes().last().unwrap_or(b'0');
        let end = Instant::now() + pause + pause.mul_f64(f64::from(spread % 16) / 32.0);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return false,
                key = self.keyboard.next() => match key {
                    Key::Leave => return true,
                    Key::Ended if self.goes_at_the_end() => return true,
                    // Nobody could say what became of it.
                    Key::Typed(_) | Key::Ended => {}
                },
                _ = self.told_to_go.recv() => return true,
                _ = self.hung_up.recv() => return true,
            }
        }
    }

    /// One connection.
    async fn visit(&mut self, mut socket: Socket) -> Result<Cut, Failure> {
        (self.drives, self.drove) = (!self.wish.watch, false);
        let mut ended = None;
        let mut heard = Instant::now();
        let mut ping = tokio::time::interval_at(heard + PING, PING);
        if self.wish.take && !socket.say(&json!({"type": "take_over"})).await {
            return Ok(Cut::Broken);
        }
        let mut printed = heard;
        loop {
            let patience = if self.screen.next_wanted().is_some() { QUIET } else { FIRST };
            let alive = tokio::select! {
                frame = socket.next() => {
                    heard = Instant::now();
                    if shows(&frame) {
                        printed = heard;
                    }
                    match frame {
                        Frame::Output(seq, bytes) => { self.screen.output(seq, &bytes)?; true }
                        Frame::Text(message) => {
                            self.heed(&message, &mut ended)?;
                            let owed = std::mem::take(&mut self.owes_size);
                            !owed || self.resize(&mut socket).await
                        }
                        Frame::Alive => true,
                        Frame::Closed(code) => return self.closed(code, ended).await,
                    }
                }
                key = self.keyboard.next() => match key {
                    Key::Leave => {
                        socket.close().await;
                        return Ok(Cut::Left(Left::Detached));
                    }
                    Key::Typed(bytes) if self.drives => {
                        self.typed = true;
                        socket.input(bytes).await
                    }
                    Key::Typed(_) => {
                        if !self.wish.watch && !std::mem::replace(&mut self.hinted, true) {
                            self.screen.say("you look on here; what you type goes nowhere (see --take-over)");
                        }
                        true
                    }
                    Key::Ended => {
                        self.input_ended = self.goes_at_the_end();
                        if self.typed && !self.is_terminal {
                            self.screen.say("input has ended; this goes on until the session does (Ctrl-C leaves)");
                        }
                        printed = Instant::now();
                        true
                    }
                },
                () = tokio::time::sleep_until(printed + patience), if self.input_ended => {
                    socket.close().await;
                    return Ok(Cut::Left(Left::Detached));
                }
                _ = self.resized.recv() => self.resize(&mut socket).await,
                _ = self.told_to_go.recv() => return Ok(Cut::Left(Left::Detached)),
                _ = self.hung_up.recv() => return Ok(Cut::Left(Left::Detached)),
                _ = ping.tick() => {
                    heard.elapsed() < SILENCE && socket.say(&json!({"type": "ping"})).await
                }
            };
            if !alive {
                return Ok(Cut::Broken);
            }
        }
    }

    /// Whether the end of standard input is the end of the visit: a person at a terminal has Ctrl-] for
    /// that, whoever watches types nothing, and what was typed has an end that is waited for.
    fn goes_at_the_end(&self) -> bool {
        !self.is_terminal && !self.wish.watch && !self.typed
    }

    /// Says how large the terminal is; false when the connection is broken.
    async fn resize(&self, socket: &mut Socket) -> bool {
        let size = rustix::termios::tcgetwinsize(io::stdin());
        match size.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0) {
            Some(size) if self.drives => {
                let (cols, rows) = (size.ws_col.min(1000), size.ws_row.min(1000));
                socket.say(&json!({"type": "resize", "cols": cols, "rows": rows})).await
            }
            _ => true,
        }
    }

    /// Takes a message.
    fn heed(
        &mut self,
        message: &Json,
        ended: &mut Option<(Option<EndReason>, Option<Exit>)>,
    ) -> Result<(), Failure> {
        let text = |name: &str| output::foreign(message[name].as_str().unwrap_or_default());
        match message["type"].as_str().unwrap_or_default() {
            "snapshot" => {
                let seq = message["seq"].as_u64().unwrap_or_default();
                self.screen.snapshot(seq, message["data"].as_str().unwrap_or_default())?;
            }
            "driver" => self.driver(message),
            "limit_warned" => {
                let seconds = message["seconds"].as_u64().unwrap_or_default();
                let why = why_soon(message["limit"].as_str(), self.drives);
                self.screen.say(&format!("Session ends in {seconds} s{why}"));
            }
            "limit_exceeded" => self.screen.say(&text("message")),
            "login_expiring" => {
                let seconds = message["seconds"].as_u64().unwrap_or_default();
                self.screen.say(&format!("your login ends in {seconds} s"));
            }
            "login_ended" => self.screen.say(&format!("your login has ended: {}", text("reason"))),
            "error" => self.screen.say(&text("message")),
            "ended" => {
                let read = |name: &str| message.get(name).cloned().unwrap_or_default();
                *ended = Some((
                    serde_json::from_value(read("reason")).ok(),
                    serde_json::from_value(read("exit")).ok(),
                ));
            }
            _ => {}
        }
        Ok(())
    }

    /// Somebody has the keyboard.
    fn driver(&mut self, message: &Json) {
        let (was, drove) = (self.drives, self.drove);
        self.drives = !self.wish.watch && message["you"].as_bool().unwrap_or(true);
        self.drove |= self.drives;
        self.owes_size |= self.drives && !(was && drove);
        // Whoever takes over hears first who has it; where nobody has, its program may be over, which is
        // told in a moment.
        let is_news = was && !self.drives && !self.wish.watch && (drove || !self.wish.take);
        let other = message["user"].as_str().filter(|_| is_news);
        if let Some(name) = other.map(output::foreign) {
            self.screen.say(&format!("{name} has the keyboard; you watch (see --take-over)"));
        }
    }

    /// The gateway has closed the connection, or it broke.
    async fn closed(
        &self,
        code: Option<u16>,
        ended: Option<(Option<EndReason>, Option<Exit>)>,
    ) -> Result<Cut, Failure> {
        if let Some((reason, exit)) = ended {
            return Ok(Cut::Left(Left::Over(reason, exit)));
        }
        match code {
            Some(LOGIN_ENDED) => Err(Failure::refused(
                "your login or token has ended; the session goes on without you",
            )),
            Some(NOT_ALLOWED) => Err(Failure::refused("this session is not yours to attach to")),
            // Whatever else it is: where the session is over, asking again says so.
            _ => Ok(Cut::Broken),
        }
    }

    /// The gateway is there again, and refuses: the session may be over.
    async fn what_became(&self, failure: Failure) -> Result<Left, Failure> {
        let view = self.target.call::<SessionView>(hyper::Method::GET, &self.path, None, None);
        match view.await {
            Ok(view) if view.status.is_over() => Ok(Left::Over(view.end_reason, view.exit)),
            _ => Err(failure),
        }
    }
}

/// The session is over: says why, and ends as it did.
fn over(reason: Option<EndReason>, exit: Option<&Exit>) -> Outcome {
    let name = reason.map_or("ended", EndReason::name);
    let own = match exit {
        Some(Exit::Code(code)) => Some(*code),
        Some(Exit::Signal(name)) => Some(SIGNALLED + number(name)),
        None => None,
    };
    let status = reason.and_then(EndReason::exit_status).or(own).unwrap_or_default();
    complain(format_args!("the session is over ({})", name.replace('_', " ")));
    match u8::try_from(status & 0xff).unwrap_or(u8::MAX) {
        0 => Ok(()),
        status => Err(Failure::Status(status)),
    }
}

/// The number of a signal by its name.
fn number(name: &str) -> u32 {
    let signals = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
    ];
    signals.iter().find(|(known, _)| *known == name).map_or(0, |(_, number)| *number)
}
