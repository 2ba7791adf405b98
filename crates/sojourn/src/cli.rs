//! The command line: every command and option, and the line of help it has.

use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap_complete::Shell;
use sojourn_core::authz::Role;
use sojourn_core::ids::SessionId;
use sojourn_core::scope::Scope;
use sojourn_core::status::Status;
use sojourn_core::time::Wall;
use sojourn_core::units::Span;

/// Every session is a stay: it has a lease, leaves a record, and ends on time.
#[derive(Debug, Parser)]
#[command(
    name = "sojourn",
    bin_name = "sojourn",
    version,
    max_term_width = 100,
    after_help = "Start with \"sojourn serve\"; it says how to come in.",
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Configuration [as root: /etc/sojourn/sojourn.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub(crate) config: Option<PathBuf>,
    /// Data directory, over what the configuration says
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway, with its built-in runner
    #[command(after_help = "Without root it makes no sandboxes; sessions run on runners.")]
    Serve,
    /// Run sessions of a gateway elsewhere on this machine
    Runner(Runner),
    /// The process beside a session of a runner; its standard input is a socket
    #[command(hide = true)]
    Warden,
    /// The process of a runner that makes a sandbox for a shell; its standard input is a terminal
    #[command(hide = true)]
    Chamber(Chamber),
    /// Start, see, attach to, end and replay sessions
    #[command(subcommand)]
    Session(Session),
    /// Manage accounts; the gateway may be running or stopped
    #[command(subcommand)]
    User(User),
    /// List, pause and remove runners on other machines
    #[command(subcommand)]
    Runners(Runners),
    /// Make, list and revoke tokens of programs and runners
    #[command(subcommand)]
    Token(Token),
    /// Read the audit log
    #[command(subcommand)]
    Audit(Audit),
    /// Check that nobody changed the audit log or a recording
    Verify(Verify),
    /// Check, show and describe the configuration
    #[command(subcommand)]
    Config(Config),
    /// Print a script that completes commands in a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// Where a runner belongs, and what it may.
#[derive(Debug, Args)]
#[command(
    after_help = "Make its token with \"sojourn token create --runner NAME\" at the gateway."
)]
pub(crate) struct Runner {
    /// Where it is, like https://gateway.example.org
    #[arg(long, value_name = "URL")]
    pub(crate) gateway: String,
    /// File with its token, which nobody else may read
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// Tells runners here apart [default: the host's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Sessions may work in and below it; may be repeated
    #[arg(long, value_name = "DIR")]
    pub(crate) allow: Vec<String>,
    /// Allow http to a gateway on another machine
    #[arg(long)]
    pub(crate) insecure_http: bool,
}

