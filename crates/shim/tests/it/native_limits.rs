//! Limits bite, and bite only the one who reaches them.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;

use sojourn_shim::init_link::InitEvent;
use sojourn_shim::init_link::Stdio;

use crate::native_room::MB;
use crate::native_room::Room;
use crate::native_room::eventually;
use crate::native_room::possible;
use crate::native_room::profile;

#[test]
fn memory_is_limited() {
    if !possible() {
        return;
    }
    let mut room = Room::new();
    let outcome = room.sh("head -c 300000000 /dev/zero | tail > /dev/null");
    assert!(!outcome.status.success(), "{outcome:?}");
    assert!(room.sandbox().memory().oom_kills >= 1);
    assert_eq!(room.sh("echo still here").out, "still here\n");
}

#[test]
fn processes_are_limited() {
    if !possible() {
        return;
    }
    let mut room = Room::new();
    let bomb = "i=0; while [ $i -lt 300 ]; do sleep 1000 <&- >&- 2>&- & i=$((i+1)); done";
    let outcome = room.sh(bomb);
    assert!(outcome.err.contains("fork"), "{outcome:?}");
    let pids =
        std::fs::read_to_string(format!("/proc/{}/cgroup", room.sandbox().pid().as_raw_nonzero()));
    assert!(pids.is_ok_and(|groups| groups.contains("sojourn-test")));
    room.sandbox().signal_all(rustix::process::Signal::KILL);
    // They count until init has collected them.
    let null = std::fs::File::open("/dev/null").expect("it is there");
    eventually("there is room again", || {
        room.start(&["true"], Stdio::Pipes([null.as_fd(); 3]));
        matches!(room.event(), InitEvent::Started { .. })
            && matches!(room.event(), InitEvent::Exited { .. })
    });
}

#[test]
fn temporary_files_are_limited() {
    if !possible() {
        return;
    }
    let mut room = Room::new();
    let outcome = room.sh("head -c 60000000 /dev/zero > /tmp/big; stat -c %s /tmp/big");
    assert!(outcome.err.contains("No space left"), "{outcome:?}");
    assert_eq!(outcome.out.trim(), (50 * MB).to_string());
    let shared = room.sh("head -c 60000000 /dev/zero > /dev/shm/big");
    assert!(shared.err.contains("No space left"), "{shared:?}");
}

#[test]
fn a_full_disk_is_no_space_and_no_kill() {
    if !possible() {
        return;
    }
    for size in [8 * MB, 256 * MB] {
        let mut profile = profile();
        profile.disk_size = size;
        let mut room = Room::of(&profile);
        let outcome = room.sh("head -c 400000000 /dev/zero > /root/big; stat -c %s /root/big");
        assert!(outcome.err.contains("No space left"), "{outcome:?}");
        let written: u64 = outcome.out.trim().parse().expect("a size");
        assert!(written > size * 8 / 10 && written <= size, "{written} of {size}");
        assert_eq!(outcome.status.signal(), None);
        assert_eq!(room.sandbox().memory().oom_kills, 0);
        assert_eq!(
            room.sh("rm /root/big && echo room again > /root/f && cat /root/f").out,
            "room again\n"
        );
    }
}

#[test]
fn processors_are_limited() {
    if !possible() {
        return;
    }
    let mut profile = profile();
    profile.cpu = 0.2;
    let mut room = Room::of(&profile);
    // Half a second of work takes more than one at a fifth of a processor.
    let script =
        "timeout -s KILL 2 sh -c 'while :; do :; done'; cat /proc/self/stat > /dev/null; times";
    let outcome = room.run(&["bash", "-c", script]);
    let children = outcome.out.lines().nth(1).expect("two lines of times").split(' ').next();
    let seconds: f64 = children
        .and_then(|time| time.strip_prefix("0m")?.strip_suffix('s')?.parse().ok())
        .expect("a time");
    assert!(seconds < 1.0, "{seconds} of 2 s: {outcome:?}");
}

#[test]
fn terminals_are_limited() {
    if !possible() {
        return;
    }
    let mut room = Room::new();
    let script = "ulimit -n 4096; for i in $(seq 200); do eval \"exec $((i + 10))<>/dev/ptmx\" ||
        exit 1; done";
    let outcome = room.run(&["bash", "-c", script]);
    assert!(outcome.err.contains("/dev/ptmx: No space left"), "{outcome:?}");
}
