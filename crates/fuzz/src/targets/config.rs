//! Configuration, and the small texts in it and elsewhere.

use sojourn_core::ids::SessionId;
use sojourn_core::ids::is_named_by;
use sojourn_core::network::Network;
use sojourn_core::time::Wall;
use sojourn_core::units::Size;
use sojourn_core::units::Span;
use sojourn_engine::identity::SshKey;
use sojourn_sandbox::egress::Entry;

use crate::config::read;

/// A file, and a variable of the environment over it: whatever is wrong has a line, and what is in
/// effect can be written as a file that means the same.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match read("fuzz.toml", text, &[]) {
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            assert!(errors.iter().all(|line| !line.trim().is_empty()));
        }
        Ok((config, _)) => {
            assert_eq!(config.keys_that_differ(&config), [""; 0]);
            let written = toml::to_string(&config.to_toml()).expect("what is in effect is TOML");
            // Secrets are hidden in it, and hidden ones are not always possible ones.
            if !text.contains("credentials") {
                let (again, _) = read("again.toml", &written, &[])
                    .unwrap_or_else(|errors| panic!("{}\n{written}", errors.join("\n")));
                assert_eq!(again.to_toml(), config.to_toml());
            }
        }
    }
    let (name, value) = text.split_once('\n').unwrap_or((text, "1"));
    let variable = [(format!("SOJOURN_{name}"), value.to_owned())];
    if let Err(errors) = read("", "", &variable) {
        assert!(!errors.is_empty());
    }
}

/// A line of `authorized_keys`.
pub fn public_key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<SshKey>() {
        Ok(key) => {
            let again: SshKey = key.to_string().parse().expect("a key is one again");
            assert_eq!(again.fingerprint(), key.fingerprint());
            assert!(key.comment().chars().count() <= 64);
            assert!(!key.comment().chars().any(char::is_control));
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
}

/// Durations, sizes, ids and their endings, networks, destinations, times.
pub fn small_texts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(span) = text.parse::<Span>() {
        assert_eq!(span.to_string().parse(), Ok(span));
        assert!(!sojourn_core::units::in_words(span.0).is_empty());
    }
    if let Ok(size) = text.parse::<Size>() {
        assert_eq!(size.to_string().parse(), Ok(size));
    }
    let known: SessionId = "01932b5e-7c1a-7f00-8000-00003f2a91c0".parse().expect("an id");
    if is_named_by(&known.0, text) {
        let plain = text.replace('-', "").to_ascii_lowercase();
        assert!(plain.len() >= 4 && known.0.simple().to_string().ends_with(&plain));
    }
    if let Ok(id) = text.parse::<SessionId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(is_named_by(&id.0, &id.short()));
    }
    if let Ok(network) = text.parse::<Network>() {
        assert_eq!(network.to_string().parse(), Ok(network));
    }
    if let Ok(entry) = text.parse::<Entry>() {
        assert_eq!(entry.to_string().parse::<Entry>().map_err(|e| e.to_string()), Ok(entry));
    }
    if let Ok(time) = Wall::from_rfc3339(text) {
        let millisecond = Wall::from_rfc3339(&time.to_rfc3339()).expect("a time is one again");
        assert!((time.0 - millisecond.0).abs() <= 1000);
    }
    if let Some(time) = Wall::from_file_name(text) {
        assert_eq!(Wall::from_file_name(&time.to_file_name()), Some(time));
    }
}
