//! The way to push services. A browser says where its messages go, so anybody who may sign in chooses an
//! address that the gateway writes to: it is written to public hosts by https alone, nothing that they
//! answer is followed or shown, and names are looked up here, so that they mean what was checked.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use axum::http::Uri;
use axum::http::header::HOST;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a push service may take for one message.
const PATIENCE: Duration = Duration::from_secs(15);

/// Ports of https and http.
const HTTPS: u16 = 443;
const HTTP: u16 = 80;

/// Where a browser's messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
    path: String,
    tls: bool,
    /// The operator has named it: it may be anywhere.
    named: bool,
}

/// Why nothing is written to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadEndpoint {
    /// It is none.
    #[error("not an address of a push service")]
    Malformed,
    /// It is not https.
    #[error("not an https address")]
    NotSecure,
    /// It does not name a public host.
    #[error("not a public host")]
    NotPublic,
}

/// Why a message did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// It may not be written to.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    /// It cannot be reached.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It does not speak HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The message is none.
    #[error(transparent)]
    Message(#[from] axum::http::Error),
    /// It takes too long.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
}

impl Endpoint {
    /// Reads an address; those of `named` (`host:port`) may be anywhere, and without https.
    pub(crate) fn read(text: &str, named: &[String]) -> Result<Self, BadEndpoint> {
        let uri: Uri = text.parse().map_err(|_| BadEndpoint::Malformed)?;
        let authority = uri.authority().ok_or(BadEndpoint::Malformed)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(BadEndpoint::Malformed),
        };
        if authority.as_str().contains('@') || !text.is_ascii() {
            return Err(BadEndpoint::Malformed);
        }
        let host = authority.host().to_ascii_lowercase();
        let port = authority.port_u16().unwrap_or(if tls { HTTPS } else { HTTP });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let is_named = named.iter().any(|one| *one == format!("{host}:{port}"));
        if !is_named {
            if !tls {
                return Err(BadEndpoint::NotSecure);
            }
            if port != HTTPS || !is_public_name(&host) {
                return Err(BadEndpoint::NotPublic);
            }
        }
        Ok(Self { host, port, path, tls, named: is_named })
    }

    /// What a push service calls itself in what we sign for it.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        match (self.tls, self.port) {
            (true, HTTPS) | (false, HTTP) => format!("{scheme}://{}", self.host),
            _ => format!("{scheme}://{}:{}", self.host, self.port),
        }
    }

    /// Where it is, if it may be written to.
    async fn address(&self) -> Result<SocketAddr, Failed> {
        let host = self.host.trim_matches(['[', ']']);
        let mut found = tokio::net::lookup_host((host, self.port)).await?.peekable();
        let first = found.peek().copied().ok_or(BadEndpoint::NotPublic)?;
        // One that is not public among them is enough: which one is reached is not ours to say.
        if !self.named && !found.all(|address| is_public(address.ip())) {
            return Err(BadEndpoint::NotPublic.into());
        }
        Ok(first)
    }
}

/// Writes messages.
#[derive(Clone)]
pub(crate) struct Post {
    tls: TlsConnector,
}

