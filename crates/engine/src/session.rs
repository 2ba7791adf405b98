//! The handle a door holds of one session.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::end::EndReason;
use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::wire::shim::Attached;
use sojourn_core::wire::shim::ChannelSpec;
use sojourn_core::wire::shim::EndRequest;
use sojourn_core::wire::shim::Endpoint;
use sojourn_core::wire::shim::INPUT_WINDOW;
use sojourn_core::wire::shim::LeaseState;
use sojourn_core::wire::shim::MAX_CHANNELS;
use sojourn_core::wire::shim::OUTPUT_WINDOW;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::ToShim;
use sojourn_core::wire::shim::WindowSize;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::channel::Channel;
use crate::channel::ChannelInput;
use crate::channel::ChannelOutput;
use crate::channel::Hand;
use crate::channel::QUEUE;
use crate::door::ChannelEvent;
use crate::door::ChannelRequest;
use crate::door::Cut;
use crate::door::Door;
use crate::door::Refusal;
use crate::ending::EndedBy;
use crate::profiles::Forward;
use crate::profiles::ProfilePolicy;
use crate::roster::Answer;
use crate::roster::Guest;
use crate::roster::Holder;
use crate::roster::Reader;
use crate::screens::Screens;
use crate::seqpacket::SeqPacket;
use crate::watching::News;
use crate::watching::Stays;
use crate::watching::Tap;

/// How long a program may take to start before its channel is refused.
const START: Duration = Duration::from_secs(30);

/// How long it may take until it is listened inside.
const LISTEN: Duration = Duration::from_secs(10);

/// The most places inside that a session may listen at.
const MAX_LISTENERS: usize = 8;
/// What somebody who comes back is told when their screen cannot be drawn.
const NO_SCREEN: &str = "Session attached; the screen cannot be drawn anew (Ctrl-L may help)";

/// How long a shim may take to say how its lease stands.
const QUERY: Duration = Duration::from_millis(500);

/// A session in motion, for one connection or for nobody. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) shared: Arc<Shared>,
    /// The connection this is for; none where it is only looked at.
    pub(crate) holder: Option<Holder>,
    /// Whether that connection came back to it, and so to its terminals.
    pub(crate) returning: bool,
}

/// What the handles and the session's task share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: SessionId,
    pub(crate) link: Arc<SeqPacket>,
    pub(crate) policy: ProfilePolicy,
    pub(crate) commands: mpsc::Sender<Command>,
    /// Held while a channel gets its number and its start is sent: the shim wants them in order.
    pub(crate) starting: tokio::sync::Mutex<()>,
    /// How long its terminals wait for their people; not at all when it is zero.
    pub(crate) detach_grace: Duration,
    pub(crate) screens: Screens,
    /// Held while its deadline is moved.
    pub(crate) extending: tokio::sync::Mutex<()>,
    /// Whether it is a honeypot's.
    pub(crate) honeypot: bool,
    /// The runner it is on; none: the built-in one.
    pub(crate) remote: Option<RunnerId>,
    /// By which door it came.
    pub(crate) door: Door,
    pub(crate) next_channel: AtomicU16,
    pub(crate) open: AtomicUsize,
    pub(crate) progress: watch::Receiver<Progress>,
    /// What those are told who look on.
    pub(crate) news: watch::Receiver<News>,
    /// Whether the start is on record: nothing is shown before.
    pub(crate) recorded: watch::Receiver<Option<Result<(), Refusal>>>,
    pub(crate) ended_by: std::sync::Mutex<Option<EndedBy>>,
    pub(crate) listeners: std::sync::Mutex<Listeners>,
}

/// A place inside that is listened at, until it is given up.
#[derive(Debug)]
pub struct Listening {
    /// Its number, for [`Session::unlisten`] and `Program::Accept`.
    pub listener: u16,
    /// Its port; 0 for a Unix socket.
    pub port: u16,
}

/// Listeners whose word is awaited, and the number of the next.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    next: u16,
    open: usize,
    pub(crate) waiting: HashMap<u16, oneshot::Sender<Result<u16, String>>>,
}

/// How far a session is, for whoever waits for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Set when it was ended from outside.
    pub(crate) cut: Option<Cut>,
    /// Why it is ending.
    pub(crate) ending: Option<EndReason>,
    /// Whether everything of it is gone.
    pub(crate) over: bool,
    /// Whether its shim has said what there is.
    pub(crate) greeted: bool,
    /// Whether somebody holds it.
    pub(crate) attached: bool,
    /// Whether the last program to end was ended by a signal.
    pub(crate) signalled: bool,
    /// How the lease stood when it was last told, and how many times it was.
    pub(crate) lease: Option<Arc<LeaseState>>,
    pub(crate) lease_answers: u64,
}

