//! The built-in runner: a root process without a network, forked before the gateway had a thread. Where
//! nobody is root it is the same user's as the gateway, and makes no sandboxes: it writes, keeps and
//! removes recordings of sessions on other machines.
//!
//! It lives as long as a gateway is connected, or sessions run: a gateway that dies does not take its
//! sessions along, and the next one finds this runner at its socket in `sessions/`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::Resource;
use rustix::process::Rlimit;
use sojourn_sandbox::bait;
use sojourn_sandbox::docker::Docker;
use sojourn_sandbox::docker::engine::Address;
use sojourn_sandbox::forge::Forge;
use sojourn_sandbox::image::cache;
use sojourn_sandbox::image::cache::Images;
use sojourn_sandbox::pool::PARALLEL;
use sojourn_sandbox::pool::Shared;
use sojourn_sandbox::profile::Files;
use sojourn_sandbox::profile::Kind;
use sojourn_sandbox::profile::Overlay;
use sojourn_sandbox::profile::Profile;
use sojourn_sandbox::profile::is_container;
use sojourn_sandbox::slots;
use sojourn_sandbox::slots::Slots;
use sojourn_shim::cgroup;
use sojourn_shim::native;
use sojourn_shim::zygote::RunnerSeed;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Semaphore;

use crate::directories::Directories;
use crate::gateway;
use crate::gateway::Parting;
use crate::power;
use crate::recovery;
use crate::recovery::Found;
use crate::requests::Identity;
use crate::requests::Offer;
use crate::requests::Requests;
use crate::retention;
use crate::retention::Retention;

/// How long a runner waits for the one before it to go.
const PREDECESSOR: Duration = Duration::from_secs(10);

/// The directory in `sessions/` that engines take the program of containers from.
const CONTAINERS: &str = "docker";

/// The most descriptors it wants: some for each of thousands of sessions.
const DESCRIPTORS: u64 = 65_536;

/// How long it waits at its end for sandboxes to be gone.
const FAREWELL: Duration = Duration::from_secs(15);

/// What the runner is configured with. It reads the same file as the gateway, before the split.
#[derive(Clone, Debug)]
pub struct RunnerConfig {
    /// The data directory; `recordings` and `sessions` are in it.
    pub data_dir: PathBuf,
    /// The profiles.
    pub profiles: Vec<Profile>,
    /// Those that cannot be had here, and what is told to whoever wants one.
    pub missing: BTreeMap<String, String>,
    /// The engine of those with containers.
    pub docker_host: Address,
    /// How long making a sandbox may take.
    pub spawn_timeout: Duration,
    /// The first user id of sandboxes.
    pub uid_base: u32,
    /// How many ranges of ids there are.
    pub uid_count: u32,
    /// The cgroup that holds those of all sandboxes of this data directory.
    pub cgroup: String,
    /// How long what sessions leave on record is kept.
    pub retention: Retention,
    /// The build: a gateway of another one gets a runner of its own.
    pub build: String,
}

/// Runs a runner to its end. The process has one thread. Returns its exit status: 0 means that it
/// meant to leave.
pub fn run(seed: RunnerSeed, config: RunnerConfig) -> u8 {
    run_with(seed, config, Orphaned::Keeps)
}

/// The same for one whose gateway is told to end by signals that go to all that is around it: what
/// becomes of its sessions is its gateway's to say. Without that one nobody would hold them to their
/// limits, and nobody comes after it: they end.
pub(crate) fn run_below(seed: RunnerSeed, config: RunnerConfig) -> u8 {
    run_with(seed, config, Orphaned::Ends)
}

/// What a runner does with its sessions when its gateway is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Orphaned {
    /// They go on until the next gateway comes.
    Keeps,
    /// It kills them.
    Ends,
}

fn run_with(seed: RunnerSeed, config: RunnerConfig, orphaned: Orphaned) -> u8 {
    raise_descriptors();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(5))
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runner has no runtime");
            return 1;
        }
    };
    let lived = runtime.block_on(async {
        if orphaned == Orphaned::Ends {
            for kind in [SignalKind::hangup(), SignalKind::terminate()] {
                // From here on it does not end the process; nobody listens to it.
                let _unheard = signal(kind)?;
            }
        }
        live(seed, config, orphaned).await
    });
    match lived {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "runner");
            1
        }
    }
}

