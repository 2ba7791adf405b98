//! What a login costs a request: the same handler, over TCP, open to anybody and behind the guards of
//! a login, and behind what web applications use (axum with tower-sessions, sessions in memory), side
//! by side in one run. Run by `make bench`; no part of the program.
//!
//! The open route passes the same router and the same outer guards; it is asked without a cookie, so
//! nobody is looked up. Rounds alternate, so that what else the machine does meets both alike.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use axum::Json;
use axum::http::StatusCode;
use serde_json::Value;
use serde_json::json;
use sojourn_core::audit::Actor;
use sojourn_core::authz::Role;
use sojourn_engine::Engine;
use sojourn_engine::audit;
use sojourn_engine::audit::AuditOptions;
use sojourn_engine::audit::OnFailure;
use sojourn_engine::clock::Clock;
use sojourn_engine::clock::SystemClock;
use sojourn_engine::engine::Parts;
use sojourn_engine::identity::Client;
use sojourn_engine::identity::Identity;
use sojourn_engine::identity::Settings as IdentitySettings;
use sojourn_engine::identity::SignIn;
use sojourn_engine::login::Logins;
use sojourn_engine::login::Rules;
use sojourn_engine::profiles::Profiles;
use sojourn_engine::rates::RateLimits;
use sojourn_engine::records::Records;
use sojourn_engine::tokens::Tokens;
use sojourn_store::Store;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::Gate;
use crate::Settings;
use crate::listen;
use crate::openapi::Doc;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;
use crate::table;

/// Connections that ask at the same time.
const CONNECTIONS: usize = 16;
/// Logins there are beside the one that asks.
const OTHERS: usize = 1000;
/// Rounds of each kind, and how long one is.
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);

const PASSWORD: &str = "a bench is to sit on, too";

async fn handler() -> Json<Value> {
    Json(json!({"answer": 42}))
}

fn routes() -> Vec<Route> {
    let doc = || Doc::of("bench", "An answer.").gives::<Value>(200, "It.");
    vec![
        Route::get("/api/open", Access::Public, Activity::Passive, handler, doc()),
        Route::get("/api/closed", Access::Login, Activity::Counts, handler, doc()),
    ]
}

async fn engine(data_dir: &std::path::Path) -> Engine {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Store::open(data_dir).await.unwrap();
    let options = AuditOptions { data_dir: data_dir.to_owned(), on_failure: OnFailure::Refuse };
    let (log, writer) = audit::start(&options, store.clone(), clock.clone()).await.unwrap();
    tokio::spawn(writer.run(CancellationToken::new()));
    let identity = Identity::open(
        store.clone(),
        log.clone(),
        clock.clone(),
        data_dir,
        IdentitySettings::default(),
    )
    .unwrap();
    let rules = Rules { max_per_user: OTHERS + 1, ..Rules::default() };
    let logins =
        Logins::open(data_dir, rules, store.clone(), identity.clone(), log.clone(), clock.clone());
    Engine::new(Parts {
        clock: clock.clone(),
        accounts: identity.accounts(),
        logins: logins.await.unwrap(),
        identity,
        audit: log.clone(),
        tokens: Tokens::new(store.clone(), log.clone(), clock.clone()),
        records: Records::new(store, log, clock),
        profiles: Profiles::default(),
        max_sessions: 1,
        max_sessions_per_user: 1,
        recordings: data_dir.join("recordings"),
        build: "bench".to_owned(),
    })
}

/// A cookie of somebody who has signed in, with many others beside.
async fn cookie(engine: &Engine) -> String {
    let accounts = engine.identity().accounts();
    accounts.add("alice", Role::Member, Some(PASSWORD), Actor::SYSTEM).await.unwrap();
    let client = Client::new([127, 0, 0, 1].into(), "bench");
    let SignIn::Done(alice, _) = engine.identity().sign_in("alice", PASSWORD, &client, None).await
    else {
        panic!("alice cannot sign in");
    };
    for _ in 0..OTHERS {
        engine.logins().begin(&alice, &client, None).await.unwrap();
    }
    let (secret, _) = engine.logins().begin(&alice, &client, None).await.unwrap();
    format!("sojourn={}", secret.expose())
}

