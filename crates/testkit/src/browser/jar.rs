//! Cookies as a browser keeps them: one that breaks its own rules is not kept, and the test fails.

use std::collections::BTreeMap;

/// A cookie and what came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Its attributes in lower case, each with its value or an empty one, sorted.
    pub attributes: BTreeMap<String, String>,
}

impl Cookie {
    /// Reads a `Set-Cookie` header.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    #[track_caller]
    pub fn parse(header: &str) -> Self {
        let mut parts = header.split(';').map(str::trim);
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a pair");
        let attributes = parts
            .map(|part| {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                (key.to_ascii_lowercase(), value.to_owned())
            })
            .collect();
        Self { name: name.to_owned(), value: value.to_owned(), attributes }
    }

    /// Whether it takes the cookie of its name away.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        self.attributes
            .get("max-age")
            .is_some_and(|age| age.parse::<i64>().is_ok_and(|age| age <= 0))
            || self.attributes.get("expires").is_some_and(|at| at.contains("1970"))
    }
}

/// The cookies of one browser.
#[derive(Clone, Debug, Default)]
pub struct Jar(BTreeMap<String, String>);

impl Jar {
    /// Keeps a cookie that came from `origin`, or takes one away.
    ///
    /// # Panics
    /// When a browser would refuse it.
    #[track_caller]
    pub(super) fn take(&mut self, cookie: &Cookie, origin: &str) {
        let has = |name: &str| cookie.attributes.contains_key(name);
        // Loopback names are as good as https to browsers of our time.
        let is_safe = origin.starts_with("https:") || origin.starts_with("http://localhost");
        assert!(!has("secure") || is_safe, "a Secure cookie over {origin}: {cookie:?}");
        if cookie.name.starts_with("__Host-") {
            let path = cookie.attributes.get("path").map(String::as_str);
            let is_own = has("secure") && path == Some("/") && !has("domain");
            assert!(is_own, "no browser takes this __Host- cookie: {cookie:?}");
        }
        match cookie.is_removal() {
            true => self.0.remove(&cookie.name),
            false => self.0.insert(cookie.name.clone(), cookie.value.clone()),
        };
    }

    /// The value of a cookie.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Puts a cookie there by hand.
    pub fn put(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The header that sends them all.
    pub(super) fn header(&self) -> Option<String> {
        let pairs: Vec<String> =
            self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}
