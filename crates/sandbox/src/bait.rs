//! What the built-in profile `bait` lays over its root file system: the files of a small server that
//! never was. People, addresses and passwords in them are made up; names end in `example.com`.
//!
//! They are written once into a directory named after their content, which all sandboxes share.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::SystemTime;

use rustix::fs::Access;
use rustix::fs::AtFlags;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::io::Errno;
use sha2::Digest;
use sha2::Sha256;

/// What the directory is called until it is whole.
const UNFINISHED: &str = ".new-bait";

const DAY: u64 = 86_400;
/// When the server was set up, in days before its files are written.
const OLDEST: u64 = 412;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// User and group.
type Owner = (u32, u32);

const ROOT: Owner = (0, 0);
const SHADOW: Owner = (0, 42);
const ADM: Owner = (0, 4);
const WWW: Owner = (33, 33);
const BACKUP: Owner = (34, 34);
const MYSQL: Owner = (102, 110);
const WEBADMIN: Owner = (1000, 1000);
const REPORTS: Owner = (1001, 1001);
const DEPLOY: Owner = (1002, 1002);

enum Kind {
    File(&'static [u8]),
    Link(&'static str),
    Directory,
}

struct Planted {
    path: &'static str,
    mode: u32,
    owner: Owner,
    /// When it was changed last, in days before it is written.
    age: u64,
    kind: Kind,
}

const fn directory(path: &'static str, mode: u32, owner: Owner) -> Planted {
    Planted { path, mode, owner, age: OLDEST, kind: Kind::Directory }
}

macro_rules! file {
    ($path:literal, $mode:literal, $owner:expr, $age:literal) => {
        file!($path = $path, $mode, $owner, $age)
    };
    ($path:literal = $source:literal, $mode:literal, $owner:expr, $age:literal) => {
        Planted {
            path: $path,
            mode: $mode,
            owner: $owner,
            age: $age,
            kind: Kind::File(include_bytes!(concat!("../bait/", $source))),
        }
    };
}

/// Directories that do not stand here are root's, and 0755.
const PLANTED: &[Planted] = &[
    file!("etc/crontab", 0o644, ROOT, 204),
    file!("etc/fstab", 0o644, ROOT, 412),
    file!("etc/group", 0o644, ROOT, 163),
    file!("etc/issue", 0o644, ROOT, 412),
    file!("etc/issue.net", 0o644, ROOT, 412),
    file!("etc/motd", 0o644, ROOT, 380),
    file!("etc/passwd", 0o644, ROOT, 163),
    file!("etc/profile", 0o644, ROOT, 412),
    file!("etc/resolv.conf", 0o644, ROOT, 412),
    file!("etc/shadow", 0o640, SHADOW, 163),
    file!("etc/sudoers", 0o440, ROOT, 371),
    file!("etc/timezone", 0o644, ROOT, 412),
    file!("etc/mysql/my.cnf", 0o644, ROOT, 398),
    file!("etc/network/interfaces", 0o644, ROOT, 412),
    file!("etc/nginx/nginx.conf", 0o644, ROOT, 402),
    file!("etc/nginx/sites-available/shop", 0o644, ROOT, 88),
    Planted {
        path: "etc/nginx/sites-enabled/shop",
        mode: 0o777,
        owner: ROOT,
        age: 400,
        kind: Kind::Link("/etc/nginx/sites-available/shop"),
    },
    file!("etc/profile.d/motd.sh", 0o644, ROOT, 380),
    file!("etc/ssh/sshd_config", 0o644, ROOT, 411),
    directory("root", 0o700, ROOT),
    file!("root/.bash_history", 0o600, ROOT, 2),
    file!("root/.bashrc" = "skel/bashrc", 0o644, ROOT, 412),
    file!("root/.profile" = "skel/profile", 0o644, ROOT, 412),
    file!("root/.my.cnf", 0o600, ROOT, 398),
    file!("root/backup.sh", 0o700, ROOT, 204),
    directory("root/.ssh", 0o700, ROOT),
    file!("root/.ssh/authorized_keys", 0o600, ROOT, 340),
    file!("root/.ssh/known_hosts", 0o600, ROOT, 204),
    directory("home/webadmin", 0o755, WEBADMIN),
    file!("home/webadmin/.bash_history", 0o600, WEBADMIN, 6),
    file!("home/webadmin/.bashrc" = "skel/bashrc", 0o644, WEBADMIN, 411),
    file!("home/webadmin/.profile" = "skel/profile", 0o644, WEBADMIN, 411),
    file!("home/webadmin/todo.txt", 0o644, WEBADMIN, 19),
    directory("home/webadmin/.ssh", 0o700, WEBADMIN),
    file!("home/webadmin/.ssh/authorized_keys", 0o600, WEBADMIN, 411),
    directory("home/reports", 0o755, REPORTS),
    file!("home/reports/.bash_history", 0o600, REPORTS, 41),
    file!("home/reports/.bashrc" = "skel/bashrc", 0o644, REPORTS, 163),
    file!("home/reports/.profile" = "skel/profile", 0o644, REPORTS, 163),
    file!("home/reports/report.py", 0o755, REPORTS, 120),
    directory("home/deploy", 0o755, DEPLOY),
    file!("home/deploy/.bashrc" = "skel/bashrc", 0o644, DEPLOY, 399),
    file!("home/deploy/.profile" = "skel/profile", 0o644, DEPLOY, 399),
    file!("home/deploy/deploy.sh", 0o755, DEPLOY, 311),
    directory("home/deploy/.ssh", 0o700, DEPLOY),
    file!("home/deploy/.ssh/authorized_keys", 0o600, DEPLOY, 399),
    directory("srv/uploads-2023", 0o755, WWW),
    file!("var/backups/shop-users.sql", 0o600, BACKUP, 57),
    directory("var/lib/mysql", 0o700, MYSQL),
    directory("var/log/mysql", 0o2750, (102, 4)),
    directory("var/log/nginx", 0o755, ADM),
    directory("var/mail", 0o2775, (0, 8)),
    file!("var/www/html/index.html", 0o644, ROOT, 402),
    directory("var/www/shop", 0o755, WWW),
    file!("var/www/shop/config.php", 0o640, WWW, 88),
    file!("var/www/shop/cron.php", 0o644, WWW, 311),
    file!("var/www/shop/index.php", 0o644, WWW, 311),
    file!("var/www/shop/robots.txt", 0o644, WWW, 396),
    file!("var/www/shop/lib/front.php", 0o644, WWW, 311),
    directory("var/www/shop/uploads", 0o755, WWW),
];

/// The name of the directory with these files.
fn name() -> String {
    let mut hash = Sha256::new();
    for planted in PLANTED {
        let (uid, gid) = planted.owner;
        hash.update(format!("{}\0{:o} {uid} {gid} ", planted.path, planted.mode));
        match planted.kind {
            Kind::File(bytes) => hash.update(bytes),
            Kind::Link(to) => hash.update(to),
            Kind::Directory => {}
        }
    }
    let digest = hash.finalize();
    let digits: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("bait-{digits}")
}

/// Makes sure that the directory with these files is in `images`, and gives its name. The caller is
/// the only one who makes anything there.
///
/// # Errors
/// The system's.
pub fn ensure(images: BorrowedFd<'_>) -> io::Result<String> {
    let name = name();
    if rustix::fs::accessat(images, &name, Access::EXISTS, AtFlags::empty()).is_ok() {
        return Ok(name);
    }
    let path = format!("/proc/self/fd/{}/{UNFINISHED}", images.as_raw_fd());
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    plant(descend(images, UNFINISHED)?.as_fd())?;
    rustix::fs::renameat(images, UNFINISHED, images, &name)?;
    Ok(name)
}

/// Writes the files below `directory`, which is empty and belongs to the caller alone.
fn plant(directory: BorrowedFd<'_>) -> io::Result<()> {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    // Directories, and the youngest thing in each.
    let mut directories = BTreeMap::from([(".", OLDEST)]);
    for planted in PLANTED {
        let (path, name) = planted.path.rsplit_once('/').unwrap_or((".", planted.path));
        let parent = descend(directory, path)?;
        let (uid, gid) = planted.owner;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let mode = Mode::from_raw_mode(planted.mode);
        match planted.kind {
            Kind::File(bytes) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut file = File::from(rustix::fs::openat(&parent, name, flags, Mode::RUSR)?);
                file.write_all(bytes)?;
                rustix::fs::fchown(&file, uid, gid)?;
                rustix::fs::fchmod(&file, mode)?;
                rustix::fs::futimens(&file, &times(now, planted.age))?;
            }
            Kind::Link(to) => {
                rustix::fs::symlinkat(to, &parent, name)?;
                let times = times(now, planted.age);
                rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Kind::Directory => {
                let made = descend(parent.as_fd(), name)?;
                rustix::fs::fchown(&made, uid, gid)?;
                rustix::fs::fchmod(&made, mode)?;
                directories.entry(planted.path).or_insert(planted.age);
            }
        }
        let above = planted.path.match_indices('/').filter_map(|(at, _)| planted.path.get(..at));
        for path in above {
            let youngest = directories.entry(path).or_insert(planted.age);
            *youngest = (*youngest).min(planted.age);
        }
    }
    for (path, age) in directories {
        rustix::fs::futimens(descend(directory, path)?, &times(now, age))?;
    }
    Ok(())
}

/// Opens a directory below another, making what is missing.
fn descend(from: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let mut at = rustix::fs::openat(from, ".", DIRECTORY, Mode::empty())?;
    for part in path.split('/').filter(|part| *part != ".") {
        match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = rustix::fs::openat(&at, part, DIRECTORY, Mode::empty())?;
    }
    Ok(at)
}

/// So many days ago, at an hour of the day when people work.
fn times(now: Duration, age: u64) -> Timestamps {
    let midnight = now.as_secs() / DAY * DAY;
    let of_day = 8 * 3600 + (age * 2_654_435_761) % (9 * 3600);
    let seconds = (midnight + of_day).saturating_sub(age.max(1) * DAY);
    let tv_sec = i64::try_from(seconds).unwrap_or_default();
    let tv_nsec = i64::try_from(age * 7_368_787 % 1_000_000_000).unwrap_or_default();
    let time = Timespec { tv_sec, tv_nsec };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_it_tells_who_made_it() {
        for planted in PLANTED {
            let Kind::File(bytes) = planted.kind else { continue };
            let text = std::str::from_utf8(bytes).unwrap().to_lowercase();
            for word in ["sojourn", "honeypot", "sandbox", "bait"] {
                assert!(!text.contains(word), "{} holds {word:?}", planted.path);
            }
        }
    }
}
