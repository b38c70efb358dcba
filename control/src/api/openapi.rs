//! The description of the API, generated from the code.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::{change, file, fleet, history, machines, notify, overview, preview, read, recovery, scaling, session, vip};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "weir",
        description = "What the `weir` load balancer shows and lets change while it runs. Answers under /v1 carry the configuration's revision as \
                       `ETag`; a change may carry it as `If-Match` and is then refused with 412 when something else was changed meanwhile. \
                       Refusals are `application/problem+json` (RFC 9457). A token is needed when the file has `[api] token_file` or `[api.token.NAME]`, whose role says what it may; \
                       a browser signs in with it and has a session.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        read::status,
        overview::overview,
        overview::stream,
        read::listeners,
        read::pools,
        read::pool,
        read::endpoint,
        vip::vips,
        vip::vip,
        vip::release,
        read::config,
        file::file,
        file::replace,
        file::versions,
        file::version,
        read::events,
        read::openapi,
        session::session,
        session::sign_in,
        session::sign_out,
        read::metrics,
        read::healthz,
        read::readyz,
        history::entries,
        history::series,
        history::catalog,
        history::audit,
        history::verify,
        preview::preview,
        change::add_endpoint,
        change::remove_endpoint,
        change::patch_endpoint,
        change::reload,
        change::upgrade,
        fleet::fleet,
        fleet::hosts,
        fleet::host_points,
        fleet::templates,
        fleet::machines,
        fleet::machine,
        fleet::points,
        fleet::console,
        fleet::screenshot,
        machines::prefetch,
        machines::add,
        machines::act,
        machines::operation,
        machines::garbage,
        scaling::alarms,
        scaling::alarm,
        scaling::acknowledge,
        scaling::pools,
        scaling::pool,
        scaling::plan,
        scaling::pause,
        scaling::resume,
        scaling::set,
        scaling::refresh,
        scaling::protect,
        recovery::recoveries,
        recovery::recovery,
        recovery::run,
        recovery::stop,
        notify::channels,
        notify::test,
        notify::dead,
        notify::resend,
        notify::incidents,
        notify::story,
        notify::acknowledge,
    ),
    modifiers(&Bearer, &Refusals),
)]
struct Document;

/// Declares the token.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
        openapi.security = Some(vec![SecurityRequirement::default(), SecurityRequirement::new("token", Vec::<String>::new())]);
    }
}

/// Describes the refusals that every operation of a kind has alike, where it does not describe them itself.
struct Refusals;

impl Modify for Refusals {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        for item in openapi.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
            operations.into_iter().flatten().for_each(refusals);
        }
    }
}

fn refusals(operation: &mut Operation) {
    let takes_body = operation.request_body.is_some();
    let takes_words = takes_body || operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty());
    let all = [
        (takes_words, "400", "A path, query, header or body that cannot be read"),
        (true, "401", "The token is missing or wrong"),
        (true, "403", "A page of another site, or a Host that is not this node's"),
        (takes_body, "413", "The body is too large"),
        (takes_body, "415", "The body is not JSON"),
        (takes_words, "422", "A wrong value"),
    ];
    for (_, status, description) in all.into_iter().filter(|(applies, ..)| *applies) {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemView"))).build();
        let refusal = ResponseBuilder::new().description(description).content("application/problem+json", problem).build();
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| refusal.into());
    }
}

/// The OpenAPI 3.1 document as JSON.
pub(crate) fn document() -> String {
    let mut text = Document::openapi().to_pretty_json().expect("the document is made of plain values");
    text.push('\n');
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::path::Path;

    /// Compares a generated file that is checked in, `path` from this crate's folder; `WEIR_BLESS=1` writes it.
    pub(crate) fn check_file(path: &str, expected: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if std::env::var_os("WEIR_BLESS").is_some() {
            std::fs::write(&path, expected).expect("the file can be written");
        }
        let actual = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(actual == expected, "{} is out of date: run the tests with WEIR_BLESS=1 and look at the difference", path.display());
    }

    #[test]
    fn the_document_is_up_to_date() {
        check_file("openapi.json", &document());
    }

    #[test]
    fn the_document_says_what_matters() {
        let document: serde_json::Value = serde_json::from_str(&document()).expect("JSON");
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
        let patch = &document["paths"]["/v1/pools/{pool}/endpoints/{endpoint}"]["patch"];
        for status in ["200", "404", "409", "412", "422"] {
            assert!(patch["responses"][status].is_object(), "{status}");
        }
        assert_eq!(document["components"]["schemas"]["EndpointPatch"]["additionalProperties"], false);
    }
}
