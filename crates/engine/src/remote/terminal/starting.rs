//! Terminals on other machines are started, and taken up again by the gateway that comes after.

use std::collections::BTreeMap;
use std::io;
use std::io::BufReader;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use sojourn_core::authz::General;
use sojourn_core::authz::may_in_general;
use sojourn_core::end::EndReason;
use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::limits::Limits;
use sojourn_core::limits::Lower;
use sojourn_core::time::Wall;
use sojourn_core::wire::Text;
use sojourn_core::wire::relay;
use sojourn_core::wire::relay::Launch;
use sojourn_core::wire::runner::About;
use sojourn_core::wire::runner::Sealing;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::Pty;
use sojourn_core::wire::shim::WindowSize;
use sojourn_store::NewSession;
use sojourn_store::OnRunner;
use sojourn_store::Session as Kept;
use tokio::sync::watch;

use super::book;
use super::book::Book;
use super::book::Found;
use super::stand_in::Parts;
use super::stand_in::StandIn;
use crate::adopt::Unadopted;
use crate::adopt::opener;
use crate::agents::no_slot;
use crate::agents::recording::Recordings;
use crate::door::ChannelRequest;
use crate::door::Door;
use crate::door::FromWeb;
use crate::door::Refusal;
use crate::door::Stay;
use crate::door::Who;
use crate::engine::Engine;
use crate::identity::Principal;
use crate::metrics::Meter;
use crate::opening::Arrival;
use crate::profiles::DEFAULT;
use crate::profiles::HOST;
use crate::records;
use crate::remote::NoSlot;
use crate::remote::RunnerView;
use crate::repeats;
use crate::runner_link::RunnerError;
use crate::screens;
use crate::seqpacket::SeqPacket;
use crate::session::Session;
use crate::visiting::Person;
use crate::watching::Stays;

/// What terminals at the web door are.
const TERM: &str = "xterm-256color";

/// The size of one whose client gives none.
const USUAL: WindowSize = WindowSize { cols: 80, rows: 24, width: 0, height: 0 };

/// The longest directory, in bytes.
const LONGEST_CWD: usize = 4096;

/// A terminal that somebody wants on a runner of theirs.
#[derive(Clone, Debug, Default)]
pub struct TerminalWish {
    /// On which.
    pub runner: String,
    /// Where it begins, within the directories that its runner allows.
    pub cwd: Option<String>,
    /// A profile of the runner's own.
    pub profile: Option<String>,
    /// Limits lower than the policy's.
    pub lower: Lower,
    /// The reason they give.
    pub why: Option<String>,
    /// Words to put on the session.
    pub labels: BTreeMap<String, String>,
    /// The terminal's size.
    pub size: WindowSize,
}

/// What a stand-in is about.
struct Subject {
    id: SessionId,
    created: Wall,
    runner: RunnerId,
    limits: Limits,
    about: About,
    profile: String,
    launch: Launch,
    size: WindowSize,
    slot: crate::remote::Slot,
    /// Whether the gateway before this one had it.
    adopted: bool,
}

impl Engine {
    /// Starts a terminal on a runner of the person's own, which nobody looks at yet.
    ///
    /// # Errors
    /// A [`Refusal`], which is audited.
    pub async fn start_terminal_on(
        &self,
        person: &Person,
        wish: TerminalWish,
    ) -> Result<SessionId, Refusal> {
        let stay = Stay {
            who: person.who.clone(),
            door: Door::Web,
            peer: SocketAddr::new(person.address, 0),
            client: person.client.clone(),
            hassh: None,
            profile: wish.profile.clone(),
            lower: wish.lower.clone(),
            why: wish.why.clone(),
            attempts: Vec::new(),
            connected_at: self.clock().wall(),
            web: Some(FromWeb {
                actor: person.actor.clone(),
                token: person.token.clone(),
                labels: wish.labels.clone(),
                cwd: wish.cwd.clone(),
            }),
            on: None,
        };
        let started = self.try_start_on(stay.clone(), &wish).await;
        if let Err(refusal) = &started {
            self.refused(&stay, refusal).await;
        }
        started
    }

