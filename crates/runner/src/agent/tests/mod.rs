//! Against the fake agent, a real process over real pipes. What reached the agent is read from its own
//! log, what people see from the events.

mod asking;
mod beginning;
mod changing;
mod ending;
mod real;
mod talking;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use sojourn_core::end::Exit;
use sojourn_core::limits::Limits;
use sojourn_core::status::Status;
use sojourn_core::wire::relay::Answer;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::Decision;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Launch;
use sojourn_core::wire::relay::MessageState;
use sojourn_core::wire::relay::PermissionMode;
use sojourn_core::wire::relay::Person;
use sojourn_core::wire::relay::Prompt;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::Used;
use tempfile::TempDir;
use tokio::sync::watch;

use super::Agent;
use super::Gone;
use super::Later;
use super::Prepared;
use super::Program;
use super::Sink;
use super::StartError;
use super::Times;
use super::start;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps what is told.
struct Told {
    events: Mutex<Vec<Event>>,
    count: watch::Sender<usize>,
    printed: AtomicU64,
    /// Whether there is no room.
    full: watch::Sender<bool>,
    /// How many events waited for room.
    waited: watch::Sender<usize>,
    /// Whether texts are only counted: for floods.
    forgets: AtomicBool,
}

impl Sink for Told {
    fn emit(&self, event: Event) -> Later<'_, Result<(), Gone>> {
        let mut full = self.full.subscribe();
        Box::pin(async move {
            if *full.borrow() {
                self.waited.send_modify(|waited| *waited += 1);
            }
            full.wait_for(|full| !full).await.map_err(|_| Gone)?;
            assert!(event.fits(), "{event:?}");
            if !self.forgets.load(Ordering::Relaxed) {
                self.events.lock().unwrap().push(event);
            }
            self.count.send_modify(|count| *count += 1);
            Ok(())
        })
    }

    fn printed(&self, bytes: u64) {
        self.printed.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Told {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            events: Mutex::default(),
            count: watch::channel(0).0,
            printed: AtomicU64::new(0),
            full: watch::channel(false).0,
            waited: watch::channel(0).0,
            forgets: AtomicBool::new(false),
        })
    }

    fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// Waits until something can be found in what was told.
    async fn until<T>(&self, what: &str, find: impl Fn(&[Event]) -> Option<T>) -> T {
        let mut count = self.count.subscribe();
        let found = async {
            loop {
                count.mark_unchanged();
                if let Some(found) = find(&self.events()) {
                    return found;
                }
                count.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => panic!("waited for {what}; told: {:#?}", self.events()),
        }
    }

    /// Waits until an event comes for the `nth` time, counted from 1.
    async fn nth(&self, what: &str, nth: usize, is: impl Fn(&Event) -> bool) {
        self.until(what, |events| {
            (events.iter().filter(|event| is(event)).count() >= nth).then_some(())
        })
        .await;
    }

    async fn prompts(&self, count: usize) -> Vec<Prompt> {
        self.until("prompts", |events| {
            let prompts = events.iter().filter_map(|event| match event {
                Event::Prompt(prompt) => Some((**prompt).clone()),
                _ => None,
            });
            let prompts: Vec<Prompt> = prompts.collect();
            (prompts.len() >= count).then_some(prompts)
        })
        .await
    }

    /// Waits until so many turns are over and the agent waits.
    async fn turns(&self, count: usize) {
        self.nth("the end of a turn", count, |event| matches!(event, Event::TurnEnded { .. }))
            .await;
        self.until("waiting", |events| {
            let last = events.iter().rev().find_map(|event| match event {
                Event::Status { status } => Some(*status),
                _ => None,
            });
            (last == Some(Status::Waiting)).then_some(())
        })
        .await;
    }

    async fn notice(&self, code: &str) {
        self.nth(
            code,
            1,
            |event| matches!(event, Event::Notice { code: told, .. } if told == code),
        )
        .await;
    }

    /// Waits until so many events waited for room.
    async fn waits(&self, count: usize) {
        let mut waited = self.waited.subscribe();
        let waits = waited.wait_for(|waited| *waited >= count);
        tokio::time::timeout(PATIENCE, waits).await.expect("an event that waits").unwrap();
    }

    /// Everything that the agent said.
    fn said(&self) -> String {
        let events = self.events();
        let texts = events.iter().filter_map(|event| match event {
            Event::Update { update } => update.pointer("/content/text")?.as_str(),
            _ => None,
        });
        texts.collect()
    }
}

/// How an agent is started.
struct Setup {
    arguments: Vec<&'static str>,
    harness: &'static str,
    prompt: Option<&'static str>,
    permission_mode: PermissionMode,
    mode: Option<&'static str>,
    resume: Option<String>,
    times: Times,
    state: Arc<TempDir>,
    cwd: Arc<TempDir>,
}