/// Each session and each sandbox in a pool is held by some descriptors.
fn raise_descriptors() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
    let raised = Rlimit { current: Some(most), maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

async fn live(seed: RunnerSeed, config: RunnerConfig, orphaned: Orphaned) -> io::Result<()> {
    let dirs = Arc::new(Directories::open(&config.data_dir)?);
    let _lock = lock(&dirs).await?;
    #[expect(
        deprecated,
        reason = "the new way is unsafe for a type that may lose its descriptor; this one owns it"
    )]
    let listener = AsyncFd::with_interest(nonblocking(dirs.listen()?)?, Interest::READABLE)?;
    if has_hung_up(&seed.gateway) {
        // The next one may have looked before there was anybody to be found, and have a runner of its
        // own that waits for the lock.
        dirs.unlisten();
        return Ok(());
    }
    let requests = Arc::new(prepare(&seed_forge(seed.zygote)?, config, &dirs)?);
    take_up(&requests).await;
    let _for_ever = tokio::spawn(retention::run(requests.clone()));
    let mut gateway = Some(seed.gateway);
    loop {
        let socket = match gateway.take() {
            Some(socket) => socket,
            None => match next_gateway(&listener, &requests).await? {
                Some(socket) => socket,
                None => break,
            },
        };
        requests.fill_pools();
        let events = requests.events.subscribe();
        tokio::spawn(requests.clone().tell_again());
        match gateway::serve(socket, &requests, events).await {
            Parting::Gone if orphaned == Orphaned::Keeps => {
                tracing::warn!("the gateway is gone: sessions go on");
                requests.drain_pools();
            }
            Parting::OtherBuild | Parting::Shutdown(true) => break,
            Parting::Gone => {
                requests.sessions.shims().iter().for_each(|shim| shim.kill());
                requests.wait_for_the_last().await;
                break;
            }
            Parting::Shutdown(false) => {
                // Those that the gateway had not taken up when it was stopped.
                requests.sessions.shims().iter().for_each(|shim| shim.end());
                requests.wait_for_the_last().await;
                break;
            }
        }
    }
    // Whoever connects from here on is to find nobody, and start a runner of its own.
    requests.dirs.unlisten();
    drop(listener);
    leave(&requests).await;
    Ok(())
}

impl Requests {
    /// Waits until all sessions are closed, and not for ever for what is read of them.
    async fn wait_for_the_last(&self) {
        self.drain_pools();
        if tokio::time::timeout(FAREWELL, self.sessions.all_closed()).await.is_err() {
            self.give_up_keeping().await;
        }
    }
}

/// Whether nobody is at the other end any more.
fn has_hung_up(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let looked = rustix::event::poll(&mut fds, Some(&at_once));
    let [fd] = fds;
    looked.is_ok() && fd.revents().contains(PollFlags::HUP)
}

/// Waits for a runner of this data directory that is just leaving.
async fn lock(dirs: &Directories) -> io::Result<OwnedFd> {
    let deadline = tokio::time::Instant::now() + PREDECESSOR;
    loop {
        match dirs.lock() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if tokio::time::Instant::now() > deadline {
                    return Err(io::Error::other("another runner holds this data directory"));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => return other,
        }
    }
}

fn seed_forge(end: sojourn_shim::zygote::RunnerEnd) -> io::Result<Arc<Forge>> {
    Ok(Arc::new(Forge::new(end)?))
}

fn prepare(
    forge: &Arc<Forge>,
    config: RunnerConfig,
    dirs: &Arc<Directories>,
) -> io::Result<Requests> {
    let mut templates: BTreeMap<u64, Arc<native::DiskTemplate>> = BTreeMap::new();
    let mut profiles = BTreeMap::new();
    let images = config.data_dir.join("images");
    for mut profile in config.profiles {
        let is_written = !matches!(profile.kind, Kind::Host(_));
        if is_written && profile.disk_size > native::MAX_IN_MEMORY {
            let template = match templates.get(&profile.disk_size) {
                Some(template) => template.clone(),
                None => {
                    let directory = rustix::io::dup(dirs.scratch())?;
                    let made = native::DiskTemplate::make(directory, profile.disk_size)?;
                    let made = Arc::new(made);
                    templates.insert(profile.disk_size, made.clone());
                    made
                }
            };
            profile.disk = Some(template);
        }
        if profile.overlay == Overlay::Bait {
            let name = bait::ensure(dirs.images().as_fd())?;
            profile.overlay = Overlay::Directory(images.join(name));
        }
        profile.cgroup = config.cgroup.clone();
        profiles.insert(profile.name.clone(), Arc::new(profile));
    }
    let containers = config.data_dir.join("sessions").join(CONTAINERS);
    let wanted = profiles.values().any(|profile| matches!(profile.kind, Kind::Docker { .. }));
    // A runner before this one may have left some.
    let docker = match wanted || containers.exists() {
        true => Some(Docker::new(config.docker_host, config.cgroup.clone(), &containers)?),
        false => None,
    };
    let archive = |profile: &Arc<Profile>| match &profile.rootfs {
        Files::Archive(path) => Some(path.clone()),
        Files::Host | Files::Directory(_) => None,
    };
    let archives: Vec<PathBuf> = profiles.values().filter_map(archive).collect();
    let aside = slots::set_aside(config.uid_base, config.uid_count);
    let (images, uid_count) = match aside {
        Some((ids, rest)) if !archives.is_empty() => {
            let images = Images::open(forge.clone(), images, dirs.images(), ids, &archives)?;
            let images = Arc::new(images);
            // A pool has its own unpacked before anybody comes.
            let without = profiles.values().filter(|profile| profile.pool == 0);
            tokio::spawn(images.clone().make_ready(without.filter_map(archive).collect()));
            (Some(images), rest)
        }
        _ => {
            // Those of profiles that there were once.
            cache::clean(dirs.images(), &[]);
            (None, config.uid_count)
        }
    };
    let shared = Shared {
        forge: forge.clone(),
        slots: Slots::new(config.uid_base, uid_count),
        spawn_timeout: config.spawn_timeout,
        permits: Arc::new(Semaphore::new(PARALLEL)),
        docker,
        images,
    };
    let offer = Offer { profiles, missing: config.missing };
    let identity = Identity { build: config.build, cgroup: config.cgroup };
    Requests::new(offer, shared, dirs.clone(), identity, config.retention)
}

