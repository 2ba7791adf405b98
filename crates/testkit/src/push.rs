//! A push service on loopback. It is everything between the gateway and a browser's service worker: it
//! checks who writes, and reads what only the browser can.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use aes_gcm::Aes128Gcm;
use aes_gcm::KeyInit;
use aes_gcm::aead::Aead;
use data_encoding::BASE64URL_NOPAD;
use hkdf::Hkdf;
use p256::PublicKey;
use p256::SecretKey;
use p256::ecdsa::Signature;
use p256::ecdsa::VerifyingKey;
use p256::ecdsa::signature::Verifier;
use p256::elliptic_curve::sec1::ToSec1Point;
use serde_json::Value;
use sha2::Sha256;

/// A push service with browsers.
#[derive(Debug)]
pub struct PushService {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    browsers: BTreeMap<String, (SecretKey, [u8; 16])>,
    gone: BTreeSet<String>,
    got: Vec<(String, Result<Value, String>)>,
}

/// What a browser says of itself when it wants to be told.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Where its messages go.
    pub endpoint: String,
    /// Its public key.
    pub p256dh: String,
    /// The secret it shares.
    pub auth: String,
}

impl PushService {
    /// Opens one on a free port.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (state, over) =
            (Arc::new(Mutex::new(State::default())), Arc::new(AtomicBool::new(false)));
        let (shared, is_over) = (state.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                if let Ok(stream) = stream {
                    // Whoever breaks off has told nothing.
                    let _broken = serve(stream, address, &shared);
                }
            }
        });
        Self { address, state, over, thread: Some(thread) }
    }

    /// Its `host:port`, for the configuration.
    #[must_use]
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// A browser of this name wants to be told.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn subscribe(&self, name: &str) -> Subscription {
        let mut seed = [7; 32];
        seed.iter_mut().zip(name.bytes()).for_each(|(at, byte)| *at ^= byte);
        let key = SecretKey::from_slice(&seed).expect("a key");
        let auth = [42; 16];
        let point = key.public_key().to_sec1_point(false);
        let subscription = Subscription {
            endpoint: format!("http://{}/to/{name}", self.address),
            p256dh: BASE64URL_NOPAD.encode(point.as_bytes()),
            auth: BASE64URL_NOPAD.encode(&auth),
        };
        self.state().browsers.insert(name.to_owned(), (key, auth));
        subscription
    }

    /// A browser is not known any more: 410.
    pub fn forget(&self, name: &str) {
        self.state().gone.insert(name.to_owned());
    }

    /// What a browser was told so far.
    ///
    /// # Panics
    /// When something could not be read, or did not come from a gateway.
    #[must_use]
    pub fn told(&self, name: &str) -> Vec<Value> {
        let state = self.state();
        let to = state.got.iter().filter(|(to, _)| to == name);
        to.map(|(_, text)| text.clone().unwrap_or_else(|why| panic!("to {name}: {why}"))).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PushService {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Wakes it, so that it sees that.
        let _refused = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn serve(stream: TcpStream, at: SocketAddr, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(crate::PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let name = line.strip_prefix("POST /to/").and_then(|rest| rest.split(' ').next());
    let name = name.unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((key, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(key.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0).min(8192)];
    reader.read_exact(&mut body)?;
    let status = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        match (state.gone.contains(&name), state.browsers.get(&name)) {
            (false, Some((key, auth))) => {
                let text = checked(&headers, at).and_then(|()| opened(key, auth, &body));
                state.got.push((name, text));
                "201 Created"
            }
            _ => "410 Gone",
        }
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    reader.into_inner().write_all(answer.as_bytes())
}

/// Whether it is from somebody who signs for us, as RFC 8292 has it.
fn checked(headers: &BTreeMap<String, String>, at: SocketAddr) -> Result<(), String> {
    let header = |name: &str| headers.get(name).cloned().ok_or(format!("no header {name}"));
    for (name, wanted) in [("content-encoding", "aes128gcm"), ("urgency", "high")] {
        if header(name)? != wanted {
            return Err(format!("{name} is not {wanted}"));
        }
    }
    header("ttl")?.parse::<u32>().map_err(|error| format!("TTL: {error}"))?;
    let said = header("authorization")?;
    let parts = said.strip_prefix("vapid t=").and_then(|rest| rest.split_once(", k="));
    let (token, key) = parts.ok_or(format!("not VAPID: {said}"))?;
    let bytes = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|e| e.to_string());
    let key = VerifyingKey::from_sec1_bytes(&bytes(key)?).map_err(|error| error.to_string())?;
    let (text, signature) = token.rsplit_once('.').ok_or("no signature")?;
    let signature = Signature::from_slice(&bytes(signature)?).map_err(|error| error.to_string())?;
    key.verify(text.as_bytes(), &signature).map_err(|error| error.to_string())?;
    let claims = bytes(text.split_once('.').ok_or("no claims")?.1)?;
    let claims: Value = serde_json::from_slice(&claims).map_err(|error| error.to_string())?;
    match claims["aud"] == format!("http://{at}") && claims["sub"].is_string() {
        true => Ok(()),
        false => Err(format!("not for us: {claims}")),
    }
}

/// Reads a message as a browser does: RFC 8291.
fn opened(key: &SecretKey, auth: &[u8], body: &[u8]) -> Result<Value, String> {
    let (salt, rest) = body.split_at_checked(16).ok_or("no salt")?;
    let (_record, rest) = rest.split_at_checked(4).ok_or("no record size")?;
    let (length, rest) = rest.split_first().ok_or("no key")?;
    let (sender, sealed) = rest.split_at_checked(usize::from(*length)).ok_or("no key")?;
    let theirs = PublicKey::from_sec1_bytes(sender).map_err(|error| error.to_string())?;
    let ours = key.public_key().to_sec1_point(false);
    let agreed = key.diffie_hellman(&theirs);
    let mut input = [0; 32];
    let info = [b"WebPush: info\0".as_slice(), ours.as_bytes(), sender].concat();
    expand(auth, agreed.raw_secret_bytes(), &info, &mut input);
    let (mut content_key, mut nonce) = ([0; 16], [0; 12]);
    expand(salt, &input, b"Content-Encoding: aes128gcm\0", &mut content_key);
    expand(salt, &input, b"Content-Encoding: nonce\0", &mut nonce);
    let cipher = Aes128Gcm::new(&content_key.into());
    let text = cipher.decrypt(&nonce.into(), sealed).map_err(|_| "it is not sealed for us")?;
    let end = text.iter().rposition(|byte| *byte != 0).filter(|end| text.get(*end) == Some(&2));
    let text = text.get(..end.ok_or("it does not end")?).unwrap_or_default();
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

fn expand(salt: &[u8], input: &[u8], info: &[u8], out: &mut [u8]) {
    Hkdf::<Sha256>::new(Some(salt), input).expand(info, out).expect("so few bytes");
}