impl Setup {
    fn new(prompt: &'static str) -> Self {
        Self {
            arguments: Vec::new(),
            harness: "claude",
            prompt: Some(prompt),
            permission_mode: PermissionMode::Relay,
            mode: None,
            resume: None,
            times: Times { quiet: Duration::from_millis(50), ..Times::default() },
            state: Arc::new(tempfile::tempdir().unwrap()),
            cwd: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    fn with(mut self, arguments: &[&'static str]) -> Self {
        self.arguments.extend_from_slice(arguments);
        self
    }

    fn log(&self) -> PathBuf {
        self.state.path().join("log")
    }

    async fn start(self) -> House {
        let told = Told::new();
        let (log, cwd, state) = (self.log(), Arc::clone(&self.cwd), Arc::clone(&self.state));
        match self.launch(Arc::clone(&told)).await {
            Ok((agent, pid)) => House { agent, told, log, pid, cwd, _state: state },
            Err(error) => panic!("{error}; told: {:#?}", told.events()),
        }
    }

    /// Starts it; the error with what was told.
    async fn fail(self) -> (StartError, Vec<Event>) {
        let told = Told::new();
        let error = self.launch(Arc::clone(&told)).await.map(|(agent, _)| agent).err().unwrap();
        (error, told.events())
    }

    fn prepared(&self) -> Prepared {
        let launch = Launch {
            harness: self.harness.to_owned(),
            profile: None,
            cwd: None,
            model: None,
            permission_mode: self.permission_mode,
            prompt: self.prompt.map(str::to_owned),
            limits: Limits::default(),
            size: None,
            resume: self.resume.clone(),
            used: Used::default(),
            epoch: 1,
            head: 0,
            by: person(),
        };
        Prepared {
            launch,
            cwd: self.cwd.path().canonicalize().unwrap(),
            state_dir: self.state.path().to_owned(),
            kept_dir: self.state.path().join("kept"),
            mode: self.mode.map(str::to_owned),
            allow_bypass: false,
            times: self.times,
        }
    }

    async fn launch(self, told: Arc<Told>) -> Result<(Agent, u32), StartError> {
        let (program, pid) = program(&self.arguments, self.log());
        let starting = start(self.prepared(), program, told);
        let agent = tokio::time::timeout(PATIENCE, starting).await.expect("a start in time")?;
        Ok((agent, pid))
    }
}

/// A conversation and everything around it.
struct House {
    agent: Agent,
    told: Arc<Told>,
    log: PathBuf,
    pid: u32,
    cwd: Arc<TempDir>,
    /// Lives as long as what is kept in it is used.
    _state: Arc<TempDir>,
}

impl House {
    async fn say(&self, id: &str, content: &str) -> Receipt {
        let (client_msg_id, content) = (id.to_owned(), content.to_owned());
        self.agent.command(Command::Message { client_msg_id, content, by: person() }).await
    }

    async fn interrupt(&self) -> Receipt {
        self.agent.command(Command::Interrupt { by: person() }).await
    }

    async fn answer(&self, prompt: &Prompt, decision: Decision) -> Receipt {
        self.agent.command(Command::Answer(Box::new(answer(prompt, decision)))).await
    }

    /// What reached the agent, of one kind.
    fn got(&self, kind: &str) -> Vec<Value> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["got"] == kind).collect()
    }

    /// The texts that reached it.
    fn prompts_got(&self) -> Vec<String> {
        let texts = self.got("prompt");
        texts.iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until so many texts reached it.
    async fn reached(&self, count: usize) {
        let reached = async {
            while self.prompts_got().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the message at the agent");
    }

    /// The options that were chosen, by what they were chosen for.
    fn options_got(&self) -> Vec<(String, String)> {
        let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        let lines = self.got("permission");
        lines.iter().map(|line| (text(line, "what"), text(line, "option"))).collect()
    }

    /// Ends the agent's process as nobody should.
    fn kill(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid.cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    async fn over(&self) {
        tokio::time::timeout(PATIENCE, self.agent.over()).await.expect("the end in time");
    }

    async fn close(&self) {
        tokio::time::timeout(PATIENCE, self.agent.close()).await.expect("the end in time");
    }
}

fn person() -> Person {
    Person { user: "alice".to_owned(), address: Some("192.0.2.7".to_owned()) }
}

fn answer(prompt: &Prompt, decision: Decision) -> Answer {
    Answer {
        request: prompt.request,
        input_hash: prompt.input_hash.clone(),
        decision,
        rule: None,
        reason: None,
        fields: None,
        by: person(),
    }
}

/// The code of a rejection.
fn code(receipt: &Receipt) -> &str {
    match receipt {
        Receipt::Rejected { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

fn is_message(event: &Event, id: &str, at: MessageState) -> bool {
    matches!(event, Event::Message { client_msg_id, state, .. } if client_msg_id == id && *state == at)
}

/// The fake agent, running.
fn program(arguments: &[&str], log: PathBuf) -> (Program, u32) {
    let here = std::env::current_exe().unwrap();
    let path = here.parent().unwrap().parent().unwrap().join("fake-agent");
    assert!(
        path.exists(),
        "{} is not built: cargo build --workspace --bin fake-agent",
        path.display()
    );
    let mut command = tokio::process::Command::new(path);
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("FAKE_AGENT_LOG", log);
    piped(command)
}

/// A program with its pipes.
fn piped(mut command: tokio::process::Command) -> (Program, u32) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = child.id().unwrap();
    let (tell, exit) = watch::channel(None);
    let program = Program {
        pid,
        stdin: Box::new(child.stdin.take().unwrap()),
        stdout: Box::new(child.stdout.take().unwrap()),
        stderr: Box::new(child.stderr.take().unwrap()),
        exit,
    };
    tokio::spawn(async move {
        let status = child.wait().await.unwrap();
        let exit = match status.code() {
            Some(code) => Exit::Code(code.unsigned_abs()),
            None => Exit::Signal("KILL".to_owned()),
        };
        tell.send_replace(Some(exit));
    });
    (program, pid)
}
