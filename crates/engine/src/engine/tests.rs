//! Sessions in motion, with a runner and shims that are the test.

mod adopting;
mod house;
mod kept_frames;
mod standing;
mod unheld;

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::AddressFamily;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use sojourn_core::authz::Allow;
use sojourn_core::authz::Asker;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::extension::NoExtension;
use sojourn_core::limits::Limits;
use sojourn_core::limits::Lower;
use sojourn_core::wire::runner::Attempt;
use sojourn_core::wire::runner::FromRunner;
use sojourn_core::wire::runner::MAX_ATTEMPTS;
use sojourn_core::wire::runner::Numbered;
use sojourn_core::wire::runner::Stage;
use sojourn_core::wire::runner::decode;
use sojourn_core::wire::runner::encode;
use sojourn_core::wire::shim::Attached;
use sojourn_core::wire::shim::FRAME_COST;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::LeaseState;
use sojourn_core::wire::shim::OUTPUT_WINDOW;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::Pty;
use sojourn_core::wire::shim::ShimHello;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::ToShim;
use sojourn_core::wire::shim::WindowSize;
use sojourn_store::Store;
use tempfile::TempDir;

use super::*;
use crate::audit;
use crate::channel::Channel;
use crate::clock::ManualClock;
use crate::door::ChannelEvent;
use crate::door::ChannelRequest;
use crate::door::Cut;
use crate::door::Detached;
use crate::door::Door;
use crate::door::Refusal;
use crate::door::Stay;
use crate::extend::ExtendError;
use crate::extend::Extension;
use crate::honeypot::Pot;
use crate::honeypot::Visitor;
use crate::identity::Accounts;
use crate::identity::How;
use crate::profiles::ProfilePolicy;
use crate::seqpacket::SeqPacket;
use house::House;
use house::next;
use house::printed;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_visitor_is_nobody_and_passwords_stay_at_the_honeypot() {
    let house = House::new(10).await;
    let pot = Pot::new(1);
    let tried = Attempt { password: Some("toor".to_owned()), ..Attempt::default() };
    let stay = || Stay { attempts: vec![tried.clone(); 2 * MAX_ATTEMPTS], ..house.stay() };
    let visitor = Visitor { name: "root".to_owned(), pot: pot.clone() };
    let visit = Stay { who: Who::Visitor(visitor), ..stay() };
    let asked = async |stay: &Stay| {
        let serve = async {
            let request = house.request().await;
            let Request::Open(open) = request.body else { panic!("not an open") };
            let answer = Reply::Failed { stage: Stage::Container, message: "no".to_owned() };
            house.reply(request.id, answer, None).await;
            open
        };
        let (session, open) = tokio::join!(house.engine.open(stay.clone()), serve);
        assert!(matches!(session.unwrap_err(), Refusal::Sandbox { .. }));
        open
    };
    // Twice: the place in the pot comes back.
    for _ in 0..2 {
        let open = asked(&visit).await;
        assert!(open.honeypot && open.about.user.is_empty());
        assert_eq!(open.about.attempts.len(), MAX_ATTEMPTS);
        assert!(open.about.attempts.iter().all(|attempt| attempt.password.is_some()));
    }
    let place = pot.take().unwrap();
    let full = house.engine.open(visit).await.unwrap_err();
    assert_eq!(full.code(), "max_sessions");
    drop(place);
    let open = asked(&stay()).await;
    assert!(!open.honeypot && open.about.user == "alice");
    assert!(open.about.attempts.iter().all(|attempt| attempt.password.is_none()));
}

#[tokio::test]
async fn bytes_pass_and_the_end_is_on_record() {
    let house = House::new(4).await;
    let (session, shim) = house.open().await;
    let mut channel = shim.start(&session, 0).await;
    assert_eq!(house.kept(shim.id).await.status.name(), "running", "on record before it is used");
    shim.say(&FromShim::Output(0, Stream::Err, b"abc")).await;
    shim.say(&FromShim::Exit(0, Exit::Code(7))).await;
    let bytes = bytes::Bytes::from_static(b"abc");
    assert_eq!(channel.output.next().await, Some(ChannelEvent::Output(Stream::Err, bytes)));
    assert_eq!(channel.output.next().await, Some(ChannelEvent::Exit(Exit::Code(7))));
    assert_eq!(channel.output.next().await, None);
    session.connection_gone().await;
    shim.say(&FromShim::Ended(Box::new(shim.summary(EndReason::Exited)))).await;
    house.see_off().await;
    let end = house.kept(shim.id).await.end.unwrap();
    assert_eq!((end.reason, end.exit), (EndReason::Exited, Some(Exit::Code(7))));
    session.over().await;
    assert!(house.engine.live().is_empty());
}

