//! Runners and their connections, with peers that are the test.

use std::collections::HashMap;
use std::sync::Mutex;

use sojourn_core::authz::Role;
use sojourn_core::status::Status;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::FromRunner;
use sojourn_core::wire::relay::Harness;
use sojourn_core::wire::relay::Machine;
use sojourn_core::wire::relay::Person;
use sojourn_core::wire::relay::Running;
use sojourn_core::wire::relay::VERSION;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::audit;
use crate::clock::ManualClock;
use crate::engine::lock;
use crate::identity::Accounts;
use crate::tokens::Wanted;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct House {
    dir: TempDir,
    clock: Arc<ManualClock>,
    audit: AuditHandle,
    tokens: Tokens,
    remote: Remote,
    sessions: Arc<Sessions>,
    alice: UserId,
}

/// Sessions as those keep them that hear: whose they are, and how many events of each there are.
#[derive(Default)]
struct Sessions {
    kept: Mutex<HashMap<SessionId, (RunnerId, Seq)>>,
    lost: Mutex<Vec<RunnerId>>,
    gone: Mutex<bool>,
}

impl Hears for Sessions {
    fn removed(&self, _runner: RunnerId) {}

    fn hello<'a>(
        &'a self,
        runner: &'a RunnerView,
        hello: &'a Hello,
    ) -> Later<'a, Result<Vec<Stored>, StoreError>> {
        Box::pin(async move {
            if *lock(&self.gone) {
                return Err(StoreError::Impossible("a store that is gone"));
            }
            let kept = lock(&self.kept);
            let told = hello.sessions.iter().filter_map(|running| {
                let (owner, seq) = kept.get(&running.session)?;
                let session = running.session;
                (*owner == runner.id).then_some(Stored { session, seq: *seq, offset: 0 })
            });
            Ok(told.collect())
        })
    }

    fn events(&self, runner: RunnerId, events: Vec<Sequenced>) -> Later<'_, Vec<Heard>> {
        Box::pin(async move {
            let mut answers: Vec<(SessionId, Heard)> = Vec::new();
            for event in events {
                let session = event.session;
                let heard = match lock(&self.kept).get_mut(&session) {
                    Some((owner, seq)) if *owner == runner => {
                        if event.seq == *seq + 1 {
                            *seq = event.seq;
                        }
                        match event.seq > *seq {
                            true => Heard::Gap { session, from: *seq + 1 },
                            false => Heard::Stored(Stored { session, seq: *seq, offset: 0 }),
                        }
                    }
                    _ => Heard::NotTheirs(session),
                };
                answers.retain(|(of, _)| *of != session);
                answers.push((session, heard));
            }
            answers.into_iter().map(|(_, heard)| heard).collect()
        })
    }

    fn lost(&self, runner: RunnerId) {
        lock(&self.lost).push(runner);
    }
}

/// A runner's end of a connection.
struct Peer {
    to: mpsc::Sender<Frame>,
    from: mpsc::Receiver<Frame>,
    served: JoinHandle<Closing>,
}

