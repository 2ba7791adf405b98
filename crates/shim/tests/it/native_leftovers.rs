//! Nothing stays behind, however a sandbox ends.

use std::fs;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use sojourn_shim::cgroup::clean_orphans;
use sojourn_shim::error::Stage;
use sojourn_shim::init_link::InitImage;
use sojourn_shim::init_link::Stdio;
use sojourn_shim::native;
use sojourn_shim::native::NativeProfile;
use sojourn_shim::native::Rootfs;
use sojourn_shim::native::Supplies;

use crate::native_room::MB;
use crate::native_room::PARENT;
use crate::native_room::Room;
use crate::native_room::build;
use crate::native_room::disks_of;
use crate::native_room::end;
use crate::native_room::eventually;
use crate::native_room::possible;
use crate::native_room::profile;

/// What of a sandbox can be seen from the host: control groups, processes of its ids.
fn leftovers(profile: &NativeProfile) -> Vec<String> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("control groups are mounted");
    let mut left: Vec<_> = hierarchies
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .chain([PathBuf::from("/sys/fs/cgroup")])
        .map(|mount| mount.join(PARENT).join(&profile.id))
        .filter(|directory| directory.exists())
        .map(|directory| directory.display().to_string())
        .collect();
    let uid = format!("Uid:\t{}", profile.ids.start);
    for process in fs::read_dir("/proc").expect("it is mounted").filter_map(Result::ok) {
        let status = fs::read_to_string(process.path().join("status")).unwrap_or_default();
        if status.lines().any(|line| line.starts_with(&uid)) {
            left.push(status);
        }
    }
    left
}

/// Loop devices over the writable layer of a sandbox.
fn loop_devices(profile: &NativeProfile) -> usize {
    let devices = fs::read_dir("/sys/block").expect("it is mounted").filter_map(Result::ok);
    let disks = disks_of(profile).display().to_string();
    devices
        .filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok())
        .filter(|file| file.starts_with(&disks))
        .count()
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("it is mounted")
}

#[test]
fn a_killed_sandbox_leaves_nothing() {
    if !possible() {
        return;
    }
    let before = mounts();
    let mut profile = profile();
    profile.disk_size = 32 * MB;
    let mut room = Room::of(&profile);
    assert!(!leftovers(&profile).is_empty());
    assert_eq!(loop_devices(&profile), 1);
    let null = fs::File::open("/dev/null").expect("it is there");
    // Ignores what can be ignored, leaves its session, keeps files open.
    let script =
        "trap '' HUP TERM INT; exec 9> /root/open; setsid sh -c 'sleep 1000 & sleep 1000' &
        sleep 1000";
    room.start(&["sh", "-c", script], Stdio::Pipes([null.as_fd(); 3]));
    room.event();
    let sandbox = room.take();
    assert_eq!(mounts(), before, "nothing is mounted where others see it");
    end(sandbox);
    assert_eq!(leftovers(&profile), Vec::<String>::new());
    // The kernel frees a device a moment after its last mount.
    eventually("the loop device is free", || loop_devices(&profile) == 0);
}

#[test]
fn a_failed_build_names_its_stage_and_leaves_nothing() {
    if !possible() {
        return;
    }
    let mut no_directory = profile();
    no_directory.rootfs = Rootfs::Directory("/nowhere".into());
    let mut bad_name = profile();
    bad_name.id = "../escape".to_owned();
    // Nothing fits: the container's own first process is refused.
    let mut no_processes = profile();
    no_processes.memory = 4096;
    for (profile, stage) in [
        (no_directory, Stage::Rootfs),
        (bad_name, Stage::Profile),
        (no_processes, Stage::Container),
    ] {
        let error = build(&profile).expect_err("it cannot be built");
        assert_eq!(error.stage, stage, "{error}");
        assert_eq!(leftovers(&profile), Vec::<String>::new(), "{error}");
    }
    let mut no_template = profile();
    no_template.disk_size = 64 * MB;
    let image = InitImage::make().expect("memory");
    let supplies = Supplies { init: &image, disk: None };
    let error =
        native::build(&no_template, supplies, Duration::from_secs(60)).expect_err("no disk");
    assert_eq!(error.stage, Stage::Disk, "{error}");
}

#[test]
fn a_build_that_takes_too_long_is_ended() {
    if !possible() {
        return;
    }
    let image = InitImage::make().expect("memory");
    let supplies = Supplies { init: &image, disk: None };
    for micros in [0, 500, 2000, 5000, 10_000, 15_000, 20_000] {
        let profile = profile();
        match native::build(&profile, supplies, Duration::from_micros(micros)) {
            Ok(sandbox) => end(sandbox),
            Err(error) => assert!(error.message.contains("time"), "{error}"),
        }
        eventually("nothing is left", || leftovers(&profile).is_empty());
    }
}

#[test]
fn orphans_are_found_by_their_control_groups() {
    if !possible() {
        return;
    }
    let profile = profile();
    let sandbox = build(&profile).expect("it can be built");
    // As if its shim had been killed, and the kernel had not noticed yet.
    let held = rustix::io::dup(sandbox.pidfd()).expect("descriptors are left");
    let forgotten = std::mem::ManuallyDrop::new(sandbox);
    assert_eq!(clean_orphans(PARENT, |id| id != profile.id).expect("root may"), 1);
    crate::native_room::wait_for(held.as_fd(), std::time::Instant::now() + Duration::from_secs(9));
    assert!(forgotten.pidfd().as_raw_fd() >= 0);
    eventually("no cgroup is left", || {
        leftovers(&profile).iter().all(|left| !left.contains("cgroup"))
    });
    let sandbox = std::mem::ManuallyDrop::into_inner(forgotten);
    end(sandbox);
}

#[test]
fn what_it_wrote_can_be_read_when_it_is_dead() {
    if !possible() {
        return;
    }
    for disk_size in [2 * MB, 64 * MB] {
        let profile = NativeProfile { disk_size, ..profile() };
        let mut room = Room::of(&profile);
        room.sh("echo mine > /root/note; rm /etc/hosts; chmod 4711 /root/note");
        let mut sandbox = room.take();
        let layers = sandbox.take_layers().expect("they are there");
        end(sandbox);
        assert_eq!(leftovers(&profile), Vec::<String>::new());
        let through = |fd: std::os::fd::BorrowedFd<'_>, name: &str| {
            PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())).join(name)
        };
        let upper = |name| through(layers.upper.as_fd(), name);
        assert_eq!(fs::read_to_string(upper("root/note")).unwrap(), "mine\n");
        use std::os::unix::fs::FileTypeExt;
        use std::os::unix::fs::MetadataExt;
        let whiteout = fs::symlink_metadata(upper("etc/hosts")).unwrap();
        assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
        let refused = fs::write(upper("new"), "x").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        let [lower] = layers.lowers.as_slice() else { panic!("{layers:?}") };
        assert!(through(lower.as_fd(), "etc/hosts").is_file());
        assert!(!through(lower.as_fd(), "root/note").exists());
        assert_eq!(loop_devices(&profile), usize::from(disk_size > native::MAX_IN_MEMORY));
        drop(layers);
        eventually("its loop device is given back", || loop_devices(&profile) == 0);
    }
}