/// Finds what the runner before this one left.
async fn take_up(requests: &Arc<Requests>) {
    let known = match requests.dirs.list() {
        Ok(known) => known,
        Err(error) => {
            tracing::error!(%error, "the sessions of before cannot be listed");
            return;
        }
    };
    let (mut unreadable, mut unheld) = (false, Vec::new());
    let mut slots = BTreeMap::new();
    for session in known {
        match recovery::find(&requests.dirs, &requests.shared.slots, &mut slots, session) {
            Ok(Found::Running(entry)) => {
                if let (Some(docker), Some(shim)) = (&requests.shared.docker, &entry.shim)
                    && is_container(&entry.sandbox)
                {
                    docker.take_over(entry.sandbox.clone(), shim.clone());
                }
                requests.sessions.insert(session, entry);
                requests.watch(session);
            }
            Ok(Found::Over { entry, is_unheld }) => {
                requests.sessions.insert(session, entry);
                if is_unheld {
                    unheld.push(session);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!(%session, "a session's directory without a state: removed");
                let _left = requests.dirs.remove(session);
            }
            Err(error) => {
                tracing::error!(%session, %error, "a session's state cannot be read: left alone");
                unreadable = true;
            }
        }
    }
    requests.lose_unheld(&unheld).await;
    let own = requests.clone();
    let mended = tokio::task::spawn_blocking(move || {
        power::mend(&own.dirs, |session| own.sessions.holds(session))
    });
    if let Ok(Err(error)) = mended.await {
        tracing::error!(%error, "what the loss of power left cannot be put in order");
    }
    if unreadable {
        // Its sandbox may live, and nothing tells it from an orphan.
        return;
    }
    if let Some(docker) = &requests.shared.docker {
        docker.sweep();
    }
    if !requests.makes_sandboxes() {
        return;
    }
    let (own, parent) = (requests.clone(), requests.cgroup.clone());
    let cleaned = tokio::task::spawn_blocking(move || {
        cgroup::clean_orphans(&parent, |sandbox| own.sessions.has_sandbox(sandbox))
    });
    match cleaned.await {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(orphans)) => tracing::info!(orphans, "orphaned sandboxes removed"),
        Ok(Err(error)) => tracing::warn!(%error, "orphaned sandboxes cannot be removed"),
    }
}

/// The next gateway that comes to the socket; none when the last session is over before one does.
async fn next_gateway(
    listener: &AsyncFd<OwnedFd>,
    requests: &Requests,
) -> io::Result<Option<OwnedFd>> {
    loop {
        let socket = tokio::select! {
            socket = listener.async_io(Interest::READABLE, accept) => socket?,
            () = requests.sessions.all_closed() => return Ok(None),
        };
        let peer = rustix::net::sockopt::socket_peercred(&socket)?;
        // Root, where this is root's.
        if peer.uid == rustix::process::geteuid() {
            return Ok(Some(socket));
        }
        tracing::warn!(uid = peer.uid.as_raw(), "a stranger at the runner's socket");
    }
}

fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC)?)
}

fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}

/// Gives waiting sandboxes the time to be gone, and removes what held them all.
async fn leave(requests: &Arc<Requests>) {
    requests.drain_pools();
    if let Some(docker) = &requests.shared.docker {
        docker.hurry();
    }
    let others_gone = requests.shared.slots.at_most(requests.sessions.running());
    let _late = tokio::time::timeout(FAREWELL, others_gone).await;
    if requests.sessions.running() == 0 && requests.makes_sandboxes() {
        if let Some(docker) = &requests.shared.docker {
            docker.close();
        }
        let (own, parent) = (requests.clone(), requests.cgroup.clone());
        let removed = tokio::task::spawn_blocking(move || {
            // Of a sandbox that was being made when its maker was killed nobody knows.
            cgroup::clean_orphans(&parent, |sandbox| own.sessions.has_sandbox(sandbox))?;
            cgroup::remove_parent(&parent)
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(%error, "the control group of all sandboxes is left");
        }
    }
}
