//! `kept/`: what sessions left in their sandboxes, a directory each, named by session and time.
//!
//! Only root reads it. A gateway gets descriptors of single files.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::fs::AtFlags;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::runner::LeftForm;
use sojourn_sandbox::left::ABOUT;
use sojourn_sandbox::left::About;
use sojourn_sandbox::left::LIST;
use sojourn_sandbox::left::TAR;
use sojourn_sandbox::left::UNTOLD;
use sojourn_sandbox::left::UPLOADS;
use sojourn_shim::clock;
use sojourn_shim::files;

use crate::directories::as_path;

/// The most uploads of one session that are kept.
const MOST_UPLOADS: usize = 100;

/// The most of an [`ABOUT`] that is read.
const LONGEST_ABOUT: u64 = 64 << 10;

/// The longest reason that is read.
const LONGEST_WHY: u64 = 4 << 10;

/// The length of a session's id as text.
const ID: usize = 36;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The name of one of its directories, read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// When it was made; first, so that names sort by age.
    pub(crate) at: Wall,
    /// Whose it is.
    pub(crate) session: SessionId,
}

impl Name {
    pub(crate) fn read(name: &str) -> Option<Self> {
        let session: SessionId = name.get(..ID)?.parse().ok()?;
        let at = Wall::from_file_name(name.get(ID..)?.strip_prefix('-')?)?;
        Some(Self { at, session })
    }

    pub(crate) fn write(&self) -> String {
        format!("{}-{}", self.session, self.at.to_file_name())
    }
}

/// How far somebody is with reading what a session left.
pub(crate) enum Reading {
    /// All of it is there.
    Whole(Name, About),
    /// A keeper is at it.
    Going,
    /// Nobody is, and nothing whole is there.
    Nobody,
}

/// `kept/`, held.
#[derive(Debug)]
pub(crate) struct Kept {
    directory: OwnedFd,
    /// Held while a directory is looked for and made, so that a session has one.
    making: Mutex<()>,
}

impl Kept {
    pub(crate) fn new(directory: OwnedFd) -> Self {
        Self { directory, making: Mutex::default() }
    }

    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// The directories there are, oldest first.
    pub(crate) fn names(&self) -> io::Result<Vec<Name>> {
        let mut names: Vec<Name> = fs::read_dir(as_path(&self.directory))?
            .filter_map(|entry| Name::read(entry.ok()?.file_name().to_str()?))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The newest directory of a session.
    pub(crate) fn find(&self, session: SessionId) -> io::Result<Option<Name>> {
        Ok(self.names()?.into_iter().rfind(|name| name.session == session))
    }

    /// The name of a session's directory: the one there is, or one to be made now.
    pub(crate) fn name_for(&self, session: SessionId) -> io::Result<Name> {
        let found = self.find(session)?;
        Ok(found.unwrap_or(Name { at: clock::wall(), session }))
    }

    /// What is kept of a session, with its name and length; none when nothing is.
    pub(crate) fn open(
        &self,
        session: SessionId,
        form: LeftForm,
    ) -> io::Result<Option<(String, OwnedFd, u64)>> {
        let Some(name) = self.find(session)? else { return Ok(None) };
        let name = name.write();
        let directory = self.below(&name)?;
        let file = match form {
            LeftForm::List => LIST,
            LeftForm::Tar => TAR,
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&directory, file, flags, Mode::empty()) {
            Ok(file) => {
                let bytes = rustix::fs::fstat(&file)?.st_size;
                Ok(Some((name, file, u64::try_from(bytes).unwrap_or(0))))
            }
            // Nothing but uploads, or not whole.
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A new file for an upload, its name below `kept/`, and what may be written to it. None: there
    /// are enough. `most`: bytes of all uploads of the session.
    pub(crate) fn evidence(
        &self,
        session: SessionId,
        most: u64,
    ) -> io::Result<Option<(String, OwnedFd, u64)>> {
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let name = self.name_for(session)?.write();
        make(&self.directory, &name)?;
        let directory = self.below(&name)?;
        make(&directory, UPLOADS)?;
        let uploads = rustix::fs::openat(&directory, UPLOADS, DIRECTORY, Mode::empty())?;
        let (mut count, mut bytes) = (0, 0_u64);
        for entry in fs::read_dir(as_path(&uploads))? {
            count += 1;
            bytes = bytes.saturating_add(entry?.metadata()?.len());
        }
        let left = most.saturating_sub(bytes);
        if count >= MOST_UPLOADS || left == 0 {
            return Ok(None);
        }
        let number = count.to_string();
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&uploads, &number, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Some((format!("{name}/{UPLOADS}/{number}"), file, left)))
    }

    /// What a directory holds, if all of it is there.
    pub(crate) fn about(&self, name: &Name) -> Option<About> {
        let directory = self.below(&name.write()).ok()?;
        let bytes = files::read(directory.as_fd(), ABOUT, LONGEST_ABOUT).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Whether a session's directory is whole, or its keeper is at it: as long as it is, it locks it.
    pub(crate) fn reading(&self, session: SessionId) -> io::Result<Reading> {
        let Some(name) = self.find(session)? else { return Ok(Reading::Nobody) };
        if let Some(about) = self.about(&name) {
            return Ok(Reading::Whole(name, about));
        }
        let directory = self.below(&name.write())?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Reading::Nobody),
            Err(Errno::WOULDBLOCK) => Ok(Reading::Going),
            Err(error) => Err(error.into()),
        }
    }

    /// How much room a directory takes.
    pub(crate) fn size(&self, name: &Name) -> io::Result<u64> {
        let directory = self.below(&name.write())?;
        let mut size = 0_u64;
        for path in [as_path(&directory), as_path(&directory).join(UPLOADS)] {
            for entry in fs::read_dir(path).into_iter().flatten() {
                let metadata = entry?.metadata()?;
                size = size.saturating_add(if metadata.is_file() { metadata.len() } else { 0 });
            }
        }
        Ok(size)
    }

    /// How much room is left beside it.
    pub(crate) fn free(&self) -> io::Result<u64> {
        let about = rustix::fs::fstatvfs(&self.directory)?;
        Ok(about.f_bavail.saturating_mul(about.f_frsize))
    }

    /// Removes a directory and what is in it.
    pub(crate) fn remove(&self, name: &Name) -> io::Result<()> {
        let name = name.write();
        let directory = self.below(&name)?;
        if let Ok(uploads) = rustix::fs::openat(&directory, UPLOADS, DIRECTORY, Mode::empty()) {
            empty(&uploads)?;
            rustix::fs::unlinkat(&directory, UPLOADS, AtFlags::REMOVEDIR)?;
        }
        empty(&directory)?;
        rustix::fs::unlinkat(&self.directory, &name, AtFlags::REMOVEDIR)?;
        self.told(&name)
    }

    /// Notes that what a session left could not be kept, until the audit log has it.
    pub(crate) fn lost(&self, name: &Name, why: &str) -> io::Result<()> {
        make(&self.directory, UNTOLD)?;
        let untold = self.below(UNTOLD)?;
        files::replace(untold.as_fd(), &name.write(), why.as_bytes(), files::Durability::Power)
    }

    /// Why what a session left could not be kept, where that is what is untold of it.
    pub(crate) fn why_lost(&self, name: &Name) -> Option<String> {
        let untold = self.below(UNTOLD).ok()?;
        let why = files::read(untold.as_fd(), &name.write(), LONGEST_WHY).ok()?;
        String::from_utf8(why).ok().filter(|why| !why.is_empty())
    }

    /// The directories that the audit log may not have.
    pub(crate) fn untold(&self) -> io::Result<Vec<Name>> {
        let untold = match self.below(UNTOLD) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let names = fs::read_dir(as_path(&untold))?;
        Ok(names.filter_map(|entry| Name::read(entry.ok()?.file_name().to_str()?)).collect())
    }

    /// The audit log has this one.
    pub(crate) fn told(&self, name: &str) -> io::Result<()> {
        let untold = match self.below(UNTOLD) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        match rustix::fs::unlinkat(&untold, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn below(&self, name: &str) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.directory, name, DIRECTORY, Mode::empty())?)
    }
}

