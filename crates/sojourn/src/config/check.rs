//! What no key can tell by itself: how keys fit together, and what this version makes of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;

use sojourn_sandbox::egress;
use sojourn_shim::nat;

use super::Config;
use super::Mode;
use super::kinds;
use super::node::Node;
use super::profile::Network;
use super::profile::Profile;
use super::profile::SandboxKind;
use super::profile::Share;
use super::report::Report;
use super::sections::Web;
use super::value::Laid;

/// Kernel user ids of one sandbox.
const UIDS_A_SANDBOX: u64 = 65_536;

/// What no overlay changes where the root file system is the host's.
const COVERED: [&str; 6] = ["usr", "bin", "sbin", "lib", "etc/alternatives", "etc/ld.so.cache"];

/// Keys of a listener that only a honeypot has.
const HONEYPOT_KEYS: [&str; 5] =
    ["profile", "credentials", "accept_after_failures", "max_sessions", "refusal_delay"];

/// Keys of a listener that only real accounts have a use for.
const USERS_KEYS: [&str; 2] = ["trusted_user_ca", "connects_per_minute"];

/// Reports values that are fine alone and wrong together.
pub(crate) fn relations(config: &Config, root: &Node, report: &mut Report) {
    listeners(config, root, report);
    web(&config.web, root, report);
    let first = u64::from(config.sandbox.uid_base);
    let end = first + u64::from(config.sandbox.uid_count) * UIDS_A_SANDBOX;
    if end > u64::from(u32::MAX) {
        let message = format_args!("the last of these ranges ends at {end}, beyond {}", u32::MAX);
        let node = place(root, &["sandbox", "uid_count"]).or_else(|| root.get("sandbox"));
        report.problem(node.unwrap_or(root), message);
    }
    for (name, profile, is_for_somebody) in config.profiles.all() {
        if let Some(node) = place(root, &["profiles", name]) {
            kinds::check(config, profile, is_for_somebody, node, report);
        }
    }
    let is_file = |profile: &Profile| profile.rootfs.0.as_ref().is_some_and(|path| path.is_file());
    if config.sandbox.uid_count < 2 && config.profiles.usable().any(|(_, p)| is_file(p)) {
        let node = place(root, &["sandbox", "uid_count"]).unwrap_or(root);
        report.problem(node, "image archives take one range for themselves: two are the least");
    }
    for (name, profile) in config.profiles.usable() {
        if let Some(node) = place(root, &["profiles", name]) {
            check_profile(name, profile, node, report);
        }
    }
}

fn listeners(config: &Config, root: &Node, report: &mut Report) {
    let mut taken = BTreeMap::from([(config.web.listen.0, "web".to_owned())]);
    if let Some(address) = config.metrics.listen.0
        && let Some(other) = taken.insert(address, "metrics".to_owned())
        && address.port() != 0
    {
        let node = place(root, &["metrics", "listen"]).unwrap_or(root);
        report.problem(node, format_args!("{other} listens on {address} already"));
    }
    for (index, listener) in config.ssh.iter().enumerate() {
        let Some(node) = root.get("ssh").and_then(|list| list.item(index)) else { continue };
        let address = listener.listen.0;
        if let Some(other) = taken.insert(address, format!("ssh[{index}]"))
            && address.port() != 0
        {
            let node = node.get("listen").unwrap_or(node);
            report.problem(node, format_args!("{other} listens on {address} already"));
        }
        let (others, mode) = match listener.mode {
            Mode::Users => (&HONEYPOT_KEYS[..], "honeypot"),
            Mode::Honeypot => (&USERS_KEYS[..], "users"),
        };
        for node in others.iter().filter_map(|key| node.get(key)) {
            let message = format_args!("only a listener with mode = {mode:?} has this key");
            report.problem(node, message);
        }
        if let Err(error) = listener.algorithms().check() {
            let node = node.get(error.key()).unwrap_or(node);
            report.problem(node, error);
        }
        if let Some(file) = &listener.trusted_user_ca.0 {
            let node = node.get("trusted_user_ca").unwrap_or(node);
            expect_path(node, std::fs::metadata(file), |about| about.is_file(), report);
        }
    }
}

/// Passwords and logins do not travel in the clear unless somebody insists.
fn web(web: &Web, root: &Node, report: &mut Report) {
    let Some(section) = root.get("web") else { return };
    let at = |key| section.get(key).unwrap_or(section);
    if let Some(origin) = &web.public_url.0 {
        if !origin.is_secure() && !origin.is_loopback() && !web.insecure_http {
            let message = "http on a host that is not this machine: passwords would travel in the \
                           clear; use https, or set insecure_http = true";
            report.problem(at("public_url"), message);
        }
        if !origin.is_secure() && web.has_tls() {
            report.problem(at("public_url"), "http, while the listener speaks TLS; make it https");
        }
    }
    for (key, file) in [("tls_cert", &web.tls_cert.0), ("tls_key", &web.tls_key.0)] {
        if let Some(file) = file {
            expect_path(at(key), std::fs::metadata(file), std::fs::Metadata::is_file, report);
        }
    }
    match (&web.tls_cert.0, &web.tls_key.0) {
        (Some(_), None) => report.problem(at("tls_cert"), "tls_key has to name its key"),
        (None, Some(_)) => report.problem(at("tls_key"), "tls_cert has to name its certificate"),
        (Some(_), Some(_)) if web.tls_self_signed => {
            let message = "there is a certificate in tls_cert already; leave one of them out";
            report.problem(at("tls_self_signed"), message);
        }
        _ => {}
    }
    if web.max_connections_per_address > web.max_connections {
        let message = format_args!(
            "max_connections_per_address is {}, more than max_connections, {}",
            web.max_connections_per_address, web.max_connections
        );
        report.problem(at("max_connections_per_address"), message);
    }
}

