//! What a sandbox keeps from whoever is in it. Each line is tried from inside, through the front door.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sojourn_testkit::Client;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::can_make_sandboxes;

use crate::gateway;

fn inside() -> Option<(Gateway, Client)> {
    can_make_sandboxes().then(|| {
        let gateway = gateway(&Options::default());
        let alice = gateway.alice();
        (gateway, alice)
    })
}

/// A file on the host that goes when the test ends.
struct Planted(PathBuf);

impl Planted {
    fn at(path: &str, mode: u32) -> Self {
        let path = PathBuf::from(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "planted secret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Self(path)
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

#[test]
fn it_has_three_capabilities_a_filter_and_no_way_to_more() {
    let Some((_gateway, ssh)) = inside() else { return };
    let status = ssh.run("cat /proc/self/status").text();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("").to_owned()
    };
    // CHOWN is bit 0, SETGID 6, SETUID 7.
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), 0b1100_0001, "{set}");
    }
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("NoNewPrivs:"), "1");
}

#[test]
fn it_has_no_network() {
    let Some((_gateway, ssh)) = inside() else { return };
    let devices = ssh.run("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").text();
    assert_eq!(devices, "lo\n");
    let outside = ssh.run("timeout 2 bash -c 'exec 3<>/dev/tcp/192.0.2.1/80'");
    assert_ne!(outside.code, 0);
    let door =
        ssh.run(&format!("timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/{}'", _gateway.port));
    assert_ne!(door.code, 0, "the host's loopback is another one");
}

#[test]
fn it_sees_no_process_and_no_path_of_the_host() {
    let Some((gateway, ssh)) = inside() else { return };
    let processes = ssh.run("cat /proc/[0-9]*/comm").text();
    assert!(processes.lines().count() < 6, "{processes}");
    assert!(!processes.contains("sojourn-"), "{processes}");
    let data = gateway.data();
    let search = format!(
        "grep -rsl --binary-files=text -F '{}' /proc/self /proc/1 /proc/mounts /proc/cmdline 2>/dev/null \
         | grep -v -e /task/ -e '^/proc/self/' -e /environ -e /cmdline -e /mem$ | head",
        data.display()
    );
    assert_eq!(ssh.run(&search).text(), "", "the data directory's path shows");
    let mounts = ssh.run("cat /proc/self/mountinfo /proc/1/mountinfo").text();
    assert!(!mounts.contains(data.to_str().unwrap()), "{mounts}");
    assert!(!mounts.contains("/tmp/sojourn"), "{mounts}");
}

#[test]
fn it_reads_no_file_that_is_not_its_to_read() {
    let Some((gateway, ssh)) = inside() else { return };
    let name = format!("sojourn-planted-{}", std::process::id());
    let private = Planted::at(&format!("/usr/lib/{name}"), 0o600);
    let local = Planted::at(&format!("/usr/local/etc/{name}"), 0o644);
    let source = Planted::at(&format!("/usr/src/{name}"), 0o644);
    let etc = Planted::at(&format!("/etc/{name}"), 0o644);
    let data = Planted::at(gateway.data().join("planted").to_str().unwrap(), 0o644);
    for planted in [&private, &local, &source, &etc, &data] {
        let read = ssh.run(&format!("cat {}", planted.0.display()));
        assert_ne!(read.code, 0, "{} was read", planted.0.display());
        assert!(!read.text().contains("planted"), "{} was read", planted.0.display());
    }
    assert_ne!(ssh.run("cat /etc/shadow | grep -q '[$]'").code, 0);
    assert_eq!(
        ssh.run("ls -A /home /root/.ssh /var/log 2>/dev/null | grep -v :").text().trim(),
        ""
    );
}

#[test]
fn memory_processes_and_files_are_limited() {
    let Some((_gateway, ssh)) = inside() else { return };
    let hungry = ssh.run("head -c 314572800 /dev/zero | tail -c 314572800 | wc -c");
    assert_ne!(hungry.text().trim(), "314572800", "300 MB fit into 256");
    let bomb = ssh.run("for i in $(seq 300); do sleep 20 & done 2>&1 | head -c 300; true");
    assert!(bomb.text().contains("fork") || bomb.err.contains("fork"), "{bomb:?}");
    let tmp = ssh.run("head -c 62914560 /dev/zero >/tmp/big");
    assert!(tmp.err.contains("No space left"), "{}", tmp.err);
    let full = ssh.run("head -c 400000000 /dev/zero >/root/big; stat -c %s /root/big");
    assert!(full.err.contains("No space left"), "{}", full.err);
    assert!(full.text().trim().parse::<u64>().unwrap() < 268_435_456);
    assert_eq!(ssh.run("exit 3").code, 3, "nobody else was hurt");
}

#[test]
fn the_kernel_is_closed() {
    let Some((_gateway, ssh)) = inside() else { return };
    for (what, command) in [
        ("mount", "mount -t tmpfs none /mnt"),
        ("umount", "umount /proc"),
        ("unshare", "unshare -U true"),
        ("unshare of mounts", "unshare -m true"),
        ("nsenter", "nsenter -t 1 -m true"),
        ("chroot", "chroot / true"),
        ("a device", "mknod /tmp/null c 1 3"),
        ("the host's disks", "ls /dev/vda /dev/sda /dev/loop0 /dev/kvm /dev/mem"),
        ("/proc/sys", "echo 1 >/proc/sys/kernel/ns_last_pid"),
        ("sysrq", "echo h >/proc/sysrq-trigger"),
        ("kcore", "head -c 1 /proc/kcore | grep -q ."),
        ("/sys", "touch /sys/x"),
        ("kmsg", "head -c 1 /dev/kmsg"),
        ("dmesg", "dmesg | grep -q ."),
        ("module loading", "insmod /proc/version || modprobe dummy"),
        ("the clock", "date -s '2001-01-01'"),
        ("the host name", "hostname other"),
        ("higher priority", "nice -n -5 true 2>&1 | grep -q . && exit 1"),
        ("the host's root", "ls /proc/1/root/proc/1/root/etc/sojourn"),
    ] {
        let tried = ssh.run(command);
        assert_ne!(
            tried.code,
            0,
            "{what}: {command:?} went through: {}{}",
            tried.text(),
            tried.err
        );
    }
}

