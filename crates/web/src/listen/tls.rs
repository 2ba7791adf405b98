//! TLS: a certificate from files, or one of our own making, replaced while connections go on.

use std::fs;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use data_encoding::HEXLOWER;
use data_encoding::HEXUPPER;
use rcgen::CertificateParams;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use sha2::Digest;
use sha2::Sha256;
use sojourn_core::time::Wall;
use tokio_util::sync::CancellationToken;

/// The longest file of certificates or keys.
const LONGEST: u64 = 1 << 20;

/// How often it is looked whether a file has changed.
const LOOK: Duration = Duration::from_secs(10);

/// How long a certificate of our own is good. Some browsers take none that is good for longer than 825
/// days, whoever made it.
const DAYS: u64 = 800;

/// How long before that a new one is made, at a start.
const RENEW_DAYS: u64 = 90;

/// The file of a certificate of our own, with its key.
const SELF_SIGNED: &str = "web-self-signed.pem";

const DAY: Duration = Duration::from_secs(86_400);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {why}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Certificate and key do not fit, or cannot be used.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// No certificate could be made.
    #[error("no certificate can be made: {0}")]
    Unmade(#[from] rcgen::Error),
}

/// What connections are encrypted with. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    cert: PathBuf,
    key: PathBuf,
    now: RwLock<Loaded>,
}

#[derive(Clone)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// Of the leaf certificate.
    fingerprint: String,
    /// Of both files.
    digest: [u8; 32],
}

impl Tls {
    /// TLS with a chain and its key, both PEM.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub fn from_files(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let now = RwLock::new(load(cert, key)?);
        let inner = Inner { cert: cert.to_owned(), key: key.to_owned(), now };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// TLS with a certificate of our own for these names, kept in `directory` until it is too old.
    ///
    /// # Errors
    /// When it cannot be made or kept.
    pub fn self_signed(directory: &Path, names: &[String], today: Wall) -> Result<Self, TlsError> {
        let path = directory.join(SELF_SIGNED);
        let heading = format!("names: {}\n", names.join(" "));
        let kept = fs::read_to_string(&path).unwrap_or_default();
        let good_until = kept.strip_prefix(&heading).and_then(|rest| {
            let line = rest.strip_prefix("until: ")?.lines().next()?;
            line.parse::<i64>().ok()
        });
        let due = today.after(DAY.saturating_mul(u32::try_from(RENEW_DAYS).unwrap_or(0)));
        if good_until.is_none_or(|until| until < due.0) {
            make(&path, &heading, names, today)?;
        }
        Self::from_files(&path, &path)
    }

    /// What the next connection is encrypted with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.loaded().config
    }

    /// SHA-256 of the certificate, as browsers show it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.loaded().fingerprint
    }

    fn loaded(&self) -> Loaded {
        self.inner.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again. Whether they had changed; a pair that cannot be used changes nothing.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let before = self.loaded().digest;
        let loaded = load(&self.inner.cert, &self.inner.key)?;
        let changed = loaded.digest != before;
        if changed {
            *self.inner.now.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        }
        Ok(changed)
    }

    /// Looks now and then whether there is a new certificate, until `over`. Connections that are there
    /// keep theirs.
    pub async fn watch(self, over: CancellationToken) {
        let mut told = None;
        loop {
            tokio::select! {
                () = over.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let this = self.clone();
            let Ok(result) = tokio::task::spawn_blocking(move || this.reload()).await else {
                return;
            };
            match result {
                Ok(changed) => {
                    if changed {
                        let fingerprint = self.fingerprint();
                        tracing::info!(fingerprint, event = "tls_reloaded", "a new certificate");
                    }
                    told = None;
                }
                Err(error) => {
                    // Once a mistake, not every ten seconds.
                    let line = error.to_string();
                    if told.as_ref() != Some(&line) {
                        tracing::error!(%error, event = "tls_kept", "the old certificate stays");
                        told = Some(line);
                    }
                }
            }
        }
    }
}

fn load(cert: &Path, key: &Path) -> Result<Loaded, TlsError> {
    let (cert_pem, key_pem) = (read(cert)?, read(key)?);
    let mut digest = Sha256::new();
    digest.update(u64::try_from(cert_pem.len()).unwrap_or(u64::MAX).to_be_bytes());
    digest.update(&cert_pem);
    digest.update(&key_pem);
    let wrong = |path: &Path, why| TlsError::Content { path: path.to_owned(), why };
    let chain = CertificateDer::pem_slice_iter(&cert_pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| wrong(cert, "not a chain of certificates in PEM"))?;
    let leaf = chain.first().ok_or_else(|| wrong(cert, "there is no certificate in it"))?;
    let fingerprint = HEXUPPER.encode(&Sha256::digest(leaf));
    let pairs: Vec<&str> = fingerprint.as_bytes().chunks(2).flat_map(std::str::from_utf8).collect();
    let fingerprint = pairs.join(":");
    let secret = PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|_| wrong(key, "there is no private key in PEM in it"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, secret)?;
    // WebSockets come by HTTP/1.1 alone.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded { config: Arc::new(config), fingerprint, digest: digest.finalize().into() })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        return Err(failed(io::Error::other("larger than 1 MB")));
    }
    Ok(bytes)
}

/// Makes a certificate and puts it in its place whole.
fn make(path: &Path, heading: &str, names: &[String], today: Wall) -> Result<(), TlsError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Sojourn, signed by itself");
    params.distinguished_name = name;
    let end = today.after(DAY.saturating_mul(u32::try_from(DAYS).unwrap_or(0)));
    let ymd = |wall: Wall| {
        let (year, month, day) = wall.date();
        let small = |n| u8::try_from(n).unwrap_or(1);
        rcgen::date_time_ymd(i32::from(year), small(month), small(day))
    };
    // Clocks of a LAN differ.
    params.not_before = ymd(Wall(today.0.saturating_sub(86_400_000_000)));
    params.not_after = ymd(end);
    let cert = params.self_signed(&key)?;
    let text = format!("{heading}until: {}\n{}{}", end.0, cert.pem(), key.serialize_pem());
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let random: [u8; 8] = Sha256::digest(cert.der())
        .get(..8)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or_default();
    let beside = path.with_extension(HEXLOWER.encode(&random));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)
}

/// The names of a certificate of our own: this machine's, and that which browsers use.
#[must_use]
pub fn self_signed_names(host: &str) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.parse::<IpAddr>().map_or(host.to_owned(), |address| address.to_string());
    if !names.contains(&host) {
        names.push(host);
    }
    names
}