    /// Opens a session on a runner of the person's own, for a connection that holds it: its shell is the
    /// one program that may be started in it.
    ///
    /// # Errors
    /// A [`Refusal`], which is audited.
    pub async fn open_on(
        &self,
        stay: Stay,
        runner: &str,
        size: WindowSize,
    ) -> Result<Session, Refusal> {
        let given = size.cols > 0 && size.rows > 0;
        let size = if given { size } else { USUAL };
        let wish = TerminalWish { runner: runner.to_owned(), size, ..TerminalWish::default() };
        let opened = self.hold_on(stay.clone(), &wish).await;
        if let Err(refusal) = &opened {
            self.refused(&stay, refusal).await;
        }
        opened
    }

    async fn try_start_on(&self, stay: Stay, wish: &TerminalWish) -> Result<SessionId, Refusal> {
        let who = stay.who.clone();
        let session = self.hold_on(stay, wish).await?;
        if let Err(refusal) = self.begin_shell(&session, wish.size).await {
            session.request_end(EndReason::Failed).await;
            return Err(refusal);
        }
        // Their right to stay may have gone while it was started.
        if let Who::User(principal) = &who
            && let Ok(false) = self.identity().still_stands(principal).await
        {
            session.request_end(EndReason::LoginEnded).await;
            return Err(Refusal::Account);
        }
        Ok(session.id())
    }

    /// A session on a runner that is on record, and in which nothing was started yet.
    async fn hold_on(&self, mut stay: Stay, wish: &TerminalWish) -> Result<Session, Refusal> {
        let inner = &self.inner;
        if inner.shutdown.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        if !inner.audit.is_writable() {
            return Err(Refusal::Audit);
        }
        let Who::User(principal) = stay.who.clone() else { return Err(Refusal::NobodysRunner) };
        if !may_in_general(principal.asker(), General::StartSession).is_allowed() {
            return Err(Refusal::Account);
        }
        match inner.identity.may_begin(&principal).await {
            Ok(true) => {}
            Ok(false) => return Err(Refusal::Account),
            Err(_) => return Err(Refusal::Store),
        }
        if wish.cwd.as_ref().is_some_and(|cwd| cwd.len() > LONGEST_CWD || cwd.contains('\0')) {
            return Err(Refusal::Invalid("cwd", "not a directory's name".to_owned()));
        }
        let policy = inner.profiles.get(DEFAULT);
        let policy = policy.ok_or_else(Refusal::no_default_profile)?;
        if policy.require_why && stay.why.as_deref().is_none_or(|why| why.trim().is_empty()) {
            return Err(Refusal::WhyRequired);
        }
        let runner = self.runner_of(&principal, &wish.runner).await?;
        let here = inner.admission.take(Some(principal.id));
        let here = here.map_err(|full| self.naming(full, &principal))?;
        let id = repeats::session_id();
        let slot = inner.remote.take_slot(runner.id, id).map_err(no_slot)?;
        stay.on = Some(OnRunner {
            runner: runner.id.to_string(),
            name: runner.name.clone(),
            model: None,
            permission_mode: None,
        });
        let limits = policy.limits_at(stay.door).lowered(&stay.lower);
        let by = relay::Person {
            user: principal.name.clone(),
            address: Some(stay.peer.ip().to_string()),
        };
        let launch = launch(&limits, wish.profile.clone(), wish.cwd.clone(), wish.size, by);
        let profile = stay.profile.clone().unwrap_or_else(|| HOST.to_owned());
        let subject = Subject {
            id,
            created: stay.connected_at,
            runner: runner.id,
            limits: limits.clone(),
            about: stay.about(),
            profile: profile.clone(),
            launch,
            size: wish.size,
            slot,
            adopted: false,
        };
        let fd = self.stand_in(subject).await.map_err(unrecorded)?;
        let arrival = Arrival {
            id,
            owner: Some(principal.id),
            honeypot: false,
            door: stay.door,
            principal: Some(principal.clone()),
            profile,
            policy,
            slot: here,
            guest: Some(records::guest(&stay)),
            meter: Meter::new(&inner.metrics, stay.counted_door(), records::SHELL),
            remote: Some(runner.id),
        };
        let (recorded, is_recorded) = watch::channel(None);
        let session = inner.hold(arrival, fd, is_recorded).await?;
        let kept = inner.records.started(id, &stay, &limits).await;
        recorded.send_replace(Some(kept.clone()));
        tracing::info!(
            session = %id, user = principal.name, source = %stay.peer.ip(), runner = runner.name,
            event = "session_opened", "session opened",
        );
        if let Err(refusal) = kept {
            session.request_end(EndReason::Failed).await;
            return Err(refusal);
        }
        Ok(session)
    }

