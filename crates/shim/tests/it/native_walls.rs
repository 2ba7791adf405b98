//! What a prisoner sees and may do. Everything is asked from inside.

use crate::native_room::MB;
use crate::native_room::Planted;
use crate::native_room::Room;
use crate::native_room::possible;

#[test]
fn it_is_root_of_nothing_but_its_own() {
    if !possible() {
        return;
    }
    let mut room = Room::new();
    assert_eq!(room.sh("id; hostname").out, "uid=0(root) gid=0(root) groups=0(root)\nroom\n");
    let status = room.sh("cat /proc/self/status").out;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).map(str::to_owned).expect("the kernel shows it")
    };
    // CHOWN, SETGID, SETUID.
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "00000000000000c1", "{set}");
    }
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".to_owned(), "2".to_owned()));
    assert_eq!(room.sh("cut -d: -f3 /proc/self/cgroup | sort -u").out, "/\n");
    let own =
        room.sh("for n in user pid mnt net ipc uts cgroup; do readlink /proc/self/ns/$n; done");
    for (inside, kind) in own.out.lines().zip(["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"])
    {
        let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("it has one");
        assert_ne!(inside, outside.to_string_lossy(), "{kind}");
    }
    assert_eq!(own.out.lines().count(), 7);
}

#[test]
fn it_sees_no_host() {
    if !possible() {
        return;
    }
    let hidden = Planted::new("/usr/local/etc", 0o644);
    let unreadable = Planted::new("/usr/lib", 0o600);
    let outside = Planted::new("/tmp", 0o644);
    let mut room = Room::new();
    let mounts = room.sh("cat /proc/self/mountinfo /proc/mounts").out;
    for path in ["staging", "base/", "/tmp/", "data", "loop", "home", "work/"] {
        assert!(!mounts.contains(path), "{path} in {mounts}");
    }
    assert_eq!(
        room.sh("ls -A /usr/local /usr/src /home /root /var /tmp /run /sys | grep -v :").out.trim(),
        ""
    );
    assert!(!room.run(&["cat", &hidden.path()]).status.success());
    assert!(!room.run(&["cat", &outside.path()]).status.success());
    let refused = room.run(&["cat", &unreadable.path()]);
    assert!(refused.err.contains("Permission denied"), "{refused:?}");
    // The kernel's processes and ours are elsewhere.
    assert_eq!(room.run(&["ps", "ax", "-o", "comm="]).out, "init\nps\n");
    let init = room.sh("cd /proc/1 && cat environ maps mem; readlink exe cwd root fd/*");
    assert!(!init.status.success() && init.out.is_empty(), "{init:?}");
    for file in ["kcore", "keys", "timer_list", "sched_debug", "kallsyms", "swaps"] {
        let content = room.sh(&format!("head -c 10 /proc/{file} 2>/dev/null"));
        assert_eq!(content.out, "", "{file}");
    }
}

#[test]
fn it_has_no_network() {
    if !possible() {
        return;
    }
    let mut room = Room::new();
    assert_eq!(room.sh("cut -d: -f1 /proc/net/dev | tail -n +3").out.trim(), "lo");
    let pinged = room.run(&["bash", "-c", "exec 3<>/dev/udp/192.0.2.1/53"]);
    assert!(pinged.err.contains("unreachable"), "{pinged:?}");
    // The loopback is up: the refusal comes from a stack that works.
    let refused = room.run(&["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/1"]);
    assert!(refused.err.contains("Connection refused"), "{refused:?}");
}

#[test]
fn what_it_must_not_do_is_refused() {
    if !possible() {
        return;
    }
    let mut room = Room::new();
    for command in [
        "mount -t tmpfs none /mnt",
        "mount -o remount,rw /usr",
        "umount /proc/sys",
        "unshare -U true",
        "unshare -n true",
        "nsenter -t 1 -n true",
        "chroot / true",
        "mknod /tmp/disk b 254 0",
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "hostname other",
        "date -s 2000-01-01",
        "touch /usr/bin/mine",
        "echo x > /etc/ld.so.cache",
        "touch /usr/local/mine",
        "touch /sys/mine /proc/mine",
        "dmesg",
        "cat /dev/kmsg",
        "setpriv --reuid 1000 --inh-caps +sys_admin true",
        "strace true || gdb -p 1 -batch",
    ] {
        let outcome = room.sh(command);
        assert!(!outcome.status.success(), "{command}: {outcome:?}");
    }
    // And it can still do what a shell is for.
    let ordinary = "mkdir d && echo x > d/f && chown 1:1 d/f && ln -s f d/l && mkfifo d/p &&
        stat -c %u d/f && rm -r d && mktemp > /dev/null && setpriv --reuid 65534 id -u";
    let outcome = room.sh(ordinary);
    assert_eq!(outcome.out, "1\n65534\n", "{outcome:?}");
}

