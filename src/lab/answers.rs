//! What a backend answers: one function per path.
//!
//! | path | answer |
//! |---|---|
//! | `/echo` | method, path, query, header and body as JSON; with `?raw` the body's own bytes |
//! | `/slow?ms=500` | waits |
//! | `/flaky?rate=50%` | fails so often |
//! | `/status/503` | that status |
//! | `/stream?n=10&ms=100` | lines, one at a time |
//! | `/sse?n=10&ms=1000` | server-sent events |
//! | `/bytes?n=1048576` | so many bytes |
//! | `/health` | 200 or 503, switched by `PUT /health/up` and `PUT /health/down` |
//! | `/ws` | a WebSocket that echoes |
//! | anything else | which backend answered, as text or, asked for by `Accept`, as JSON |

use std::{fmt::Write, sync::atomic::Ordering, time::Duration};

use http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use serde_json::json;

use super::{
    backend::{Connection, Reset},
    body::{self, Body},
    faults::{Failure, happens},
    query::Query,
    websocket,
};
use crate::types::Ratio;

/// The most of a body that `/echo` holds in memory to put it into JSON. `?raw` streams and needs no bound.
const MAX_ECHO: usize = 1 << 20;
/// The longest wait that a request can ask for: longer than any proxy's patience, short enough to pass.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// Pieces of one streamed answer.
const MAX_PIECES: u64 = 100_000;
/// Bytes of one answer.
const MAX_BYTES: u64 = 1 << 34;

/// Answers one request. A wrong parameter is a 400 that says what was wrong.
pub(super) async fn answer(request: Request<Incoming>, connection: &Connection) -> Result<Response<Body>, Reset> {
    let is_head = request.method() == Method::HEAD;
    let mut response = match request.uri().path() {
        path if path == "/health" || path.starts_with("/health/") => health(&request, connection),
        _ => {
            connection.backend.requests.fetch_add(1, Ordering::Relaxed);
            disturbed(request, connection).await?
        }
    };
    if is_head {
        // The header of the answer that GET would get, without its body.
        if let Some(length) = response.body().size_hint().exact() {
            response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(length.into());
        }
        *response.body_mut() = body::empty();
    }
    Ok(response)
}

/// The backend's own faults come before whatever was asked for.
async fn disturbed(request: Request<Incoming>, connection: &Connection) -> Result<Response<Body>, Reset> {
    let faults = &connection.backend.faults;
    let _worker = connection.backend.workers.take().await;
    let (wait, failure) = {
        let mut random = rand::rng();
        (faults.wait(&mut random), faults.strike(&mut random))
    };
    tokio::time::sleep(wait).await;
    match failure {
        Some(failure) => fail(failure),
        None => dispatch(request, connection).await,
    }
}

async fn dispatch(request: Request<Incoming>, connection: &Connection) -> Result<Response<Body>, Reset> {
    let uri = request.uri().clone();
    let query = Query::of(&uri);
    let answer = match uri.path() {
        "/echo" => Ok(echo(request, query).await),
        "/slow" => slow(request, query, connection).await,
        "/flaky" => return flaky(request, query, connection),
        "/stream" => stream(query),
        "/sse" => events(query),
        "/bytes" => bytes(query),
        "/ws" => websocket::upgrade(request, connection.stop.clone()),
        path => match path.strip_prefix("/status/") {
            Some(status) => fixed_status(status),
            None => Ok(introduce(request, connection)),
        },
    };
    Ok(answer.unwrap_or_else(|problem| text(StatusCode::BAD_REQUEST, format!("{problem}\n"))))
}

fn fail(failure: Failure) -> Result<Response<Body>, Reset> {
    match failure {
        Failure::Status(status) => Ok(text(status, "failed on purpose\n")),
        Failure::Reset => Err(Reset),
    }
}

fn text(status: StatusCode, content: impl Into<String>) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", body::whole(content.into()))
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    typed(status, "application/json", body::whole(format!("{value:#}\n")))
}

fn typed(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

/// Fields in order of arrival, as pairs: a name may come more than once, and that is often what one wants to see.
fn fields(headers: &HeaderMap) -> serde_json::Value {
    headers.iter().map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])).collect()
}

