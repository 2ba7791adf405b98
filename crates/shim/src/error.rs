//! Why a sandbox could not be built.

use std::fmt;
use std::io;

/// The steps of building a sandbox, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Checking the profile.
    Profile,
    /// Forking, own mount namespace, staging directory.
    Prepare,
    /// The writable layer.
    Disk,
    /// The root file system.
    Rootfs,
    /// The container: namespaces, ids, cgroups, seccomp.
    Container,
    /// The loopback interface.
    Network,
    /// The way to its terminals.
    Terminals,
    /// Letting go of it.
    Start,
    /// `init` reporting that it is ready.
    Init,
}

impl Stage {
    const ALL: [Self; 9] = [
        Self::Profile,
        Self::Prepare,
        Self::Disk,
        Self::Rootfs,
        Self::Container,
        Self::Network,
        Self::Terminals,
        Self::Start,
        Self::Init,
    ];

    pub(crate) fn number(self) -> u8 {
        Self::ALL.iter().zip(0..).find(|(stage, _)| **stage == self).map_or(0, |(_, n)| n)
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Profile => "profile",
            Self::Prepare => "prepare",
            Self::Disk => "disk",
            Self::Rootfs => "root file system",
            Self::Container => "container",
            Self::Network => "network",
            Self::Terminals => "terminals",
            Self::Start => "start",
            Self::Init => "init",
        })
    }
}

/// A sandbox could not be built. Nothing of it is left.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{stage}: {message}")]
pub struct BuildError {
    /// The step that failed.
    pub stage: Stage,
    /// What went wrong there.
    pub message: String,
}

/// Names the step a result belongs to.
pub(crate) trait At<T> {
    fn at(self, stage: Stage, what: &str) -> Result<T, BuildError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, stage: Stage, what: &str) -> Result<T, BuildError> {
        self.map_err(|error| BuildError { stage, message: format!("{what}: {}", error.into()) })
    }
}
