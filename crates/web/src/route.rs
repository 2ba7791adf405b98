//! One line of the route table: what is there, who may, whether it keeps a login alive, what runs, and
//! what the document says of it. There is no other way to register a handler, and nothing is open
//! unless it says so.

use std::time::Duration;

use axum::handler::Handler;
use axum::http::Method;
use axum::routing::MethodFilter;
use axum::routing::MethodRouter;
use axum::routing::on;
use sojourn_core::authz::General;
use sojourn_core::scope::Scope;

use crate::gate::Gate;
use crate::openapi::Doc;

/// The longest body where nobody has signed in yet.
const SMALL_BODY: usize = 16 << 10;

/// The longest body elsewhere.
const USUAL_BODY: usize = 64 << 10;

/// The longest wait for an answer to begin, where the route does not say otherwise. What it then goes on
/// with, a file or a socket, has no end of its own.
const USUAL_PATIENCE: Duration = Duration::from_secs(20);

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody; a caller is known to the handler where there is one.
    Public,
    /// Anybody, to sign in: needs no CSRF token, for who has no login has none.
    SignIn,
    /// A person with a login. Programs and the local socket are not persons.
    Login,
    /// The same, who proved who they are a short while ago.
    Fresh,
    /// A login, the local socket, or a token with this scope.
    Scope(Scope),
    /// The same, whose role may do this.
    Role(Scope, General),
    /// A runner, by its token, which opens nothing else.
    Runner,
}

/// Whether a request keeps its login alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// A person did something.
    Counts,
    /// A page asks this by itself.
    Passive,
}

/// What the guards have to know of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Who may.
    pub(crate) access: Access,
    /// Whether it keeps a login alive.
    pub(crate) activity: Activity,
    /// The longest body, in bytes.
    pub(crate) longest_body: usize,
    /// The longest wait for its answer to begin.
    pub(crate) patience: Duration,
    /// Whether it creates something, so that it may be sent again with an `Idempotency-Key`.
    pub(crate) creates: bool,
}

/// One line of the table.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) rule: Rule,
    pub(crate) handler: MethodRouter<Gate>,
    pub(crate) doc: Doc,
}

impl Route {
    /// `GET`, which also answers `HEAD`.
    pub(crate) fn get<H: Handler<T, Gate>, T: 'static>(
        path: &'static str,
        access: Access,
        activity: Activity,
        handler: H,
        doc: Doc,
    ) -> Self {
        Self::new((Method::GET, MethodFilter::GET), path, (access, activity), handler, doc)
    }

    /// `POST`.
    pub(crate) fn post<H: Handler<T, Gate>, T: 'static>(
        path: &'static str,
        access: Access,
        activity: Activity,
        handler: H,
        doc: Doc,
    ) -> Self {
        Self::new((Method::POST, MethodFilter::POST), path, (access, activity), handler, doc)
    }

    /// `DELETE`.
    pub(crate) fn delete<H: Handler<T, Gate>, T: 'static>(
        path: &'static str,
        access: Access,
        activity: Activity,
        handler: H,
        doc: Doc,
    ) -> Self {
        Self::new((Method::DELETE, MethodFilter::DELETE), path, (access, activity), handler, doc)
    }

    /// `PATCH`.
    pub(crate) fn patch<H: Handler<T, Gate>, T: 'static>(
        path: &'static str,
        access: Access,
        activity: Activity,
        handler: H,
        doc: Doc,
    ) -> Self {
        Self::new((Method::PATCH, MethodFilter::PATCH), path, (access, activity), handler, doc)
    }

    /// The same, which creates something: sent again with an `Idempotency-Key`, it does so once.
    pub(crate) fn creates(mut self) -> Self {
        self.rule.creates = true;
        self
    }

    /// The same, whose body may be this long.
    pub(crate) fn bodies_of(mut self, bytes: usize) -> Self {
        self.rule.longest_body = bytes;
        self
    }

    /// The same, whose answer may begin as late as this.
    pub(crate) fn answers_within(mut self, patience: Duration) -> Self {
        self.rule.patience = patience;
        self
    }

    fn new<H: Handler<T, Gate>, T: 'static>(
        (method, filter): (Method, MethodFilter),
        path: &'static str,
        (access, activity): (Access, Activity),
        handler: H,
        doc: Doc,
    ) -> Self {
        let longest_body = match path.starts_with("/api/auth/") {
            true => SMALL_BODY,
            false => USUAL_BODY,
        };
        let patience = USUAL_PATIENCE;
        let rule = Rule { access, activity, longest_body, patience, creates: false };
        Self { method, path, rule, handler: on(filter, handler), doc }
    }
}
