//! What the library refuses without asking: certificates that are over, or whose signature does not
//! hold. It says so nowhere but in its own log, so this listens there.
//!
//! A connection's sign-in runs in one task, by which its part of the log is known.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::Once;
use std::sync::PoisonError;

use log::LevelFilter;
use log::Log;
use log::Metadata;
use log::Record;
use tokio::task;

/// The library's words, and ours.
const WORDS: [(&str, &str); 2] = [
    ("Certificate is expired or not yet valid", "expired or not yet valid"),
    ("Certificate signature is invalid", "signature does not hold"),
];

type Told = Box<dyn Fn(&'static str) + Send>;

static EARS: LazyLock<Mutex<HashMap<task::Id, Told>>> = LazyLock::new(Mutex::default);

/// Listens for one connection, as long as it lives.
#[derive(Debug)]
pub(crate) struct Ear(task::Id);

impl Ear {
    /// `told` hears why something was refused. To be called in the task of the sign-in.
    pub(crate) fn new(told: impl Fn(&'static str) + Send + 'static) -> Option<Self> {
        let id = task::try_id()?;
        ears().insert(id, Box::new(told));
        Some(Self(id))
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        ears().remove(&self.0);
    }
}

/// Begins to listen, once for all doors.
pub(crate) fn listen() {
    static BEGIN: Once = Once::new();
    BEGIN.call_once(|| match log::set_logger(&LibraryLog) {
        Ok(()) => log::set_max_level(LevelFilter::Warn),
        Err(_) => tracing::warn!("certificates that are over are refused without a record"),
    });
}

/// The library's log. Nothing of it goes anywhere else, as before.
struct LibraryLog;

impl Log for LibraryLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("russh")
    }

    fn log(&self, record: &Record<'_>) {
        let said = record.args().as_str().filter(|_| self.enabled(record.metadata()));
        let meant = said.and_then(|said| WORDS.iter().find(|(words, _)| *words == said));
        if let Some((_, why)) = meant
            && let Some(id) = task::try_id()
            && let Some(told) = ears().get(&id)
        {
            told(why);
        }
    }

    fn flush(&self) {}
}

fn ears() -> MutexGuard<'static, HashMap<task::Id, Told>> {
    EARS.lock().unwrap_or_else(PoisonError::into_inner)
}
