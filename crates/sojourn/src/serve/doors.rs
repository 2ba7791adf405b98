//! Opens the doors: SSH listeners, and the socket for this machine.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sojourn_engine::Engine;
use sojourn_ssh::Door;
use sojourn_ssh::Honeypot;
use sojourn_ssh::HostKeys;
use sojourn_ssh::SpoolLimits;
use sojourn_ssh::SshListener;
use sojourn_web::Local;
use tokio::net::UnixListener;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::config::Credential;
use crate::config::Mode;
use crate::config::Ssh;
use crate::failure::Failure;

/// The socket's name in the data directory.
pub(super) const SOCKET: &str = "gateway.sock";

/// The longest file of keys that sign users' certificates.
const LONGEST_CA_FILE: u64 = 1 << 20;

/// Opens all doors; they serve in `tasks` until the engine is shut down. Returns where SSH listens for
/// people with an account.
pub(super) async fn open(
    config: &Config,
    engine: &Engine,
    tasks: &TaskTracker,
) -> Result<Vec<SocketAddr>, Failure> {
    let data_dir = &config.data_dir.0;
    // Before anybody is told that the gateway is there: who hears it may use the command line.
    let socket = data_dir.join(SOCKET);
    let waiting = local(&socket).map_err(|error| Failure::at(&socket, error))?;
    let local = Local { engine: engine.clone(), recordings: data_dir.join("recordings") };
    let over = engine.shutdown().clone();
    tasks.spawn(async move {
        if let Err(error) = sojourn_web::serve_local(waiting, local, over).await {
            tracing::error!(%error, "the local socket broke");
        }
    });
    let host_keys =
        HostKeys::load_or_make(&data_dir.join("keys")).map_err(|error| Failure::caused(&error))?;
    let mut keys_of_honeypots = None;
    let mut listening = Vec::new();
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
        let door =
            Door::bind(&listener, engine.clone()).await.map_err(|error| Failure::caused(&error))?;
        let address = door.address();
        let honeypot = section.mode == Mode::Honeypot;
        tracing::info!(%address, door = "ssh", honeypot, event = "listening", "listening");
        if !honeypot {
            listening.push(address);
        }
        tasks.spawn(door.serve(engine.shutdown().clone()));
    }
    Ok(listening)
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
