//! The life of one session: its directory, its program, its conversation or its terminal, its limits,
//! and its end, which is told when nothing of it lives any more.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::lease::Effect;
use sojourn_core::status::Status;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::CommandId;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Launch;
use sojourn_core::wire::relay::Step;
use sojourn_core::wire::relay::StepState;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::chambers;
use super::chambers::Place;
use super::environment;
use super::harnesses;
use super::held::Held;
use super::held::Key;
use super::held::gone;
use super::hub::Hub;
use super::notice;
use super::options::Harness;
use super::options::Kind;
use super::terminal::Terminal;
use crate::agent;
use crate::agent::Agent;
use crate::process::Left;
use crate::process::Run;
use crate::process::Tree;
use crate::process::descendants::TAG;

/// How long a conversation may take to be closed, before its program is ended all the same.
const CLOSE: Duration = Duration::from_secs(4);

/// How long a warning may take to be told.
const WARNING: Duration = Duration::from_secs(1);

/// How long is read from a terminal whose program ended.
const DRAIN: Duration = Duration::from_millis(500);

/// A session to start.
pub(super) struct Start {
    pub(super) hub: Arc<Hub>,
    pub(super) held: Arc<Held>,
    pub(super) launch: Launch,
    pub(super) harness: Harness,
    pub(super) commands: mpsc::Receiver<(CommandId, Command)>,
    pub(super) typed: mpsc::Receiver<Key>,
}

/// Why a session is over.
#[derive(Debug)]
struct Over {
    reason: EndReason,
    message: Option<String>,
    quietly: bool,
}

impl Over {
    fn because(reason: EndReason) -> Self {
        Self { reason, message: None, quietly: false }
    }

    fn failed(message: String) -> Self {
        Self { message: Some(message), ..Self::because(EndReason::Failed) }
    }
}

/// What runs in it, once something does.
enum Life {
    Agent(Agent),
    Terminal(Terminal),
}

/// Runs it from its first step to its end.
pub(super) async fn live(start: Start) {
    let Start { hub, held, launch, harness, commands, typed } = start;
    tracing::info!(
        session = %held.session, user = launch.by.user, harness = launch.harness,
        source = launch.by.address, event = "session_started", "session started",
    );
    let mut commands = commands;
    let (over, tree, place) = match prepare(&hub, &held, &launch, &harness).await {
        Err(over) => (over, None, None),
        Ok(ready) => {
            let place = ready.place.clone();
            notify(&hub, &held, &launch, ready.cwd.display().to_string());
            let (over, tree) =
                run(&hub, &held, launch, &harness, ready, &mut commands, typed).await;
            (over, tree, place)
        }
    };
    let (exit, message) = match tree {
        Some(tree) => end_tree(&held, &tree).await,
        None => (None, None),
    };
    // Nothing of the session lives: another one may have it.
    drop(place);
    // What was printed before the end is on its way in; what waits for an agent waits for nobody.
    commands.close();
    while let Ok((id, _)) = commands.try_recv() {
        hub.receipt(id, gone());
    }
    tracing::info!(
        session = %held.session, reason = over.reason.name(), event = "session_ended",
        "session ended",
    );
    held.tell_end(over.reason, exit, over.message.or(message));
    if over.quietly {
        hub.drop_all(&held);
    }
}

/// Everything that the program needs.
struct Ready {
    cwd: PathBuf,
    directory: OwnedFd,
    argv: Vec<std::ffi::OsString>,
    env: BTreeMap<String, String>,
    /// The place of its sandbox, where it has one.
    place: Option<Arc<Place>>,
}

async fn step(held: &Held, step: Step, state: StepState, message: Option<String>) {
    // A session that takes no more events is ending; that is seen elsewhere.
    let _ending = held.tell(Event::Step { step, state, message }).await;
}

