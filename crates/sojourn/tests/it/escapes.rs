//! What the public checkers of containers look for (amicontained, deepce, CDK, BOtB, linPEAS,
//! container-escape-check), tried from inside. `docs/security.md` says of each what it means here.

use std::fs;

use sojourn_testkit::Client;
use sojourn_testkit::Options;
use sojourn_testkit::can_make_sandboxes;

use crate::gateway;

/// Where a row holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In every sandbox.
    Everywhere,
    /// Where we build the sandbox; what an engine does is its operator's.
    Native,
}

use Where::Everywhere;
use Where::Native;

/// A way out, and a command that succeeds when it is open. No command has a single quote in it.
const ROWS: &[(&str, Where, &str)] = &[
    // Namespaces, capabilities, filter: what amicontained prints, and deepce, CDK and linPEAS judge.
    ("namespace pid", Everywhere, "[ $(readlink /proc/self/ns/pid) = $HOST_pid ]"),
    ("namespace mnt", Everywhere, "[ $(readlink /proc/self/ns/mnt) = $HOST_mnt ]"),
    ("namespace net", Everywhere, "[ $(readlink /proc/self/ns/net) = $HOST_net ]"),
    ("namespace ipc", Everywhere, "[ $(readlink /proc/self/ns/ipc) = $HOST_ipc ]"),
    ("namespace uts", Everywhere, "[ $(readlink /proc/self/ns/uts) = $HOST_uts ]"),
    ("namespace cgroup", Everywhere, "[ $(readlink /proc/self/ns/cgroup) = $HOST_cgroup ]"),
    ("namespace user", Native, "[ $(readlink /proc/self/ns/user) = $HOST_user ]"),
    ("root is root outside", Native, "grep -q \"^ *0 *0 \" /proc/self/uid_map"),
    ("capabilities effective", Everywhere, "[ $((0x$(status CapEff) & ~0xc1)) -ne 0 ]"),
    ("capabilities permitted", Everywhere, "[ $((0x$(status CapPrm) & ~0xc1)) -ne 0 ]"),
    ("capabilities bounding", Everywhere, "[ $((0x$(status CapBnd) & ~0xc1)) -ne 0 ]"),
    ("capabilities ambient", Everywhere, "[ $((0x$(status CapAmb) & ~0xc1)) -ne 0 ]"),
    ("no filter of system calls", Everywhere, "[ $(status Seccomp) -ne 2 ]"),
    ("new privileges", Everywhere, "[ $(status NoNewPrivs) -ne 1 ]"),
    ("unshare", Everywhere, "unshare -U true"),
    ("unshare with mounts and groups", Everywhere, "unshare -UrmC true"),
    ("nsenter", Everywhere, "nsenter -t 1 -m true"),
    // Sockets of engines, and of anybody else.
    (
        "a socket of an engine",
        Everywhere,
        "ls /var/run/docker.sock /run/docker.sock /run/containerd /run/crio /run/podman",
    ),
    ("any socket", Everywhere, "find / -xdev -type s | grep -q ."),
    ("an abstract socket", Everywhere, "grep -q @ /proc/net/unix"),
    ("a socket in mounts", Everywhere, "grep -q \"[.]sock\" /proc/self/mountinfo"),
    // Mounts.
    ("a writable file system of the host", Everywhere, "writable_mounts | grep -q ."),
    ("lxcfs", Everywhere, "grep -q lxcfs /proc/self/mountinfo"),
    ("a second /proc", Everywhere, "[ $(find / -name core_pattern | wc -l) -gt 1 ]"),
    (
        "another /etc",
        Everywhere,
        "[ $(find / -path /proc -prune -o -path \"*/etc/passwd\" -print | wc -l) -gt 1 ]",
    ),
    (
        "logs of the host",
        Native,
        "cat /var/log/lastlog /var/log/syslog /var/log/dpkg.log | grep -q .",
    ),
    ("secrets of a cluster", Everywhere, "ls /var/run/secrets /run/secrets | grep -q ."),
    ("mount /proc", Everywhere, "mount -t proc proc /mnt"),
    (
        "mount a control group",
        Everywhere,
        "mount -t cgroup -o rdma cgroup /mnt || mount -t cgroup2 cgroup /mnt",
    ),
    ("mount by binding", Everywhere, "mount --bind /proc/sys /mnt"),
    (
        "mount a disk",
        Everywhere,
        "mount /dev/vda /mnt || mount /dev/sda1 /mnt || mount /dev/nvme0n1 /mnt",
    ),
    // Devices.
    ("a disk in /dev", Everywhere, "find /dev -type b | grep -q ."),
    ("make a device", Everywhere, "mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk"),
    ("memory", Everywhere, "head -c 1 /dev/mem || head -c 1 /dev/kmem || head -c 1 /dev/port"),
    ("a virtual machine", Everywhere, "ls /dev/kvm"),
    // Files of the kernel that make it run a program outside, or stop it.
    ("release_agent", Everywhere, "writable $(find /sys /proc -name release_agent)"),
    ("devices.allow", Everywhere, "writable $(find /sys -name devices.allow)"),
    ("any file of a control group", Everywhere, "writable $(find /sys/fs/cgroup -type f)"),
    ("core_pattern", Everywhere, "writable /proc/sys/kernel/core_pattern"),
    ("modprobe", Everywhere, "writable /proc/sys/kernel/modprobe"),
    ("binfmt_misc", Everywhere, "writable /proc/sys/fs/binfmt_misc/register"),
    ("uevent_helper", Everywhere, "writable /sys/kernel/uevent_helper"),
    ("panic_on_oom", Everywhere, "writable /proc/sys/vm/panic_on_oom /proc/sys/kernel/panic"),
    (
        "limits of the kernel",
        Everywhere,
        "writable /proc/sys/fs/file-max /proc/sys/fs/suid_dumpable",
    ),
    ("sysrq", Everywhere, "writable /proc/sysrq-trigger"),
    ("vmcoreinfo and slabs", Everywhere, "writable /sys/kernel/vmcoreinfo /sys/kernel/slab"),
    ("firmware", Everywhere, "writable $(find /sys/firmware -type f | head -n 50)"),
    ("the program of process 1", Everywhere, "writable /proc/1/exe"),
    ("programs of the host", Native, "writable /usr/bin/env /usr/bin/bash"),
    // Files that tell of the host.
    ("kcore", Everywhere, "head -c 1 /proc/kcore | grep -q ."),
    (
        "kernel messages",
        Everywhere,
        "head -c 1 /dev/kmsg || timeout 1 head -c 1 /proc/kmsg || dmesg | grep -q .",
    ),
    ("addresses of the kernel", Native, "grep -qv \"^0000000000000000\" /proc/kallsyms"),
    (
        "sched_debug",
        Everywhere,
        "head -c 1 /proc/sched_debug /sys/kernel/debug/sched/debug | grep -q .",
    ),
    ("timers", Everywhere, "head -c 1 /proc/timer_list | grep -q ."),
    ("keys", Everywhere, "grep -q . /proc/keys"),
    ("security modules", Everywhere, "ls /sys/kernel/security | grep -q ."),
    (
        "debugging",
        Everywhere,
        "ls -A /sys/kernel/debug | grep -q . || ls -A /sys/kernel/tracing | grep -q .",
    ),
    ("other processes", Everywhere, "[ $(ls -d /proc/[0-9]* | wc -l) -gt 30 ]"),
    (
        "secrets in environments",
        Everywhere,
        "cat /proc/[0-9]*/environ | tr \"\\0\" \"\\n\" | grep -Eiq \"(passw|secret|token|api_?key)[^=]*=\"",
    ),
    ("hashes of passwords", Everywhere, "grep -q \"[$]\" /etc/shadow /etc/gshadow"),
    ("homes of others", Native, "ls -A /home | grep -q ."),
    (
        "keys of others",
        Everywhere,
        "find / -xdev -name authorized_keys -o -xdev -name \"id_*\" -path \"*/.ssh/*\" | grep -q .",
    ),
    ("sudo", Everywhere, "sudo -n true"),
    // A directory that somebody left open leads out (CVE-2024-21626).
    (
        "an open directory",
        Everywhere,
        "for f in /proc/[0-9]*/fd/*; do [ -d $f/ ] && exit 0; done; exit 1",
    ),
    // The network.
    ("a route", Everywhere, "tail -n +2 /proc/net/route | grep -q ."),
    ("route_localnet", Everywhere, "grep -q 1 /proc/sys/net/ipv4/conf/all/route_localnet"),
    (
        "metadata of a cloud",
        Everywhere,
        "connects 169.254.169.254 80 || connects 100.100.100.200 80 || connects 100.96.0.96 80",
    ),
    (
        "a port of an engine",
        Everywhere,
        "connects 172.17.0.1 2375 || connects 127.0.0.1 2375 || connects 127.0.0.1 2376",
    ),
];

