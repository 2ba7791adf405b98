//! Connections made from inside, and taken there.

use std::time::Duration;

use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::wire::shim::Cookie;
use sojourn_core::wire::shim::Endpoint;
use sojourn_core::wire::shim::Greeting;
use sojourn_core::wire::shim::MAX_CHANNELS;
use sojourn_core::wire::shim::OUTPUT_WINDOW;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::Stream;
use sojourn_core::wire::shim::ToShim;

use crate::shim_house::Gateway;
use crate::shim_house::House;
use crate::shim_house::Shim;
use crate::shim_house::as_runner;

fn tcp(host: &str, port: u16) -> Endpoint {
    Endpoint::Tcp { host: host.into(), port }
}

impl Gateway {
    fn connect(&self, channel: u16, to: Endpoint) {
        self.start(channel, Program::Connect(to), false, OUTPUT_WINDOW);
    }

    fn accept(&self, channel: u16, listener: u16) {
        self.start(channel, Program::Accept(listener), false, OUTPUT_WINDOW);
    }

    fn listen(&mut self, listener: u16, at: Endpoint) -> Result<u16, String> {
        self.seen.listening.remove(&listener);
        self.say(&ToShim::Listen(listener, at));
        self.until("an answer", |seen| seen.listening.contains_key(&listener));
        self.seen.listening[&listener].clone()
    }

    /// The first line of a connection, which is taken off.
    fn greeting(&mut self, channel: u16) -> Greeting {
        let ends = |out: &Vec<u8>| out.iter().position(|byte| *byte == b'\n');
        self.until("a greeting", |seen| seen.out.get(&channel).and_then(ends).is_some());
        let out = self.seen.out.get_mut(&channel).expect("just seen");
        let rest = out.split_off(ends(out).expect("just seen") + 1);
        let line = std::mem::replace(out, rest);
        Greeting::parse(&line[..line.len() - 1]).expect("a greeting")
    }

    fn refused(&mut self, channel: u16, to: Endpoint) -> String {
        self.connect(channel, to);
        match self.greeting(channel) {
            Greeting::Failed(why) => {
                assert_eq!(self.until_exit(channel), Exit::Code(1));
                why
            }
            open => panic!("{open:?}"),
        }
    }

    fn until_bytes(&mut self, channel: u16, wanted: &[u8]) {
        self.until("bytes", |seen| {
            seen.out.get(&channel).is_some_and(|out| out.len() >= wanted.len())
        });
        assert!(self.seen.out[&channel] == wanted, "others came");
    }
}

#[test]
fn both_ways_carry_everything_and_end_apart() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        let port = gateway.listen(7, tcp("localhost", 0)).unwrap();
        gateway.accept(0, 7);
        gateway.connect(1, tcp("127.0.0.1", port));
        assert_eq!(gateway.greeting(1), Greeting::Open { peer: None });
        let Greeting::Open { peer: Some((address, from)) } = gateway.greeting(0) else {
            panic!("from somewhere")
        };
        assert!(address == "127.0.0.1" && from != port && from != 0, "{address} {from}");
        let there: Vec<u8> = (0..2_000_000_u32).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect();
        let back: Vec<u8> = there.iter().rev().copied().collect();
        for (up, down) in there.chunks(500_000).zip(back.chunks(500_000)) {
            gateway.feed(1, up);
            gateway.feed(0, down);
        }
        gateway.say(&ToShim::InputEof(1));
        gateway.until("the end of one way", |seen| seen.ends.contains(&(0, Stream::Out)));
        gateway.until_bytes(0, &there);
        gateway.feed(0, b"and more");
        let wanted = [&back[..], b"and more"].concat();
        gateway.until_bytes(1, &wanted);
        assert!(gateway.seen.exits.is_empty() && gateway.seen.ends == [(0, Stream::Out)]);
        gateway.say(&ToShim::InputEof(0));
        assert_eq!(gateway.until_exit(0), Exit::Code(0));
        assert_eq!(gateway.until_exit(1), Exit::Code(0));
        gateway.end(EndReason::Closed);
        let summary = gateway.until_ended();
        assert_eq!((summary.exit, summary.output_bytes), (None, 0));
        let recorded: Vec<_> = summary.recordings.iter().map(|facts| facts.channel).collect();
        assert_eq!(recorded, [0], "the session's own, with nothing of what moved");
        assert!(summary.recordings[0].bytes < 1000);
        let sidecar = house.sidecar();
        let [taken, made] = &sidecar.channels[..] else { panic!("{sidecar:?}") };
        assert_eq!((taken.kind.as_str(), made.kind.as_str()), ("forwarded-tcpip", "direct-tcpip"));
        assert_eq!(taken.target.as_deref(), Some("localhost:0"));
        assert_eq!(made.target, Some(format!("127.0.0.1:{port}")));
        assert_eq!(made.moved.unwrap().input, 2_000_000);
        assert_eq!(made.moved.unwrap().output, 2_000_008 + "ok\n".len() as u64);
        assert!(made.recording.is_empty() && made.exit.is_some());
        shim.is_gone();
    });
}

