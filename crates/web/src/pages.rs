//! Static files. A file's name has its digest in it, so it may be kept for ever; the page that names
//! them is asked for each time.

use std::sync::OnceLock;

use axum::body::Body;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::ETAG;
use axum::http::header::IF_NONE_MATCH;
use axum::response::IntoResponse;
use axum::response::Response;
use data_encoding::HEXLOWER;
use sha2::Digest;
use sha2::Sha256;

use crate::answer::Refused;
use crate::openapi::Doc;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// A year: as long as a cache is asked to keep anything.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Kept, and asked about each time.
const ASK: &str = "no-cache";

struct Page {
    html: String,
    tag: String,
    files: [File; 2],
}

struct File {
    name: String,
    media: &'static str,
    text: &'static str,
}

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/", Access::Public, Activity::Passive, index, Doc::page()),
        Route::get("/assets/{name}", Access::Public, Activity::Passive, asset, Doc::page()),
    ]
}

fn page() -> &'static Page {
    static PAGE: OnceLock<Page> = OnceLock::new();
    PAGE.get_or_init(|| {
        let files = [
            file("page", "css", "text/css; charset=utf-8", include_str!("../page/page.css")),
            file("page", "js", "text/javascript; charset=utf-8", include_str!("../page/page.js")),
        ];
        let mut html = include_str!("../page/index.html").to_owned();
        for (place, file) in ["{page.css}", "{page.js}"].into_iter().zip(&files) {
            html = html.replace(place, &file.name);
        }
        let tag = format!("\"{}\"", digest(&html));
        Page { html, tag, files }
    })
}

fn file(stem: &str, ending: &str, media: &'static str, text: &'static str) -> File {
    File { name: format!("{stem}-{}.{ending}", digest(text)), media, text }
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    HEXLOWER.encode(digest.get(..8).unwrap_or_default())
}

async fn index(headers: HeaderMap) -> Response {
    let page = page();
    answer(&headers, page.html.as_str(), "text/html; charset=utf-8", &page.tag, ASK)
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Refused> {
    let file = page().files.iter().find(|file| file.name == name);
    let file = file.ok_or_else(|| Refused::NotFound("there is no such file".to_owned()))?;
    Ok(answer(&headers, file.text, file.media, &format!("\"{}\"", file.name), FOR_EVER))
}

fn answer(
    headers: &HeaderMap,
    text: &'static str,
    media: &'static str,
    tag: &str,
    keep: &'static str,
) -> Response {
    let known = headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    // Compressed, it is known by the weak form of its tag.
    let known = known.is_some_and(|tags| {
        tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)
    });
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(CONTENT_TYPE, media)], Body::from(text)).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l_52_the_page_has_no_script_of_its_own_and_names_its_files() {
        let page = page();
        for file in &page.files {
            assert!(page.html.contains(&format!("\"/assets/{}\"", file.name)), "{}", file.name);
        }
        let scripts = page.html.matches("<script").count();
        assert_eq!(scripts, page.html.matches("<script type=\"module\" src=").count());
        for inline in [" style=", " onclick=", " onload=", " onsubmit=", "<style"] {
            assert!(!page.html.contains(inline), "{inline}");
        }
    }
}
