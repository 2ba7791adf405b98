//! How sessions end: on time, whoever is alive, and with a word left behind.

use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::wire::shim::OUTPUT_WINDOW;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::ToShim;
use sojourn_shim::control::OnFailure;
use sojourn_shim::seqpacket;
use sojourn_shim::state::Phase;

use crate::native_room::PATIENCE;
use crate::native_room::eventually;
use crate::shim_house::House;
use crate::shim_house::Shim;
use crate::shim_house::as_runner;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_program_that_traps_hup_and_term_is_gone_after_the_grace() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let mut house = House::new();
        house.assign.limits.max_runtime = Some(2 * SECOND);
        let mut gateway = house.open(&shim);
        let line = "trap 'echo no' HUP TERM; (setsid sleep 999 &); while :; do sleep 0.1; done";
        let start = Instant::now();
        gateway.start(0, Program::Exec(line.into()), true, OUTPUT_WINDOW);
        gateway.until("a warning", |seen| !seen.warned.is_empty());
        assert_eq!(gateway.seen.warned[0].0, Limit::MaxRuntime);
        gateway.until("the limit", |seen| seen.expired.is_some());
        let at = start.elapsed();
        assert_eq!(gateway.seen.expired, Some((EndReason::MaxRuntime, 2, 2)));
        assert!(at >= 2 * SECOND && at < 3 * SECOND, "{at:?}");
        let printed = gateway.seen.text(0);
        let summary = gateway.until_ended();
        let at = start.elapsed();
        assert!(at >= Duration::from_millis(2700) && at < 4 * SECOND, "{at:?}");
        assert_eq!((summary.reason, summary.reached), (EndReason::MaxRuntime, Some(2)));
        assert_eq!(gateway.seen.text(0), printed, "nothing is delivered after the limit");
        let recording = String::from_utf8(house.recording(0)).unwrap();
        assert!(recording.contains("session ends: max_runtime"));
        assert!(recording.contains(r"no\r\n"), "but it is recorded: {recording}");
        shim.is_gone();
    });
}

#[test]
fn a_program_that_lets_go_of_its_terminal_is_not_hung_up() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        let line = "at=$(tty); echo one; exec 0<&- >&- 2>&-; sleep 0.3; echo two >$at; exit 6";
        gateway.start(0, Program::Exec(line.into()), true, OUTPUT_WINDOW);
        assert_eq!(gateway.until_exit(0), Exit::Code(6));
        assert_eq!(gateway.seen.text(0), "one\r\ntwo\r\n");
        gateway.end(EndReason::Exited);
        gateway.until_ended();
        shim.is_gone();
    });
}

#[test]
fn a_session_whose_programs_leave_does_not_wait_for_the_grace() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let mut house = House::new();
        house.assign.limits.max_runtime = Some(SECOND);
        house.assign.limits.grace = PATIENCE;
        let mut gateway = house.open(&shim);
        gateway.exec(0, "sleep 999 & kill -STOP $!; sleep 999");
        let summary = gateway.until_ended();
        assert_eq!(summary.reason, EndReason::MaxRuntime);
        shim.is_gone();
    });
}

#[test]
fn idleness_ends_a_terminal_and_not_a_program_at_work() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let mut house = House::new();
        house.assign.limits.idle_timeout = Some(SECOND);
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        gateway.exec(1, "sleep 1.5");
        gateway.until_exit(1);
        assert_eq!(gateway.seen.expired, None);
        let summary = gateway.until_ended();
        assert_eq!(summary.reason, EndReason::IdleTimeout);
        shim.is_gone();
    });
}

#[test]
fn a_flood_that_nobody_reads_ends_at_the_output_limit() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let mut house = House::new();
        house.assign.limits.max_output = Some(1 << 20);
        let gateway = house.open(&shim);
        gateway.start(0, Program::Exec("yes".into()), true, OUTPUT_WINDOW);
        drop(gateway);
        shim.is_gone();
        let state = house.state();
        assert_eq!((state.phase, state.reason), (Phase::Over, Some(EndReason::MaxOutput)));
        assert!(state.summary.unwrap().output_bytes > 1 << 20);
        assert!(house.recording(0).len() > 1 << 20);
    });
}