impl House {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let clock = Arc::new(ManualClock::new());
        let options = audit::AuditOptions {
            data_dir: dir.path().to_owned(),
            on_failure: audit::OnFailure::Refuse,
        };
        let (audit, writer) = audit::start(&options, store.clone(), clock.clone()).await.unwrap();
        tokio::spawn(writer.run(CancellationToken::new()));
        let accounts = Accounts::new(store.clone(), clock.clone(), dir.path().to_owned());
        let alice = accounts.add("alice", Role::Member, None, Actor::local(0)).await.unwrap();
        let tokens = Tokens::new(store.clone(), audit.clone(), clock.clone());
        let remote = Remote::new(Parts {
            store,
            tokens: tokens.clone(),
            audit: audit.clone(),
            clock: clock.clone(),
        });
        let sessions = Arc::new(Sessions::default());
        remote.heard_by(sessions.clone());
        Self { dir, clock, audit, tokens, remote, sessions, alice }
    }

    /// Enrols a runner.
    async fn runner(&self, name: &str) -> RunnerId {
        let wanted = Wanted {
            name: name.to_owned(),
            scopes: Default::default(),
            expires_at: None,
            runner: Some(name.to_owned()),
        };
        let made = self.tokens.create(self.alice, wanted, &Actor::local(0)).await;
        made.unwrap().1.id.into()
    }

    /// A session on record that is this runner's.
    fn session(&self, runner: RunnerId) -> SessionId {
        let id = SessionId::new();
        lock(&self.sessions.kept).insert(id, (runner, 0));
        id
    }

    /// A connection on which nothing was said yet.
    fn dial(&self, runner: RunnerId) -> Peer {
        let (to, incoming) = mpsc::channel(FRAMES);
        let (outgoing, from) = mpsc::channel(8);
        let address = "192.0.2.7".parse().unwrap();
        let coming = Coming { runner, address, program: "test".to_owned() };
        let remote = self.remote.clone();
        let wire = Wire { incoming, outgoing };
        let served = tokio::spawn(async move { remote.serve(coming, wire).await });
        Peer { to, from, served }
    }

    /// A connection that is welcome.
    async fn connect(&self, runner: RunnerId, sessions: &[SessionId]) -> (Peer, Vec<Stored>) {
        let mut peer = self.dial(runner);
        peer.say(&FromRunner::Hello(Box::new(hello(sessions)))).await;
        match peer.told().await {
            ToRunner::Welcome { have, .. } => (peer, have),
            other => panic!("{other:?}"),
        }
    }

    async fn view(&self, runner: RunnerId) -> RunnerView {
        self.remote.get(runner).await.unwrap().unwrap()
    }

    /// What is on record of runners, in order.
    async fn told(&self) -> Vec<(String, String)> {
        self.audit.settled().await.unwrap();
        let mut reader = audit::LogReader::open(&self.dir.path().join(audit::DIR)).unwrap();
        let lines = std::iter::from_fn(|| reader.next_line().unwrap());
        let entries = lines.map(|line| line.entry().unwrap());
        let of_runners = entries.filter(|entry| entry.action.starts_with("runner_"));
        let reason = |details: &serde_json::Map<String, serde_json::Value>| {
            details.get("reason").and_then(|reason| reason.as_str()).unwrap_or("").to_owned()
        };
        of_runners.map(|entry| (entry.action.clone(), reason(&entry.details))).collect()
    }
}

impl Peer {
    async fn say(&self, message: &FromRunner) {
        self.to.send(Frame::Text(message.encode())).await.unwrap();
    }

    async fn happen(&self, session: SessionId, seq: Seq) {
        self.tell(session, seq, Event::Status { status: Status::Running }).await;
    }

    async fn tell(&self, session: SessionId, seq: Seq, event: Event) {
        let event = Sequenced { session, epoch: 1, seq, at: Wall(0), event };
        self.say(&FromRunner::Event(Box::new(event))).await;
    }