#[tokio::test]
async fn a_limit_is_told_to_whoever_holds_the_session() {
    let house = House::new(4).await;
    let (session, shim) = house.open().await;
    let mut channel = shim.start(&session, 0).await;
    let left = Duration::from_secs(60);
    shim.say(&FromShim::Warned { limit: Limit::MaxRuntime, left }).await;
    let warned = channel.output.next().await;
    assert_eq!(warned, Some(ChannelEvent::Notice("Session ends in 60 s".to_owned())));
    let (reason, reached) = (EndReason::IdleTimeout, 1800);
    shim.say(&FromShim::Expired { reason, reached, configured: 1800 }).await;
    let cut = tokio::time::timeout(PATIENCE, session.cut()).await.unwrap();
    let message = "Session idle timeout (30 min) - connection closed".to_owned();
    assert_eq!(cut, Cut { message, status: 124 });
}

#[tokio::test]
async fn a_shim_that_spends_more_than_its_credit_is_killed() {
    let house = House::new(4).await;
    let (session, shim) = house.open().await;
    let _channel = shim.start(&session, 0).await;
    // Nobody takes what comes, and it sends on.
    let flood = async {
        for _ in 0..=OUTPUT_WINDOW / FRAME_COST + 100 {
            let mut bytes = Vec::new();
            FromShim::Output(0, Stream::Out, b"").encode(&mut bytes);
            if shim.link.send(&bytes).await.is_err() {
                return;
            }
        }
        std::future::pending().await
    };
    let seen = tokio::select! {
        seen = house.see_off() => seen,
        () = flood => house.see_off().await,
    };
    assert!(matches!(seen[0], Request::Kill { session } if session == shim.id), "{seen:?}");
}

#[tokio::test]
async fn a_lost_shim_is_asked_after_and_its_channels_are_told() {
    let house = House::new(4).await;
    let (session, shim) = house.open().await;
    let _channel = shim.start(&session, 0).await;
    let id = shim.id;
    let summary = shim.summary(EndReason::MaxRuntime);
    drop(shim);
    let cut = tokio::time::timeout(PATIENCE, session.cut()).await.unwrap();
    assert_eq!((cut.message.as_str(), cut.status), ("Session ended: its sandbox was lost", 143));
    let Numbered { id: number, body } = house.request().await;
    assert_eq!(body, Request::Kill { session: id });
    house.reply(number, Reply::Done, None).await;
    // The runner knows better than "lost" what became of it.
    let event = RunnerEvent::Released { session: id, summary: Some(summary) };
    house.say(&FromRunner::Event { event }, None).await;
    house.see_off().await;
    assert_eq!(house.kept(id).await.end.unwrap().reason, EndReason::MaxRuntime);
}

#[tokio::test]
async fn a_full_gateway_refuses_until_somebody_has_left() {
    let house = House::new(1).await;
    let (session, shim) = house.open().await;
    let refused = house.engine.open(house.stay()).await.unwrap_err();
    assert_eq!(refused, Refusal::GatewayFull { active: 1, max: 1, detached: Detached::default() });
    session.connection_gone().await;
    shim.say(&FromShim::Ended(Box::new(shim.summary(EndReason::Closed)))).await;
    house.see_off().await;
    session.over().await;
    let (_again, _shim) = house.open().await;
}

#[tokio::test]
async fn a_sandbox_that_failed_names_its_stage() {
    let house = House::new(1).await;
    let fail = async {
        let request = house.request().await;
        let body = Reply::Failed { stage: Stage::RootFs, message: "no space".to_owned() };
        house.reply(request.id, body, None).await;
    };
    let (refused, ()) = tokio::join!(house.engine.open(house.stay()), fail);
    let line = refused.unwrap_err().to_string();
    assert_eq!(line, "no sandbox could be had (stage: root file system): no space");
    let (_session, _shim) = house.open().await;
}

