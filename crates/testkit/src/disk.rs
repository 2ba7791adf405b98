//! A file system of a test's own, which can fail.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// What it is made of.
#[derive(Clone, Copy, Debug)]
pub enum DiskKind {
    /// So many megabytes of memory.
    Memory(u32),
    /// So many megabytes of a disk, which loses what was not synced when it fails.
    Block(u32),
}

/// One that is mounted. It goes with this.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// Makes one and mounts it at a new directory.
    pub(crate) fn mount(kind: DiskKind, at: &Path) -> Self {
        fs::create_dir(at).expect("a directory");
        let disk = Self { at: at.to_owned(), image: at.with_extension("img") };
        match kind {
            DiskKind::Memory(megabytes) => {
                let size = format!("size={megabytes}m,mode=755");
                disk.run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at));
            }
            DiskKind::Block(megabytes) => {
                let image = File::create(&disk.image).expect("an image");
                image.set_len(u64::from(megabytes) << 20).expect("its size");
                disk.run(Command::new("mkfs.ext4").arg("-q").arg(&disk.image));
                disk.again();
            }
        }
        disk
    }

    fn run(&self, command: &mut Command) {
        let done = command.status().expect("a command");
        assert!(done.success(), "{command:?}: {done}, for {}", self.at.display());
    }

    /// It fails: from now on nothing is written to it.
    ///
    /// # Panics
    /// When the kernel does not do that.
    pub fn fail(&self) {
        self.run(Command::new("mount").args(["-o", "remount,abort"]).arg(&self.at));
    }

    /// Takes it out. False: something still has it open.
    #[must_use]
    pub fn take_out(&self) -> bool {
        let mut umount = Command::new("umount");
        umount.arg("-q").arg(&self.at).status().is_ok_and(|done| done.success())
    }

    /// Puts it in again, as after a restart of the machine.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn again(&self) {
        self.run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.at));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: after a failed test something may still have it open.
        let _done = Command::new("umount").args(["-q", "-l"]).arg(&self.at).status();
    }
}
