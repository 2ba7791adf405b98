//! A runner against a gateway that a test plays: over a real WebSocket, with real processes.

mod gateway;
mod links;
mod sessions;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::ids::SessionId;
use sojourn_core::limits::Limits;
use sojourn_core::limits::Lower;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::Launch;
use sojourn_core::wire::relay::PermissionMode;
use sojourn_core::wire::relay::Person;
use sojourn_core::wire::relay::Used;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::clock::Machine;
use super::options::Chambers;
use super::options::Harness;
use super::options::Kind;
use super::options::Notify;
use super::options::Options;
use super::options::Pace;
use super::options::Token;
use super::*;
use gateway::Gateway;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A runner in this process.
struct Runner {
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

impl Runner {
    fn start(options: Options) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(run(options, stop.clone())), stop }
    }

    async fn stop(self) -> Result<(), RunError> {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").expect("no panic")
    }
}

/// A runner of this gateway, whose sessions may work in `directory`.
fn options(gateway: &Gateway, directory: &Path) -> Options {
    let shell = |command: &[&str]| Harness {
        kind: Kind::Terminal,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        env: BTreeMap::new(),
        mode: None,
        allow_bypass: false,
    };
    let harnesses = [
        ("shell", shell(&["sh"])),
        (
            "lines",
            shell(&["sh", "-c", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done"]),
        ),
        ("flood", shell(&["sh", "-c", "exec yes something to fill it with"])),
        ("silent", shell(&["sh", "-c", "trap '' TERM HUP; setsid sleep 600 & exec sleep 600"])),
    ];
    Options {
        gateway: gateway.address(),
        token: Token::parse("sjr1_token").unwrap(),
        name: "test".to_owned(),
        state_dir: directory.join("state"),
        home: directory.to_owned(),
        allow: vec!["~/work".to_owned()],
        harnesses: harnesses.map(|(name, harness)| (name.to_owned(), harness)).into(),
        environment: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        pass_env: Vec::new(),
        notify: Notify::Off,
        limits: Lower::default(),
        spool: 64 << 20,
        warden: crate::process::tests::warden(),
        chambers: Chambers { profiles: BTreeMap::new(), maker: crate::process::tests::warden() },
        build: "0.0.0".to_owned(),
        clock: Arc::new(Machine { sleep_counts: true }),
        pace: Pace {
            ping: Duration::from_millis(300),
            dead: Duration::from_millis(900),
            pause: Duration::from_millis(10),
        },
    }
}

/// A directory with a place to work in.
fn house() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("work")).unwrap();
    directory
}

fn launch(harness: &str) -> Launch {
    Launch {
        harness: harness.to_owned(),
        profile: None,
        cwd: Some("~/work".to_owned()),
        model: None,
        permission_mode: PermissionMode::Relay,
        prompt: None,
        limits: Limits { grace: Duration::from_millis(200), ..Limits::default() },
        size: None,
        resume: None,
        epoch: 1,
        head: 0,
        used: Used::default(),
        by: Person { user: "alice".to_owned(), address: None },
    }
}

fn start(harness: &str) -> Command {
    Command::Start(Box::new(launch(harness)))
}

/// Nothing of a session lives.
fn is_gone(session: SessionId) -> bool {
    crate::process::descendants::tagged(&session.to_string()).is_empty()
}