fn check_profile(name: &str, profile: &Profile, node: &Node, report: &mut Report) {
    if profile.command.first().is_none_or(String::is_empty) {
        let node = node.get("command").unwrap_or(node);
        report.problem(node, "no program: the first entry is the program, the rest its arguments");
    }
    if profile.network == Network::None && !profile.egress.is_empty() {
        report.note(format!("profiles.{name}.egress says nothing while network is \"none\""));
    }
    if profile.egress.len() > egress::MOST {
        let node = node.get("egress").unwrap_or(node);
        report.problem(node, format_args!("more than {} entries", egress::MOST));
    }
    if profile.network == Network::Nat
        && let Err(missing) = nat::check()
    {
        report.note(format!("profiles.{name} has no network yet: {missing}"));
    }
    if let Laid::Directory(overlay) = &profile.overlay.0 {
        let place = node.get("overlay").unwrap_or(node);
        expect_path(place, std::fs::metadata(overlay), std::fs::Metadata::is_dir, report);
        if profile.sandbox == SandboxKind::Native && profile.rootfs.0.is_none() {
            let hidden = COVERED.iter().filter(|name| overlay.join(name).exists());
            for name in hidden {
                report.note(format!(
                    "overlay {}: {name} in it is not seen, the host's own lies over it",
                    overlay.display()
                ));
            }
        }
    }
    if profile.share == Share::User && profile.sandbox != SandboxKind::Native {
        let node = node.get("share").unwrap_or(node);
        report.problem(node, "only native sandboxes are shared in this version");
    }
    if let Some(path) = &profile.rootfs.0 {
        let node = node.get("rootfs").unwrap_or(node);
        let about = std::fs::metadata(path);
        if !about.as_ref().is_ok_and(std::fs::Metadata::is_file) {
            expect_path(node, about, std::fs::Metadata::is_dir, report);
        } else if !looks_like_an_archive(path) {
            report.problem(
                node,
                "a file that is no image archive: a tar, or one compressed with gzip or zstd",
            );
        }
    }
}

/// Whether the first bytes of a file are those of a tar, or of what one is compressed with. One that
/// cannot be read from here is left to those who will.
fn looks_like_an_archive(path: &Path) -> bool {
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(512).read_to_end(&mut begin));
    let is_tar = begin.get(257..262) == Some(b"ustar");
    let is_compressed = [&[0x1f, 0x8b][..], &[0x28, 0xb5, 0x2f, 0xfd]];
    read.is_err() || is_tar || is_compressed.iter().any(|magic| begin.starts_with(magic))
}

/// Reports a path that is not there. One that cannot be looked at from here is left to those who
/// will use it.
fn expect_path(
    node: &Node,
    about: io::Result<std::fs::Metadata>,
    is_right: impl Fn(&std::fs::Metadata) -> bool,
    report: &mut Report,
) {
    match about {
        Ok(about) if !is_right(&about) => report.problem(node, "not a thing of the kind wanted"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report.problem(node, "there is no such file or directory");
        }
        _ => {}
    }
}

/// Notes what is accepted and does nothing yet.
pub(crate) fn remarks(config: &Config, report: &mut Report) {
    if config.web.public_url.0.as_ref().is_some_and(|origin| origin.is_secure())
        && !config.web.has_tls()
        && config.web.trusted_proxies.is_empty()
    {
        report.note(
            "web.public_url is https, and nothing here speaks TLS: name the proxy that does in \
             web.trusted_proxies, or set tls_cert and tls_key",
        );
    }
    if config.web.public_url.0.is_none() && !config.web.listen.0.ip().is_loopback() {
        report.note(
            "web.public_url is not set: browsers on other machines are turned away; say how they \
             see the gateway, like public_url = \"https://gateway.example.org\"",
        );
    }
    for (index, listener) in config.ssh.iter().enumerate() {
        let failures = listener.accept_after_failures.unwrap_or(0);
        if failures >= listener.max_auth_tries {
            report.note(format!(
                "ssh[{index}] never accepts after {failures} failures: max_auth_tries is {}",
                listener.max_auth_tries
            ));
        }
    }
    if !config.ssh.iter().any(|listener| listener.mode == Mode::Users) {
        report.note("nobody can come in: there is no [[ssh]] listener with mode = \"users\"");
    }
}

fn place<'a>(root: &'a Node, path: &[&str]) -> Option<&'a Node> {
    path.iter().try_fold(root, |node, key| node.get(key))
}
