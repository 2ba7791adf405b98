//! `sojourn config`: what the configuration says, and what could be said.

use std::io::Write;
use std::path::Path;

use crate::cli::Common;
use crate::cli::Config as Command;
use crate::config;
use crate::config::Config;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::failure::complain;
use crate::output;

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    match command {
        Command::Check { file } => check(common, file.as_deref()),
        Command::Show => show(common),
        Command::Schema => output::json(&Config::json_schema()),
    }
}

fn check(common: &Common, file: Option<&Path>) -> Outcome {
    let loaded = match file {
        Some(file) => config::check_file(file).map_err(Failure::from),
        None => super::load(common),
    };
    let loaded = match loaded {
        Err(failure @ Failure::Config(_)) if common.json => {
            let text = failure.to_string();
            let mistakes: Vec<&str> = text.lines().collect();
            output::json(&serde_json::json!({"ok": false, "mistakes": mistakes}))?;
            return Err(failure);
        }
        loaded => loaded?,
    };
    if common.json {
        let file = loaded.file.map(|file| file.display().to_string());
        return output::json(&serde_json::json!({"ok": true, "file": file, "notes": loaded.notes}));
    }
    for note in &loaded.notes {
        complain(format_args!("note: {note}"));
    }
    match &loaded.file {
        Some(file) => output::say(format_args!("{}: fine", file.display())),
        None => output::say("there is no configuration file; the defaults are in effect"),
    }
}

fn show(common: &Common) -> Outcome {
    let table = super::load(common)?.config.to_toml();
    if common.json {
        return output::json(&table);
    }
    let text = toml::to_string_pretty(&table).map_err(Failure::refused)?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
