//! `sojourn runner`: sessions of a gateway elsewhere, on this machine.

use std::env;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use sojourn_core::time::Mono;
use sojourn_core::time::Wall;
use sojourn_runner::process::Warden;
use sojourn_runner::remote;
use sojourn_runner::remote::RunError;
use sojourn_runner::remote::address::Address;
use sojourn_runner::remote::clock::Clock;
use sojourn_runner::remote::clock::Machine;
use sojourn_runner::remote::options::Chambers;
use sojourn_runner::remote::options::Isolation;
use sojourn_runner::remote::options::Options;
use sojourn_runner::remote::options::Pace;
use sojourn_runner::remote::options::Token;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio_util::sync::CancellationToken;

use crate::cli::Common;
use crate::cli::Runner as Asked;
use crate::config::Config;
use crate::config::Profile;
use crate::config::SandboxKind;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::failure::complain;
use crate::logging;

/// The longest token file that is read.
const LONGEST: u64 = 4096;

/// The bits by which others could read a file.
const OTHERS: u32 = 0o077;

pub(super) fn run(common: &Common, asked: Asked) -> Outcome {
    let loaded = super::load(common)?;
    logging::init(&loaded.config.log);
    let config = &loaded.config.runner;
    let authorities = variable("SOJOURN_CA").map(PathBuf::from);
    let gateway = Address::parse(&asked.gateway, authorities.as_deref(), asked.insecure_http);
    let gateway = gateway.map_err(|error| Failure::Usage(format!("--gateway {error}")))?;
    let home = variable("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.ok_or_else(|| Failure::Usage("HOME: not set to a directory".to_owned()))?;
    let allow = match asked.allow.is_empty() {
        true => config.allow_dirs.clone(),
        false => asked.allow.iter().map(|dir| absolute(dir)).collect::<Result<_, _>>()?,
    };
    let options = Options {
        gateway,
        token: token(&asked.token_file)?,
        name: asked.name.unwrap_or_else(host_name),
        state_dir: state_dir(&home),
        home,
        allow,
        harnesses: config.to_harnesses(),
        environment: env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        pass_env: config.pass_env.iter().map(|pattern| pattern.0.clone()).collect(),
        notify: config.notices(),
        limits: config.limits(),
        spool: config.spool.0,
        // Its own file also when another version is put in its place.
        warden: Warden { program: "/proc/self/exe".into(), arguments: vec!["warden".into()] },
        chambers: chambers(common, &loaded.config),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        clock: clock(config.sleep_counts)?,
        pace: Pace::default(),
    };
    if rustix::process::geteuid().is_root() {
        complain("note: this runs as root, and so do its sessions; a user of their own is better");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(until_a_signal(options));
    // Whoever was told of something on the desktop may look at it for long.
    runtime.shutdown_background();
    outcome
}

async fn until_a_signal(options: Options) -> Outcome {
    let listen = |kind| signal(kind).map_err(|error| Failure::refused(format!("signals: {error}")));
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut hangup = listen(SignalKind::hangup())?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
        stopped.cancel();
    });
    remote::run(options, stop).await.map_err(|error| match error {
        RunError::Wrong(line) => Failure::Usage(line),
        RunError::Refused(line) => Failure::refused(line),
    })
}

/// Reads the token from a file that others cannot read.
fn token(path: &Path) -> Result<Token, Failure> {
    let wrong = |why: &str| Failure::Usage(format!("{}: {why}", path.display()));
    let mut file = File::open(path).map_err(|error| wrong(&error.to_string()))?;
    let about = file.metadata().map_err(|error| wrong(&error.to_string()))?;
    if !about.is_file() {
        return Err(wrong("not a file"));
    }
    if about.mode() & OTHERS != 0 {
        let name = path.display();
        return Err(wrong(&format!("others can read this token; do \"chmod 600 {name}\"")));
    }
    let mut text = String::new();
    let read = Read::by_ref(&mut file).take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| wrong(&error.to_string()))?;
    Token::parse(&text).ok_or_else(|| {
        wrong(
            "not a token, which is one word; make one with \"sojourn token create --runner NAME\"",
        )
    })
}

/// What each profile is on this machine.
fn chambers(common: &Common, config: &Config) -> Chambers {
    let is_root = rustix::process::geteuid().is_root();
    let isolation = |name: &str, profile: &Profile, is_for_somebody: bool| match profile.sandbox {
        SandboxKind::Host if profile.run_as.0.is_empty() => Some(Isolation::None),
        _ if !is_for_somebody => None,
        _ if is_root => Some(Isolation::Sandbox),
        _ => Some(Isolation::Missing(format!(
            "the profile {name:?} needs a runner that runs as root; start it with sudo, or leave the \
             profile out"
        ))),
    };
    let profiles = config.profiles.all().filter_map(|(name, profile, is_for_somebody)| {
        Some((name.to_owned(), isolation(name, profile, is_for_somebody)?))
    });
    let mut arguments = vec!["chamber".into()];
    if let Some(file) = &common.config {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        arguments.extend(["--config".into(), file.into_os_string()]);
    }
    Chambers {
        profiles: profiles.collect(),
        maker: Warden { program: "/proc/self/exe".into(), arguments },
    }
}

/// A directory that was named on the command line: from here, unless it says from where.
fn absolute(directory: &str) -> Result<String, Failure> {
    if directory.starts_with('~') {
        return Ok(directory.to_owned());
    }
    let absolute = std::path::absolute(directory);
    let wrong = |error| Failure::Usage(format!("--allow {directory}: {error}"));
    Ok(absolute.map_err(wrong)?.to_string_lossy().into_owned())
}

fn state_dir(home: &Path) -> PathBuf {
    let named = variable("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    named.unwrap_or_else(|| home.join(".local/state")).join("sojourn-runner")
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "runner".to_owned(),
        name => name.to_owned(),
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The machine's time; in a test the one that the test moves.
fn clock(sleep_counts: bool) -> Result<Arc<dyn Clock>, Failure> {
    let moved = sojourn_engine::clock::moved_by_a_test();
    match moved.map_err(|error| Failure::refused(format!("no clock: {error}")))? {
        Some(clock) => Ok(Arc::new(Lent(clock))),
        None => Ok(Arc::new(Machine { sleep_counts })),
    }
}

/// The gateway's clock, lent to a runner.
struct Lent(Arc<dyn sojourn_engine::clock::Clock>);

impl Clock for Lent {
    fn mono(&self) -> Mono {
        self.0.mono()
    }

    fn wall(&self) -> Wall {
        self.0.wall()
    }

    fn nap(&self, at: Mono) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(sojourn_engine::clock::until(self.0.as_ref(), at))
    }
}
