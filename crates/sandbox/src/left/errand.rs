//! The runner's side: has a keeper forked, tells it what to keep, and waits for its word.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::Signal;
use sojourn_shim::control;
use sojourn_shim::layers::Layers;
use sojourn_shim::seqpacket;

use super::Order;
use super::Report;
use crate::forge::Forge;
use crate::packets::Packets;

/// How much longer than its order says a keeper may take: it may wait for one that was there before.
const SLACK: Duration = Duration::from_secs(60);

/// Has what a session left kept below `kept`. A keeper that was asked goes on when the caller does not.
///
/// # Errors
/// When there is no keeper, or it says nothing in time: it is killed then.
pub async fn keep(
    forge: &Forge,
    kept: &OwnedFd,
    order: &Order,
    layers: &Layers,
) -> io::Result<Report> {
    let (ours, theirs) = seqpacket::pair()?;
    let born = forge.fork_keeper(theirs.as_fd()).await?;
    drop(theirs);
    let control = Packets::new(ours)?;
    let mut fds = vec![kept.as_fd()];
    fds.extend(layers.parts());
    let word = async {
        control.write(|socket| control::send(socket, order, &fds)).await?;
        control.read(|socket| control::recv::<Report>(socket)).await
    };
    match tokio::time::timeout(order.bounds.time + SLACK, word).await {
        Ok(Ok(Some((report, _)))) => Ok(report),
        Ok(Ok(None)) => Err(io::Error::other("its keeper left without a word")),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            let _gone = rustix::process::pidfd_send_signal(&born.pidfd, Signal::KILL);
            Err(io::ErrorKind::TimedOut.into())
        }
    }
}
