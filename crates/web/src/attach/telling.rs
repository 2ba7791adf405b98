//! What a browser is told: output by how much was printed before it, and how the session stands.
//!
//! One who drives is sent all of the output, and the program waits until it is taken. One who looks on
//! is sent what there is at a steady pace; what is gone by then is made up for by a screen.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::ws::Message;
use futures_util::SinkExt;
use sojourn_core::end::seconds_left;
use sojourn_core::status::Status;
use sojourn_core::wire::shim::WindowSize;
use sojourn_engine::door::ChannelEvent;
use sojourn_engine::door::Refusal;
use sojourn_engine::login::LoginEnd;
use sojourn_engine::presence::Present;
use sojourn_engine::presence::Seat;
use sojourn_engine::view::LeaseView;
use sojourn_engine::watching::CaughtUp;
use sojourn_engine::watching::Driver;
use sojourn_engine::watching::Driving;
use sojourn_engine::watching::News;
use sojourn_engine::watching::Read;
use sojourn_engine::watching::Stays;
use sojourn_engine::watching::Watching;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;

use super::LONGEST_TOLD;
use super::Out;
use super::Over;
use super::Shared;
use super::Visit;
use super::error;
use super::frames::Tell;
use super::frames::output;
use super::hearing::Todo;

/// The longest frame of output.
const AT_ONCE: usize = 64 << 10;

/// How much a browser that says what it has shown may have besides: a screen that draws slower than a
/// program prints must not keep megabytes of it between an interrupt and its effect.
const MOST_UNSEEN: u64 = 256 << 10;

/// How long passes between two frames for one who looks on: more often is not seen, and costs those who
/// work here.
const PACE: Duration = Duration::from_millis(20);

/// How long a browser may take nothing of what it is sent.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Beats of the engine's pulse between two pings, and until a browser that says nothing is gone.
pub(super) const PING_EVERY: u64 = 4;
pub(super) const SILENT_FOR: u64 = 12;

/// How often the lease is told while nothing but time has changed.
pub(super) const LEASE_EVERY: Duration = Duration::from_secs(4);

/// By how much a deadline moves that was moved by somebody.
const MOVED: Duration = Duration::from_secs(1);

/// The end of the right to be here.
pub(super) type Ended<'a> = Pin<Box<dyn Future<Output = LoginEnd> + Send + 'a>>;

/// The half that sends.
struct Telling<'a> {
    visit: &'a Visit,
    out: &'a mut Out,
    shared: &'a Shared,
    driving: &'a mut Option<Driving>,
    ended: Ended<'a>,
    watching: Watching,
    /// How much of the output they have.
    cursor: u64,
    /// How much of it they may have, while they drive.
    granted: u64,
    /// What they were given at once to catch up, which they need not have seen.
    caught_up: u64,
    /// Where they stand cannot be found out now: most often because the terminal's program has just ended.
    lost: bool,
    /// When one who looks on is sent the next.
    next_at: Instant,
    lease: Option<(Instant, LeaseView)>,
    told: News,
    seat: Seat,
}

impl Visit {
    /// Tells until there is nothing more to tell, or nobody to be told.
    pub(super) async fn tell(
        &self,
        out: &mut Out,
        driving: &mut Option<Driving>,
        shared: &Shared,
        todo: mpsc::Receiver<Todo>,
    ) -> Over {
        let ended: Ended<'_> = Box::pin(self.gate.ended(&self.caller));
        let engine = self.gate.engine();
        let watching = match engine.look_on(&self.person, self.id, self.channel).await {
            Ok(watching) => watching,
            Err(refusal) => return self.nothing_to_see(out, refusal).await,
        };
        let mut telling = Telling {
            visit: self,
            out,
            shared,
            driving,
            ended,
            watching,
            cursor: 0,
            granted: 0,
            caught_up: 0,
            lost: false,
            next_at: Instant::now(),
            lease: None,
            told: News::default(),
            seat: engine.presence().enter(self.id, self.person.who.name(), false),
        };
        match telling.run(todo).await {
            Ok(never) => match never {},
            Err(over) => over,
        }
    }