async fn prepare(
    hub: &Hub,
    held: &Held,
    launch: &Launch,
    harness: &Harness,
) -> Result<Ready, Over> {
    let allowed = chambers::check(&hub.options, harness, launch);
    if allowed.is_err() || chambers::is_wanted(&hub.options, launch) {
        step(held, Step::Program, StepState::Begun, None).await;
        let made = allowed.and_then(|()| chambers::prepare(hub, held.session, launch));
        return match made {
            Ok(chambers::Made { directory, argv, env, place }) => Ok(Ready {
                cwd: PathBuf::from("/"),
                directory,
                argv,
                env,
                place: Some(Arc::new(place)),
            }),
            Err(message) => {
                step(held, Step::Program, StepState::Failed, Some(message.clone())).await;
                Err(Over::failed(message))
            }
        };
    }
    step(held, Step::Directory, StepState::Begun, None).await;
    let (cwd, directory) = match hub.allowed.open(launch.cwd.as_deref()) {
        Ok(opened) => opened,
        Err(refused) => {
            let message = refused.to_string();
            step(held, Step::Directory, StepState::Failed, Some(message.clone())).await;
            return Err(Over::failed(message));
        }
    };
    let shown = cwd.display().to_string();
    step(held, Step::Directory, StepState::Done, Some(shown)).await;
    step(held, Step::Program, StepState::Begun, None).await;
    let session = held.session.to_string();
    let own = [(TAG, session.as_str()), ("SOJOURN_USER", launch.by.user.as_str())];
    let options = &hub.options;
    let mut env =
        environment::of_program(&options.environment, &options.pass_env, &harness.env, &own);
    if harness.kind == Kind::Terminal {
        env.insert("TERM".to_owned(), "xterm-256color".to_owned());
    }
    match harnesses::command(harness, &env) {
        Ok(argv) => Ok(Ready { cwd, directory, argv, env, place: None }),
        Err(message) => {
            step(held, Step::Program, StepState::Failed, Some(message.clone())).await;
            Err(Over::failed(message))
        }
    }
}

/// Tells the desktop, and does what somebody there wants. Nobody waits for it.
fn notify(hub: &Arc<Hub>, held: &Arc<Held>, launch: &Launch, directory: String) {
    let (hub, held, launch) = (hub.clone(), held.clone(), launch.clone());
    tokio::spawn(async move {
        match notice::show(&launch, &directory, hub.options.notify).await {
            Some(notice::Choice::End) => held.end_from_here(),
            Some(notice::Choice::View) => notice::view(&hub.options.gateway.page(held.session)),
            None => {}
        }
    });
}

/// Runs it until something ends it.
async fn run(
    hub: &Arc<Hub>,
    held: &Arc<Held>,
    launch: Launch,
    harness: &Harness,
    ready: Ready,
    commands: &mut mpsc::Receiver<(CommandId, Command)>,
    typed: mpsc::Receiver<Key>,
) -> (Over, Option<Tree>) {
    let limits = launch.limits.clone().lowered(&hub.options.limits);
    let taken = held.record().taken();
    let is_agent = harness.kind == Kind::Agent;
    let warden = &hub.options.warden;
    let env = ready.env.into_iter().map(|(name, value)| (name.into(), value.into()));
    let program = Run {
        argv: ready.argv,
        env: env.collect(),
        directory: ready.directory,
        tag: held.session.to_string(),
    };
    // The lease begins with the program: a start that hangs has its limits, too.
    held.leash.begin(limits, taken);
    let size = launch.size.unwrap_or_default();
    let started = match (is_agent, &ready.place) {
        (true, _) => {
            Tree::on_pipes(warden, program).await.map(|(tree, pipes)| (tree, Some(pipes), None))
        }
        (false, None) => Terminal::start(warden, program, size)
            .await
            .map(|(tree, terminal)| (tree, None, Some(terminal))),
        (false, Some(_)) => Terminal::start_chamber(warden, program, size)
            .await
            .map(|(tree, terminal)| (tree, None, Some(terminal))),
    };
    let (tree, pipes, terminal) = match started {
        Ok(started) => started,
        Err(error) => {
            let message = error.to_string();
            step(held, Step::Program, StepState::Failed, Some(message.clone())).await;
            return (Over::failed(message), None);
        }
    };
    if let (Some(_), Some(terminal)) = (&ready.place, &terminal) {
        let made = tokio::select! {
            made = terminal.is_made() => made,
            over = limited(held) => return (over, Some(tree)),
        };
        if let Err(message) = made {
            step(held, Step::Program, StepState::Failed, Some(message.clone())).await;
            return (Over::failed(message), Some(tree));
        }
    }
    step(held, Step::Program, StepState::Done, None).await;
    let life = match (pipes, terminal) {
        (Some(pipes), _) => {
            let program = agent::Program {
                pid: tree.pid,
                stdin: Box::new(pipes.stdin),
                stdout: Box::new(pipes.stdout),
                stderr: Box::new(pipes.stderr),
                exit: tree.exit(),
            };
            let prepared = agent::Prepared {
                launch,
                cwd: ready.cwd,
                state_dir: hub.state.agents(),
                kept_dir: held.directory.join("changes"),
                mode: harness.mode.clone(),
                allow_bypass: harness.allow_bypass,
                times: agent::Times::default(),
            };
            let starting = agent::start(prepared, program, held.clone());
            let begun = tokio::select! {
                begun = starting => begun.map_err(|error| Over::failed(error.0)),
                over = limited(held) => Err(over),
            };
            match begun {
                Ok(agent) => Life::Agent(agent),
                Err(over) => return (over, Some(tree)),
            }
        }
        (None, Some(terminal)) => Life::Terminal(terminal),
        (None, None) => return (Over::failed("nothing runs".to_owned()), Some(tree)),
    };
    let over = match &life {
        Life::Agent(agent) => converse(hub, held, agent, &tree, commands).await,
        Life::Terminal(terminal) => {
            let _ending = held.tell(Event::Started { agent: None, recovery: None }).await;
            let mut serving = pin!(terminal.serve(held, typed));
            let ended = async {
                tokio::select! {
                    () = &mut serving => {}
                    _ = tree.exited() => {
                        // Something that it started may hold the terminal open for ever.
                        let _held_open = timeout(DRAIN, &mut serving).await;
                    }
                }
                ended_by_itself(&tree).await
            };
            tokio::select! {
                over = ended => over,
                over = limited(held) => over,
            }
        }
    };
    (over, Some(tree))
}

