//! Forwarded connections, with the real `ssh`: made inside the sandbox, taken there, and the key agent.

use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sojourn_testkit::Client;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Running;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::detach::at_terminal;
use crate::detach::detached;
use crate::detach::drop_client;
use crate::edges::CLIENTS;
use crate::gateway;

/// A gateway whose default profile allows these forwards.
fn forwarding(kinds: &str) -> Gateway {
    let more = format!("[profiles.default]\nforward = [{kinds}]\n");
    gateway(&Options { more, ..Options::default() })
}

/// A port that nobody has at the moment.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Connects as soon as there is somebody.
#[track_caller]
fn connect(port: u16) -> TcpStream {
    let stream = until(&format!("port {port}"), PATIENCE, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
    });
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What is on record of this kind, as soon as it is so much.
#[track_caller]
fn audited(gateway: &Gateway, action: &str, count: usize) -> Vec<Value> {
    gateway.audit_with(count, action).into_iter().filter(|line| line["action"] == action).collect()
}

/// A shared connection, with these options, that is there when this returns.
fn master(gateway: &Gateway, client: &Client, options: &[&str]) -> (Running, Client) {
    let socket = gateway.scratch().path().join(format!("master-{}", free_port()));
    let shared = client.clone().with(&format!("-oControlPath={}", socket.display()));
    let mut command = shared.tool("ssh");
    command.args(["-M", "-N"]).args(options).arg(shared.host());
    let running = Running::new(command);
    until("the master's socket", PATIENCE, || socket.exists().then_some(()));
    (running, shared)
}

const SERVER: &str = "import socket,sys,threading\n\
s=socket.create_server(('127.0.0.1',int(sys.argv[1])))\n\
print('ready',flush=True)\n\
def serve(c):\n\
\x20 c.sendall(b'SSH-2.0-first\\n')\n\
\x20 got=b''\n\
\x20 while True:\n\
\x20  p=c.recv(65536)\n\
\x20  if not p: break\n\
\x20  got+=p\n\
\x20 c.sendall(b'got %d\\n'%len(got)); c.close()\n\
while True:\n\
\x20 c,_=s.accept(); threading.Thread(target=serve,args=(c,),daemon=True).start()\n";

#[test]
fn a_local_forward_ends_inside_and_each_way_by_itself() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = forwarding("\"local\"");
    let port = free_port();
    let (_master, shared) =
        master(&gateway, &gateway.alice(), &["-L", &format!("{port}:127.0.0.1:7001")]);
    // The first connection is the first thing the session is for; nobody listens there yet.
    let mut refused = connect(port);
    assert_eq!(refused.read(&mut [0; 1]).unwrap(), 0, "refused inside");
    let mut server = shared.start(&[&format!("python3 -c \"{SERVER}\" 7001")]);
    server.expect("ready");
    for _ in 0..8 {
        let mut stream = connect(port);
        let mut banner = [0; 14];
        stream.read_exact(&mut banner).unwrap();
        assert_eq!(&banner, b"SSH-2.0-first\n");
        stream.write_all(&[7; 1000]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "got 1000\n", "after the end of what was sent to it");
    }
    assert_eq!(gateway.sessions().len(), 1, "all of it in one session");
    until("eight ends", PATIENCE, || {
        (audited(&gateway, "forward_closed", 0).len() >= 8).then_some(())
    });
    let opened = audited(&gateway, "forward_opened", 8);
    assert_eq!(opened.len(), 8);
    assert_eq!(opened[0]["details"]["kind"], "local");
    assert_eq!(opened[0]["details"]["target"], "127.0.0.1:7001");
    assert!(opened[0]["details"]["from"].as_str().unwrap().starts_with("127.0.0.1:"));
    let closed = &audited(&gateway, "forward_closed", 1)[0]["details"];
    assert_eq!((closed["bytes_in"].as_u64(), closed["bytes_out"].as_u64()), (Some(1000), Some(23)));
    let refused = audited(&gateway, "forward_refused", 1);
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["details"]["code"], "connect");
    server.kill();
}

