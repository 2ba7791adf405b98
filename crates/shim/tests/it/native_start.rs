//! Programs in a sandbox: streams, terminals, signals, ends.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

use sojourn_core::wire::shim::WindowSize;
use sojourn_shim::cgroup::clean_orphans;
use sojourn_shim::init_link::Command;
use sojourn_shim::init_link::InitEvent;
use sojourn_shim::init_link::StartError;
use sojourn_shim::init_link::Stdio;
use sojourn_shim::pty;

use crate::native_room::PARENT;
use crate::native_room::PATIENCE;
use crate::native_room::Room;
use crate::native_room::possible;
use crate::native_room::profile;
use crate::native_room::wait_for;

#[test]
fn streams_stay_apart_and_the_status_comes_through() {
    if !possible() {
        return;
    }
    let mut room = Room::new();
    let outcome = room.sh("echo out; echo err >&2; exit 7");
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("out\n", "err\n"));
    assert_eq!(outcome.status.code(), Some(7));
    assert_eq!(room.sh("kill -TERM $$").status.signal(), Some(15));
    assert_eq!(room.sh("pwd; echo $HOME; umask; ulimit -c").out, "/root\n/root\n0022\n0\n");
    // Nothing of init's is inherited: the shell's own descriptor for the listing is the fourth.
    assert_eq!(room.run(&["ls", "/proc/self/fd"]).out, "0\n1\n2\n3\n");
    assert!(
        room.sh("grep -E 'Sig(Blk|Ign)' /proc/self/status").out.ends_with("0000000000000000\n")
    );
}

#[test]
fn a_login_shell_has_a_terminal_and_a_plain_prompt() {
    if !possible() {
        return;
    }
    let mut room = Room::new();
    // VINTR is made ^A.
    let (channel, mut terminal) = room.on_terminal(&["bash", "-l"], &[(1, 1), (128, 9600)]);
    assert!(terminal.until("# ").ends_with("root@room:~# "));
    terminal.write("bind 'set enable-bracketed-paste off'\n");
    terminal.until("# ");
    terminal.write("stty size; tty; stty -a | grep -o 'intr = ^A'; stty speed\n");
    terminal.until("speed\r\n");
    let printed = terminal.until("# ");
    assert!(
        printed.contains("40 100\r\n/dev/pts/0\r\nintr = ^A\r\n9600\r\nroot@room"),
        "{printed:?}"
    );
    terminal.write("trap 'echo resized $(stty size)' WINCH\n");
    terminal.until("# ");
    let size = WindowSize { cols: 91, rows: 33, width: 0, height: 0 };
    pty::resize(&terminal.master, size).expect("a terminal has a size");
    terminal.write("\n");
    terminal.until("resized 33 91");
    terminal.write("sleep 1000\n");
    // Until then the shell itself reads the terminal.
    room.sh("until pgrep -f '^sleep 1000'; do sleep 0.01; done");
    terminal.write("\x01");
    terminal.until("^A");
    terminal.write("exit 3\n");
    let InitEvent::Exited { channel: ended, status } = room.event() else { panic!("it ended") };
    assert_eq!((ended, status.code()), (channel, Some(3)));
    terminal.until("exit 3\r\nlogout\r\n");
}

#[test]
fn signals_reach_the_foreground() {
    if !possible() {
        return;
    }
    let mut room = Room::new();
    let (channel, mut terminal) = room.on_terminal(&["bash", "-l"], &[]);
    terminal.until("# ");
    terminal.write("sleep 1000; echo ended with $?\n");
    // The shell must have given the terminal away before it can be told.
    room.sh("until pgrep -f '^sleep 1000'; do sleep 0.01; done");
    room.sandbox().link().signal(channel, libc_signal("TERM")).expect("init listens");
    terminal.until("ended with 143");
    room.sandbox().link().signal(channel, libc_signal("KILL")).expect("init listens");
    let InitEvent::Exited { status, .. } = room.event() else { panic!("it ended") };
    assert_eq!(status.signal(), Some(9));
}

fn libc_signal(name: &str) -> i32 {
    match name {
        "TERM" => 15,
        _ => 9,
    }
}

#[test]
fn what_cannot_run_is_refused_with_the_reason() {
    if !possible() {
        return;
    }
    let mut room = Room::new();
    let null = std::fs::File::open("/dev/null").expect("it is there");
    let stdio = Stdio::Pipes([null.as_fd(); 3]);
    for (program, errno) in [("no-such-program", 2), ("/etc/passwd", 13), ("/etc/passwd/x", 20)] {
        let channel = room.start(&[program], stdio);
        assert_eq!(room.event(), InitEvent::Refused { channel, errno }, "{program}");
    }
    // A directory that is not there is no reason.
    let argv = ["true".to_owned()];
    let command = Command { cwd: "/nowhere", argv: &argv, env: &[] };
    room.sandbox().link().start(9, &command, stdio).expect("it can be asked for");
    assert_eq!(room.event(), InitEvent::Started { channel: 9 });
    let InitEvent::Exited { status, .. } = room.event() else { panic!("it ended") };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn many_programs_run_at_a_time_and_their_orphans_are_reaped() {
    if !possible() {
        return;
    }
    let mut room = Room::new();
    let null = std::fs::File::open("/dev/null").expect("it is there");
    let stdio = Stdio::Pipes([null.as_fd(); 3]);
    for _ in 0..64 {
        let channel = room.start(&["sleep", "1000"], stdio);
        assert_eq!(room.event(), InitEvent::Started { channel });
    }
    let argv = ["true".to_owned()];
    let command = Command { cwd: "/", argv: &argv, env: &[] };
    let one_more = room.sandbox().link().start(99, &command, stdio);
    assert!(matches!(one_more, Err(StartError::TooMany)), "{one_more:?}");
    room.sandbox().link().signal(0, 9).expect("init listens");
    assert!(matches!(room.event(), InitEvent::Exited { channel: 0, .. }));
    room.sh("sh -c 'sleep 0.1 & sleep 0.1 &'; while pgrep -f '^sleep 0.1'; do sleep 0.01; done");
    assert_eq!(room.sh("ps ax -o stat= | grep -c Z").out, "0\n");
}

#[test]
fn a_sandbox_ends_with_its_shim() {
    if !possible() {
        return;
    }
    let profile = profile();
    let mut room = Room::of(&profile);
    let null = std::fs::File::open("/dev/null").expect("it is there");
    room.start(&["sh", "-c", "trap '' HUP TERM; sleep 1000"], Stdio::Pipes([null.as_fd(); 3]));
    let sandbox = room.take();
    let held = rustix::io::dup(sandbox.pidfd()).expect("descriptors are left");
    drop(sandbox);
    wait_for(held.as_fd(), Instant::now() + PATIENCE);
    assert_eq!(clean_orphans(PARENT, |id| id != profile.id).expect("root may"), 1);
}