    async fn told(&mut self) -> ToRunner {
        match timeout(PATIENCE, self.from.recv()).await.unwrap() {
            Some(Frame::Text(text)) => ToRunner::decode(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn command(&mut self) -> sojourn_core::wire::relay::CommandId {
        match self.told().await {
            ToRunner::Command { command, .. } => command,
            other => panic!("{other:?}"),
        }
    }

    async fn closed(self) -> Closing {
        timeout(PATIENCE, self.served).await.unwrap().unwrap()
    }
}

fn hello(sessions: &[SessionId]) -> Hello {
    let running = |session: &SessionId| Running {
        session: *session,
        epoch: 1,
        head: 0,
        offset: 0,
        status: Status::Running,
        asks: Vec::new(),
    };
    Hello {
        version: VERSION,
        build: "test".to_owned(),
        machine: Machine { host: "box".into(), os: "linux".into(), arch: "x86_64".into() },
        harnesses: vec![Harness {
            name: "claude".to_owned(),
            available: true,
            version: None,
            note: None,
        }],
        directories: vec!["/home/alice/src".to_owned()],
        sessions: sessions.iter().map(running).collect(),
    }
}

fn interrupt() -> Command {
    Command::Interrupt { by: Person { user: "alice".to_owned(), address: None } }
}

/// Waits until something is so.
async fn until_it_is(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test]
async fn a_runner_is_known_by_what_it_said_and_is_on_record() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    assert!(!house.view(runner).await.connected);
    let (peer, have) = house.connect(runner, &[SessionId::new()]).await;
    assert_eq!(have, [], "a session that nobody knows is ended by the runner");
    let view = house.remote.find(house.alice, "laptop").await.unwrap().unwrap();
    assert!(view.connected && view.has("claude") && !view.has("codex"));
    assert_eq!((view.id, view.seen_from.as_deref()), (runner, Some("192.0.2.7")));
    assert_eq!((view.sessions, house.remote.connected()), (0, 1));
    drop(peer.to);
    assert_eq!(timeout(PATIENCE, peer.served).await.unwrap().unwrap(), Closing::Broken);
    let view = house.view(runner).await;
    assert!(!view.connected && view.has("claude"), "what it said last is still known");
    let told = house.told().await;
    let expected = [("runner_connected", ""), ("runner_disconnected", "broken")];
    assert_eq!(told, expected.map(|(action, reason)| (action.to_owned(), reason.to_owned())));
    assert_eq!(*lock(&house.sessions.lost), [runner]);
}

#[tokio::test]
async fn flaw_18_case_07_a_late_close_of_a_connection_that_was_replaced_changes_nothing() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    let sessions: Vec<SessionId> = (0..2).map(|_| house.session(runner)).collect();
    let _slots: Vec<Slot> =
        sessions.iter().map(|session| house.remote.keep_slot(runner, *session)).collect();
    let mut olds = Vec::new();
    let (mut current, _) = house.connect(runner, &sessions).await;
    for _ in 0..50 {
        let (next, have) = house.connect(runner, &sessions).await;
        assert_eq!(have.len(), 2);
        // Half-open: nobody has closed the old one at its other end.
        olds.push(std::mem::replace(&mut current, next));
    }
    for old in olds {
        assert_eq!(old.closed().await, Closing::Replaced);
    }
    assert!(house.view(runner).await.connected);
    assert_eq!(*lock(&house.sessions.lost), [], "it was there all the time");
    let third = house.remote.take_slot(runner, SessionId::new()).unwrap();
    let full = house.remote.take_slot(runner, SessionId::new()).unwrap_err();
    assert_eq!(full, NoSlot::Full { max: 3 });
    drop(third);
    current.happen(sessions[0], 1).await;
    let stored = Stored { session: sessions[0], seq: 1, offset: 0 };
    assert_eq!(current.told().await, ToRunner::Ack(stored), "the last one is heard");
}

#[tokio::test]
async fn flaw_15_slots_are_what_hello_says_and_are_not_reset_by_it() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    let sessions: Vec<SessionId> = (0..3).map(|_| house.session(runner)).collect();
    // The gateway was restarted: nobody here holds a slot, but the runner runs three sessions.
    let (peer, _) = house.connect(runner, &sessions).await;
    let full = NoSlot::Full { max: 3 };
    assert_eq!(house.remote.take_slot(runner, SessionId::new()).unwrap_err(), full);
    let (again, _) = house.connect(runner, &sessions).await;
    assert_eq!(peer.closed().await, Closing::Replaced);
    assert_eq!(house.remote.take_slot(runner, SessionId::new()).unwrap_err(), full);
    let over = Event::Ended {
        reason: sojourn_core::end::EndReason::Exited,
        exit: None,
        output_bytes: 0,
        message: None,
        recovery: None,
    };
    again.tell(sessions[0], 1, over).await;
    until_it_is("a slot", async || house.remote.take_slot(runner, SessionId::new()).is_ok()).await;
    // One that was taken for a session the runner has not heard of yet counts over a break.
    let _taken = house.remote.take_slot(runner, SessionId::new()).unwrap();
    let (_peer, _) = house.connect(runner, &sessions[1..]).await;
    assert_eq!(house.remote.take_slot(runner, SessionId::new()).unwrap_err(), full);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_twenty_who_want_one_of_three_slots_at_once_three_get_one() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    let (_peer, _) = house.connect(runner, &[]).await;
    let take = || {
        let remote = house.remote.clone();
        tokio::spawn(async move { remote.take_slot(runner, SessionId::new()) })
    };
    let asked: Vec<_> = (0..20).map(|_| take()).collect();
    let mut taken = Vec::new();
    for slot in asked {
        taken.push(slot.await.unwrap());
    }
    assert_eq!(taken.iter().filter(|slot| slot.is_ok()).count(), 3);
    let full = |slot: &&Result<Slot, NoSlot>| matches!(slot, Err(NoSlot::Full { max: 3 }));
    assert_eq!(taken.iter().filter(full).count(), 17);
    taken.clear();
    assert_eq!(house.view(runner).await.sessions, 0, "they are back");
}

