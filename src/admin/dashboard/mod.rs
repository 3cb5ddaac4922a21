//! The dashboard: one page and its parts, embedded. It knows nothing but what the API tells its reader, and needs
//! nothing from anywhere else.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use super::{AdminState, answer::Refusal};

/// Scripts, styles, pictures and connections of our own only, nothing inline, nothing evaluated; nobody frames it, no
/// form is sent anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// A part of the page.
struct Part {
    path: &'static str,
    media_type: &'static str,
    body: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Every part. Reading them needs no token, since they hold nothing: what they show comes from the API.
const PARTS: [Part; 11] = [
    Part { path: "/", media_type: HTML, body: include_str!("index.html") },
    Part { path: "/dashboard/dashboard.css", media_type: CSS, body: include_str!("dashboard.css") },
    Part { path: "/dashboard/icon.svg", media_type: SVG, body: include_str!("icon.svg") },
    Part { path: "/dashboard/main.js", media_type: SCRIPT, body: include_str!("main.js") },
    Part { path: "/dashboard/api.js", media_type: SCRIPT, body: include_str!("api.js") },
    Part { path: "/dashboard/charts.js", media_type: SCRIPT, body: include_str!("charts.js") },
    Part { path: "/dashboard/dom.js", media_type: SCRIPT, body: include_str!("dom.js") },
    Part { path: "/dashboard/explain.js", media_type: SCRIPT, body: include_str!("explain.js") },
    Part { path: "/dashboard/flow.js", media_type: SCRIPT, body: include_str!("flow.js") },
    Part { path: "/dashboard/table.js", media_type: SCRIPT, body: include_str!("table.js") },
    Part { path: "/dashboard/words.js", media_type: SCRIPT, body: include_str!("words.js") },
];

impl Part {
    fn answer(&self, state: &AdminState) -> Response {
        if !state.shows_dashboard() {
            return Refusal::NotFound.into_response();
        }
        ([(header::CONTENT_TYPE, self.media_type), (header::CONTENT_SECURITY_POLICY, POLICY)], self.body).into_response()
    }
}

/// Is it the path of a part of the page?
pub(super) fn has(path: &str) -> bool {
    PARTS.iter().any(|part| part.path == path)
}

/// The page.
pub(super) fn router() -> Router<Arc<AdminState>> {
    PARTS.iter().fold(Router::new(), |router, part| {
        router.route(part.path, get(async |State(state): State<Arc<AdminState>>| part.answer(&state)))
    })
}
