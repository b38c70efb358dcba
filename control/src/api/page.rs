//! The console: a page that is a client of this API, from files that are in the program.
//!
//! They are made of `console/src` and checked in (`console/dist`), so that who builds `weir` needs nothing but Rust. No request of the page
//! leaves the machine: everything it needs is here, and its policy allows nothing else.

use std::sync::OnceLock;

use axum::body::Bytes;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::extract::Names;
use super::gzip;
use super::problem::Problem;

/// No code and no style but our own files, no other address, no frame around it (CSP level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";

/// A file of the page.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    made: OnceLock<Made>,
}

/// What is worked out about a file when it is first asked for.
struct Made {
    /// Changes with what is in it; `console/tools/build.mjs` writes the same into the page.
    version: String,
    compressed: Bytes,
}

macro_rules! asset {
    ($name:literal, $kind:literal) => {
        Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("../../../console/dist/", $name)), made: OnceLock::new() }
    };
}

static PAGE: Asset = asset!("index.html", "text/html; charset=utf-8");
static ASSETS: [Asset; 3] = [
    asset!("app.js", "text/javascript; charset=utf-8"),
    asset!("style.css", "text/css; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
];

impl Asset {
    fn made(&'static self) -> &'static Made {
        self.made.get_or_init(|| {
            let digest = Sha256::digest(self.bytes);
            let version = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            Made { version, compressed: gzip::compress(self.bytes).into() }
        })
    }
}

/// The page itself.
pub(crate) async fn page(headers: HeaderMap) -> Response {
    answer(&PAGE, &headers, None)
}

/// What belongs to it.
pub(crate) async fn asset(Names(name): Names<String>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    let found = found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "the console has no such file; its page is at /"))?;
    Ok(answer(found, &headers, query.as_deref()))
}

fn answer(asset: &'static Asset, headers: &HeaderMap, query: Option<&str>) -> Response {
    let made = asset.made();
    let tag = format!("\"{}\"", made.version);
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut response = if known.flat_map(|value| value.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if gzip::is_accepted(headers) {
        ([(header::CONTENT_ENCODING, "gzip")], made.compressed.clone()).into_response()
    } else {
        asset.bytes.into_response()
    };
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    fields.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    // Asked for by what is in it, it is never another; the page itself is asked for again each time.
    let for_ever = query.and_then(|query| query.strip_prefix("v=")) == Some(made.version.as_str());
    let keep = if for_ever { "public, max-age=31536000, immutable" } else { "no-cache" };
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        fields.insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of(response: &Response, name: header::HeaderName) -> String {
        response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    #[test]
    fn the_page_names_the_files_that_are_there() {
        let page = std::str::from_utf8(PAGE.bytes).expect("text");
        for asset in ASSETS.iter().filter(|asset| asset.name != "icon.svg") {
            let wanted = format!("console/{}?v={}", asset.name, asset.made().version);
            assert!(page.contains(&wanted), "{wanted} is not in dist/index.html: run `npm run build` in console/");
        }
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<style") && !page.contains(" style="));
    }

    #[test]
    fn a_file_is_kept_only_under_its_version() {
        let asset = &ASSETS[0];
        let version = &asset.made().version;
        for (query, expected) in [
            (None, "no-cache"),
            (Some("v=0000000000000000"), "no-cache"),
            (Some(&*format!("v={version}")), "public, max-age=31536000, immutable"),
        ] {
            let response = answer(asset, &HeaderMap::new(), query);
            assert_eq!(header_of(&response, header::CACHE_CONTROL), expected, "{query:?}");
        }
    }

    #[test]
    fn who_has_it_gets_nothing() {
        let asset = &ASSETS[1];
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, format!("\"x\", \"{}\"", asset.made().version).parse().expect("a value"));
        assert_eq!(answer(asset, &headers, None).status(), StatusCode::NOT_MODIFIED);
        headers.insert(header::IF_NONE_MATCH, "\"x\"".parse().expect("a value"));
        let response = answer(asset, &headers, None);
        assert_eq!((response.status(), header_of(&response, header::CONTENT_ENCODING).as_str()), (StatusCode::OK, ""));
        headers.insert(header::ACCEPT_ENCODING, "gzip".parse().expect("a value"));
        assert_eq!(header_of(&answer(asset, &headers, None), header::CONTENT_ENCODING), "gzip");
    }
}
