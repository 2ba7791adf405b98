//! Opens the doors: SSH listeners, the web door, and the socket for this machine.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sojourn_engine::Engine;
use sojourn_ssh::Door;
use sojourn_ssh::Honeypot;
use sojourn_ssh::HostKeys;
use sojourn_ssh::SetupError;
use sojourn_ssh::SpoolLimits;
use sojourn_ssh::SshListener;
use sojourn_web::Gate;
use sojourn_web::Origin;
use sojourn_web::Push;
use sojourn_web::Tls;
use tokio::net::TcpListener;
use tokio::net::UnixListener;
use tokio_util::task::TaskTracker;

use super::convert;
use crate::config::Config;
use crate::config::Credential;
use crate::config::Mode;
use crate::config::Ssh;
use crate::failure::Failure;

/// The socket's name in the data directory.
pub(super) const SOCKET: &str = "gateway.sock";

/// The longest file of keys that sign users' certificates.
const LONGEST_CA_FILE: u64 = 1 << 20;

/// Where people come in, and what can be changed there.
pub(super) struct Listening {
    /// The web door.
    pub(super) gate: Gate,
    /// What it encrypts with, where it does.
    pub(super) tls: Option<Tls>,
    /// SSH, for people with an account.
    pub(super) ssh: Vec<SocketAddr>,
    /// Browsers.
    pub(super) web: Option<Origin>,
    /// What they can know a certificate of our own by.
    pub(super) fingerprint: Option<String>,
}

/// Opens all doors; they serve in `tasks` until the engine is shut down. Returns where people come in.
pub(super) async fn open(
    config: &Config,
    engine: &Engine,
    tasks: &TaskTracker,
) -> Result<Listening, Failure> {
    let data_dir = &config.data_dir.0;
    // Before anybody is told that the gateway is there: who hears it may use the command line.
    let socket = data_dir.join(SOCKET);
    let waiting = local(&socket).map_err(|error| Failure::at(&socket, error))?;
    let (web, origin) = web(config).await?;
    let tls = tls(config, &origin, engine)?;
    let recordings = data_dir.join("recordings");
    let mut gate = Gate::new(engine.clone(), origin.clone(), recordings, convert::web(&config.web));
    if config.push.enabled {
        let (keys, services) = (data_dir.join("keys"), config.push.services.clone());
        let push = Push::open(&keys, services, convert::contact(&config.push.contact, &origin));
        gate = gate.with_push(push.map_err(|error| Failure::caused(&error))?);
        tasks.spawn(sojourn_web::notify(gate.clone(), engine.shutdown().clone()));
    }
    tasks.spawn(sojourn_web::serve_local(waiting, gate.clone(), engine.shutdown().clone()));
    let host_keys =
        HostKeys::load_or_make(&data_dir.join("keys")).map_err(|error| Failure::caused(&error))?;
    let mut keys_of_honeypots = None;
    let mut listening = Listening {
        gate: gate.clone(),
        tls: tls.clone(),
        ssh: Vec::new(),
        web: Some(origin),
        fingerprint: tls.as_ref().filter(|_| config.web.tls_self_signed).map(Tls::fingerprint),
    };
    for section in &config.ssh {
        let keys = match (section.mode, &keys_of_honeypots) {
            (Mode::Users, _) => &host_keys,
            (Mode::Honeypot, Some(keys)) => keys,
            (Mode::Honeypot, None) => keys_of_honeypots.insert(
                HostKeys::load_or_make_for_honeypots(&data_dir.join("keys"))
                    .map_err(|error| Failure::caused(&error))?,
            ),
        };
        let listener = listener(section, keys, data_dir)?;
        let door = Door::bind(&listener, engine.clone()).await.map_err(|error| match &error {
            SetupError::Listen { address, source } => cannot_listen("[[ssh]]", *address, source),
            error => Failure::caused(error),
        })?;
        let address = door.address();
        let honeypot = section.mode == Mode::Honeypot;
        tracing::info!(%address, door = "ssh", honeypot, event = "listening", "listening");
        if !honeypot {
            listening.ssh.push(address);
        }
        tasks.spawn(door.serve(engine.shutdown().clone()));
    }
    if let Some(numbers) = numbers(config).await? {
        tasks.spawn(sojourn_web::serve_metrics(numbers, engine.clone(), engine.shutdown().clone()));
    }
    if let Some(tls) = &tls {
        tasks.spawn(tls.clone().watch(engine.shutdown().clone()));
    }
    tasks.spawn(sojourn_web::serve(web, gate, tls, engine.shutdown().clone()));
    Ok(listening)
}

/// Looks whether all addresses are to be had, and takes none.
pub(super) fn can_listen(config: &Config) -> Result<(), Failure> {
    let ssh = config.ssh.iter().map(|section| ("[[ssh]]", section.listen.0));
    let metrics = config.metrics.listen.0.map(|address| ("[metrics]", address));
    for (section, address) in [("[web]", config.web.listen.0)].into_iter().chain(ssh).chain(metrics)
    {
        std::net::TcpListener::bind(address)
            .map_err(|error| cannot_listen(section, address, &error))?;
    }
    Ok(())
}

