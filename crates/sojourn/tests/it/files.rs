//! Files in and out, with the real `sftp`, `scp`, `rsync` and `curl`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use sojourn_testkit::Client;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::Output;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Running;
use sojourn_testkit::Scratch;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::gateway;

/// Runs `sftp` with these commands.
fn sftp(client: &Client, batch: &str) -> Output {
    let mut command = client.tool("sftp");
    command.args(["-q", "-b", "-", &client.host()]);
    let mut running = Running::new(command);
    running.write(batch.as_bytes());
    running.finish(PATIENCE)
}

/// Runs `scp` with these words; `H:` stands for the gateway.
fn scp(client: &Client, words: &[&str]) -> Output {
    let mut command = client.tool("scp");
    for word in words {
        match word.strip_prefix("H:") {
            Some(path) => command.arg(format!("{}:{path}", client.host())),
            None => command.arg(word),
        };
    }
    Running::new(command).finish(Duration::from_secs(60))
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert_eq!(output.code, 0, "{}{}", output.text(), output.err);
    output.text()
}

fn sha256_of(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().to_owned()
}

/// Some bytes that are not alike.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// What is on record of transfers, as soon as there are so many.
fn transfers(gateway: &Gateway, count: usize) -> Vec<Value> {
    let all = || -> Vec<Value> {
        let audit = gateway.audit().into_iter();
        audit.filter(|line| line["action"] == "file_transferred").collect()
    };
    until(&format!("{count} transfers of {}", all().len()), PATIENCE, || {
        (all().len() >= count).then_some(())
    });
    all()
}

#[test]
fn sftp_puts_gets_lists_and_resumes() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let alice = gateway.alice();
    let here = gateway.scratch().path();
    let bytes = noise(5_000_000);
    let big = gateway.scratch().file("big", &bytes);
    fs::set_permissions(&big, fs::Permissions::from_mode(0o640)).unwrap();
    let (big, back) = (big.display(), here.join("back"));
    let batch = format!(
        "pwd\nmkdir dir\nput -p {big} dir/a\nls -l dir\nget dir/a {back}\nln -s a dir/link\n\
         ln dir/a dir/hard\nrename dir/hard dir/moved\nchmod 600 dir/moved\nls -la dir\n\
         df -h /root\nget dir/link {back}.link\nrm dir/moved\n-mkdir dir\n-get missing\n\
         -rmdir dir\n-rename dir/a /nowhere/b\n",
        back = back.display(),
    );
    let output = sftp(&alice, &batch);
    let text = succeeds(&output);
    assert!(text.contains("Remote working directory: /root"), "{text}");
    assert!(text.contains("-rw-r-----"), "{text}");
    assert!(text.contains("root     root      5000000"), "{text}");
    assert!(text.contains("lrwxrwxrwx"), "{text}");
    assert_eq!(fs::read(&back).unwrap(), bytes);
    assert_eq!(fs::read(back.with_extension("link")).unwrap(), bytes);
    assert!(output.err.contains("\"/root/missing\" not found"), "{}", output.err);
    let transfers = transfers(&gateway, 3);
    let digest = sha256_of(&back);
    for (transfer, direction, path) in [
        (&transfers[0], "in", "/root/dir/a"),
        (&transfers[1], "out", "/root/dir/a"),
        (&transfers[2], "out", "/root/dir/link"),
    ] {
        let details = &transfer["details"];
        assert_eq!(details["path"], path, "{transfer}");
        assert_eq!(details["direction"], direction);
        assert_eq!(details["bytes"], 5_000_000);
        assert_eq!(details["sha256"], digest.as_str());
        assert_eq!(details.get("partial"), None);
        assert!(transfer["session_id"].is_string());
        assert_eq!(transfer["actor"]["user"], "alice");
    }
    assert_eq!(transfers.len(), 3);
}

