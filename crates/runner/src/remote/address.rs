//! Where a gateway is, and how it is dialled: a WebSocket, over TLS unless it is on this machine.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use sojourn_core::wire::relay::MAX_FRAME;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::options::Token;
use crate::tls::Tls;
use crate::tls::plain;

/// Where a gateway takes runners.
const PATH: &str = "/api/runners/connect";

/// How long it may take until somebody is there, and until they have greeted.
const CONNECT: Duration = Duration::from_secs(20);

/// The most of a refusal that is shown, in characters.
const LONGEST_REFUSAL: usize = 300;

/// A connection of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a gateway.
pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Why an address is no good.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DialError {
    /// Nobody is there, or nobody who speaks to runners: it may be another time.
    #[error("{0}")]
    Unreachable(String),
    /// The gateway does not want this runner.
    #[error("{0}")]
    Refused(String),
}

/// Where a gateway is.
#[derive(Clone)]
pub struct Address {
    shown: String,
    host: String,
    port: u16,
    authority: String,
    tls: Option<Tls>,
}

impl Address {
    /// Reads an address like `https://gateway.example.org`. `authorities` is a file with further
    /// authorities to trust. Without TLS it has to be this machine, unless `insecure`.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn parse(
        url: &str,
        authorities: Option<&Path>,
        insecure: bool,
    ) -> Result<Self, AddressError> {
        let wrong = |why: &str| {
            AddressError(format!("{url}: {why}; it is like https://gateway.example.org"))
        };
        let uri: Uri = url.parse().map_err(|_| wrong("not an address"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("it has to begin with https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("there is no place for a name or password in it"));
        }
        if !matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("" | "/")) {
            return Err(wrong("it has no path"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let here = host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !secure && !here && !insecure {
            let message = "http would send the token and all sessions where others can read them; \
                           use https, or --insecure-http in a network you trust";
            return Err(AddressError(format!("{url}: {message}")));
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = secure.then(|| Tls::new(&host, authorities)).transpose();
        let tls = tls.map_err(|error| AddressError(error.to_string()))?;
        let shown = url.trim_end_matches('/').to_owned();
        Ok(Self { shown, host, port, authority: authority.to_string(), tls })
    }

    /// As people write it.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Where a person looks at a session.
    pub(super) fn page(&self, session: impl std::fmt::Display) -> String {
        format!("{}/sessions/{session}", self.shown)
    }

    /// Opens a connection.
    pub(super) async fn dial(&self, token: &Token, build: &str) -> Result<Socket, DialError> {
        let unreachable = |what: String| DialError::Unreachable(format!("{}: {what}", self.shown));
        let dialled = timeout(CONNECT, self.connect(token, build)).await;
        dialled.unwrap_or_else(|_| Err(unreachable("no answer".to_owned())))
    }

    async fn connect(&self, token: &Token, build: &str) -> Result<Socket, DialError> {
        let unreachable = |what: String| DialError::Unreachable(format!("{}: {what}", self.shown));
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await;
        let tcp = tcp.map_err(|error| unreachable(plain(&error)))?;
        // Small messages are not to wait for each other.
        let _slower = tcp.set_nodelay(true);
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(tls.over(tcp).await.map_err(unreachable)?),
        };
        let request = self.request(token, build).map_err(|error| unreachable(error.to_string()))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME))
            .read_buffer_size(64 << 10);
        match client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => {
                let status = response.status();
                let body = response.into_body().unwrap_or_default();
                Err(self.refusal(status, &body))
            }
            Err(error) => Err(unreachable(format!("it hung up: {error}"))),
        }
    }

    fn request(
        &self,
        token: &Token,
        build: &str,
    ) -> Result<Request, tokio_tungstenite::tungstenite::http::Error> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))?;
        bearer.set_sensitive(true);
        Request::builder()
            .uri(format!("ws://{}{PATH}", self.authority))
            .header("host", &self.authority)
            .header("user-agent", format!("sojourn-runner/{build}"))
            .header("authorization", bearer)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key())
            .body(())
    }

    /// An answer that is no WebSocket.
    fn refusal(&self, status: StatusCode, body: &[u8]) -> DialError {
        let said: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let said = said.as_ref().and_then(|body| body.get("error")?.as_str());
        let said: String = said.unwrap_or_default().chars().take(LONGEST_REFUSAL).collect();
        let said = said.escape_debug();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => DialError::Refused(format!(
                "{}: the gateway does not take this token ({said}); make another with \"sojourn \
                 token create --runner NAME\"",
                self.shown
            )),
            StatusCode::NOT_FOUND => DialError::Unreachable(format!(
                "{}: no runner can connect there; is it the address of a gateway?",
                self.shown
            )),
            _ => DialError::Unreachable(format!("{}: the answer is {status} {said}", self.shown)),
        }
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        let at = |url: &str| Address::parse(url, None, false);
        for here in ["http://127.0.0.1:8080/", "http://localhost", "http://[::1]:1"] {
            assert!(at(here).unwrap().tls.is_none(), "{here}");
        }
        let error = at("http://gateway.example.org").unwrap_err().to_string();
        assert!(error.contains("use https"), "{error}");
        assert!(Address::parse("http://gateway.example.org", None, true).is_ok());
        let secure = at("https://gateway.example.org").unwrap();
        assert_eq!((secure.port, secure.tls.is_some()), (443, true));
        for bad in ["gateway", "ftp://x", "https://", "https://a:b@c", "https://c/x", "::"] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_one_word_and_is_not_shown() {
        assert!(Token::parse("two words").is_none() && Token::parse("\n").is_none());
        let token = Token::parse("sjr1_secret\n").unwrap();
        assert_eq!(token.reveal(), "sjr1_secret");
        assert!(!format!("{token:?}").contains("secret"));
    }

    #[test]
    fn a_token_that_is_not_taken_is_told_apart_from_a_gateway_that_is_away() {
        let address = Address::parse("http://localhost", None, false).unwrap();
        let body = br#"{"error":"revoked\u001b[31m","code":"LOGIN_REQUIRED"}"#;
        let refused = address.refusal(StatusCode::UNAUTHORIZED, body);
        let DialError::Refused(line) = refused else { panic!("{refused}") };
        assert!(line.contains("(revoked\\u{1b}[31m)"), "{line}");
        let away = address.refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert!(matches!(away, DialError::Unreachable(_)), "{away}");
    }
}