#[test]
fn a_dynamic_forward_bears_many_fetches_at_once() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = forwarding("\"local\"");
    let port = free_port();
    let (_master, shared) = master(&gateway, &gateway.alice(), &["-D", &port.to_string()]);
    let serve = "mkdir -p /tmp/www && cd /tmp/www && head -c 1000000 /dev/urandom >file && \
                 sha256sum <file && exec python3 -u -m http.server --bind 127.0.0.1 7002";
    let mut server = shared.start(&[serve]);
    server.expect("Serving");
    let digest = server.so_far().split_whitespace().next().unwrap().to_owned();
    let fetch = "curl -sS --max-time 60 --proxy socks5h://127.0.0.1:PORT \
                 http://127.0.0.1:7002/file | sha256sum";
    let fetches: Vec<Running> = (0..20)
        .map(|_| {
            let mut command = Command::new("sh");
            command.args(["-c", &fetch.replace("PORT", &port.to_string())]);
            Running::new(command)
        })
        .collect();
    for fetch in fetches {
        let output = fetch.finish(Duration::from_secs(60));
        assert!(output.text().starts_with(&digest), "{}{}", output.text(), output.err);
    }
    server.kill();
}

#[test]
fn a_remote_forward_brings_connections_from_inside() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = forwarding("\"remote\"");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let here = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _read = stream.read(&mut request);
            let _gone = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nfrom outside\n");
        }
    });
    let socket = gateway.scratch().path().join("outside");
    let unix = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in unix.incoming() {
            let _gone = stream.unwrap().write_all(b"by socket\n");
        }
    });
    let (mut running, shared) = master(
        &gateway,
        &gateway.alice().with("-oExitOnForwardFailure=yes"),
        &[
            "-R",
            &format!("7003:127.0.0.1:{here}"),
            "-R",
            &format!("/tmp/in.sock:{}", socket.display()),
        ],
    );
    let fetch = "import urllib.request as u\n\
                 print(u.urlopen('http://127.0.0.1:7003/').read().decode(), end='')";
    let ten = format!("for i in 1 2 3 4 5 6 7 8 9 10; do python3 -c \"{fetch}\" & done; wait");
    let output = Running::new({
        let mut command = shared.command();
        command.arg(&ten);
        command
    })
    .finish(Duration::from_secs(60));
    assert_eq!(output.text(), "from outside\n".repeat(10), "{}", output.err);
    let connect = "import socket\ns=socket.socket(socket.AF_UNIX)\ns.connect('/tmp/in.sock')\n\
                   print(s.recv(99).decode(),end='')";
    assert_eq!(shared.run(&format!("python3 -c \"{connect}\"")).text(), "by socket\n");
    // A port of its choice, told to the client; then taken back.
    let mut any = shared.tool("ssh");
    any.args(["-O", "forward", "-R", &format!("0:127.0.0.1:{here}"), &shared.host()]);
    let any = Running::new(any).finish(PATIENCE);
    let port: u16 = any.text().trim().parse().unwrap_or_else(|_| panic!("{any:?}"));
    let fetch = fetch.replace("7003", &port.to_string());
    assert_eq!(shared.run(&format!("python3 -c \"{fetch}\"")).text(), "from outside\n");
    let mut cancel = shared.tool("ssh");
    cancel.args(["-O", "cancel", "-R", &format!("7003:127.0.0.1:{here}"), &shared.host()]);
    assert_eq!(Running::new(cancel).finish(PATIENCE).code, 0);
    let gone = "import socket; socket.create_connection(('127.0.0.1',7003))";
    let refused = shared.run(&format!("python3 -c \"{gone}\""));
    assert!(refused.err.contains("ConnectionRefused"), "{}", refused.err);
    assert!(!running.is_over());
    let opened = audited(&gateway, "forward_opened", 12);
    assert_eq!(opened.iter().filter(|line| line["details"]["kind"] == "remote").count(), 12);
}

