//! A browser as far as the gate is concerned: cookies, the headers by which browsers say where a
//! request comes from, and WebSockets.
//!
//! What a page of ours would send is sent by itself. A test that wants otherwise says so with [`Ask`].

mod ask;
mod jar;
mod socket;
mod wire;

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use serde_json::Value;
use serde_json::json;

pub use ask::Ask;
pub use jar::Cookie;
pub use jar::Jar;
pub use socket::Frame;
pub use socket::Socket;
pub use wire::Answer;

use wire::Connection;

/// One browser: a jar of cookies, and a page of ours that is open in it.
#[derive(Debug)]
pub struct Browser {
    door: SocketAddr,
    origin: String,
    agent: String,
    /// Its cookies.
    pub jar: Jar,
    /// The token that the page sends with what changes state.
    pub csrf: Option<String>,
    connection: Option<Connection>,
}

impl Browser {
    /// A browser that came to the gateway at this port, by its loopback name.
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self::at(port, &format!("http://localhost:{port}"))
    }

    /// A browser that came by this origin, through a proxy that ends TLS where it is `https`.
    #[must_use]
    pub fn at(port: u16, origin: &str) -> Self {
        Self {
            door: (Ipv4Addr::LOCALHOST, port).into(),
            origin: origin.to_owned(),
            agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
                .to_owned(),
            jar: Jar::default(),
            csrf: None,
            connection: None,
        }
    }

    /// The same browser by another name.
    #[must_use]
    pub fn called(mut self, agent: &str) -> Self {
        agent.clone_into(&mut self.agent);
        self
    }

    /// Another browser with the same cookies: what a thief of them has.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut copy = Self::at(self.door.port(), &self.origin).called(&self.agent);
        copy.jar = self.jar.clone();
        copy.csrf.clone_from(&self.csrf);
        copy
    }

    /// Goes to another port of the same host, as after a restart; cookies know no ports.
    pub fn follow(&mut self, port: u16) {
        let former = format!(":{}", self.door.port());
        if let Some(host) = self.origin.strip_suffix(&former) {
            self.origin = format!("{host}:{port}");
        }
        self.door.set_port(port);
        self.connection = None;
    }

    /// What the page was loaded from.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The name of the gate's cookie at this origin.
    #[must_use]
    pub fn cookie_name(&self) -> &'static str {
        if self.origin.starts_with("https:") { "__Host-sojourn" } else { "sojourn" }
    }

    /// The token of its login.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.jar.get(self.cookie_name())
    }

    /// Asks as a page of ours does.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.send(&Ask::new("GET", path))
    }

    /// Posts JSON as a page of ours does.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.send(&Ask::new("POST", path).json(body))
    }

    /// Changes something by JSON as a page of ours does.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn patch(&mut self, path: &str, body: &Value) -> Answer {
        self.send(&Ask::new("PATCH", path).json(body))
    }

    /// Takes something away as a page of ours does.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn delete(&mut self, path: &str) -> Answer {
        self.send(&Ask::new("DELETE", path))
    }

    /// Sends a request, and keeps what cookies come back.
    ///
    /// # Panics
    /// When there is no answer, or a cookie in it that no browser would take.
    #[track_caller]
    pub fn send(&mut self, ask: &Ask) -> Answer {
        let answer = self.try_send(ask);
        let answer = answer.unwrap_or_else(|error| panic!("no answer to {ask:?}: {error}"));
        for header in answer.headers_of("set-cookie") {
            self.jar.take(&Cookie::parse(header), &self.origin);
        }
        answer
    }

    /// Sends a request; its cookies are not kept.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn try_send(&mut self, ask: &Ask) -> io::Result<Answer> {
        let bytes = ask.bytes(self);
        // A connection that was kept may have been closed meanwhile: then a new one is opened.
        if let Some(mut kept) = self.connection.take()
            && let Ok((answer, goes_on)) = exchange(&mut kept, &bytes, ask)
        {
            self.connection = goes_on.then_some(kept);
            return Ok(answer);
        }
        let mut fresh = Connection::open(self.door)?;
        let (answer, goes_on) = exchange(&mut fresh, &bytes, ask)?;
        self.connection = goes_on.then_some(fresh);
        Ok(answer)
    }

    /// Sends a request on a connection of its own, and keeps the cookies and the CSRF token that come
    /// back.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn try_once(&mut self, ask: &Ask) -> io::Result<Answer> {
        self.connection = None;
        let answer = self.try_send(ask)?;
        for header in answer.headers_of("set-cookie") {
            self.jar.take(&Cookie::parse(header), &self.origin);
        }
        if let Some(token) = answer.json()["csrf_token"].as_str() {
            self.csrf = Some(token.to_owned());
        }
        Ok(answer)
    }

    /// Sends bytes on a connection of their own and gives what comes back until it is closed.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn raw(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut connection = Connection::open(self.door)?;
        connection.send(bytes)?;
        connection.rest(1 << 20)
    }

    /// Signs in with a password and keeps the CSRF token, where that was all.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn sign_in(&mut self, name: &str, password: &str) -> Answer {
        self.prove("/api/auth/login", &json!({"username": name, "password": password}))
    }

    /// Posts something that gives a new login, and keeps its CSRF token.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn prove(&mut self, path: &str, body: &Value) -> Answer {
        let answer = self.post(path, body);
        if let Some(token) = answer.json()["csrf_token"].as_str() {
            self.csrf = Some(token.to_owned());
        }
        answer
    }

    /// Opens a WebSocket as a page of ours does.
    ///
    /// # Panics
    /// When it is not opened.
    #[must_use]
    #[track_caller]
    pub fn socket(&self, path: &str) -> Socket {
        let opened = Socket::open(self.door, &Ask::new("GET", path).upgrade(self));
        opened.unwrap_or_else(|answer| panic!("no WebSocket: {answer:?}"))
    }

    /// The same where there may be no gateway at all.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn reach(&self, path: &str) -> io::Result<Result<Socket, Answer>> {
        Socket::try_open(self.door, &Ask::new("GET", path).upgrade(self))
    }

    /// Asks for a WebSocket, and gives the answer when there is none to be had.
    ///
    /// # Errors
    /// The answer that is not a WebSocket.
    pub fn try_socket(&self, ask: &Ask) -> Result<Socket, Answer> {
        Socket::open(self.door, &ask.clone().upgrade(self))
    }
}

fn exchange(connection: &mut Connection, bytes: &[u8], ask: &Ask) -> io::Result<(Answer, bool)> {
    // Who refuses early may close while we still write: what counts is the answer.
    let written = connection.send(bytes);
    let answer = connection.answer(ask.method() == "HEAD");
    match written {
        Err(error) if answer.is_err() => Err(error),
        _ => answer,
    }
}