/// Passes commands to an agent until something ends the session, and closes the conversation.
async fn converse(
    hub: &Arc<Hub>,
    held: &Arc<Held>,
    agent: &Agent,
    tree: &Tree,
    commands: &mut mpsc::Receiver<(CommandId, Command)>,
) -> Over {
    let speaking = async {
        while let Some((id, command)) = commands.recv().await {
            hub.receipt(id, agent.command(command).await);
        }
        std::future::pending::<()>().await;
    };
    let over = tokio::select! {
        () = speaking => unreachable_end(),
        () = agent.over() => ended_by_itself(tree).await,
        _ = tree.exited() => {
            // What it said last is still on its way.
            let _held_open = timeout(CLOSE, agent.over()).await;
            ended_by_itself(tree).await
        }
        over = limited(held) => over,
    };
    held.outbox.ending();
    let _no_room = held.tell(Event::Status { status: Status::Ending }).await;
    if timeout(CLOSE, agent.close()).await.is_err() {
        tracing::debug!(session = %held.session, "the agent does not close its conversation");
    }
    over
}

/// The branch of a future that never ends.
fn unreachable_end() -> Over {
    Over::because(EndReason::Closed)
}

/// How it ended when nobody ended it: by what became of its program, if that comes to light soon.
async fn ended_by_itself(tree: &Tree) -> Over {
    let exit = timeout(CLOSE, tree.exited()).await.ok().flatten();
    Over::because(match exit {
        Some(Exit::Signal(_)) => EndReason::Signalled,
        _ => EndReason::Exited,
    })
}

/// Waits until somebody or a limit ends the session.
async fn limited(held: &Held) -> Over {
    let mut ending = pin!(held.ending());
    loop {
        let effect = tokio::select! {
            biased;
            ending = &mut ending => {
                held.leash.end(ending.reason);
                let message = ending.message.map(str::to_owned);
                return Over { reason: ending.reason, message, quietly: ending.quietly };
            }
            effect = held.leash.next() => effect,
        };
        match effect {
            Effect::Warn { limit, left } => {
                let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
                // A gateway that is away is no reason to miss the limit itself.
                let told = held.tell(Event::LimitWarned { limit, seconds });
                let _no_room = timeout(WARNING, told).await;
            }
            Effect::Expire(reason) => {
                if let Some(limit) = Limit::of(reason) {
                    held.outbox.ending();
                    let (configured, reached) = held.leash.reached(limit);
                    let told = Event::LimitExceeded { limit, configured, reached };
                    let _no_room = held.tell(told).await;
                }
                return Over::because(reason);
            }
            Effect::Kill => {}
        }
    }
}

/// Ends everything the session started. Says how its program ended, and what would not die.
async fn end_tree(held: &Held, tree: &Tree) -> (Option<Exit>, Option<String>) {
    let left = tree.end(held.leash.grace()).await;
    let exit = tree.exit().borrow().clone();
    let message = match left {
        Left::Stubborn(processes) => {
            tracing::error!(session = %held.session, processes, "some processes do not die");
            Some(format!("{processes} of its processes could not be ended; look on the runner"))
        }
        Left::Nothing | Left::Alive => None,
    };
    (exit, message)
}
