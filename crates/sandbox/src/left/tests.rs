//! Trees that somebody made to be read, and to do harm. Whiteouts and foreign owners need root.

use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::CWD;
use rustix::fs::Mode;
use serde_json::Value;

use super::walk::Ask;
use super::walk::Mark;
use super::walk::walk;
use super::*;

/// Root asks nobody.
struct Root;

impl Ask for Root {
    fn has(&mut self, file: BorrowedFd<'_>, mark: Mark) -> bool {
        mark.is_on(file, Marks::Trusted)
    }
}

/// Two layers in a directory of their own.
struct Tree(PathBuf);

impl Tree {
    /// None without root.
    fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: whiteouts need root here");
            return None;
        }
        let path = std::env::temp_dir().join(format!("left-{}-{name}", std::process::id()));
        for layer in ["upper", "lower"] {
            fs::create_dir_all(path.join(layer)).unwrap();
        }
        Some(Self(path))
    }

    fn upper(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join("upper").join(name)
    }

    fn lower(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join("lower").join(name)
    }

    fn whiteout(&self, name: &str) {
        let device = rustix::fs::makedev(0, 0);
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(CWD, self.upper(name), kind, Mode::empty(), device).unwrap();
    }

    fn order(&self) -> Order {
        Order {
            name: "x".to_owned(),
            session: SessionId::new(),
            profile: "default".to_owned(),
            keep_for: 0,
            since: Wall(0),
            ids: IdRange { start: 0, count: 65_536 },
            marks: Marks::Trusted,
            bounds: Bounds::of_disk(16 << 20),
        }
    }

    fn read(&self) -> Found {
        self.read_as(&self.order())
    }

    fn read_as(&self, order: &Order) -> Found {
        let open = |path: PathBuf| File::open(path).unwrap().into();
        let layers = Layers { upper: open(self.upper("")), lowers: vec![open(self.lower(""))] };
        let (list, tar) = (self.0.join("list"), self.0.join("files.tar"));
        let files = (File::create(&list).unwrap(), File::create(&tar).unwrap());
        let (totals, whole) = walk(&layers, order, files, &mut Root);
        let tar_file = File::options().write(true).open(&tar).unwrap();
        tar_file.set_len(whole.tar).unwrap();
        tar_file.set_len(whole.tar + 1024).unwrap();
        let text = fs::read_to_string(list).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len() as u64, totals.entries);
        Found { lines, totals, tar }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // A tree of thousands of levels is more than the standard library goes down.
        let _left = Command::new("rm").arg("-rf").arg(&self.0).status();
    }
}

struct Found {
    lines: Vec<Value>,
    totals: Totals,
    tar: PathBuf,
}

impl Found {
    fn line(&self, path: &str) -> &Value {
        let found = self.lines.iter().find(|line| line["path"] == path);
        found.unwrap_or_else(|| panic!("no {path} in {:#?}", self.lines))
    }

    fn paths(&self) -> Vec<&str> {
        let mut paths: Vec<_> = self.lines.iter().filter_map(|l| l["path"].as_str()).collect();
        paths.sort_unstable();
        paths
    }

    /// What the tar holds, as our library reads it: path, kind, mode.
    fn entries(&self) -> Vec<(Vec<u8>, tar::EntryType, u32)> {
        let mut archive = tar::Archive::new(File::open(&self.tar).unwrap());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            (entry.path_bytes().into_owned(), header.entry_type(), header.mode().unwrap())
        });
        entries.collect()
    }

    /// What GNU tar makes of it.
    fn unpack(&self) -> PathBuf {
        let into = self.tar.with_extension("unpacked");
        fs::create_dir(&into).unwrap();
        let output = Command::new("tar")
            .args(["--warning=no-unknown-keyword", "-xf"])
            .arg(&self.tar)
            .arg("-C")
            .arg(&into)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        into
    }
}

