//! The first account, and the few lines that say how to come in.

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use sojourn_engine::clock::Clock;
use sojourn_engine::identity::FIRST_ADMIN_FILE;
use sojourn_engine::identity::FirstAdmin;
use sojourn_engine::identity::ensure_first_admin;
use sojourn_store::Store;

use super::doors::Listening;
use super::gateway::Source;
use crate::failure::Failure;

/// Makes the first account when there is none. Its password goes to the terminal, where there is one,
/// or into a file that only root and the gateway's user can read.
pub(super) async fn ensure(
    store: &Store,
    data_dir: &Path,
    clock: &dyn Clock,
) -> Result<Option<FirstAdmin>, Failure> {
    let made =
        ensure_first_admin(store, clock.wall()).await.map_err(|error| Failure::caused(&error))?;
    if let Some(admin) = &made
        && !io::stdout().is_terminal()
    {
        admin.write(data_dir).map_err(|error| Failure::at(data_dir, error))?;
        let file = data_dir.join(FIRST_ADMIN_FILE);
        tracing::info!(file = %file.display(), "the first admin's password is in a file");
    }
    Ok(made)
}

/// Says how to come in.
pub(super) fn welcome(listening: &Listening, admin: Option<FirstAdmin>, source: &Source) {
    let has_sandboxes = source.is_roots;
    let named = source.file.as_deref().filter(|file| !crate::config::is_standard(file));
    let with = named.map(|file| format!(" --config {}", file.display())).unwrap_or_default();
    let mut out = io::stdout().lock();
    let on_terminal = out.is_terminal();
    // Nobody may be reading; the gateway runs all the same.
    let _unread = (|| {
        if let Some(admin) = admin.filter(|_| on_terminal) {
            writeln!(out, "{admin}")?;
        }
        if let Some(url) = &listening.web {
            writeln!(out, "come in by web:  open {url}")?;
        }
        if let Some(fingerprint) = &listening.fingerprint {
            writeln!(out, "its certificate: SHA-256 {fingerprint}")?;
        }
        for address in &listening.ssh {
            let (port, host) = (address.port(), host(*address));
            match has_sandboxes {
                true => writeln!(out, "come in by SSH:  ssh -p {port} admin@{host}")?,
                false => writeln!(out, "come in by SSH:  ssh -t -p {port} admin+RUNNER:@{host}")?,
            }
        }
        if let (Some(url), false) = (&listening.web, has_sandboxes) {
            writeln!(
                out,
                "first a runner:  (umask 77; sojourn token create --runner RUNNER > FILE)"
            )?;
            writeln!(out, "                 sojourn runner --gateway {url} --token-file FILE")?;
        }
        writeln!(out, "look around:     sojourn session ls{with}   sojourn audit tail -f{with}")?;
        out.flush()
    })();
}

/// Where somebody on this machine finds a listener.
fn host(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { address.ip().to_string() }
}