#[test]
fn a_key_agent_answers_from_inside() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = forwarding("\"agent\"");
    let socket = gateway.scratch().path().join("agent");
    let mut agent = Command::new("ssh-agent");
    agent.args(["-D", "-a"]).arg(&socket);
    let _agent = Running::new(agent);
    until("the agent", PATIENCE, || socket.exists().then_some(()));
    let key = gateway.alice().key().to_owned();
    let added = Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket).status();
    assert!(added.unwrap().success());
    let mut ssh = gateway.alice().tool("ssh");
    ssh.env("SSH_AUTH_SOCK", &socket).args(["-A", &gateway.alice().host()]);
    ssh.arg(
        "for i in 1 2 3; do ssh-add -l & done; wait; echo $SSH_AUTH_SOCK; ls -l $SSH_AUTH_SOCK",
    );
    let output = Running::new(ssh).finish(PATIENCE);
    let text = output.text();
    assert_eq!(text.matches("alice@test").count(), 3, "{text}{}", output.err);
    let opened = audited(&gateway, "forward_opened", 3);
    assert_eq!(opened.iter().filter(|line| line["details"]["kind"] == "agent").count(), 3);
    // Without -A there is none.
    assert_eq!(gateway.alice().run("echo ${SSH_AUTH_SOCK-none}").text(), "none\n");
}

#[test]
fn whoever_comes_back_forwards_as_before() {
    if !can_make_sandboxes() {
        return;
    }
    let more = "[profiles.default]\nforward = [\"local\", \"remote\", \"agent\"]\n[profiles.plain]\npool = 0\n";
    let gateway = gateway(&Options { more: more.to_owned(), ..Options::default() });
    let socket = gateway.scratch().path().join("agent");
    let mut agent = Command::new("ssh-agent");
    agent.args(["-D", "-a"]).arg(&socket);
    let _agent = Running::new(agent);
    until("the agent", PATIENCE, || socket.exists().then_some(()));
    let key = gateway.alice().key().to_owned();
    let added = Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket).status();
    assert!(added.unwrap().success());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let here = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _gone = stream.unwrap().write_all(b"from outside\n");
        }
    });

    let with_agent = gateway.alice().with("-A");
    let with_agent = with_agent.with(&format!("-oIdentityAgent={}", socket.display()));
    let mut first = at_terminal(&with_agent, "alice", (80, 24));
    first.expect("# ");
    first.write(b"ssh-add -l; echo fir$((1))st\n");
    first.expect("alice@test");
    first.expect("fir1st");
    drop_client(&first);
    let id = detached(&gateway);
    let name = format!("alice+@{}", &id[id.len() - 8..]);

    let (inside, local) = (free_port(), free_port());
    let written = gateway.alice().user(&name).run_with("cat >/tmp/server.py", SERVER.as_bytes());
    assert_eq!(written.code, 0, "{}", written.err);
    let with_all = with_agent
        .with(&format!("-L{local}:127.0.0.1:{inside}"))
        .with(&format!("-R7005:127.0.0.1:{here}"))
        .with("-oExitOnForwardFailure=yes");
    let mut back = at_terminal(&with_all, &name, (80, 24));
    back.expect("fir1st");
    // The very shell that waited reaches the agent that its person has now.
    back.write(b"clear; ssh-add -l; echo sec$((2))nd\n");
    back.expect("sec2nd");
    assert_eq!(back.so_far().rsplit("clear;").next().unwrap().matches("alice@test").count(), 1);
    back.write(format!("python3 /tmp/server.py {inside} &\n").as_bytes());
    back.expect("ready");
    let mut stream = connect(local);
    stream.write_all(b"12345").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "SSH-2.0-first\ngot 5\n");
    back.write(
        b"python3 -c 'import socket; print(socket.create_connection((\"127.0.0.1\",7005)).recv(99))'\n",
    );
    back.expect("from outside");
    back.write(b"exit 3\n");
    assert_eq!(back.finish(PATIENCE).code, 3);
    let opened = audited(&gateway, "forward_opened", 4);
    for (kind, count) in [("local", 1), ("remote", 1), ("agent", 2)] {
        let of_kind = opened.iter().filter(|line| line["details"]["kind"] == kind);
        assert_eq!(of_kind.count(), count, "{kind}: {opened:#?}");
    }

    // What counts is the session's profile, whoever's default allows more.
    let mut plain = at_terminal(&gateway.alice(), "alice+plain", (80, 24));
    plain.expect("# ");
    let refused = gateway
        .alice()
        .user("alice+@")
        .with(&format!("-R7006:127.0.0.1:{here}"))
        .with("-oExitOnForwardFailure=yes")
        .run("exit 3");
    assert_eq!(refused.code, 255, "{}", refused.err);
    let line = gateway.wait_for_audit("the refusal", |line| line["action"] == "forward_refused");
    assert_eq!(line["details"]["code"], "forbidden");
    plain.write(b"exit 4\n");
    assert_eq!(plain.finish(PATIENCE).code, 4);
}

