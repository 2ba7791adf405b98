//! What can be run here: which programs are on the PATH, and what they say of their version. A program
//! is asked with a bound on time and on what is read of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use sojourn_core::wire::relay;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::options::Harness;
use super::options::Kind;

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// So much is read of what it says.
const LONGEST: u64 = 4096;

/// The longest version that is passed on, in characters.
const LONGEST_VERSION: usize = 64;

/// The command of a harness, with its program found. A shell that nobody configured is the user's own.
///
/// # Errors
/// A line that says what is missing.
pub(super) fn command(
    harness: &Harness,
    env: &BTreeMap<String, String>,
) -> Result<Vec<OsString>, String> {
    let own_shell = || {
        let shell = env.get("SHELL").filter(|shell| shell.starts_with('/'));
        vec![shell.cloned().unwrap_or_else(|| "/bin/sh".to_owned()), "-l".to_owned()]
    };
    let words = match (harness.kind, harness.command.is_empty()) {
        (Kind::Terminal, true) => own_shell(),
        _ => harness.command.clone(),
    };
    let Some((program, arguments)) = words.split_first() else {
        return Err("no command is configured for it".to_owned());
    };
    let path = env.get("PATH").map_or("", String::as_str);
    let found = find(program, path).ok_or_else(|| {
        format!("{program} is not on the PATH of the runner; install it, or correct the PATH")
    })?;
    let mut command = vec![found.into_os_string()];
    command.extend(arguments.iter().map(OsString::from));
    Ok(command)
}

/// The program of this name; a name with a slash is its place.
fn find(program: &str, path: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|file| is_program(file));
    }
    let places = path.split(':').filter(|place| place.starts_with('/'));
    places.map(|place| Path::new(place).join(program)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// Looks for all of them; each is asked for its version at the same time.
pub(super) async fn probe(
    harnesses: &BTreeMap<String, Harness>,
    env: &BTreeMap<String, String>,
) -> Vec<relay::Harness> {
    let asked = harnesses.iter().map(|(name, harness)| async move {
        let (available, note, version) = match command(harness, env) {
            Ok(_) if harness.kind == Kind::Terminal => (true, None, None),
            Ok(command) => (true, None, version(&command, env).await),
            Err(note) => (false, Some(shorten(&note, 200)), None),
        };
        relay::Harness { name: name.clone(), available, version, note }
    });
    futures_util::future::join_all(asked).await
}

/// What a program says to `--version`, if that looks like one.
async fn version(command: &[OsString], env: &BTreeMap<String, String>) -> Option<String> {
    let (program, _) = command.split_first()?;
    let mut child = Command::new(program)
        .arg("--version")
        .env_clear()
        .envs(env)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let group = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let mut said = Vec::new();
    let stdout = child.stdout.take()?;
    let read = timeout(PATIENCE, stdout.take(LONGEST).read_to_end(&mut said)).await;
    if let Some(group) = group {
        // Whatever it started to find out. It may be gone already.
        let _gone = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let _status = child.wait().await;
    read.ok()?.ok()?;
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty())?;
    let is_version = line.chars().any(|char| char.is_ascii_digit()) && !line.starts_with('{');
    is_version.then(|| shorten(&line.escape_debug().to_string(), LONGEST_VERSION))
}

fn shorten(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(command: &[&str]) -> Harness {
        Harness {
            kind: Kind::Agent,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            env: BTreeMap::new(),
            mode: None,
            allow_bypass: false,
        }
    }

    fn program(directory: &Path, name: &str, script: &str) {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn programs_are_found_and_asked_without_waiting_for_them() {
        let dir = tempfile::tempdir().unwrap();
        program(dir.path(), "good", "echo; echo good-agent 1.2.3");
        program(dir.path(), "chatty", "yes 1");
        program(dir.path(), "json", "echo '{\"jsonrpc\": 2}'");
        program(dir.path(), "dead", "exit 1");
        fs::write(dir.path().join("plain"), "").unwrap();
        let path = format!("relative:{}:/usr/bin:/bin", dir.path().display());
        let env = BTreeMap::from([("PATH".to_owned(), path)]);
        let names = ["good", "chatty", "json", "dead", "plain", "none"];
        let harnesses = names.map(|name| (name.to_owned(), agent(&[name, "--acp"])));
        let mut found = probe(&harnesses.into(), &env).await;
        found.sort_by_key(|harness| names.iter().position(|name| *name == harness.name));
        let available: Vec<_> = found.iter().map(|harness| harness.available).collect();
        assert_eq!(available, [true, true, true, true, false, false]);
        let versions: Vec<_> = found.iter().map(|harness| harness.version.as_deref()).collect();
        assert_eq!(versions, [Some("good-agent 1.2.3"), Some("1"), None, None, None, None]);
        assert!(found[5].note.as_ref().unwrap().contains("not on the PATH"));
    }
}