impl Post {
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(config).into() })
    }

    /// Writes a message; which status it is answered with.
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        headers: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> Result<u16, Failed> {
        let sending = async {
            let address = endpoint.address().await?;
            let stream = TcpStream::connect(address).await?;
            match endpoint.tls {
                true => {
                    let name = ServerName::try_from(endpoint.host.clone());
                    let name = name.map_err(|_| BadEndpoint::NotPublic)?;
                    speak(self.tls.connect(name, stream).await?, endpoint, headers, body).await
                }
                false => speak(stream, endpoint, headers, body).await,
            }
        };
        tokio::time::timeout(PATIENCE, sending).await.map_err(|_| Failed::Late)?
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    endpoint: &Endpoint,
    headers: &[(&'static str, String)],
    body: Vec<u8>,
) -> Result<u16, Failed> {
    let mut request = Request::post(&endpoint.path)
        .header(HOST, endpoint.origin().split_once("://").map_or("", |(_, host)| host));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    let mut is_over = false;
    loop {
        // What it has to say beside the status is not read: the connection is dropped with it.
        tokio::select! {
            biased;
            answer = &mut answer => return Ok(answer?.status().as_u16()),
            over = &mut connection, if !is_over => {
                over?;
                is_over = true;
            }
        }
    }
}

/// Whether a name can be one that everybody means the same by.
fn is_public_name(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit_once('.').map(|(_, last)| last);
    let has_letters = |label: &str| label.bytes().any(|byte| byte.is_ascii_alphabetic());
    let private = ["local", "localhost", "internal", "lan", "home", "corp", "test", "invalid"];
    host.parse::<IpAddr>().is_err()
        && !host.starts_with('[')
        && last.is_some_and(|last| has_letters(last) && !private.contains(&last))
        && !host.ends_with(".home.arpa")
}

/// Whether an address is one of a host that everybody can reach.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => is_public_v4(address),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special && a < 224
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // What is handed out to hosts, without documentation, tunnels and what holds an IPv4 address.
    (0x2000..=0x3fff).contains(&first)
        && first != 0x2002
        && !(first == 0x2001 && (second < 0x0200 || second == 0x0db8))
        && !(first == 0x3fff && second < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_public_hosts_by_https_alone() {
        let read = |text: &str| Endpoint::read(text, &[]);
        let endpoint = read("https://fcm.googleapis.com/fcm/send/abc:def?x=1").unwrap();
        assert_eq!(endpoint.origin(), "https://fcm.googleapis.com");
        assert_eq!((endpoint.path.as_str(), endpoint.port), ("/fcm/send/abc:def?x=1", 443));
        for (text, why) in [
            ("", BadEndpoint::Malformed),
            ("/x", BadEndpoint::Malformed),
            ("ftp://a.example/x", BadEndpoint::Malformed),
            ("https://user@a.example/", BadEndpoint::Malformed),
            ("https://user:pass@a.example/", BadEndpoint::Malformed),
            ("http://a.example/x", BadEndpoint::NotSecure),
            ("https://a.example:8443/x", BadEndpoint::NotPublic),
            ("https://localhost/x", BadEndpoint::NotPublic),
            ("https://printer/x", BadEndpoint::NotPublic),
            ("https://db.internal/x", BadEndpoint::NotPublic),
            ("https://a.local./x", BadEndpoint::NotPublic),
            ("https://127.0.0.1/x", BadEndpoint::NotPublic),
            ("https://8.8.8.8/x", BadEndpoint::NotPublic),
            ("https://0x7f.1/x", BadEndpoint::NotPublic),
            ("https://2130706433/x", BadEndpoint::NotPublic),
            ("https://[::1]/x", BadEndpoint::NotPublic),
        ] {
            assert_eq!(read(text), Err(why), "{text}");
        }
        let named = ["127.0.0.1:4321".to_owned()];
        let endpoint = Endpoint::read("http://127.0.0.1:4321/x", &named).unwrap();
        assert!(endpoint.named && !endpoint.tls);
        assert_eq!(endpoint.origin(), "http://127.0.0.1:4321");
        assert!(Endpoint::read("http://127.0.0.1:4322/x", &named).is_err());
    }

    #[test]
    fn addresses_of_nobody_and_of_neighbours_are_not_public() {
        for public in ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "2001:db8::1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "2001::1",
            "3fff::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[tokio::test]
    async fn a_name_that_means_a_neighbour_is_not_written_to() {
        let named = Endpoint::read("https://push.example.org/x", &[]).unwrap();
        // As if it were looked up to here.
        let endpoint = Endpoint { host: "localhost".to_owned(), ..named };
        let failed = Post::new().unwrap().send(&endpoint, &[], Vec::new()).await.unwrap_err();
        assert!(matches!(failed, Failed::Endpoint(BadEndpoint::NotPublic)), "{failed}");
    }
}
