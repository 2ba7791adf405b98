//! Where the gateway is: at the address in `SOJOURN_URL`, or behind the socket in its data directory.

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::http::HeaderValue;
use hyper::http::header::AUTHORIZATION;
use hyper::http::header::HOST;
use hyper::http::header::USER_AGENT;
use hyper::http::request::Builder;
use sojourn_runner::tls::Tls;
use sojourn_runner::tls::TlsError;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::net::UnixStream;

use crate::failure::Failure;
use crate::failure::complain;

/// How long it may take until somebody is there.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection of any kind.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Where the gateway is, and what shows it who asks.
pub(crate) struct Target {
    place: Place,
    token: Option<HeaderValue>,
}

enum Place {
    /// Behind this socket, on its own machine.
    Socket(PathBuf),
    /// At this address.
    Net(Address),
}

struct Address {
    /// As it was given, for messages.
    shown: String,
    host: String,
    port: u16,
    /// What the `Host` header says.
    authority: String,
    tls: Option<Tls>,
}

/// Whether a gateway is named by its address.
pub(crate) fn is_remote() -> bool {
    variable("SOJOURN_URL").is_some()
}

impl Target {
    /// The gateway at `SOJOURN_URL`, else that of this data directory.
    pub(crate) fn new(
        data_dir: impl FnOnce() -> Result<PathBuf, Failure>,
    ) -> Result<Self, Failure> {
        let token = variable("SOJOURN_TOKEN").map(|token| bearer(&token)).transpose()?;
        let place = match variable("SOJOURN_URL") {
            Some(url) => Place::Net(Address::parse(&url, token.is_some())?),
            None => Place::Socket(data_dir()?.join("gateway.sock")),
        };
        Ok(Self { place, token })
    }

    /// What every request says, and the path as this gateway wants it.
    pub(crate) fn request(&self, path: &str) -> Builder {
        let host = match &self.place {
            Place::Socket(_) => "localhost",
            Place::Net(address) => &address.authority,
        };
        let agent = concat!("sojourn/", env!("CARGO_PKG_VERSION"));
        let builder = hyper::Request::builder().uri(path).header(HOST, host);
        let builder = builder.header(USER_AGENT, agent);
        match &self.token {
            Some(token) => builder.header(AUTHORIZATION, token),
            None => builder,
        }
    }

    /// The `Host` header.
    pub(crate) fn host(&self) -> &str {
        match &self.place {
            Place::Socket(_) => "localhost",
            Place::Net(address) => &address.authority,
        }
    }

    /// Whether a token shows who asks.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// A connection to it.
    pub(crate) async fn connect(&self) -> Result<Box<dyn Connection>, Failure> {
        let connected = async {
            match &self.place {
                Place::Socket(socket) => self.at_socket(socket).await,
                Place::Net(address) => self.at_address(address).await,
            }
        };
        let late = || Err(Failure::Unreachable(self.line("no answer; is the address right?")));
        tokio::time::timeout(CONNECT, connected).await.unwrap_or_else(|_| late())
    }

    /// A line about it.
    pub(crate) fn line(&self, what: &str) -> String {
        match &self.place {
            Place::Socket(socket) => format!("{}: {what}", socket.display()),
            Place::Net(address) => format!("{}: {what}", address.shown),
        }
    }

    async fn at_socket(&self, socket: &Path) -> Result<Box<dyn Connection>, Failure> {
        let failed = |error: &io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => Failure::refused(self.line(
                "only root and the gateway's user may ask the gateway here; try it with sudo, or \
                 set SOJOURN_URL and SOJOURN_TOKEN",
            )),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Failure::Unreachable(self.line(
                    "no gateway runs here; start it with \"sojourn serve\", name its data \
                     directory with --data-dir, or its address with SOJOURN_URL",
                ))
            }
            _ => Failure::Unreachable(self.line(&error.to_string())),
        };
        // A socket's address holds 108 bytes, and a data directory's path may be longer.
        let directory = socket.parent().unwrap_or(Path::new("/"));
        let directory = File::open(directory).map_err(|error| failed(&error))?;
        let short = format!("/proc/self/fd/{}/gateway.sock", directory.as_raw_fd());
        let stream = UnixStream::connect(short).await.map_err(|error| failed(&error))?;
        Ok(Box::new(stream))
    }

    async fn at_address(&self, address: &Address) -> Result<Box<dyn Connection>, Failure> {
        let unreachable = |what: &str| Failure::Unreachable(self.line(what));
        let host = address.host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, address.port)).await.map_err(|error| {
            let hint = "is the gateway running, and SOJOURN_URL right?";
            unreachable(&format!("{error}; {hint}"))
        })?;
        // Keys that are typed are not to wait for each other.
        let _slower = stream.set_nodelay(true);
        let Some(tls) = &address.tls else { return Ok(Box::new(stream)) };
        match tls.over(stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(line) => Err(unreachable(&line)),
        }
    }
}

impl Address {
    fn parse(url: &str, has_token: bool) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::Usage(format!("SOJOURN_URL: {why}, like https://gateway.example.org"))
        };
        let uri: Uri = url.parse().map_err(|_| wrong("not an address"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("has to begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("has no place for a name or password"));
        }
        if !matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("" | "/")) {
            return Err(wrong("has no path"));
        }
        let host = authority.host().to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let authorities = variable("SOJOURN_CA").map(PathBuf::from);
        let speak = || Tls::new(host.trim_matches(['[', ']']), authorities.as_deref());
        let tls = secure.then(speak).transpose().map_err(|error| match error {
            TlsError::Name(_) => Failure::Usage(format!("SOJOURN_URL: {error}")),
            TlsError::Authorities(_) => Failure::Usage(error.to_string()),
            TlsError::None(_) => Failure::refused(error),
        })?;
        let bare = host.trim_matches(['[', ']']);
        let loopback = bare == "localhost"
            || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        if !secure && !loopback && has_token {
            complain("note: http sends your token where others can read it; use https");
        }
        let shown = url.trim_end_matches('/').to_owned();
        Ok(Self { shown, host, port, authority: authority.to_string(), tls })
    }
}

fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    let wrong = || Failure::Usage("SOJOURN_TOKEN: not a token, which is one word".to_owned());
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(value)
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    let value = env::var(name).ok()?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_and_a_host() {
        let at = |url: &str| Address::parse(url, false);
        let plain = at("http://127.0.0.1:8080/").ok().unwrap();
        assert_eq!((plain.host.as_str(), plain.port), ("127.0.0.1", 8080));
        assert!(plain.tls.is_none() && plain.shown == "http://127.0.0.1:8080");
        let secure = at("https://[::1]").ok().unwrap();
        assert_eq!((secure.host.as_str(), secure.port), ("[::1]", 443));
        assert!(secure.tls.is_some());
        for bad in ["gateway", "ftp://x", "https://", "https://a:b@c", "https://c/sojourn", "::"] {
            assert!(matches!(at(bad), Err(Failure::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn a_token_is_one_word_and_is_not_shown() {
        assert!(bearer("two words").is_err());
        assert!(!format!("{:?}", bearer("sjt1_secret").unwrap()).contains("secret"));
    }
}