#[test]
fn a_file_is_copied_inside_and_on_record() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let here = gateway.scratch().path();
    let bytes = noise(3_000_000);
    let big = gateway.scratch().file("big", &bytes);
    let back = here.join("back");
    let batch = format!("put {} a\ncp a b\nget b {}\n", big.display(), back.display());
    let output = sftp(&gateway.alice(), &batch);
    succeeds(&output);
    assert!(!output.err.contains("does not support"), "{}", output.err);
    assert_eq!(fs::read(&back).unwrap(), bytes);
    let transfers = transfers(&gateway, 3);
    let copied = &transfers[1]["details"];
    assert_eq!((&copied["path"], &copied["copied"]), (&"/root/b".into(), &3_000_000.into()));
    assert_eq!((&copied["bytes"], copied.get("sha256")), (&0.into(), None), "{copied}");
    assert_eq!(transfers[2]["details"]["sha256"], sha256_of(&big));
}

#[test]
fn a_cut_copy_is_taken_up_again() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let alice = gateway.alice();
    let bytes = noise(300_000);
    let whole = gateway.scratch().file("whole", &bytes);
    let half = gateway.scratch().file("half", &bytes[..100_000]);
    let got = gateway.scratch().file("got", &bytes[..50_000]);
    let batch = format!(
        "put {half} a\nreput {whole} a\nreget a {got}\n",
        half = half.display(),
        whole = whole.display(),
        got = got.display(),
    );
    succeeds(&sftp(&alice, &batch));
    assert_eq!(fs::read(&got).unwrap(), bytes);
    let transfers = transfers(&gateway, 3);
    let second = &transfers[1]["details"];
    assert_eq!(
        (second["offset"].as_u64(), second["bytes"].as_u64()),
        (Some(100_000), Some(200_000))
    );
    assert_eq!(second["partial"], true);
    let rest = gateway.scratch().file("rest", &bytes[100_000..]);
    assert_eq!(second["sha256"], sha256_of(&rest).as_str());
    assert_eq!(transfers[2]["details"]["offset"], 50_000);
}

#[test]
fn scp_copies_trees_both_ways_by_either_protocol() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let alice = gateway.alice();
    let here = gateway.scratch().path();
    let tree = here.join("tree");
    fs::create_dir_all(tree.join("sub/empty")).unwrap();
    fs::write(tree.join("one"), noise(100_000)).unwrap();
    fs::write(tree.join("sub/two words"), noise(70_001)).unwrap();
    fs::write(tree.join("sub/nothing"), b"").unwrap();
    fs::set_permissions(tree.join("one"), fs::Permissions::from_mode(0o751)).unwrap();
    let touched = Command::new("touch")
        .args(["-d", "2020-02-03 04:05:06 UTC"])
        .arg(tree.join("one"))
        .status();
    assert!(touched.unwrap().success());
    for (protocol, name) in [("-s", "new"), ("-O", "old")] {
        let back = here.join(name);
        let back = back.to_str().unwrap();
        let tree = tree.to_str().unwrap();
        // Both copies are to see the same sandbox.
        let master = Shared::start(&gateway, &alice);
        let shared = &master.client;
        succeeds(&scp(shared, &[protocol, "-rpq", tree, "H:copy"]));
        succeeds(&scp(shared, &[protocol, "-rpq", "H:copy", back]));
        let same = Command::new("diff").args(["-r", tree, back]).output().unwrap();
        assert!(same.status.success(), "{protocol}: {}", String::from_utf8_lossy(&same.stdout));
        let one = fs::metadata(Path::new(back).join("one")).unwrap();
        assert_eq!(one.permissions().mode() & 0o777, 0o751, "{protocol}");
        let modified = one.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(modified.as_secs(), 1_580_702_706, "{protocol}");
        assert!(Path::new(back).join("sub/empty").is_dir());
        let missing = scp(shared, &[protocol, "H:missing", back]);
        assert_eq!(missing.code, 1, "{protocol}");
        assert!(missing.err.contains("missing: No such file or directory"), "{}", missing.err);
    }
    let transfers = transfers(&gateway, 12);
    assert_eq!(transfers.len(), 12, "three files, in and out, twice");
    let digest = sha256_of(&tree.join("one"));
    let ones: Vec<&Value> =
        transfers.iter().filter(|line| line["details"]["path"] == "/root/copy/one").collect();
    assert_eq!(ones.len(), 4);
    assert!(ones.iter().all(|line| line["details"]["sha256"] == digest.as_str()));
}

/// A client whose runs share one connection, which ends when this is dropped.
struct Shared {
    client: Client,
    _master: Running,
}

