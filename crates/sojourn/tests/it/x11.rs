//! Windows: the client's X server reached from inside a sandbox, with the real `ssh`, a real X server
//! and real programs.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;
use sojourn_testkit::Client;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::Output;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Running;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::detach::detached;
use crate::detach::drop_client;
use crate::edges::CLIENTS;
use crate::files_below;
use crate::gateway;

/// What the X server wants to hear; it never leaves the client's machine.
const COOKIE: &str = "5e11a7c0ffee00112233445566778899";

/// By what its screen is known.
const SIZE: &str = "653x431";

/// Asks a display for its screen.
const LOOK: &str = "xdpyinfo | sed -n 's/.*dimensions: *\\([0-9x]*\\).*/\\1/p'";

/// An X server whose screen nobody sees. It ends as it should, so that it leaves no lock.
struct XServer {
    child: Child,
    display: String,
    authority: PathBuf,
}

impl XServer {
    fn start(directory: &Path) -> Self {
        let authority = directory.join("authority");
        let add = |display: &str| {
            let mut xauth = Command::new("xauth");
            xauth.args(["-q", "-f"]).arg(&authority).args(["add", display, ".", COOKIE]);
            assert!(xauth.status().expect("xauth").success());
        };
        // Whose display a cookie is for is nothing to a server.
        add(":0");
        let mut child = Command::new("Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset", "-screen", "0"])
            .arg(format!("{SIZE}x24"))
            .args(["+extension", "SECURITY", "-auth"])
            .arg(&authority)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb");
        let mut number = String::new();
        let out = child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut number).expect("a number");
        let server =
            Self { child, display: format!(":{}", number.trim()), authority: authority.clone() };
        assert!(server.display.len() > 1, "it has a number");
        add(&server.display);
        server
    }

    /// One of OpenSSH's programs, for which this is the screen.
    fn tool(&self, client: &Client, program: &str) -> Command {
        let mut command = client.tool(program);
        self.is_screen_of(&mut command);
        command
    }

    fn is_screen_of(&self, command: &mut Command) {
        command.env("DISPLAY", &self.display).env("XAUTHORITY", &self.authority);
    }

    /// `ssh` with this flag.
    fn ssh(&self, client: &Client, flag: &str, command: &str) -> Running {
        let mut ssh = self.tool(client, "ssh");
        ssh.args([flag, &client.host(), command]);
        Running::new(ssh)
    }

    fn run(&self, client: &Client, flag: &str, command: &str) -> Output {
        self.ssh(client, flag, command).finish(PATIENCE)
    }
}

impl Drop for XServer {
    fn drop(&mut self) {
        if let Some(pid) =
            i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _status = self.child.wait();
    }
}

fn with_windows() -> Gateway {
    let more = "[profiles.default]\nforward = [\"x11\"]\n\
                [profiles.shared]\nforward = [\"x11\"]\nshare = \"user\"\npool = 0\n\
                [profiles.plain]\npool = 0\n";
    gateway(&Options { more: more.to_owned(), ..Options::default() })
}

/// What is on record of this kind, as soon as it is so much.
#[track_caller]
fn audited(gateway: &Gateway, action: &str, count: usize) -> Vec<Value> {
    gateway.audit_with(count, action).into_iter().filter(|line| line["action"] == action).collect()
}

#[test]
fn windows_open_at_the_client_and_its_cookie_stays_there() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = with_windows();
    let (server, alice) = (XServer::start(gateway.scratch().path()), gateway.alice());
    let command = format!(
        "{LOOK} & {LOOK} & wait; echo $DISPLAY; stat -c '%a %F' /tmp/.X11-unix/X10 $XAUTHORITY; \
         xauth -f $XAUTHORITY list"
    );
    let seen = server.run(&alice, "-Y", &command);
    let text = seen.text();
    assert_eq!(text.matches(SIZE).count(), 2, "{text}{}", seen.err);
    assert!(text.contains(":10.0\n600 socket\n600 regular file\n"), "{text}");
    let cookie = text.split_whitespace().last().unwrap();
    assert!(cookie.len() == 32 && cookie != COOKIE, "one of ssh's own making: {text}");
    assert!(text.contains("/unix:10  MIT-MAGIC-COOKIE-1"), "{text}");

    let opened = audited(&gateway, "forward_opened", 2);
    assert_eq!(opened[0]["details"]["kind"], "x11");
    assert_eq!(opened[0]["details"]["target"], ":10");
    let closed = audited(&gateway, "forward_closed", 2);
    assert!(
        closed.iter().all(|line| line["details"]["bytes_out"].as_u64() > Some(0)),
        "{closed:?}"
    );
    gateway.wait_for_audit("its end", |line| line["action"] == "session_ended");
    let sidecar = until("its sidecar", PATIENCE, || {
        let files = files_below(&gateway.data().join("recordings"));
        let sidecar = files.iter().find(|file| file.extension().is_some_and(|e| e == "json"))?;
        let text = fs::read_to_string(sidecar).ok()?;
        (serde_json::from_str::<Value>(&text).ok()?["end_reason"].is_string()).then_some(text)
    });
    assert!(sidecar.contains("\"x11\"") && sidecar.contains("\"display\""), "{sidecar}");
    let audit = format!("{:?}", gateway.audit());
    for (name, text) in [("audit", &audit), ("log", &gateway.log()), ("sidecar", &sidecar)] {
        assert!(!text.contains(cookie) && !text.contains(COOKIE), "{name}: {text}");
    }

    // What programs may do there is the client's to say: less than with -Y.
    let untrusted = server.run(&alice, "-X", LOOK);
    assert_eq!(untrusted.text().trim(), SIZE, "{}", untrusted.err);
    // Who has another cookie is shown out by the client.
    let wrong = "00".repeat(16);
    let other = format!("xauth -q -f /tmp/other add :10 . {wrong}; XAUTHORITY=/tmp/other xdpyinfo");
    let other = server.run(&alice, "-Y", &other);
    assert_eq!(other.code, 1, "{}{}", other.text(), other.err);
    assert!(other.err.contains("unable to open display"), "{}", other.err);
    let nothing = alice.run("echo ${DISPLAY-none} ${XAUTHORITY-none}; ls -A /tmp");
    assert_eq!(nothing.text(), "none none\n", "without -X there is nothing");
}