    /// There is no terminal: what they missed of it and what became of the session is told.
    async fn nothing_to_see(&self, out: &mut Out, refusal: Refusal) -> Over {
        let session = self.gate.engine().session_view(self.id).await.ok().flatten();
        match session.and_then(|session| Some((session.end_reason?, session.exit))) {
            Some((reason, exit)) => {
                let ended = Tell::Ended { reason, exit }.message();
                for message in self.missed().await.into_iter().chain([ended]) {
                    let sent = tokio::time::timeout(PATIENCE, out.sink.send(message)).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        break;
                    }
                }
                Over::Ended
            }
            None => Over::Refused(refusal),
        }
    }

    /// What was printed since they were here, when the session ended before they came back.
    async fn missed(&self) -> Vec<Message> {
        let Some(from) = self.from else { return Vec::new() };
        match self.gate.engine().printed_since(self.id, from).await {
            Some(CaughtUp::Bytes(bytes)) => {
                let parts = (0..bytes.len()).step_by(AT_ONCE);
                parts
                    .map(|at| {
                        let part = bytes.slice(at..bytes.len().min(at + AT_ONCE));
                        output(from + at as u64, &[part])
                    })
                    .collect()
            }
            Some(CaughtUp::Screen(screen)) if screen.data.len() <= LONGEST_TOLD / 2 => {
                let data = String::from_utf8_lossy(&screen.data).into_owned();
                let (seq, cols, rows) = (screen.seq, screen.cols, screen.rows);
                vec![Tell::Snapshot { seq, cols, rows, data }.message()]
            }
            Some(CaughtUp::Screen(_) | CaughtUp::Blank(_)) | None => Vec::new(),
        }
    }
}

/// Nothing comes of it but its end.
enum Never {}