impl Shared {
    fn start(gateway: &Gateway, client: &Client) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let socket = gateway.scratch().path().join(format!("shared-{number}"));
        let client = client.clone().with(&format!("-oControlPath={}", socket.display()));
        let mut master = client.tool("ssh");
        master.args(["-M", "-N", &client.host()]);
        let master = Running::new(master);
        until("the shared connection", PATIENCE, || socket.exists().then_some(()));
        // Without the master there is none: a connection of its own would be another sandbox.
        Self { client: client.with("-oProxyCommand=false"), _master: master }
    }
}

#[test]
fn terminals_commands_and_files_share_the_sandbox() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let shared = Shared::start(&gateway, &gateway.alice());
    let mut terminal = shared.client.clone().with("-tt").start(&[]);
    terminal.expect("# ");
    terminal.write(b"echo typed >/root/typed; echo $((6*7))\n");
    terminal.expect("42");
    let back = gateway.scratch().path().join("back");
    let file = gateway.scratch().file("sent", "sent\n");
    let batch = format!("get typed {}\nput {} sent\n", back.display(), file.display());
    succeeds(&sftp(&shared.client, &batch));
    assert_eq!(fs::read_to_string(&back).unwrap(), "typed\n");
    assert_eq!(shared.client.run("cat sent").text(), "sent\n");
    assert_eq!(gateway.sessions().len(), 1);
}

#[test]
fn nothing_leads_out_of_the_sandbox() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let shared = Shared::start(&gateway, &gateway.alice());
    let secret = gateway.scratch().file("secret", "the host's own\n");
    let secret = secret.to_str().unwrap();
    shared.client.run(&format!(
        "ln -s /etc/shadow shadow; ln -s {secret} secret; ln -s /proc/1/root{secret} root; \
         ln -s / all; ln -s ../../../../../../..{secret} up"
    ));
    let here = gateway.scratch().path().join("got");
    fs::create_dir(&here).unwrap();
    let into = here.display();
    for path in ["shadow", "secret", "root", "up", &format!("all{secret}"), secret] {
        sftp(&shared.client, &format!("-get {path} {into}/\n"));
        scp(&shared.client, &["-O", &format!("H:{path}"), &format!("{into}/")]);
    }
    let host = fs::read_to_string("/etc/shadow").unwrap();
    for found in fs::read_dir(&here).unwrap() {
        let text = fs::read_to_string(found.unwrap().path()).unwrap();
        assert!(!text.contains("the host's own") && text != host, "{text}");
    }
    // What is written by way of a link stays inside, too.
    let file = gateway.scratch().file("mine", "written\n");
    sftp(&shared.client, &format!("-put {} secret\n-put {0} up\n", file.display()));
    assert_eq!(fs::read_to_string(secret).unwrap(), "the host's own\n");
}

#[test]
fn what_is_no_file_is_refused_and_holds_up_nobody() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let shared = Shared::start(&gateway, &gateway.alice());
    let bind = "import socket;socket.socket(socket.AF_UNIX).bind('/root/socket')";
    let made = shared.client.run(&format!("mkfifo fifo && python3 -c \"{bind}\""));
    succeeds(&made);
    let started = Instant::now();
    let into = gateway.scratch().path().join("got");
    let from = gateway.scratch().file("from", "text");
    for odd in ["fifo", "socket", "/dev/zero", "/dev/tty", "/proc/self/mem"] {
        let batch = format!("-get {odd} {}\n-put {} {odd}\n", into.display(), from.display());
        let output = sftp(&shared.client, &batch);
        if odd != "/proc/self/mem" {
            assert!(!into.exists(), "{odd}: {}{}", output.text(), output.err);
            let got = scp(&shared.client, &["-O", &format!("H:{odd}"), into.to_str().unwrap()]);
            assert_eq!(got.code, 1, "{odd}: {}", got.err);
        }
        let _got = fs::remove_file(&into);
    }
    assert!(started.elapsed() < Duration::from_secs(90), "{:?}", started.elapsed());
}