#[tokio::test]
async fn flaw_04_a_runner_is_not_heard_about_the_sessions_of_another() {
    let house = House::new().await;
    let (laptop, desktop) = (house.runner("laptop").await, house.runner("desktop").await);
    let (theirs, own) = (house.session(desktop), house.session(laptop));
    let (mut peer, have) = house.connect(laptop, &[theirs, own]).await;
    assert_eq!(have, [Stored { session: own, seq: 0, offset: 0 }]);
    peer.happen(theirs, 1).await;
    peer.happen(own, 1).await;
    let stored = Stored { session: own, seq: 1, offset: 0 };
    assert_eq!(peer.told().await, ToRunner::Ack(stored), "nothing is said of the other's");
    assert_eq!(lock(&house.sessions.kept)[&theirs], (desktop, 0));
    let mut said = 0;
    while !peer.to.is_closed() && said < 5000 {
        let event = Event::Status { status: Status::Running };
        let event = Sequenced { session: theirs, epoch: 1, seq: 1, at: Wall(0), event };
        let frame = Frame::Text(FromRunner::Event(Box::new(event)).encode());
        let _closed = peer.to.send(frame).await;
        said += 1;
    }
    assert_eq!(peer.closed().await, Closing::Malformed, "and not for ever");
}

#[tokio::test]
async fn case_02_what_is_missing_is_asked_for_and_what_came_twice_counts_once() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    let session = house.session(runner);
    let (mut peer, _) = house.connect(runner, &[session]).await;
    peer.happen(session, 2).await;
    assert_eq!(peer.told().await, ToRunner::Resend { session, from: 1 });
    for seq in [1, 2] {
        peer.happen(session, seq).await;
    }
    let all = Stored { session, seq: 2, offset: 0 };
    while peer.told().await != ToRunner::Ack(all) {}
    peer.happen(session, 1).await;
    assert_eq!(peer.told().await, ToRunner::Ack(all));
    let (_peer, have) = house.connect(runner, &[session]).await;
    assert_eq!(have, [all], "after a break it goes on from there");
}

#[tokio::test]
async fn case_02_a_command_is_sent_again_under_its_number_until_there_is_a_receipt() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    let session = house.session(runner);
    let (mut peer, _) = house.connect(runner, &[session]).await;
    let remote = house.remote.clone();
    let asked = tokio::spawn(async move { remote.command(runner, session, interrupt()).await });
    let first = peer.command().await;
    drop(peer.to);
    timeout(PATIENCE, peer.served).await.unwrap().unwrap();
    let (mut peer, _) = house.connect(runner, &[session]).await;
    assert_eq!(peer.command().await, first, "the same one");
    peer.say(&FromRunner::Receipt { command: first, outcome: Receipt::Duplicate }).await;
    assert_eq!(timeout(PATIENCE, asked).await.unwrap().unwrap(), Ok(Receipt::Duplicate));
    let (mut peer, _) = house.connect(runner, &[session]).await;
    peer.say(&FromRunner::Ping).await;
    assert_eq!(peer.told().await, ToRunner::Pong, "and then not any more");
}