#[test]
fn the_limit_holds_what_is_delivered_to_the_byte() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let mut house = House::new();
        house.assign.limits.max_output = Some(100_000);
        let mut gateway = house.open(&shim);
        gateway.start(0, Program::Exec("yes".into()), true, OUTPUT_WINDOW);
        assert_eq!(gateway.until_ended().reason, EndReason::MaxOutput);
        assert_eq!(gateway.seen.out[&0].len(), 100_000);
        assert!(gateway.seen.expired.is_some_and(|(_, reached, max)| reached > max));
        shim.is_gone();
    });
}

#[test]
fn the_gateway_may_be_lost_and_come_back() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        gateway.type_in(0, "sleep 0.3; echo mean$((1))while\n");
        gateway.until_text(0, "while\r\n");
        drop(gateway);
        eventually("it is recorded all the same", || {
            String::from_utf8_lossy(&house.recording(0)).contains("mean1while")
        });
        let mut gateway = house.attach();
        let hello = gateway.hello.clone().unwrap();
        assert_eq!((hello.session, hello.next_channel), (house.session, 1));
        assert_eq!(hello.channels, [0]);
        assert!(hello.lease.is_some() && hello.ending.is_none());
        gateway.say(&ToShim::Credit(0, OUTPUT_WINDOW));
        gateway.type_in(0, "exit 9\n");
        assert_eq!(gateway.until_exit(0), Exit::Code(9));
        drop(gateway);
        shim.is_gone();
        let summary = house.state().summary.unwrap();
        assert_eq!((summary.reason, summary.exit), (EndReason::Exited, Some(Exit::Code(9))));
    });
}

#[test]
fn a_gateway_that_comes_back_and_asks_for_nothing_holds_nothing_up() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let mut house = House::new();
        house.assign.limits.max_output = Some(1 << 20);
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        drop(gateway);
        let mut gateway = house.attach();
        gateway.type_in(0, "yes\n");
        assert_eq!(gateway.until_ended().reason, EndReason::MaxOutput);
        assert!(gateway.seen.out.is_empty());
        shim.is_gone();
    });
}

#[test]
fn without_a_gateway_the_lease_holds() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let mut house = House::new();
        house.assign.limits.max_runtime = Some(SECOND);
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        drop(gateway);
        shim.is_gone();
        assert_eq!(house.state().reason, Some(EndReason::MaxRuntime));
    });
}

#[test]
fn a_deadline_can_be_moved() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let mut house = House::new();
        house.assign.limits.max_runtime = Some(PATIENCE);
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        gateway.say(&ToShim::MoveDeadline(SECOND));
        assert_eq!(gateway.until_ended().reason, EndReason::MaxRuntime);
        assert!(!gateway.seen.warned.is_empty(), "and is warned of");
        shim.is_gone();
    });
}

#[test]
fn a_killed_shim_takes_its_sandbox_along() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.exec(0, "trap '' HUP TERM; sleep 999 & sleep 999");
        gateway.until("it runs", |seen| seen.started == [0]);
        assert!(house.state().is_live());
        rustix::process::pidfd_send_signal(&shim.pidfd, Signal::KILL).unwrap();
        eventually("process 1 has ended", || has_ended(shim.init.pid));
        // A process that dies closes its sockets, which is what process 1 sees, before it is dead, and
        // it is there until the zygote has collected it.
        eventually("the shim is gone", || !house.state().is_live());
        assert_eq!(house.state().phase, Phase::Running, "it left no word");
        let alive = |_: &str| false;
        sojourn_shim::cgroup::clean_orphans(&format!("{}-none", crate::shim_house::PARENT), alive)
            .unwrap();
        remove_groups(&shim.sandbox);
    });
}

/// Whether a process is gone, or waits for somebody to collect it: nobody may, here.
fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

/// Removes the control groups that a killed shim left.
fn remove_groups(sandbox: &str) {
    let group = format!("{}/{sandbox}", crate::shim_house::PARENT);
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let left = hierarchy.path().join(&group);
        eventually("its groups can be removed", || {
            !left.exists() || std::fs::remove_dir(&left).is_ok()
        });
    }
}

