//! One file a command. Each is a function from its options to an [`Outcome`].

mod attach;
mod audit;
mod chamber;
mod config;
mod conversation;
mod export;
mod files;
mod logins;
mod replay;
mod runner;
mod runners;
mod session;
mod start;
mod token;
mod user;
mod verify;

use std::process::ExitCode;

use clap::CommandFactory;
use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::Cli;
use crate::cli::Command;
use crate::cli::Common;
use crate::config::Loaded;
use crate::data_dir::DataDir;
use crate::failure;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::serve;

/// Runs the command that was asked for.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let common = &cli.common;
    failure::end(match cli.command {
        Command::Serve => load(common).and_then(serve::run),
        Command::Session(command) => session::run(common, command),
        Command::User(command) => user::run(common, command),
        Command::Audit(command) => audit::run(common, command),
        Command::Verify(options) => verify::run(common, &options),
        Command::Config(command) => config::run(common, command),
        Command::Completions { shell } => completions(shell),
        Command::Runner(options) => runner::run(common, options),
        Command::Chamber(options) => return chamber::run(common, &options),
        Command::Warden => return sojourn_runner::process::warden::run(),
        Command::Runners(command) => runners::run(common, command),
        Command::Token(command) => token::run(common, command),
    })
}

/// Help and version as clap has them; what is wrong, in one line.
fn misused(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Whoever closed our output wants no help.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            failure::end(Err(Failure::Usage(String::new())))
        }
        _ => failure::end(Err(Failure::Usage(in_one_line(&error.to_string())))),
    }
}

/// What clap says in paragraphs: what is wrong, a tip, and where to read on.
fn in_one_line(rendered: &str) -> String {
    let paragraphs = rendered
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let told: Vec<String> = paragraphs
        .filter(|paragraph| !paragraph.starts_with("Usage:"))
        .map(|paragraph| match paragraph.strip_prefix("error: ") {
            Some(what) => what.to_owned(),
            None => paragraph.replace("For more information, try '--help'.", "try --help"),
        })
        .filter(|paragraph| !paragraph.is_empty())
        .collect();
    told.join("; ")
}

/// The configuration in effect.
fn load(common: &Common) -> Result<Loaded, Failure> {
    let loaded = crate::config::load(common.config.as_deref(), common.data_dir.as_deref())?;
    Ok(loaded)
}

/// The data directory of the configuration in effect.
fn data_dir(common: &Common) -> Result<DataDir, Failure> {
    DataDir::open(&load(common)?.config.data_dir.0)
}

fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sojourn", &mut script);
    std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_usage_is_told_in_one_line() {
        let told =
            |words: &[&str]| in_one_line(&Cli::try_parse_from(words).unwrap_err().to_string());
        assert_eq!(
            told(&["sojourn", "sesion", "ls"]),
            "unrecognized subcommand 'sesion'; tip: a similar subcommand exists: 'session'; try --help"
        );
        assert_eq!(
            told(&["sojourn", "user", "role", "alice"]),
            "the following required arguments were not provided: <ROLE>; try --help"
        );
        assert_eq!(
            told(&["sojourn", "user", "role", "alice", "king"]),
            "invalid value 'king' for '<ROLE>': there is no role \"king\"; roles are admin, member \
             and auditor; try --help"
        );
    }
}
