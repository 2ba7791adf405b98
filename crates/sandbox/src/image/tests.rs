//! Archives that are right, and archives that want something.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;

use super::archive::Archive;
use super::compress::hex;
use super::tar::Kind;
use super::tar::Tar;
use super::tree::Tree;
use super::*;

/// A directory that goes when this does.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("image-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::create_dir(path.join("root")).unwrap();
        fs::write(path.join("outside"), "untouched").unwrap();
        Self(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A tar, entry by entry, as no tool would write it.
#[derive(Default)]
struct Maker(Vec<u8>);

impl Maker {
    fn entry(&mut self, kind: u8, path: &str, link: &str, data: &[u8]) -> &mut Self {
        self.raw(kind, path.as_bytes(), link.as_bytes(), data, data.len() as u64)
    }

    fn raw(&mut self, kind: u8, path: &[u8], link: &[u8], data: &[u8], size: u64) -> &mut Self {
        let mut block = [0; 512];
        block[..path.len()].copy_from_slice(path);
        block[100..108].copy_from_slice(b"0004755\0");
        // The user 1000 and the group 65534.
        block[108..116].copy_from_slice(b"0001750\0");
        block[116..124].copy_from_slice(b"0177776\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"14000000000\0");
        block[156] = kind;
        block[157..157 + link.len()].copy_from_slice(link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(&mut self, path: &str, data: &str) -> &mut Self {
        self.entry(b'0', path, "", data.as_bytes())
    }

    fn directory(&mut self, path: &str) -> &mut Self {
        self.entry(b'5', path, "", b"")
    }

    fn link(&mut self, path: &str, to: &str) -> &mut Self {
        self.entry(b'2', path, to, b"")
    }

    fn done(&mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        std::mem::take(&mut self.0)
    }
}

fn bounds() -> Bounds {
    Bounds {
        entries: 1000,
        bytes: 1 << 20,
        ratio: 100,
        free: 1 << 20,
        time: Duration::from_secs(20),
    }
}

fn apply(layers: &[Vec<u8>]) -> (Scratch, Result<(), Problem>) {
    let scratch = Scratch::new();
    let tree = Tree::new(File::open(scratch.root()).unwrap().into());
    let meter = Meter::new(&bounds(), 1 << 20);
    let applied = layers
        .iter()
        .try_for_each(|layer| layer::apply(&mut Tar::new(layer.as_slice()), &tree, &meter));
    assert_eq!(fs::read_to_string(scratch.0.join("outside")).unwrap(), "untouched");
    (scratch, applied)
}

fn possible() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: owners are given as root only");
    }
    root
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive in the OCI's form, and what is done to it before it is written.
struct Oci {
    layers: Vec<(&'static str, Vec<u8>)>,
    config: serde_json::Value,
    manifest: Option<serde_json::Value>,
}

impl Oci {
    fn of(layers: &[Vec<u8>]) -> Self {
        let holds: Vec<_> =
            layers.iter().map(|layer| format!("sha256:{}", digest(layer))).collect();
        Self {
            layers: layers
                .iter()
                .map(|layer| ("application/vnd.oci.image.layer.v1.tar+gzip", gzip(layer)))
                .collect(),
            config: json!({ "os": "linux", "rootfs": { "type": "layers", "diff_ids": holds },
                "config": { "Env": ["PATH=/bin", "A=b"] } }),
            manifest: None,
        }
    }

    fn write(self) -> Vec<u8> {
        let mut maker = Maker::default();
        let mut blob = |media_type: &str, bytes: &[u8]| {
            let digest = digest(bytes);
            maker.entry(b'0', &format!("blobs/sha256/{digest}"), "", bytes);
            json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
        };
        let layers: Vec<_> = self.layers.iter().map(|(kind, bytes)| blob(kind, bytes)).collect();
        let config = self.config.to_string();
        let config = blob("application/vnd.oci.image.config.v1+json", config.as_bytes());
        let manifest = self.manifest.unwrap_or(json!({ "config": config, "layers": layers }));
        let manifest = manifest.to_string();
        let manifest = blob("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
        let index = json!({ "manifests": [manifest] }).to_string();
        maker.file("index.json", &index);
        maker.done()
    }
}

fn unpack(archive: &[u8]) -> (Scratch, Result<About, Problem>) {
    let scratch = Scratch::new();
    let path = scratch.0.join("archive");
    fs::write(&path, archive).unwrap();
    let unpacked = read(&path, &scratch.root());
    (scratch, unpacked)
}

fn read(archive: &Path, root: &Path) -> Result<About, Problem> {
    let meter = Meter::new(&bounds(), archive.metadata().unwrap().len());
    let scratch = File::open(root).unwrap();
    let archive = Archive::open(File::open(archive).unwrap(), &scratch, &meter)?;
    let image = describe::image(&archive)?;
    let meter = Meter::new(&bounds(), 1 << 20);
    unpacker::fill(&archive, &image, &Tree::new(scratch.into()), &meter)?;
    Ok(image.about)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn layers_lie_over_each_other() {
    if !possible() {
        return;
    }
    let lower = Maker::default()
        .directory("./")
        .directory("etc/")
        .file("etc/a", "old")
        .file("etc/b", "kept")
        .file("etc/gone", "")
        .file("etc/again", "old")
        .directory("var/hidden")
        .file("var/hidden/x", "")
        .file("var/hidden/deep/y", "")
        .directory("was")
        .file("was/inside", "")
        .link("bin", "usr/bin")
        .done();
    let upper = Maker::default()
        .file("etc/a", "new")
        .file("etc/.wh.gone", "")
        // What a layer hides is what those below it had.
        .file("etc/again", "new")
        .file("etc/.wh.again", "")
        .directory("var/hidden")
        .file("var/hidden/z", "")
        // Marks need not come first.
        .file("var/hidden/.wh..wh..opq", "")
        .file("was", "a file now")
        .directory("usr/bin")
        .file("bin/through", "a link")
        .entry(b'1', "etc/same", "etc/b", b"")
        .entry(b'3', "dev/sda", "", b"")
        .entry(b'6', "pipe", "", b"")
        .done();
    let (scratch, applied) = apply(&[lower, upper]);
    assert_eq!(applied, Ok(()));
    let root = scratch.root();
    assert_eq!(names(&root), ["bin", "etc", "usr", "var", "was"]);
    assert_eq!(names(&root.join("etc")), ["a", "again", "b", "same"]);
    assert_eq!(names(&root.join("var/hidden")), ["z"]);
    assert_eq!(fs::read_to_string(root.join("etc/a")).unwrap(), "new");
    assert_eq!(fs::read_to_string(root.join("was")).unwrap(), "a file now");
    assert_eq!(fs::read_to_string(root.join("usr/bin/through")).unwrap(), "a link");
    let about = fs::metadata(root.join("etc/b")).unwrap();
    assert_eq!((about.uid(), about.gid(), about.nlink()), (1000, 65534, 2));
    assert_eq!(about.mtime(), 0o14_000_000_000);
    assert_eq!(about.permissions().mode() & 0o7777, 0o4755);
    // Though things were made and removed in it after its own entry.
    assert_eq!(fs::metadata(root.join("var/hidden")).unwrap().mtime(), 0o14_000_000_000);
}

#[test]
fn nothing_leads_out() {
    if !possible() {
        return;
    }
    let outside = |link: &str| {
        vec![
            Maker::default().link("way", link).file("way/outside", "changed").done(),
            Maker::default().link("way", link).entry(b'1', "mine", "way/outside", b"").done(),
            Maker::default().link("way", link).file("way/.wh.outside", "").done(),
            Maker::default().link("way", link).file("way/.wh..wh..opq", "").done(),
            Maker::default().link("outside", link).file("outside", "changed").done(),
        ]
    };
    let mut hostile: Vec<Vec<u8>> = vec![
        Maker::default().file("../outside", "changed").done(),
        Maker::default().file("a/../../outside", "changed").done(),
        Maker::default().file("/../outside", "changed").done(),
        Maker::default().file("../.wh.outside", "").done(),
        Maker::default().file(".wh...", "").done(),
        Maker::default().file(".wh..", "").done(),
        Maker::default().file(".wh.", "").done(),
        Maker::default().entry(b'1', "mine", "../outside", b"").done(),
        Maker::default().entry(b'1', "mine", "/etc/passwd", b"").done(),
        Maker::default().entry(b'1', "loop", "loop", b"").done(),
        Maker::default().directory("d").entry(b'1', "d/e", "d", b"").done(),
        Maker::default().link("a", "b").link("b", "a").file("a/x", "").done(),
    ];
    hostile.extend(outside(".."));
    hostile.extend(outside("/.."));
    hostile.extend(outside("../../../../../../../../../../../tmp"));
    hostile.extend(outside("/proc/self/cwd"));
    for layer in hostile {
        // Whether it is refused or ends up inside: what is outside is looked at in there.
        let (scratch, _) = apply(&[layer]);
        assert_eq!(names(&scratch.0), ["outside", "root"]);
        let mine = scratch.root().join("mine");
        assert!(!mine.exists() || fs::metadata(mine).unwrap().nlink() > 1);
    }
}

#[test]
fn what_is_no_tar_is_refused() {
    if !possible() {
        return;
    }
    let good = Maker::default().file("a", "text").done();
    let mut flipped = good.clone();
    flipped[3] ^= 1;
    let long = "x".repeat(5000);
    let pax =
        |text: &str| Maker::default().entry(b'x', "p", "", text.as_bytes()).file("a", "").done();
    for (layer, what) in [
        (flipped, "not a tar archive"),
        (good[..300].to_vec(), "in the middle of a header"),
        (good[..700].to_vec(), "in the middle of a file"),
        (good[..514].to_vec(), "in the middle of a file"),
        (Maker::default().raw(b'0', b"a", b"", b"", 1 << 32).done(), "in the middle of a file"),
        (Maker::default().raw(b'x', b"a", b"", b"", 1 << 30).done(), "more about one file"),
        (Maker::default().entry(b'S', "a", "", b"").done(), "sparse"),
        (pax("22 GNU.sparse.major=1\n"), "sparse"),
        (Maker::default().entry(b'Z', "a", "", b"").done(), "of kind"),
        (Maker::default().entry(b'L', "", "", long.as_bytes()).file("a", "").done(), "too long"),
        (Maker::default().entry(b'2', "a", "", b"").done(), "no name"),
        (pax("7 a\n"), "malformed"),
        (pax("99999999999999999999 a=b\n"), "malformed"),
        (pax("6 a=b\n\n"), "malformed"),
        (pax("12 size=-12\n"), "malformed"),
        (Maker::default().file(&"d/".repeat(49), "").done(), "accepted"),
        (pax(&format!("{} path={}\n", 4 + 6 + 399, "d/".repeat(199) + "x")), "too long"),
    ] {
        let (_scratch, applied) = apply(&[layer]);
        match (applied, what) {
            (Ok(()), "accepted") => {}
            (Err(Problem(message)), what) => assert!(message.contains(what), "{message}: {what}"),
            (Ok(()), what) => panic!("accepted: {what}"),
        }
    }
    let (_scratch, applied) = apply(&[good[..1024].to_vec()]);
    assert_eq!(applied, Ok(()), "some leave the end out");
}

#[test]
fn extensions_name_what_is_long() {
    let long = "a-long-name/".repeat(20) + "file";
    let record = |name: &str, value: &str| {
        let rest = format!(" {name}={value}\n");
        let length = rest.len() + (rest.len() + 3).to_string().len();
        format!("{length}{rest}")
    };
    let text = record("path", &long) + &record("uid", "70000") + &record("mtime", "12.5");
    let layer = Maker::default()
        .entry(b'x', "p", "", text.as_bytes())
        .file("short", "data")
        .entry(b'L', "", "", format!("{long}\0").as_bytes())
        .entry(b'K', "", "", b"target\0")
        .link("short", "short")
        .done();
    let mut tar = Tar::new(layer.as_slice());
    let first = tar.next().unwrap().unwrap();
    assert_eq!((first.path, first.uid, first.mtime), (long.clone().into_bytes(), 70000, 12));
    let second = tar.next().unwrap().unwrap();
    assert_eq!((second.kind, second.path), (Kind::Symlink, long.into_bytes()));
    assert_eq!(second.link, b"target");
    assert_eq!(tar.next(), Ok(None));
}

#[test]
fn bounds_hold() {
    if !possible() {
        return;
    }
    let mut many = Maker::default();
    for number in 0..1001 {
        many.file(&format!("f{number}"), "");
    }
    let (_scratch, applied) = apply(&[many.done()]);
    assert!(applied.unwrap_err().0.contains("more files"));
    // A megabyte and a half of nothing, in next to nothing.
    let bomb = Maker::default().entry(b'0', "zero", "", &vec![0; 3 << 19]).done();
    let (_scratch, unpacked) = unpack(&Oci::of(std::slice::from_ref(&bomb)).write());
    let message = unpacked.unwrap_err().0;
    assert!(message.contains("layer 1 of 1") && message.contains("larger"), "{message}");
    let (_scratch, unpacked) = unpack(&gzip(&Oci::of(&[bomb]).write()));
    assert!(unpacked.unwrap_err().0.contains("larger"));
    let hidden = Maker::default().file("a", "").done();
    let trailing = [hidden, vec![0; 3 << 19]].concat();
    let (_scratch, unpacked) = unpack(&Oci::of(&[trailing]).write());
    assert!(unpacked.unwrap_err().0.contains("larger"), "also of what nobody unpacks");
}

#[test]
fn an_archive_is_what_its_digests_say() {
    if !possible() {
        return;
    }
    let layer = Maker::default().directory("etc").file("etc/motd", "hello").done();
    let other = Maker::default().file("etc/motd", "other").done();
    for archive in [
        Oci::of(std::slice::from_ref(&layer)).write(),
        gzip(&Oci::of(std::slice::from_ref(&layer)).write()),
    ] {
        let (scratch, unpacked) = unpack(&archive);
        assert_eq!(unpacked.unwrap().env, ["PATH=/bin", "A=b"]);
        assert_eq!(fs::read_to_string(scratch.root().join("etc/motd")).unwrap(), "hello");
    }
    let change = |change: &dyn Fn(&mut Oci)| {
        let mut oci = Oci::of(std::slice::from_ref(&layer));
        change(&mut oci);
        unpack(&oci.write()).1.unwrap_err().0
    };
    let swapped = change(&|oci| oci.layers[0].1 = gzip(&other));
    assert!(swapped.contains("does not hold"), "{swapped}");
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    assert!(change(&|oci| oci.layers[0].0 = foreign).contains("fetched from elsewhere"));
    let encrypted = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
    assert!(change(&|oci| oci.layers[0].0 = encrypted).contains("encrypted"));
    assert!(change(&|oci| oci.layers[0].0 = "text/plain").contains("not known"));
    assert!(change(&|oci| oci.config["os"] = json!("windows")).contains("windows"));
    assert!(change(&|oci| oci.config["architecture"] = json!("s390x")).contains("s390x"));
    assert!(
        change(&|oci| oci.config["rootfs"]["diff_ids"] = json!([])).contains("number of layers")
    );
    assert!(
        change(&|oci| oci.config["rootfs"]["diff_ids"] = json!(["md5:1"])).contains("no SHA-256")
    );
    assert!(change(&|oci| oci.manifest = Some(json!({}))).contains("the manifest"));
    let away = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "size": 1,
        "digest": "sha256:../../../../etc/passwd" });
    assert!(change(&|oci| oci.manifest = Some(json!({ "config": away }))).contains("no SHA-256"));
    // A byte of any blob changed on the way.
    let archive = Oci::of(&[layer]).write();
    for at in (0..archive.len() - 1024).step_by(97) {
        let mut damaged = archive.clone();
        damaged[at] ^= 1;
        let (scratch, unpacked) = unpack(&damaged);
        if unpacked.is_ok() {
            // What no digest covers is how long the archive's own padding is, and the like.
            assert_eq!(fs::read_to_string(scratch.root().join("etc/motd")).unwrap(), "hello");
        }
    }
}

#[test]
fn what_docker_saves_is_read() {
    if !possible() {
        return;
    }
    let layer = Maker::default().directory("etc").file("etc/motd", "hello").done();
    let config = json!({ "os": "linux", "rootfs": { "diff_ids":
        [format!("sha256:{}", digest(&layer)), format!("sha256:{}", digest(&layer))] } });
    let config = config.to_string();
    let name = format!("{}.json", digest(config.as_bytes()));
    let manifest = |config: &str, count: usize| {
        let one = json!({ "Config": config, "Layers": ["one/layer.tar", "two/layer.tar"] });
        json!(vec![one; count]).to_string()
    };
    let archive = |config_name: &str, count: usize| {
        Maker::default()
            .entry(b'0', "one/layer.tar", "", &layer)
            // A layer that is there twice is a link the second time.
            .link("two/layer.tar", "../one/layer.tar")
            .file(config_name, &config)
            .file("manifest.json", &manifest(config_name, count))
            .done()
    };
    let (scratch, unpacked) = unpack(&archive(&name, 1));
    assert_eq!(unpacked, Ok(About::default()));
    assert_eq!(fs::read_to_string(scratch.root().join("etc/motd")).unwrap(), "hello");
    assert!(unpack(&archive(&name, 2)).1.unwrap_err().0.contains("2 images"));
    let wrong = format!("{}.json", digest(b"another"));
    assert!(unpack(&archive(&wrong, 1)).1.unwrap_err().0.contains("not the one"));
    let (_scratch, unpacked) = unpack(&Maker::default().file("readme", "").done());
    assert!(unpacked.unwrap_err().0.contains("neither an OCI image archive"));
    assert!(unpack(b"no archive at all").1.is_err());
    assert!(unpack(b"").1.is_err());
}

/// Damaged and made-up headers: whatever they say, nothing outside is touched and nothing hangs.
#[test]
fn hostile_bytes_stay_inside() {
    if !possible() {
        return;
    }
    let base = Maker::default()
        .directory("d")
        .file("d/f", "data")
        .link("l", "../..")
        .entry(b'1', "h", "d/f", b"")
        .file("d/.wh.f", "")
        .file("l/outside", "changed")
        .done();
    let rounds = if std::env::var_os("SOJOURN_TEST_LONG").is_some() { 20_000 } else { 300 };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |most: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % most as u64).unwrap()
    };
    for _ in 0..rounds {
        let mut layer = base.clone();
        for _ in 0..=random(6) {
            let at = random(layer.len());
            layer[at] = b"\0./0157xLK\xff\x80"[random(12)];
        }
        // With their sums put right, so that they are looked at.
        for block in layer.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let (scratch, _) = apply(&[layer]);
        assert_eq!(names(&scratch.0), ["outside", "root"]);
    }
}
