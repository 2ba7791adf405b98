//! Profiles: what a session runs in, by name.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value as Json;
use serde_json::json;
use sojourn_core::authz::Allow;
use sojourn_core::limits::IdleCounts;
use sojourn_core::units::Size;
use sojourn_core::units::Span;
use sojourn_sandbox::egress::Entry;

use super::keys::keys;
use super::money::Money;
use super::node::Kind;
use super::node::Node;
use super::report::Report;
use super::value::HostName;
use super::value::Image;
use super::value::Laid;
use super::value::Overlay;
use super::value::Pattern;
use super::value::Rate;
use super::value::RootFs;
use super::value::RunAs;
use super::value::Value;
use super::value::choice;

/// The profile of whoever asks for none.
const DEFAULT: &str = "default";
/// The built-in profile of honeypots.
pub(super) const BAIT: &str = "bait";
/// The built-in profile without isolation.
const HOST: &str = "host";

choice! {
    /// The kind of isolation.
    pub(crate) enum SandboxKind {
        /// Linux namespaces.
        Native = "native",
        /// Docker.
        Docker = "docker",
        /// None.
        Host = "host",
    }
}

choice! {
    /// What a sandbox reaches.
    pub(crate) enum Network {
        /// Nothing.
        None = "none",
        /// What `egress` names.
        Nat = "nat",
    }
}

choice! {
    /// Who shares a sandbox.
    pub(crate) enum Share {
        /// Nobody: each connection has its own.
        Connection = "connection",
        /// All connections of a user.
        User = "user",
    }
}

choice! {
    /// What may be forwarded.
    pub(crate) enum Forward {
        /// -L and -D.
        Local = "local",
        /// -R.
        Remote = "remote",
        /// -A.
        Agent = "agent",
        /// -X and -Y.
        X11 = "x11",
    }
}

impl Forward {
    /// The gate's word for it.
    pub(crate) const fn policy(self) -> sojourn_engine::profiles::Forward {
        use sojourn_engine::profiles::Forward as Policy;
        match self {
            Self::Local => Policy::Local,
            Self::Remote => Policy::Remote,
            Self::Agent => Policy::Agent,
            Self::X11 => Policy::X11,
        }
    }
}

fn words<T>(list: &[&str], make: impl Fn(String) -> T) -> Vec<T> {
    list.iter().map(|word| make((*word).to_owned())).collect()
}

keys! {
    /// What a session runs in.
    pub(crate) struct Profile {
        /// The kind of isolation: "native", "docker" or "host".
        sandbox: SandboxKind = SandboxKind::Native;
        /// Who may use it: "*", "role:member", "user:alice".
        allow: Vec<Allow> = vec![Allow::Everybody];
        /// The root file system: "host" for the host's own programs, a directory, or an image archive.
        rootfs: RootFs = RootFs(None);
        /// Docker: the image.
        image: Image = Image(String::new());
        /// A directory laid over the root file system, or "bait" for the files of a made-up server.
        overlay: Overlay = Overlay(Laid::Nothing);
        /// The host name inside; empty: a neutral one.
        hostname: HostName = HostName(String::new());
        /// Environment variables that programs get.
        env: Env = Env::default();
        /// Environment variables that clients may set; * stands for any letters.
        accept_env: Vec<Pattern> = words(&["LANG", "LC_*"], Pattern);
        /// What a shell request starts.
        command: Vec<String> = words(&["/bin/bash", "-l"], |word| word);
        /// What a sandbox reaches: "none", or "nat".
        network: Network = Network::None;
        /// nat: what may be reached, host:port; empty is everything public. Private ranges only when named.
        egress: Vec<Entry> = Vec::new();
        /// nat: how fast, each way; "0" is no limit.
        egress_rate: Rate = Rate(Size::mib(1));
        /// Which forwards are allowed: "local", "remote", "agent", "x11".
        forward: Vec<Forward> = Vec::new();
        /// Memory of all its programs.
        memory: Size = Size::mib(256), from Size::mib(8), to Size(1 << 44);
        /// Processor cores.
        cpu: f64 = 0.5, from 0.01, to 1024.0;
        /// Processes and threads.
        pids: u32 = 100, from 4, to 100_000;
        /// Size of /tmp.
        tmp_size: Size = Size::mib(50), from Size(64 << 10), to Size(1 << 44);
        /// All that can be written, /tmp aside; when it is full, programs are told so.
        disk_size: Size = Size::mib(256), from Size::mib(1), to Size(1 << 44);
        /// Sandboxes made ahead of time.
        pool: u32 = 3, from 0, to 1000;
        /// Who shares a sandbox: each "connection" has its own, or each "user".
        share: Share = Share::Connection;
        /// How long what a session left is kept; 0 = for ever.
        keep_for: Span = Span::seconds(7 * 86_400);
        /// sandbox = "host": the system account.
        run_as: RunAs = RunAs(String::new());
        /// Whether a session needs a stated reason.
        require_why: bool = false;
        /// Overrides the limit of this name.
        session_timeout: Option<Span> = None;
        /// Overrides the limit of this name.
        agent_timeout: Option<Span> = None;
        /// Overrides the limit of this name.
        idle_timeout: Option<Span> = None;
        /// Overrides the limit of this name.
        idle_counts: Option<IdleCounts> = None;
        /// Overrides the limit of this name.
        max_output: Option<Size> = None;
        /// Overrides the limit of this name.
        max_cost: Option<Money> = None;
        /// Overrides the limit of this name.
        warn_before: Option<Span> = None;
        /// Overrides the limit of this name.
        grace: Option<Span> = None;
        /// Overrides the limit of this name.
        detach_grace: Option<Span> = None;
    }
}

