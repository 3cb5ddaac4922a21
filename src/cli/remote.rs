//! Asking a running edge: the client of the admin API, for the commands that need one.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpStream;

use crate::types::Secret;

/// Which edge to ask, and as whom.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// The admin API of the running edge.
    #[arg(long, value_name = "URL", env = "WEIR_ADMIN", default_value = "http://127.0.0.1:9900")]
    pub admin: String,
    /// Its token. Other users of this machine can see arguments: a variable or a file is better.
    #[arg(long, value_name = "TOKEN", env = "WEIR_ADMIN_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file that holds the token.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// How long an answer may take, unless the command knows better. Finding the edge takes less.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);

/// The largest answer: far above a configuration with thousands of routes, or their state.
const MAX_ANSWER: usize = 64 << 20;

/// The largest token file: longer ones are something else.
const MAX_TOKEN: u64 = 4096;

/// What came instead of an answer, said to the user.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// `--admin` makes no sense.
    #[error("`{0}` is not the address of an admin API: it looks like `http://127.0.0.1:9900`")]
    Address(String),
    /// The token cannot be read or sent.
    #[error("the admin token: {0}")]
    Token(String),
    /// Nobody is there.
    #[error(
        "no edge answers at {address}: {source}\n  is it running with an admin listener there? `--admin URL` or WEIR_ADMIN names another"
    )]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("the edge at {address} did not answer within {patience:?}")]
    Timeout {
        /// Where.
        address: String,
        /// How long that was.
        patience: Duration,
    },
    /// No HTTP, or cut off.
    #[error("what answers at {address} does not speak as an admin API does: {reason}")]
    Broken {
        /// Where.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// 401 without a token.
    #[error("this needs the admin token: set WEIR_ADMIN_TOKEN, or give --token-file FILE")]
    NoToken,
    /// 401 with a token.
    #[error("the edge does not know this admin token")]
    WrongToken,
    /// Another status than 2xx.
    #[error("the edge refused: {message} ({status})")]
    Refused {
        /// The status.
        status: StatusCode,
        /// What the edge says.
        message: String,
        /// The whole answer: diagnostics, say.
        body: Bytes,
    },
}

/// What the edge answered: a 2xx.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields, an ETag among them where there is one.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    address: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, RemoteError> {
        serde_json::from_slice(&self.body).map_err(|error| self.broken(format!("its JSON is something else ({error})")))
    }
    /// The body as text.
    pub fn text(&self) -> Result<&str, RemoteError> {
        std::str::from_utf8(&self.body).map_err(|_| self.broken("its answer is no text".into()))
    }
    fn broken(&self, reason: String) -> RemoteError {
        RemoteError::Broken { address: self.address.clone(), reason }
    }
}

/// A request's body.
#[derive(Debug, Clone)]
pub struct Body {
    content: Bytes,
    kind: &'static str,
}

impl Body {
    /// A value as JSON.
    pub fn json(value: &impl Serialize) -> Self {
        // Everything that is sent is made of texts, numbers and lists.
        Self { content: serde_json::to_vec(value).unwrap_or_default().into(), kind: "application/json" }
    }
    /// A configuration.
    pub fn yaml(text: String) -> Self {
        Self { content: text.into(), kind: "application/yaml" }
    }
    /// None.
    pub fn none() -> Self {
        Self { content: Bytes::new(), kind: "" }
    }
}

/// The admin API of a running edge. Each request has a connection of its own: commands ask one or two things.
#[derive(Debug, Clone)]
pub struct Remote {
    /// As it is shown: without what a URL may hold beside the address.
    address: String,
    authority: String,
    token: Option<Secret>,
    patience: Duration,
}

impl Remote {
    /// The edge that the arguments name.
    pub fn new(args: &AdminArgs) -> Result<Self, RemoteError> {
        let wrong = || RemoteError::Address(args.admin.clone());
        let text = if args.admin.contains("://") { args.admin.clone() } else { format!("http://{}", args.admin) };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let plain = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
        let authority = uri.authority().filter(|authority| plain && !authority.as_str().contains('@')).ok_or_else(wrong)?;
        let authority = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let token = match (&args.token, &args.token_file) {
            (Some(token), _) => Some(token.trim().to_owned()),
            (None, Some(file)) => Some(read_token(file)?),
            (None, None) => None,
        };
        let token = token.filter(|token| !token.is_empty()).map(Secret::from);
        Ok(Self { address: format!("http://{authority}"), authority, token, patience: PATIENCE })
    }