#[test]
fn a_connection_has_one_display_and_a_shared_sandbox_one_for_each() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = with_windows();
    let (server, alice) = (XServer::start(gateway.scratch().path()), gateway.alice());
    let socket = gateway.scratch().path().join("master");
    let shared = alice.clone().with(&format!("-oControlPath={}", socket.display()));
    let mut master = server.tool(&shared, "ssh");
    master.args(["-M", "-N", "-Y", &shared.host()]);
    let _master = Running::new(master);
    until("the master's socket", PATIENCE, || socket.exists().then_some(()));
    for _ in 0..2 {
        let one = server.run(&shared, "-Y", &format!("echo $DISPLAY; {LOOK}"));
        assert_eq!(one.text(), format!(":10.0\n{SIZE}\n"), "{}", one.err);
    }

    let alice = alice.user("alice+shared");
    let mut first = server.ssh(&alice, "-Y", &format!("echo $DISPLAY; read go; {LOOK}"));
    first.expect(":10.0\n");
    let second = server.run(&alice, "-Y", &format!("echo $DISPLAY; {LOOK}; ls /tmp/.X11-unix"));
    assert_eq!(second.text(), format!(":11.0\n{SIZE}\nX10\nX11\n"), "{}", second.err);
    first.write(b"go\n");
    first.expect(SIZE);
    assert_eq!(first.finish(PATIENCE).code, 0);
}

#[test]
fn whoever_comes_back_with_a_screen_has_windows_there_again() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = with_windows();
    let (server, alice) = (XServer::start(gateway.scratch().path()), gateway.alice());
    let at_terminal = |client: &Client| {
        let words: Vec<String> =
            client.arguments().iter().map(|word| format!("'{word}'")).collect();
        let line = format!("exec ssh -tt -Y {} {}", words.join(" "), client.host());
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("SHELL", "/bin/sh");
        server.is_screen_of(&mut script);
        Running::new(script)
    };
    let mut first = at_terminal(&alice);
    first.expect("# ");
    first.write(format!("{LOOK}; echo fir$((1))st\n").as_bytes());
    first.expect("fir1st");
    assert!(first.so_far().contains(SIZE), "{}", first.so_far());
    drop_client(&first);
    let id = detached(&gateway);
    let mut back = at_terminal(&alice.user(&format!("alice+@{}", &id[id.len() - 8..])));
    back.expect("fir1st");
    back.write(format!("clear; {LOOK}; echo sec$((2))nd\n").as_bytes());
    back.expect("sec2nd");
    let said = back.so_far();
    let said = said.rsplit("clear;").next().unwrap();
    assert!(said.contains(SIZE), "{said}");
    back.write(b"exit 3\n");
    assert_eq!(back.finish(PATIENCE).code, 3);
}

#[test]
fn windows_are_refused_where_the_profile_does_not_say_so() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = with_windows();
    let (server, alice) = (XServer::start(gateway.scratch().path()), gateway.alice());
    let refused = server.run(&alice.user("alice+plain"), "-Y", "echo ${DISPLAY-none}; exit 3");
    assert_eq!((refused.code, refused.text().as_str()), (3, "none\n"), "it runs all the same");
    assert!(refused.err.contains("X11 forwarding request failed"), "{}", refused.err);
    let line = gateway.wait_for_audit("the refusal", |line| line["action"] == "forward_refused");
    assert_eq!(line["details"]["kind"], "x11");
    assert_eq!(line["details"]["code"], "forbidden");
}

#[test]
fn a_request_is_bounded_and_one_for_a_single_connection_is_for_one() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = with_windows();
    let output = Command::new("/usr/bin/python3")
        .arg(format!("{CLIENTS}/x11.py"))
        .env("PORT", gateway.port.to_string())
        .env("USER", "alice")
        .env("KEY", gateway.alice().key())
        .output()
        .expect("python3");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let wanted = "single: first served, second refused\n\
                  method: refused\ncookie: refused\nlong cookie: refused\nscreen: refused\n\
                  twice: refused\n";
    assert_eq!(text, wanted, "{errors}{}", gateway.log());
    let refused = audited(&gateway, "forward_refused", 4);
    let code = |line: &Value| line["details"]["code"].as_str().map(str::to_owned);
    let codes: Vec<_> = refused.iter().filter_map(code).collect();
    assert_eq!(codes, ["malformed"; 4]);
}
