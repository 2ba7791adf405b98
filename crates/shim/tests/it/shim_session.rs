//! Programs, streams and credit in a session.

use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::wire::MAX_PAYLOAD;
use sojourn_core::wire::shim::INPUT_WINDOW;
use sojourn_core::wire::shim::OUTPUT_WINDOW;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::ToShim;
use sojourn_core::wire::shim::WindowSize;
use sojourn_core::wire::shim::cost;
use sojourn_shim::seqpacket;

use crate::shim_house::House;
use crate::shim_house::Shim;
use crate::shim_house::as_runner;

#[test]
fn streams_stay_apart_and_the_exit_follows_the_last_byte() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.exec(0, "echo out; echo err >&2; sleep 0.3; echo late; exit 7");
        assert_eq!(gateway.until_exit(0), Exit::Code(7));
        assert_eq!(gateway.seen.text(0), "out\nlate\n");
        assert_eq!(gateway.seen.errors(0), "err\n");
        gateway.exec(1, "kill -TERM $$");
        assert_eq!(gateway.until_exit(1), Exit::Signal("TERM".to_owned()));
        gateway.end(EndReason::Exited);
        let summary = gateway.until_ended();
        assert_eq!((summary.reason, summary.exit), (EndReason::Exited, Some(Exit::Code(7))));
        assert_eq!(summary.output_bytes, 0, "what has no terminal does not count");
        shim.is_gone();
    });
}

#[test]
fn a_terminal_echoes_resizes_and_knows_who_it_is_for() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let mut house = House::new();
        house.assign.env.push(("COLOUR".into(), "blue".into()));
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        gateway.type_in(0, "echo $TERM $SOJOURN_USER $COLOUR $HOME $(stty size); pwd\n");
        gateway.until_text(0, "xterm alice blue /root 24 80\r\n/root\r\n");
        gateway.type_in(0, "trap 'echo now $(stty size)' WINCH; echo set$((1))\n");
        gateway.until_text(0, "set1");
        let size = WindowSize { cols: 101, rows: 33, width: 0, height: 0 };
        gateway.say(&ToShim::Resize(0, size));
        gateway.type_in(0, "\n");
        gateway.until_text(0, "now 33 101");
        gateway.say(&ToShim::InputEof(0));
        gateway.type_in(0, "echo lost\n");
        gateway.say(&ToShim::Signal(0, "KILL".to_owned()));
        assert_eq!(gateway.until_exit(0), Exit::Signal("KILL".to_owned()));
        gateway.end(EndReason::Exited);
        gateway.until_ended();
        let recording = String::from_utf8(house.recording(0)).unwrap();
        assert!(recording.contains(r#""r", "101x33""#) && recording.contains(r#""i", "#));
        shim.is_gone();
    });
}

#[test]
fn a_channel_without_credit_waits_and_another_does_not() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.grants = false;
        let flood = Program::Exec("head -c 10000000 /dev/zero".into());
        gateway.start(0, flood, false, 100_000);
        gateway.exec(1, "echo here");
        assert_eq!(gateway.until_exit(1), Exit::Code(0));
        assert_eq!(gateway.seen.text(1), "here\n");
        gateway.say(&ToShim::Query);
        gateway.until("the lease", |seen| seen.lease.is_some());
        let got = gateway.seen.out.get(&0).map_or(0, Vec::len);
        assert!(got <= 100_000, "{got} bytes on a credit of 100000");
        gateway.grants = true;
        gateway.say(&ToShim::Credit(0, OUTPUT_WINDOW));
        assert_eq!(gateway.until_exit(0), Exit::Code(0));
        assert_eq!(gateway.seen.out[&0].len(), 10_000_000);
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        let recording = String::from_utf8(house.recording(0)).unwrap();
        assert!(recording.contains("cut after 1048576 bytes; in all 10000000 bytes, sha256 "));
        shim.is_gone();
    });
}

#[test]
fn input_flows_at_the_pace_of_the_program() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.exec(0, "sleep 0.3; wc -c");
        let payload = vec![b'x'; MAX_PAYLOAD];
        let mut credit = INPUT_WINDOW;
        for _ in 0..64 {
            while credit < cost(payload.len()) {
                let before = gateway.seen.input_credit.get(&0).copied().unwrap_or(0);
                gateway.until("credit for input", |seen| {
                    seen.input_credit.get(&0).is_some_and(|now| *now > before)
                });
                credit += gateway.seen.input_credit[&0] - before;
            }
            credit -= cost(payload.len());
            gateway.say(&ToShim::Input(0, &payload));
        }
        gateway.say(&ToShim::InputEof(0));
        assert_eq!(gateway.until_exit(0), Exit::Code(0));
        assert_eq!(gateway.seen.text(0).trim(), (64 * MAX_PAYLOAD).to_string());
        gateway.exec(1, "exec <&-; sleep 0.2; echo done");
        gateway.until("closed input", |seen| seen.input_closed.contains(&1));
        assert_eq!(gateway.until_exit(1), Exit::Code(0));
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        shim.is_gone();
    });
}