#[test]
fn what_cannot_be_reached_is_refused_with_the_reason() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        assert_eq!(gateway.refused(0, tcp("127.0.0.1", 1)), "connection refused");
        assert_eq!(gateway.refused(1, tcp("::1", 1)), "connection refused");
        assert_eq!(gateway.refused(2, tcp("localhost", 1)), "connection refused");
        assert_eq!(gateway.refused(3, tcp("192.0.2.1", 80)), "network is unreachable");
        for (channel, name) in (4..).zip(["no.such.host", "", "a..b", "127.0.0.1.", "x y", "[::1]"])
        {
            assert_eq!(
                gateway.refused(channel, tcp(name, 80)),
                "name or service not known",
                "{name}"
            );
        }
        assert_eq!(gateway.refused(20, Endpoint::Unix("/tmp/none".into())), "no such socket");
        assert_eq!(gateway.refused(21, Endpoint::Unix("/root".into())), "connection refused");
        gateway.connect(22, Endpoint::Unix("x".repeat(200).as_str().into()));
        gateway.connect(23, tcp(&"x".repeat(300), 1));
        gateway.connect(24, tcp("a\0b", 1));
        gateway.accept(25, 1);
        gateway
            .until("refusals", |seen| (22..=25).all(|channel| seen.failed.contains_key(&channel)));
        for name in ["0.0.0.0x", "192.0.2.1", "example.org"] {
            gateway.listen(1, tcp(name, 0)).unwrap_err();
        }
        let why = gateway.listen(1, tcp("127.0.0.1", 80)).unwrap_err();
        assert!(why.contains("denied"), "{why}");
        gateway.listen(1, Endpoint::Unix("/none/none/x".into())).unwrap_err();
        gateway.exec(30, "echo 127.0.0.1 here >> /etc/hosts; echo 'bad # line' >> /etc/hosts");
        assert_eq!(gateway.until_exit(30), Exit::Code(0));
        assert_eq!(gateway.refused(31, tcp("HERE", 1)), "connection refused");
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        shim.is_gone();
    });
}