/// Whose sandbox, and which; `--data-dir` is its own.
#[derive(Debug, Args)]
pub(crate) struct Chamber {
    #[arg(long)]
    pub(crate) session: SessionId,
    #[arg(long)]
    pub(crate) user: String,
    #[arg(long)]
    pub(crate) profile: String,
    /// Which of the ranges of ids it takes
    #[arg(long)]
    pub(crate) place: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// List sessions, newest first
    #[command(alias = "list")]
    Ls(List),
    /// Show one session
    Show {
        #[command(flatten)]
        id: SessionName,
    },
    /// End a session
    End {
        #[command(flatten)]
        id: SessionName,
        /// Say why; the person in the session reads it
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// End many sessions at once
    EndAll(EndAll),
    /// Let a session run longer
    Extend {
        #[command(flatten)]
        id: SessionName,
        /// How much longer, like 30m or 2h
        #[arg(value_name = "DURATION")]
        by: Span,
        /// Say why; it goes on record
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Play a recording in this terminal: space pauses, q quits
    Replay(Replay),
    /// List what a session changed in its sandbox, or fetch it as a tar
    Files(Files),
    /// Start a session, and attach to it on a terminal
    Start(Start),
    /// Attach this terminal to a session; Ctrl-] leaves it running
    Attach(Attach),
    /// Interrupt what runs in front, as Ctrl-C does
    Interrupt {
        #[command(flatten)]
        id: SessionName,
    },
    /// Take up an agent's conversation again
    Resume {
        #[command(flatten)]
        id: SessionName,
    },
    /// Write all that is known of a session to a directory
    Export(Export),
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// What runs in it: shell, or an agent
    #[arg(long, value_name = "NAME", default_value = "shell")]
    pub(crate) harness: String,
    /// On which runner; without: a shell on the gateway's own, an agent on the only one of yours that
    /// has it
    #[arg(long, value_name = "NAME")]
    pub(crate) runner: Option<String>,
    /// From which profile
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// In which directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// Which model an agent uses
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// What becomes of an agent's requests for permission: relay, auto or deny
    #[arg(long, value_name = "MODE")]
    pub(crate) permission_mode: Option<String>,
    /// Say why; some profiles want to know
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
    /// Do not attach to it
    #[arg(long)]
    pub(crate) detach: bool,
    /// What an agent is to do
    #[arg(value_name = "PROMPT")]
    pub(crate) prompt: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Attach {
    #[command(flatten)]
    pub(crate) id: SessionName,
    /// Only look on
    #[arg(long)]
    pub(crate) watch: bool,
    /// When watching: also what acts on your terminal, as clipboard, title, queries
    #[arg(long, requires = "watch")]
    pub(crate) raw: bool,
    /// Take the keyboard from whoever has it
    #[arg(long, conflicts_with = "watch")]
    pub(crate) take_over: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) id: SessionName,
    /// The directory, which is made [default: sojourn-ID]
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Runners {
    /// List runners, by owner and name
    #[command(alias = "list")]
    Ls,
    /// Let no new session start on a runner; those that run go on
    Pause {
        /// Its name; USER/NAME where several users have one
        name: String,
    },
    /// Let new sessions start there again
    Resume {
        /// Its name; USER/NAME where several users have one
        name: String,
    },
    /// Revoke a runner's token: it is disconnected, and may not come again
    #[command(alias = "remove")]
    Rm {
        /// Its name; USER/NAME where several users have one
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token, and print it this once
    Create(NewToken),
    /// List tokens, newest first
    #[command(alias = "list")]
    Ls {
        /// Only those of this user
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Revoke a token
    Revoke {
        /// Its id, or the last 4 characters of it or more
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewToken {
    /// For a runner of this name
    #[arg(long, value_name = "NAME", conflicts_with_all = ["user", "scope"])]
    pub(crate) runner: Option<String>,
    /// Whose runner it is [default: the only user, where there is one]
    #[arg(long, value_name = "USER", requires = "runner")]
    pub(crate) owner: Option<String>,
    /// For programs of this user
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// What it is good for: read, sessions or admin [default: read]
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<Scope>,
    /// What to call it
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,
    /// How long it is good, like 30d [default: until it is revoked]
    #[arg(long, value_name = "DURATION")]
    pub(crate) expires: Option<Span>,
}

/// Which session.
#[derive(Debug, Args)]
pub(crate) struct SessionName {
    /// Its id, or the last 4 characters of it or more
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those with this status, like running or ended
    #[arg(long)]
    pub(crate) status: Option<Status>,
    /// Only those of this user
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Only those with this in their id, user, profile, reason or address
    #[arg(long, value_name = "TEXT")]
    pub(crate) search: Option<String>,
    /// Only those with this label, NAME or NAME=VALUE
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct EndAll {
    /// All of this user
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// All on this runner; with --user, where several users have one of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) runner: Option<String>,
    /// All there are
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) id: SessionName,
    /// Which program of the session, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) channel: u16,
    /// So many times as fast
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    pub(crate) speed: f64,
    /// No pause longer than so many seconds, or a duration like 500ms
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) idle_limit: Option<Span>,
    /// Also what acts on your terminal: clipboard, title, queries
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Files {
    #[command(flatten)]
    pub(crate) id: SessionName,
    /// Write the files as a tar to FILE, or to standard output with -
    #[arg(long, value_name = "FILE")]
    pub(crate) tar: Option<PathBuf>,
    /// Overwrite FILE
    #[arg(long, requires = "tar")]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Make an account; asks for a password unless told how
    Add {
        /// Its name: a-z, 0-9, _ . and -, at most 32 of them
        name: String,
        /// admin, member or auditor
        #[arg(long, default_value_t = Role::Member)]
        role: Role,
        #[command(flatten)]
        password: NewPassword,
    },
    /// List accounts
    #[command(alias = "list")]
    Ls,
    /// Set another password
    Passwd {
        /// Whose
        name: String,
        /// Read it from standard input, one line
        #[arg(long)]
        password_stdin: bool,
    },
    /// Manage the SSH keys of an account
    #[command(subcommand)]
    Key(Key),
    /// Change what an account may
    Role {
        /// Whose
        name: String,
        /// admin, member or auditor
        role: Role,
    },
    /// Close an account for now, and end what it began by password
    #[command(
        after_help = "What came by a key or a token goes on: sojourn session end-all --user NAME"
    )]
    Disable {
        /// Whose
        name: String,
    },
    /// Open a closed account again
    Enable {
        /// Whose
        name: String,
    },
    /// List where somebody is signed in, or end that
    Logins {
        /// Whose
        name: String,
        /// End them all
        #[arg(long)]
        end: bool,
    },
    /// Make a one-time token to set a password with, good for an hour
    Reset {
        /// Whose
        name: String,
    },
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct NewPassword {
    /// Read the password from standard input, one line
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// No password: the account comes in by key only
    #[arg(long)]
    pub(crate) no_password: bool,
    /// No password yet: make a one-time link to set one with, good for an hour
    #[arg(long)]
    pub(crate) link: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Add a public key
    Add {
        /// Whose
        name: String,
        /// A file like ~/.ssh/id_ed25519.pub, or - for standard input
        file: PathBuf,
    },
    /// List keys
    #[command(alias = "list")]
    Ls {
        /// Whose
        name: String,
    },
    /// Remove a key
    Rm {
        /// Whose
        name: String,
        /// The key's id, or the last 4 characters of it or more
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Print the last lines
    Tail {
        /// Go on with what comes
        #[arg(short, long)]
        follow: bool,
        /// So many lines
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        lines: usize,
    },
    /// Print what matches
    Search(Search),
    /// Print the whole log as it is written
    Export,
}

#[derive(Debug, Args)]
pub(crate) struct Search {
    /// Done by this user, or to their account
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// In this session: its id, or the last 4 characters of it or more
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// With this action, like auth_attempt or session_ended
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// Not before: 2026-11-22, 2026-11-22T14:00:00Z, or 2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<Wall>,
    /// Before: as --since
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<Wall>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Also hold the log against a checkpoint that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Recordings of these sessions only: ids, or endings of them
    #[arg(value_name = "SESSION")]
    pub(crate) sessions: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Say everything that is wrong with a file
    Check {
        /// The file [default: the one in effect]
        file: Option<PathBuf>,
    },
    /// Print what is in effect, secrets hidden
    Show,
    /// Print the JSON Schema of the file
    Schema,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if speed.is_finite() && speed > 0.0 { Ok(speed) } else { Err("not above 0".to_owned()) }
}

fn seconds(text: &str) -> Result<Span, String> {
    match text.parse::<f64>() {
        Ok(seconds) => std::time::Duration::try_from_secs_f64(seconds)
            .map(Span)
            .map_err(|_| "not a number of seconds".to_owned()),
        Err(_) => text.parse().map_err(|error: sojourn_core::units::UnitError| error.to_string()),
    }
}

/// A time of the calendar, or a duration before now.
fn moment(text: &str) -> Result<Wall, String> {
    if let Ok(ago) = text.parse::<Span>() {
        let micros = i64::try_from(ago.0.as_micros()).unwrap_or(i64::MAX);
        return Ok(Wall(crate::output::now().0.saturating_sub(micros)));
    }
    let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    Wall::from_rfc3339(&whole).map_err(|_| {
        "not a time; write it like 2026-11-22, 2026-11-22T14:00:00Z, or 2h for two hours ago"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_of_the_calendar_or_ago() {
        assert_eq!(moment("2026-11-22").unwrap(), moment("2026-11-22T00:00:00Z").unwrap());
        assert!(moment("1h").unwrap() < crate::output::now());
        assert!(moment("yesterday").is_err());
    }
}