/// What the commands share. Each runs in a shell of its own, for a few seconds at most.
const PRELUDE: &str = r#"
status() { while read -r name value _; do [ "$name" = "$1:" ] && echo "$value"; done </proc/self/status; }
writable() { for f in "$@"; do ( : >>"$f" ) 2>/dev/null && return 0; done; return 1; }
connects() { timeout 2 bash -c "exec 3<>/dev/tcp/$1/$2"; }
# Mounts of a disk of the host that are not read-only: what is ours to write is an overlay or in memory.
writable_mounts() {
    while read -r _ _ _ _ point options rest; do
        case " $rest" in *" - ext"*|*" - xfs"*|*" - btrfs"*|*" - nfs"*|*" - 9p"*|*" - virtiofs"*) ;; *) continue ;; esac
        # Names and addresses, which an engine writes for each container.
        case $point in /etc/hosts|/etc/hostname|/etc/resolv.conf) continue ;; esac
        case $options in ro*) ;; *) echo "$point" ;; esac
    done </proc/self/mountinfo
}
export -f status writable connects writable_mounts
check() { if timeout 20 bash -c "$2" >/dev/null 2>&1 </dev/null; then echo "$1: OPEN"; else echo "$1: closed"; fi; }
"#;

/// Tries the rows and gives those that are open.
fn open(ssh: &Client, rows: &[(&str, Where, &str)]) -> Vec<String> {
    let mut script = PRELUDE.to_owned();
    for namespace in ["pid", "mnt", "net", "ipc", "uts", "cgroup", "user"] {
        let own = fs::read_link(format!("/proc/self/ns/{namespace}")).expect("a namespace");
        script.push_str(&format!("export HOST_{namespace}='{}'\n", own.display()));
    }
    for (name, _, command) in rows {
        assert!(!command.contains('\'') && !name.contains('\''));
        script.push_str(&format!("check '{name}' '{command}'\n"));
    }
    let output = ssh.run_with("cat >/tmp/rows; bash /tmp/rows", script.as_bytes());
    let told = output.text();
    let verdicts: Vec<&str> = told.lines().collect();
    assert_eq!(verdicts.len(), rows.len(), "{told}{}", output.err);
    verdicts.into_iter().filter(|line| !line.ends_with(": closed")).map(str::to_owned).collect()
}

/// All that is open in a sandbox of the kind that an engine makes.
pub(crate) fn open_in_a_container(ssh: &Client) -> Vec<String> {
    let rows: Vec<_> = ROWS.iter().copied().filter(|(_, place, _)| *place == Everywhere).collect();
    open(ssh, &rows)
}

#[test]
fn no_way_out_that_checkers_know_is_open() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let ssh = gateway.alice();
    assert_eq!(open(&ssh, ROWS), Vec::<String>::new());
    // It sees what is open.
    let tricks = [
        ("a file that is its own", Everywhere, "writable /tmp/rows"),
        ("its own namespace", Everywhere, "[ $(readlink /proc/self/ns/pid) != $HOST_pid ]"),
    ];
    assert_eq!(open(&ssh, &tricks).len(), 2);
}
