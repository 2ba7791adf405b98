//! Every key outside of profiles: its name, type, default, bounds and meaning, written once.

use std::net::Ipv4Addr;
use std::net::SocketAddr;

use serde_json::Value as Json;
use serde_json::json;
use sojourn_core::limits::IdleCounts;
use sojourn_core::network::Network;
use sojourn_core::units::Size;
use sojourn_core::units::Span;
use sojourn_sandbox::docker::engine::Address as Engine;
use sojourn_ssh::Algorithms;
use sojourn_web::Origin;

use super::database::Database;
use super::keys::keys;
use super::login::Login;
use super::money::Money;
use super::node::Kind;
use super::node::Node;
use super::profile::BAIT;
use super::profile::Profiles;
use super::report::Report;
use super::runner::Runner;
use super::source;
use super::value::Account;
use super::value::Address;
use super::value::DockerHost;
use super::value::MaybeAddress;
use super::value::MaybePath;
use super::value::Path;
use super::value::PublicUrl;
use super::value::ServerId;
use super::value::Value;
use super::value::choice;

const fn local(port: u16) -> Address {
    Address(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

keys! {
    /// The configuration of `sojourn serve`.
    pub(crate) struct Config {
        /// Where recordings, audit log, keys and accounts are. Default: /var/lib/sojourn for root,
        /// else $XDG_DATA_HOME/sojourn.
        data_dir: Path = source::default_data_dir();
        /// The process.
        server: Server = Server::default();
        /// The web door.
        web: Web = Web::default();
        /// The SSH door, one entry a listener. Without an entry there is one on 127.0.0.1:2222.
        ssh: Vec<Ssh> = vec![Ssh::default()];
        /// Logins at the web door.
        login: Login = Login::default();
        /// What a session may. A profile can override those marked so.
        limits: LimitKeys = LimitKeys::default();
        /// What a session runs in, by name. Built in: default, bait, host.
        profiles: Profiles = Profiles::default();
        /// What all sandboxes share.
        sandbox: SandboxKeys = SandboxKeys::default();
        /// What is recorded of a session.
        recording: Recording = Recording::default();
        /// The audit log.
        audit: Audit = Audit::default();
        /// Accounts and sessions on record.
        store: Store = Store::default();
        /// Numbers for Prometheus.
        metrics: Metrics = Metrics::default();
        /// Telling browsers that an agent waits, while nobody looks at the page.
        push: Push = Push::default();
        /// What the gateway says of itself, on standard error.
        log: Log = Log::default();
        /// Read by `sojourn runner`.
        runner: Runner = Runner::default();
    }
}

choice! {
    /// What becomes of sessions when the gateway is stopped.
    pub(crate) enum OnStop {
        /// They are ended.
        End = "end",
        /// They stay under their shims for the next start.
        Leave = "leave",
    }
}

keys! {
    /// The process.
    pub(crate) struct Server {
        /// The system account that the gateway becomes when it is started by root: a name or a
        /// number. A name that does not exist is created once.
        user: Account = Account("sojourn".to_owned());
        /// What becomes of sessions when the gateway is stopped: "end", or "leave": they stay under
        /// their shims for the next start.
        on_stop: OnStop = OnStop::End;
    }
}

keys! {
    /// The web door.
    pub(crate) struct Web {
        /// Address and port.
        listen: Address = local(8080);
        /// What browsers see; empty: http://localhost with the port of `listen`.
        public_url: PublicUrl = PublicUrl(None);
        /// Certificate chain, PEM. Read again when it changes.
        tls_cert: MaybePath = MaybePath(None);
        /// Its key, PEM.
        tls_key: MaybePath = MaybePath(None);
        /// TLS with a certificate of the gateway's own making, for a network where people can compare
        /// its fingerprint.
        tls_self_signed: bool = false;
        /// Addresses and networks of proxies whose X-Forwarded-For, or Forwarded, is believed. They
        /// have to pass the Host header on as it is.
        trusted_proxies: Vec<Network> = Vec::new();
        /// Connections at one time.
        max_connections: u32 = 8192, from 16, to 1_000_000;
        /// Connections of one address (of IPv6, one /64) at one time; trusted proxies may have more.
        max_connections_per_address: u32 = 4096, from 4, to 1_000_000;
        /// Allow http on a host that is not this machine.
        insecure_http: bool = false;
    }
}

impl Web {
    /// What browsers see, when the listener has this port.
    pub(crate) fn origin(&self, port: u16) -> Origin {
        self.public_url.0.clone().unwrap_or_else(|| Origin::local(self.has_tls(), port))
    }

    /// Whether connections are encrypted here, and not by a proxy before it.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls_self_signed || self.tls_cert.0.is_some()
    }
}

choice! {
    /// For whom an SSH listener is.
    pub(crate) enum Mode {
        /// For real accounts.
        Users = "users",
        /// For anybody who should not be here.
        Honeypot = "honeypot",
    }
}

keys! {
    /// One SSH listener.
    pub(crate) struct Ssh {
        /// Address and port.
        listen: Address = local(2222);
        /// "users" for real accounts, or "honeypot".
        mode: Mode = Mode::Users;
        /// The software version it names itself by; empty: a neutral one, or at a honeypot that of
        /// Debian's sshd.
        server_id: ServerId = ServerId(String::new());
        /// Text shown before authentication.
        banner: String = String::new();
        /// How long authentication may take.
        login_grace: Span = Span::seconds(30), from Span::seconds(1), to Span::seconds(3600);
        /// Refused attempts before the connection is closed.
        max_auth_tries: u32 = 6, from 1, to 1000;
        /// Key exchanges it offers, best first; empty: its own.
        kex_algorithms: Vec<String> = Vec::new();
        /// Ciphers it offers, best first; empty: its own.
        ciphers: Vec<String> = Vec::new();
        /// MACs it offers, best first; empty: its own.
        macs: Vec<String> = Vec::new();
        /// Connections of one address (of IPv6, one /64) that may end in a minute without a sign-in
        /// before it has to wait; 0 = any number. Those that sign in do not count.
        connects_per_minute: u32 = 1000, from 0, to 1_000_000;
        /// Addresses and networks of load balancers, which must begin each connection with a PROXY
        /// protocol header. From others it is not believed.
        proxy_protocol_from: Vec<Network> = Vec::new();
        /// File with the public keys of authorities whose user certificates are taken.
        trusted_user_ca: MaybePath = MaybePath(None);
        /// Honeypot: the profile its visitors get; unset: bait.
        profile: Option<String> = None;
        /// Honeypot: pairs of user and password that are let in; a user may have several. Unset: some
        /// that everybody tries first.
        credentials: Option<Vec<Credential>> = None;
        /// Honeypot: the try after so many refused passwords on a connection is let in; 0 = never.
        /// Unset: 3.
        accept_after_failures: Option<u32> = None;
        /// Honeypot: its own limit of sessions, which count on the gateway as well. Unset: 50.
        max_sessions: Option<u32> = None;
        /// Honeypot: how long a wrong password takes, more or less. Unset: 2s, as with PAM.
        refusal_delay: Option<Span> = None;
    }
}

impl Ssh {
    /// What it offers, where it says so.
    pub(crate) fn algorithms(&self) -> Algorithms {
        Algorithms {
            kex: self.kex_algorithms.clone(),
            ciphers: self.ciphers.clone(),
            macs: self.macs.clone(),
        }
    }

    /// Gives a honeypot what it does not say itself.
    pub(super) fn settle(&mut self) {
        if self.mode == Mode::Honeypot {
            self.profile.get_or_insert_with(|| BAIT.to_owned());
            self.credentials.get_or_insert_with(Credential::well_known);
            self.accept_after_failures.get_or_insert(3);
            self.max_sessions.get_or_insert(50);
            self.refusal_delay.get_or_insert(Span::seconds(2));
        }
    }
}

/// A user and a password that a honeypot lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credential {
    /// The name.
    pub(crate) user: String,
    /// The password.
    pub(crate) password: String,
}

