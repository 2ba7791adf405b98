//! The builder of a native sandbox: all of its steps, in a mount namespace of its own.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::path::Path;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::Executor;
use libcontainer::workload::ExecutorError;
use libcontainer::workload::ExecutorValidationError;
use rustix::mount::MountFlags;
use rustix::mount::MountPropagationFlags;
use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::thread::LinkNameSpaceType;
use rustix::thread::UnshareFlags;

use super::Supplies;
use super::disk;
use super::disk::DiskTemplate;
use super::profile::NativeProfile;
use super::rootfs;
use super::seccomp;
use super::spec;
use crate::builder;
use crate::builder::Built;
use crate::builder::Channel;
use crate::builder::out_of_the_way;
use crate::error::At;
use crate::error::BuildError;
use crate::error::Stage;
use crate::sys;
use crate::userns;

/// Any directory will do that every system has: it is covered in the builder's own namespace only.
const STAGING: &str = "/tmp";
const OPEN_FILES: u64 = 1024;
const MAX_OPEN_FILES: u64 = 65536;

/// Starts a builder.
pub(super) fn spawn(
    profile: &NativeProfile,
    supplies: Supplies<'_>,
    init_socket: &OwnedFd,
) -> Result<(Pid, Channel), BuildError> {
    builder::spawn(|report| run(profile, supplies, init_socket, report))
}

/// What the builder does.
fn run(
    profile: &NativeProfile,
    supplies: Supplies<'_>,
    init_socket: &OwnedFd,
    report: &Channel,
) -> Result<(), BuildError> {
    let stage = Stage::Prepare;
    let image = out_of_the_way(supplies.init.as_fd()).at(stage, "the program init")?;
    let template = match supplies.disk.map(DiskTemplate::parts) {
        None => None,
        Some([directory, image]) => {
            let parts = out_of_the_way(directory).and_then(|d| Ok([d, out_of_the_way(image)?]));
            Some(DiskTemplate::from_parts(parts.at(stage, "the template of the disk")?))
        }
    };
    builder::inherit(init_socket).at(stage, "descriptors")?;
    limit_resources().at(stage, "resource limits")?;
    sys::process::unshare(UnshareFlags::NEWNS).at(stage, "mount namespace")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).at(stage, "making mounts private")?;

    report.reached(Stage::Rootfs);
    let lower = rootfs::take(profile, |first| userns::make(first, profile.ids))
        .at(Stage::Rootfs, "what is shown of the host")?;
    stage_directory().at(stage, "staging directory")?;

    report.reached(Stage::Disk);
    disk::mount(Path::new("disk"), profile.disk_size, template.as_ref())
        .at(Stage::Disk, "mounting")?;
    report.reached(Stage::Rootfs);
    rootfs::assemble(profile, &lower).at(Stage::Rootfs, "putting it together")?;
    let lowers = lower.names();
    drop(lower);

    report.reached(Stage::Container);
    let mut container = create(profile, &image)?;
    let stage = Stage::Container;
    let pid = container.pid().and_then(|pid| Pid::from_raw(pid.as_raw()));
    let pid = pid.ok_or(BuildError { stage, message: "it has no process".to_owned() })?;

    report.reached(Stage::Terminals);
    let ptmx = format!("/proc/{}/root/dev/pts/ptmx", pid.as_raw_nonzero());
    let ptmx = builder::terminals(&ptmx).at(Stage::Terminals, "opening ptmx")?;
    // Only now: no process of the sandbox has ever had these descriptors.
    let layers = rootfs::layers(&lowers).at(Stage::Rootfs, "holding its layers")?;
    report.reached(Stage::Network);
    raise_loopback_of(pid).at(Stage::Network, "raising lo")?;
    report.reached(Stage::Start);
    container
        .start()
        .map_err(|error| BuildError { stage: Stage::Start, message: chain(&error) })?;
    report.done(&Built { pid, ptmx, layers: Some(layers) }).at(Stage::Start, "reporting")
}

/// Limits that are not the control groups' business; inherited by everything inside.
fn limit_resources() -> io::Result<()> {
    let limit = |soft, hard| Rlimit { current: Some(soft), maximum: Some(hard) };
    rustix::process::setrlimit(Resource::Core, limit(0, 0))?;
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(MAX_OPEN_FILES);
    let hard = hard.min(MAX_OPEN_FILES);
    Ok(rustix::process::setrlimit(Resource::Nofile, limit(OPEN_FILES.min(hard), hard))?)
}

/// Makes a file system that nobody else sees, and goes there.
fn stage_directory() -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", STAGING, "tmpfs", flags, c"mode=755,size=4m")?;
    std::env::set_current_dir(STAGING)?;
    ["disk", "bundle", "state"].iter().try_for_each(fs::create_dir)
}

/// Has the container library make the container, up to the point where `init` would be executed.
fn create(profile: &NativeProfile, image: &OwnedFd) -> Result<Container, BuildError> {
    let stage = Stage::Container;
    let root = Path::new(STAGING).join("root");
    let spec = spec::container(profile, &root).to_string();
    fs::write("bundle/config.json", spec).at(stage, "its description")?;
    let calls = seccomp::program().map_err(|message| BuildError { stage, message })?;
    ContainerBuilder::new(profile.id.clone(), SyscallType::Linux)
        .with_root_path(Path::new(STAGING).join("state"))
        .map(|builder| {
            builder
                .with_executor(ExecuteInit { image: image.as_raw_fd(), calls })
                // The socket, after the three standard ones.
                .with_preserved_fds(1)
                .as_init(Path::new(STAGING).join("bundle"))
                .with_systemd(false)
        })
        .and_then(|builder| builder.build())
        .map_err(|error| BuildError { stage, message: chain(&error) })
}

/// Executes the sealed file, which has no path inside or outside.
#[derive(Clone, Copy)]
struct ExecuteInit {
    image: RawFd,
    /// What it and all it starts may ask of the kernel.
    calls: &'static [libc::sock_filter],
}

impl Executor for ExecuteInit {
    fn exec(&self, _spec: &Spec) -> Result<(), ExecutorError> {
        // Capabilities are dropped, and there is no way to new privileges.
        let filtered = sys::seccomp::install(self.calls);
        filtered.map_err(|error| ExecutorError::Other(error.to_string()))?;
        Err(ExecutorError::Other(sys::process::execute(self.image, c"init").to_string()))
    }

    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}

fn raise_loopback_of(pid: Pid) -> io::Result<()> {
    let path = format!("/proc/{}/ns/net", pid.as_raw_nonzero());
    let namespace = fs::File::open(path)?;
    let kind = Some(LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?;
    sys::net::raise_loopback()
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_line = cause.to_string();
        if !line.contains(&cause_line) {
            line = format!("{line}: {cause_line}");
        }
        source = cause.source();
    }
    line
}