/// An address that is not to be had, by the key that names it.
fn cannot_listen(section: &str, address: SocketAddr, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there, so choose another port",
        io::ErrorKind::PermissionDenied => "; choose a port from 1024 on",
        _ => "",
    };
    Failure::refused(format!("{section} listen = \"{address}\": {error}{hint}"))
}

/// What the web door encrypts with, where it does.
fn tls(config: &Config, origin: &Origin, engine: &Engine) -> Result<Option<Tls>, Failure> {
    let web = &config.web;
    let tls = match (&web.tls_cert.0, &web.tls_key.0) {
        (Some(cert), Some(key)) => Tls::from_files(cert, key),
        _ if web.tls_self_signed => {
            let names = sojourn_web::self_signed_names(origin.host());
            Tls::self_signed(&config.data_dir.0.join("keys"), &names, engine.clock().wall())
        }
        _ => return Ok(None),
    };
    let tls = tls.map_err(|error| Failure::refused(format!("web door: {error}")))?;
    tracing::info!(fingerprint = tls.fingerprint(), door = "web", event = "tls", "TLS");
    Ok(Some(tls))
}

/// Listens for browsers; says what they see it as.
async fn web(config: &Config) -> Result<(TcpListener, Origin), Failure> {
    let wanted = config.web.listen.0;
    let failed = |error: io::Error| cannot_listen("[web]", wanted, &error);
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let origin = config.web.origin(address.port());
    tracing::info!(%address, door = "web", url = %origin, event = "listening", "listening");
    Ok((listener, origin))
}

/// Listens for scrapers, where that is wanted.
async fn numbers(config: &Config) -> Result<Option<TcpListener>, Failure> {
    let Some(wanted) = config.metrics.listen.0 else { return Ok(None) };
    let failed = |error: io::Error| cannot_listen("[metrics]", wanted, &error);
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, door = "metrics", event = "listening", "listening");
    Ok(Some(listener))
}

fn listener(section: &Ssh, host_keys: &HostKeys, data_dir: &Path) -> Result<SshListener, Failure> {
    let spool = SpoolLimits::in_directory(data_dir.to_owned());
    let trusted_user_ca = match &section.trusted_user_ca.0 {
        Some(file) => authorities(file)?,
        None => Vec::new(),
    };
    Ok(SshListener {
        honeypot: (section.mode == Mode::Honeypot).then(|| honeypot(section)),
        algorithms: section.algorithms(),
        proxy_protocol_from: section.proxy_protocol_from.clone(),
        connects_per_minute: section.connects_per_minute,
        server_id: section.server_id.0.clone(),
        banner: section.banner.clone(),
        login_grace: section.login_grace.0,
        max_auth_tries: usize::try_from(section.max_auth_tries).unwrap_or(usize::MAX),
        trusted_user_ca,
        ..SshListener::new(section.listen.0, host_keys.clone(), spool)
    })
}

fn honeypot(section: &Ssh) -> Honeypot {
    let credentials = section.credentials.iter().flatten();
    let pair = |credential: &Credential| (credential.user.clone(), credential.password.clone());
    let number = |number: Option<u32>| number.unwrap_or_default();
    Honeypot {
        profile: section.profile.clone().unwrap_or_default(),
        credentials: credentials.map(pair).collect(),
        accept_after_failures: number(section.accept_after_failures),
        max_sessions: usize::try_from(number(section.max_sessions)).unwrap_or(usize::MAX),
        refusal_delay: section.refusal_delay.unwrap_or_default().0,
    }
}

/// The keys in a file like OpenSSH's `TrustedUserCAKeys`.
fn authorities(file: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error: io::Error| Failure::at(file, error);
    let length = fs::metadata(file).map_err(failed)?.len();
    if length > LONGEST_CA_FILE {
        return Err(Failure::at(file, "too long for a file of public keys"));
    }
    let text = fs::read_to_string(file).map_err(failed)?;
    let lines = text.lines().map(str::trim);
    Ok(lines.filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect())
}

/// Listens on this machine, for root and the gateway's user. The lock is held: a socket that is there
/// is nobody's.
fn local(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let directory = socket.parent().unwrap_or(Path::new("."));
    let directory = fs::File::open(directory)?;
    // Through the descriptor: the name of a socket has 108 bytes, a data directory's may have more.
    let name = socket.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd").join(descriptor(&directory)).join(name);
    let listener = UnixListener::bind(&short)?;
    fs::set_permissions(&short, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn descriptor(file: &fs::File) -> String {
    use std::os::fd::AsRawFd;
    file.as_raw_fd().to_string()
}
