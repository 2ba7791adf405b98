//! A million logins at a time: what being seen costs one, how late one ends whose time has come, and
//! what memory each takes. Run by `make bench`; no part of the program.

use std::hint::black_box;
use std::time::Instant;

use sojourn_core::audit::Actor;
use sojourn_core::authz::Role;
use sojourn_core::ids::LoginId;
use sojourn_store::Login as Kept;
use tokio_util::sync::CancellationToken;

use super::login::Proof;
use super::token;
use super::*;
use crate::audit;
use crate::clock::SystemClock;

/// Logins that only are there.
const CROWD: usize = 1_000_000;
/// Those of them with whom something is being done.
const IN_USE: usize = 1000;
/// Those that end, and how far apart.
const ENDING: u32 = 200;
const APART: Duration = Duration::from_millis(40);
/// After so long.
const AFTER: Duration = Duration::from_secs(12);

/// Of this process, in bytes.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// What the timer has of each, and what moves when one is touched.
fn entry() -> usize {
    size_of::<(Wall, LoginId)>() + size_of::<super::login::Lease>()
}

/// A line of the bench's table.
fn row(what: &str, is: f64, wanted: Option<f64>) {
    let (most, reached) = match wanted {
        Some(most) => (format!("≤ {most}"), if is <= most { "yes" } else { "no" }),
        None => ("–".to_owned(), "–"),
    };
    println!("| {what} | {is:.1} | – | – | {most} | {reached} |");
}

/// Nanoseconds for each of them being seen once.
fn seen(inner: &Inner, crowd: &[Arc<Login>]) -> f64 {
    let begin = Instant::now();
    crowd.iter().for_each(|login| inner.touch(black_box(login)));
    begin.elapsed().as_nanos() as f64 / crowd.len() as f64
}

/// What so many of all are no more than.
fn part(all: &mut [f64], percent: usize) -> f64 {
    all.sort_by(f64::total_cmp);
    all[(all.len() - 1) * percent / 100]
}

/// Milliseconds that the disk takes for a line while logins end: as many, as far apart.
fn synced_by_hand(dir: &std::path::Path) -> tokio::task::JoinHandle<Vec<f64>> {
    use std::io::Write;
    let mut file = std::fs::File::create(dir.join("by-hand")).unwrap();
    tokio::task::spawn_blocking(move || {
        std::thread::sleep(AFTER);
        let one = || {
            std::thread::sleep(APART);
            let begin = Instant::now();
            file.write_all(&[b'x'; 400]).and_then(|()| file.sync_data()).unwrap();
            begin.elapsed().as_secs_f64() * 1e3
        };
        std::iter::repeat_with(one).take(ENDING as usize).collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_a_million_logins() {
    let dir = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Store::open(dir.path()).await.unwrap();
    let options = audit::AuditOptions {
        data_dir: dir.path().to_owned(),
        on_failure: audit::OnFailure::Refuse,
    };
    let (log, writer) = audit::start(&options, store.clone(), clock.clone()).await.unwrap();
    tokio::spawn(writer.run(CancellationToken::new()));
    let identity = Identity::new(store.clone(), log.clone(), clock.clone());
    let accounts = identity.accounts();
    for name in ["alice", "crowd"] {
        accounts.add(name, Role::Member, None, Actor::SYSTEM).await.unwrap();
    }
    let user = |name: &'static str| {
        let store = store.clone();
        async move { store.users().await.unwrap().into_iter().find(|u| u.name == name).unwrap() }
    };
    let rules = Rules { max_per_user: 10_000, ..Rules::default() };
    let logins = Logins::open(dir.path(), rules, store.clone(), identity, log, clock.clone());
    let logins = logins.await.unwrap();
    let inner = &logins.inner;

    let (crowd, from) = (user("crowd").await, Client::new([127, 0, 0, 1].into(), "bench"));
    let person = inner.shelf.person(&crowd);
    let before = memory();
    let mut all = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        let (_, token) = token::mint().unwrap();
        let now = inner.now.get();
        let proof = Proof {
            token,
            csrf: inner.csrf.token(&token),
            methods: Methods::default().with(Method::Password),
            authenticated_at: now,
            idle_timeout: rules.idle_timeout,
            lifetime_ends_at: now.after(rules.max_lifetime),
        };
        let kept = Kept {
            id: LoginId::new(),
            token_hash: String::new(),
            user: crowd.id,
            epoch: crowd.epoch,
            created_at: now,
            authenticated_at: now,
            last_seen_at: now,
            idle_timeout: proof.idle_timeout,
            lifetime_ends_at: proof.lifetime_ends_at,
            methods: proof.methods.to_string(),
            address: String::new(),
            device: String::new(),
            over: None,
        };
        let login = Arc::new(Login::new(&kept, person.clone(), from.clone(), proof));
        inner.shelf.insert(&login);
        inner.timer.hurry(login.id());
        all.push(login);
    }
    logins.look().await;
    let each = (memory() - before) / CROWD;
    let first = seen(inner, &all);
    let cold = seen(inner, &all);
    let in_use: Vec<_> = all.iter().step_by(CROWD / IN_USE).cloned().collect();
    let warm = (0..IN_USE).map(|_| seen(inner, &in_use)).sum::<f64>() / IN_USE as f64;
    row("one of a million leases is touched, of a thousand that are in use, ns", warm, Some(50.0));
    row("each of the million in turn, so out of no cache, ns", cold, None);
    row("the first time since it was written, ns", first, None);
    row("a lease in memory, bytes", entry() as f64, Some(128.0));
    row("a login in memory, its lease and all that is known of it, bytes", each as f64, None);
    drop(all);
    // What is written of them is another matter: none of them has a row.
    inner.timer.forget_dirty();

    let stop = CancellationToken::new();
    let looking = tokio::spawn(logins.clone().run(stop.clone()));
    logins.set_rules(Rules { max_lifetime: AFTER, remind_before: Duration::ZERO, ..rules });
    let alice = SignedIn::new(&user("alice").await, Methods::default().with(Method::Password));
    let by_hand = synced_by_hand(dir.path());
    let mut pace = tokio::time::interval(APART);
    let mut ending = Vec::new();
    for _ in 0..ENDING {
        pace.tick().await;
        let (_, login) = logins.begin(&alice, &from, None).await.unwrap();
        let due = login.deadlines(logins.now()).lifetime_expires_at;
        let clock = clock.clone();
        ending.push(tokio::spawn(async move {
            login.ended().await;
            (clock.wall().0 - due.0) as f64 / 1e3
        }));
    }
    let mut late = Vec::new();
    for one in ending {
        late.push(one.await.unwrap());
    }
    let what = "one of a million leases ends, stored and on record, late, p50 ms";
    row(what, part(&mut late, 50), None);
    row("the same, p99 ms", part(&mut late, 99), Some(10.0));
    let mut by_hand = by_hand.await.unwrap();
    let what = "a line appended to a file and synced by hand meanwhile, p50 ms";
    row(what, part(&mut by_hand, 50), None);
    row("the same, p99 ms", part(&mut by_hand, 99), None);
    stop.cancel();
    looking.await.unwrap();
}
