//! What the fake agent is told on its command line.

use std::time::Duration;

/// What it says when it does not understand.
const HELP: &str = "\
fake-agent [--flavour claude|codex|gemini|opencode] [--no-resume] [--no-load] [--null-results]
           [--replay] [--replay-late] [--no-modes] [--config-modes] [--slow-start SECONDS]
           [--die-at-start CODE] [--silent] [--sign-in]
prompts: say N · stream SIZE [at SIZE/s] · perm [COMMAND] · perm xN · perm edit PATH TEXT ·
  perm withdraw · work N · ask · hang · ignore-cancel · die CODE [mid-perm] · big-line SIZE · nonjson ·
  fork-setsid · mode NAME · usage [AMOUNT] · edit PATH TEXT · stderr TEXT · anything else is said again";

/// How the ids of an agent's options are called: always, once, reject; and its modes.
#[derive(Clone, Copy)]
pub(crate) struct Flavour {
    pub(crate) always: &'static str,
    pub(crate) once: &'static str,
    pub(crate) reject: &'static str,
    pub(crate) modes: &'static [&'static str],
}

/// As the real ones were seen to call theirs.
fn flavour(name: &str) -> Option<Flavour> {
    let (always, once, reject, modes): (_, _, _, &[&str]) = match name {
        "claude" => (
            "allow-always",
            "allow-once",
            "reject",
            &["default", "acceptEdits", "plan", "bypassPermissions"],
        ),
        "codex" => (
            "accept_execpolicy_amendment",
            "allow_once",
            "cancel",
            &["agent", "read-only", "agent-full-access"],
        ),
        "gemini" => ("proceed_always", "proceed_once", "cancel", &["default", "autoEdit", "yolo"]),
        "opencode" => ("always", "once", "reject", &["build", "plan"]),
        _ => return None,
    };
    Some(Flavour { always, once, reject, modes })
}

/// Everything that is told.
pub(crate) struct Options {
    pub(crate) flavour: Flavour,
    pub(crate) resumes: bool,
    pub(crate) loads: bool,
    /// Answers `null` where others answer an object.
    pub(crate) null_results: bool,
    /// Tells the history again on load.
    pub(crate) replays: bool,
    /// The same, after it said that it is loaded.
    pub(crate) replays_late: bool,
    pub(crate) has_modes: bool,
    /// Modes are an option of the configuration.
    pub(crate) config_modes: bool,
    pub(crate) slow_start: Duration,
    pub(crate) die_at_start: Option<u8>,
    /// Wants one to sign in first.
    pub(crate) sign_in: bool,
}

impl Options {
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let claude = flavour("claude").ok_or(HELP)?;
        let mut options = Self {
            flavour: claude,
            resumes: true,
            loads: true,
            null_results: false,
            replays: false,
            replays_late: false,
            has_modes: true,
            config_modes: false,
            slow_start: Duration::ZERO,
            die_at_start: None,
            sign_in: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(HELP);
            match argument.as_str() {
                "--flavour" => options.flavour = flavour(&value()?).ok_or(HELP)?,
                "--no-resume" => options.resumes = false,
                "--no-load" => options.loads = false,
                "--null-results" => options.null_results = true,
                "--replay" => options.replays = true,
                "--replay-late" => options.replays_late = true,
                "--no-modes" => options.has_modes = false,
                "--config-modes" => options.config_modes = true,
                "--silent" => options.slow_start = Duration::from_secs(100_000),
                "--sign-in" => options.sign_in = true,
                "--slow-start" => {
                    let seconds = value()?.parse().map_err(|_| HELP)?;
                    options.slow_start = Duration::from_secs_f64(seconds);
                }
                "--die-at-start" => {
                    options.die_at_start = Some(value()?.parse().map_err(|_| HELP)?);
                }
                _ => return Err(HELP.to_owned()),
            }
        }
        Ok(options)
    }
}