#[test]
fn what_the_profile_does_not_allow_is_refused_and_takes_no_sandbox() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let alice = gateway.alice();
    let mut direct = alice.clone().with("-v").with("-oLogLevel=DEBUG1").tool("ssh");
    direct.args(["-W", "127.0.0.1:22", &alice.host()]);
    let direct = Running::new(direct).finish(PATIENCE);
    assert!(direct.err.contains("administratively prohibited"), "{}", direct.err);
    let mut remote = alice.clone().with("-oExitOnForwardFailure=yes").tool("ssh");
    remote.args(["-N", "-R", "0:127.0.0.1:22", &alice.host()]);
    let remote = Running::new(remote).finish(PATIENCE);
    assert_eq!(remote.code, 255);
    assert!(remote.err.contains("remote port forwarding failed"), "{}", remote.err);
    assert_eq!(gateway.sessions().len(), 0);
    let refused = audited(&gateway, "forward_refused", 2);
    let kinds: Vec<&str> =
        refused.iter().map(|line| line["details"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["local", "remote"]);
}

#[test]
fn a_connection_that_only_forwards_ends_at_its_limit() {
    if !can_make_sandboxes() {
        return;
    }
    let more =
        "[profiles.default]\nforward = [\"remote\"]\nsession_timeout = \"2s\"\ngrace = \"1s\"\n";
    let gateway = gateway(&Options { more: more.to_owned(), ..Options::default() });
    let alice = gateway.alice();
    let mut forward = alice.tool("ssh");
    forward.args(["-N", "-R", "7004:127.0.0.1:9", &alice.host()]);
    let ended = Running::new(forward).finish(PATIENCE);
    assert_eq!(ended.code, 255, "{}", ended.err);
    gateway.wait_for_audit("its end", |line| {
        line["action"] == "session_ended" && line["details"]["reason"] == "max_runtime"
    });
}

#[test]
fn a_reader_that_stops_holds_up_no_other_forward() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = forwarding("\"local\"");
    let (flood, echo) = (free_port(), free_port());
    let (_master, shared) = master(
        &gateway,
        &gateway.alice(),
        &["-L", &format!("{flood}:127.0.0.1:7005"), "-L", &format!("{echo}:127.0.0.1:7006")],
    );
    let flooding = "import socket\ns=socket.create_server(('127.0.0.1',7005))\n\
                    print('ready',flush=True)\nc,_=s.accept()\nwhile True: c.sendall(b'x'*65536)";
    let mut one = shared.start(&[&format!("python3 -c \"{flooding}\"")]);
    let mut other = shared.start(&[&format!("python3 -c \"{SERVER}\" 7006")]);
    one.expect("ready");
    other.expect("ready");
    let mut stalled = connect(flood);
    stalled.read_exact(&mut [0; 100_000]).unwrap();
    let before = crate::memory_of(gateway.pid());
    for _ in 0..5 {
        let mut stream = connect(echo);
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        assert_eq!(all, "SSH-2.0-first\ngot 0\n");
    }
    let grown = crate::memory_of(gateway.pid()).saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {} MiB", grown >> 20);
    one.kill();
    other.kill();
}

#[test]
fn what_was_said_before_a_channel_was_closed_arrives() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = forwarding("\"local\"");
    let mut client = Command::new("/usr/bin/python3");
    client.arg(format!("{CLIENTS}/closing.py"));
    client.env("PORT", gateway.port.to_string()).env("USER", "alice");
    let output = client.env("KEY", gateway.alice().key()).output().expect("python3");
    let (text, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let all = ["forward", "program", "scp", "sftp"].map(|by| format!("{by}: 300000\n")).concat();
    assert_eq!(text, all, "{errors}{}", gateway.log());
}
