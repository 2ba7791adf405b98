//! What the task of a session asks of what stands in for its shim.

use std::sync::Arc;
use std::time::Duration;

use sojourn_core::end::EndReason;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::ToShim;
use sojourn_core::wire::shim::WindowSize;
use tokio::sync::mpsc;

use crate::seqpacket::SeqPacket;

/// A frame of the session's task that owns what it carries.
#[derive(Debug)]
pub(super) enum Asked {
    Hello,
    /// A program: in which channel, whether it is a shell on a terminal, of which size, and how much
    /// may be sent of what it prints.
    Start(u16, bool, WindowSize, u32),
    Input(Vec<u8>),
    Credit(u32),
    Resize(WindowSize),
    Interrupt,
    Close,
    Move(Duration),
    End(EndReason),
    Query,
    Attach(u16, u32),
    Detach,
    Locate(u16),
    Listen(u16),
    Nothing,
}

/// Reads what the session's task asks. Apart, so that neither waits for the other to read.
pub(super) async fn read(link: Arc<SeqPacket>, tell: mpsc::Sender<Asked>) {
    while let Ok(Some(asked)) = link.recv(|bytes, _no_descriptors| own(bytes)).await {
        if tell.send(asked).await.is_err() {
            return;
        }
    }
}

/// Takes a frame out of the shared buffer.
fn own(bytes: &[u8]) -> Asked {
    match ToShim::decode(bytes) {
        Ok(ToShim::Hello { .. }) => Asked::Hello,
        Ok(ToShim::Start(channel, spec)) => {
            let size = spec.pty.as_ref().map(|pty| pty.size).unwrap_or_default();
            let is_shell = spec.program == Program::Shell && spec.pty.is_some();
            Asked::Start(channel, is_shell, size, spec.credit)
        }
        Ok(ToShim::Input(0, bytes)) => Asked::Input(bytes.to_vec()),
        Ok(ToShim::Credit(0, more)) => Asked::Credit(more),
        Ok(ToShim::Resize(0, size)) => Asked::Resize(size),
        Ok(ToShim::Signal(0, name)) if name == "INT" => Asked::Interrupt,
        Ok(ToShim::Close(0)) => Asked::Close,
        Ok(ToShim::MoveDeadline(left)) => Asked::Move(left),
        Ok(ToShim::End(request)) => Asked::End(request.reason),
        Ok(ToShim::Query) => Asked::Query,
        Ok(ToShim::Attach(channel, credit)) => Asked::Attach(channel, credit),
        Ok(ToShim::Detach(_)) => Asked::Detach,
        Ok(ToShim::Locate(channel)) => Asked::Locate(channel),
        Ok(ToShim::Listen(listener, _)) => Asked::Listen(listener),
        Ok(_) => Asked::Nothing,
        Err(error) => {
            tracing::error!(%error, "a frame for a stand-in makes no sense");
            Asked::Nothing
        }
    }
}
