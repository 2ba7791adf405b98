//! Image archives as root file systems: both forms, every compression, hostile and broken ones, and
//! what becomes of them on disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use sojourn_testkit::Dockerd;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Scratch;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::descendants;
use crate::gateway;
use crate::kill;
use crate::name_of;

const WRITER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/image.py");

/// Whether there is a busybox that needs no library; says so where there is none.
fn busybox() -> Option<&'static str> {
    let found =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        eprintln!("SKIPPED: no busybox");
    }
    found.filter(|_| can_make_sandboxes())
}

fn write(form: &str, compression: &str, file: &Path, more: &[&str]) {
    let status = Command::new("python3")
        .args([WRITER, form, compression])
        .arg(file)
        .arg(busybox().unwrap())
        .args(more)
        .status()
        .unwrap();
    assert!(status.success(), "{form} {compression}");
}

fn profile(name: &str, archive: &Path, more: &str) -> String {
    format!("[profiles.{name}]\nrootfs = {archive:?}\ncommand = [\"/bin/sh\", \"-l\"]\n{more}\n")
}

/// The finished images of a gateway, and what is beside them.
fn images(gateway: &Gateway) -> Vec<PathBuf> {
    let entries = fs::read_dir(gateway.data().join("images")).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

#[test]
fn archives_of_every_form_are_the_same_root() {
    if busybox().is_none() {
        return;
    }
    let files = Scratch::new();
    let mut more = String::new();
    let forms = [
        ("plain", "oci", "none"),
        ("gz", "oci", "gzip"),
        ("zst", "oci", "zstd"),
        ("saved", "docker", "none"),
    ];
    for (name, form, compression) in forms {
        let file = files.path().join(format!("{name}.tar"));
        write(form, compression, &file, &[]);
        more += &profile(name, &file, "pool = 0\nenv = { OVERRIDDEN = \"profile\" }");
    }
    // All of it compressed once more, as `docker save | gzip` does.
    let whole = files.path().join("whole.tar.gz");
    let line = format!("gzip -c {}/saved.tar > {}", files.path().display(), whole.display());
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    more += &profile("whole", &whole, "pool = 0\nenv = { OVERRIDDEN = \"profile\" }");
    let gateway = gateway(&Options { more, ..Options::default() });
    let script = "cat /etc/motd; ls /old /srv; stat -c '%u %n' /bin/busybox /home/anna/mine /srv/last \
         /srv/beyond; stat -c '%a %h %U' /bin/busybox /srv/same; readlink /bin/sh; id -u; \
         echo $FROM_IMAGE $OVERRIDDEN $PATH; test -e /dev/sda || echo none; \
         echo more >>/etc/motd && cat /etc/motd | wc -l; hostname >/tmp/h; cat /etc/hosts | wc -l";
    let wanted = "from the upper layer\n/old:\ny\n\n/srv:\nbeyond\nlast\nsame\n0 /bin/busybox\n\
         1000 /home/anna/mine\n65535 /srv/last\n65534 /srv/beyond\n4755 1 root\n600 2 anna\nbusybox\n0\n\
         yes profile /bin\nnone\n2\n3\n";
    for (name, ..) in forms.into_iter().chain([("whole", "", "")]) {
        let ran = gateway.alice().user(&format!("alice+{name}")).run(script);
        assert_eq!(ran.text(), wanted, "{name}: {}", ran.err);
    }
    // They are one image: what the compression is makes no difference to what it holds.
    let found = images(&gateway);
    assert_eq!(found.len(), 1, "{found:?}");
    let first = fs::metadata(found[0].join("rootfs")).unwrap().uid();
    assert!(first >= 1_879_048_192, "owned by nobody of the host: {first}");
    let mine = fs::metadata(found[0].join("rootfs/home/anna/mine")).unwrap();
    assert_eq!(mine.uid(), first + 1000);
    // Programs that are somebody else's rights are behind a door that only root opens.
    let door = fs::metadata(found[0].parent().unwrap()).unwrap();
    assert_eq!((door.uid(), door.mode() & 0o777), (0, 0o700));
}

#[test]
fn a_broken_archive_is_named_and_leaves_nothing() {
    if busybox().is_none() {
        return;
    }
    let files = Scratch::new();
    let path = |name: &str| files.path().join(name);
    write("oci", "gzip", &path("damaged.tar"), &["layer"]);
    write("oci", "gzip", &path("cut.tar"), &[]);
    let whole = fs::read(path("cut.tar")).unwrap();
    fs::write(path("cut.tar"), &whole[..whole.len() / 2]).unwrap();
    let line = format!("cd {0} && mkdir e && tar cf other.tar e", files.path().display());
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    let more = ["damaged", "cut", "other"]
        .map(|name| profile(name, &path(&format!("{name}.tar")), "pool = 0"));
    let gateway = gateway(&Options { more: more.concat(), ..Options::default() });
    for (name, what) in [
        ("damaged", "layer 1 of 2: it does not hold what the configuration says"),
        ("cut", "it ends in the middle of a file"),
        ("other", "neither an OCI image archive"),
    ] {
        let refused = gateway.alice().user(&format!("alice+{name}")).run("true");
        assert_eq!(refused.code, 75, "{}", refused.err);
        for part in ["stage: image", what, &format!("{name}.tar")] {
            assert!(refused.err.contains(part), "{name}: {part:?} in {}", refused.err);
        }
    }
    assert_eq!(images(&gateway), Vec::<PathBuf>::new());
    assert_eq!(gateway.alice().run("exit 3").code, 3);
}

#[test]
fn an_unpack_that_is_killed_leaves_nothing_half_used() {
    if busybox().is_none() {
        return;
    }
    let files = Scratch::new();
    let archive = files.path().join("image.tar");
    write("oci", "gzip", &archive, &[]);
    let more = profile("image", &archive, "pool = 0");
    let mut gateway = gateway(&Options { more, ..Options::default() });
    // Killed over and over, at whatever point it is.
    let client = client_of(&gateway).start(&["echo up"]);
    let runner =
        descendants(gateway.pid()).into_iter().find(|pid| name_of(*pid) == "sojourn-runner");
    assert!(runner.is_some());
    let killed = until("the unpacker, or its end", PATIENCE, || {
        let unpacker =
            descendants(gateway.pid()).into_iter().find(|pid| name_of(*pid) == "sojourn-unpack");
        match unpacker {
            Some(pid) => {
                kill(pid);
                Some(true)
            }
            None => (!images(&gateway).is_empty()).then_some(false),
        }
    });
    client.finish(PATIENCE);
    // What it left is swept at the next start, which is also where it is tried again at once.
    gateway.stop();
    gateway.launch();
    let ran = client_of(&gateway).run("cat /etc/motd");
    assert_eq!(ran.text(), "from the upper layer\n", "killed: {killed}; {}", ran.err);
    let names: Vec<_> = images(&gateway);
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_replaced_archive_is_unpacked_anew_and_the_old_one_goes_when_it_can() {
    if busybox().is_none() {
        return;
    }
    let files = Scratch::new();
    let archive = files.path().join("image.tar");
    write("oci", "none", &archive, &[]);
    let more = profile("image", &archive, "pool = 0\ndetach_grace = \"0\"");
    let server = "on_stop = \"leave\"\n".to_owned();
    let mut gateway = gateway(&Options { more, server, ..Options::default() });
    assert_eq!(client_of(&gateway).run("echo one").text(), "one\n");
    let before = images(&gateway);
    assert_eq!(before.len(), 1);
    // The same content once more is the same image, and read from the stamp after a restart.
    gateway.stop();
    gateway.launch();
    assert_eq!(client_of(&gateway).run("echo two").text(), "two\n");
    assert_eq!(images(&gateway), before);
    let unpacked = gateway.log_lines();
    assert!(!unpacked.iter().any(|line| line["message"] == "an image is unpacked"));
    // Another content is another image, for those who come now; who is there keeps the old one.
    let mut there = client_of(&gateway).with("-tt").start(&[]);
    there.expect("# ");
    let replace = |motd: &str| {
        let other = files.path().join("other.tar");
        write("docker", "none", &other, &[motd]);
        fs::rename(&other, &archive).unwrap();
    };
    replace("second");
    assert_eq!(client_of(&gateway).run("cat /etc/motd").text(), "second\n");
    there.write(b"cat /etc/motd; ls /old\n");
    there.expect("from the upper layer");
    assert_eq!(images(&gateway).len(), 2);
    // When nobody is left in it, it goes with the next that is unpacked.
    there.write(b"exit\n");
    there.finish(PATIENCE);
    until("the session's end", PATIENCE, || {
        gateway.sessions().iter().all(|session| session["status"] == "ended").then_some(())
    });
    replace("third");
    assert_eq!(client_of(&gateway).run("cat /etc/motd").text(), "third\n");
    until("the first and the second to go", PATIENCE, || {
        (images(&gateway).len() == 1 && !before[0].exists()).then_some(())
    });
    // Without the profile's archive nobody needs any: it goes at the next start.
    gateway.stop();
    fs::remove_file(&archive).unwrap();
    fs::create_dir(&archive).unwrap();
    gateway.launch();
    until("the old image to go", PATIENCE, || images(&gateway).is_empty().then_some(()));
}

#[test]
fn what_a_real_engine_saves_is_a_root() {
    let Some(engine) = Dockerd::start() else { return };
    let files = Scratch::new();
    let saved = files.path().join("saved.tar");
    // A layer over the one it was made with.
    let made =
        engine.docker(&["create", "--network", "none", Dockerd::IMAGE, "/bin/sh", "-c", "true"]);
    let note = files.file("note", "of the second layer\n");
    engine.docker(&["cp", note.to_str().unwrap(), &format!("{made}:/note")]);
    engine.docker(&["commit", "--change", "ENV SECOND=too", &made, "saved:1"]);
    engine.docker(&["save", "--output", saved.to_str().unwrap(), "saved:1"]);
    drop(engine);
    let more = format!("[profiles.saved]\nrootfs = {saved:?}\npool = 1\n");
    let gateway = gateway(&Options { more, ..Options::default() });
    let ssh = gateway.alice().user("alice+saved");
    let ran =
        ssh.run("cat /note /srv/*; echo $OF_IMAGE $SECOND; id -u; echo new >/note && cat /note");
    assert_eq!(ran.text(), "of the second layer\nfrom the image\nyes too\n0\nnew\n", "{}", ran.err);
    assert_eq!(ssh.run("cat /note").text(), "of the second layer\n", "the image is as it was");
    let mut shell = ssh.clone().with("-tt").start(&[]);
    shell.expect("# ");
    shell.write(b"tty; exit 9\n");
    assert_eq!(shell.finish(PATIENCE).code, 9);
}

#[test]
fn what_is_wrong_with_an_archive_is_said_at_the_start_and_once() {
    if busybox().is_none() {
        return;
    }
    let files = Scratch::new();
    let damaged = files.path().join("damaged.tar");
    write("docker", "gzip", &damaged, &["layer"]);
    let text = files.file("text", "no archive at all\n");
    for pool in [0, 3] {
        let more = profile("damaged", &damaged, &format!("pool = {pool}"));
        let gateway = gateway(&Options { more, ..Options::default() });
        let said = |line: &serde_json::Value| {
            line["level"] == "WARN" && line.to_string().contains("damaged.tar")
        };
        gateway.wait_for_log("what is wrong", said);
        // Others are none the worse for it, and hear no more of it.
        assert_eq!(gateway.alice().run("exit 3").code, 3);
        let refused = gateway.alice().user("alice+damaged").run("true");
        assert_eq!(refused.err.trim().lines().count(), 1, "{}", refused.err);
        let lines = gateway.log_lines();
        let count = |message: &str| {
            lines.iter().filter(|line| said(line) && line["message"] == message).count()
        };
        let counts =
            (count("an image archive cannot be used"), count("a sandbox could not be made"));
        // A pool says it of itself. Without one, it is said at the start, and when somebody asks first.
        assert_eq!(counts, if pool == 0 { (1, 1) } else { (0, 1) }, "{lines:#?}");
        let (status, _, err) = gateway.try_cli(&["config", "check"], "");
        assert!(status.success(), "what is inside is looked at when it is unpacked: {err}");
    }
    let config = files.file("sojourn.toml", profile("text", &text, ""));
    let output = Command::new(env!("CARGO_BIN_EXE_sojourn"))
        .args(["config", "check"])
        .arg(config)
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("a file that is no image archive"), "{err}");
}

/// With the port that the gateway has now.
fn client_of(gateway: &Gateway) -> sojourn_testkit::Client {
    gateway.alice().user("alice+image")
}
