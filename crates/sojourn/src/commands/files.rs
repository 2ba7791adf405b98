//! `sojourn session files`: what a session changed in its sandbox.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::IsTerminal;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value as Json;

use super::session;
use crate::cli::Common;
use crate::cli::Files;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::failure::complain;
use crate::output;
use crate::table::Table;

/// What the gateway answers.
#[derive(Debug, Deserialize)]
struct Answer {
    items: Vec<Item>,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    truncated: Vec<String>,
}

/// A changed entry.
#[derive(Debug, Deserialize)]
struct Item {
    path: String,
    what: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    mode: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    link_of: Option<String>,
    #[serde(default)]
    replaced: bool,
    #[serde(default)]
    not_in_tar: bool,
}

pub(super) fn run(common: &Common, options: &Files) -> Outcome {
    let path = session::path(&options.id.id)?;
    let client = session::client(common)?;
    match &options.tar {
        Some(file) => fetch(client.stream(&format!("{path}/files.tar"))?, file, options.force),
        None if common.json => output::json(&client.get::<Json>(&format!("{path}/files"))?),
        None => list(client.get(&format!("{path}/files"))?),
    }
}

fn list(mut answer: Answer) -> Outcome {
    answer.items.sort_by(|a, b| a.path.cmp(&b.path));
    let mut table = Table::new(&["CHANGE", "MODE", "SIZE", "PATH"]);
    for item in &answer.items {
        table.row([
            if item.replaced { "replaced".to_owned() } else { item.what.clone() },
            item.mode.clone().unwrap_or_default(),
            item.size.map(output::size).unwrap_or_default(),
            shown(item),
        ]);
    }
    table.print("nothing changed")?;
    let count = |what: &str| answer.items.iter().filter(|item| item.what == what).count();
    output::say(format_args!(
        "{} added, {} changed, {} deleted; {} kept",
        count("added"),
        count("changed"),
        count("deleted"),
        output::size(answer.bytes),
    ))?;
    let missing = answer.items.iter().filter(|item| item.not_in_tar).count();
    if missing > 0 {
        complain(format_args!("note: {missing} of these are listed only: the tar lacks them"));
    }
    for why in &answer.truncated {
        complain(format_args!("note: not all of it was kept: {}", output::foreign(cut(why))));
    }
    Ok(())
}

fn shown(item: &Item) -> String {
    let path = format!("/{}", item.path);
    match (item.kind.as_deref(), &item.target, &item.link_of) {
        (_, Some(target), _) => format!("{path} -> {target}"),
        (_, _, Some(first)) => format!("{path} = /{first}"),
        (Some("directory"), ..) => format!("{path}/"),
        (Some("fifo" | "socket" | "device"), ..) => {
            format!("{path} ({})", item.kind.as_deref().unwrap_or_default())
        }
        _ => path,
    }
}

/// What cut it short, in words.
fn cut(why: &str) -> &str {
    match why {
        "entries" => "there were too many entries",
        "depth" => "directories were nested too deeply",
        "path" => "a path was too long",
        "list" => "the list had no more room",
        "tar" => "the tar had no more room",
        "disk" => "the disk had no more room",
        "time" => "it took too long",
        "unreadable" => "something could not be read",
        "broken_off" => "the reading broke off",
        other => other,
    }
}

/// Writes a tar to where it is wanted.
fn fetch(mut tar: impl Read, to: &Path, force: bool) -> Outcome {
    if to.as_os_str() == "-" {
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            let advice = "a tar is nothing for a terminal; name a file, or pipe it into tar -t";
            return Err(Failure::Usage(advice.to_owned()));
        }
        io::copy(&mut tar, &mut out)?;
        return Ok(out.flush()?);
    }
    let mut file = create(to, force).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::refused(format!(
            "{} is there already; overwrite it with --force",
            to.display()
        )),
        _ => Failure::at(to, error),
    })?;
    io::copy(&mut tar, &mut file).and_then(|_| file.sync_all()).map_err(|error| {
        // What is half is no tar.
        let _left = std::fs::remove_file(to);
        Failure::at(to, error)
    })
}

/// For its owner alone: nobody knows what is in it.
fn create(path: &Path, force: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    match force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    options.open(path)
}