impl Telling<'_> {
    async fn run(&mut self, mut todo: mpsc::Receiver<Todo>) -> Result<Never, Over> {
        let visit = self.visit;
        let engine = visit.gate.engine();
        let mut news = self.watching.session().news();
        let mut driver = self.watching.driver();
        let mut size = self.watching.size();
        let mut printed = self.watching.printed();
        let mut seen = self.shared.seen.subscribe();
        let (mut people, mut alone) = (self.seat.people(), true);
        let mut pulse = engine.pulse();
        let mut link = self.watching.session().runner().map(|id| engine.remote().link(id));
        let mut reminders = visit.caller.login().map(|login| login.reminders());
        self.shared.heard.store(*pulse.borrow_and_update(), Ordering::Release);
        self.told = news.borrow_and_update().clone();
        self.send(Tell::Status { status: self.status() }.message()).await?;
        if visit.drives_at_once(&self.watching)? {
            match visit.take(&self.watching, self.shared).await {
                Ok(driving) => self.drive(driving).await,
                Err(refusal) => return Err(Over::Refused(refusal)),
            }
        }
        self.shared.settled.send_replace(true);
        let now = driver.borrow_and_update().clone();
        self.tell_driver(&now).await?;
        let here = people.borrow_and_update().clone();
        alone = self.tell_here(&here, alone).await?;
        size.borrow_and_update();
        self.tell_lease(true).await?;
        self.catch_up(visit.from).await?;
        loop {
            let (cursor, has_room) = (self.cursor, self.has_room());
            let (may_read, wants_more) =
                (self.may_read() && has_room, !self.may_read() && has_room);
            let (paced, next_at) = (self.driving.is_none(), self.next_at);
            let more = async {
                // An error means that the terminal is gone; then the session's end is told.
                match may_read && printed.wait_for(|end| *end > cursor).await.is_ok() {
                    true if paced => tokio::time::sleep_until(next_at).await,
                    true => {}
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                why = &mut self.ended => return Err(Over::Login(why)),
                () = engine.shutdown().cancelled() => return Err(Over::Shutdown),
                Some(todo) = todo.recv() => self.heed(todo).await?,
                Ok(()) = news.changed() => {
                    let now = news.borrow_and_update().clone();
                    self.tell_news(now).await?;
                }
                Ok(()) = driver.changed() => {
                    let now = driver.borrow_and_update().clone();
                    self.tell_driver(&now).await?;
                }
                Ok(()) = people.changed() => {
                    let here = people.borrow_and_update().clone();
                    alone = self.tell_here(&here, alone).await?;
                }
                Ok(()) = size.changed() => {
                    let now = *size.borrow_and_update();
                    self.tell_size(now).await?;
                }
                Ok(()) = pulse.changed() => {
                    let beat = *pulse.borrow_and_update();
                    self.look_after(beat).await?;
                }
                there = linked(&mut link) => {
                    let tell = if there { Tell::RunnerReconnected } else { Tell::RunnerDisconnected };
                    self.send(tell.message()).await?;
                    self.send(Tell::Status { status: self.status() }.message()).await?;
                }
                left = remind(&mut reminders) => {
                    self.send(Tell::LoginExpiring { seconds: left.as_secs() }.message()).await?;
                }
                Ok(()) = seen.changed() => {}
                event = next_event(self.driving, wants_more) => self.take(event).await?,
                () = more => self.pass().await?,
            }
        }
    }

    /// Whether there may be output to send: what was granted, to one who drives.
    fn may_read(&self) -> bool {
        !self.lost && (self.driving.is_none() || self.cursor < self.granted)
    }

    /// Whether they have seen enough of what they were sent to be sent more.
    fn has_room(&self) -> bool {
        let seen = *self.shared.seen.borrow();
        seen.is_none_or(|seen| self.cursor.saturating_sub(seen.max(self.caught_up)) < MOST_UNSEEN)
    }

    async fn heed(&mut self, todo: Todo) -> Result<(), Over> {
        match todo {
            Todo::Tell(tell) => self.send(tell.message()).await,
            Todo::TakeOver if self.driving.is_some() => Ok(()),
            Todo::TakeOver => match self.visit.take(&self.watching, self.shared).await {
                Ok(driving) => {
                    self.drive(driving).await;
                    Ok(())
                }
                Err(refusal) => self.send(error(&refusal).message()).await,
            },
        }
    }

    /// From now on they drive.
    async fn drive(&mut self, driving: Driving) {
        self.granted = driving.printed;
        *self.driving = Some(driving);
        self.seat.drives(true);
    }

    /// They drive no more.
    async fn let_go(&mut self) {
        self.shared.let_type(None);
        self.seat.drives(false);
        if let Some(driving) = self.driving.take() {
            driving.leave(Stays::ForGrace).await;
        }
    }

    /// Something came out of the terminal they drive.
    async fn take(&mut self, event: Option<ChannelEvent>) -> Result<(), Over> {
        match event {
            Some(ChannelEvent::Output(_, bytes)) => {
                self.granted += bytes.len() as u64;
                self.lost = false;
            }
            Some(ChannelEvent::Exit(_) | ChannelEvent::TakenOver(_)) | None => {
                self.let_go().await;
                // Who has it now was told before they were known to have lost it.
                let driver = self.watching.driver().borrow().clone();
                self.tell_driver(&driver).await?;
            }
            // The end of the input shows by itself, and notices are told in their own frames.
            Some(ChannelEvent::Eof(_) | ChannelEvent::InputClosed | ChannelEvent::Notice(_)) => {}
        }
        Ok(())
    }

    /// Passes output on.
    async fn pass(&mut self) -> Result<(), Over> {
        let most = match self.driving {
            Some(_) => usize::try_from(self.granted - self.cursor).unwrap_or(AT_ONCE).min(AT_ONCE),
            None => AT_ONCE,
        };
        match self.watching.read(self.cursor, most) {
            Read::Bytes(parts) => {
                let seq = self.cursor;
                self.cursor += parts.iter().map(|part| part.len() as u64).sum::<u64>();
                self.next_at = Instant::now() + PACE;
                self.send(output(seq, &parts)).await
            }
            Read::Nothing => Ok(()),
            Read::Gone => self.catch_up(Some(self.cursor)).await,
        }
    }

    /// Makes up for what they do not have.
    async fn catch_up(&mut self, at: Option<u64>) -> Result<(), Over> {
        self.send_missing(at).await?;
        self.caught_up = self.cursor;
        Ok(())
    }

    async fn send_missing(&mut self, at: Option<u64>) -> Result<(), Over> {
        let caught_up = {
            let catching = self.watching.catch_up(at);
            tokio::select! {
                biased;
                why = &mut self.ended => return Err(Over::Login(why)),
                caught_up = catching => caught_up,
            }
        };
        match caught_up {
            Ok(CaughtUp::Bytes(bytes)) => {
                self.cursor = at.unwrap_or_default();
                let mut rest = bytes;
                while !rest.is_empty() {
                    let part = rest.split_to(rest.len().min(AT_ONCE));
                    let seq = self.cursor;
                    self.cursor += part.len() as u64;
                    self.send(output(seq, &[part])).await?;
                }
                Ok(())
            }
            Ok(CaughtUp::Screen(screen)) if screen.data.len() <= LONGEST_TOLD / 2 => {
                self.cursor = screen.seq;
                self.next_at = Instant::now() + PACE;
                let data = String::from_utf8_lossy(&screen.data).into_owned();
                let (seq, cols, rows) = (screen.seq, screen.cols, screen.rows);
                self.send(Tell::Snapshot { seq, cols, rows, data }.message()).await
            }
            Ok(CaughtUp::Screen(screen)) => self.go_on_from(screen.seq).await,
            Ok(CaughtUp::Blank(seq)) => self.go_on_from(seq).await,
            // Its end is told when it is over. Who drives hears of that before it is: what the terminal
            // has to say is taken all the same.
            Err(_) => {
                self.cursor = at.unwrap_or(self.cursor);
                self.lost = true;
                Ok(())
            }
        }
    }

    /// Goes on with an empty screen: there is none to be had.
    async fn go_on_from(&mut self, seq: u64) -> Result<(), Over> {
        self.cursor = seq;
        let WindowSize { cols, rows, .. } = self.watching.size().borrow().unwrap_or_default();
        let clear = "\x1bc".to_owned();
        self.send(Tell::Snapshot { seq, cols, rows, data: clear }.message()).await
    }

    fn status(&self) -> Status {
        let session = self.watching.session();
        let remote = self.visit.gate.engine().remote();
        match session.goes_on() {
            true if session.runner().is_none_or(|runner| remote.is_connected(runner)) => {
                Status::Running
            }
            true => Status::Disconnected,
            false => Status::Ending,
        }
    }

    async fn tell_driver(&mut self, driver: &Option<Driver>) -> Result<(), Over> {
        let me = self.visit.person.who.name();
        let is_me = driver.as_ref().is_some_and(|driver| driver.user == me);
        let you = self.driving.is_some() && is_me;
        let (user, address) = match driver {
            Some(driver) => (Some(driver.user.clone()), Some(driver.address)),
            None => (None, None),
        };
        self.send(Tell::Driver { user, address, you }.message()).await
    }

    /// Tells who is here, unless nobody else is and was. Whether nobody else is.
    async fn tell_here(&mut self, people: &[Present], was_alone: bool) -> Result<bool, Over> {
        let alone = people.len() <= 1;
        if !(alone && was_alone) {
            self.send(Tell::here(people, self.seat.number()).message()).await?;
        }
        Ok(alone)
    }

    async fn tell_size(&mut self, size: Option<WindowSize>) -> Result<(), Over> {
        match size {
            Some(WindowSize { cols, rows, .. }) => {
                self.send(Tell::Size { cols, rows }.message()).await
            }
            None => Ok(()),
        }
    }

    async fn tell_news(&mut self, now: News) -> Result<(), Over> {
        let before = std::mem::replace(&mut self.told, now.clone());
        if let Some((limit, left)) = now.warned.filter(|_| now.warnings > before.warnings) {
            self.send(Tell::LimitWarned { limit, seconds: seconds_left(left) }.message()).await?;
        }
        if now.leases > before.leases {
            self.tell_lease(false).await?;
        }
        let exceeded = now.exceeded.filter(|_| before.exceeded.is_none());
        if let Some((limit, configured, message)) = exceeded {
            self.send(Tell::LimitExceeded { limit, configured, message }.message()).await?;
        }
        if now.ending && !before.ending {
            self.send(Tell::Status { status: Status::Ending }.message()).await?;
        }
        if let Some((reason, exit)) = now.ended {
            self.pass_the_rest().await?;
            self.send(Tell::Ended { reason, exit }.message()).await?;
            return Err(Over::Ended);
        }
        Ok(())
    }

    /// Sends what was printed and not yet sent.
    async fn pass_the_rest(&mut self) -> Result<(), Over> {
        self.let_go().await;
        while let Read::Bytes(parts) = self.watching.read(self.cursor, AT_ONCE) {
            let seq = self.cursor;
            self.cursor += parts.iter().map(|part| part.len() as u64).sum::<u64>();
            self.send(output(seq, &parts)).await?;
        }
        Ok(())
    }

    /// Tells how the lease stands: at first, when it was moved, and now and then.
    async fn tell_lease(&mut self, first: bool) -> Result<(), Over> {
        let engine = self.visit.gate.engine();
        let session = self.watching.session();
        let lease = match first {
            true => engine.lease_of(session).await,
            false => engine.lease_told(session),
        };
        let Some(lease) = lease else { return Ok(()) };
        let is_news = self.lease.as_ref().is_none_or(|(at, before)| {
            at.elapsed() >= LEASE_EVERY || has_moved(before, &lease, at.elapsed())
        });
        if is_news {
            self.lease = Some((Instant::now(), lease.clone()));
            self.send(Tell::Lease(lease).message()).await?;
        }
        Ok(())
    }

    /// Looks whether the browser is still there.
    async fn look_after(&mut self, beat: u64) -> Result<(), Over> {
        self.lost = false;
        let silent = beat.saturating_sub(self.shared.heard.load(Ordering::Acquire));
        if silent > SILENT_FOR && !self.shared.busy.load(Ordering::Acquire) {
            return Err(Over::Gone);
        }
        if beat.is_multiple_of(PING_EVERY) {
            self.send(Message::Ping(Vec::new().into())).await?;
        }
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), Over> {
        tokio::select! {
            biased;
            why = &mut self.ended => Err(Over::Login(why)),
            sent = self.out.sink.send(message) => sent.map_err(|_| Over::Gone),
            () = tokio::time::sleep(PATIENCE) => Err(Over::Slow),
        }
    }
}