#[tokio::test]
async fn a_terminal_waits_for_its_person_and_an_exec_does_not() {
    let house = House::new(1).await;
    let (session, shim) = house.open().await;
    shim.greet(&[]).await;
    let terminal = shim.terminal(&session, 0).await;
    let _exec = shim.start(&session, 1).await;
    session.connection_gone().await;
    assert_eq!(shim.hear_kind(0x0f).await[1..3], [0, 0], "detached");
    assert_eq!(shim.hear_kind(0x08).await[1..3], [0, 1], "closed");
    assert!(terminal.input.send(b"x").await.is_err(), "it is theirs no more");
    let refused = house.engine.open(house.stay()).await.unwrap_err().to_string();
    let named = format!("Detached: {0}; come back with \"ssh -t alice+@{0}@", shim.id.short());
    assert!(refused.contains(&named), "{refused}");
    let back = house.engine.come_back(&house.stay(), &shim.id.short()).await.unwrap();
    let mut channel = shim.attach(&back, 0).await;
    assert_eq!(next(&mut channel).await, printed(b"new"), "nothing of before");
    channel.input.send(b"typed").await.unwrap();
    assert_eq!(shim.hear_kind(0x03).await[3..], *b"typed");
    shim.say(&FromShim::Exit(1, Exit::Code(0))).await;
    shim.say(&FromShim::Exit(0, Exit::Code(0))).await;
    assert_eq!(next(&mut channel).await, ChannelEvent::Exit(Exit::Code(0)));
    back.connection_gone().await;
    let end = shim.hear_kind(0x0a).await;
    assert!(String::from_utf8_lossy(&end).contains("exited"), "{end:?}");
}

#[tokio::test]
async fn a_second_connection_takes_a_terminal_over() {
    let house = House::new(1).await;
    let (session, shim) = house.open().await;
    shim.greet(&[]).await;
    let mut first = shim.terminal(&session, 0).await;
    let back = house.engine.come_back(&house.stay(), "").await.unwrap();
    let mut second = shim.attach(&back, 0).await;
    let message = "Session taken over by alice from 192.0.2.7".to_owned();
    let taken = ChannelEvent::TakenOver(Cut { message, status: 143 });
    assert_eq!(next(&mut first).await, taken);
    assert_eq!(first.output.next().await, None);
    first.input.close().await;
    assert!(first.input.send(b"late").await.is_err());
    assert_eq!(next(&mut second).await, printed(b"new"));
    second.input.send(b"mine").await.unwrap();
    let heard = shim.link.recv(|bytes, _| bytes.to_vec()).await.unwrap().unwrap();
    assert_eq!(heard[..], *b"\x03\0\0mine", "nothing of the first one's came between");
    session.connection_gone().await;
    shim.say(&FromShim::Output(0, Stream::Out, b"still")).await;
    assert_eq!(next(&mut second).await, printed(b"still"));
}

#[tokio::test]
async fn nobody_back_in_time_ends_it() {
    let house = House::with(4, |limits| limits.detach_grace = Duration::from_millis(20)).await;
    let (session, shim) = house.open().await;
    shim.greet(&[]).await;
    let _terminal = shim.terminal(&session, 0).await;
    session.connection_gone().await;
    shim.hear_kind(0x0f).await;
    let early = tokio::time::timeout(Duration::from_millis(100), shim.hear_kind(0x0a)).await;
    assert!(early.is_err(), "the clock stands still");
    house.clock.advance(Duration::from_millis(20));
    let end = shim.hear_kind(0x0a).await;
    assert!(String::from_utf8_lossy(&end).contains("closed"), "{end:?}");
    let back = house.engine.come_back(&house.stay(), "").await.unwrap_err();
    assert_eq!(back.to_string(), "you have no running session to come back to");
}

#[tokio::test]
async fn without_a_grace_nothing_waits() {
    let house = House::with(4, |limits| limits.detach_grace = Duration::ZERO).await;
    let (session, shim) = house.open().await;
    shim.greet(&[]).await;
    let _terminal = shim.terminal(&session, 0).await;
    session.connection_gone().await;
    let end = shim.hear_kind(0x0a).await;
    assert!(String::from_utf8_lossy(&end).contains("closed"), "{end:?}");
}

#[tokio::test]
async fn a_channel_its_client_closed_does_not_wait() {
    let house = House::new(4).await;
    let (session, shim) = house.open().await;
    shim.greet(&[]).await;
    let terminal = shim.terminal(&session, 0).await;
    terminal.input.close().await;
    shim.hear_kind(0x08).await;
    session.connection_gone().await;
    let end = shim.hear_kind(0x0a).await;
    assert!(String::from_utf8_lossy(&end).contains("closed"), "{end:?}");
}

