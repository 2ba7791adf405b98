//! What people type into a terminal on a runner, on its way there.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::wire::relay;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::cost;
use tokio::sync::mpsc;

use crate::remote::Remote;
use crate::seqpacket::SeqPacket;

/// What Ctrl-C types.
const INTERRUPT: u8 = 0x03;

/// Something for the terminal.
#[derive(Debug)]
pub(super) enum Typed {
    /// What somebody typed, on credit.
    Input(Vec<u8>),
    /// What the interrupt key types.
    Interrupt,
}

/// Types what was typed, and gives the credit for it back when it is on its way.
pub(super) struct Typing {
    pub(super) remote: Remote,
    pub(super) runner: RunnerId,
    pub(super) session: SessionId,
    pub(super) link: Arc<SeqPacket>,
    pub(super) spent: Arc<AtomicU32>,
}

impl Typing {
    pub(super) async fn run(self, mut typed: mpsc::Receiver<Typed>) {
        let mut frame = Vec::new();
        while let Some(typed) = typed.recv().await {
            match typed {
                Typed::Interrupt => self.send(&[INTERRUPT]).await,
                Typed::Input(bytes) => {
                    // What is typed while the runner is away goes nowhere, as at a dead line.
                    self.send(&bytes).await;
                    let back = cost(bytes.len());
                    self.spent.fetch_sub(back, Ordering::AcqRel);
                    FromShim::InputCredit(0, back).encode(&mut frame);
                    let _over = self.link.send(&frame).await;
                }
            }
        }
    }

    async fn send(&self, bytes: &[u8]) {
        for part in bytes.chunks(relay::MAX_BYTES) {
            let part = relay::Bytes { session: self.session, offset: 0, bytes: part };
            self.remote.type_in(self.runner, part.encode()).await;
        }
    }
}
