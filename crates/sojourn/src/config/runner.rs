//! What `sojourn runner` reads: where sessions may work, what may run, and its own limits.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use serde_json::json;
use sojourn_core::limits::Lower;
use sojourn_core::units::Size;
use sojourn_core::units::Span;
use sojourn_runner::remote::options;
use sojourn_runner::remote::options::Kind as Spoken;

use super::keys::keys;
use super::money::Money;
use super::node::Kind;
use super::node::Node;
use super::profile::Env;
use super::report::Report;
use super::value::Pattern;
use super::value::Value;

/// A user's own shell, on a terminal.
const SHELL: &str = "shell";

/// The agents that are known: name, and what starts them.
const PRESETS: [(&str, &[&str]); 4] = [
    ("claude", &["claude-agent-acp"]),
    ("codex", &["codex-acp"]),
    ("gemini", &["gemini", "--acp"]),
    ("opencode", &["opencode", "acp"]),
];

/// What a known agent needs in order to ask at all: opencode allows itself everything by default.
const ASKS: [(&str, &str, &str); 1] = [(
    "opencode",
    "OPENCODE_PERMISSION",
    r#"{"edit":"ask","bash":"ask","webfetch":"ask","external_directory":"ask"}"#,
)];

fn known() -> Vec<String> {
    std::iter::once(SHELL).chain(PRESETS.map(|(name, _)| name)).map(str::to_owned).collect()
}

keys! {
    /// Read by `sojourn runner`.
    pub(crate) struct Runner {
        /// Directories in which, and below which, sessions may work; ~ is the home directory. Without
        /// one nothing starts.
        allow_dirs: Vec<String> = Vec::new();
        /// What may be started. Agents of one's own are, too.
        harnesses: Vec<String> = known();
        /// Environment variables that programs get from the runner's own, beside PATH, HOME, LANG and
        /// their like; * stands for any letters.
        pass_env: Vec<Pattern> = Vec::new();
        /// Whether the desktop is told of a session started from elsewhere.
        notify: bool = true;
        /// Whether it shows how the first message begins.
        notify_prompt: bool = true;
        /// The longest that a session runs here, whatever the gateway says; 0 = what the gateway says.
        max_runtime: Span = Span::seconds(0);
        /// A session ends here after so long without anything happening; 0 = what the gateway says.
        idle_timeout: Span = Span::seconds(0);
        /// What a session may print here; 0 = what the gateway says.
        max_output: Size = Size(0);
        /// What an agent may spend here; 0 = what the gateway says.
        max_cost: Money = Money(0);
        /// Whether the time in which this machine sleeps counts against these limits.
        sleep_counts: bool = true;
        /// How much of a session is kept until the gateway has it; then its program waits.
        spool: Size = Size::mib(64), from Size::mib(4), to Size(64 << 30);
        /// Agents of one's own, and other ways to start those that are known, by name.
        harness: Harnesses = Harnesses::default();
    }
}

keys! {
    /// How something is started.
    pub(crate) struct Harness {
        /// The program and its arguments. An agent speaks the Agent Client Protocol on standard input
        /// and output.
        command: Vec<String> = Vec::new();
        /// Environment variables that it gets.
        env: Env = Env::default();
        /// The mode its agent is put in. Unset: one in which it asks.
        mode: Option<String> = None;
        /// Whether its agent may be in a mode in which it never asks.
        allow_bypass: bool = false;
    }
}

/// How things are started, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Harnesses(BTreeMap<String, Harness>);

impl Value for Harnesses {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let unpacked = node.unpacked();
        let node = unpacked.as_ref().unwrap_or(node);
        let Kind::Table(table) = &node.kind else {
            report.problem(node, format_args!("{} where a table is wanted", node.kind));
            return None;
        };
        let mut all = BTreeMap::new();
        for (name, node) in table {
            let Some(harness) = Harness::read(node, report) else { continue };
            if !is_name(name) {
                report.problem(node, "a harness' name is a-z, 0-9, _ and -, at most 32 of them");
            } else if harness.command.first().is_none_or(String::is_empty)
                && !known().contains(name)
            {
                report.problem(node, "a command is missing, like [\"my-agent\", \"--acp\"]");
            } else {
                all.insert(name.clone(), harness);
            }
        }
        Some(Self(all))
    }

    fn write(&self) -> Option<toml::Value> {
        self.0.write()
    }

    fn schema() -> Json {
        json!({
            "type": "object",
            "propertyNames": {"pattern": "^[a-z0-9][a-z0-9_-]{0,31}$"},
            "additionalProperties": Harness::schema(),
        })
    }
}

fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 32
        && name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || b == b'_' || b == b'-')
}

