//! Which session somebody means, and whether they may: the one question every door asks before it
//! touches a session.

use sojourn_core::authz::Answer;
use sojourn_core::authz::Asker;
use sojourn_core::authz::Deed;
use sojourn_core::authz::Ownership;
use sojourn_core::authz::may;
use sojourn_core::ids::SHORTEST_ENDING;
use sojourn_core::ids::SessionId;
use sojourn_store::Session as Kept;

use crate::engine::Engine;
use crate::listing::StoreUnavailable;
use crate::view::SessionView;

/// The most sessions that are looked at when only an ending is given.
const MOST_MEANT: u32 = 20;

/// Why somebody does not get at a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// There is none.
    #[error("there is no such session")]
    Unknown,
    /// There is one, and they are told that there is none.
    #[error("there is no such session")]
    Hidden,
    /// They may know of it, and not do that.
    #[error("you may not do this to that session")]
    Forbidden,
    /// More than one that they may know of ends so.
    #[error("more than one session ends so")]
    Ambiguous(Vec<SessionId>),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl Engine {
    /// The session that somebody names by its id or an ending of it, when they may do this to it.
    /// Sessions they may not know of do not exist for them.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub async fn admit(
        &self,
        asker: Asker,
        deed: Deed,
        typed: &str,
    ) -> Result<SessionView, NotAdmitted> {
        let meant = self.meant(typed).await?;
        let is_any = !meant.is_empty();
        let known: Vec<Kept> = meant
            .into_iter()
            .filter(|session| may(asker, Deed::Read, ownership(session)) != Answer::Hidden)
            .collect();
        let session = match <[Kept; 1]>::try_from(known) {
            Ok([session]) => session,
            Err(none) if none.is_empty() => {
                return Err(if is_any { NotAdmitted::Hidden } else { NotAdmitted::Unknown });
            }
            Err(many) => {
                let ids = many.into_iter().map(|session| session.new.id).collect();
                return Err(NotAdmitted::Ambiguous(ids));
            }
        };
        match may(asker, deed, ownership(&session)) {
            Answer::Allowed => Ok(self.view(session).await),
            Answer::Forbidden => Err(NotAdmitted::Forbidden),
            Answer::Hidden => Err(NotAdmitted::Hidden),
        }
    }

    async fn meant(&self, typed: &str) -> Result<Vec<Kept>, StoreUnavailable> {
        let store = self.inner.records.store();
        if let Ok(id) = typed.parse::<SessionId>() {
            return Ok(store.session(id).await?.into_iter().collect());
        }
        let is_ending = typed.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if !is_ending || !(SHORTEST_ENDING..=36).contains(&typed.len()) {
            return Ok(Vec::new());
        }
        Ok(store.sessions_ending_in(typed, MOST_MEANT).await?)
    }
}

fn ownership(session: &Kept) -> Ownership {
    Ownership { owner: session.new.user, remote: session.new.remote.is_some() }
}