/// What a session's task is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// A new channel; told before the shim hears of it.
    Start { number: u16, terminal: bool, reader: Reader },
    /// A connection holds the session from now on.
    Enter(Guest, oneshot::Sender<Holder>),
    /// That connection is gone.
    Leave(Holder, Stays),
    /// A terminal for somebody who came back: of this number, or whichever waits.
    Attach(Reader, Option<u16>),
    /// Somebody looks on at a terminal: of this number, or the first.
    Watch { number: Option<u16>, answer: oneshot::Sender<Result<Arc<Tap>, Refusal>> },
    /// Nobody looks on at one of them any more.
    Unwatched,
    /// Which terminal runs: of this number, or the first.
    Terminal { number: Option<u16>, answer: oneshot::Sender<Option<u16>> },
    /// Where a terminal stands; none: it is gone.
    Locate { number: u16, answer: oneshot::Sender<Option<Attached>> },
    /// A terminal has this size from now on.
    Resized(u16, WindowSize),
    /// A line for everybody there.
    Notice(String),
}

impl Shared {
    /// Whether a program was ever asked for.
    pub(crate) fn has_started(&self) -> bool {
        self.next_channel.load(Ordering::Relaxed) > 0
    }

    /// A handle for nobody.
    pub(crate) fn handle(self: &Arc<Self>) -> Session {
        Session { shared: self.clone(), holder: None, returning: false }
    }
}

