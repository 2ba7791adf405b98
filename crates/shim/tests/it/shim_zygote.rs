//! Who starts whom, and who survives whom.

use std::os::fd::OwnedFd;

use sojourn_core::wire::runner::Stage;
use sojourn_shim::control::Report;
use sojourn_shim::native::NativeProfile;
use sojourn_shim::native::Rootfs;
use sojourn_shim::seqpacket;
use sojourn_shim::zygote;
use sojourn_shim::zygote::FromZygote;
use sojourn_shim::zygote::GatewayEnd;
use sojourn_shim::zygote::RunnerSeed;

use crate::native_room::PATIENCE;
use crate::native_room::possible;
use crate::native_room::profile;
use crate::shim_house::House;
use crate::shim_house::PARENT;
use crate::shim_house::Shim;
use crate::shim_house::as_runner;
use crate::shim_house::in_child;

fn next(end: &GatewayEnd) -> FromZygote {
    assert!(seqpacket::wait(end, PATIENCE).unwrap(), "nothing came");
    end.next().unwrap().expect("the zygote lives")
}

fn born(end: &GatewayEnd) -> (u32, OwnedFd) {
    match next(end) {
        FromZygote::RunnerBorn { pid, socket } => (pid, socket),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_runner_that_dies_is_followed_by_another() {
    if !possible() {
        return;
    }
    let status = in_child(|| {
        // Each runner leaves with the status it is sent.
        let runner = |seed: RunnerSeed| {
            let mut buf = [0; 1];
            seqpacket::recv(&seed.gateway, &mut buf).map_or(1, |_| buf[0])
        };
        let end = zygote::split(&zygote::Plan {
            runner: &runner,
            keeper: &|_| 0,
            unpacker: &|_| 0,
            keep: &[],
        })
        .unwrap();
        end.start_runner().unwrap();
        let (first, socket) = born(&end);
        end.start_runner().unwrap();
        seqpacket::send(&socket, &[3], &[]).unwrap();
        match next(&end) {
            FromZygote::RunnerGone { pid, status } => assert_eq!((pid, status), (first, 3 << 8)),
            other => panic!("{other:?}"),
        }
        let (second, socket) = born(&end);
        assert_ne!(first, second);
        seqpacket::send(&socket, &[0], &[]).unwrap();
        assert!(matches!(next(&end), FromZygote::RunnerGone { status: 0, .. }));
        end.start_runner().unwrap();
        let (third, socket) = born(&end);
        // Without a gateway the runner stays until it wants to leave, and the zygote with it.
        let zygote = rustix::process::Pid::from_raw(end.pid().cast_signed()).unwrap();
        drop(end);
        let flags = rustix::process::PidfdFlags::empty();
        let third = rustix::process::Pid::from_raw(third.cast_signed()).unwrap();
        let runner = rustix::process::pidfd_open(third, flags).unwrap();
        let zygote = rustix::process::pidfd_open(zygote, flags).unwrap();
        assert!(!seqpacket::wait(&runner, std::time::Duration::from_millis(200)).unwrap());
        drop(socket);
        assert!(seqpacket::wait(&runner, PATIENCE).unwrap(), "its gateway is gone");
        assert!(seqpacket::wait(&zygote, PATIENCE).unwrap(), "so is the runner");
        0
    });
    assert_eq!(status, 0);
}

#[test]
fn a_failed_build_names_its_stage() {
    as_runner(|zygote| {
        let rootfs = Rootfs::Directory("/nowhere".into());
        let profile = NativeProfile { cgroup_parent: PARENT.to_owned(), rootfs, ..profile() };
        match Shim::of(&zygote, profile).err() {
            Some(Report::Failed { stage: Stage::RootFs, message }) => {
                assert!(!message.is_empty());
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_shim_keeps_nothing_of_its_makers() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        let links: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", shim.pid))
            .unwrap()
            .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
            .collect();
        let known = ["/dev/null", "socket:", "anon_inode:", "pipe:", "/dev/ptmx", "/dev/pts"];
        for link in &links {
            let ours = link.starts_with(&house.root.display().to_string());
            assert!(
                ours || link == "/" || known.iter().any(|kind| link.starts_with(kind)),
                "{link} in {links:?}"
            );
        }
        assert!(!links.iter().any(|link| link.starts_with("pipe:")), "{links:?}");
        let layers = links.iter().filter(|link| *link == "/").count();
        assert_eq!(layers, 2, "two mounts of their own: {links:?}");
        let status = std::fs::read_to_string(format!("/proc/{}/status", shim.pid)).unwrap();
        assert!(status.contains("CapEff:\t0000000000000020"), "only to kill: {status}");
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("Name:\tsojourn-shim"));
        gateway.end(sojourn_core::end::EndReason::Closed);
        gateway.until_ended();
        shim.is_gone();
    });
}
