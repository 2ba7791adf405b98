//! An agent's conversation in this terminal: what comes is told line by line, and lines that are typed
//! are messages, or answers to what the agent asks.

mod queue;

use std::io;
use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Write;

use serde_json::Value as Json;
use serde_json::json;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_engine::view::SessionView;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ALONE;
use super::Cut;
use super::LOGIN_ENDED;
use super::Left;
use super::NOT_ALLOWED;
use super::PAUSES;
use super::PING;
use super::QUIET;
use super::SILENCE;
use super::Wish;
use super::over;
use crate::client::Client;
use crate::client::Frame;
use crate::client::Socket;
use crate::client::Target;
use crate::commands::conversation::Teller;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::failure::complain;
use crate::output;
use queue::Queue;

/// Lines that wait to be sent.
const WAITING: usize = 16;

/// The most lines that are shown of something an agent wants to do, and of a change.
const MOST_LINES: usize = 40;
const MOST_CHANGED: usize = 200;

/// How a session stands whose agent has nothing to do.
const WAITING_STATUS: &str = "waiting";

/// How a session stands that has lost its agent and can be taken up again.
const GONE: &str = "gone";

/// Where a prompt says how many bytes of it are not there.
const LEFT_OUT: &str = "left_out";

/// The longest line that is taken, in bytes.
const LONGEST: u64 = 100_000;

/// Attaches to an agent's session until it is over or left. Its exit status becomes this command's.
pub(super) fn attach(client: Client, session: &SessionView, wish: Wish) -> Outcome {
    let is_terminal = io::stdin().is_terminal();
    if is_terminal && wish.watch {
        complain("watching: Ctrl-C leaves");
    } else if is_terminal {
        complain(
            "a line is a message; /interrupt, /end and /leave do what they say; /queue lists \
             messages that wait, /cancel N and /edit N TEXT change them; y, n and a answer what is \
             asked (a: for the rest of the session)",
        );
    }
    let path = format!("/api/sessions/{}", session.id);
    let left = client.run(async |target| {
        let mut talk = Talk {
            target,
            path,
            wish,
            lines: lines(),
            next: 1,
            teller: Teller::default(),
            asks: Vec::new(),
            said: 0,
            queue: Queue::default(),
            is_terminal,
            status: String::new(),
        };
        talk.stay().await
    });
    match left? {
        Left::Over(reason, exit) => over(reason, exit.as_ref()),
        Left::Detached => {
            let short = session.id.short();
            complain(format_args!("left; come back with \"sojourn session attach {short}\""));
            Ok(())
        }
    }
}

/// Lines of standard input, read by a thread of their own.
fn lines() -> mpsc::Receiver<String> {
    let (typed, lines) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut line = String::new();
            let read = io::Read::take(&mut input, LONGEST).read_line(&mut line);
            if !matches!(read, Ok(1..)) || typed.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Something that is asked.
struct Ask {
    request: String,
    hash: String,
    is_question: bool,
    can_remember: bool,
}

struct Talk<'a> {
    target: &'a Target,
    path: String,
    wish: Wish,
    lines: mpsc::Receiver<String>,
    /// The next event that is wanted.
    next: u64,
    teller: Teller,
    asks: Vec<Ask>,
    said: u64,
    queue: Queue,
    is_terminal: bool,
    /// How the session stands, as it was told last.
    status: String,
}

