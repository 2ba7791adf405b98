//! Where sessions may work: below directories that the runner's user named, and nowhere else. What is
//! a link is followed first; what is checked is what is opened, and what is opened is what the program
//! gets, so that nothing can be put in its place in between.

use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// The directories, resolved.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed {
    directories: Vec<PathBuf>,
    home: PathBuf,
}

/// Why a session may not work somewhere.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAllowed {
    /// Nothing is allowed at all.
    #[error(
        "no directory is allowed on this runner; start it with --allow DIR, or name directories \
         in runner.allow_dirs of its configuration"
    )]
    Nothing,
    /// It was not said where, and there is a choice.
    #[error("say in which directory it is to work; allowed are {0}")]
    Which(String),
    /// The system's words.
    #[error("{0}: {1}")]
    Missing(String, String),
    /// It is no directory.
    #[error("{0} is not a directory")]
    NoDirectory(String),
    /// It is elsewhere.
    #[error("{asked} is not allowed on this runner; allowed is what is below {allowed}")]
    Elsewhere {
        /// What was asked for, and where that leads.
        asked: String,
        /// What is allowed.
        allowed: String,
    },
}

impl Allowed {
    /// Resolves directories; those that are not there are told apart.
    pub(super) fn new(directories: &[String], home: &Path) -> (Self, Vec<String>) {
        let mut allowed = Self { directories: Vec::new(), home: home.to_owned() };
        let mut problems = Vec::new();
        for written in directories {
            match fs::canonicalize(allowed.expand(written)) {
                Ok(path) if path.is_dir() => allowed.directories.push(path),
                Ok(_) => problems.push(format!("{written}: not a directory")),
                Err(error) => problems.push(format!("{written}: {}", crate::tls::plain(&error))),
            }
        }
        allowed.directories.sort();
        allowed.directories.dedup();
        (allowed, problems)
    }

    /// As the gateway is told.
    pub(super) fn shown(&self) -> Vec<String> {
        self.directories.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    }

    fn expand(&self, written: &str) -> PathBuf {
        match written.strip_prefix('~') {
            Some("") => self.home.clone(),
            Some(rest) if rest.starts_with('/') => self.home.join(rest.trim_start_matches('/')),
            _ => PathBuf::from(written),
        }
    }

    /// Opens the directory that somebody asked for; none asked for is the only one there is.
    pub(super) fn open(&self, asked: Option<&str>) -> Result<(PathBuf, OwnedFd), NotAllowed> {
        let allowed = || self.shown().join(", ");
        let written =
            match (asked.map(str::trim).filter(|asked| !asked.is_empty()), &*self.directories) {
                (_, []) => return Err(NotAllowed::Nothing),
                (Some(asked), _) => self.expand(asked),
                (None, [only]) => only.clone(),
                (None, _) => return Err(NotAllowed::Which(allowed())),
            };
        let shown = written.display().to_string();
        let missing =
            |error: &io::Error| NotAllowed::Missing(shown.clone(), crate::tls::plain(error));
        if !written.is_absolute() {
            let why = "not an absolute path, nor one that begins with ~/".to_owned();
            return Err(NotAllowed::Missing(shown, why));
        }
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let opened = File::options()
            .read(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
            .open(&written);
        let directory = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => NotAllowed::NoDirectory(shown.clone()),
            _ => missing(&error),
        })?;
        // Where the opened one really is, whatever its path led through.
        let real = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let real = real.map_err(|error| missing(&error))?;
        if !self.directories.iter().any(|allowed| real.starts_with(allowed)) {
            let asked = match real == written {
                true => shown,
                false => format!("{shown} (which is {})", real.display()),
            };
            return Err(NotAllowed::Elsewhere { asked, allowed: allowed() });
        }
        Ok((real, directory.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn house() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("home/src/deep")).unwrap();
        fs::create_dir_all(root.join("home/src-other")).unwrap();
        fs::create_dir_all(root.join("secret")).unwrap();
        fs::write(root.join("home/src/file"), "").unwrap();
        symlink(root.join("secret"), root.join("home/src/way-out")).unwrap();
        symlink(root.join("home/src"), root.join("link-in")).unwrap();
        (dir, root)
    }

    #[test]
    fn flaw_06_a_session_works_below_an_allowed_directory_and_nowhere_else() {
        let (_dir, root) = house();
        let (allowed, problems) = Allowed::new(&["~/src".to_owned()], &root.join("home"));
        assert_eq!(problems, [""; 0]);
        let open = |path: &str| allowed.open(Some(path)).map(|(path, _)| path);
        assert_eq!(open("~/src/deep").unwrap(), root.join("home/src/deep"));
        assert_eq!(allowed.open(None).unwrap().0, root.join("home/src"), "the only one");
        let through = root.join("link-in/deep");
        assert_eq!(open(through.to_str().unwrap()).unwrap(), root.join("home/src/deep"));
        let outside = ["~/src/way-out", "~/src/../../secret", "~/src-other", "~", "/", "/etc"];
        for outside in outside {
            let refused = open(outside).unwrap_err();
            assert!(matches!(refused, NotAllowed::Elsewhere { .. }), "{outside}: {refused}");
        }
        assert!(matches!(open("~/src/file"), Err(NotAllowed::NoDirectory(_))));
        assert!(matches!(open("~/src/none"), Err(NotAllowed::Missing(..))));
        assert!(matches!(open("src"), Err(NotAllowed::Missing(..))));
    }

    #[test]
    fn flaw_06_without_an_allowed_directory_nothing_starts() {
        let (_dir, root) = house();
        let (allowed, _) = Allowed::new(&[], &root);
        assert_eq!(allowed.open(Some("/tmp")).unwrap_err(), NotAllowed::Nothing);
        let (allowed, problems) = Allowed::new(&["~/none".to_owned()], &root);
        assert_eq!(problems, ["~/none: No such file or directory"]);
        assert_eq!(allowed.open(None).unwrap_err(), NotAllowed::Nothing);
    }
}