#[test]
fn term_to_a_shim_is_a_shutdown() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        rustix::process::pidfd_send_signal(&shim.pidfd, Signal::TERM).unwrap();
        assert_eq!(gateway.until_ended().reason, EndReason::Shutdown);
        assert_eq!(gateway.seen.expired, Some((EndReason::Shutdown, 0, 0)));
        shim.is_gone();
    });
}

#[test]
fn a_sandbox_that_dies_is_a_session_lost() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        let init = rustix::process::Pid::from_raw(shim.init.pid.cast_signed()).unwrap();
        rustix::process::kill_process(init, Signal::KILL).unwrap();
        assert_eq!(gateway.until_ended().reason, EndReason::RunnerLost);
        shim.is_gone();
    });
}

#[test]
fn the_word_left_behind_is_whole() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        assert_eq!(house.state().phase, Phase::Assigned);
        gateway.exec(0, "echo one");
        gateway.until_exit(0);
        gateway.shell(1);
        assert_eq!(house.state().phase, Phase::Running);
        assert!(house.state().deadline.is_some());
        assert_eq!(house.sidecar().ended_at, None);
        gateway.end(EndReason::EndedBy);
        let summary = gateway.until_ended();
        shim.is_gone();
        let state = house.state();
        assert_eq!((state.phase, &state.summary), (Phase::Over, &Some(summary.clone())));
        assert_eq!(state.shim.pid, shim.pid);
        let sidecar = house.sidecar();
        assert_eq!(sidecar.end_reason.as_deref(), Some("ended_by"));
        assert_eq!(sidecar.user.as_deref(), Some("alice"));
        assert_eq!(sidecar.channels[0].command.as_deref(), Some("echo one"));
        assert_eq!(sidecar.channels.len(), 2);
        for (facts, channel) in summary.recordings.iter().zip(&sidecar.channels) {
            let bytes = house.recording(facts.channel);
            assert_eq!(facts.bytes, bytes.len() as u64);
            assert_eq!((&channel.sha256, channel.bytes), (&facts.sha256, facts.bytes));
            let verified = sojourn_term::cast::verify(&bytes[..]).unwrap();
            assert_eq!(verified.sha256, facts.sha256);
            let folder = format!("2026/11/22/{}", house.session);
            assert!(facts.file.starts_with(&folder), "{}", facts.file);
        }
    });
}

#[test]
fn a_session_that_cannot_be_recorded_ends() {
    as_runner(|zygote| {
        for on_failure in [OnFailure::End, OnFailure::Continue] {
            let shim = Shim::make(&zygote);
            let mut house = House::new();
            house.assign.recording.on_failure = on_failure;
            let day = house.root.join("day");
            let small = c"size=64k";
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("small", &day, "tmpfs", flags, small).unwrap();
            let mut gateway = house.open(&shim);
            let line = "head -c 200000 /dev/zero | tr '\\0' x; sleep 999";
            gateway.start(0, Program::Exec(line.into()), true, OUTPUT_WINDOW);
            match on_failure {
                OnFailure::End => {
                    assert_eq!(gateway.until_ended().reason, EndReason::Failed);
                    // None at all, where the first read was more than there was room for.
                    assert!(gateway.seen.out.get(&0).is_none_or(|out| out.len() < 200_000));
                }
                OnFailure::Continue => {
                    gateway.until("all of it", |seen| {
                        seen.out.get(&0).is_some_and(|out| out.len() >= 200_000)
                    });
                    gateway.end(EndReason::EndedBy);
                    assert_eq!(gateway.until_ended().reason, EndReason::EndedBy);
                }
            }
            shim.is_gone();
            assert_eq!(house.state().phase, Phase::Over);
            rustix::mount::unmount(&day, rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    });
}

#[test]
fn a_session_nobody_starts_anything_in_ends_with_its_gateway() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        drop(house.open(&shim));
        shim.is_gone();
        assert_eq!(house.state().reason, Some(EndReason::Closed));
    });
}

#[test]
fn a_sandbox_in_the_pool_goes_with_its_runner() {
    as_runner(|zygote| {
        let mut shim = Shim::make(&zygote);
        let (other, _) = seqpacket::pair().unwrap();
        shim.control = other;
        shim.is_gone();
    });
}