#[test]
fn a_full_disk_is_told_and_many_files_are_each_on_record() {
    if !can_make_sandboxes() {
        return;
    }
    let more = "[profiles.default]\ndisk_size = \"8MB\"\n".to_owned();
    let gateway = gateway(&Options { more, ..Options::default() });
    let big = gateway.scratch().file("big", noise(12_000_000));
    let big = big.to_str().unwrap();
    let full = sftp(&gateway.alice(), &format!("put {big} big\n"));
    assert_eq!(full.code, 1, "{}", full.err);
    let full = scp(&gateway.alice(), &["-O", big, "H:big"]);
    assert_eq!(full.code, 1);
    assert!(full.err.contains("No space left on device"), "{}", full.err);
    let told = transfers(&gateway, 2);
    for line in &told {
        assert_eq!(line["details"]["partial"], true, "{line}");
        assert_eq!(line["details"]["error"], "No space left on device", "{line}");
    }
    let many = gateway.scratch().path().join("many");
    fs::create_dir(&many).unwrap();
    let count = if crate::is_long_run() { 5000 } else { 250 };
    for number in 0..count {
        fs::write(many.join(format!("{number}")), format!("{number}")).unwrap();
    }
    let batch = format!("mkdir many\nput -r {}\nls -1 many\n", many.display());
    let output = sftp(&gateway.alice(), &batch);
    let listed = succeeds(&output).lines().filter(|line| line.starts_with("many/")).count();
    assert_eq!(listed, count);
    assert_eq!(transfers(&gateway, 2 + count).len(), 2 + count, "and the listing none");
}

#[test]
fn putty_copies_files() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let recipe = r#"
        puttygen $KEY -O private -o key.ppk
        fingerprint=$(ssh-keyscan -p $PORT -t ed25519 127.0.0.1 2>/dev/null | ssh-keygen -lf - | awk '{print $2}')
        options="-batch -hostkey $fingerprint -P $PORT -i key.ppk"
        seq 200000 >in
        printf '%s
' "put in a" "get a out" "ls" | psftp $options -b /dev/stdin $USER@127.0.0.1 >said 2>&1
        status; cmp in out && echo same; grep -c ' a$' said
        for protocol in -sftp -scp; do pscp -q $protocol $options in $USER@127.0.0.1:b; status; done
        pscp -scp $options $USER@127.0.0.1:none out 2>&1 | grep -o 'No such file or directory'
    "#;
    let output = gateway.peer().run(recipe, PATIENCE);
    let said: Vec<String> = output.text().lines().map(str::to_owned).collect();
    let wanted = ["status 0", "same", "1", "status 0", "status 0", "No such file or directory"];
    assert_eq!(said, wanted, "{}", output.err);
}

