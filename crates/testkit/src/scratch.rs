//! A directory of a test's own.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// A directory that goes when this does.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one that everybody may pass through, so that an unprivileged gateway can.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("sojourn-test-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match fs::create_dir(&path) {
                Ok(()) => break path,
                // Of a run that was killed, with the same process id.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 1000 => {}
                Err(error) => panic!("a scratch directory: {error}"),
            }
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        Self(path)
    }

    /// A new empty directory below another.
    pub(crate) fn name_in(parent: &Path) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = parent.join(format!("run-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).expect("a directory");
        path
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it, written.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a scratch file");
        path
    }

    /// A program that everybody can execute: this one, or a copy of it in here.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[must_use]
    pub fn executable(&self, program: &Path) -> PathBuf {
        let is_open = |path: &Path| {
            fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o001 != 0)
        };
        if program.ancestors().filter(|path| !path.as_os_str().is_empty()).all(is_open) {
            return program.to_owned();
        }
        let copy = self.0.join(program.file_name().expect("a name"));
        if !copy.exists() {
            fs::copy(program, &copy).expect("a copy");
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        copy
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left = fs::remove_dir_all(&self.0);
    }
}