#[test]
fn connections_are_taken_one_by_one_and_none_is_lost() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        let port = gateway.listen(0, tcp("", 0)).unwrap();
        for channel in 0..3 {
            gateway.accept(channel, 0);
        }
        // Two more than take them, over both protocols.
        for channel in 10..15 {
            let host = if channel % 2 == 0 { "::1" } else { "127.0.0.1" };
            gateway.connect(channel, tcp(host, port));
            assert_eq!(gateway.greeting(channel), Greeting::Open { peer: None });
            gateway.feed(channel, format!("{channel}").as_bytes());
            gateway.say(&ToShim::InputEof(channel));
        }
        for channel in 0..3 {
            assert!(matches!(gateway.greeting(channel), Greeting::Open { peer: Some(_) }));
        }
        for channel in 15..17 {
            gateway.accept(channel, 0);
            assert!(matches!(gateway.greeting(channel), Greeting::Open { peer: Some(_) }));
        }
        let taking = [0, 1, 2, 15, 16];
        gateway.until("what each sent", |seen| {
            taking.iter().all(|channel| seen.out[channel].len() == 2)
        });
        let mut said: Vec<_> = taking.iter().map(|channel| gateway.seen.text(*channel)).collect();
        said.sort();
        assert_eq!(said, ["10", "11", "12", "13", "14"]);

        gateway.accept(20, 0);
        gateway.until("it waits", |seen| seen.started.contains(&20));
        assert!(gateway.listen(0, tcp("", 0)).unwrap_err().contains("in use"));
        gateway.say(&ToShim::Unlisten(0));
        let told = Greeting::Failed("nothing listens any more".to_owned());
        assert_eq!(gateway.greeting(20), told);
        assert_eq!(gateway.until_exit(20), Exit::Code(1));
        assert_eq!(gateway.refused(21, tcp("127.0.0.1", port)), "connection refused");
        // What was taken goes on.
        gateway.feed(0, b"bye");
        gateway.say(&ToShim::InputEof(0));
        assert_eq!(gateway.until_exit(0), Exit::Code(0));
        let others: Vec<_> = (10..15).filter(|other| gateway.seen.text(*other) == "bye").collect();
        assert_eq!(others.len(), 1);
        gateway.until_exit(others[0]);

        for listener in 0..8 {
            gateway.listen(listener, tcp("127.0.0.1", 0)).unwrap();
        }
        assert!(gateway.listen(8, tcp("127.0.0.1", 0)).unwrap_err().contains("no more than 8"));
        gateway.say(&ToShim::Unlisten(3));
        gateway.say(&ToShim::Unlisten(99));
        gateway.listen(8, tcp("127.0.0.1", 0)).unwrap();
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        shim.is_gone();
    });
}

#[test]
fn a_socket_in_a_directory_of_its_own_is_for_its_owner_and_goes_again() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        let path = || Endpoint::Unix("/tmp/ssh-abc/agent.1".into());
        assert_eq!(gateway.listen(1, path()), Ok(0));
        gateway.exec(0, "stat -c '%F %a %u' /tmp/ssh-abc /tmp/ssh-abc/agent.1; umask");
        gateway.until_exit(0);
        assert_eq!(gateway.seen.text(0), "directory 700 0\nsocket 600 0\n0022\n");
        assert!(gateway.listen(2, path()).unwrap_err().contains("in use"));
        gateway.accept(1, 1);
        gateway.connect(2, path());
        assert_eq!(gateway.greeting(2), Greeting::Open { peer: None });
        assert_eq!(gateway.greeting(1), Greeting::Open { peer: None });
        gateway.say(&ToShim::Unlisten(1));
        gateway.feed(2, b"question");
        gateway.until_text(1, "question");
        gateway.feed(1, b"answer");
        gateway.until_text(2, "answer");
        gateway.exec(3, "ls -d /tmp/ssh-abc");
        assert_eq!(gateway.until_exit(3), Exit::Code(2));
        gateway.say(&ToShim::Close(2));
        gateway.until_exit(1);
        gateway.until_exit(2);
        // What is not ours by then stays.
        gateway.listen(1, path()).unwrap();
        gateway.exec(4, "rm /tmp/ssh-abc/agent.1 && echo mine > /tmp/ssh-abc/agent.1");
        assert_eq!(gateway.until_exit(4), Exit::Code(0));
        gateway.say(&ToShim::Unlisten(1));
        gateway.listen(1, tcp("127.0.0.1", 0)).unwrap();
        gateway.exec(5, "cat /tmp/ssh-abc/agent.1");
        gateway.until_exit(5);
        assert_eq!(gateway.seen.text(5), "mine\n");
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        let sidecar = house.sidecar();
        let kinds: Vec<_> = sidecar.channels.iter().map(|channel| channel.kind.as_str()).collect();
        assert_eq!(kinds[1..3], ["forwarded-streamlocal", "direct-streamlocal"]);
        shim.is_gone();
    });
}

