//! A request: what a page of ours sends, and what a test changes of it.

use serde_json::Value;

use super::Browser;

/// A request that a test makes up. What is not said is as a page of ours sends it.
#[derive(Clone, Debug)]
pub struct Ask {
    method: String,
    path: String,
    /// Header names in their usual writing, and values; none leaves one out.
    said: Vec<(String, Option<String>)>,
    /// Headers that are added as they are, also twice.
    more: Vec<(String, String)>,
    body: Option<(String, Vec<u8>)>,
    upgrade: bool,
}

impl Ask {
    /// A request for a path.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            said: Vec::new(),
            more: Vec::new(),
            body: None,
            upgrade: false,
        }
    }

    /// With this instead of what a page would send.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.said.push((name.to_owned(), Some(value.to_owned())));
        self
    }

    /// Without a header that a page would send.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.said.push((name.to_owned(), None));
        self
    }

    /// With one header more, also when it is there already.
    #[must_use]
    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.more.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With JSON.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string().as_bytes())
    }

    /// With any body.
    #[must_use]
    pub fn body(mut self, kind: &str, body: &[u8]) -> Self {
        self.body = Some((kind.to_owned(), body.to_vec()));
        self
    }

    /// As a program with an API token: no cookies, and nothing that only browsers send.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        let bare = ["Cookie", "Origin", "Sec-Fetch-Site", "X-CSRF-Token"];
        let bare = bare.iter().fold(self, |ask, name| ask.without(name));
        bare.with("Authorization", &format!("Bearer {token}"))
    }

    /// As a page of another site makes a browser send it.
    #[must_use]
    pub fn cross_site(self) -> Self {
        self.with("Sec-Fetch-Site", "cross-site").with("Origin", "https://evil.example")
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    /// The headers for a WebSocket, and those of `browser`.
    pub(super) fn upgrade(mut self, browser: &Browser) -> Vec<u8> {
        self.upgrade = true;
        self.bytes(browser)
    }

    pub(super) fn bytes(&self, browser: &Browser) -> Vec<u8> {
        let host = browser.origin.split_once("//").map_or("", |(_, host)| host);
        let is_safe = matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS");
        let mut headers = vec![
            ("Host".to_owned(), host.to_owned()),
            ("User-Agent".to_owned(), browser.agent.clone()),
            ("Sec-Fetch-Site".to_owned(), "same-origin".to_owned()),
        ];
        if !is_safe || self.upgrade {
            headers.push(("Origin".to_owned(), browser.origin.clone()));
        }
        if !is_safe && let Some(token) = &browser.csrf {
            headers.push(("X-CSRF-Token".to_owned(), token.clone()));
        }
        if let Some(cookies) = browser.jar.header() {
            headers.push(("Cookie".to_owned(), cookies));
        }
        if self.upgrade {
            headers.push(("Connection".to_owned(), "Upgrade".to_owned()));
            headers.push(("Upgrade".to_owned(), "websocket".to_owned()));
            headers.push(("Sec-WebSocket-Version".to_owned(), "13".to_owned()));
            headers.push(("Sec-WebSocket-Key".to_owned(), "c29qb3Vybi10ZXN0LWtleQ==".to_owned()));
        }
        if let Some((kind, body)) = &self.body {
            headers.push(("Content-Type".to_owned(), kind.clone()));
            headers.push(("Content-Length".to_owned(), body.len().to_string()));
        } else if !is_safe {
            headers.push(("Content-Length".to_owned(), "0".to_owned()));
        }
        for (name, value) in &self.said {
            headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            headers.extend(value.clone().map(|value| (name.clone(), value)));
        }
        headers.extend(self.more.iter().cloned());
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        for (name, value) in headers {
            bytes.extend(format!("{name}: {value}\r\n").into_bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(self.body.iter().flat_map(|(_, body)| body));
        bytes
    }
}