#[test]
fn an_exec_waits_for_whoever_holds_its_output_and_a_terminal_does_not() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.exec(0, "(sleep 0.5; echo child) & echo parent; exit 3");
        assert_eq!(gateway.until_exit(0), Exit::Code(3));
        assert_eq!(gateway.seen.text(0), "parent\nchild\n");
        let line = "(trap '' HUP; sleep 600; echo never) & echo parent; exit 4";
        gateway.start(1, Program::Exec(line.into()), true, OUTPUT_WINDOW);
        assert_eq!(gateway.until_exit(1), Exit::Code(4));
        assert_eq!(gateway.seen.text(1), "parent\r\n");
        let line = "trap '' HUP; yes & sleep 0.1; exit 5";
        gateway.start(2, Program::Exec(line.into()), true, OUTPUT_WINDOW);
        assert_eq!(gateway.until_exit(2), Exit::Code(5), "others print on and on");
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        shim.is_gone();
    });
}

#[test]
fn a_program_that_is_not_there_costs_its_channel_alone() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let mut house = House::new();
        house.assign.command = vec!["/bin/nothing".into()];
        let mut gateway = house.open(&shim);
        gateway.start(0, Program::Shell, true, OUTPUT_WINDOW);
        gateway.until("a refusal", |seen| seen.failed.contains_key(&0));
        assert!(gateway.seen.failed[&0].contains("No such file"), "{:?}", gateway.seen.failed);
        gateway.start(1, Program::Exec("x".into()), false, OUTPUT_WINDOW);
        gateway.until("a refusal", |seen| seen.failed.contains_key(&1));
        gateway.end(EndReason::Failed);
        assert_eq!(gateway.until_ended().reason, EndReason::Failed);
        shim.is_gone();
    });
}

#[test]
fn frames_out_of_turn_cost_the_connection_and_not_the_session() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        let mut spec = Vec::new();
        let again = sojourn_core::wire::shim::ChannelSpec {
            program: Program::Shell,
            pty: None,
            env: Vec::new(),
            credit: 0,
        };
        ToShim::Start(0, Box::new(again)).encode(&mut spec);
        let mut hello = Vec::new();
        ToShim::Hello { version: 1 }.encode(&mut hello);
        let mut stranger = Vec::new();
        ToShim::Input(9, b"x").encode(&mut stranger);
        for frame in [&b"\xffnonsense"[..], b"\x01", &spec, &hello, &stranger] {
            let mut other = house.attach();
            seqpacket::send(&other.socket, frame, &[]).unwrap();
            other.until("it is let go", |seen| seen.closed);
        }
        let mut gateway = house.attach();
        assert_eq!(gateway.hello.as_ref().unwrap().channels, [0]);
        gateway.say(&ToShim::Credit(0, OUTPUT_WINDOW));
        gateway.type_in(0, "echo still $((40 + 2))\n");
        gateway.until_text(0, "still 42");
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        shim.is_gone();
    });
}

#[test]
fn what_is_typed_at_a_password_prompt_is_not_recorded() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        gateway.type_in(0, "read -sp 'word? ' word; echo got ${#word}\n");
        gateway.until("the prompt", |seen| seen.text(0).matches("word? ").count() == 2);
        gateway.type_in(0, "hunter22\n");
        gateway.until_text(0, "got 8");
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        let recording = String::from_utf8(house.recording(0)).unwrap();
        assert!(recording.contains("input hidden: 9 bytes") && !recording.contains("hunter22"));
        assert!(recording.contains(r#""i", "read"#), "what is shown is recorded");
        shim.is_gone();
    });
}

#[test]
fn a_terminal_is_left_and_come_back_to_without_a_byte_lost_or_doubled() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        gateway.exec(1, "sleep 999");
        gateway.until("it runs", |seen| seen.started.contains(&1));
        gateway.grants = false;
        // More than the credit there is, so that some of it waits on every side.
        let flood = "for i in $(seq 200000); do echo \"<$i>\"; done; printf 'end \\342\\202'; read -s; printf '\\254 whole\\n'\n";
        gateway.type_in(0, flood);
        gateway.until_text(0, "<100>");
        gateway.say(&ToShim::Detach(0));
        let day = |channel| String::from_utf8(house.recording(channel)).unwrap();
        crate::native_room::eventually("all of it is on record", || day(0).contains(r#"end "]"#));
        // A second and a third reader, the last with the half of a character that is no line's yet.
        gateway.say(&ToShim::Attach(0, OUTPUT_WINDOW));
        gateway.say(&ToShim::Attach(0, OUTPUT_WINDOW));
        gateway.grants = true;
        gateway.until("an answer", |seen| seen.attached.contains_key(&0));
        gateway.type_in(0, "\n");
        gateway.until_text(0, " whole");
        let attached = gateway.seen.attached[&0].clone().unwrap();
        assert_eq!((attached.size.cols, attached.size.rows), (80, 24));
        assert_eq!(attached.file, format!("2026/11/22/{}.cast", house.session));
        let before = house.recording(0)[..usize::try_from(attached.offset).unwrap()].to_vec();
        let before = String::from_utf8(before).unwrap();
        assert!(before.ends_with("]\n"), "whole lines");
        for n in [1, 100, 199_999, 200_000] {
            assert_eq!(before.matches(&format!("<{n}>")).count(), 1, "{n}");
        }
        let after = gateway.seen.out[&0].clone();
        let text = String::from_utf8_lossy(&after).into_owned();
        assert!(!text.contains('<'), "what is on record does not come again");
        assert!(text.contains("\u{20ac} whole"), "{text:?}");
        gateway.say(&ToShim::Attach(1, OUTPUT_WINDOW));
        gateway.until("an answer", |seen| seen.attached.get(&1) == Some(&None));
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        shim.is_gone();
    });
}
