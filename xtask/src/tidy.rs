//! House rules that neither the compiler nor clippy knows.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::edges;

/// Lines of a source file; its tests are in files of their own and do not count.
const MAX_LINES: usize = 600;

/// What no source file may say, and why. Written so that this file does not say it.
const WORDS: [(&str, &str); 6] = [
    (concat!("TO", "DO"), "do it, or file it"),
    (concat!("FIX", "ME"), "do it, or file it"),
    (concat!("to", "do!("), "finish it, or leave it out"),
    (concat!("unimplemen", "ted!("), "finish it, or leave it out"),
    (concat!("#[ig", "nore"), "a test runs, or is not there"),
    (concat!("#[should_", "panic"), "assert on the error instead"),
];

/// Where alone the clock that tests move may be named: `make build` refuses a program that names it.
const CLOCK: (&str, [&str; 2]) = (
    concat!("SOJOURN_TEST_", "CLOCK"),
    ["crates/engine/src/clock/moved.rs", "crates/testkit/src/gateway.rs"],
);

/// Everything that is not as it should be, a line each.
pub(crate) fn findings(root: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    match sources(root) {
        Ok(paths) => {
            for path in paths {
                check(root, &path, &mut findings);
            }
        }
        Err(error) => findings.push(format!("the sources cannot be listed: {error}")),
    }
    match edges::findings(root) {
        Ok(more) => findings.extend(more),
        Err(error) => findings.push(format!("the crates cannot be listed: {error}")),
    }
    match edges::features(root) {
        Ok(more) => findings.extend(more),
        Err(error) => findings.push(format!("the features cannot be listed: {error}")),
    }
    findings
}

fn check(root: &Path, path: &Path, findings: &mut Vec<String>) {
    let shown = path.strip_prefix(root).unwrap_or(path).display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            findings.push(format!("{shown}: {error}"));
            return;
        }
    };
    if !text.starts_with("//! ") {
        findings.push(format!("{shown}:1: begin with `//!` and what the file is for"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES && !holds_tests(path) {
        findings.push(format!("{shown}: {lines} lines, {MAX_LINES} is the most: divide it"));
    }
    for (number, line) in text.lines().enumerate() {
        if line.contains(CLOCK.0) && !CLOCK.1.iter().any(|place| path.ends_with(place)) {
            findings.push(format!("{shown}:{}: `{}`: not in the program", number + 1, CLOCK.0));
        }
        for (word, remedy) in WORDS {
            if line.contains(word) {
                findings.push(format!("{shown}:{}: `{word}`: {remedy}", number + 1));
            }
        }
    }
}

fn holds_tests(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
        || path.components().any(|part| part.as_os_str() == "tests")
}

/// Every Rust file of the workspace.
fn sources(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![root.join("crates"), root.join("xtask")];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        let findings = super::findings(crate::root());
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }
}