#[test]
fn what_changed_is_told_from_what_was_added_and_deleted() {
    let Some(tree) = Tree::new("what") else { return };
    for directory in ["etc", "etc/gone.d", "home"] {
        fs::create_dir(tree.lower(directory)).unwrap();
    }
    for file in ["etc/passwd", "etc/hosts", "etc/gone.d/inner"] {
        fs::write(tree.lower(file), "before").unwrap();
    }
    for directory in ["etc", "home", "home/new"] {
        fs::create_dir(tree.upper(directory)).unwrap();
    }
    fs::write(tree.upper("etc/passwd"), "after\n").unwrap();
    fs::write(tree.upper("home/new/note"), "abc").unwrap();
    std::os::unix::fs::chown(tree.upper("home/new/note"), Some(7), Some(70_000)).unwrap();
    fs::set_permissions(tree.upper("home/new/note"), fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("/etc/shadow", tree.upper("home/new/link")).unwrap();
    tree.whiteout("etc/hosts");
    tree.whiteout("etc/gone.d");
    let found = tree.read();
    assert_eq!(
        found.paths(),
        ["etc/gone.d", "etc/hosts", "etc/passwd", "home/new", "home/new/link", "home/new/note"]
    );
    let what = |path: &str| found.line(path)["what"].as_str().unwrap().to_owned();
    assert_eq!(what("etc/passwd"), "changed");
    assert_eq!((what("etc/hosts"), what("etc/gone.d")), ("deleted".into(), "deleted".into()));
    assert_eq!(found.line("etc/hosts")["size"], 6);
    assert_eq!(found.line("etc/gone.d")["kind"], "directory");
    let note = found.line("home/new/note");
    assert_eq!((&note["what"], &note["mode"]), (&"added".into(), &"4755".into()));
    assert_eq!((&note["uid"], &note["gid"]), (&7.into(), &Value::Null));
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(note["sha256"], abc);
    assert_eq!(found.line("home/new/link")["target"], "/etc/shadow");
    assert_eq!((found.totals.files, found.totals.bytes), (2, 9));
    assert_eq!(found.totals.truncated, []);
    let note = found.entries().into_iter().find(|(path, ..)| path == b"home/new/note").unwrap();
    assert_eq!(note.2, 0o755, "no set-user-id bit in the tar");
    let unpacked = found.unpack();
    assert_eq!(fs::read_to_string(unpacked.join("etc/passwd")).unwrap(), "after\n");
    let link = fs::read_link(unpacked.join("home/new/link")).unwrap();
    assert_eq!(link, Path::new("/etc/shadow"));
    assert_eq!(fs::metadata(unpacked.join("home/new/note")).unwrap().uid(), 7);
}

#[test]
fn a_directory_that_was_replaced_hides_what_was_below() {
    let Some(tree) = Tree::new("opaque") else { return };
    for directory in ["kept", "replaced"] {
        fs::create_dir(tree.lower(directory)).unwrap();
        fs::write(tree.lower(directory).join("file"), "before").unwrap();
        fs::create_dir(tree.upper(directory)).unwrap();
        fs::write(tree.upper(directory).join("file"), "after").unwrap();
    }
    let flags = rustix::fs::XattrFlags::empty();
    let set =
        |name: &str, value: &[u8]| rustix::fs::setxattr(tree.upper("replaced"), name, value, flags);
    // The prisoner's own, in an overlay that marks elsewhere.
    if set("user.overlay.opaque", b"y").is_ok() {
        assert!(tree.read().lines.iter().all(|line| line["replaced"].is_null()));
    }
    set("trusted.overlay.opaque", b"x").unwrap();
    assert!(tree.read().lines.iter().all(|line| line["replaced"].is_null()));
    set("trusted.overlay.opaque", b"y").unwrap();
    let found = tree.read();
    assert_eq!(found.line("replaced")["replaced"], true);
    assert_eq!(found.line("replaced/file")["what"], "added");
    assert_eq!(found.line("kept/file")["what"], "changed");
    assert!(!found.paths().contains(&"kept"), "nothing but its content changed");
}

#[test]
fn what_was_there_before_the_session_is_not_its_doing() {
    let Some(tree) = Tree::new("older") else { return };
    fs::create_dir(tree.upper("made-for-it")).unwrap();
    fs::write(tree.upper("mount-point"), "").unwrap();
    fs::write(tree.upper("content"), "x").unwrap();
    let order =
        Order { since: sojourn_shim::clock::wall().after(Duration::from_secs(60)), ..tree.order() };
    assert_eq!(tree.read_as(&order).paths(), ["content"], "content is never passed over");
    assert_eq!(tree.read().paths().len(), 3);
}

#[test]
fn names_that_are_meant_to_deceive_are_kept_as_they_are_and_shown_escaped() {
    let Some(tree) = Tree::new("names") else { return };
    let long = "l".repeat(255);
    let names: [&[u8]; 8] = [
        b"line\nbreak",
        b"\x1b[2Jescape",
        b"\xff\xfe not utf-8",
        b"back\\slash",
        b"back\\x5cslash",
        "right-to-left \u{202e}txt.exe".as_bytes(),
        b"-rf",
        long.as_bytes(),
    ];
    for name in names {
        fs::write(tree.upper(OsStr::from_bytes(name)), name).unwrap();
    }
    let dots: PathBuf = ["...", "....", " "].iter().collect();
    fs::create_dir_all(tree.upper(&dots)).unwrap();
    let far = OsStr::from_bytes(&[b'a'; 200]);
    symlink(OsStr::from_bytes(b"\xff\nsomewhere"), tree.upper("link")).unwrap();
    symlink(far, tree.upper("far")).unwrap();
    let found = tree.read();
    assert_eq!(found.totals.truncated, []);
    let paths = found.paths();
    for escaped in [
        "line\\nbreak",
        "\\x1b[2Jescape",
        "\\xff\\xfe not utf-8",
        "back\\\\slash",
        "back\\\\x5cslash",
        "right-to-left \\u{202e}txt.exe",
    ] {
        assert!(paths.contains(&escaped), "{escaped} in {paths:?}");
    }
    assert_eq!(found.line("link")["target"], "\\xff\\nsomewhere");
    let unpacked = found.unpack();
    for name in names {
        assert_eq!(fs::read(unpacked.join(OsStr::from_bytes(name))).unwrap(), name);
    }
    assert_eq!(fs::read_link(unpacked.join("far")).unwrap(), Path::new(far));
    let link = fs::read_link(unpacked.join("link")).unwrap();
    assert_eq!(link.as_os_str().as_bytes(), b"\xff\nsomewhere");
    assert!(unpacked.join(dots).is_dir());
}

#[test]
fn what_is_no_file_is_listed_and_not_in_the_tar() {
    let Some(tree) = Tree::new("kinds") else { return };
    let make = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, tree.upper(name), kind, Mode::RUSR, device).unwrap();
    };
    make("fifo", rustix::fs::FileType::Fifo, 0);
    make("socket", rustix::fs::FileType::Socket, 0);
    make("disk", rustix::fs::FileType::BlockDevice, rustix::fs::makedev(8, 0));
    make("null", rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    symlink("loop", tree.upper("loop")).unwrap();
    let found = tree.read();
    for (path, kind) in
        [("fifo", "fifo"), ("socket", "socket"), ("disk", "device"), ("null", "device")]
    {
        assert_eq!(found.line(path)["kind"], kind);
    }
    let entries = found.entries();
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0].1, tar::EntryType::Symlink);
    assert_eq!(found.totals.truncated, []);
}

