//! That no other site's page sent a request. Compared is with the configured origin, never with what
//! the request says of its host.

use axum::http::HeaderMap;
use axum::http::header::CONNECTION;
use axum::http::header::ORIGIN;
use axum::http::header::UPGRADE;

use crate::answer::Refused;
use crate::origin::Origin;

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Whether a request wants to become a WebSocket, which reads and writes as it likes.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        || headers
            .get_all(CONNECTION)
            .iter()
            .any(|value| value.as_bytes().to_ascii_lowercase().windows(7).any(|w| w == b"upgrade"))
}

/// Refuses what a page of another site had a browser send. Browsers say so in `Sec-Fetch-Site`, older
/// ones in `Origin`; who says nothing is no browser, and has then no business with a cookie.
pub(crate) fn check(headers: &HeaderMap, ours: &Origin, has_cookie: bool) -> Result<(), Refused> {
    let is_ours = match (the_one(headers, SEC_FETCH_SITE), the_one(headers, ORIGIN.as_str())) {
        (Said::Once(site), _) => site == "same-origin",
        (Said::Nothing, Said::Once(origin)) => ours.is_origin(origin),
        (Said::Nothing, Said::Nothing) => !has_cookie,
        (Said::Nonsense, _) | (_, Said::Nonsense) => false,
    };
    if is_ours { Ok(()) } else { Err(Refused::CrossOrigin) }
}

enum Said<'a> {
    Nothing,
    Once(&'a str),
    Nonsense,
}

fn the_one<'a>(headers: &'a HeaderMap, name: &str) -> Said<'a> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (None, _) => Said::Nothing,
        (Some(value), None) => value.to_str().map_or(Said::Nonsense, Said::Once),
        (Some(_), Some(_)) => Said::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;
    use axum::http::HeaderValue;

    use super::*;

    const OURS: &str = "https://gateway.example.org";

    /// Sec-Fetch-Site, Origin, and whether it passes without and with a cookie.
    const ROWS: [(&[&str], &[&str], bool, bool); 19] = [
        (&["same-origin"], &[], true, true),
        (&["same-origin"], &[OURS], true, true),
        (&["same-site"], &[], false, false),
        (&["same-site"], &[OURS], false, false),
        (&["cross-site"], &[], false, false),
        (&["cross-site"], &[OURS], false, false),
        (&["none"], &[], false, false),
        (&["none"], &[OURS], false, false),
        (&["Same-Origin"], &[], false, false),
        (&["junk"], &[OURS], false, false),
        (&[""], &[OURS], false, false),
        (&["same-origin", "same-origin"], &[OURS], false, false),
        (&[], &[OURS], true, true),
        (&[], &["https://evil.example.org"], false, false),
        (&[], &["http://gateway.example.org"], false, false),
        (&[], &["null"], false, false),
        (&[], &[""], false, false),
        (&[], &[OURS, OURS], false, false),
        (&[], &[], true, false),
    ];

    #[test]
    fn l_48_only_our_own_page_passes() {
        let ours: Origin = OURS.parse().unwrap();
        for (sites, origins, bare, with_cookie) in ROWS {
            let mut headers = HeaderMap::new();
            for (name, values) in [(SEC_FETCH_SITE, sites), ("origin", origins)] {
                for value in values {
                    let name = HeaderName::from_static(name);
                    headers.append(name, HeaderValue::from_static(value));
                }
            }
            for (has_cookie, expected) in [(false, bare), (true, with_cookie)] {
                let passes = check(&headers, &ours, has_cookie).is_ok();
                assert_eq!(passes, expected, "{sites:?} {origins:?} cookie: {has_cookie}");
            }
        }
    }

    #[test]
    fn l_50_an_upgrade_is_known_however_it_is_written() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
        };
        assert!(is_upgrade(&headers("upgrade", "websocket")));
        assert!(is_upgrade(&headers("connection", "keep-alive, UpGrade")));
        assert!(!is_upgrade(&headers("connection", "keep-alive")));
        assert!(!is_upgrade(&HeaderMap::new()));
    }
}