/// Calls that no command line tool makes; Python makes them where it is installed.
#[test]
fn forbidden_system_calls_fail() {
    let has_python = std::path::Path::new("/usr/bin/python3").exists();
    if !possible() || !has_python || !cfg!(target_arch = "x86_64") {
        eprintln!("SKIPPED: this needs root, x86-64 and /usr/bin/python3");
        return;
    }
    let mut room = Room::new();
    let script = "
import ctypes, fcntl, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(number, *[ctypes.c_ulong(a) for a in arguments])
    return 0 if result >= 0 else ctypes.get_errno()
names = dict(ptrace=101, syslog=103, pivot_root=155, init_module=175, quotactl=179,
    io_uring_setup=425, open_tree=428, fsopen=430, pidfd_getfd=438, mount_setattr=442, setns=308,
    kcmp=312, finit_module=313, bpf=321, userfaultfd=323, process_vm_readv=310, name_to_handle_at=303,
    open_by_handle_at=304, perf_event_open=298, add_key=248, request_key=249, keyctl=250,
    kexec_load=246, unshare=272, acct=163, reboot=169, swapon=167, mount=165, umount2=166, chroot=161)
for name, number in names.items():
    print(name, call(number, 0, 0, 0, 0, 0))
print('clone3', call(435, 0, 0))
print('clone', call(56, 0x10000000 | 17, 0, 0, 0, 0))
print('personality', call(135, 0x0040000))
master, slave = os.openpty()
for request in (0x5412, 0x541c, 0x100005412):
    print('ioctl', call(16, slave, request, id(b'x') + 32))
print('winsize', call(16, slave, 0x5413, id(bytes(64)) + 32))
for family in (16, 17, 40, 38, 21):
    try:
        socket.socket(family, socket.SOCK_RAW if family == 16 else socket.SOCK_STREAM, 0).close()
        print('socket', family, 0)
    except OSError as error:
        print('socket', family, error.errno)
";
    let outcome = room.run(&["/usr/bin/python3", "-c", script]);
    let lines: Vec<_> = outcome.out.lines().collect();
    assert!(lines.len() == 42, "{outcome:?}");
    for line in lines {
        let expected = match line.rsplit_once(' ').expect("name and number").0 {
            // The C library falls back to a call whose flags can be looked at.
            "clone3" => 38,
            "winsize" | "socket 16" => 0,
            _ => 1,
        };
        assert!(line.ends_with(&format!(" {expected}")), "{line}");
    }
}

#[test]
fn a_directory_is_shown_with_its_owners_and_stays_as_it_is() {
    if !possible() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let directory = std::env::temp_dir().join(format!("rootfs-{}", std::process::id()));
    for name in ["bin", "etc", "root"] {
        std::fs::create_dir_all(directory.join(name)).expect("root may");
    }
    std::fs::write(directory.join("etc/secret"), "its own\n").expect("root may");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(directory.join("etc/secret"), mode).expect("root may");
    // A static program, so that the directory needs no libraries.
    let Some(busybox) =
        ["/usr/bin/busybox", "/bin/busybox"].iter().find(|p| std::path::Path::new(p).exists())
    else {
        eprintln!("SKIPPED: no busybox here");
        std::fs::remove_dir_all(&directory).expect("root may");
        return;
    };
    std::fs::copy(busybox, directory.join("bin/busybox")).expect("root may");
    let mut profile = crate::native_room::profile();
    profile.rootfs = sojourn_shim::native::Rootfs::Directory(directory.clone());
    profile.disk_size = 2 * MB;
    let mut room = Room::of(&profile);
    let script =
        "cat /etc/secret; stat -c %u /etc/secret; echo changed > /etc/secret; cat /etc/secret;
        touch /new; cat /proc/self/mountinfo";
    let outcome = room.run(&["/bin/busybox", "sh", "-c", script]);
    assert!(outcome.out.starts_with("its own\n0\nchanged\n"), "{outcome:?}");
    assert!(!outcome.out.contains("rootfs-"), "{outcome:?}");
    let kept = std::fs::read_to_string(directory.join("etc/secret")).expect("it is there");
    assert!(kept == "its own\n" && !directory.join("new").exists());
    drop(room);
    std::fs::remove_dir_all(&directory).expect("root may");
}

#[test]
fn an_overlay_lies_over_the_root_and_stays_as_it_is() {
    if !possible() {
        return;
    }
    let mut profile = crate::native_room::profile();
    let directory = std::env::temp_dir().join(format!("overlay-{}", profile.id));
    let write = |name: &str, text: &str, owner: u32| {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("root may");
        std::fs::write(&path, text).expect("root may");
        std::os::unix::fs::chown(&path, Some(owner), Some(owner)).expect("root may");
    };
    write("etc/motd", "welcome\n", 0);
    write("etc/passwd", "root:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\n", 0);
    write("home/anna/notes", "hers\n", 1000);
    write("usr/bin/planted", "#!/bin/sh\n", 0);
    profile.overlay = Some(directory.clone());
    let script =
        "cat /etc/motd; stat -c %U,%u /home/anna/notes /etc/motd; id -un; ls /usr/bin/planted;
        echo changed >/etc/motd; cat /etc/motd; rm /home/anna/notes; ls /home/anna; ls /etc/hosts;
        grep -c overlay- /proc/self/mountinfo; grep -c ' /etc/alternatives ' /proc/self/mountinfo";
    let mut room = Room::of(&profile);
    let outcome = room.sh(script);
    let wanted = "welcome\nanna,1000\nroot,0\nroot\nchanged\n/etc/hosts\n0\n1\n";
    assert_eq!(outcome.out, wanted, "{}", outcome.err);
    assert!(outcome.err.contains("/usr/bin/planted"), "the host's trees lie above: {outcome:?}");
    drop(room);
    let kept = std::fs::read_to_string(directory.join("etc/motd")).expect("it is there");
    assert!(kept == "welcome\n" && directory.join("home/anna/notes").exists());
    std::fs::remove_dir_all(&directory).expect("root may");
}
