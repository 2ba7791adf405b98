//! Signing in: what is tried, what is answered, and when there have been tries enough.
//!
//! Nothing is carried from one try to the next but their number, so a client may change its name, its
//! method or its mind at any time.

use std::sync::Arc;

use russh::keys::Algorithm;
use russh::keys::HashAlg;
use russh::keys::ssh_key;
use russh::keys::ssh_key::public::KeyData;
use russh::server::Auth;
use russh::server::Handle;
use russh::server::PublicKeyOffer;
use russh::server::VerifiedPublicKey;
use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::wire::runner::Attempt;
use sojourn_engine::identity::Principal;

use crate::caller;
use crate::caller::Terms;
use crate::caller::Wish;
use crate::config::methods;
use crate::connection::Connection;
use crate::connection::Guest;
use crate::gate::Caller;
use crate::gate::Certificate;
use crate::gate::Gate;

/// What every connection of a door is held to.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) banner: String,
    pub(crate) max_auth_tries: usize,
    pub(crate) user_cas: Vec<KeyData>,
}

/// One connection's way in.
pub(crate) struct SignIn<G: Gate> {
    connection: Arc<Connection<G>>,
    rules: Arc<Rules>,
    attempts: Vec<Attempt>,
    refused: usize,
    admitted: Option<(Principal, Wish, Terms)>,
}

impl<G: Gate> SignIn<G> {
    pub(crate) fn new(connection: Arc<Connection<G>>, rules: Arc<Rules>) -> Self {
        Self { connection, rules, attempts: Vec::new(), refused: 0, admitted: None }
    }

    /// Clients ask which methods there are, which is no attempt at anything.
    pub(crate) fn question() -> Auth {
        refusal()
    }

    pub(crate) async fn password(&mut self, user: &str, password: &str) -> Auth {
        if self.is_spent() {
            return self.refuse();
        }
        let wish = Wish::parse(user);
        let found = self.connection.gate.password(self.caller(&wish), password).await;
        self.settle(wish, "password", None, found.map(|principal| (principal, Terms::FREE)))
    }

    /// Whether a key is worth its proof. Nobody gets in by what is answered here.
    pub(crate) async fn offer(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Auth {
        if self.is_spent() || *offer.algorithm == (Algorithm::Rsa { hash: None }) {
            return self.refuse();
        }
        // Here a certificate looks like the key it certifies, which nobody has on file. So where there
        // are certificates every offer is heard out.
        if !self.rules.user_cas.is_empty() {
            return Auth::Accept;
        }
        let wish = Wish::parse(user);
        let fingerprint = offer.public_key.fingerprint(HashAlg::Sha256).to_string();
        if self.connection.gate.takes_key(self.caller(&wish), &fingerprint).await {
            return Auth::Accept;
        }
        self.record_refused(&wish, "publickey", &fingerprint, "unknown key");
        self.settle(wish, "publickey", Some(fingerprint), None)
    }

    pub(crate) async fn key(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Auth {
        if self.is_spent() {
            return self.refuse();
        }
        let wish = Wish::parse(user);
        let fingerprint = key.public_key.fingerprint(HashAlg::Sha256).to_string();
        let found = self.connection.gate.public_key(self.caller(&wish), &fingerprint).await;
        let admitted = found.map(|principal| (principal, Terms::FREE));
        self.settle(wish, "publickey", Some(fingerprint), admitted)
    }

    pub(crate) async fn certificate(
        &mut self,
        user: &str,
        certificate: &ssh_key::Certificate,
    ) -> Auth {
        if self.is_spent() {
            return self.refuse();
        }
        let wish = Wish::parse(user);
        let fingerprint = certificate.public_key().fingerprint(HashAlg::Sha256).to_string();
        let from = self.connection.peer.ip();
        let now = self.connection.gate.now();
        let checked = caller::check(certificate, &self.rules.user_cas, &wish.user, from, now);
        let admitted = match checked {
            Ok(terms) => {
                let facts = Certificate {
                    fingerprint: fingerprint.clone(),
                    principals: certificate.valid_principals().to_vec(),
                    key_id: certificate.key_id().to_owned(),
                    serial: certificate.serial(),
                };
                let found = self.connection.gate.certificate(self.caller(&wish), &facts).await;
                found.map(|principal| (principal, terms))
            }
            Err(why) => {
                self.record_refused(&wish, "certificate", &fingerprint, &why.to_string());
                None
            }
        };
        self.settle(wish, "certificate", Some(fingerprint), admitted)
    }

    /// Who got in, if somebody did; once.
    pub(crate) fn guest(&mut self, handle: Handle) -> Option<Guest> {
        let (principal, wish, terms) = self.admitted.take()?;
        let attempts = std::mem::take(&mut self.attempts);
        Some(Guest { principal, wish, terms, attempts, handle })
    }

    fn caller<'a>(&'a self, wish: &'a Wish) -> Caller<'a> {
        let Connection { peer, wire, .. } = &*self.connection;
        Caller { user: &wish.user, peer: *peer, client: wire.client.get() }
    }

    /// Whether this connection has used up its attempts: then nothing more is looked at.
    fn is_spent(&self) -> bool {
        self.refused >= self.rules.max_auth_tries
    }

    fn refuse(&mut self) -> Auth {
        self.refused += 1;
        refusal()
    }

    /// Notes an attempt and answers it.
    fn settle(
        &mut self,
        wish: Wish,
        method: &str,
        fingerprint: Option<String>,
        admitted: Option<(Principal, Terms)>,
    ) -> Auth {
        self.attempts.push(Attempt {
            at: self.connection.gate.now(),
            method: method.to_owned(),
            user: wish.user.clone(),
            accepted: admitted.is_some(),
            fingerprint,
            password: None,
        });
        let source = self.connection.peer;
        tracing::info!(
            event = if admitted.is_some() { "signed_in" } else { "sign_in_refused" },
            user = %wish.user.escape_debug(), %source, method, "attempt to sign in"
        );
        match admitted {
            Some((principal, terms)) => {
                self.admitted = Some((principal, wish, terms));
                Auth::Accept
            }
            None => self.refuse(),
        }
    }

    /// Puts on record an attempt that the gate never hears of.
    fn record_refused(&self, wish: &Wish, method: &str, fingerprint: &str, why: &str) {
        let connection = &self.connection;
        let actor = connection.actor(&wish.user);
        let event = Event::new(connection.gate.now(), Action::AuthAttempt, actor);
        connection.gate.record(
            event
                .detail("method", method)
                .detail("user", wish.user.clone())
                .detail("outcome", "refused")
                .detail("reason", why)
                .detail("fingerprint", fingerprint),
        );
    }
}

fn refusal() -> Auth {
    // Without the list the library would take the method off what the client may still try.
    Auth::Reject { proceed_with_methods: Some(methods()), partial_success: false }
}
