//! What fuzzers call: what the web door reads of browsers and programs, as functions of bytes that
//! panic where a promise is broken.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Request;
use axum::response::IntoResponse;
use futures_util::FutureExt;
use sojourn_core::fuzz::parts;
use sojourn_core::network::Network;

use crate::cookie;
use crate::cookie::Carried;
use crate::forwarded;
use crate::origin::Origin;
use crate::request;
use crate::request::Asked;
use crate::request::Fields;
use crate::starting;

pub use crate::attach::fuzz::browser_frame;

/// The longest name and text of a label, and the most of them.
const LABELS: (usize, usize) = (1000, 4096);

/// The body of a request that starts a session, and those of others.
pub fn body(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let json = Some("application/json");
    let read = request::fields(json, text).now_or_never().expect("a body that is there");
    let fields = match read {
        Ok(fields) => fields,
        Err(refused) => {
            assert!(refused.into_response().status().is_client_error());
            return;
        }
    };
    look(&fields);
    if let Ok(wish) = starting::agent_wish(&fields) {
        assert!(wish.labels.len() <= LABELS.0);
        assert!(wish.labels.values().all(|text| text.len() <= LABELS.1));
    }
    if let Ok((wish, _)) = starting::terminal_wish(&fields) {
        assert!((1..=1000).contains(&wish.size.cols) && (1..=1000).contains(&wish.size.rows));
    }
}

fn look(fields: &Fields) {
    for name in ["harness", "cols", "limits", "labels", "why", "keep", "scopes"] {
        let _kinds = (fields.text(name).is_ok(), fields.flag(name).is_ok());
        let _more = (fields.choice(name).is_ok(), fields.seconds(name).is_ok());
        assert!(fields.texts(name).is_err() || fields.texts(name).is_ok_and(|t| t.len() <= 32));
        if let Ok(Some(number)) = fields.whole(name, 1..=7) {
            assert!((1..=7).contains(&number));
        }
    }
}

/// A query string.
pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(request) = Request::builder().uri(format!("http://localhost/api/x?{text}")).body(())
    else {
        return;
    };
    let (mut parts, ()) = request.into_parts();
    let asked = Asked::from_request_parts(&mut parts, &()).now_or_never().expect("nothing to wait");
    if let Ok(asked) = asked {
        assert_ne!(asked.get("q"), Some(""));
        let _number = asked.parsed::<u32>("limit").is_ok();
    }
}

/// An address of ours and headers that come with a request: cookies, and those of proxies.
pub fn headers(data: &[u8]) {
    let [url, cookies, one, other] = parts::<4>(data);
    let local = Origin::local(true, 443);
    if let Ok(origin) = String::from_utf8_lossy(url).parse::<Origin>() {
        let again = origin.to_string().parse::<Origin>().expect("an address is one again");
        assert_eq!(again.to_string(), origin.to_string());
        assert!(origin.is_origin(&origin.to_string()));
        assert!(!origin.is_origin(&format!("{origin}.example.org")));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in [("cookie", cookies), ("x-forwarded-for", one), ("forwarded", other)] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    }
    let name = cookie::login_name(&local);
    if let Carried::Once(value) = cookie::carried(&headers, &name) {
        assert!(!value.contains(';'));
        let mut twice = headers.clone();
        twice.append("cookie", HeaderValue::from_static("__Host-sojourn=another"));
        assert_eq!(cookie::carried(&twice, &name), Carried::Doubtful);
    }
    let peer: IpAddr = [192, 0, 2, 1].into();
    assert_eq!(forwarded::source(peer, &headers, &[]), peer, "nobody is believed");
    if let Ok(proxies) = "192.0.2.0/24".parse::<Network>() {
        let source = forwarded::source(peer, &headers, &[proxies]);
        let is_there = forwarded::is_passed_on(&headers);
        assert!(is_there || source == peer);
    }
}