#[test]
fn a_file_with_many_names_is_in_the_tar_once() {
    let Some(tree) = Tree::new("links") else { return };
    fs::write(tree.upper("first"), vec![7; 1 << 20]).unwrap();
    for number in 0..1000 {
        fs::hard_link(tree.upper("first"), tree.upper(format!("name-{number}"))).unwrap();
    }
    let found = tree.read();
    assert_eq!((found.totals.files, found.totals.bytes), (1, 1 << 20));
    assert_eq!(found.lines.len(), 1001);
    assert_eq!(found.lines.iter().filter(|line| line["link_of"].is_string()).count(), 1000);
    assert_eq!(found.totals.truncated, []);
    let unpacked = found.unpack();
    assert_eq!(fs::metadata(unpacked.join("name-999")).unwrap().nlink(), 1001);
}

#[test]
fn a_hole_of_a_terabyte_takes_no_room_and_no_time() {
    let Some(tree) = Tree::new("sparse") else { return };
    let huge = File::create(tree.upper("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let write = |at: u64, bytes: &[u8]| {
        std::os::unix::fs::FileExt::write_all_at(&huge, bytes, at).unwrap();
    };
    write(0, b"begin");
    write(1 << 39, b"middle");
    write((1 << 40) - 3, b"end");
    let small = File::create(tree.upper("small")).unwrap();
    small.set_len(1 << 20).unwrap();
    let begun = std::time::Instant::now();
    let found = tree.read();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(fs::metadata(&found.tar).unwrap().len() < 1 << 20);
    let line = found.line("huge");
    assert_eq!((&line["size"], &line["sha256"]), (&(1_u64 << 40).into(), &Value::Null));
    assert_eq!(
        found.line("small")["sha256"],
        "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58"
    );
    assert_eq!(found.totals.truncated, []);
    let unpacked = found.unpack();
    let mut file = File::open(unpacked.join("huge")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1 << 40);
    for (at, bytes) in [(0, &b"begin"[..]), (1 << 39, b"middle"), ((1 << 40) - 3, b"end")] {
        let mut read = vec![0; bytes.len()];
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(at)).unwrap();
        file.read_exact(&mut read).unwrap();
        assert_eq!(read, bytes);
    }
    assert_eq!(fs::metadata(unpacked.join("small")).unwrap().len(), 1 << 20);
}