#[tokio::test]
async fn a_command_waits_for_its_receipt_so_long_and_no_longer() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    let session = house.session(runner);
    let away = house.remote.command(runner, session, interrupt()).await;
    assert_eq!(away, Err(Unreachable::Away), "nobody waits for one that is not there");
    let (mut peer, _) = house.connect(runner, &[session]).await;
    let remote = house.remote.clone();
    let asked = tokio::spawn(async move { remote.command(runner, session, interrupt()).await });
    peer.command().await;
    house.clock.advance(WAIT);
    assert_eq!(timeout(PATIENCE, asked).await.unwrap().unwrap(), Err(Unreachable::Silent));
}

#[tokio::test]
async fn commands_on_their_way_are_bounded() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    let (_peer, _) = house.connect(runner, &[]).await;
    let waiting: Vec<_> = (0..registry::MAX_COMMANDS)
        .map(|_| {
            let remote = house.remote.clone();
            let session = SessionId::new();
            tokio::spawn(async move { remote.command(runner, session, interrupt()).await })
        })
        .collect();
    let registry = &house.remote.inner.registry;
    until_it_is("a full queue", async || registry.waiting(runner) == registry::MAX_COMMANDS).await;
    let one_more = house.remote.command(runner, SessionId::new(), interrupt()).await;
    assert_eq!(one_more, Err(Unreachable::Busy));
    waiting.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn case_07_who_says_nothing_at_all_for_45_seconds_is_gone() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    let (mut peer, _) = house.connect(runner, &[]).await;
    for _ in 0..20 {
        house.clock.advance(Duration::from_secs(15));
        assert_eq!(peer.told().await, ToRunner::Ping);
        peer.say(&FromRunner::Pong).await;
        peer.say(&FromRunner::Ping).await;
        assert_eq!(peer.told().await, ToRunner::Pong, "whoever answers stays");
    }
    for _ in 0..2 {
        house.clock.advance(Duration::from_secs(15));
        assert_eq!(peer.told().await, ToRunner::Ping);
    }
    house.clock.advance(Duration::from_millis(14_999));
    assert!(!peer.served.is_finished() && house.view(runner).await.connected);
    house.clock.advance(Duration::from_millis(1));
    assert_eq!(peer.closed().await, Closing::Silent);
    assert!(!house.view(runner).await.connected);
}

#[tokio::test]
async fn a_machine_that_slept_asks_before_it_takes_anybody_for_dead() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    let (mut peer, _) = house.connect(runner, &[]).await;
    house.clock.advance(Duration::from_secs(8 * 3600));
    assert_eq!(peer.told().await, ToRunner::Ping);
    peer.say(&FromRunner::Pong).await;
    house.clock.advance(Duration::from_secs(15));
    assert_eq!(peer.told().await, ToRunner::Ping);
    assert!(house.view(runner).await.connected);
}

#[tokio::test]
async fn a_revoked_token_ends_the_connection_for_good() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    let (mut peer, _) = house.connect(runner, &[]).await;
    house.tokens.revoke(runner.into(), None, &Actor::local(0)).await.unwrap();
    house.remote.revoked(runner);
    match peer.told().await {
        ToRunner::Refused { code, for_good: true, .. } => assert_eq!(code, "revoked"),
        other => panic!("{other:?}"),
    }
    assert_eq!(peer.closed().await, Closing::Revoked);
    assert!(house.remote.get(runner).await.unwrap().is_none());
    let mut again = house.dial(runner);
    again.say(&FromRunner::Hello(Box::new(hello(&[])))).await;
    assert!(matches!(again.told().await, ToRunner::Refused { for_good: true, .. }));
    assert_eq!(again.closed().await, Closing::Revoked);
}

#[tokio::test]
async fn a_token_that_another_program_revoked_is_noticed() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    let (peer, _) = house.connect(runner, &[]).await;
    house.tokens.revoke(runner.into(), None, &Actor::local(0)).await.unwrap();
    assert_eq!(peer.closed().await, Closing::Revoked);
}

