//! Sandboxes with a network: what they reach, what they do not, how fast, and that nothing of it is
//! left. All of it happens in network namespaces of the tests' own.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use sojourn_testkit::Client;
use sojourn_testkit::Network;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::cover;
use sojourn_testkit::until;

use crate::descendants;
use crate::gateway;
use crate::kill;
use crate::name_of;
use crate::pids;

fn options(more: &str) -> Options {
    Options { more: more.to_owned(), ..Options::default() }
}

/// What one sandbox hears at addresses and ports, each in a line after them, or why it hears nothing.
fn hear(ssh: &Client, places: &[(&str, u16)]) -> Vec<String> {
    let places: Vec<_> = places.iter().map(|(host, port)| format!("{host}/{port}")).collect();
    let heard = ssh.run(&format!(
        "for place in {}; do begin=$SECONDS; \
         said=$(timeout 10 bash -c \"exec 3<>/dev/tcp/$place; cat <&3\" 2>&1); \
         echo $place: $((SECONDS - begin)) $said; done",
        places.join(" ")
    ));
    let lines: Vec<_> = heard.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), places.len(), "{lines:#?} {}", heard.err);
    lines
}

#[track_caller]
fn are_reached(ssh: &Client, places: &[(&str, u16)]) {
    for line in hear(ssh, places) {
        assert!(line.contains(" hello from "), "{line}");
    }
}

/// They fail, and at once.
#[track_caller]
fn are_refused(ssh: &Client, places: &[(&str, u16)]) {
    for line in hear(ssh, places) {
        let at_once = line.contains(": 0 ") || line.contains(": 1 ");
        let refused = at_once && line.contains("Connection refused");
        assert!(refused && !line.contains("hello"), "{line}");
    }
}

/// Those that serve the networks of this test's sandboxes.
fn attendants() -> Vec<u32> {
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let is_here = |pid: &u32| {
        fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|namespace| namespace == own)
    };
    pids().filter(is_here).filter(|pid| name_of(*pid) == "slirp4netns").collect()
}

#[test]
fn a_list_is_all_that_a_sandbox_reaches() {
    if !can_make_sandboxes() {
        return;
    }
    let Some(_network) = Network::enter("network::a_list_is_all_that_a_sandbox_reaches") else {
        return;
    };
    let _host = TcpListener::bind("127.0.0.1:7000").unwrap();
    let gateway = gateway(&options(
        "[profiles.listed]\nnetwork = \"nat\"\npool = 1\nforward = [\"local\"]\negress = [\"198.51.100.1:80\", \
         \"shop.example:8080\", \"10.9.9.0/24:80\", \"198.51.100.2:7001\"]\n",
    ));
    let ssh = gateway.alice().user("alice+listed");
    let named =
        [("198.51.100.1", 80), ("shop.example", 8080), ("203.0.113.5", 8080), ("10.9.9.9", 80)];
    are_reached(&ssh, &named);
    let others = [
        ("198.51.100.1", 8080),
        ("203.0.113.5", 80),
        ("10.9.9.9", 8080),
        ("192.168.7.7", 80),
        ("169.254.169.254", 80),
        ("198.51.100.2", 7000),
        ("10.0.2.2", 7000),
        ("10.0.2.3", 53),
    ];
    are_refused(&ssh, &others);
    let names = ssh.run(
        "getent hosts shop.example; getent hosts other.example || echo none; cat /etc/resolv.conf",
    );
    assert_eq!(names.text(), "203.0.113.5     shop.example\nnone\n");
    let tried = ssh.run(
        "nft list ruleset || echo 1; ip link set tap0 down || echo 2; \
         ip route add 10.0.0.0/8 dev lo || echo 3; ip -6 addr show dev tap0; \
         ping -c 1 -W 1 198.51.100.1 >/dev/null || echo 4; \
         (echo x >&3; echo x >&3) 3>/dev/udp/203.0.113.5/9 || echo 5",
    );
    assert_eq!(tried.text(), "1\n2\n3\n4\n5\n", "{}", tried.err);
    // What a client has forwarded is the sandbox's connection, under the same rules.
    let forwarded = |to: &str| ssh.clone().with("-W").with(to).start(&[]).finish(PATIENCE);
    assert!(forwarded("203.0.113.5:8080").text().starts_with("hello"));
    assert_eq!(forwarded("203.0.113.5:80").text(), "");
    // Without a network there is none.
    let heard = hear(&gateway.alice(), &[("198.51.100.1", 80)]);
    assert!(heard[0].contains("unreachable"), "{heard:?}");
}

#[test]
fn without_a_list_everything_public_is_reached_and_nothing_else() {
    if !can_make_sandboxes() {
        return;
    }
    let test = "network::without_a_list_everything_public_is_reached_and_nothing_else";
    let Some(_network) = Network::enter(test) else { return };
    let _loopback = TcpListener::bind("127.0.0.1:7000").unwrap();
    let _outside = TcpListener::bind("198.51.100.2:7000").unwrap();
    let gateway = gateway(&options("[profiles.open]\nnetwork = \"nat\"\npool = 2\n"));
    let ssh = gateway.alice().user("alice+open");
    // Every name has an address in this world.
    are_reached(&ssh, &[("198.51.100.1", 80), ("203.0.113.5", 8080), ("www.example.com", 80)]);
    let private = [
        ("10.9.9.9", 80),
        ("192.168.7.7", 80),
        ("169.254.169.254", 80),
        ("198.51.100.2", 7000),
        ("10.0.2.2", 7000),
        ("10.0.2.2", gateway.port),
        ("10.0.2.3", 80),
    ];
    are_refused(&ssh, &private);
    // Each sandbox is alone in its network, whose addresses are the same in all.
    let one = ssh.clone().with("-tt").start(&["python3 -m http.server 8888"]);
    one.expect("Serving");
    let heard = hear(&ssh, &[("10.0.2.100", 8888)]);
    assert!(heard[0].contains("Connection refused"), "{heard:?}");
    let own = ssh.run(
        "python3 -m http.server 8888 >/dev/null 2>&1 & for i in $(seq 100); do \
         curl -s -o /dev/null http://127.0.0.1:8888/ && echo served && exit; sleep 0.1; done",
    );
    assert_eq!(own.text(), "served\n", "{}", own.err);
}

