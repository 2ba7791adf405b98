//! The SFTP subsystem: a client's requests become requests of the file helper, its answers become the
//! client's. Many are on their way at the same time, and answered in the order they came in.

mod answer;
mod ask;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod listing;
mod wire;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::mpsc;

use self::wire::Handle;
use crate::files::Answers;
use crate::files::Asking;
use crate::files::Client;
use crate::files::ClientGone;
use crate::files::HelperError;
use crate::files::Ledger;
use crate::files::Transfer;
use crate::gate::Gate;
use crate::gate::GateSession;

/// How many requests of a client are on their way to be answered.
const PENDING: usize = 128;

/// Why a client is not served any longer.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Helper(#[from] HelperError),
    #[error("a packet of {0} bytes is too long")]
    Long(usize),
    #[error("a packet cannot be read")]
    Unreadable,
    #[error(transparent)]
    Gone(#[from] ClientGone),
}

/// A request that waits for its answer.
struct Pending {
    id: u32,
    /// How many of the helper's answers belong to it.
    parts: usize,
    then: Then,
}

/// What its answer is made of.
enum Then {
    /// It is made already.
    Say(Vec<u8>),
    /// Where relative paths begin. Nobody asked but us.
    Home,
    Status,
    Open {
        path: Vec<u8>,
        flags: u32,
    },
    Opendir,
    Close(Handle),
    Read {
        handle: Handle,
        offset: u64,
        length: usize,
    },
    Write(Handle),
    /// A copy to this file.
    Copy(Handle),
    Attributes,
    Path,
    Names,
    Room,
}

/// What both directions know.
struct Desk<G: Gate> {
    open: HashMap<Handle, Open<G>>,
    /// Files and directories that are being opened.
    opening: usize,
    next: Handle,
    home: Vec<u8>,
}

/// A file or directory that is open.
struct Open<G: Gate> {
    /// The helper's number of it.
    helper: u32,
    /// Where it is, for the record.
    path: Vec<u8>,
    /// With what flags it was opened; none is a directory.
    flags: Option<u32>,
    /// The client has asked to close it.
    closing: bool,
    read: Option<Transfer<G>>,
    written: Option<Transfer<G>>,
}

/// Serves a client until it sends no more and all is answered; gives the exit status.
pub(crate) async fn serve<G: Gate>(
    client: Client,
    asking: Asking<<G::Session as GateSession>::Input>,
    answers: &mut Answers<<G::Session as GateSession>::Output>,
    ledger: &Ledger<G>,
) -> u32 {
    let desk = Mutex::new(Desk::new());
    let (pending, waiting) = mpsc::channel(PENDING);
    let to = client.sender();
    let asked = ask::run(&desk, ledger, client, asking, pending);
    let answered = answer::run(&desk, ledger, answers, waiting, to);
    tokio::pin!(asked, answered);
    let served = tokio::select! {
        // Whatever was asked is answered first.
        asked = &mut asked => answered.await.and(asked),
        answered = &mut answered => answered,
    };
    match served {
        Ok(()) => 0,
        Err(broken) => {
            tracing::debug!(%broken, "sftp broke off");
            1
        }
    }
}

impl<G: Gate> Desk<G> {
    fn new() -> Self {
        Self { open: HashMap::new(), opening: 0, next: 0, home: b"/".to_vec() }
    }

    /// The path from the root, for the record.
    fn absolute(&self, path: &[u8]) -> Vec<u8> {
        if path.starts_with(b"/") {
            return path.to_vec();
        }
        let home = self.home.strip_suffix(b"/").unwrap_or(&self.home);
        [home, b"/", path.strip_prefix(b"./").unwrap_or(path)].concat()
    }

    /// What is open under this handle, and not being closed.
    fn open(&mut self, handle: Handle) -> Option<&mut Open<G>> {
        self.open.get_mut(&handle).filter(|open| !open.closing)
    }
}

fn lock<G: Gate>(desk: &Mutex<Desk<G>>) -> MutexGuard<'_, Desk<G>> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}
