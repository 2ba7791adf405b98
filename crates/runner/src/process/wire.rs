//! What a runner and a warden say to each other: JSON over a seqpacket socket, one message a frame.
//! Both are the same build, so there is no version.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use sojourn_core::end::Exit;
use sojourn_core::wire::Text;

/// The longest message, in bytes: a command line and an environment are most of it.
pub(super) const LONGEST: usize = 128 << 10;

/// What is to be run. The descriptors that come along are the directory to run in, and then either
/// standard input, output and error, or a terminal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Spec {
    /// The program's path and its arguments.
    pub(super) argv: Vec<Text>,
    /// All of its environment.
    pub(super) env: Vec<(Text, Text)>,
    /// Whether it runs on a terminal.
    pub(super) terminal: bool,
    /// Names what belongs to the session.
    pub(super) tag: String,
}

/// Runner → warden.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(super) enum Order {
    /// Start it, and keep what becomes of it.
    Run(Spec),
    /// Become it: from a warden to the process that is to be the program.
    Become(Spec),
    /// End everything: politely, and after this time not.
    End {
        /// How long programs have to end themselves.
        grace: Duration,
    },
}

/// Warden → runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(super) enum Report {
    /// It runs.
    Started {
        /// The program's process.
        pid: u32,
    },
    /// It does not run.
    Refused {
        /// The system's words.
        message: String,
    },
    /// The program ended; what it started may live.
    Exited {
        /// How.
        exit: Exit,
    },
    /// So many processes did not die when they were killed.
    Left {
        /// How many.
        processes: u32,
    },
    /// Nothing lives any more.
    Empty,
}
