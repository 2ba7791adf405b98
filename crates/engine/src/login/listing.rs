//! Logins as their person, or an admin, sees them.

use std::net::IpAddr;

use sojourn_core::ids::LoginId;
use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;

use super::Logins;
use super::device::device;
use super::login::Deadlines;
use super::login::Login;
use crate::identity::Methods;
use crate::identity::Unavailable;

/// A login, without anything that opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginView {
    /// Its public id.
    pub id: LoginId,
    /// When it was begun.
    pub created_at: Wall,
    /// When its person last proved who they are.
    pub authenticated_at: Wall,
    /// When something was last done with it.
    pub last_seen_at: Wall,
    /// Until when it is good.
    pub deadlines: Deadlines,
    /// How they proved it.
    pub methods: Methods,
    /// From which address it was begun.
    pub address: IpAddr,
    /// What people call the browser.
    pub device: String,
}

impl Logins {
    /// A user's logins that are good now, the last seen first.
    ///
    /// # Errors
    /// When that cannot be told just now.
    pub async fn list(&self, user: UserId) -> Result<Vec<LoginView>, Unavailable> {
        if self.is_blind() {
            return Err(Unavailable::Store);
        }
        let now = self.now();
        let theirs = self.inner.shelf.of(user);
        let good = theirs.iter().filter(|login| login.judge(now).is_none());
        let mut views: Vec<_> = good.map(|login| view(login, now)).collect();
        views.sort_by_key(|view| std::cmp::Reverse((view.last_seen_at, view.id)));
        Ok(views)
    }
}

fn view(login: &Login, now: Wall) -> LoginView {
    LoginView {
        id: login.id(),
        created_at: login.created_at(),
        authenticated_at: login.authenticated_at(),
        last_seen_at: login.last_seen(),
        deadlines: login.deadlines(now),
        methods: login.methods(),
        address: login.begun_from().address(),
        device: device(login.begun_from().user_agent()),
    }
}