    async fn begin_shell(&self, session: &Session, size: WindowSize) -> Result<(), Refusal> {
        let pty = Pty { term: Text::from(TERM), size, modes: Vec::new() };
        let shell = ChannelRequest { pty: Some(pty), ..ChannelRequest::new(Program::Shell) };
        // What it prints until somebody comes is on record, which is where they read it.
        let _channel = session.start(shell).await?;
        session.leave(Stays::NotYet).await;
        Ok(())
    }

    /// The runner of theirs that has this name, and can run a shell.
    async fn runner_of(&self, principal: &Principal, name: &str) -> Result<RunnerView, Refusal> {
        let found = self.inner.remote.find(principal.id, name).await;
        let unknown =
            || Refusal::Runner(format!("you have no runner {name:?}; see \"sojourn runners ls\""));
        let found = found.map_err(|_| Refusal::Store)?.ok_or_else(unknown)?;
        match (found.connected, found.has(records::SHELL)) {
            (false, _) => Err(no_slot(NoSlot::Away)),
            (true, true) => Ok(found),
            (true, false) => {
                Err(Refusal::Harness(format!("the runner {:?} gives no shell", found.name)))
            }
        }
    }

    /// Makes what stands in for a shim, and gives the session's end of it.
    async fn stand_in(&self, subject: Subject) -> io::Result<OwnedFd> {
        let Subject { id, created, runner, limits, about, profile, .. } = subject;
        let Subject { launch, size, slot, adopted, .. } = subject;
        let opened = self.inner.runner.open(id, 0, created).await?;
        let name = opened.name.clone();
        let (book, found) = match opened.is_new {
            true => (Book::begin(opened, id, created, size)?, None),
            false => {
                let found = self.read_book(name.clone()).await?;
                (Book::resume(opened, created, &found)?, Some(found))
            }
        };
        let found = found.unwrap_or_else(|| Found { size, ..Found::default() });
        let started_at = found
            .started_us
            .map(|us| Wall(created.0.saturating_add(i64::try_from(us).unwrap_or(i64::MAX))));
        let (now, wall) = (self.clock().mono(), self.clock().wall());
        let started = started_at.map(|at| {
            let ago = u64::try_from(wall.0.saturating_sub(at.0)).unwrap_or(0);
            (at, now.before(std::time::Duration::from_micros(ago)))
        });
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let sealing = Sealing {
            session: id,
            channel: 0,
            created,
            about,
            harness: records::SHELL.to_owned(),
            profile,
            limits,
            started_at,
            ended_at: created,
            reason: EndReason::RunnerLost,
            exit: None,
            by: None,
            why: None,
            output_bytes: 0,
        };
        let (stand_in, items) = StandIn::new(Parts {
            remote: self.inner.remote.clone(),
            recordings: Arc::new(self.inner.runner.clone()),
            clock: self.clock().clone(),
            pulse: self.pulse(),
            id,
            runner,
            link: Arc::new(SeqPacket::new(ours)?),
            book,
            name,
            size: found.size,
            launch,
            sealing,
            started,
            ended: found.ended,
            adopted,
            _slot: slot,
        });
        // The session's task ends it, also while the gateway goes down.
        tokio::spawn(stand_in.run(items));
        Ok(theirs)
    }

