//! The packet rules of a sandbox's network namespace, and `nft`, which loads them.
//!
//! All is refused but what a rule allows. What is refused is answered, so that programs fail at once:
//! TCP by a reset, as the error that is its own takes effect a second later.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use rustix::process::PidfdFlags;
use rustix::thread::LinkNameSpaceType;

use super::plan::GATEWAY_NET;
use super::plan::NOT_PUBLIC;
use super::plan::Nat;
use super::plan::Net;
use super::plan::RESOLVER;
use super::plan::Reach;
use super::slirp::DEVICE;
use super::wait_for_end;
use crate::sandbox::Deadline;

/// New connections a second, and at once: what is tracked of them is the kernel's memory.
const CONNECTIONS: (u32, u32) = (200, 400);
/// The longest packet as the rules see it: the kernel cuts it up later.
const PACKET: u64 = 70_000;
/// The most that is shown of a complaint.
const COMPLAINT: u64 = 500;

/// The rules in the words of `nft`.
pub(super) fn text(nat: &Nat) -> String {
    let mut output = String::new();
    let mut add = |rule: &str| {
        let _infallible = writeln!(output, "    {rule}");
    };
    let limit = limit(nat.rate);
    let own: Vec<Net> = nat.own.iter().map(|address| Net::only(*address)).collect();
    add("oifname \"lo\" accept");
    add(&format!("oifname != \"{DEVICE}\" drop"));
    add("meta nfproto != ipv4 goto refused");
    limit.iter().for_each(|limit| add(limit));
    add("ct state established,related accept");
    let (rate, burst) = CONNECTIONS;
    add(&format!("limit rate over {rate}/second burst {burst} packets goto refused"));
    if nat.dns {
        add(&format!("ip daddr {RESOLVER} meta l4proto {{ tcp, udp }} th dport 53 accept"));
    }
    // Whoever asks what serves the network for more reaches the host.
    add(&format!("ip daddr {GATEWAY_NET} goto refused"));
    // From the narrow to the wide: what is named of the host's own addresses, what is named of those
    // that are not public, all else that is named.
    let is_among = |nets: &[Net], reach: &Reach| nets.iter().any(|net| net.holds(reach.net));
    let (named_own, rest): (Vec<&Reach>, Vec<&Reach>) =
        nat.reach.iter().partition(|reach| is_among(&own, reach));
    let (named_private, public): (Vec<&Reach>, Vec<&Reach>) =
        rest.into_iter().partition(|reach| is_among(&NOT_PUBLIC, reach));
    for (named, not_named) in [(named_own, &own[..]), (named_private, &NOT_PUBLIC[..])] {
        named.into_iter().for_each(|reach| add(&accept(reach)));
        not_named.iter().for_each(|net| add(&format!("ip daddr {net} goto refused")));
    }
    public.into_iter().for_each(|reach| add(&accept(reach)));
    add("goto refused");
    let limit = limit.map_or(String::new(), |limit| format!("    {limit}\n"));
    let input = format!(
        "    iifname \"lo\" accept\n{}    ct state established,related accept\n",
        limit.replace("oifname", "iifname")
    );
    format!(
        "table inet gate {{\n  \
           chain refused {{\n    meta l4proto tcp reject with tcp reset\n    \
             reject with icmpx admin-prohibited\n  }}\n  \
           chain output {{\n    type filter hook output priority 0; policy drop;\n{output}  }}\n  \
           chain input {{\n    type filter hook input priority 0; policy drop;\n{input}  }}\n  \
           chain forward {{\n    type filter hook forward priority 0; policy drop;\n  }}\n\
         }}\n"
    )
}

fn accept(reach: &Reach) -> String {
    let port = reach.port.map_or(String::new(), |port| format!(" th dport {port}"));
    let net = match reach.net {
        Net::ALL => String::new(),
        net => format!("ip daddr {net} "),
    };
    format!("{net}meta l4proto {{ tcp, udp }}{port} accept")
}

/// What is beyond the rate is dropped, which both ends of a connection take as a sign to slow down.
fn limit(rate: u64) -> Option<String> {
    // The bucket that the kernel makes of it holds both numbers together.
    let burst = PACKET.saturating_sub(rate).max(1500);
    (rate > 0).then(|| {
        format!("oifname \"{DEVICE}\" limit rate over {rate} bytes/second burst {burst} bytes drop")
    })
}

/// Loads rules into a network namespace, and switches IPv6 off there.
pub(super) fn load(
    nft: &Path,
    rules: &str,
    namespace: BorrowedFd<'_>,
    deadline: &Deadline,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("nft: {error}");
    let namespace = rustix::io::dup(namespace).map_err(|error| failed(error.into()))?;
    let mut command = Command::new(nft);
    command.args(["-f", "-"]).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: the child has one thread, as we have, and does nothing but make system calls.
    unsafe {
        command.pre_exec(move || {
            let kind = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?;
            // There is none where the kernel has none.
            let _none = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
            Ok(())
        });
    }
    let mut child = command.spawn().map_err(failed)?;
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
    // It reads to the end before it says anything. If it does not, its status tells.
    let input = child.stdin.take().map(|mut input| input.write_all(rules.as_bytes()));
    let in_time = pidfd.map_err(Into::into).and_then(|pidfd| wait_for_end(pidfd.as_fd(), deadline));
    if in_time.is_err() {
        let _gone = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    match (in_time.map_err(failed)?, status.success(), input) {
        (true, true, Some(Ok(()))) => Ok(()),
        (false, ..) => Err("nft: not done in time".to_owned()),
        _ => {
            let mut said = String::new();
            if let Some(errors) = child.stderr.take() {
                let _partly = errors.take(COMPLAINT).read_to_string(&mut said);
            }
            let line = said.lines().next().unwrap_or("it says nothing");
            Err(format!("the packet rules were not loaded: {line}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(net: &str, port: Option<u16>) -> Reach {
        Reach { net: net.parse().unwrap(), port }
    }

    #[test]
    fn what_is_named_stands_before_what_is_refused() {
        let nat = Nat {
            reach: vec![
                reach("0.0.0.0/0", Some(443)),
                reach("10.1.0.0/16", Some(80)),
                reach("198.51.100.1", None),
            ],
            own: vec!["198.51.100.1".parse().unwrap(), "198.51.100.2".parse().unwrap()],
            ..Nat::default()
        };
        let text = text(&nat);
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} in\n{text}"));
        let order = [
            at("ip daddr 10.0.2.0/24 goto refused"),
            at("ip daddr 198.51.100.1 meta l4proto { tcp, udp } accept"),
            at("ip daddr 198.51.100.2 goto refused"),
            at("ip daddr 10.1.0.0/16 meta l4proto { tcp, udp } th dport 80 accept"),
            at("ip daddr 10.0.0.0/8 goto refused"),
            at("    meta l4proto { tcp, udp } th dport 443 accept"),
        ];
        assert!(order.is_sorted(), "{text}");
        assert!(!text.contains("10.0.2.3") && !text.contains("bytes/second"), "{text}");
        let open = Nat { dns: true, rate: 1 << 20, ..nat };
        let text = super::text(&open);
        assert!(text.contains("10.0.2.3") && text.matches("1048576 bytes/second").count() == 2);
    }
}