#[test]
fn the_rate_holds_both_ways() {
    if !can_make_sandboxes() {
        return;
    }
    let Some(_network) = Network::enter("network::the_rate_holds_both_ways") else { return };
    let gateway = gateway(&options(
        "[profiles.slow]\nnetwork = \"nat\"\npool = 1\negress_rate = \"1MB/s\"\n\
         [profiles.fast]\nnetwork = \"nat\"\npool = 1\negress_rate = \"0\"\n",
    ));
    let down = "head -c 4194304 </dev/tcp/198.51.100.1/9000 | wc -c";
    let up = "exec 3<>/dev/tcp/198.51.100.1/9001; head -c 4194304 /dev/zero >&3; \
              python3 -c 'import socket; socket.socket(fileno=3).shutdown(1)'; cat <&3";
    let time = |profile: &str, command: &str| {
        let ran = gateway.alice().user(&format!("alice+{profile}")).run(command);
        assert_eq!(ran.text().trim(), "4194304", "{}", ran.err);
        ran.took
    };
    for command in [down, up] {
        let fast = time("fast", command);
        assert!(fast < Duration::from_millis(2500), "{command}: {fast:?}");
    }
    let both = std::thread::scope(|scope| {
        [down, up]
            .map(|command| scope.spawn(move || time("slow", command)))
            .map(|thread| thread.join())
    });
    for slow in both.map(Result::unwrap) {
        // Of four megabytes one may come at once.
        assert!(slow > Duration::from_millis(2800), "{slow:?}");
        assert!(slow < Duration::from_secs(12), "{slow:?} is far below the rate");
    }
}

#[test]
fn what_serves_a_network_is_gone_with_it_however_it_ends() {
    if !can_make_sandboxes() {
        return;
    }
    let test = "network::what_serves_a_network_is_gone_with_it_however_it_ends";
    let Some(_network) = Network::enter(test) else { return };
    let mut gateway = gateway(&options("[profiles.open]\nnetwork = \"nat\"\npool = 1\n"));
    let ssh = gateway.alice().user("alice+open");
    let settle = |count: usize, what: &str| {
        until(what, PATIENCE, || (attendants().len() == count).then(attendants));
    };
    settle(1, "the pool's");
    assert_eq!(ssh.run("exit 3").code, 3);
    settle(1, "the end of a session's");
    // A guest cannot end it, and one who signals all it can see does not.
    let mut shell = ssh.clone().with("-tt").start(&[]);
    shell.expect("# ");
    settle(2, "a session's beside the pool's");
    shell.write(b"kill -9 -1; echo\n");
    shell.expect("# ");
    settle(2, "still");
    // The shim beside it dies: that which has a shell.
    let has_shell = |pid: &u32| descendants(*pid).into_iter().any(|pid| name_of(pid) == "bash");
    let mut shims = descendants(gateway.pid());
    shims.retain(|pid| name_of(*pid) == "sojourn-shim" && has_shell(pid));
    assert_eq!(shims.len(), 1);
    kill(shims[0]);
    settle(1, "the pool's, and no other");
    // The runner dies: what waited is let go of.
    let runner =
        descendants(gateway.pid()).into_iter().find(|pid| name_of(*pid) == "sojourn-runner");
    let old = attendants();
    kill(runner.unwrap());
    until("the next runner's", PATIENCE, || {
        let now = attendants();
        (now.len() == 1 && now != old).then_some(())
    });
    // The gateway dies: its runner leaves.
    gateway.kill();
    settle(0, "none");
    gateway.launch();
    settle(1, "the pool's again");
    gateway.stop();
    settle(0, "none after a stop");
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    if !can_make_sandboxes() {
        return;
    }
    let Some(_network) = Network::enter("network::a_missing_program_is_named_with_its_package")
    else {
        return;
    };
    for directory in ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"] {
        let path = format!("{directory}/slirp4netns");
        if fs::metadata(&path).is_ok_and(|about| about.is_file()) {
            cover(&path, "/dev/null".as_ref());
        }
    }
    // Nobody answers there.
    cover("/etc/resolv.conf", "/dev/null".as_ref());
    let gateway = gateway(&options(
        "[profiles.open]\nnetwork = \"nat\"\npool = 0\n\
         [profiles.lost]\nnetwork = \"nat\"\npool = 0\negress = [\"nowhere.invalid:80\"]\n",
    ));
    gateway.wait_for_log("what is missing", |line| {
        let text = line["message"].as_str().unwrap_or_default();
        text.contains("open") && text.contains("install the package slirp4netns")
    });
    let refused = gateway.alice().user("alice+open").run("true");
    assert_eq!(refused.code, 75);
    for part in ["stage: network", "install the package slirp4netns"] {
        assert!(refused.err.contains(part), "{}", refused.err);
    }
    let lost = gateway.alice().user("alice+lost").run("true");
    assert!(lost.err.contains("nowhere.invalid cannot be resolved"), "{}", lost.err);
    assert_eq!(gateway.alice().run("exit 3").code, 3);
}
