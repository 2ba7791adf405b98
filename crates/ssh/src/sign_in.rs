//! Signing in: what is tried, what is answered, and when there have been tries enough.
//!
//! Little is carried from one try to the next but their number, so a client may change its name, its
//! method or its mind at any time. Only where a code has to follow a password or a key is it kept that
//! they were right, for the very same name. What a honeypot makes of a try is [`crate::honeypot`]'s.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::OnceLock;

use russh::Disconnect;
use russh::MethodKind;
use russh::MethodSet;
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
use sojourn_engine::identity::Half;
use sojourn_engine::identity::Principal;

use crate::caller;
use crate::caller::Place;
use crate::caller::Terms;
use crate::caller::Wish;
use crate::config::methods;
use crate::connection::Connection;
use crate::connection::Guest;
use crate::gate::Answer;
use crate::gate::Caller;
use crate::gate::Certificate;
use crate::gate::Gate;
use crate::honeypot::Trap;
use crate::honeypot::Tried;
use crate::unasked::Ear;

/// The method in which questions are asked.
const CONVERSATION: &str = "keyboard-interactive";

/// What every connection of a door is held to.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) banner: String,
    pub(crate) max_auth_tries: usize,
    pub(crate) user_cas: Vec<KeyData>,
    /// Set at a honeypot.
    pub(crate) trap: Option<Trap>,
}

/// What was asked in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Password,
    Code,
}

/// Somebody who is in but for a code.
struct Pending {
    /// The name as they wrote it.
    user: String,
    half: Box<Half>,
    terms: Terms,
    fingerprint: Option<String>,
    /// A key stays proved on its connection; a password is asked for again.
    by_key: bool,
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
    /// A conversation under way: with whom, as they wrote their name.
    asked: Option<(String, Question)>,
    /// A password or key was right, and a code has to follow.
    pending: Option<Pending>,
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
            asked: None,
            pending: None,
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
        refusal(self.methods())
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

    /// A conversation begins: the password is asked for, or after a key the code.
    pub(crate) async fn greet(&mut self, user: &str) -> Auth {
        if self.is_spent() || self.rules.trap.is_some() {
            return self.refuse();
        }
        self.pending = self.pending.take().filter(|pending| pending.by_key && pending.user == user);
        let question = if self.pending.is_some() { Question::Code } else { Question::Password };
        self.ask(user, question)
    }

    /// What they say in it.
    pub(crate) async fn reply(&mut self, user: &str, answer: &[u8]) -> Auth {
        let asked = self.asked.take().filter(|(asked, _)| asked == user);
        if self.is_spent() || self.rules.trap.is_some() {
            return self.refuse();
        }
        let (Some((_, question)), Ok(answer)) = (asked, std::str::from_utf8(answer)) else {
            return self.refuse();
        };
        let wish = Wish::parse(user);
        match (question, self.pending.take()) {
            (Question::Password, _) => {
                let found = self.connection.gate.conversation(self.caller(&wish), answer).await;
                match found {
                    Answer::Code(half) => {
                        self.wait_for_code(user, half, Terms::FREE, None);
                        self.ask(user, Question::Code)
                    }
                    Answer::In(principal) => {
                        let admitted = Some((principal, Terms::FREE));
                        self.settle(wish, CONVERSATION, None, admitted)
                    }
                    Answer::No => self.settle(wish, CONVERSATION, None, None),
                }
            }
            (Question::Code, Some(mut pending)) => {
                let caller = self.caller(&wish);
                let found = self.connection.gate.code(caller, &mut pending.half, answer).await;
                let (terms, fingerprint) = (pending.terms.clone(), pending.fingerprint.clone());
                if found.is_none() && pending.by_key {
                    self.pending = Some(pending);
                }
                let admitted = found.map(|principal| (principal, terms));
                self.settle(wish, CONVERSATION, fingerprint, admitted)
            }
            (Question::Code, None) => self.refuse(),
        }
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
        match self.connection.gate.takes_key(self.caller(&wish), &fingerprint).await {
            Ok(()) => return Auth::Accept,
            Err(why) => self.record_refused(&wish, "publickey", &fingerprint, why),
        }
        self.settle(wish, "publickey", Some(fingerprint), None)
    }

    pub(crate) async fn key(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Auth {
        if self.is_spent() {
            return self.refuse();
        }
        let wish = Wish::parse(user);
        let fingerprint = key.public_key.fingerprint(HashAlg::Sha256).to_string();
        let found = self.connection.gate.public_key(self.caller(&wish), &fingerprint).await;
        self.proved(user, wish, "publickey", fingerprint, found, Terms::FREE)
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
        match checked {
            Ok(terms) => {
                let facts = Certificate {
                    fingerprint: fingerprint.clone(),
                    principals: certificate.valid_principals().to_vec(),
                    key_id: certificate.key_id().to_owned(),
                    serial: certificate.serial(),
                };
                let found = self.connection.gate.certificate(self.caller(&wish), &facts).await;
                self.proved(user, wish, "certificate", fingerprint, found, terms)
            }
            Err(why) => {
                self.record_refused(&wish, "certificate", &fingerprint, &why.to_string());
                self.settle(wish, "certificate", Some(fingerprint), None)
            }
        }
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

    /// A key or certificate was proved, and this is what the gate says to it.
    fn proved(
        &mut self,
        user: &str,
        wish: Wish,
        method: &str,
        fingerprint: String,
        found: Answer,
        terms: Terms,
    ) -> Auth {
        let admitted = match found {
            Answer::Code(half) => {
                self.wait_for_code(user, half, terms, Some(fingerprint));
                // Not a refusal: the client goes on with what is left, which is the code.
                return Auth::Reject {
                    proceed_with_methods: Some(self.methods()),
                    partial_success: true,
                };
            }
            Answer::In(principal) => Some((principal, terms)),
            Answer::No => None,
        };
        self.settle(wish, method, Some(fingerprint), admitted)
    }

    fn wait_for_code(
        &mut self,
        user: &str,
        half: Box<Half>,
        terms: Terms,
        fingerprint: Option<String>,
    ) {
        let by_key = fingerprint.is_some();
        let user = user.to_owned();
        self.pending = Some(Pending { user, half, terms, fingerprint, by_key });
    }

    fn ask(&mut self, user: &str, question: Question) -> Auth {
        self.asked = Some((user.to_owned(), question));
        let (prompt, is_shown) = match question {
            Question::Password => ("Password: ", false),
            Question::Code => ("Verification code: ", true),
        };
        Auth::Partial {
            name: Cow::Borrowed(""),
            instructions: Cow::Borrowed(""),
            prompts: Cow::Owned(vec![(Cow::Borrowed(prompt), is_shown)]),
        }
    }

    /// How they may go on: with a key that was right, by the code alone.
    fn methods(&self) -> MethodSet {
        match &self.pending {
            Some(pending) if pending.by_key => {
                MethodSet::from(&[MethodKind::KeyboardInteractive][..])
            }
            _ => methods(self.rules.trap.is_some()),
        }
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
        refusal(self.methods())
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

fn refusal(methods: MethodSet) -> Auth {
    // Without the list the library would take the method off what the client may still try.
    Auth::Reject { proceed_with_methods: Some(methods), partial_success: false }
}