fn make(parent: &OwnedFd, name: &str) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes the files of a directory.
fn empty(directory: &OwnedFd) -> io::Result<()> {
    for entry in fs::read_dir(as_path(directory))? {
        rustix::fs::unlinkat(directory, entry?.file_name(), AtFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str) -> (std::path::PathBuf, Kept) {
        let path = std::env::temp_dir().join(format!("kept-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let directory = rustix::fs::open(&path, DIRECTORY, Mode::empty()).unwrap();
        (path, Kept::new(directory))
    }

    #[test]
    fn names_tell_session_and_time_and_nothing_else_is_one() {
        let session: SessionId = "01932b5e-7c1a-7f00-8000-00003f2a91c0".parse().unwrap();
        let name = Name { at: Wall(1_795_345_331_000_000), session };
        assert_eq!(name.write(), "01932b5e-7c1a-7f00-8000-00003f2a91c0-20261122T110211Z");
        assert_eq!(Name::read(&name.write()), Some(name));
        for other in ["", ".untold", "01932b5e-7c1a-7f00-8000-00003f2a91c0", "lost+found"] {
            assert_eq!(Name::read(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_lost_is_told_until_it_is_known() {
        let (path, kept) = kept("lost");
        let name = kept.name_for(SessionId::new()).unwrap().write();
        let name = Name::read(&name).unwrap();
        assert_eq!(kept.untold().unwrap(), []);
        kept.lost(&name, "could not be kept: the disk is full").unwrap();
        assert_eq!(kept.untold().unwrap(), std::slice::from_ref(&name));
        assert_eq!(kept.why_lost(&name).as_deref(), Some("could not be kept: the disk is full"));
        assert_eq!(kept.names().unwrap(), [], "there is no directory of it");
        kept.told(&name.write()).unwrap();
        assert_eq!(kept.untold().unwrap(), []);
        assert_eq!(kept.why_lost(&name), None);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn uploads_are_bounded_in_number_and_bytes_and_go_with_their_directory() {
        let (path, kept) = kept("uploads");
        let session = SessionId::new();
        let (first, file, most) = kept.evidence(session, 100).unwrap().unwrap();
        assert!(first.ends_with("/uploads/0") && most == 100, "{first} {most}");
        rustix::io::write(&file, &[0; 60]).unwrap();
        let (_, file, most) = kept.evidence(session, 100).unwrap().unwrap();
        assert_eq!(most, 40);
        rustix::io::write(&file, &[0; 60]).unwrap();
        assert!(kept.evidence(session, 100).unwrap().is_none(), "no more bytes");
        for _ in 2..MOST_UPLOADS {
            assert!(kept.evidence(session, 1000).unwrap().is_some());
        }
        assert!(kept.evidence(session, 1000).unwrap().is_none(), "no more files");
        let name = kept.find(session).unwrap().unwrap();
        assert_eq!(kept.size(&name).unwrap(), 120);
        assert!(kept.open(session, LeftForm::List).unwrap().is_none());
        kept.remove(&name).unwrap();
        assert_eq!(kept.names().unwrap(), []);
        fs::remove_dir_all(path).unwrap();
    }
}
