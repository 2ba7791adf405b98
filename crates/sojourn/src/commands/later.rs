//! Commands that have their names already, and are not built yet.

use crate::failure::Failure;
use crate::failure::Outcome;

/// Says that a command is not there yet.
pub(super) fn refuse(command: &str) -> Outcome {
    Err(Failure::refused(format!(
        "\"{command}\" is not in this version; \"sojourn --help\" lists what is"
    )))
}
