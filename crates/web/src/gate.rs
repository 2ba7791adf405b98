//! What all handlers share, and the one way in which they get at a session.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use sojourn_core::authz::Deed;
use sojourn_core::authz::General;
use sojourn_core::authz::may_in_general;
use sojourn_engine::Engine;
use sojourn_engine::identity::Client;
use sojourn_engine::login::Login;
use sojourn_engine::login::LoginEnd;
use sojourn_engine::login::Logins;
use sojourn_engine::tokens::Tokens;
use sojourn_engine::view::SessionView;

use crate::answer::Denied;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::ONLY_A_PERSON;
use crate::caller::Who;
use crate::denials;
use crate::denials::Wanted;
use crate::notices::Notices;
use crate::notices::Why;
use crate::origin::Origin;
use crate::push::Push;
use crate::readings::Readings;
use crate::settings::Settings;

/// How often it is looked whether a token is still good.
const LOOK: Duration = Duration::from_secs(1);

/// What handlers need. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    origin: Origin,
    recordings: PathBuf,
    settings: RwLock<Arc<Settings>>,
    notices: Notices,
    readings: Readings,
    push: OnceLock<Push>,
}

impl Gate {
    /// A gate before this engine, which browsers see under `origin`.
    #[must_use]
    pub fn new(engine: Engine, origin: Origin, recordings: PathBuf, settings: Settings) -> Self {
        let inner = Inner {
            engine,
            origin,
            recordings,
            settings: RwLock::new(Arc::new(settings)),
            notices: Notices::default(),
            readings: Readings::default(),
            push: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Browsers are told like this when an agent waits.
    #[must_use]
    pub fn with_push(self, push: Push) -> Self {
        // A second one changes nothing.
        let _first = self.inner.push.set(push);
        self
    }

    /// How browsers are told, where they are.
    pub(crate) fn push(&self) -> Option<&Push> {
        self.inner.push.get()
    }

    /// Other settings, from the next request on.
    pub fn set_settings(&self, settings: Settings) {
        let place = &self.inner.settings;
        *place.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// What the operator has decided.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.inner.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something was refused before anybody was known.
    pub(crate) fn note(&self, why: Why, client: &Client) {
        self.inner.notices.note(why, client, &self.inner.engine);
    }

    /// Somebody known asked for what they may not have.
    pub(crate) fn note_denied(&self, caller: &Caller, wanted: Wanted<'_>, how: Denied) {
        denials::note(caller, wanted, how, &self.inner.engine);
    }

    /// Who reads whose conversation.
    pub(crate) fn readings(&self) -> &Readings {
        &self.inner.readings
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

    /// The caller's login, if its person proved who they are a short while ago.
    pub(crate) fn fresh<'a>(&self, caller: &'a Caller) -> Result<&'a Arc<Login>, Refused> {
        match caller.login() {
            Some(login) if login.is_fresh(self.logins().now()) => Ok(login),
            Some(_) => Err(Refused::ReauthRequired),
            None => Err(Refused::Forbidden(ONLY_A_PERSON)),
        }
    }

    /// Resolves when the caller's right to be there is gone, within a second or two of that.
    pub(crate) async fn ended(&self, caller: &Caller) -> LoginEnd {
        match caller.who() {
            Who::Login(login) => login.ended().await,
            Who::Token(token) => {
                loop {
                    tokio::time::sleep(LOOK).await;
                    // A store that does not answer is no reason to end anything.
                    if let Ok(false) = self.tokens().still_stands(token.id).await {
                        return LoginEnd::Revoked;
                    }
                }
            }
            Who::Local { .. } => std::future::pending().await,
        }
    }
}
