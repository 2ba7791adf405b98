//! TLS: of files, of our own making, and a new certificate without a restart.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::StreamOwned;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::Scratch;

/// Asks for health as somebody who trusts these certificates alone.
fn health(port: u16, trusted: &Path) -> Result<String, String> {
    let pem = fs::read(trusted).expect("a certificate");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.expect("PEM")).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the web door");
    let mut tls = StreamOwned::new(connection, stream);
    let request =
        format!("GET /api/health HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A certificate for this machine, and its key.
fn make(directory: &Path, name: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(directory.join(format!("{name}.crt")))
        .arg("-keyout")
        .arg(directory.join(format!("{name}.key")))
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
}

/// Puts a pair where the gateway looks for it, readable for its user.
fn install(directory: &Path, name: &str) {
    for (ending, place) in [("crt", "web.crt"), ("key", "web.key")] {
        let beside = directory.join(format!("{place}.new"));
        fs::copy(directory.join(format!("{name}.{ending}")), &beside).expect("a copy");
        let readable = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
        fs::set_permissions(&beside, readable).expect("its mode");
        fs::rename(&beside, directory.join(place)).expect("in its place");
    }
}

#[test]
fn a_certificate_of_our_own_is_made_once_and_told_by_its_fingerprint() {
    let options = Options { web: "tls_self_signed = true".to_owned(), ..Options::default() };
    let mut gateway = Gateway::start(env!("CARGO_BIN_EXE_sojourn"), &options);
    let file = gateway.data().join("keys/web-self-signed.pem");
    let answer = health(gateway.web_port(), &file).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("strict-transport-security: max-age="), "{answer}");
    let fingerprint = |gateway: &Gateway| {
        gateway.wait_for_log("TLS", |line| line["event"] == "tls")["fingerprint"].clone()
    };
    let first = fingerprint(&gateway);
    assert_eq!(first.as_str().map(str::len), Some(32 * 3 - 1), "{first}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    gateway.stop();
    gateway.launch();
    assert_eq!(fingerprint(&gateway), first, "and kept");
}

#[test]
fn a_new_certificate_needs_no_restart_and_a_broken_one_changes_nothing() {
    let scratch = Scratch::new();
    let place = scratch.path();
    // The gateway's user has to get there.
    let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    fs::set_permissions(place, open).expect("its mode");
    make(place, "one");
    make(place, "two");
    install(place, "one");
    let web =
        format!("tls_cert = {:?}\ntls_key = {:?}", place.join("web.crt"), place.join("web.key"));
    let gateway =
        Gateway::start(env!("CARGO_BIN_EXE_sojourn"), &Options { web, ..Options::default() });
    let port = gateway.web_port();
    assert!(health(port, &place.join("one.crt")).is_ok());
    assert!(health(port, &place.join("two.crt")).is_err());

    fs::write(place.join("web.crt"), "no certificate").expect("a file");
    super::hang_up(&gateway);
    gateway.wait_for_log("a refusal", |line| line["event"] == "config_refused");
    assert!(health(port, &place.join("one.crt")).is_ok(), "the old one is still good");

    install(place, "two");
    super::hang_up(&gateway);
    gateway.wait_for_log("a reload", |line| line["event"] == "config_reloaded");
    assert!(health(port, &place.join("two.crt")).is_ok());
    assert!(health(port, &place.join("one.crt")).is_err());
}
