//! How a door is set up: what its configuration section says, and the SSH library's many knobs.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::MethodKind;
use russh::MethodSet;
use russh::SshId;
use russh::keys::PublicKey;
use russh::keys::ssh_key::public::KeyData;
use sojourn_core::network::Network;

use crate::algorithms::Algorithms;
use crate::algorithms::UnknownAlgorithm;
use crate::honeypot::Honeypot;
use crate::host_keys::HostKeys;
use crate::lobby::LobbyLimits;
use crate::spool::SpoolLimits;
use crate::valve::WINDOW;

/// Names no product and no version, so it tells a scanner nothing.
const NEUTRAL_ID: &str = "SSH-2.0-Sojourn";

/// What a honeypot says it is: Debian 13's sshd.
const DEBIAN_ID: &str = "SSH-2.0-OpenSSH_10.0p2 Debian-7";

/// RFC 4253 section 4.2, less CR LF.
const LONGEST_ID: usize = 253;

/// How a peer that has gone silent is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// After so much silence it is asked whether it is there.
    pub interval: Duration,
    /// So many questions without any sign of life, and it is gone.
    pub count: usize,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { interval: Duration::from_secs(15), count: 3 }
    }
}

impl Keepalive {
    /// How long a silent peer is borne.
    pub(crate) fn patience(self) -> Duration {
        self.interval.saturating_mul(u32::try_from(self.count).unwrap_or(u32::MAX))
    }
}

/// One `[[ssh]]` section.
#[derive(Clone, Debug)]
pub struct SshListener {
    /// Where to listen; port 0 is any that is free.
    pub listen: SocketAddr,
    /// Set when it is a honeypot.
    pub honeypot: Option<Honeypot>,
    /// The software version string, with or without `SSH-2.0-`; empty for a neutral one, or at a
    /// honeypot for that of Debian's sshd.
    pub server_id: String,
    /// The algorithms it offers.
    pub algorithms: Algorithms,
    /// A text for everybody who connects, before they sign in; empty for none.
    pub banner: String,
    /// How long signing in may take.
    pub login_grace: Duration,
    /// How many refused attempts a connection has.
    pub max_auth_tries: usize,
    /// Whose PROXY protocol header is believed, and must come.
    pub proxy_protocol_from: Vec<Network>,
    /// How many connections of one address may end in a minute without a sign-in before the next is
    /// refused; 0 = any number. A honeypot has no such limit.
    pub connects_per_minute: u32,
    /// Keys that sign users' certificates, each a line as in a `.pub` file.
    pub trusted_user_ca: Vec<String>,
    /// The host keys.
    pub host_keys: HostKeys,
    /// How a silent peer is noticed.
    pub keepalive: Keepalive,
    /// How many connections may be signing in.
    pub lobby: LobbyLimits,
    /// How much input may wait for slow programs.
    pub spool: SpoolLimits,
}

/// Why a door cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The software version string is not one.
    #[error(
        "server_id {0:?} is not a software version string: printable ASCII, 253 characters at most"
    )]
    ServerId(String),
    /// An algorithm that cannot be had.
    #[error(transparent)]
    Algorithm(#[from] UnknownAlgorithm),
    /// A key that is to sign users' certificates is not a key.
    #[error("trusted_user_ca: {0:?} is not a public key")]
    UserCa(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

impl SshListener {
    /// A listener as it is without configuration.
    #[must_use]
    pub fn new(listen: SocketAddr, host_keys: HostKeys, spool: SpoolLimits) -> Self {
        Self {
            listen,
            honeypot: None,
            server_id: String::new(),
            algorithms: Algorithms::default(),
            banner: String::new(),
            login_grace: Duration::from_secs(30),
            max_auth_tries: 6,
            proxy_protocol_from: Vec::new(),
            connects_per_minute: 1000,
            trusted_user_ca: Vec::new(),
            host_keys,
            keepalive: Keepalive::default(),
            lobby: LobbyLimits::default(),
            spool,
        }
    }

    pub(crate) fn library_config(&self) -> Result<Arc<russh::server::Config>, SetupError> {
        Ok(Arc::new(russh::server::Config {
            server_id: SshId::Standard(Cow::Owned(self.id()?)),
            methods: methods(self.honeypot.is_some()),
            // Refusals wait in the gate, by name and address, not here by connection.
            auth_rejection_time: Duration::ZERO,
            auth_rejection_time_initial: Some(Duration::ZERO),
            // The door counts by itself, as OpenSSH does; this is for what the library refuses without
            // asking. The first question, "none", is counted as well.
            max_auth_attempts: self.max_auth_tries.saturating_add(1),
            keys: self.host_keys.keys().to_vec(),
            preferred: self.algorithms.preferred(self.honeypot.is_some())?,
            window_size: WINDOW,
            maximum_packet_size: 32 * 1024,
            channel_buffer_size: 100,
            // Idle sessions end by their lease, which says so.
            inactivity_timeout: None,
            keepalive_interval: Some(self.keepalive.interval),
            keepalive_max: self.keepalive.count,
            nodelay: true,
            ..russh::server::Config::default()
        }))
    }

    pub(crate) fn user_cas(&self) -> Result<Vec<KeyData>, SetupError> {
        let parse = |line: &String| match PublicKey::from_openssh(line) {
            Ok(key) => Ok(key.key_data().clone()),
            Err(_) => Err(SetupError::UserCa(line.clone())),
        };
        self.trusted_user_ca.iter().map(parse).collect()
    }

    fn id(&self) -> Result<String, SetupError> {
        let id = match self.server_id.as_str() {
            "" if self.honeypot.is_some() => DEBIAN_ID.to_owned(),
            "" => NEUTRAL_ID.to_owned(),
            id if id.starts_with("SSH-2.0-") => id.to_owned(),
            version => format!("SSH-2.0-{version}"),
        };
        let printable = id.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if printable && id.len() <= LONGEST_ID && !id.ends_with("SSH-2.0-") {
            Ok(id)
        } else {
            Err(SetupError::ServerId(self.server_id.clone()))
        }
    }
}

/// How people may sign in. A honeypot has what Debian's sshd has; a conversation, in which also a code
/// can be asked for, is not among it.
pub(crate) fn methods(is_honeypot: bool) -> MethodSet {
    let mut methods = MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password][..]);
    if !is_honeypot {
        methods.push(MethodKind::KeyboardInteractive);
    }
    methods
}