#[test]
fn a_display_has_a_number_of_its_own_and_a_file_of_proof_and_goes_again() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        let display = || Endpoint::Display(Cookie::parse("00ff41").unwrap());
        // What is another's stays another's.
        gateway.exec(0, "umask 77; echo mine >/tmp/.X11-authority; hostname");
        assert_eq!(gateway.until_exit(0), Exit::Code(0));
        let host = gateway.seen.text(0).trim().to_owned();
        assert_eq!(gateway.listen(1, display()), Ok(10));
        assert_eq!(gateway.listen(2, display()), Ok(12));
        let files = "/tmp/.X11-unix /tmp/.X11-unix/X10 /tmp/.X10-authority";
        gateway.exec(1, &format!("stat -c '%F %a %u' {files}; ls /tmp/.X11-unix"));
        gateway.until_exit(1);
        let made = "directory 1777 0\nsocket 600 0\nregular file 600 0\nX10\nX12\n";
        assert_eq!(gateway.seen.text(1), made);
        gateway.exec(2, "od -An -v -tx1 /tmp/.X12-authority | tr -d ' \\n'");
        gateway.until_exit(2);
        let field = |bytes: &[u8]| {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            format!("{:04x}{}", bytes.len(), digits.collect::<String>())
        };
        let proof = [&b"12"[..], b"MIT-MAGIC-COOKIE-1", &[0, 0xff, 0x41]].map(field).concat();
        let wanted = format!("0100{}{proof}ffff0000{proof}", field(host.as_bytes()));
        assert_eq!(gateway.seen.text(2), wanted);

        gateway.accept(3, 1);
        gateway.connect(4, Endpoint::Unix("/tmp/.X11-unix/X10".into()));
        assert_eq!(gateway.greeting(4), Greeting::Open { peer: None });
        assert_eq!(gateway.greeting(3), Greeting::Open { peer: None });
        // Its name without a file is nobody else's.
        let bind = "import socket; socket.socket(socket.AF_UNIX).bind('\\0/tmp/.X11-unix/X10')";
        gateway.exec(5, &format!("python3 -c \"{bind}\""));
        assert_eq!(gateway.until_exit(5), Exit::Code(1));
        gateway.connect(6, display());
        gateway.until("a refusal", |seen| seen.failed.contains_key(&6));

        gateway.say(&ToShim::Unlisten(1));
        gateway.say(&ToShim::Unlisten(2));
        gateway.exec(7, "cat /tmp/.X*-authority; ls -A /tmp");
        gateway.until_exit(7);
        assert_eq!(gateway.seen.text(7), "mine\n.X11-authority\n.X11-unix\n");
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        let sidecar = house.sidecar();
        let taken = sidecar.channels.iter().find(|channel| channel.kind == "x11").unwrap();
        assert_eq!(taken.target.as_deref(), Some("display"));
        shim.is_gone();
    });
}

#[test]
fn as_many_as_there_may_be_and_one_more() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        let port = gateway.listen(1, tcp("127.0.0.1", 0)).unwrap();
        let most = u16::try_from(MAX_CHANNELS).unwrap();
        for channel in 0..most {
            gateway.accept(channel, 1);
        }
        gateway.connect(most, tcp("127.0.0.1", port));
        gateway.until("a refusal", |seen| seen.failed.contains_key(&most));
        assert!(gateway.seen.failed[&most].contains("too many"), "{:?}", gateway.seen.failed);
        gateway.until("the others", |seen| seen.started.len() == MAX_CHANNELS);
        gateway.say(&ToShim::Close(0));
        gateway.until_exit(0);
        gateway.connect(most + 1, tcp("127.0.0.1", port));
        assert_eq!(gateway.greeting(most + 1), Greeting::Open { peer: None });
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        shim.is_gone();
    });
}