impl Profile {
    fn built_in(name: &str) -> Self {
        match name {
            BAIT => Self {
                allow: Vec::new(),
                overlay: Overlay(Laid::Bait),
                hostname: HostName("web01".to_owned()),
                ..Self::default()
            },
            HOST => Self { sandbox: SandboxKind::Host, allow: Vec::new(), ..Self::default() },
            _ => Self::default(),
        }
    }
}

/// All profiles, the built-in ones among them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Profiles {
    all: BTreeMap<String, Profile>,
    /// Those that honeypots give their visitors.
    of_honeypots: BTreeSet<String>,
}

impl Default for Profiles {
    fn default() -> Self {
        let built_in = |name: &str| (name.to_owned(), Profile::built_in(name));
        Self { all: [DEFAULT, BAIT, HOST].map(built_in).into(), of_honeypots: BTreeSet::new() }
    }
}

impl Profiles {
    /// Those that sessions can have in this version, by name.
    pub(crate) fn usable(&self) -> impl Iterator<Item = (&str, &Profile)> {
        let usable = |name: &str, profile: &Profile| {
            can_be_made(profile) && self.is_for_somebody(name, profile)
        };
        self.all
            .iter()
            .filter(move |(name, profile)| usable(name, profile))
            .map(|(name, profile)| (name.as_str(), profile))
    }

    /// A profile that allows nobody is one for honeypots, and idle where none has it.
    fn is_for_somebody(&self, name: &str, profile: &Profile) -> bool {
        !profile.allow.is_empty() || self.of_honeypots.contains(name)
    }

    /// A honeypot gives its visitors the profile of this name. False: there is none.
    pub(super) fn give_visitors(&mut self, name: &str) -> bool {
        self.of_honeypots.insert(name.to_owned());
        let apart = |profile: &Profile| profile.sandbox != SandboxKind::Host;
        self.all.get(name).is_some_and(|profile| apart(profile) && can_be_made(profile))
    }

    /// All of them, and whether each is for somebody.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Profile, bool)> {
        self.all
            .iter()
            .map(|(name, profile)| (name.as_str(), profile, self.is_for_somebody(name, profile)))
    }
}

/// Whether it says all that its kind of sandbox needs.
fn can_be_made(profile: &Profile) -> bool {
    match profile.sandbox {
        SandboxKind::Native => true,
        SandboxKind::Docker => !profile.image.0.is_empty(),
        SandboxKind::Host => !profile.run_as.0.is_empty(),
    }
}

impl Value for Profiles {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let mut profiles = Self::default();
        let unpacked = node.unpacked();
        let node = unpacked.as_ref().unwrap_or(node);
        let Kind::Table(table) = &node.kind else {
            report.problem(node, format_args!("{} where a table is wanted", node.kind));
            return None;
        };
        for (name, node) in table {
            if !is_profile_name(name) {
                report.problem(node, "a profile's name is a-z, 0-9, _ and -, at most 32 of them");
                // What else is wrong with it is told as well.
                Profile::default().take(node, report);
            } else {
                let entry = profiles.all.entry(name.clone());
                let profile = entry.or_insert_with(|| Profile::built_in(name));
                profile.take(node, report);
                if profile.sandbox == SandboxKind::Host && node.get("allow").is_none() {
                    // Nobody gets onto the host by accident.
                    profile.allow = Vec::new();
                }
            }
        }
        Some(profiles)
    }

    fn write(&self) -> Option<toml::Value> {
        self.all.write()
    }

    fn schema() -> Json {
        let names = json!({"pattern": "^[a-z0-9][a-z0-9_-]{0,31}$"});
        json!({
            "type": "object",
            "propertyNames": names,
            "additionalProperties": Profile::schema(),
        })
    }
}

fn is_profile_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 32
        && name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || b == b'_' || b == b'-')
}

/// Environment variables that programs get. Their values may be secrets, and are not shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Env(pub(crate) BTreeMap<String, String>);

impl Value for Env {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let env = BTreeMap::<String, String>::read(node, report)?;
        let bad = env.keys().find(|name| {
            let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            !letters || name.is_empty() || name.len() > 128 || name.as_bytes()[0].is_ascii_digit()
        });
        if let Some(name) = bad {
            report
                .problem(node, format_args!("{name:?} is not the name of an environment variable"));
            return None;
        }
        Some(Self(env))
    }

    fn write(&self) -> Option<toml::Value> {
        let hidden = |name: &String| (name.clone(), "(hidden)".to_owned());
        self.0.keys().map(hidden).collect::<BTreeMap<_, _>>().write()
    }

    fn schema() -> Json {
        BTreeMap::<String, String>::schema()
    }
}
