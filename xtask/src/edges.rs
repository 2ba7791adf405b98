//! Which crate may use which: ARCHITECTURE.md's table, checked against what cargo says.

use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A crate of ours and those of ours it may be built on.
const OURS: [(&str, &[&str]); 9] = [
    ("sojourn-core", &[]),
    ("sojourn-term", &["sojourn-core"]),
    ("sojourn-store", &["sojourn-core"]),
    ("sojourn-engine", &["sojourn-core", "sojourn-term", "sojourn-store"]),
    ("sojourn-ssh", &["sojourn-core", "sojourn-engine"]),
    ("sojourn-web", &["sojourn-core", "sojourn-engine"]),
    ("sojourn-shim", &["sojourn-core", "sojourn-term"]),
    ("sojourn-sandbox", &["sojourn-core", "sojourn-term", "sojourn-shim"]),
    ("sojourn-runner", &["sojourn-core", "sojourn-term", "sojourn-sandbox", "sojourn-shim"]),
];

/// Crates of others that only these of ours may name, with the reason.
const OTHERS: [(&str, &[&str], &str); 5] = [
    ("sqlx", &["sojourn-store"], "one crate knows the database"),
    ("russh", &["sojourn-ssh"], "one crate knows SSH"),
    ("axum", &["sojourn-web"], "one crate knows HTTP"),
    ("libcontainer", &["sojourn-shim"], "it forks: only a single-threaded process may call it"),
    ("clap", &["sojourn"], "one crate knows the command line"),
];

/// The feature of the engine that lets tests move time.
const FOR_TESTS: &str = "test-clock";

/// What is decided in these must not depend on a runtime.
const WITHOUT_TOKIO: [&str; 3] = ["sojourn-core", "sojourn-term", "sojourn-shim"];

/// Every edge between crates that the table does not have.
pub(crate) fn findings(root: &Path) -> io::Result<Vec<String>> {
    let metadata = metadata(root)?;
    let mut findings = Vec::new();
    for package in list(&metadata, "packages") {
        let name = text(package, "name");
        // What tests use is their own business.
        let edges = list(package, "dependencies").filter(|edge| text(edge, "kind") != "dev");
        for edge in edges.map(|edge| text(edge, "name")) {
            if let Some(reason) = refusal(name, edge) {
                findings.push(format!("{name} must not use {edge}: {reason}"));
            }
        }
    }
    Ok(findings)
}

/// Features that only tests switch on, where the program has them all the same.
pub(crate) fn features(root: &Path) -> io::Result<Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "--offline", "--locked", "--target", "all"])
        .args(["--edges", "no-dev", "--prefix", "none", "--format", "{p} {f}"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(switched_on(&tree))
}

fn switched_on(tree: &str) -> Vec<String> {
    let with_it = |line: &&str| line.split([' ', ',']).any(|word| word == FOR_TESTS);
    let found = tree.lines().find(with_it);
    let finding = found.map(|line| format!("{FOR_TESTS} is switched on outside tests: {line}"));
    finding.into_iter().collect()
}

/// Why a crate must not be built on another, if it must not.
fn refusal(name: &str, edge: &str) -> Option<&'static str> {
    if edge == "sojourn-testkit" {
        return Some("it is for tests only");
    }
    if name == "sojourn-testkit" {
        return None;
    }
    if edge == "tokio" && WITHOUT_TOKIO.contains(&name) {
        return Some("it is free of tokio");
    }
    if edge.starts_with("sojourn-") {
        let (_, allowed) = OURS.iter().find(|(ours, _)| *ours == name)?;
        return (!allowed.contains(&edge)).then_some("ARCHITECTURE.md has no such edge");
    }
    let (_, allowed, reason) = OTHERS.iter().find(|(others, ..)| *others == edge)?;
    (!allowed.contains(&name)).then_some(*reason)
}

fn metadata(root: &Path) -> io::Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn list<'a>(value: &'a Value, member: &str) -> impl Iterator<Item = &'a Value> {
    value.get(member).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value.get(member).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::refusal;
    use super::switched_on;

    #[test]
    fn a_clock_that_tests_move_is_found_in_the_program() {
        let without = "sojourn v0.1.0 (/x) \nsojourn-engine v0.1.0 (/x/crates/engine) \ntokio v1.52.0 net,sync";
        assert!(switched_on(without).is_empty());
        let with = without.replace("engine) ", "engine) default,test-clock");
        assert_eq!(switched_on(&with).len(), 1);
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_refused() {
        assert!(refusal("sojourn-ssh", "sojourn-store").is_some());
        assert!(refusal("sojourn-core", "tokio").is_some());
        assert!(refusal("sojourn-engine", "sqlx").is_some());
        assert!(refusal("sojourn", "sojourn-testkit").is_some());
        assert!(refusal("sojourn-ssh", "sojourn-engine").is_none());
        assert!(refusal("sojourn", "sojourn-ssh").is_none());
        assert!(refusal("sojourn-store", "sqlx").is_none());
    }
}