/// Whether somebody has moved the deadline since.
fn has_moved(before: &LeaseView, now: &LeaseView, since: Duration) -> bool {
    match (before.remaining_seconds, now.remaining_seconds) {
        (Some(before), Some(now)) => (now.0 + since).abs_diff(before.0) > MOVED,
        (before, now) => before.is_some() != now.is_some(),
    }
}

/// What comes out of the terminal they drive, once they have all that came before.
async fn next_event(driving: &mut Option<Driving>, has_all: bool) -> Option<ChannelEvent> {
    match driving {
        Some(driving) if has_all => driving.output.next().await,
        _ => std::future::pending().await,
    }
}

/// Whether a session's runner is there, when that changes.
async fn linked(link: &mut Option<watch::Receiver<bool>>) -> bool {
    if let Some(link) = link
        && link.changed().await.is_ok()
    {
        return *link.borrow_and_update();
    }
    std::future::pending().await
}

pub(super) async fn remind(reminders: &mut Option<sojourn_engine::login::Reminders>) -> Duration {
    match reminders {
        Some(reminders) => reminders.next().await.left,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use sojourn_engine::view::Seconds;

    use super::*;

    fn lease(left: u64) -> LeaseView {
        LeaseView {
            remaining_seconds: Some(Seconds(Duration::from_secs(left))),
            ..LeaseView::default()
        }
    }

    #[test]
    fn a_lease_is_news_when_its_deadline_was_moved() {
        let three = Duration::from_secs(3);
        assert!(!has_moved(&lease(60), &lease(57), three));
        assert!(has_moved(&lease(60), &lease(117), three));
        assert!(has_moved(&lease(60), &lease(50), three));
        assert!(has_moved(&lease(60), &LeaseView::default(), three));
    }
}