#[tokio::test]
async fn which_session_is_meant_is_said_clearly() {
    let house = House::new(4).await;
    let (one, a) = house.open().await;
    let (_two, b) = house.open().await;
    let (_not_greeted, _c) = house.open().await;
    a.greet(&[]).await;
    b.greet(&[]).await;
    let _terminal = a.terminal(&one, 0).await;
    one.connection_gone().await;
    a.hear_kind(0x0f).await;
    let (first, second) = (a.id.short(), b.id.short());
    let asked = async |typed: &str| {
        let refused = house.engine.come_back(&house.stay(), typed).await;
        refused.map(|session| session.id()).map_err(|refusal| refusal.to_string())
    };
    let list = format!("{first} (detached), {second}");
    assert_eq!(asked("").await, Err(format!("you have 2 running sessions; name one: {list}")));
    let none = format!("no running session of yours ends in \"zz\\nzz\": {list}");
    assert_eq!(asked("zz\nzz").await, Err(none));
    assert!(asked("1").await.unwrap_err().starts_with("write at least the last 4 characters"));
    assert_eq!(asked(&first[4..]).await, Ok(a.id));
    let mut bob = house.stay();
    let nobody = Principal { id: sojourn_core::ids::UserId::new(), ..house.principal.clone() };
    bob.who = Who::User(nobody);
    let refused = house.engine.come_back(&bob, &first).await.unwrap_err();
    assert_eq!(refused, Refusal::Account, "an account that is none");
}

#[tokio::test]
async fn an_extension_is_on_record_told_and_bounded() {
    let house = House::new(4).await;
    let (session, shim) = house.open().await;
    shim.greet(&[]).await;
    let mut channel = shim.terminal(&session, 0).await;
    let hour = Duration::from_secs(3600);
    let asker = house.principal.asker();
    let extension = |by, asker| Extension {
        by,
        who: EndedBy::new("alice", Some("late")),
        asker,
        actor: Actor::SYSTEM,
    };
    let answer = async |remaining| {
        shim.hear_kind(0x0b).await;
        let lease = LeaseState {
            limits: Limits::default(),
            remaining,
            idle_remaining: None,
            idle: Duration::ZERO,
            output_bytes: 0,
        };
        shim.say(&FromShim::Lease(Box::new(lease))).await;
    };
    let wanted = extension(hour, asker);
    let (refused, ()) = tokio::join!(house.engine.extend(shim.id, &wanted), answer(Some(hour / 2)));
    assert!(matches!(refused, Err(ExtendError::No(_))), "an owner within the policy: {refused:?}");
    let wanted = extension(hour / 2, asker);
    let (extended, ()) =
        tokio::join!(house.engine.extend(shim.id, &wanted), answer(Some(hour / 2)));
    assert_eq!(extended.unwrap().left, hour);
    let moved = shim.hear_kind(0x09).await;
    assert_eq!(ToShim::decode(&moved).unwrap(), ToShim::MoveDeadline(hour));
    let line = "Session extended by alice: ends in 1 h".to_owned();
    let told = tokio::time::timeout(PATIENCE, channel.output.next()).await.unwrap();
    assert_eq!(told, Some(ChannelEvent::Notice(line)));
    let beyond = extension(hour * 24, Asker::Local);
    let (extended, ()) = tokio::join!(house.engine.extend(shim.id, &beyond), answer(Some(hour)));
    assert_eq!(extended.unwrap().left, hour * 25);
    let (refused, ()) = tokio::join!(house.engine.extend(shim.id, &beyond), answer(None));
    assert_eq!(refused, Err(ExtendError::No(NoExtension::NoDeadline)));
    let stranger = Asker::User(UserId::new(), sojourn_core::authz::Role::Member);
    let refused = house.engine.extend(shim.id, &extension(hour, stranger)).await;
    assert_eq!(refused, Err(ExtendError::Unknown), "as if it were not there");
    let auditor = Asker::User(UserId::new(), sojourn_core::authz::Role::Auditor);
    let refused = house.engine.extend(shim.id, &extension(hour, auditor)).await;
    assert_eq!(refused, Err(ExtendError::Forbidden));
    let refused = house.engine.extend(SessionId::new(), &extension(hour, asker)).await;
    assert_eq!(refused, Err(ExtendError::Unknown));
}
