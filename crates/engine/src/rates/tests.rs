//! Rates, with a clock that stands until it is moved.

use std::sync::Arc;

use sojourn_store::Store;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::audit;
use crate::audit::LogReader;
use crate::audit::OnFailure;
use crate::clock::ManualClock;

struct House {
    rates: Rates,
    clock: Arc<ManualClock>,
    audit: AuditHandle,
    dir: TempDir,
}

impl House {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let clock = Arc::new(ManualClock::new());
        let options =
            audit::AuditOptions { data_dir: dir.path().to_owned(), on_failure: OnFailure::Refuse };
        let (audit, writer) = audit::start(&options, store, clock.clone()).await.unwrap();
        tokio::spawn(writer.run(CancellationToken::new()));
        let rates = Rates::new(clock.clone(), audit.clone(), Metrics::new());
        Self { rates, clock, audit, dir }
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// The limits that are on record as exceeded.
    async fn on_record(&self) -> Vec<String> {
        self.audit.settled().await.unwrap();
        let mut reader = LogReader::open(&self.dir.path().join(audit::DIR)).unwrap();
        let mut limits = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            let event = line.entry().unwrap();
            assert_eq!(event.action, Action::LimitExceeded.name());
            limits.push(event.details["limit"].as_str().unwrap().to_owned());
        }
        limits
    }
}

fn at(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn wait<T: fmt::Debug>(result: Result<T, Refused>) -> u64 {
    result.map_or_else(|refused| refused.retry_after.as_secs(), |_| 0)
}

#[tokio::test]
async fn a_start_is_admitted_by_user_and_address_or_by_neither() {
    let house = House::new().await;
    let (alice, bob) = (Some(UserId::new()), Some(UserId::new()));
    let (home, work) = (Some(at("192.0.2.1")), Some(at("2001:db8::1")));
    let start = |user, address| house.rates.start(user, address, &Actor::SYSTEM);
    for _ in 0..5 {
        assert_eq!(wait(start(alice, home)), 0);
        house.pass(1);
    }
    for _ in 0..50 {
        assert_eq!(wait(start(alice, work)), 55, "the user has had five");
        assert_eq!(wait(start(bob, home)), 55, "the address has had five");
    }
    for _ in 0..5 {
        assert_eq!(wait(start(bob, work)), 0, "what was refused above cost neither anything");
    }
    assert_eq!(wait(start(None, Some(at("2001:db8::ffff")))), 60, "the same /64");
    assert_eq!(wait(start(None, None)), 0, "this machine's own socket");
    house.pass(55);
    assert_eq!(wait(start(alice, home)), 0);
    assert_eq!(wait(start(alice, home)), 1);
}

#[tokio::test]
async fn what_is_given_back_does_not_count_and_none_is_no_limit() {
    let house = House::new().await;
    let (alice, home) = (Some(UserId::new()), Some(at("192.0.2.1")));
    let start = || house.rates.start(alice, home, &Actor::SYSTEM);
    for _ in 0..100 {
        start().unwrap().give_back();
    }
    house.rates.set(RateLimits { starts_per_minute: 1, ..RateLimits::default() });
    drop(start().unwrap());
    assert_eq!(
        start().unwrap_err().to_string(),
        "too often: starts_per_minute is 1; try again in 60 s"
    );
    house.rates.set(RateLimits { starts_per_minute: 0, ..RateLimits::default() });
    for _ in 0..100 {
        drop(start().unwrap());
    }
}

#[tokio::test]
async fn a_session_takes_sixty_messages_in_any_minute() {
    let house = House::new().await;
    let (one, other) = (SessionId::new(), SessionId::new());
    for _ in 0..60 {
        house.rates.message(one, &Actor::SYSTEM).unwrap();
    }
    house.pass(59);
    assert_eq!(wait(house.rates.message(one, &Actor::SYSTEM)), 1);
    assert_eq!(wait(house.rates.message(other, &Actor::SYSTEM)), 0);
}

#[tokio::test]
async fn one_refusal_a_minute_and_key_is_on_record() {
    let house = House::new().await;
    house.rates.set(RateLimits {
        starts_per_minute: 1,
        unknown_tokens_per_minute: 2,
        ..RateLimits::default()
    });
    let (alice, bob) = (Some(UserId::new()), Some(UserId::new()));
    for _ in 0..50 {
        let _spent = house.rates.start(alice, None, &Actor::SYSTEM);
        let _spent = house.rates.unknown_token(at("192.0.2.1"), &Actor::SYSTEM);
    }
    let mut recorded = house.on_record().await;
    recorded.sort();
    assert_eq!(recorded, ["starts_per_minute", "unknown_tokens_per_minute"]);
    for _ in 0..3 {
        let _spent = house.rates.start(bob, None, &Actor::SYSTEM);
    }
    assert_eq!(house.on_record().await.len(), 3, "another key");
    house.pass(60);
    for _ in 0..3 {
        let _spent = house.rates.start(alice, None, &Actor::SYSTEM);
    }
    assert_eq!(house.on_record().await.len(), 4, "another minute");
    let text = house.rates.inner.metrics.text();
    // Of alice 49 and 2, of bob 2.
    assert!(text.contains("sojourn_limits_hit_total{limit=\"starts_per_minute\"} 53\n"), "{text}");
}

#[tokio::test]
async fn an_address_keeps_its_pace() {
    let house = House::new().await;
    house.rates.set(RateLimits { sign_ins_per_minute: 6, ..RateLimits::default() });
    let sign_in = |address| house.rates.sign_in(at(address), &Actor::SYSTEM);
    for _ in 0..6 {
        assert_eq!(wait(sign_in("2001:db8::1")), 0);
    }
    assert_eq!(wait(sign_in("2001:db8::2")), 10, "the same /64");
    assert_eq!(wait(sign_in("2001:db8:0:1::1")), 0);
    house.pass(10);
    assert_eq!(wait(sign_in("2001:db8::1")), 0);
    assert_eq!(wait(sign_in("2001:db8::1")), 10);
    house.rates.set(RateLimits { sign_ins_per_minute: 0, ..RateLimits::default() });
    for _ in 0..100 {
        assert_eq!(wait(sign_in("2001:db8::1")), 0);
    }
}

#[tokio::test]
async fn addresses_are_forgotten_when_they_are_idle_or_too_many() {
    let house = House::new().await;
    let pace = &house.rates.inner.unknown_tokens;
    let mut most = 0;
    for n in 0..120_000_u32 {
        let _paced = house.rates.unknown_token(IpAddr::from(n.to_be_bytes()), &Actor::SYSTEM);
        most = most.max(pace.len());
    }
    assert!((50_000..=52_000).contains(&most), "{most}");
    house.pass(120);
    for _ in 0..1024 {
        let _paced = house.rates.unknown_token(at("192.0.2.1"), &Actor::SYSTEM);
    }
    assert!(pace.len() <= 1, "{}", pace.len());
}