    /// How far a recording is.
    async fn read_book(&self, name: String) -> io::Result<Found> {
        let recordings = self.inner.screens.recordings();
        let read = move || {
            let file = screens::open(&recordings, &name)?;
            book::read(BufReader::with_capacity(256 << 10, file)).map_err(io::Error::other)
        };
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    }

    /// Takes up terminals on other machines that the gateway before this one had. Their runners come
    /// by themselves.
    pub(crate) async fn adopt_terminals(&self) -> Result<usize, Unadopted> {
        let mut taken_up = 0;
        for Kept { new, .. } in self.not_over().await? {
            let remote = new.remote.as_ref().and_then(|on| on.runner.parse::<RunnerId>().ok());
            let Some(runner) = remote.filter(|_| new.harness == records::SHELL) else { continue };
            if self.session(new.id).is_some() {
                continue;
            }
            match self.adopt_terminal(&new, runner).await? {
                Ok(()) => taken_up += 1,
                Err(error) => {
                    tracing::error!(session = %new.id, error, "a terminal is not taken up again");
                    let now = self.inner.clock.as_ref();
                    let summary = records::lost(new.id, EndReason::RunnerLost, now);
                    self.inner.records.ended(&summary, None).await;
                }
            }
        }
        Ok(taken_up)
    }

    /// The inner error is one of this terminal, for good.
    async fn adopt_terminal(
        &self,
        new: &NewSession,
        runner: RunnerId,
    ) -> Result<Result<(), String>, RunnerError> {
        let inner = &self.inner;
        let Some(policy) = inner.profiles.get(DEFAULT) else {
            return Ok(Err("there is no default profile".to_owned()));
        };
        let by = relay::Person { user: new.user_name.clone().unwrap_or_default(), address: None };
        let size = WindowSize { cols: 80, rows: 24, ..WindowSize::default() };
        let subject = Subject {
            id: new.id,
            created: new.created_at,
            runner,
            limits: new.limits.clone(),
            about: About {
                user: new.user_name.clone().unwrap_or_default(),
                door: new.door.clone(),
                peer: new.peer.clone().unwrap_or_default(),
                client: new.client.clone().unwrap_or_default(),
                connected_at: new.created_at,
                ..About::default()
            },
            profile: new.profile.clone(),
            launch: launch(&new.limits, None, new.cwd.clone(), size, by),
            size,
            slot: inner.remote.keep_slot(runner, new.id),
            adopted: true,
        };
        let fd = match self.stand_in(subject).await {
            Ok(fd) => fd,
            Err(error) => {
                return RunnerError::behind(&error)
                    .map_or(Ok(Err(error.to_string())), |gone| Err(gone.clone()));
            }
        };
        let is_from_web = new.door == Door::Web.name();
        let arrival = Arrival {
            id: new.id,
            principal: opener(new),
            owner: new.user,
            profile: new.profile.clone(),
            policy,
            slot: inner.admission().take_over(new.user),
            guest: None,
            honeypot: false,
            meter: Meter::new(&inner.metrics, &new.door, records::SHELL).found(),
            door: if is_from_web { Door::Web } else { Door::Ssh },
            remote: Some(runner),
        };
        let (_recorded, is_recorded) = watch::channel(Some(Ok(())));
        let held = inner.hold(arrival, fd, is_recorded).await;
        inner.remote.look_for(runner).await;
        Ok(held.map(drop).map_err(|refusal| refusal.to_string()))
    }
}

fn launch(
    limits: &Limits,
    profile: Option<String>,
    cwd: Option<String>,
    size: WindowSize,
    by: relay::Person,
) -> Launch {
    Launch {
        harness: records::SHELL.to_owned(),
        profile,
        cwd,
        model: None,
        permission_mode: relay::PermissionMode::default(),
        prompt: None,
        limits: limits.clone(),
        used: relay::Used::default(),
        size: Some(size),
        resume: None,
        epoch: 1,
        head: 0,
        by,
    }
}

fn unrecorded(error: io::Error) -> Refusal {
    Refusal::Sandbox { stage: "recording", message: error.to_string() }
}