impl Talk<'_> {
    /// Until the session is over, or left; a connection that breaks is made anew.
    async fn stay(&mut self) -> Result<Left, Failure> {
        let mut pause = PAUSES.0;
        let mut broken_since = None;
        loop {
            let mode = if self.wish.watch { "watch" } else { "drive" };
            let address = format!("{}/attach?mode={mode}&from={}", self.path, self.next);
            match Socket::open(self.target, &address).await {
                Ok(socket) => {
                    if broken_since.take().is_some() {
                        complain("connected again");
                    }
                    pause = PAUSES.0;
                    self.asks.clear();
                    self.queue.clear();
                    if let Cut::Left(left) = self.visit(socket).await? {
                        return Ok(left);
                    }
                }
                Err(Failure::Unreachable(_)) if broken_since.is_some() => {}
                Err(failure) => return Err(failure),
            }
            let since = *broken_since.get_or_insert_with(|| {
                complain("connection lost; trying again (Ctrl-C leaves)");
                Instant::now()
            });
            if !self.is_terminal && since.elapsed() > ALONE {
                let line = self.target.line("the connection broke and cannot be made anew");
                return Err(Failure::Unreachable(line));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn visit(&mut self, mut socket: Socket) -> Result<Cut, Failure> {
        let mut ended = None;
        let mut heard = Instant::now();
        let mut ping = tokio::time::interval_at(heard + PING, PING);
        let mut typing = true;
        let mut told = heard;
        loop {
            // Somebody at a terminal may wait until it is taken up again; a program has nothing to say.
            if !typing && !self.is_terminal && !self.wish.watch && self.status == GONE {
                socket.close().await;
                return Err(Failure::Refused(
                    "nothing comes until it is taken up again".to_owned(),
                ));
            }
            let alive = tokio::select! {
                frame = socket.next() => {
                    heard = Instant::now();
                    match frame {
                        Frame::Text(message) => {
                            if !matches!(message["type"].as_str(), Some("lease" | "pong" | "here")) {
                                told = heard;
                            }
                            self.heed(&message, &mut ended)?;
                            true
                        }
                        Frame::Output(..) | Frame::Alive => true,
                        Frame::Closed(code) => return closed(code, ended),
                    }
                }
                line = self.lines.recv(), if typing => match line {
                    Some(line) => match self.typed(line.trim_end_matches(['\r', '\n'])) {
                        Typed::Say(message) => socket.say(&message).await,
                        Typed::Tell(lines) => {
                            for line in lines {
                                self.say(&line)?;
                            }
                            true
                        }
                        Typed::Nothing => true,
                        Typed::Leave => {
                            socket.close().await;
                            return Ok(Cut::Left(Left::Detached));
                        }
                    },
                    // Whoever only wanted to say something still hears the answer.
                    None => { typing = false; told = Instant::now(); true }
                },
                // All that was said is answered, and nobody is there who could say more.
                () = tokio::time::sleep_until(told + QUIET), if self.is_done(typing) => {
                    socket.close().await;
                    return Ok(Cut::Left(Left::Detached));
                }
                _ = ping.tick() => {
                    heard.elapsed() < SILENCE && socket.say(&json!({"type": "ping"})).await
                }
            };
            if !alive {
                return Ok(Cut::Broken);
            }
        }
    }

    /// Whether nobody here has more to say, and the agent nothing more to answer.
    fn is_done(&self, typing: bool) -> bool {
        let nobody = !typing && !self.is_terminal && !self.wish.watch;
        // What it asks somebody may answer elsewhere, and then it goes on.
        let waits = self.status == WAITING_STATUS && self.asks.is_empty();
        nobody && waits && self.queue.is_empty()
    }

    /// Takes a message of the gateway's.
    fn heed(
        &mut self,
        message: &Json,
        ended: &mut Option<(Option<EndReason>, Option<Exit>)>,
    ) -> Result<(), Failure> {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        if message["type"] == "message" {
            self.queue.heed(message);
        }
        match message["type"].as_str().unwrap_or_default() {
            "event" => {
                if let Some(seq) = message["seq"].as_u64() {
                    self.next = self.next.max(seq + 1);
                }
                let told = self.teller.event(&message["event"]);
                let mut out = io::stdout().lock();
                out.write_all(told.as_bytes())?;
                out.flush()?;
            }
            "permission_prompt" => self.permission(message)?,
            "question_prompt" => {
                let options = message["options"].as_array().into_iter().flatten();
                let options: Vec<_> =
                    options.filter_map(|it| Some(output::foreign(it.as_str()?))).collect();
                let hint = if options.is_empty() { String::new() } else { options.join(" | ") };
                self.asks.push(Ask {
                    request: text("request_id"),
                    hash: text("input_hash"),
                    is_question: true,
                    can_remember: false,
                });
                self.say(&format!("answer: {hint}"))?;
            }
            "prompt_resolved" => {
                let request = text("request_id");
                self.asks.retain(|ask| ask.request != request);
            }
            "runner_disconnected" => complain("the runner is out of reach; its agent goes on"),
            "runner_reconnected" => complain("the runner is there again"),
            "message" if message["state"] == "refused" => {
                complain(format_args!("not sent: {}", output::foreign(&text("message"))));
            }
            // At once where the agent waits; where it works, they are to know that it was heard.
            "message" if message["state"] == "queued" && self.status == "running" => {
                self.say("- it is told when it is done with this (/queue lists what waits)")?;
            }
            "status" => {
                let can_resume = message["recovery"]["can_resume"].as_bool().unwrap_or(false);
                let status = match can_resume {
                    true => GONE.to_owned(),
                    false => text("status"),
                };
                let before = std::mem::replace(&mut self.status, status);
                if self.status == GONE && before != GONE {
                    complain("the agent is gone; \"sojourn session resume\" takes it up again");
                }
            }
            "limit_exceeded" | "error" => complain(output::foreign(&text("message"))),
            "login_expiring" => {
                let seconds = message["seconds"].as_u64().unwrap_or_default();
                complain(format_args!("your login ends in {seconds} s"));
            }
            "login_ended" => complain("your login has ended"),
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

    /// The agent wants to do something: what exactly, and how it is answered.
    fn permission(&mut self, message: &Json) -> Result<(), Failure> {
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let can_remember = message["rule"].is_object();
        self.asks.push(Ask {
            request: text("request_id"),
            hash: text("input_hash"),
            is_question: false,
            can_remember,
        });
        let details = message["details"].as_object().into_iter().flatten();
        for (name, value) in details.filter(|(name, _)| *name != LEFT_OUT) {
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            let name = output::foreign(name);
            self.some(&value, MOST_LINES, |line| format!("  {name}: {}", output::foreign(line)))?;
        }
        self.some(&text("diff"), MOST_CHANGED, |line| format!("  {}", output::foreign(line)))?;
        if let Some(bytes) = message["details"][LEFT_OUT].as_u64() {
            self.say(&format!("  this is not all of it: {bytes} bytes are too long to be shown"))?;
        }
        let always = if can_remember { ", a: for the rest of the session" } else { "" };
        self.say(&format!("allow it? [y/n{always}]"))
    }

    /// The first lines of something, and how many there are besides: nobody allows unawares what they
    /// did not see.
    fn some(
        &mut self,
        text: &str,
        most: usize,
        write: impl Fn(&str) -> String,
    ) -> Result<(), Failure> {
        for line in text.lines().take(most) {
            self.say(&write(line))?;
        }
        match text.lines().count().saturating_sub(most) {
            0 => Ok(()),
            more => self.say(&format!("  … {more} more lines, which the page shows")),
        }
    }

    fn say(&mut self, line: &str) -> Result<(), Failure> {
        let mut told = String::new();
        self.teller.line(&mut told, line);
        let mut out = io::stdout().lock();
        out.write_all(told.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// What a typed line means.
    fn typed(&mut self, line: &str) -> Typed {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match line {
            "/leave" | "/quit" => return Typed::Leave,
            "" => return Typed::Nothing,
            _ if self.wish.watch => return Typed::Nothing,
            "/interrupt" => return Typed::Say(json!({"type": "interrupt"})),
            "/end" => return Typed::Say(json!({"type": "end"})),
            "/queue" if self.queue.is_empty() => {
                return Typed::Tell(vec!["  nothing waits".into()]);
            }
            "/queue" => return Typed::Tell(self.queue.lines()),
            _ => {}
        }
        let change = match word {
            "/cancel" => Some(self.queue.cancel(rest)),
            "/edit" => Some(self.queue.edit(rest)),
            _ => None,
        };
        match change {
            Some(Some(message)) => return Typed::Say(message),
            Some(None) => {
                let line = "  say which: /queue lists those that wait with their numbers";
                return Typed::Tell(vec![line.into()]);
            }
            None => {}
        }
        let Some(ask) = self.asks.first() else { return self.message(line) };
        let (request, hash) = (ask.request.clone(), ask.hash.clone());
        if ask.is_question {
            self.asks.remove(0);
            return Typed::Say(json!({
                "type": "question_response", "request_id": request, "input_hash": hash,
                "answer": line,
            }));
        }
        let (allow, remember) = match word {
            "y" | "yes" => (true, false),
            "a" | "always" if ask.can_remember => (true, true),
            "n" | "no" => (false, false),
            _ => return self.message(line),
        };
        self.asks.remove(0);
        let reason = if allow { "" } else { rest };
        Typed::Say(json!({
            "type": "permission_response", "request_id": request, "input_hash": hash,
            "allow": allow, "remember": remember, "reason": reason,
        }))
    }

    fn message(&mut self, line: &str) -> Typed {
        self.said += 1;
        let id = format!("{}-{}", sojourn_core::ids::EventId::new(), self.said);
        self.queue.add(&id, line);
        Typed::Say(json!({"type": "user_message", "content": line, "client_msg_id": id}))
    }
}

/// What a typed line means.
enum Typed {
    Say(Json),
    /// Nothing for the gateway: for who typed it.
    Tell(Vec<String>),
    Nothing,
    Leave,
}

/// The gateway has closed the connection, or it broke.
fn closed(
    code: Option<u16>,
    ended: Option<(Option<EndReason>, Option<Exit>)>,
) -> Result<Cut, Failure> {
    if let Some((reason, exit)) = ended {
        return Ok(Cut::Left(Left::Over(reason, exit)));
    }
    match code {
        Some(LOGIN_ENDED) => {
            Err(Failure::refused("your login or token has ended; the session goes on without you"))
        }
        Some(NOT_ALLOWED) => Err(Failure::refused("this session is not yours to attach to")),
        _ => Ok(Cut::Broken),
    }
}