impl Credential {
    /// Those that everybody tries first.
    fn well_known() -> Vec<Self> {
        [("root", "toor"), ("root", "root"), ("admin", "admin123")]
            .map(|(user, password)| Self { user: user.to_owned(), password: password.to_owned() })
            .into()
    }
}

impl Value for Credential {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let pair: [String; 2] = Vec::read(node, report)?.try_into().ok().or_else(|| {
            report.problem(node, "not a pair like [\"root\", \"toor\"]");
            None
        })?;
        let [user, password] = pair;
        Some(Self { user, password })
    }

    fn write(&self) -> Option<toml::Value> {
        vec![self.user.clone(), "(hidden)".to_owned()].write()
    }

    fn schema() -> Json {
        json!({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2})
    }
}

keys! {
    /// What a session may.
    pub(crate) struct LimitKeys {
        /// The longest a session that came by SSH runs; 0 = no limit. Profiles can override it.
        session_timeout: Span = Span::seconds(3600);
        /// The same for sessions started at the web door. Profiles can override it.
        agent_timeout: Span = Span::seconds(4 * 3600);
        /// A session ends after so long without anything happening; 0 = never. Profiles can
        /// override it.
        idle_timeout: Span = Span::seconds(1800);
        /// What counts as something happening: "any" input and output, or "input" alone. Profiles
        /// can override it.
        idle_counts: IdleCounts = IdleCounts::Any;
        /// What terminals may print over the whole session; 0 = no limit. Profiles can override it.
        max_output: Size = Size::mib(100);
        /// What an agent may spend over the whole session, in whatever it counts in, where it says;
        /// 0 = no limit. Profiles can override it.
        max_cost: Money = Money(0);
        /// How long before a limit the person is told; 0 = not at all. Profiles can override it.
        warn_before: Span = Span::seconds(60);
        /// How long programs have to end themselves before they are killed. Profiles can override
        /// it.
        grace: Span = Span::seconds(10);
        /// How long a terminal whose connection is gone waits for its person; 0 = not at all.
        /// Profiles can override it.
        detach_grace: Span = Span::seconds(300);
        /// Sessions on the whole gateway.
        max_concurrent_sessions: u32 = 10, from 1, to 100_000;
        /// Sessions of one user, by all doors.
        max_sessions_per_user: u32 = 5, from 1, to 100_000;
        /// Sessions on each remote runner.
        max_sessions_per_runner: u32 = 3, from 1, to 250;
        /// People who look on at one session at the same time, its driver at the web door included.
        max_watchers: u32 = 32, from 1, to 10_000;
        /// How long a remote runner may be away before its sessions are lost and their places free;
        /// 0 = for ever.
        runner_lost_after: Span = Span::seconds(86_400);
        /// Sessions that a user, and an address (of IPv6, one /64), may start or resume at the web
        /// door in any minute; 0 = any number.
        starts_per_minute: u32 = 5, from 0, to 10_000;
        /// Messages to an agent in any minute, by session; 0 = any number.
        messages_per_minute: u32 = 60, from 0, to 10_000;
        /// Tries to sign in at the web door that an address may make in a minute, whatever comes of
        /// them; 0 = any number. Guesses are slowed down long before.
        sign_ins_per_minute: u32 = 600, from 0, to 1_000_000;
        /// Requests with a token or cookie that is nobody's that an address may make in a minute;
        /// 0 = any number.
        unknown_tokens_per_minute: u32 = 60, from 0, to 1_000_000;
        /// Requests without a login or a token that an address may make in a minute; 0 = any number.
        requests_per_minute: u32 = 6000, from 0, to 100_000_000;
    }
}