#[test]
fn what_a_bound_cuts_off_is_said() {
    let Some(tree) = Tree::new("bounds") else { return };
    for number in 0..50 {
        fs::write(tree.upper(format!("file-{number:02}")), vec![1; 1000]).unwrap();
    }
    let mut deep = tree.upper("");
    for _ in 0..20 {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
    }
    let with = |change: fn(&mut Bounds)| {
        let mut order = tree.order();
        change(&mut order.bounds);
        tree.read_as(&order)
    };
    assert_eq!(with(|_| {}).totals.truncated, []);
    let entries = with(|bounds| bounds.entries = 10);
    assert_eq!((entries.totals.truncated, entries.lines.len()), (vec![Cut::Entries], 10));
    let depth = with(|bounds| bounds.depth = 5);
    assert_eq!((depth.totals.truncated, depth.lines.len()), (vec![Cut::Depth], 55));
    let path = with(|bounds| bounds.path = 9);
    assert_eq!((path.totals.truncated, path.lines.len()), (vec![Cut::Path], 55));
    let list = with(|bounds| bounds.list = 1000);
    assert_eq!(list.totals.truncated, [Cut::List]);
    assert!(!list.lines.is_empty());
    let tar = with(|bounds| bounds.tar = 20_000);
    assert_eq!((&tar.totals.truncated[..], tar.lines.len()), (&[Cut::Tar][..], 70));
    assert!(fs::metadata(&tar.tar).unwrap().len() <= 20_000);
    let missing = tar.lines.iter().filter(|line| line["not_in_tar"] == true);
    assert!(missing.clone().count() > 0);
    assert!(missing.clone().all(|line| line["kind"] != "file" || line["sha256"].is_string()));
    assert_eq!(tar.totals.files, tar.unpack_count());
    let time = with(|bounds| bounds.time = Duration::ZERO);
    assert_eq!((time.totals.truncated, time.lines.len()), (vec![Cut::Time], 0));
}

impl Found {
    fn unpack_count(&self) -> u64 {
        let unpacked = self.unpack();
        let files = fs::read_dir(unpacked).unwrap().filter_map(Result::ok);
        files.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())).count() as u64
    }
}

#[test]
fn a_tree_deeper_than_any_path_is_followed_as_far_as_it_goes() {
    let Some(tree) = Tree::new("deep") else { return };
    let name = "d".repeat(200);
    let mut at: std::os::fd::OwnedFd = File::open(tree.upper("")).unwrap().into();
    for _ in 0..1000 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        at = rustix::fs::openat(at.as_fd(), &name, flags, Mode::empty()).unwrap();
    }
    let found = tree.read();
    assert_eq!(found.totals.truncated, [Cut::Path]);
    assert_eq!(found.lines.len(), 20);
    found.unpack();
}

#[test]
fn many_entries_are_read_in_time_and_within_bounds() {
    let Some(tree) = Tree::new("many") else { return };
    let many = if std::env::var_os("SOJOURN_TEST_LONG").is_some() { 100_000 } else { 10_000 };
    for number in 0..many {
        File::create(tree.upper(format!("{number}"))).unwrap();
    }
    let mut order = tree.order();
    order.bounds.tar = 256 << 20;
    let found = tree.read_as(&order);
    assert_eq!((found.lines.len() as u64, found.totals.files), (many, many));
    assert_eq!(found.totals.truncated, []);
}
