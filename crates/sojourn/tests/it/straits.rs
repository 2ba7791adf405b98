//! Too few descriptors, and a line that is slow and loses much.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Peer;
use sojourn_testkit::Running;
use sojourn_testkit::Scratch;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::edges::CLIENTS;
use crate::gateway;

#[test]
fn without_descriptors_nobody_new_comes_in_and_everybody_else_stays() {
    if !can_make_sandboxes() {
        return;
    }
    let scratch = Scratch::new();
    let binary = env!("CARGO_BIN_EXE_sojourn");
    let poor = scratch.file("poor", format!("#!/bin/sh\nulimit -n 64\nexec {binary} \"$@\"\n"));
    fs::set_permissions(&poor, fs::Permissions::from_mode(0o755)).unwrap();
    let gateway = Gateway::start(poor.to_str().unwrap(), &Options::default());
    let mut shell = gateway.alice().with("-tt").start(&[]);
    shell.expect("# ");
    let crowd: Vec<TcpStream> =
        (0..80).map(|_| TcpStream::connect(("127.0.0.1", gateway.port)).unwrap()).collect();
    gateway.wait_for_log("that it is full", |line| line["event"] == "accept");
    shell.write(b"echo $((6*7))\n");
    shell.expect("42");
    drop(crowd);
    until("room again", PATIENCE, || (gateway.alice().run("exit 3").code == 3).then_some(()));
    shell.write(b"exit 5\n");
    assert_eq!(shell.finish(PATIENCE).code, 5);
    let full = gateway.log_lines().iter().filter(|line| line["event"] == "accept").count();
    assert!(full <= 4, "it says so now and then, not {full} times");
}

#[test]
fn a_bad_line_is_slow_and_nothing_else() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let mut line = Command::new("/usr/bin/python3");
    line.arg(format!("{CLIENTS}/slow_line.py")).env("PORT", gateway.port.to_string());
    let line = Running::new(line);
    let port = until("its port", PATIENCE, || line.so_far().trim().parse().ok());
    let peer = Peer::new(port, "alice", &gateway.scratch().path().join("key"));
    let output = peer.run(
        r#"
        ssh H 'echo out; echo err >&2; exit 5' 2>/dev/null; status
        (sleep 1; echo 'echo $((6*7)); exit 3') | ssh -tt H >shell; status; grep -ac $'42\r$' shell
        head -c 4000000 /dev/urandom >in; ssh H cat <in | cmp - in && echo same
        scp -q in H:x; status
        ssh -o RekeyLimit=1M H cat <in | cmp - in && echo same
        for i in $(seq 8); do (ssh H "exit $i"; echo $? >code-$i) & done; wait; cat code-* | tr "\n" " "
        "#,
        Duration::from_secs(60),
    );
    let lines: Vec<String> = output.text().lines().map(str::to_owned).collect();
    let told = ["out", "status 5", "status 3", "1", "same", "status 0", "same", "1 2 3 4 5 6 7 8 "];
    assert_eq!(lines, told, "{}", output.err);
    until("all sessions to be over", PATIENCE, || {
        gateway.sessions().iter().all(|session| session["status"] == "ended").then_some(())
    });
}
