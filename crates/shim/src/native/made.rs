//! The made-up layer of a sandbox's root file system: a small `/etc`, empty directories, and what only
//! this sandbox has. All of it is the sandbox's root's.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::lchown;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::profile::NativeProfile;
use super::rootfs::is_system_name;
use crate::nat::Nat;
use crate::nat::RESOLVER;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
    networks: files\nprotocols: files\nservices: files\n";
const PROFILE: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
    export PATH\numask 022\n\
    if [ -n \"${BASH_VERSION-}\" ]; then . /etc/bash.bashrc; else PS1='# '; fi\n";
const BASHRC: &str = "[ -n \"${PS1-}\" ] || return\nPS1='\\u@\\h:\\w\\$ '\nshopt -s checkwinsize\n";

/// Makes files and directories below the current directory.
#[derive(Clone, Copy)]
pub(crate) struct Made {
    /// Who owns them.
    pub(crate) owner: u32,
}

impl Made {
    /// The whole layer of a sandbox with the host's programs, in the directory `base`, which is there.
    pub(super) fn fill(&self, profile: &NativeProfile) -> io::Result<()> {
        for name in ["etc", "etc/alternatives", "dev", "home", "proc", "run", "sys", "usr", "var"] {
            self.directory(format!("base/{name}"), 0o755)?;
        }
        self.directory("base/root", 0o700)?;
        self.directory("base/tmp", 0o1777)?;
        for entry in fs::read_dir("/")?.filter_map(Result::ok).filter(is_system_name) {
            let place = Path::new("base").join(entry.file_name());
            match entry.file_type()? {
                kind if kind.is_symlink() => self.link(&fs::read_link(entry.path())?, &place)?,
                kind if kind.is_dir() => self.directory(&place, 0o755)?,
                _ => {}
            }
        }
        self.fill_own("base", &profile.hostname, profile.nat.as_ref())?;
        for (name, text) in [
            ("passwd", PASSWD),
            ("group", GROUP),
            ("nsswitch.conf", NSSWITCH),
            ("profile", PROFILE),
            ("bash.bashrc", BASHRC),
            ("ld.so.cache", ""),
        ] {
            self.file(&Path::new("base/etc").join(name), text)?;
        }
        self.link(Path::new("../usr/lib/os-release"), Path::new("base/etc/os-release"))?;
        self.link(Path::new("../proc/self/mounts"), Path::new("base/etc/mtab"))
    }

    /// What is this sandbox's alone, in the directory `layer`, which has an `etc`.
    pub(crate) fn fill_own(
        &self,
        layer: &str,
        hostname: &str,
        nat: Option<&Nat>,
    ) -> io::Result<()> {
        let mut hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {hostname}\n");
        for (name, addresses) in nat.iter().flat_map(|nat| &nat.names) {
            hosts.extend(addresses.iter().map(|address| format!("{address} {name}\n")));
        }
        let resolver = match nat {
            Some(nat) if nat.dns => format!("nameserver {RESOLVER}\n"),
            _ => String::new(),
        };
        let etc = Path::new(layer).join("etc");
        self.file(&etc.join("hosts"), &hosts)?;
        self.file(&etc.join("hostname"), &format!("{hostname}\n"))?;
        self.file(&etc.join("resolv.conf"), &resolver)
    }

    pub(crate) fn directory(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        fs::DirBuilder::new().mode(mode).create(&path)?;
        self.own(path)
    }

    fn file(&self, path: &Path, text: &str) -> io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
        file.write_all(text.as_bytes())?;
        self.own(path)
    }

    fn link(&self, to: &Path, path: &Path) -> io::Result<()> {
        symlink(to, path)?;
        self.own(path)
    }

    fn own(&self, path: impl AsRef<Path>) -> io::Result<()> {
        lchown(path, Some(self.owner), Some(self.owner))
    }
}
