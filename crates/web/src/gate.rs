//! What all handlers share, and the one way in which they get at a session.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use sojourn_core::authz::Deed;
use sojourn_core::authz::General;
use sojourn_core::authz::may_in_general;
use sojourn_engine::Engine;
use sojourn_engine::view::SessionView;

use crate::answer::Refused;
use crate::caller::Caller;
use crate::origin::Origin;
use crate::standin::Logins;
use crate::standin::Tokens;

/// What handlers need. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    origin: Origin,
    recordings: PathBuf,
}

impl Gate {
    /// A gate before this engine, which browsers see under `origin`.
    #[must_use]
    pub fn new(engine: Engine, origin: Origin, recordings: PathBuf) -> Self {
        let inner = Inner { engine, origin, recordings };
        Self { inner: Arc::new(inner) }
    }

    /// Sessions, accounts, the audit log.
    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// What browsers see this gateway as.
    pub(crate) fn origin(&self) -> &Origin {
        &self.inner.origin
    }

    /// Where recordings are.
    pub(crate) fn recordings(&self) -> &Path {
        &self.inner.recordings
    }

    /// All logins.
    pub(crate) fn logins(&self) -> &Logins {
        self.inner.engine.logins()
    }

    /// All API tokens.
    pub(crate) fn tokens(&self) -> &Tokens {
        self.inner.engine.tokens()
    }

    /// The session that a path names, when the caller may do this to it. One that they may not know of
    /// is answered as one that never was.
    pub(crate) async fn admit(
        &self,
        caller: &Caller,
        deed: Deed,
        named: &str,
    ) -> Result<SessionView, Refused> {
        Ok(self.engine().admit(caller.asker(), deed, named).await?)
    }

    /// Whether the caller may do what concerns no single session.
    pub(crate) fn admit_in_general(&self, caller: &Caller, deed: General) -> Result<(), Refused> {
        match may_in_general(caller.asker(), deed).is_allowed() {
            true => Ok(()),
            false => Err(Refused::Forbidden("your role may not do this")),
        }
    }
}
