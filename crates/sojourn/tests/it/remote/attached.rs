//! `sojourn session start` and `attach`, in a real terminal.

use std::io;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use serde_json::Value;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use super::Remote;
use crate::descendants;
use crate::detach::at_terminal;
use crate::gateway;
use crate::name_of;

/// A way to a gateway that can be cut, and can lead to another one.
struct Switch {
    port: u16,
    target: Arc<AtomicU16>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Switch {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (target, open) = (Arc::new(AtomicU16::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (to, opened) = (target.clone(), open.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(gateway) = TcpStream::connect(("127.0.0.1", to.load(Ordering::SeqCst)))
                else {
                    continue;
                };
                let copies = [client.try_clone().unwrap(), gateway.try_clone().unwrap()];
                opened.lock().unwrap().extend(copies);
                let (mut from, mut into) =
                    (gateway.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _gone = io::copy(&mut from, &mut into);
                    let _gone = into.shutdown(Shutdown::Write);
                });
                let (mut from, mut into) = (client, gateway);
                std::thread::spawn(move || {
                    let _gone = io::copy(&mut from, &mut into);
                    let _gone = into.shutdown(Shutdown::Write);
                });
            }
        });
        Self { port, target, open }
    }

    fn to(&self, gateway: &Gateway) {
        self.target.store(gateway.web_port(), Ordering::SeqCst);
    }

    /// Breaks every connection there is.
    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }
}

fn newest(gateway: &Gateway, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    until(what, PATIENCE, || gateway.sessions().into_iter().next().filter(|session| is_so(session)))
}

#[test]
fn a_started_session_is_a_terminal_and_ends_as_its_program_does() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let remote = Remote::of(&gateway, "alice", &["sessions"]);
    let mut shell = remote.in_terminal((100, 30), &["session", "start"]);
    shell.expect("Ctrl-] leaves it running");
    shell.expect("# ");
    shell.write(b"stty size; echo a-$((6*7))\n");
    shell.expect("30 100");
    shell.expect("a-42");
    let command = until("the command", PATIENCE, || {
        descendants(shell.pid()).into_iter().find(|pid| name_of(*pid) == "sojourn")
    });
    let terminal = std::fs::read_link(format!("/proc/{command}/fd/0")).unwrap();
    let resized = Command::new("stty")
        .args(["-F", terminal.to_str().unwrap(), "rows", "40", "cols", "120"])
        .status()
        .unwrap();
    assert!(resized.success());
    until("the new size inside", PATIENCE, || {
        shell.write(b"stty size\n");
        shell.so_far().contains("40 120").then_some(())
    });
    shell.write(b"exit 7\n");
    let over = shell.finish(PATIENCE);
    assert_eq!(over.code, 7, "{}", over.text());
    assert!(over.text().contains("the session is over (exited)"), "{}", over.text());
    let session = newest(&gateway, "its end", |session| session["status"] == "ended");
    assert_eq!((&session["door"], &session["user"]), (&"web".into(), &"alice".into()));
    let id = session["id"].as_str().unwrap();
    let (code, _, err) = remote.run(&["session", "attach", id]);
    assert_eq!(code, Some(7), "one that is over tells how it ended: {err}");
}

#[test]
fn leaving_leaves_it_running_and_a_watcher_changes_nothing() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let remote = Remote::of(&gateway, "alice", &["sessions"]);
    let mut ssh = at_terminal(&gateway.alice(), "alice", (80, 24));
    ssh.expect("# ");
    let id = gateway.sessions()[0]["id"].as_str().unwrap().to_owned();
    let mut watcher = remote.in_terminal((80, 24), &["session", "attach", &id, "--watch"]);
    watcher.expect("watching");
    watcher.expect("# ");
    watcher.write(b"echo not-$((1+1))-typed\n");
    ssh.write(b"printf '\\033]52;c;aGVsbG8=\\007'; echo seen-$((1+1))\n");
    watcher.expect("seen-2");
    ssh.expect("seen-2");
    assert!(!watcher.so_far().contains("\u{1b}]52;"), "a clipboard that is somebody else's");
    assert!(!ssh.so_far().contains("not-2-typed"));
    watcher.write(b"\x1d");
    let left = watcher.finish(PATIENCE);
    assert_eq!(left.code, 0);
    assert!(left.text().contains("come back with"), "{}", left.text());
    assert!(!ssh.is_over());
    // It is hers: attaching takes the keyboard from her other terminal.
    let mut mine = remote.in_terminal((80, 24), &["session", "attach", &id[id.len() - 8..]]);
    mine.expect("seen-2");
    let over = ssh.finish(PATIENCE);
    assert!(over.text().contains("Session taken over by alice"), "{}", over.text());
    mine.write(b"echo mine-$((2+2))\n");
    mine.expect("mine-4");
    gateway.cli(&["session", "end", &id, "--reason", "enough"]);
    assert_eq!(mine.finish(PATIENCE).code, 143);
}

#[test]
fn who_types_nothing_sees_what_is_there_and_goes() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let remote = Remote::of(&gateway, "alice", &["sessions"]);
    let mut ssh = at_terminal(&gateway.alice(), "alice", (80, 24));
    ssh.expect("# ");
    ssh.write(b"echo there-$((1+1))\n");
    ssh.expect("there-2");
    let id = gateway.sessions()[0]["id"].as_str().unwrap().to_owned();
    let (code, out, err) = remote.run(&["session", "attach", &id]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("there-2"), "{out}");
    assert!(err.contains("come back with"), "{err}");
    assert_ne!(gateway.sessions()[0]["status"], "ended", "it goes on");
    gateway.cli(&["session", "end", &id]);
    ssh.finish(PATIENCE);
}

#[test]
fn a_cut_connection_and_a_killed_gateway_lose_nothing_and_double_nothing() {
    if !can_make_sandboxes() {
        return;
    }
    let switch = Switch::new();
    let mut gateway = gateway(&Options {
        web: format!("public_url = \"http://localhost:{}\"\n", switch.port),
        ..Options::default()
    });
    switch.to(&gateway);
    let remote = Remote {
        url: format!("http://localhost:{}", switch.port),
        ..Remote::of(&gateway, "alice", &["sessions"])
    };
    let mut shell = remote.in_terminal((80, 24), &["session", "start"]);
    shell.expect("# ");
    // Printed while nobody can hear it, too.
    shell.write(b"for i in $(seq 100 199); do echo line-$i; sleep 0.02; done; echo all-$((1+1))\n");
    shell.expect("line-110");
    switch.cut();
    shell.expect("connection lost");
    shell.expect("connected again");
    shell.expect("all-2");
    let text = shell.so_far();
    for line in 100..200 {
        let line = format!("line-{line}\r\n");
        assert_eq!(text.matches(&line).count(), 1, "{line} in {text}");
    }
    gateway.kill();
    switch.cut();
    until("it to be noticed", PATIENCE, || {
        (shell.so_far().matches("connection lost").count() == 2).then_some(())
    });
    gateway.launch();
    switch.to(&gateway);
    until("it to be back", PATIENCE, || {
        (shell.so_far().matches("connected again").count() == 2).then_some(())
    });
    until("an answer", PATIENCE, || {
        shell.write(b"echo back-$((3+3))\n");
        shell.so_far().contains("back-6").then_some(())
    });
    shell.write(b"exit 9\n");
    let over = shell.finish(PATIENCE);
    assert_eq!(over.code, 9, "{}", over.text());
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}