/// The same handler as an axum application has it, for who has a session; where, and a cookie for it.
async fn usual() -> (std::net::SocketAddr, String) {
    async fn closed(session: tower_sessions::Session) -> Result<Json<Value>, StatusCode> {
        let user: Option<String> =
            session.get("user").await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        user.ok_or(StatusCode::UNAUTHORIZED)?;
        Ok(handler().await)
    }
    async fn enter(session: tower_sessions::Session) -> StatusCode {
        session.insert("user", "alice").await.map_or(StatusCode::BAD_GATEWAY, |()| StatusCode::OK)
    }
    let sessions = tower_sessions::SessionManagerLayer::new(tower_sessions::MemoryStore::default())
        .with_expiry(tower_sessions::Expiry::OnInactivity(
            tower_sessions::cookie::time::Duration::minutes(30),
        ));
    let router = axum::Router::new()
        .route("/api/closed", axum::routing::get(closed))
        .route("/api/enter", axum::routing::get(enter))
        .layer(sessions);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /api/enter HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let cookie = answer.split("set-cookie: ").nth(1).and_then(|rest| rest.split(';').next());
    (address, cookie.unwrap().to_owned())
}

/// Asks again and again until the time is over; how long each answer took.
async fn ask(address: std::net::SocketAddr, request: Arc<str>, until: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut took = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    while Instant::now() < until {
        let begin = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut length = 0;
        while !buffer[..length].ends_with(b"{\"answer\":42}") {
            let read = stream.read(&mut buffer[length..]).await.unwrap();
            length += read;
            let so_far = &buffer[..length];
            let is_well = read > 0 && so_far.starts_with(b"HTTP/1.1 200 ");
            assert!(is_well, "{}", String::from_utf8_lossy(so_far));
        }
        took.push(begin.elapsed());
    }
    took
}

/// One round: answers a second, and how long they took.
async fn round(address: std::net::SocketAddr, request: &str) -> (f64, Vec<Duration>) {
    let request: Arc<str> = request.into();
    let begin = Instant::now();
    let asking: Vec<_> = (0..CONNECTIONS)
        .map(|_| tokio::spawn(ask(address, request.clone(), begin + ROUND)))
        .collect();
    let mut took = Vec::new();
    for one in asking {
        took.extend(one.await.unwrap());
    }
    (took.len() as f64 / begin.elapsed().as_secs_f64(), took)
}

/// A line of the bench's table, with the round in the middle: its ratio, ours, and theirs.
fn row(what: &str, beside: &str, mut rounds: Vec<(f64, f64, f64)>, wanted: f64) {
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (ratio, ours, theirs) = rounds[rounds.len() / 2];
    let reached = if ratio >= wanted { "yes" } else { "no" };
    println!(
        "| {what}, {CONNECTIONS} at a time, /s | {ours:.0} | {theirs:.0} {beside} \
         | **{ratio:.2}** | ≥ {wanted} x | {reached} |"
    );
}

fn percentile(took: &mut [Duration], part: f64) -> Duration {
    took.sort_unstable();
    took[((took.len() - 1) as f64 * part) as usize]
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_what_a_login_costs_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path()).await;
    // Who is not known is held to a pace otherwise.
    engine.rates().set(RateLimits { requests_per_minute: 100_000_000, ..RateLimits::default() });
    let cookie = cookie(&engine).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let origin = format!("http://localhost:{}", address.port()).parse().unwrap();
    let gate = Gate::new(engine, origin, dir.path().join("recordings"), Settings::default());
    let router = table::router(&gate, routes());
    let over = CancellationToken::new();
    let serving = tokio::spawn(listen::serve_routes(listener, gate, router, over.clone()));

    let host = format!("Host: localhost:{}\r\n", address.port());
    let open = format!("GET /api/open HTTP/1.1\r\n{host}\r\n");
    let closed = format!("GET /api/closed HTTP/1.1\r\n{host}Cookie: {cookie}\r\n\r\n");
    let (elsewhere, their_cookie) = usual().await;
    let theirs = format!("GET /api/closed HTTP/1.1\r\n{host}Cookie: {their_cookie}\r\n\r\n");
    let (mut ratios, mut to_theirs) = (Vec::new(), Vec::new());
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let (anybody, mut took) = round(address, &open).await;
        times[0].append(&mut took);
        let (known, mut took) = round(address, &closed).await;
        times[1].append(&mut took);
        let (usual, _) = round(elsewhere, &theirs).await;
        ratios.push((known / anybody, known, anybody));
        to_theirs.push((known / usual, known, usual));
    }
    row("requests of who is signed in", "open to anybody", ratios, 0.8);
    row("requests of who is signed in", "axum with tower-sessions in memory", to_theirs, 1.0);
    let [anybody, known] = &mut times;
    for (part, name) in [(0.5, "p50"), (0.99, "p99")] {
        println!(
            "| the same, {name} µs | {} | {} open to anybody | – | – | – |",
            percentile(known, part).as_micros(),
            percentile(anybody, part).as_micros(),
        );
    }
    over.cancel();
    serving.await.unwrap();
}