    /// With another patience for an answer.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks for a page.
    pub async fn get(&self, path: &str) -> Result<Answer, RemoteError> {
        self.send(Method::GET, path, Body::none(), &[]).await
    }
    /// Posts to a page.
    pub async fn post(&self, path: &str, body: Body) -> Result<Answer, RemoteError> {
        self.send(Method::POST, path, body, &[]).await
    }

    /// Sends a request, with further header fields.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, RemoteError> {
        let request = self.request(method, path, body, fields)?;
        let exchange = tokio::time::timeout(self.patience, self.exchange(request)).await;
        let answer = exchange.unwrap_or_else(|_| Err(self.late(self.patience)))?;
        if answer.status.is_success() { Ok(answer) } else { Err(self.refused(answer)) }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Body,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<Request<Full<Bytes>>, RemoteError> {
        let mut request = Request::new(Full::new(body.content));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| self.broken(&format!("`{path}` is no path")))?;
        let own = request.headers_mut();
        let host = HeaderValue::from_str(&self.authority).map_err(|_| RemoteError::Address(self.address.clone()))?;
        own.insert(header::HOST, host);
        own.insert(header::USER_AGENT, HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION"))));
        if !body.kind.is_empty() {
            own.insert(header::CONTENT_TYPE, HeaderValue::from_static(body.kind));
        }
        if let Some(token) = &self.token {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
            let mut bearer = bearer.map_err(|_| RemoteError::Token("it holds characters that no header can".into()))?;
            bearer.set_sensitive(true);
            own.insert(header::AUTHORIZATION, bearer);
        }
        for (name, value) in fields {
            own.insert(name, value.clone());
        }
        Ok(request)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, RemoteError> {
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(&self.authority)).await;
        let unreachable = |source| RemoteError::Unreachable { address: self.address.clone(), source };
        let stream = connected.map_err(|_| unreachable(std::io::ErrorKind::TimedOut.into()))?.map_err(unreachable)?;
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.cut(&error))?;
        // It ends with the exchange; what goes wrong with it reaches the request.
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| self.cut(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| match error.is::<LengthLimitError>() {
            true => self.broken("its answer has no end"),
            false => self.broken(&error.to_string()),
        })?;
        driver.abort();
        Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes(), address: self.address.clone() })
    }

    fn late(&self, patience: Duration) -> RemoteError {
        RemoteError::Timeout { address: self.address.clone(), patience }
    }
    fn broken(&self, reason: &str) -> RemoteError {
        RemoteError::Broken { address: self.address.clone(), reason: reason.to_owned() }
    }
    fn cut(&self, error: &hyper::Error) -> RemoteError {
        self.broken(&error.to_string())
    }

    fn refused(&self, answer: Answer) -> RemoteError {
        if answer.status == StatusCode::UNAUTHORIZED {
            return if self.token.is_some() { RemoteError::WrongToken } else { RemoteError::NoToken };
        }
        let said: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
        let message = said.as_ref().and_then(|said| said.get("detail")?.as_str());
        let message = printable(message.unwrap_or(answer.status.canonical_reason().unwrap_or("for a reason of its own")));
        RemoteError::Refused { status: answer.status, message, body: answer.body }
    }
}

/// What another process says, without what would move the cursor.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(1000).collect()
}

fn read_token(file: &PathBuf) -> Result<String, RemoteError> {
    use std::io::Read;
    let wrong = |reason: String| RemoteError::Token(format!("cannot read {}: {reason}", file.display()));
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|error| wrong(error.to_string()))?;
    opened.take(MAX_TOKEN).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    match text.trim() {
        "" => Err(wrong("it is empty".into())),
        token => Ok(token.to_owned()),
    }
}

