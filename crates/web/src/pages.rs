//! The page: files that `web-ui` was built to, in the binary. The names of those in `assets` change
//! with what is in them, so they may be kept for ever; all others are asked for each time. Most lie
//! there compressed as well. A build for debugging reads them when they are asked for, so that the
//! page can be worked on beside a gateway that runs.
//!
//! Every address that a view of the page has answers with the page, which finds out what to show.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header::ACCEPT;
use axum::http::header::ACCEPT_ENCODING;
use axum::http::header::CACHE_CONTROL;
use axum::http::header::CONTENT_ENCODING;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::ETAG;
use axum::http::header::IF_NONE_MATCH;
use axum::http::header::VARY;
use axum::response::IntoResponse;
use axum::response::Response;
use data_encoding::HEXLOWER;
use rust_embed::Embed;
use sha2::Digest;
use sha2::Sha256;

use crate::answer::Refused;
use crate::openapi::Doc;
use crate::request::Typed;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// A year: as long as a cache is asked to keep anything.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Kept, and asked about each time.
const ASK: &str = "no-cache";

/// The page of a program that was built without one.
const UNBUILT: &str = include_str!("../page/index.html");

#[derive(Embed)]
#[folder = "../../web-ui/dist"]
struct Built;

/// A file as it is sent.
struct File {
    bytes: Cow<'static, [u8]>,
    media: &'static str,
    /// Of what it is when it is not compressed.
    tag: String,
    compressed: bool,
}

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/", Access::Public, Activity::Passive, index, Doc::page()),
        Route::get("/assets/{name}", Access::Public, Activity::Passive, asset, Doc::page()),
    ]
}

async fn index(headers: HeaderMap) -> Response {
    page(&headers)
}

async fn asset(Typed(name): Typed<String>, headers: HeaderMap) -> Result<Response, Refused> {
    let file = find(&format!("assets/{name}"), takes_gzip(&headers)).ok_or_else(no_such_path)?;
    Ok(answer(&headers, file, FOR_EVER))
}

/// What no route answers: a file beside the page, a view of the page, or nothing.
pub(crate) async fn elsewhere(
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let path = uri.path().trim_start_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    if !matches!(method, Method::GET | Method::HEAD) || matches!(first, "api" | "assets") {
        return Err(no_such_path());
    }
    match find(path, takes_gzip(&headers)) {
        Some(file) => Ok(answer(&headers, file, ASK)),
        None if is_view(path) && takes_html(&headers) => Ok(page(&headers)),
        None => Err(no_such_path()),
    }
}

fn no_such_path() -> Refused {
    Refused::NotFound("there is no such path".to_owned())
}

/// Whether a view of the page can have this address. Which of them has one, only the page knows.
fn is_view(path: &str) -> bool {
    path.split('/').all(|part| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_@:%+".contains(&byte))
    })
}

fn page(headers: &HeaderMap) -> Response {
    let file = find("index.html", false).unwrap_or_else(|| File {
        bytes: UNBUILT.as_bytes().into(),
        media: media("index.html"),
        tag: tag(&Sha256::digest(UNBUILT)),
        compressed: false,
    });
    answer(headers, file, ASK)
}

/// A file of the page by its path, the compressed one where there is one and it may be.
fn find(path: &str, compressed: bool) -> Option<File> {
    // Neither what is hidden nor what climbs, and not what is only there compressed.
    if path.split('/').any(|part| part.is_empty() || part.starts_with('.')) || path.ends_with(".gz")
    {
        return None;
    }
    let file = Built::get(path)?;
    let (media, tag) = (media(path), tag(&file.metadata.sha256_hash()));
    let small = if compressed { Built::get(&format!("{path}.gz")) } else { None };
    Some(match small {
        Some(small) => File { bytes: small.data, media, tag, compressed: true },
        None => File { bytes: file.data, media, tag, compressed: false },
    })
}

/// Weak: compressed or not, it is the same file.
fn tag(digest: &[u8]) -> String {
    format!("W/\"{}\"", HEXLOWER.encode(digest.get(..8).unwrap_or(digest)))
}

fn media(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "wasm" => "application/wasm",
        "woff2" => "font/woff2",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let said = headers.get(ACCEPT_ENCODING).and_then(|said| said.to_str().ok());
    said.is_some_and(|said| {
        said.split(',').any(|one| {
            let (name, weight) = one.split_once(';').unwrap_or((one, ""));
            let refused = ["q=0", "q=0.0", "q=0.00", "q=0.000"].contains(&weight.trim());
            name.trim().eq_ignore_ascii_case("gzip") && !refused
        })
    })
}

/// Programs that want nothing but JSON are told in JSON that there is nothing.
fn takes_html(headers: &HeaderMap) -> bool {
    let Some(said) = headers.get(ACCEPT) else { return true };
    let said = said.to_str().unwrap_or_default();
    said.contains("text/html") || said.contains("*/*")
}

fn answer(headers: &HeaderMap, file: File, keep: &'static str) -> Response {
    let known = headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let bare = file.tag.trim_start_matches("W/");
    let known = known.is_some_and(|tags| {
        tags.split(',').any(|known| known.trim().trim_start_matches("W/") == bare)
    });
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(CONTENT_TYPE, file.media)], Body::from(file.bytes)).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if file.compressed && !known {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Ok(tag) = HeaderValue::from_str(&file.tag) {
        headers.insert(ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l_52_the_page_has_no_script_of_its_own() {
        let built = Built::get("index.html").map(|file| file.data);
        let built = built.as_deref().map(String::from_utf8_lossy);
        for html in built.iter().map(AsRef::as_ref).chain([UNBUILT]) {
            let scripts = html.matches("<script").count();
            let named = html.matches("<script type=\"module\" crossorigin src=\"/assets/").count();
            assert_eq!(scripts, named, "{html}");
            for inline in [" style=", " onclick=", " onload=", " onsubmit=", "<style"] {
                assert!(!html.contains(inline), "{inline}");
            }
        }
    }

    #[tokio::test]
    async fn views_answer_with_the_page_and_nothing_else_does() {
        let ask = async |method: Method, path: &'static str, accept: &'static str| {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            let answer = elsewhere(method, Uri::from_static(path), headers).await;
            answer.into_response().status().as_u16()
        };
        for path in ["/sessions", "/sessions/0192-af", "/me", "/reset"] {
            assert_eq!(ask(Method::GET, path, "text/html,*/*;q=0.8").await, 200, "{path}");
            assert_eq!(ask(Method::GET, path, "*/*").await, 200, "{path}");
            assert_eq!(ask(Method::GET, path, "application/json").await, 404, "{path}");
            assert_eq!(ask(Method::POST, path, "text/html").await, 404, "{path}");
        }
        for path in [
            "/api",
            "/api/nothing",
            "/assets/nothing",
            "/assets/../Cargo.toml",
            "/../Cargo.toml",
            "/favicon.ico",
            "/a//b",
            "/.gitignore",
            "/wp-login.php",
        ] {
            assert_eq!(ask(Method::GET, path, "text/html").await, 404, "{path}");
        }
    }

    #[test]
    fn a_compressed_file_goes_to_those_who_take_it() {
        let takes = |said: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(said))]))
        };
        assert!(takes("gzip, deflate, br"));
        assert!(takes("br, GZIP;q=0.5"));
        assert!(!takes("gzip;q=0"));
        assert!(!takes("identity"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