impl Value for IdleCounts {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        Choice::read(node, report).map(|choice| match choice {
            Choice::Any => Self::Any,
            Choice::Input => Self::Input,
        })
    }

    fn write(&self) -> Option<toml::Value> {
        match self {
            Self::Any => Choice::Any.write(),
            Self::Input => Choice::Input.write(),
        }
    }

    fn schema() -> Json {
        Choice::schema()
    }
}

choice! {
    /// [`IdleCounts`] as a file has it.
    pub(crate) enum Choice {
        /// Input and output.
        Any = "any",
        /// Input alone.
        Input = "input",
    }
}

keys! {
    /// What all sandboxes share.
    pub(crate) struct SandboxKeys {
        /// The Docker engine of this machine.
        docker_host: DockerHost = DockerHost(Engine::Unix("/var/run/docker.sock".into()));
        /// How long the making of a sandbox may take: less than the two minutes after which the gateway
        /// waits for its runner no longer.
        spawn_timeout: Span = Span::seconds(30), from Span::seconds(1), to Span::seconds(110);
        /// How much all that sessions left may take: the oldest goes, and it never takes more than
        /// half of the room there is; 0 = no limit.
        kept_total: Size = Size(10 << 30);
        /// The first of the kernel user ids that sandboxes run under, 65 536 for each.
        uid_base: u32 = 1_879_048_192, from 65_536, to u32::MAX - 65_536;
        /// How many such ranges there are.
        uid_count: u32 = 4096, from 1, to 65_000;
    }
}

/// What is recorded of what is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// All of it.
    All,
    /// Nothing.
    Nothing,
    /// All, but of what is typed at a password prompt only the length.
    Masked,
}

