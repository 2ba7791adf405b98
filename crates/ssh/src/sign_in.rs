//! Signing in: what is tried, what is answered, and when there have been tries enough.
//!
//! Nothing is carried from one try to the next but their number, so a client may change its name, its
//! method or its mind at any time. What a honeypot makes of a try is [`crate::honeypot`]'s.

use std::sync::Arc;
use std::sync::OnceLock;

use russh::Disconnect;
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
use sojourn_core::wire::runner::MAX_ATTEMPTS;
use sojourn_engine::door::Who;
use sojourn_engine::honeypot::Visitor;
use sojourn_engine::identity::Principal;

use crate::caller;
use crate::caller::Place;
use crate::caller::Terms;
use crate::caller::Wish;
use crate::config::methods;
use crate::connection::Connection;
use crate::connection::Guest;
use crate::gate::Caller;
use crate::gate::Certificate;
use crate::gate::Gate;
use crate::honeypot::Trap;
use crate::honeypot::Tried;
use crate::unasked::Ear;

/// What every connection of a door is held to.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) banner: String,
    pub(crate) max_auth_tries: usize,
    pub(crate) user_cas: Vec<KeyData>,
    /// Set at a honeypot.
    pub(crate) trap: Option<Trap>,
}

/// One connection's way in.
pub(crate) struct SignIn<G: Gate> {
    connection: Arc<Connection<G>>,
    rules: Arc<Rules>,
    attempts: Vec<Attempt>,
    refused: usize,
    /// Of these, passwords.
    refused_passwords: u32,
    admitted: Option<(Who, Wish, Terms)>,
    /// The name by which it was first asked which methods there are.
    asked_as: Arc<OnceLock<String>>,
    ear: Option<Ear>,
}

impl<G: Gate> SignIn<G> {
    pub(crate) fn new(connection: Arc<Connection<G>>, rules: Arc<Rules>) -> Self {
        Self {
            connection,
            rules,
            attempts: Vec::new(),
            refused: 0,
            refused_passwords: 0,
            admitted: None,
            asked_as: Arc::default(),
            ear: None,
        }
    }

    /// In the task of the sign-in, before the first try: from now on also what the library refuses by
    /// itself goes on record.
    pub(crate) fn begin(&mut self) {
        if self.rules.user_cas.is_empty() {
            return;
        }
        let (connection, asked_as) = (Arc::downgrade(&self.connection), self.asked_as.clone());
        self.ear = Ear::new(move |why| {
            let Some(connection) = connection.upgrade() else { return };
            // The name it was tried with is not told; the one that was asked with is mostly it.
            let user = asked_as.get().map_or("", String::as_str);
            let event =
                Event::new(connection.gate.now(), Action::AuthAttempt, connection.actor(user));
            connection.gate.record(
                event
                    .detail("method", "certificate")
                    .detail("user", user)
                    .detail("outcome", "refused")
                    .detail("reason", why)
                    .detail("hassh", connection.wire.hassh.get()),
            );
        });
    }

    /// Clients ask which methods there are, which is no attempt at anything.
    pub(crate) fn question(&self, user: &str) -> Auth {
        let _first = self.asked_as.set(Wish::parse(user).user);
        refusal()
    }

    pub(crate) async fn password(&mut self, user: &str, password: &str) -> Auth {
        if self.is_spent() {
            return self.refuse();
        }
        if self.rules.trap.is_some() {
            return self.lure(user, Some(password), None).await;
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
        if self.rules.trap.is_some() {
            let fingerprint = offer.public_key.fingerprint(HashAlg::Sha256).to_string();
            return self.lure(user, None, Some(fingerprint)).await;
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
        self.ear = None;
        let (who, wish, terms) = self.admitted.take()?;
        let attempts = std::mem::take(&mut self.attempts);
        Some(Guest { who, wish, terms, attempts, handle })
    }

    /// Somebody tries something at a honeypot. The name is what it is: nothing in it is a wish.
    async fn lure(
        &mut self,
        user: &str,
        password: Option<&str>,
        fingerprint: Option<String>,
    ) -> Auth {
        let rules = self.rules.clone();
        let Some(trap) = &rules.trap else { return self.refuse() };
        let method = if password.is_some() { "password" } else { "publickey" };
        let tried = Tried { method, user, password, fingerprint };
        let attempt = trap.judge(tried, self.refused_passwords, &self.connection);
        let (user, accepted) = (attempt.user.clone(), attempt.accepted);
        self.note(attempt);
        if accepted {
            let place = Place::Profile(Some(trap.profile().to_owned()));
            let visitor = Visitor { name: user.clone(), pot: trap.pot.clone() };
            self.admitted = Some((Who::Visitor(visitor), Wish { user, place }, Terms::FREE));
            return Auth::Accept;
        }
        if password.is_some() {
            self.refused_passwords = self.refused_passwords.saturating_add(1);
            tokio::time::sleep(trap.delay()).await;
        }
        self.refuse()
    }

    fn caller<'a>(&'a self, wish: &'a Wish) -> Caller<'a> {
        let Connection { peer, wire, .. } = &*self.connection;
        let (client, hassh) = (wire.client.get(), wire.hassh.get());
        Caller { user: &wish.user, peer: *peer, client, hassh }
    }

    /// Whether this connection has used up its attempts: then nothing more is looked at.
    fn is_spent(&self) -> bool {
        self.refused >= self.rules.max_auth_tries
    }

    fn refuse(&mut self) -> Auth {
        self.refused += 1;
        if self.is_spent() {
            // In the words of OpenSSH, which says them in place of this last answer.
            let words = "Too many authentication failures";
            self.connection.throw_out(Disconnect::ProtocolError, words);
        }
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
        self.note(Attempt {
            at: self.connection.gate.now(),
            method: method.to_owned(),
            user: wish.user.clone(),
            accepted: admitted.is_some(),
            fingerprint,
            password: None,
        });
        match admitted {
            Some((principal, terms)) => {
                self.admitted = Some((Who::User(principal), wish, terms));
                Auth::Accept
            }
            None => self.refuse(),
        }
    }

    /// Keeps an attempt for the session's record, and says so in the log: not what was tried.
    fn note(&mut self, attempt: Attempt) {
        tracing::info!(
            event = if attempt.accepted { "signed_in" } else { "sign_in_refused" },
            user = %attempt.user.escape_debug(), source = %self.connection.peer,
            method = attempt.method, honeypot = self.rules.trap.is_some(), "attempt to sign in"
        );
        if self.attempts.len() == MAX_ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
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
                .detail("fingerprint", fingerprint)
                .detail("hassh", connection.wire.hassh.get()),
        );
    }
}

fn refusal() -> Auth {
    // Without the list the library would take the method off what the client may still try.
    Auth::Reject { proceed_with_methods: Some(methods()), partial_success: false }
}