impl Session {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.shared.id
    }

    /// The runner it is on; none: the built-in one.
    #[must_use]
    pub fn runner(&self) -> Option<RunnerId> {
        self.shared.remote
    }

    /// Starts a program in a new channel. A shell with a terminal, for a connection that came back, is
    /// the terminal that waits, if there is one.
    ///
    /// # Errors
    /// When the session is over, has too many channels, cannot be put on record, or the program cannot
    /// be started.
    pub async fn start(&self, request: ChannelRequest) -> Result<Channel, Refusal> {
        if let (true, Program::Shell, Some(pty)) = (self.returning, &request.program, &request.pty)
            && let Some(channel) = self.attach(pty.size).await?
        {
            return Ok(channel);
        }
        let shared = &self.shared;
        if shared.open.fetch_add(1, Ordering::Relaxed) >= MAX_CHANNELS {
            shared.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Channels(MAX_CHANNELS));
        }
        let started = self.start_counted(request).await;
        if started.is_err() {
            shared.open.fetch_sub(1, Ordering::Relaxed);
        }
        started
    }

    async fn start_counted(&self, request: ChannelRequest) -> Result<Channel, Refusal> {
        let shared = &self.shared;
        let holder = self.holder.ok_or(Refusal::Over)?;
        let terminal = request.pty.is_some();
        let mut env = shared.policy.passing(&request.env);
        env.extend(request.own_env);
        let spec =
            ChannelSpec { env, program: request.program, pty: request.pty, credit: OUTPUT_WINDOW };
        let in_order = shared.starting.lock().await;
        let number = shared.next_channel.load(Ordering::Relaxed);
        let mut frame = Vec::new();
        ToShim::Start(number, Box::new(spec)).encode(&mut frame);
        if frame.len() > sojourn_core::wire::MAX_MESSAGE {
            return Err(Refusal::Start("the command is too long (60 KB is the most)".to_owned()));
        }
        if number == u16::MAX {
            return Err(Refusal::Channels(usize::from(u16::MAX)));
        }
        shared.next_channel.store(number + 1, Ordering::Relaxed);
        let (events, output) = mpsc::channel(QUEUE);
        let hand = Arc::new(Hand::new(INPUT_WINDOW));
        let (started, answer) = oneshot::channel();
        let reader =
            Reader { holder, events, hand: hand.clone(), answer: Answer::Started(started) };
        self.tell(Command::Start { number, terminal, reader }).await?;
        shared.link.send(&frame).await.map_err(|_| Refusal::Over)?;
        drop(in_order);
        let (answer, recorded) =
            tokio::join!(tokio::time::timeout(START, answer), self.recorded(),);
        recorded?;
        match answer {
            Err(_) => Err(Refusal::Start("the program did not start in time".to_owned())),
            Ok(Err(_)) => Err(Refusal::Over),
            Ok(Ok(Err(why))) => Err(Refusal::Start(why)),
            Ok(Ok(Ok(()))) => Ok(self.channel(number, hand, output)),
        }
    }

    /// The terminal that waits for the person who came back, drawn anew; none when there is none.
    async fn attach(&self, size: WindowSize) -> Result<Option<Channel>, Refusal> {
        let Some((channel, attached)) = self.seat(None).await? else { return Ok(None) };
        let Channel { input, output } = channel;
        let has_size = size.cols > 0 && size.rows > 0;
        if has_size && size != attached.size {
            input.resize(size).await;
        }
        let first = match self.shared.screens.draw(attached, size).await {
            Some(screen) => ChannelEvent::Output(Stream::Out, screen),
            None => ChannelEvent::Notice(NO_SCREEN.to_owned()),
        };
        Ok(Some(Channel { input, output: output.after(first) }))
    }

    /// A terminal for this connection: of this number, or whichever waits; none when there is none.
    pub(crate) async fn seat(
        &self,
        wanted: Option<u16>,
    ) -> Result<Option<(Channel, Attached)>, Refusal> {
        let holder = self.holder.ok_or(Refusal::Over)?;
        let (events, output) = mpsc::channel(QUEUE);
        let hand = Arc::new(Hand::new(0));
        let (answer, attached) = oneshot::channel();
        let reader =
            Reader { holder, events, hand: hand.clone(), answer: Answer::Attached(answer) };
        self.tell(Command::Attach(reader, wanted)).await?;
        let attached = tokio::time::timeout(START, attached).await;
        self.recorded().await?;
        let late = |_| Refusal::Start("the terminal did not answer in time".to_owned());
        let Some((number, attached)) = attached.map_err(late)?.map_err(|_| Refusal::Over)?? else {
            return Ok(None);
        };
        Ok(Some((self.channel(number, hand, output), attached)))
    }

    fn channel(
        &self,
        number: u16,
        hand: Arc<Hand>,
        output: mpsc::Receiver<ChannelEvent>,
    ) -> Channel {
        let link = &self.shared.link;
        Channel {
            input: ChannelInput::new(number, link.clone(), hand.clone())
                .told_to(self.shared.commands.clone()),
            output: ChannelOutput::new(number, link.clone(), hand, output),
        }
    }

    /// Tells the session's task something.
    pub(crate) async fn tell(&self, command: Command) -> Result<(), Refusal> {
        self.shared.commands.send(command).await.map_err(|_| Refusal::Over)
    }

    /// Waits until the start of the session is on record.
    pub(crate) async fn recorded(&self) -> Result<(), Refusal> {
        let mut recorded = self.shared.recorded.clone();
        match recorded.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Err(Refusal::Over)),
            Err(_) => Err(Refusal::Over),
        }
    }

    /// Whether it is a honeypot's.
    #[must_use]
    pub fn is_honeypot(&self) -> bool {
        self.shared.honeypot
    }

    /// Whether its profile lets connections be forwarded so.
    #[must_use]
    pub fn may_forward(&self, kind: Forward) -> bool {
        self.shared.policy.forward.contains(&kind)
    }

    /// Listens inside. Connections are then taken by `Program::Accept`.
    ///
    /// # Errors
    /// When the session is over, has too many listeners, cannot be put on record, or cannot listen
    /// there.
    pub async fn listen(&self, endpoint: Endpoint) -> Result<Listening, Refusal> {
        self.recorded().await?;
        let (listening, heard) = oneshot::channel();
        let listener = self.listeners().add(listening)?;
        let mut frame = Vec::new();
        ToShim::Listen(listener, endpoint).encode(&mut frame);
        let answer = async {
            self.shared.link.send(&frame).await.map_err(|_| Refusal::Over)?;
            heard.await.map_err(|_| Refusal::Over)?.map_err(Refusal::Listen)
        };
        let late = || Refusal::Listen("it took too long".to_owned());
        let answer = tokio::time::timeout(LISTEN, answer).await.unwrap_or_else(|_| Err(late()));
        match answer {
            Ok(port) => Ok(Listening { listener, port }),
            Err(refusal) => {
                self.unlisten(listener).await;
                Err(refusal)
            }
        }
    }

    /// Listens there no more. Connections that were taken go on.
    pub async fn unlisten(&self, listener: u16) {
        self.listeners().remove(listener);
        let mut frame = Vec::new();
        ToShim::Unlisten(listener).encode(&mut frame);
        let _broken = self.shared.link.send(&frame).await;
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Listeners> {
        self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the session was ended from outside: by a limit, a person, a shutdown, a loss. A
    /// session that its own programs or its client ended never resolves it.
    pub async fn cut(&self) -> Cut {
        let mut progress = self.shared.progress.clone();
        let cut = match progress.wait_for(|p| p.cut.is_some()).await {
            Ok(found) => found.cut.clone(),
            Err(_) => None,
        };
        match cut {
            Some(cut) => cut,
            None => std::future::pending().await,
        }
    }

    /// The connection this is for is gone. What has no terminal ends with it; terminals wait for their
    /// person as long as the policy says. When nothing waits and no other connection is there, the
    /// session ends.
    pub async fn connection_gone(&self) {
        self.leave(Stays::ForGrace).await;
    }

    /// The same, with what becomes of its terminals.
    pub(crate) async fn leave(&self, stays: Stays) {
        if let Some(holder) = self.holder {
            // An error means that it is over.
            let _over = self.tell(Command::Leave(holder, stays)).await;
        }
    }

    /// The same session for a connection that holds it from now on.
    pub(crate) async fn enter(&self, guest: Guest) -> Result<Self, Refusal> {
        let (answer, holder) = oneshot::channel();
        self.tell(Command::Enter(guest, answer)).await?;
        let holder = Some(holder.await.map_err(|_| Refusal::Over)?);
        Ok(Self { shared: self.shared.clone(), holder, returning: true })
    }

    /// Whether it can be come back to.
    pub(crate) fn is_going_on(&self) -> bool {
        let progress = self.shared.progress.borrow();
        progress.greeted && progress.ending.is_none() && !progress.over
    }

    /// Whether somebody holds it now.
    pub(crate) fn is_attached(&self) -> bool {
        self.shared.progress.borrow().attached
    }

    /// Asks the shim to end the session. The first reason wins.
    pub(crate) async fn request_end(&self, reason: EndReason) {
        // A broken link means that the shim is gone, which ends the session as well.
        let _broken = self.tell_shim(&ToShim::End(EndRequest { reason })).await;
    }

    /// Tells the shim something that is about no channel.
    pub(crate) async fn tell_shim(&self, what: &ToShim<'_>) -> std::io::Result<()> {
        let mut frame = Vec::new();
        what.encode(&mut frame);
        self.shared.link.send(&frame).await
    }

    /// Whether it is ending, or over.
    pub(crate) fn is_ending(&self) -> bool {
        let progress = self.shared.progress.borrow();
        progress.ending.is_some() || progress.over
    }

    /// Resolves when everything of the session is gone and on record.
    pub async fn over(&self) {
        let mut progress = self.shared.progress.clone();
        // An error means that its task is gone: then it is over, too.
        let _gone = progress.wait_for(|p| p.over).await;
    }

    /// How its lease stands now; what was known last when the shim does not answer at once.
    pub(crate) async fn lease(&self) -> Option<Arc<LeaseState>> {
        match self.fresh_lease().await {
            Some(lease) => Some(lease),
            None => self.shared.progress.borrow().lease.clone(),
        }
    }

    /// How its lease stands now, if the shim answers.
    pub(crate) async fn fresh_lease(&self) -> Option<Arc<LeaseState>> {
        let mut progress = self.shared.progress.clone();
        let before = progress.borrow_and_update().lease_answers;
        if self.is_ending() {
            return None;
        }
        let ask = async {
            self.tell_shim(&ToShim::Query).await.ok()?;
            progress.wait_for(|p| p.lease_answers > before).await.ok()?.lease.clone()
        };
        tokio::time::timeout(QUERY, ask).await.ok()?
    }
}

impl Listeners {
    fn add(&mut self, heard: oneshot::Sender<Result<u16, String>>) -> Result<u16, Refusal> {
        let full =
            || Refusal::Listen(format!("this session listens at {MAX_LISTENERS} places already"));
        if self.open >= MAX_LISTENERS || self.next == u16::MAX {
            return Err(full());
        }
        self.open += 1;
        self.next += 1;
        self.waiting.insert(self.next, heard);
        Ok(self.next)
    }

    fn remove(&mut self, listener: u16) {
        self.waiting.remove(&listener);
        self.open = self.open.saturating_sub(1);
    }
}