fn introduce(request: Request<Incoming>, connection: &Connection) -> Response<Body> {
    let (Parts { method, uri, version, headers, .. }, _) = request.into_parts();
    let name = &connection.backend.name;
    let accepts = |value: &header::HeaderValue| value.to_str().is_ok_and(|accept| accept.contains("application/json"));
    if headers.get_all(header::ACCEPT).iter().any(accepts) {
        let value = json!({
            "backend": name,
            "address": connection.local.to_string(),
            "method": method.as_str(),
            "path": uri.path(),
            "query": uri.query(),
            "authority": uri.authority().map(|authority| authority.as_str()),
            "protocol": format!("{version:?}"),
            "headers": fields(&headers),
        });
        return json(StatusCode::OK, &value);
    }
    let target = uri.path_and_query().map_or("*", |target| target.as_str());
    let mut page = format!("{name} at {}\n\n{method} {target} {version:?}\n", connection.local);
    for (field, value) in &headers {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "{field}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    text(StatusCode::OK, page)
}

async fn echo(request: Request<Incoming>, query: Query<'_>) -> Response<Body> {
    let (Parts { method, uri, version, headers, .. }, incoming) = request.into_parts();
    if query.has("raw") {
        let mut response = Response::new(body::mirror(incoming));
        let content_type = headers.get(header::CONTENT_TYPE).cloned();
        let unknown = header::HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type.unwrap_or(unknown));
        return response;
    }
    let Ok(collected) = Limited::new(incoming, MAX_ECHO).collect().await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "a body for /echo has at most 1 MiB; /echo?raw takes any\n");
    };
    let trailers = collected.trailers().map(fields);
    let content = collected.to_bytes();
    let value = json!({
        "method": method.as_str(),
        "path": uri.path(),
        "query": uri.query(),
        "authority": uri.authority().map(|authority| authority.as_str()),
        "protocol": format!("{version:?}"),
        "headers": fields(&headers),
        "body": String::from_utf8_lossy(&content),
        "body_bytes": content.len(),
        "trailers": trailers,
    });
    json(StatusCode::OK, &value)
}

async fn slow(request: Request<Incoming>, query: Query<'_>, connection: &Connection) -> Result<Response<Body>, String> {
    tokio::time::sleep(query.millis("ms", 500, MAX_WAIT)?).await;
    Ok(introduce(request, connection))
}

fn flaky(request: Request<Incoming>, query: Query<'_>, connection: &Connection) -> Result<Response<Body>, Reset> {
    match query.share("rate", Ratio::percent(50)) {
        Err(problem) => Ok(text(StatusCode::BAD_REQUEST, format!("{problem}\n"))),
        Ok(rate) if happens(rate, &mut rand::rng()) => fail(connection.backend.faults.failure),
        Ok(_) => Ok(introduce(request, connection)),
    }
}

fn fixed_status(code: &str) -> Result<Response<Body>, String> {
    let status = code.parse().ok().filter(|code| (200..600).contains(code)).map(StatusCode::from_u16);
    match status {
        Some(Ok(status @ (StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED))) => {
            let mut response = Response::new(body::empty());
            *response.status_mut() = status;
            Ok(response)
        }
        Some(Ok(status)) => Ok(text(status, format!("{status}\n"))),
        _ => Err(format!("`{code}` is not a status from 200 to 599")),
    }
}

fn stream(query: Query<'_>) -> Result<Response<Body>, String> {
    let count = query.number("n", 10, 0..=MAX_PIECES)?;
    let pause = query.millis("ms", 100, MAX_WAIT)?;
    let pieces = body::pieces(count, pause, |index| format!("piece {index}\n"));
    Ok(typed(StatusCode::OK, "text/plain; charset=utf-8", pieces))
}

fn events(query: Query<'_>) -> Result<Response<Body>, String> {
    let count = query.number("n", 10, 0..=MAX_PIECES)?;
    let pause = query.millis("ms", 1000, MAX_WAIT)?;
    let pieces = body::pieces(count, pause, |index| format!("id: {index}\nevent: tick\ndata: {{\"tick\":{index}}}\n\n"));
    let mut response = typed(StatusCode::OK, "text/event-stream", pieces);
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(response)
}

fn bytes(query: Query<'_>) -> Result<Response<Body>, String> {
    let count = query.number("n", 1 << 20, 0..=MAX_BYTES)?;
    let mut response = typed(StatusCode::OK, "application/octet-stream", body::pattern(count));
    response.headers_mut().insert(header::CONTENT_LENGTH, count.into());
    Ok(response)
}

fn health(request: &Request<Incoming>, connection: &Connection) -> Response<Body> {
    let healthy = &connection.backend.healthy;
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/health") => {}
        (&Method::PUT | &Method::POST, "/health/up") => healthy.store(true, Ordering::Relaxed),
        (&Method::PUT | &Method::POST, "/health/down") => {
            healthy.store(false, Ordering::Relaxed);
            // The switch worked, so the answer to the one who switched is a success.
            return json(StatusCode::OK, &json!({"status": "down"}));
        }
        (_, "/health" | "/health/up" | "/health/down") => {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET /health, PUT /health/up, PUT /health/down\n");
        }
        _ => return text(StatusCode::NOT_FOUND, "GET /health, PUT /health/up, PUT /health/down\n"),
    }
    if healthy.load(Ordering::Relaxed) {
        json(StatusCode::OK, &json!({"status": "ok"}))
    } else {
        json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "down"}))
    }
}
