//! Somebody who has proved who they are at the web door, and from where.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use sojourn_core::audit::Actor;
use sojourn_core::audit::ActorKind;
use sojourn_core::authz::Role;
use sojourn_core::ids::UserId;
use sojourn_store::User;

use super::cut;

/// Where a request comes from: the peer, or what a trusted proxy says of it. Its texts are bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    address: IpAddr,
    user_agent: String,
}

impl Client {
    /// A client at this address, by its own name.
    #[must_use]
    pub fn new(address: IpAddr, user_agent: &str) -> Self {
        Self { address: address.to_canonical(), user_agent: cut(user_agent).to_owned() }
    }

    /// Its address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Its own name, as it sent it.
    #[must_use]
    pub fn user_agent(&self) -> &str {
        &self.user_agent
    }

    /// Somebody at this client, for the record; `user` is the name they have or claim.
    #[must_use]
    pub fn actor(&self, user: &str) -> Actor {
        let mut actor = Actor::new(ActorKind::Browser);
        actor.user = Some(cut(user).to_owned());
        actor.ip_address = Some(self.address);
        actor.with_user_agent(&self.user_agent)
    }
}

/// A way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// A password.
    Password,
    /// A code of the moment.
    Totp,
    /// A recovery code.
    Recovery,
}

impl Method {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Password, Self::Totp, Self::Recovery];

    /// The name in the store, the API and the audit log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Totp => "totp",
            Self::Recovery => "recovery",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The ways somebody proved who they are. As text: the names, with commas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Methods(u8);

impl Methods {
    /// The same with one more.
    #[must_use]
    pub const fn with(self, method: Method) -> Self {
        Self(self.0 | method.bit())
    }

    /// Whether it is one of them.
    #[must_use]
    pub const fn has(self, method: Method) -> bool {
        self.0 & method.bit() != 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL.into_iter().filter(move |method| self.has(*method))
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Method::name).collect();
        f.write_str(&names.join(","))
    }
}

/// Not the name of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a way to sign in")]
pub struct UnknownMethod;

impl FromStr for Methods {
    type Err = UnknownMethod;

    fn from_str(text: &str) -> Result<Self, UnknownMethod> {
        let names = text.split(',').filter(|name| !name.is_empty());
        names
            .map(|name| Method::ALL.into_iter().find(|m| m.name() == name))
            .try_fold(Self::default(), |all, method| Ok(all.with(method.ok_or(UnknownMethod)?)))
    }
}

/// Somebody who has just proved who they are. Only [`super::Identity`] makes one; a login is begun
/// with it, and only while the account's epoch is still the one the proof was made under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    user: UserId,
    name: String,
    role: Role,
    must_change: bool,
    methods: Methods,
    epoch: i64,
}

impl SignedIn {
    pub(crate) fn new(user: &User, methods: Methods) -> Self {
        Self {
            user: user.id,
            name: user.name.clone(),
            role: user.role,
            must_change: user.must_change,
            methods,
            epoch: user.epoch,
        }
    }

    /// Their account.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it may do.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Whether the password was made by the program and should be changed.
    #[must_use]
    pub const fn must_change(&self) -> bool {
        self.must_change
    }

    /// How they proved it.
    #[must_use]
    pub const fn methods(&self) -> Methods {
        self.methods
    }

    /// The account's epoch when they did.
    #[must_use]
    pub const fn epoch(&self) -> i64 {
        self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_a_set_and_come_back_from_their_text() {
        let none = Methods::default();
        let both = none.with(Method::Totp).with(Method::Password).with(Method::Totp);
        assert_eq!(both.to_string(), "password,totp");
        assert!(both.has(Method::Password) && !both.has(Method::Recovery));
        for methods in [none, both, both.with(Method::Recovery)] {
            assert_eq!(methods.to_string().parse(), Ok(methods));
        }
        assert_eq!("password,magic".parse::<Methods>(), Err(UnknownMethod));
    }

    #[test]
    fn a_client_is_bounded() {
        let client = Client::new("::ffff:192.0.2.1".parse().unwrap(), &"x".repeat(10_000));
        assert_eq!(client.address().to_string(), "192.0.2.1");
        assert_eq!(client.user_agent().len(), super::super::LONGEST_TEXT);
    }
}