/// Calls that have no command: made by a little Python, where the host has it in /usr.
#[test]
fn system_calls_that_open_doors_are_refused() {
    let Some((_gateway, ssh)) = inside() else { return };
    if ssh.run("test -x /usr/bin/python3").code != 0 {
        eprintln!("SKIPPED: no /usr/bin/python3 on the host");
        return;
    }
    let program = r#"
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(number, *args)
    print(name, "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()])
NEWUSER = 0x10000000
call("ptrace", 101, 16, 1, 0, 0)
call("bpf", 321, 0, 0, 0)
call("keyctl", 250, 0, -3, 0, 0, 0)
call("add_key", 248, b"user", b"a", b"b", 1, -3)
call("unshare", 272, NEWUSER)
call("setns", 308, 0, 0)
call("clone", 56, NEWUSER | 17, 0, 0, 0, 0)
call("clone3", 435, 0, 0)
call("io_uring_setup", 425, 1, 0)
call("userfaultfd", 323, 0)
call("perf_event_open", 298, 0, 0, -1, -1, 0)
call("init_module", 175, 0, 0, 0)
call("finit_module", 313, 0, 0, 0)
call("kexec_load", 246, 0, 0, 0, 0)
call("open_by_handle_at", 304, 0, 0, 0)
call("mount", 165, 0, 0, 0, 0, 0)
call("fsopen", 430, 0, 0)
call("open_tree", 428, -100, b"/", 0)
call("move_mount", 429, 0, 0, 0, 0, 0)
call("pivot_root", 155, b"/", b"/")
call("swapon", 167, b"/", 0)
call("reboot", 169, 0, 0, 0, 0)
call("process_vm_readv", 310, 1, 0, 0, 0, 0, 0)
call("TIOCSTI", 16, 0, 0x5412, b"x")
for family in (16 + 1, 38, 40):
    try:
        socket.socket(family, socket.SOCK_RAW, 0)
        print("socket", family, "ok")
    except OSError as error:
        print("socket", family, errno.errorcode.get(error.errno))
"#;
    let output = ssh.run_with("python3 -", program.as_bytes());
    let text = output.text();
    assert!(text.lines().count() >= 25, "{text}{}", output.err);
    for line in text.lines() {
        assert!(!line.ends_with(" ok"), "went through: {line}");
        let call = line.split(' ').next().unwrap();
        let refused = line.ends_with("EPERM") || line.ends_with("ENOSYS") || call == "socket";
        assert!(refused, "not refused by the filter: {line}");
    }
}

/// The program inside that becomes process 1 has all of `init`'s powers, and no more than its own
/// session to lose.
#[test]
fn a_prisoner_who_becomes_init_harms_only_himself() {
    let Some((gateway, ssh)) = inside() else { return };
    if ssh.run("test -x /usr/bin/python3").code != 0 {
        eprintln!("SKIPPED: no /usr/bin/python3 on the host");
        return;
    }
    let neighbour = ssh.clone().with("-tt").start(&["echo up; cat"]);
    neighbour.expect("up");
    // The socket to the shim cannot be taken out of process 1, nor be opened by its name.
    let take = r#"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
pidfd = libc.syscall(434, 1, 0)
print("taken", libc.syscall(438, pidfd, 3, 0) >= 0)
try:
    os.open("/proc/1/fd/3", os.O_RDWR)
    print("opened True")
except OSError:
    print("opened False")
os.kill(1, 19)
os.kill(1, 9)
print("alive", os.path.exists("/proc/1"))
"#;
    let tried = ssh.run_with("python3 -", take.as_bytes());
    assert_eq!(tried.text(), "taken False\nopened False\nalive True\n", "{}", tried.err);
    // Writing over its program, as far as the kernel lets one, ends the writer's own sandbox.
    let overwrite = r#"
import sys, time
for line in open("/proc/1/maps"):
    span, mode = line.split()[:2]
    if "x" in mode and "[" not in line:
        low, high = (int(end, 16) for end in span.split("-"))
        with open("/proc/1/mem", "r+b", buffering=0) as memory:
            memory.seek(low)
            memory.write(b"\xcc" * (high - low))
print("written", flush=True)
time.sleep(20)
sys.exit("process 1 lives on")
"#;
    let doomed = ssh.run_with("cat >/tmp/p; exec python3 /tmp/p", overwrite.as_bytes());
    assert_ne!(doomed.code, 0, "{}{}", doomed.text(), doomed.err);
    eprintln!("the overwriter: {} {}{}", doomed.code, doomed.text(), doomed.err);
    let mut neighbour = neighbour;
    neighbour.write(b"still here\n");
    neighbour.expect("still here\r\nstill here");
    assert_eq!(ssh.run("exit 3").code, 3);
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success(), "{out}{err}");
}