/// Runs what asks a remote edge. What goes wrong is said on standard error, and `failure` is the exit code.
pub fn block_on(failure: u8, work: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(work)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::from(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn args(admin: &str, token: Option<&str>) -> AdminArgs {
        AdminArgs { admin: admin.into(), token: token.map(str::to_owned), token_file: None }
    }

    /// What the edge was sent, and what came of its answer.
    async fn answered(answer: &str, token: Option<&str>) -> (String, Result<Answer, RemoteError>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let remote = Remote::new(&args(&listener.local_addr().unwrap().to_string(), token)).unwrap();
        let answer = answer.to_owned();
        let edge = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let length = stream.read(&mut seen).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&seen[..length]).into_owned()
        });
        let got = remote.post("/api/v1/x?y=1", Body::json(&serde_json::json!({"a": 1}))).await;
        (edge.await.unwrap(), got)
    }

    fn response(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn an_answer_is_read_and_the_token_shown() {
        let (seen, got) = answered(&response("200 OK", "{\"ok\": true}"), Some("s3cret")).await;
        assert!(seen.starts_with("POST /api/v1/x?y=1 HTTP/1.1\r\nhost: 127.0.0.1:"), "{seen}");
        assert!(seen.contains("authorization: Bearer s3cret\r\n") && seen.contains("content-type: application/json"), "{seen}");
        assert!(seen.ends_with("{\"a\":1}"), "{seen}");
        let got = got.unwrap();
        assert_eq!(got.json::<serde_json::Value>().unwrap()["ok"], true);
        assert!(got.json::<Vec<u8>>().unwrap_err().to_string().contains("its JSON is something else"));
    }

    #[tokio::test]
    async fn refusals_say_what_to_do() {
        let unauthorized = response("401 Unauthorized", "{\"detail\": \"x\"}");
        assert!(matches!(answered(&unauthorized, None).await.1, Err(RemoteError::NoToken)));
        assert!(matches!(answered(&unauthorized, Some("wrong")).await.1, Err(RemoteError::WrongToken)));
        let error = answered(&response("409 Conflict", "{\"detail\": \"not \\u001b[31mnow\"}"), None).await.1.unwrap_err();
        assert_eq!(error.to_string(), "the edge refused: not \u{fffd}[31mnow (409 Conflict)");
        let error = answered("SSH-2.0-OpenSSH\r\n", None).await.1.unwrap_err();
        assert!(error.to_string().contains("does not speak as an admin API does"), "{error}");
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_address() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let remote = Remote::new(&args(&format!("http://127.0.0.1:{port}"), None)).unwrap();
        let error = remote.get("/stats").await.unwrap_err().to_string();
        assert!(error.contains(&format!("no edge answers at http://127.0.0.1:{port}: Connection refused")), "{error}");
        assert!(error.contains("--admin"), "{error}");
    }

    #[tokio::test]
    async fn an_edge_that_says_nothing_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let remote = Remote::new(&args(&listener.local_addr().unwrap().to_string(), None)).unwrap();
        let error = remote.with_patience(Duration::from_millis(20)).get("/stats").await.unwrap_err();
        assert!(matches!(error, RemoteError::Timeout { .. }), "{error}");
    }

    #[test]
    fn addresses_and_tokens() {
        for good in ["http://127.0.0.1:9900", "127.0.0.1:9900", "http://[::1]:9900/", "localhost:9900"] {
            assert!(Remote::new(&args(good, None)).is_ok(), "{good}");
        }
        for bad in ["", "https://127.0.0.1:9900", "http://x:9900/api", "http://user:pass@x:9900", "unix:/x", "http://"] {
            assert!(matches!(Remote::new(&args(bad, None)), Err(RemoteError::Address(_))), "{bad}");
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let from_file =
            |file: &std::path::Path| Remote::new(&AdminArgs { token_file: Some(file.into()), ..args("127.0.0.1:1", None) });
        assert!(matches!(from_file(&file), Err(RemoteError::Token(_))));
        std::fs::write(&file, "\n").unwrap();
        assert!(matches!(from_file(&file), Err(RemoteError::Token(_))));
        std::fs::write(&file, "s3cret\n").unwrap();
        let remote = from_file(&file).unwrap();
        assert_eq!(remote.token.as_ref().unwrap().expose(), "s3cret");
        assert!(!format!("{remote:?}").contains("s3cret"));
    }
}
