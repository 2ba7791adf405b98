//! Programs on the host as another user: whose they are, what holds them, how they end.

use std::fs;
use std::os::fd::AsFd;

use sojourn_shim::host;
use sojourn_shim::host::HostProfile;
use sojourn_shim::init_link::Stdio;

use crate::native_room::MB;
use crate::native_room::PARENT;
use crate::native_room::PATIENCE;
use crate::native_room::Room;
use crate::native_room::end;
use crate::native_room::eventually;
use crate::native_room::image;
use crate::native_room::possible;
use crate::native_room::profile;

/// A user that nobody else of this machine is.
fn stranger() -> HostProfile {
    let ids = profile();
    HostProfile {
        id: ids.id,
        cgroup_parent: PARENT.to_owned(),
        uid: ids.ids.start,
        gid: ids.ids.start + 1,
        groups: vec![ids.ids.start + 1, ids.ids.start + 2],
        memory: 64 * MB,
        cpu: 1.0,
        pids: 30,
    }
}

fn room(profile: &HostProfile) -> Room {
    Room::with(host::build(profile, image(), PATIENCE).unwrap_or_else(|error| panic!("{error}")))
}

/// The user's processes.
fn processes(profile: &HostProfile) -> Vec<String> {
    let uid = format!("Uid:\t{}", profile.uid);
    let all = fs::read_dir("/proc").expect("it is mounted").filter_map(Result::ok);
    let statuses = all.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok());
    // Dead ones wait for the shim's end: it is whose children they are.
    statuses.filter(|status| status.contains(&uid) && !status.contains("State:\tZ")).collect()
}

#[test]
fn programs_are_the_users_and_cannot_become_more() {
    if !possible() {
        return;
    }
    let profile = stranger();
    let mut room = room(&profile);
    let (uid, gid) = (profile.uid, profile.gid);
    assert_eq!(room.sh("id -u; id -g; id -G").out, format!("{uid}\n{gid}\n{gid} {}\n", gid + 1));
    assert_ne!(room.sh("cat /etc/shadow").status.code(), Some(0));
    let status = room.sh("cat /proc/self/status").out;
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("CapEff:\t0000000000000000"));
    // The host's processes and files.
    assert_eq!(room.sh("cat /proc/1/comm").out, fs::read_to_string("/proc/1/comm").unwrap());
    assert_eq!(room.sh("exit 7").status.code(), Some(7));
    let (_, mut terminal) =
        room.on_terminal(&["sh", "-c", "stty size; tty; stat -c %u $(tty); echo ok >$(tty)"], &[]);
    terminal.until(&format!("40 100\r\n/dev/pts/0\r\n{uid}\r\nok\r\n"));
}

#[test]
fn whoever_leaves_the_session_is_found_at_its_end() {
    if !possible() {
        return;
    }
    let profile = stranger();
    let mut room = room(&profile);
    room.sh("setsid sh -c 'trap \"\" HUP TERM; sleep 998 & sleep 999' >/dev/null 2>&1 & exit 0");
    eventually("they run", || processes(&profile).len() == 4);
    end(room.take());
    assert_eq!(processes(&profile), Vec::<String>::new());
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let left = hierarchy.path().join(PARENT).join(&profile.id);
        assert!(!left.exists(), "{} is left", left.display());
    }
}

#[test]
fn limits_hold_for_the_whole_tree() {
    if !possible() {
        return;
    }
    let profile = stranger();
    let mut room = room(&profile);
    let bomb = room.sh("for i in $(seq 60); do sleep 20 >/dev/null 2>&1 & done; true");
    assert!(bomb.err.contains("ork"), "{bomb:?}");
    let null = fs::File::open("/dev/null").expect("it is there");
    room.start(&["sh", "-c", ":(){ :|:& };:"], Stdio::Pipes([null.as_fd(); 3]));
    end(room.take());
    assert_eq!(processes(&profile), Vec::<String>::new());

    let profile = stranger();
    let mut hungry = self::room(&profile);
    let eaten = hungry.sh("head -c 200000000 /dev/zero | tail -c 200000000 | wc -c");
    assert_ne!(eaten.out.trim(), "200000000");
    assert_eq!(hungry.sandbox().memory().oom_kills, 1);
}

#[test]
fn root_is_nobody_to_run_as() {
    let refused = host::build(&HostProfile { uid: 0, ..stranger() }, image(), PATIENCE);
    assert!(refused.unwrap_err().to_string().contains("never root's"));
}
