//! The whole program, as its users have it: a real gateway, the real `ssh`, real sandboxes.

mod abuse;
mod agents;
mod bait;
mod chambers;
mod chaos;
mod cli;
mod clients;
mod crashes;
mod database;
mod detach;
mod disguise;
mod docker;
mod edges;
mod escapes;
mod extend;
mod far_networks;
mod far_terminals;
mod files;
mod flaws;
mod floods;
mod forward;
mod fuzzed;
mod health;
mod honeypot;
mod host;
mod images;
mod leaving;
mod left;
mod limits;
mod load;
mod logins;
mod lost_runners;
mod metrics;
mod misuse;
mod multiplex;
mod network;
mod once;
mod pages;
mod prison;
mod record;
mod relay;
mod remote;
mod retention;
mod rootless;
mod runner_breaks;
mod runner_lives;
mod runner_rounds;
mod runners;
mod screens;
mod second_factor;
mod share;
mod ssh;
mod storm;
mod straits;
mod terminals;
mod trusted;
mod walk;
mod web;
mod x11;

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::until;

/// Starts a gateway.
fn gateway(options: &Options) -> Gateway {
    Gateway::start(env!("CARGO_BIN_EXE_sojourn"), options)
}

/// Whether everything is run at its full length.
fn is_long_run() -> bool {
    std::env::var_os("SOJOURN_TEST_LONG").is_some()
}

/// How many there are to be in a long run: 200, or what `SOJOURN_TEST_LONG` says beyond 1.
fn long_run() -> Option<usize> {
    let said = std::env::var("SOJOURN_TEST_LONG").ok()?;
    Some(said.parse().ok().filter(|count| *count > 1).unwrap_or(200))
}

/// Memory of a process that is its alone, in bytes.
fn memory_of(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process whose command line begins so, once it is there: whoever says that it starts says so before.
#[track_caller]
fn the_process(command: &str) -> u32 {
    until(command, PATIENCE, || processes_with(command).first().copied())
}

/// Processes whose command line begins so.
fn processes_with(command: &str) -> Vec<u32> {
    pids()
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.starts_with(command)
        })
        .collect()
}

/// Waits until no process has a command line that begins so: a client may hear that a session is over
/// while the last of it is dying.
#[track_caller]
fn end_of(command: &str) {
    until(&format!("the end of {command}"), PATIENCE, || {
        processes_with(command).is_empty().then_some(())
    });
}

fn stat_field(pid: u32, number: usize) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(number)?.parse().ok()
}

fn parent_of(pid: u32) -> u32 {
    stat_field(pid, 1).expect("a living process")
}

fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// A process's children, and theirs.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let all: Vec<(u32, u32)> = pids().filter_map(|pid| Some((pid, stat_field(pid, 1)?))).collect();
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(all.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.remove(0);
    found
}

/// Kills a process that the test has started, by its pid.
fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a living process");
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}