#[tokio::test]
async fn a_version_that_is_too_old_is_refused_for_good_and_a_later_one_is_spoken_as_ours() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    let mut old = house.dial(runner);
    old.say(&FromRunner::Hello(Box::new(Hello { version: 0, ..hello(&[]) }))).await;
    match old.told().await {
        ToRunner::Refused { code, for_good: true, .. } => assert_eq!(code, "version"),
        other => panic!("{other:?}"),
    }
    let mut new = house.dial(runner);
    new.say(&FromRunner::Hello(Box::new(Hello { version: VERSION + 7, ..hello(&[]) }))).await;
    match new.told().await {
        ToRunner::Welcome { version, .. } => assert_eq!(version, VERSION),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_runner_is_sent_away_while_the_store_is_gone_and_ends_nothing_for_it() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    *lock(&house.sessions.gone) = true;
    let mut peer = house.dial(runner);
    peer.say(&FromRunner::Hello(Box::new(hello(&[house.session(runner)])))).await;
    match peer.told().await {
        ToRunner::Refused { for_good: false, .. } => {}
        other => panic!("a welcome without its sessions ends them: {other:?}"),
    }
    assert_eq!(peer.closed().await, Closing::Store);
}

#[tokio::test]
async fn nothing_but_hello_comes_first_and_nothing_that_makes_no_sense_later() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    for first in ["", "{", "{\"type\":\"ping\"}", "{\"type\":\"hello\"}"] {
        let peer = house.dial(runner);
        peer.to.send(Frame::Text(first.to_owned())).await.unwrap();
        assert_eq!(peer.closed().await, Closing::Malformed, "{first:?}");
    }
    for then in ["", "[]", "{\"type\":\"hello\"}", "{\"type\":\"event\",\"seq\":0}"] {
        let (peer, _) = house.connect(runner, &[]).await;
        peer.to.send(Frame::Text(then.to_owned())).await.unwrap();
        assert_eq!(peer.closed().await, Closing::Malformed, "{then:?}");
    }
    let (peer, _) = house.connect(runner, &[]).await;
    peer.to.send(Frame::Binary(bytes::Bytes::from_static(b"short"))).await.unwrap();
    assert_eq!(peer.closed().await, Closing::Malformed);
}

#[tokio::test]
async fn a_paused_runner_keeps_its_sessions_and_takes_no_new_one() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    let (mut peer, _) = house.connect(runner, &[]).await;
    let _held = house.remote.take_slot(runner, SessionId::new()).unwrap();
    assert!(house.remote.pause(runner, true).await.unwrap());
    assert_eq!(peer.told().await, ToRunner::Pause { paused: true });
    let refused = house.remote.take_slot(runner, SessionId::new()).unwrap_err();
    assert_eq!(refused, NoSlot::Paused);
    assert_eq!(house.view(runner).await.sessions, 1);
    let mut again = house.dial(runner);
    again.say(&FromRunner::Hello(Box::new(hello(&[])))).await;
    assert!(matches!(again.told().await, ToRunner::Welcome { paused: true, .. }), "it is kept");
    assert!(house.remote.pause(runner, false).await.unwrap());
    assert!(house.remote.take_slot(runner, SessionId::new()).is_ok());
    assert!(!house.remote.pause(RunnerId::new(), true).await.unwrap(), "there is none");
}

#[tokio::test]
async fn nobody_has_a_slot_on_a_runner_that_is_away() {
    let house = House::new().await;
    let runner = house.runner("laptop").await;
    assert_eq!(house.remote.take_slot(runner, SessionId::new()).unwrap_err(), NoSlot::Away);
    let (peer, _) = house.connect(runner, &[]).await;
    house.remote.shut_down();
    assert_eq!(peer.closed().await, Closing::Shutdown);
    assert_eq!(house.remote.take_slot(runner, SessionId::new()).unwrap_err(), NoSlot::Away);
}
