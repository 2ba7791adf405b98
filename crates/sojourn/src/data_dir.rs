//! The data directory as commands use it: what is where, and whose work in it is done.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::process::Gid;
use rustix::process::Uid;

use crate::failure::Failure;
use crate::failure::Outcome;

/// An existing data directory.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// The directory, which a gateway must have made.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        match fs::metadata(path) {
            Ok(about) if about.is_dir() => Ok(Self(path.to_owned())),
            Ok(_) => Err(Failure::at(path, "not a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::at(
                path,
                "there is no data directory; \"sojourn serve\" makes it, --data-dir names another",
            )),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(Self(path.to_owned()).not_ours())
            }
            Err(error) => Err(Failure::at(path, error)),
        }
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the audit log is.
    pub(crate) fn audit(&self) -> PathBuf {
        self.0.join(sojourn_engine::audit::DIR)
    }

    /// Where recordings are.
    pub(crate) fn recordings(&self) -> PathBuf {
        self.0.join("recordings")
    }

    /// Makes root the gateway's user for the rest of this process: what is in the directory was
    /// written by that user, and is read and written with no more rights than theirs.
    ///
    /// Has to be called while the process has one thread.
    pub(crate) fn become_owner(&self) -> Outcome {
        let audit = self.audit();
        let about = fs::metadata(&audit).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::at(
                self.path(),
                "no gateway has used this data directory yet; start \"sojourn serve\" once",
            ),
            io::ErrorKind::PermissionDenied => self.not_ours(),
            _ => Failure::at(&audit, error),
        })?;
        let me = rustix::process::geteuid();
        if !me.is_root() {
            return if me.as_raw() == about.uid() { Ok(()) } else { Err(self.not_ours()) };
        }
        if about.uid() == 0 {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(about.uid()), Gid::from_raw(about.gid()));
        rustix::thread::set_thread_groups(&[gid])
            .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
            .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid))
            .map_err(|error| {
                Failure::refused(format!("cannot become user {}: {error}", about.uid()))
            })
    }

    fn not_ours(&self) -> Failure {
        Failure::at(self.path(), "only root and the gateway's user can do this; try it with sudo")
    }
}
