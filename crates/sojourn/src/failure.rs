//! What a command can come to, and the one place that makes an exit status of it.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::config::ConfigError;

/// Refused, or it did not work.
const EXIT_FAILED: u8 = 1;
/// Wrong usage or configuration.
const EXIT_USAGE: u8 = 2;
/// The gateway cannot be reached.
const EXIT_UNREACHABLE: u8 = 3;
/// A bug of ours: `EX_SOFTWARE`.
pub(crate) const EXIT_BUG: u8 = 70;

/// Why a command did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It was called wrongly.
    #[error("{0}")]
    Usage(String),
    /// The configuration does not hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The gateway cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// It was refused, or did not work; the line says what to do.
    #[error("{0}")]
    Refused(String),
    /// A session's program ended so, and everything there is to say is said.
    #[error("the session ended with status {0}")]
    Status(u8),
    /// Whoever reads our output wants no more of it.
    #[error("the output was closed")]
    OutputClosed,
}

/// What every command returns.
pub(crate) type Outcome = Result<(), Failure>;

impl Failure {
    /// It was refused, or did not work.
    pub(crate) fn refused(why: impl fmt::Display) -> Self {
        Self::Refused(why.to_string())
    }

    /// Something went wrong with this file, directory or socket.
    pub(crate) fn at(path: &std::path::Path, error: impl fmt::Display) -> Self {
        Self::Refused(format!("{}: {error}", path.display()))
    }

    /// An error with all its causes, in one line.
    pub(crate) fn caused(error: &dyn std::error::Error) -> Self {
        let mut line = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        Self::Refused(line)
    }

    /// Its exit status: the only table of them.
    fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => EXIT_USAGE,
            Self::Unreachable(_) => EXIT_UNREACHABLE,
            Self::Refused(_) => EXIT_FAILED,
            Self::Status(status) => *status,
            Self::OutputClosed => 0,
        }
    }
}

impl From<io::Error> for Failure {
    /// An error while writing what was asked for.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// Ends the program: one line a thing that is wrong on standard error, and the exit status.
pub(crate) fn end(outcome: Outcome) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    if !matches!(failure, Failure::OutputClosed | Failure::Status(_)) {
        for line in failure.to_string().lines() {
            complain(without_number(line));
        }
    }
    ExitCode::from(failure.exit_status())
}

/// A line without the number that the standard library puts behind the system's own words.
fn without_number(line: &str) -> String {
    let Some((before, after)) = line.split_once(" (os error ") else { return line.to_owned() };
    match after.split_once(')') {
        Some((_number, after)) => format!("{before}{after}"),
        None => line.to_owned(),
    }
}

/// Says something on standard error.
pub(crate) fn complain(line: impl fmt::Display) {
    use io::Write;
    // When nobody reads standard error there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "sojourn: {line}");
}

/// Makes a panic one line, and nothing else: it is a bug of ours, not the reader's.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = place.unwrap_or_default();
        complain(format_args!("this is a bug: {message} ({place}); please report it"));
    }));
}
