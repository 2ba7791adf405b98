//! How a gateway is spoken to over TLS: with the authorities that everybody trusts, and those of a file
//! that whoever dials names. The runner's and the command line's.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The longest file of certificates.
const LONGEST: u64 = 1 << 20;

/// Why a host cannot be spoken to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// That is no name.
    #[error("{0} is not a host's name")]
    Name(String),
    /// The file of authorities is no good.
    #[error("SOJOURN_CA: {0}")]
    Authorities(String),
    /// This program has no TLS to offer.
    #[error("{0}")]
    None(String),
}

/// TLS with one host.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// For this host, as it is named in its certificate. `authorities` is a file with further ones to
    /// trust.
    ///
    /// # Errors
    /// When that is no host's name, or the file cannot be read.
    pub fn new(host: &str, authorities: Option<&Path>) -> Result<Self, TlsError> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| TlsError::Name(host.to_owned()))?;
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(file) = authorities {
            add(&mut roots, file)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::None(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Speaks it over a connection.
    ///
    /// # Errors
    /// A line that says what to do.
    pub async fn over(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let connected = self.connector.connect(self.name.clone(), stream).await;
        connected.map_err(|error| not_trusted(&error))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.name).finish()
    }
}

fn add(roots: &mut RootCertStore, file: &Path) -> Result<(), TlsError> {
    let failed =
        |error: &dyn fmt::Display| TlsError::Authorities(format!("{}: {error}", file.display()));
    let length = fs::metadata(file).map_err(|error| failed(&plain(&error)))?.len();
    if length > LONGEST {
        return Err(failed(&"too long for a file of certificates"));
    }
    let mut found = 0;
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))? {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
        found += 1;
    }
    match found {
        0 => Err(failed(&"there is no certificate in it")),
        _ => Ok(()),
    }
}

fn not_trusted(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => format!(
            "its certificate is not trusted ({why}); if it is your own, name the file of its \
             authority in SOJOURN_CA"
        ),
        _ => format!("no TLS is spoken there ({}); is it http://?", plain(error)),
    }
}

/// The system's words without the number behind them.
pub(crate) fn plain(error: &io::Error) -> String {
    let told = error.to_string();
    told.split_once(" (os error ").map_or(told.as_str(), |(before, _)| before).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_authority_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let told = || Tls::new("localhost", Some(&file)).unwrap_err().to_string();
        assert!(told().contains("ca.pem: No such file"), "{}", told());
        fs::write(&file, "nothing").unwrap();
        assert!(told().contains("there is no certificate in it"), "{}", told());
        fs::write(&file, vec![b'x'; 2 << 20]).unwrap();
        assert!(told().contains("too long"), "{}", told());
        assert_eq!(Tls::new("a b", None).unwrap_err(), TlsError::Name("a b".to_owned()));
        assert!(Tls::new("::1", None).is_ok());
    }
}
