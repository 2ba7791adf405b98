//! Where connections to the built-in runner come from: one that was there already, then the zygote's.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::net::AddressFamily;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use sojourn_engine::Engine;
use sojourn_shim::zygote::FromZygote;
use sojourn_shim::zygote::GatewayEnd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::failure::Failure;

/// What the zygote told while its runner was still being served: that it ended, and the next one.
const MOST_TOLD: usize = 8;

/// Connections to runners, one after the other.
pub(crate) struct RunnerSource {
    zygote: GatewayEnd,
    living: Option<OwnedFd>,
}

impl RunnerSource {
    /// Connects to a runner that outlived the gateway before this one, or has one started. Before root's
    /// rights are dropped, and with the data directory's lock held.
    pub(crate) fn begin(zygote: GatewayEnd, data_dir: &Path) -> Result<Self, Failure> {
        let living = connect(data_dir).ok();
        let source = Self { zygote, living };
        if source.living.is_none() {
            source.start()?;
        }
        Ok(source)
    }

    fn start(&self) -> Result<(), Failure> {
        self.zygote.start_runner().map_err(gone)
    }

    /// Gives each runner to the engine, one after the other; returns when the last one has ended after
    /// the engine was shut down.
    pub(crate) async fn serve(self, engine: Engine) -> Result<(), Failure> {
        let Self { zygote, living } = self;
        #[expect(
            deprecated,
            reason = "the new way is unsafe for a type that may lose its descriptor; this one owns it"
        )]
        let zygote = AsyncFd::with_interest(zygote, Interest::READABLE).map_err(gone)?;
        let mut told = VecDeque::new();
        if let Some(socket) = living {
            heed(&zygote, engine.serve_runner(socket), &mut told).await?;
            if engine.shutdown().is_cancelled() {
                return Ok(());
            }
            zygote.get_ref().start_runner().map_err(gone)?;
        }
        loop {
            let event = match told.pop_front() {
                Some(event) => event,
                None => next(&zygote).await?,
            };
            match event {
                FromZygote::RunnerBorn { socket, .. } => {
                    heed(&zygote, engine.serve_runner(socket), &mut told).await?;
                }
                FromZygote::RunnerGone { pid, status } => {
                    if engine.shutdown().is_cancelled() {
                        return Ok(());
                    }
                    tracing::warn!(pid, status, "the runner ended");
                    if status == 0 {
                        zygote.get_ref().start_runner().map_err(gone)?;
                    }
                }
            }
        }
    }
}

/// Serves a runner to its end, and hears the zygote meanwhile: without that one no sandbox can be made,
/// whoever else still lives.
async fn heed(
    zygote: &AsyncFd<GatewayEnd>,
    serving: impl Future<Output = ()>,
    told: &mut VecDeque<FromZygote>,
) -> Result<(), Failure> {
    tokio::pin!(serving);
    loop {
        tokio::select! {
            () = &mut serving => return Ok(()),
            event = next(zygote), if told.len() < MOST_TOLD => told.push_back(event?),
        }
    }
}

async fn next(zygote: &AsyncFd<GatewayEnd>) -> Result<FromZygote, Failure> {
    let event = zygote.async_io(Interest::READABLE, GatewayEnd::next).await.map_err(gone)?;
    event.ok_or_else(|| gone(io::ErrorKind::UnexpectedEof.into()))
}

fn gone(error: io::Error) -> Failure {
    Failure::Refused(format!("the zygote is gone, so no sandbox can be made any more: {error}"))
}

/// Connects to the socket of a living runner and makes sure that it is root's, or ours where nobody is
/// root.
fn connect(data_dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let sessions = rustix::fs::open(data_dir.join("sessions"), flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/runner.sock", sessions.as_raw_fd());
    let (unix, seqpacket) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let socket = rustix::net::socket_with(unix, seqpacket, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let peer = rustix::net::sockopt::socket_peercred(&socket)?;
    let is_ours = peer.uid == rustix::process::geteuid();
    if is_ours { Ok(socket) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}