#[test]
fn a_forward_is_idle_when_nothing_moves_and_its_bytes_are_no_output() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let mut house = House::new();
        house.assign.limits.idle_timeout = Some(Duration::from_millis(900));
        house.assign.limits.max_output = Some(1000);
        let mut gateway = house.open(&shim);
        let port = gateway.listen(1, tcp("127.0.0.1", 0)).unwrap();
        gateway.accept(0, 1);
        gateway.connect(1, tcp("127.0.0.1", port));
        gateway.greeting(0);
        gateway.greeting(1);
        let begun = std::time::Instant::now();
        let mut sent = 0;
        while begun.elapsed() < Duration::from_millis(1500) {
            gateway.feed(1, &[7; 500]);
            sent += 500;
            gateway.until("what was sent", |seen| seen.out[&0].len() == sent);
        }
        assert_eq!(gateway.seen.expired, None);
        let summary = gateway.until_ended();
        assert_eq!((summary.reason, summary.output_bytes), (EndReason::IdleTimeout, 0));
        shim.is_gone();
    });
}

#[test]
fn helpers_and_listeners_end_with_their_gateway_and_the_terminal_stays() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        let port = gateway.listen(1, tcp("127.0.0.1", 0)).unwrap();
        gateway.accept(1, 1);
        gateway.connect(2, tcp("127.0.0.1", port));
        gateway.greeting(2);
        gateway.accept(3, 1);
        gateway.start(4, Program::Files, false, OUTPUT_WINDOW);
        gateway.until("all of them", |seen| seen.started.len() == 5);
        // One that comes while the old one is still there, and one that comes after it.
        for last in [false, true] {
            let mut new = if last {
                drop(gateway);
                house.attach()
            } else {
                let new = house.attach();
                drop(gateway);
                new
            };
            assert_eq!(new.hello.as_ref().unwrap().channels, [0]);
            new.say(&ToShim::Credit(0, OUTPUT_WINDOW));
            new.type_in(0, "until ! pgrep 'sshd|sftp-server'; do :; done; echo none of th\"\"em\n");
            new.until_text(0, "none of them");
            let first = new.hello.as_ref().unwrap().next_channel;
            assert_eq!(new.refused(first, tcp("127.0.0.1", port)), "connection refused");
            let again = new.listen(1, tcp("127.0.0.1", 0)).unwrap();
            new.connect(first + 1, tcp("127.0.0.1", again));
            new.greeting(first + 1);
            gateway = new;
        }
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        shim.is_gone();
    });
}

#[test]
fn a_helper_that_a_prisoner_stops_or_kills_ends_its_channel() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.start(0, Program::Files, false, OUTPUT_WINDOW);
        gateway.listen(1, tcp("127.0.0.1", 0)).unwrap();
        gateway.accept(1, 1);
        gateway.until("both", |seen| seen.started.len() == 2);
        gateway.exec(2, "pkill -STOP sftp-server && pkill -STOP sshd");
        assert_eq!(gateway.until_exit(2), Exit::Code(0));
        gateway.say(&ToShim::Close(0));
        gateway.say(&ToShim::Close(1));
        let killed = Exit::Signal("KILL".to_owned());
        assert_eq!(
            (gateway.until_exit(0), gateway.until_exit(1)),
            (killed.clone(), killed.clone())
        );
        gateway.start(3, Program::Files, false, OUTPUT_WINDOW);
        gateway.until("another", |seen| seen.started.contains(&3));
        gateway.exec(4, "pkill -KILL sftp-server");
        assert_eq!(gateway.until_exit(3), killed);
        gateway.until_exit(4);
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        shim.is_gone();
    });
}
