//! The far side of `scp` as it was before it spoke SFTP (`scp -O`): served here, so that it needs
//! nothing in the sandbox and every file is on record.

mod command;
mod expand;
mod far;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod pattern;
mod sink;
mod source;

pub(crate) use command::Command;

use self::command::Side;
use self::far::Broken;
use self::far::Far;
use crate::files::Answers;
use crate::files::Asking;
use crate::files::Client;
use crate::files::Ledger;
use crate::gate::Gate;
use crate::gate::GateSession;

/// Serves a client; gives the exit status.
pub(crate) async fn serve<G: Gate>(
    command: &Command,
    client: Client,
    asking: Asking<<G::Session as GateSession>::Input>,
    answers: &mut Answers<<G::Session as GateSession>::Output>,
    ledger: &Ledger<G>,
) -> u32 {
    let mut far = Far::new(client, asking, answers, ledger);
    match run(&mut far, command).await {
        Ok(()) => u32::from(far.has_erred()),
        Err(Broken::Fatal) => 1,
        Err(broken) => {
            tracing::debug!(%broken, "scp broke off");
            1
        }
    }
}

async fn run<G: Gate>(far: &mut Far<'_, G>, command: &Command) -> Result<(), Broken> {
    far.find_home().await?;
    match command.side {
        Side::Sink => sink::serve(far, command).await,
        Side::Source => source::serve(far, command).await,
    }
}