impl Value for Input {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.kind {
            Kind::Bool(true) => Some(Self::All),
            Kind::Bool(false) => Some(Self::Nothing),
            Kind::Text(text) | Kind::Raw(text) => match text.as_str() {
                "true" => Some(Self::All),
                "false" => Some(Self::Nothing),
                "masked" => Some(Self::Masked),
                _ => {
                    let message = format_args!("{text:?} is not one of true, false, \"masked\"");
                    report.problem(node, message);
                    None
                }
            },
            kind => {
                report.problem(
                    node,
                    format_args!("{kind} where true, false or \"masked\" is wanted"),
                );
                None
            }
        }
    }

    fn write(&self) -> Option<toml::Value> {
        match self {
            Self::All => true.write(),
            Self::Nothing => false.write(),
            Self::Masked => "masked".to_owned().write(),
        }
    }

    fn schema() -> Json {
        json!({"enum": [true, false, "masked"]})
    }
}

choice! {
    /// What happens when a session cannot be recorded.
    pub(crate) enum OnRecordingFailure {
        /// It ends.
        End = "end",
        /// It goes on, and the gap is marked.
        Continue = "continue",
    }
}

keys! {
    /// What is recorded of a session.
    pub(crate) struct Recording {
        /// What is typed: true, false, or "masked": of what is typed at a password prompt only the
        /// length.
        input: Input = Input::Masked;
        /// So much is recorded of a program without a terminal, then its size and SHA-256.
        exec_bytes: Size = Size::mib(1), from Size(0), to Size(1 << 40);
        /// A session that cannot be recorded ends ("end"), or goes on and the gap is marked
        /// ("continue").
        on_failure: OnRecordingFailure = OnRecordingFailure::End;
        /// How long recordings are kept; 0 = for ever.
        keep_for: Span = Span::seconds(0);
        /// How much all of them may take: the oldest go; 0 = no limit.
        max_total: Size = Size(0);
    }
}

choice! {
    /// What happens when the audit log cannot be written.
    pub(crate) enum OnAuditFailure {
        /// Nothing new begins.
        Refuse = "refuse",
        /// All goes on, and the gap is recorded.
        Continue = "continue",
    }
}

choice! {
    /// Where checkpoints of the audit log go besides the log.
    pub(crate) enum Forwarded {
        /// Nowhere.
        Nowhere = "",
        /// To the system's log, at /dev/log.
        Syslog = "syslog",
    }
}

keys! {
    /// The audit log.
    pub(crate) struct Audit {
        /// When it cannot be written, nothing new begins ("refuse"), or all goes on ("continue").
        on_failure: OnAuditFailure = OnAuditFailure::Refuse;
        /// Where checkpoints go besides the log: "" or "syslog".
        forward: Forwarded = Forwarded::Nowhere;
    }
}

keys! {
    /// Accounts and sessions on record.
    pub(crate) struct Store {
        /// "sqlite", in the data directory, or postgres://…
        url: Database = Database::Sqlite;
    }
}

keys! {
    /// Numbers for Prometheus.
    pub(crate) struct Metrics {
        /// Address and port of a listener of their own; empty: none.
        listen: MaybeAddress = MaybeAddress(None);
    }
}

keys! {
    /// Telling browsers that an agent waits, while nobody looks at the page.
    pub(crate) struct Push {
        /// Whether browsers can ask for it.
        enabled: bool = true;
        /// Push services, "host:port", that may be elsewhere than on a public host, and without https.
        /// All others are reached by https, on public hosts alone.
        services: Vec<String> = Vec::new();
        /// Where the people of a push service find yours: mailto: or https:. Empty: public_url, where
        /// that is https.
        contact: String = String::new();
    }
}

choice! {
    /// How log lines look.
    pub(crate) enum LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

choice! {
    /// How much is logged.
    pub(crate) enum Level {
        /// What went wrong.
        Error = "error",
        /// What may go wrong.
        Warn = "warn",
        /// An operator's day.
        Info = "info",
        /// A developer's day.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

impl Level {
    /// The word in the file.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

keys! {
    /// What the gateway says of itself, on standard error.
    pub(crate) struct Log {
        /// "text" for people, or "json" for programs.
        format: LogFormat = LogFormat::Text;
        /// "error", "warn", "info", "debug" or "trace"; the variable RUST_LOG overrides it.
        level: Level = Level::Info;
    }
}
