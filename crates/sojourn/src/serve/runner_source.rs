//! Where connections to the built-in runner come from: one that was there already, then the zygote's.

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

/// Connections to runners, one after the other.
pub(crate) struct RunnerSource {
    zygote: GatewayEnd,
    living: Option<OwnedFd>,
}

impl RunnerSource {
    /// Connects to a runner that outlived the gateway before this one, or has one started. As root,
    /// with the data directory's lock held.
    pub(crate) fn begin(zygote: GatewayEnd, data_dir: &Path) -> Result<Self, Failure> {
        let living = connect(data_dir).ok();
        let source = Self { zygote, living };
        if source.living.is_none() {
            source.start()?;
        }
        Ok(source)
    }

    fn start(&self) -> Result<(), Failure> {
        self.zygote
            .start_runner()
            .map_err(|error| Failure::Refused(format!("the zygote is gone: {error}")))
    }

    /// Gives each runner to the engine, one after the other; returns when the last one has ended after
    /// the engine was shut down.
    pub(crate) async fn serve(mut self, engine: Engine) -> Result<(), Failure> {
        if let Some(socket) = self.living.take() {
            engine.serve_runner(socket).await;
            if engine.shutdown().is_cancelled() {
                return Ok(());
            }
            self.start()?;
        }
        let gone =
            |error: io::Error| Failure::Refused(format!("no runner can be started: {error}"));
        #[expect(
            deprecated,
            reason = "the new way is unsafe for a type that may lose its descriptor; this one owns it"
        )]
        let zygote = AsyncFd::with_interest(self.zygote, Interest::READABLE).map_err(gone)?;
        loop {
            match zygote.async_io(Interest::READABLE, |zygote| zygote.next()).await.map_err(gone)? {
                Some(FromZygote::RunnerBorn { socket, .. }) => engine.serve_runner(socket).await,
                Some(FromZygote::RunnerGone { pid, status }) => {
                    if engine.shutdown().is_cancelled() {
                        return Ok(());
                    }
                    tracing::warn!(pid, status, "the runner ended");
                    if status == 0 {
                        zygote.get_ref().start_runner().map_err(gone)?;
                    }
                }
                None => return Err(gone(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }
}

/// Connects to the socket of a living runner and makes sure that it is root's.
fn connect(data_dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let sessions = rustix::fs::open(data_dir.join("sessions"), flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/runner.sock", sessions.as_raw_fd());
    let (unix, seqpacket) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let socket = rustix::net::socket_with(unix, seqpacket, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let peer = rustix::net::sockopt::socket_peercred(&socket)?;
    if peer.uid.is_root() { Ok(socket) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}
