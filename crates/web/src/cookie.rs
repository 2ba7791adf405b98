//! Our cookies: how they are called, read, set and removed. What is set is removed with the same
//! attributes, or browsers keep it.

use std::borrow::Cow;

use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header::COOKIE;
use cookie::Cookie;
use cookie::SameSite;

use crate::origin::Origin;

/// Which of our cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A login's token.
    Login,
    /// A sign-in that still lacks its second factor.
    Ceremony,
    /// A browser that somebody signed in with before: it only chooses a throttle.
    Device,
}

/// What a request carries under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried<'a> {
    /// Nothing.
    Nothing,
    /// One value.
    Once(&'a str),
    /// More than one, so none that could be believed; or one that is no text.
    Doubtful,
}

/// The name of the login's cookie.
pub(crate) fn login_name(origin: &Origin) -> Cow<'static, str> {
    name(origin, Kind::Login)
}

/// The name of one of our cookies. The prefix binds it to this host and to https; browsers accept it
/// under no other circumstances.
pub(crate) fn name(origin: &Origin, kind: Kind) -> Cow<'static, str> {
    Cow::Borrowed(match (origin.is_secure(), kind) {
        (true, Kind::Login) => "__Host-sojourn",
        (true, Kind::Ceremony) => "__Host-sojourn-pre",
        (true, Kind::Device) => "__Host-sojourn-dev",
        (false, Kind::Login) => "sojourn",
        (false, Kind::Ceremony) => "sojourn-pre",
        (false, Kind::Device) => "sojourn-dev",
    })
}

/// What `headers` carry under this name.
pub(crate) fn carried<'a>(headers: &'a HeaderMap, name: &str) -> Carried<'a> {
    let mut found = Carried::Nothing;
    for line in headers.get_all(COOKIE) {
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let key = halves.next().unwrap_or_default().trim_ascii();
            if key != name.as_bytes() {
                continue;
            }
            let value = halves.next().unwrap_or_default().trim_ascii();
            found = match (found, std::str::from_utf8(value)) {
                (Carried::Nothing, Ok(value)) => Carried::Once(value),
                _ => Carried::Doubtful,
            };
        }
    }
    found
}

/// The header that sets one of our cookies.
pub(crate) fn set(origin: &Origin, kind: Kind, value: &str) -> Option<HeaderValue> {
    let mut cookie = shape(origin, kind, value.to_owned());
    if kind == Kind::Device {
        cookie.set_max_age(cookie::time::Duration::days(365));
    }
    header(&cookie)
}

/// The header that removes one of our cookies.
pub(crate) fn removal(origin: &Origin, kind: Kind) -> Option<HeaderValue> {
    let mut cookie = shape(origin, kind, String::new());
    cookie.set_max_age(cookie::time::Duration::ZERO);
    header(&cookie)
}

fn shape(origin: &Origin, kind: Kind, value: String) -> Cookie<'static> {
    let same_site = match kind {
        Kind::Login => SameSite::Lax,
        Kind::Ceremony | Kind::Device => SameSite::Strict,
    };
    let cookie = Cookie::build((name(origin, kind), value));
    let cookie = cookie.path("/").http_only(true).same_site(same_site);
    cookie.secure(origin.is_secure()).build()
}

fn header(cookie: &Cookie<'_>) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&cookie.to_string()).ok()?;
    // Never to be shown by what prints headers.
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn far() -> Origin {
        "https://gateway.example.org".parse().unwrap()
    }

    #[test]
    fn l_03_a_cookie_is_set_and_removed_with_the_same_attributes() {
        let set = |origin: &Origin, kind| set(origin, kind, "v").unwrap();
        let removal = |origin: &Origin, kind| removal(origin, kind).unwrap();
        let (far, near) = (far(), Origin::local(false, 8080));
        assert_eq!(
            set(&far, Kind::Login),
            "__Host-sojourn=v; HttpOnly; SameSite=Lax; Secure; Path=/"
        );
        assert_eq!(
            removal(&far, Kind::Login),
            "__Host-sojourn=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0"
        );
        assert_eq!(set(&near, Kind::Login), "sojourn=v; HttpOnly; SameSite=Lax; Path=/");
        assert_eq!(
            removal(&near, Kind::Ceremony),
            "sojourn-pre=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0"
        );
        assert!(set(&far, Kind::Device).to_str().unwrap().contains("Max-Age=31536000"));
        assert!(set(&far, Kind::Login).is_sensitive());
    }

    #[test]
    fn l_06_two_cookies_of_one_name_are_none() {
        let carried = |lines: &[&'static str]| {
            let lines = lines.iter().map(|line| (COOKIE, HeaderValue::from_static(line)));
            let headers = HeaderMap::from_iter([]);
            let headers = lines.fold(headers, |mut headers: HeaderMap, (name, line)| {
                headers.append(name, line);
                headers
            });
            match super::carried(&headers, "sojourn") {
                Carried::Nothing => "nothing".to_owned(),
                Carried::Once(value) => format!("once {value}"),
                Carried::Doubtful => "doubtful".to_owned(),
            }
        };
        assert_eq!(carried(&[]), "nothing");
        assert_eq!(carried(&["a=b; sojourn-pre=x; xsojourn=y"]), "nothing");
        assert_eq!(carried(&["a=b;sojourn=x"]), "once x");
        assert_eq!(carried(&["a=b", " sojourn = x "]), "once x");
        assert_eq!(carried(&["sojourn"]), "once ");
        assert_eq!(carried(&["sojourn=x; sojourn=x"]), "doubtful");
        assert_eq!(carried(&["sojourn=x", "sojourn=y"]), "doubtful");
    }
}