impl Runner {
    /// Whether each of `harnesses` is something.
    pub(super) fn check(&self, root: &Node, report: &mut Report) {
        let known = known();
        let unknown = self.harnesses.iter().enumerate().filter(|(_, name)| {
            !known.contains(name) && !self.harness.0.contains_key(name.as_str())
        });
        let list = root.get("runner").and_then(|runner| runner.get("harnesses"));
        for (index, name) in unknown {
            let node = list.and_then(|list| list.item(index)).or(list).unwrap_or(root);
            let message = format_args!(
                "there is no harness {name:?}; there are {}, and those of [runner.harness.NAME]",
                known.join(", ")
            );
            report.problem(node, message);
        }
    }

    /// What may be started, as the runner takes it.
    pub(crate) fn to_harnesses(&self) -> BTreeMap<String, options::Harness> {
        let own = self.harness.0.keys().filter(|name| !known().contains(name));
        let names = self.harnesses.iter().chain(own);
        names.map(|name| (name.clone(), self.one(name))).collect()
    }

    fn one(&self, name: &str) -> options::Harness {
        let own = self.harness.0.get(name).cloned().unwrap_or_default();
        let preset = PRESETS.iter().find(|(preset, _)| *preset == name);
        let usual = preset.map_or(&[][..], |(_, command)| command);
        let command = match own.command.is_empty() {
            true => usual.iter().map(|word| (*word).to_owned()).collect(),
            false => own.command,
        };
        let mut env = own.env.0;
        for (_, name, value) in ASKS.iter().filter(|(agent, _, _)| *agent == name) {
            // Whoever configures it otherwise, means it.
            env.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
        }
        options::Harness {
            kind: if name == SHELL { Spoken::Terminal } else { Spoken::Agent },
            command,
            env,
            mode: own.mode,
            allow_bypass: own.allow_bypass,
        }
    }

    /// Its own limits.
    pub(crate) fn limits(&self) -> Lower {
        Lower {
            max_runtime: self.max_runtime.limit(),
            idle_timeout: self.idle_timeout.limit(),
            max_output: self.max_output.limit(),
            max_cost: self.max_cost.limit(),
        }
    }

    /// What the desktop is told.
    pub(crate) const fn notices(&self) -> options::Notify {
        match (self.notify, self.notify_prompt) {
            (false, _) => options::Notify::Off,
            (true, false) => options::Notify::Start,
            (true, true) => options::Notify::Prompt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;

    fn runner(text: &str) -> super::Runner {
        let (config, _) = read("s.toml", text, &[]).unwrap_or_else(|e| panic!("{}", e.join("\n")));
        config.runner
    }

    #[test]
    fn known_agents_are_there_and_those_of_ones_own_beside_them() {
        let all = runner(
            "[runner]\nharnesses = [\"shell\", \"claude\"]\n\
             [runner.harness.claude]\nenv = {ANTHROPIC_BASE_URL = \"http://x\"}\nmode = \"plan\"\n\
             [runner.harness.mine]\ncommand = [\"my-agent\", \"--acp\"]\nallow_bypass = true",
        )
        .to_harnesses();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["claude", "mine", "shell"]);
        assert_eq!(all["claude"].command, ["claude-agent-acp"]);
        assert_eq!(all["claude"].env["ANTHROPIC_BASE_URL"], "http://x");
        assert_eq!(all["claude"].mode.as_deref(), Some("plan"));
        assert_eq!(all["mine"].command, ["my-agent", "--acp"]);
        assert!(all["mine"].allow_bypass && !all["claude"].allow_bypass);
        assert!(all["shell"].command.is_empty());
        let usual = runner("").to_harnesses();
        assert_eq!(usual["gemini"].command, ["gemini", "--acp"]);
        assert_eq!(usual.len(), 5);
        // Left to itself it asks nobody.
        assert!(usual["opencode"].env["OPENCODE_PERMISSION"].contains("\"bash\":\"ask\""));
    }

    #[test]
    fn a_harness_that_is_nothing_is_refused_with_its_line() {
        for (text, wanted) in [
            ("[runner]\nharnesses = [\"cladue\"]", "s.toml:2: runner.harnesses[0]"),
            ("[runner.harness.mine]\nmode = \"x\"", "a command is missing"),
            ("[runner.harness.\"My Agent\"]\ncommand = [\"x\"]", "a harness' name"),
            ("[runner]\nspool = \"1KB\"", "runner.spool"),
        ] {
            let told = read("s.toml", text, &[]).unwrap_err();
            assert!(told.len() == 1 && told[0].contains(wanted), "{told:?}");
        }
    }
}