/// A packet of SFTP.
fn packet(kind: u8, id: u32, fields: &[&[u8]]) -> Vec<u8> {
    let rest: Vec<u8> = fields.concat();
    let length = u32::try_from(5 + rest.len()).unwrap();
    [&length.to_be_bytes()[..], &[kind], &id.to_be_bytes(), &rest].concat()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// Kinds, ids and first numbers of the packets in an answer.
fn answers(mut bytes: &[u8]) -> Vec<(u8, u32, u32)> {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
    let mut found = Vec::new();
    while bytes.len() >= 9 {
        let length = number(bytes) as usize;
        let more = if length >= 9 { number(&bytes[9..]) } else { 0 };
        found.push((bytes[4], number(&bytes[5..]), more));
        bytes = &bytes[4 + length..];
    }
    found
}

#[test]
fn a_client_that_keeps_to_no_rule_is_bounded() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let speak = |packets: &[Vec<u8>]| {
        let mut command = gateway.alice().tool("ssh");
        command.args(["-s", &gateway.alice().host(), "sftp"]);
        let mut running = Running::new(command);
        running.write(&packets.concat());
        running.finish(PATIENCE)
    };
    let init = packet(1, 3, &[]);
    let status = |id, code| (101, id, code);

    let odd = speak(&[
        init.clone(),
        packet(4, 1, &[&string(b"none")]),
        packet(99, 2, &[]),
        packet(17, 3, &[&string(&[b'a'; 5000])]),
        packet(17, 4, &[&string(b"a\0b")]),
        packet(200, 5, &[&string(b"nonesuch@example.org")]),
        packet(5, 6, &[&string(&[0, 0, 0, 0]), &[0; 8], &[0xff; 4]]),
        packet(17, 7, &[&string(b"/nowhere")]),
    ]);
    assert_eq!(odd.code, 0, "{}", odd.err);
    let (first, rest) = answers(&odd.out).split_first().map(|(a, b)| (*a, b.to_vec())).unwrap();
    assert_eq!((first.0, first.1), (2, 3), "a version");
    let wanted =
        [(1, 2), (2, 8), (3, 5), (4, 5), (5, 8), (6, 2), (7, 2)].map(|(id, code)| status(id, code));
    assert_eq!(rest, wanted);

    // As many files as one may have open, and then some; none is closed.
    let write = [0, 0, 0, 26, 0, 0, 0, 0];
    let mut packets = vec![init.clone()];
    for id in 0..70_u32 {
        packets.push(packet(3, id, &[&string(format!("f{id}").as_bytes()), &write]));
    }
    let mut command = gateway.alice().tool("ssh");
    command.args(["-s", &gateway.alice().host(), "sftp"]);
    let mut many = Running::new(command);
    many.write(&packets.concat());
    until("all answers", PATIENCE, || {
        (many.so_far().matches("Too many open files").count() == 6).then_some(())
    });
    for (id, offset) in [(70, 0_u64), (71, 4), (72, 2)] {
        let offset = offset.to_be_bytes();
        many.write(&packet(6, id, &[&string(&[0, 0, 0, 9]), &offset, &string(b"abcd")]));
    }
    let many = many.finish(PATIENCE);
    let opened = answers(&many.out);
    assert_eq!(opened.iter().filter(|answer| answer.0 == 102).count(), 64);
    assert_eq!(opened.iter().filter(|answer| answer.0 == 101 && answer.2 == 4).count(), 6);
    let told = transfers(&gateway, 64);
    assert!(told.iter().all(|line| line["details"]["partial"] == true), "none was closed");
    let scattered = told.iter().find(|line| line["details"]["path"] == "/root/f9").unwrap();
    assert_eq!(scattered["details"]["bytes"], 12);
    assert_eq!(scattered["details"].get("sha256"), None, "{scattered}");

    for cut in [vec![0, 4, 0, 1, 1], vec![0xff; 64], packet(17, 1, &[&string(b"/")])[..12].to_vec()]
    {
        let output = speak(&[init.clone(), cut]);
        assert_eq!((output.code, answers(&output.out).len()), (1, 1), "{}", output.err);
    }
}

#[test]
fn a_certificate_is_good_for_what_it_says() {
    if !can_make_sandboxes() {
        return;
    }
    let keygen = |arguments: &[&str]| {
        let made = Command::new("ssh-keygen").arg("-q").args(arguments).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    let authority = Scratch::new();
    let ca = authority.path().join("ca");
    let ca = ca.to_str().unwrap();
    keygen(&["-t", "ed25519", "-N", "", "-f", ca]);
    let gateway = gateway(&Options {
        ssh: format!("trusted_user_ca = \"{ca}.pub\"\n"),
        more: "[profiles.default]\nforward = [\"local\", \"agent\"]\n".to_owned(),
        ..Options::default()
    });
    // Somebody without a key of their own.
    gateway.cli(&["user", "add", "bob", "--no-password"]);
    let bob = gateway.alice().user("bob");
    let public = bob.key().with_extension("pub");
    let certify = |options: &[&str]| {
        let mut arguments = vec!["-s", ca, "-I", "test", "-n", "bob"];
        options.iter().for_each(|option| arguments.extend(["-O", *option]));
        arguments.push(public.to_str().unwrap());
        keygen(&arguments);
    };
    let tunnel = || {
        let mut command = bob.clone().with("-v").tool("ssh");
        command.args(["-W", "127.0.0.1:1", &bob.host()]);
        Running::new(command).finish(PATIENCE).err
    };
    certify(&[]);
    assert!(tunnel().contains("Connection refused"), "{}", tunnel());
    certify(&["clear", "permit-pty"]);
    assert!(tunnel().contains("administratively prohibited"), "{}", tunnel());
    assert_eq!(bob.clone().with("-A").run("echo ${SSH_AUTH_SOCK-none}").text(), "none\n");
    certify(&["force-command=internal-sftp"]);
    let file = gateway.scratch().file("file", "text");
    succeeds(&sftp(&bob, &format!("put {} file\nls -l\n", file.display())));
    assert_eq!(bob.run("echo in").text(), "", "nothing else is to be had");
}
