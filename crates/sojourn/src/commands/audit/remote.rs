//! The audit log of a gateway elsewhere, over its API.

use std::io::Write;
use std::time::Duration;

use serde_json::Value as Json;
use sojourn_core::audit::Entry;

use super::Form;
use super::in_words;
use crate::cli::Audit as Command;
use crate::cli::Common;
use crate::cli::Search;
use crate::client::Client;
use crate::commands::session;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::failure::complain;
use crate::output;

/// How often a log that is followed is asked for.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The most lines of one answer.
const PAGE: usize = 200;

/// The most lines that are held.
const MOST_LINES: usize = 100_000;

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    let log = Remote { client: session::client(common)?, form: Form::of(common) };
    match command {
        Command::Tail { follow, lines } => log.tail(lines.min(MOST_LINES), follow),
        Command::Search(search) => log.search(&search),
        Command::Export => Err(Failure::refused(
            "the log as it is written is exported on the gateway's own machine; unset SOJOURN_URL",
        )),
    }
}

struct Remote {
    client: Client,
    form: Form,
}

impl Remote {
    fn tail(&self, lines: usize, follow: bool) -> Outcome {
        let mut last = self.newest("", lines, 0)?;
        self.print(&last)?;
        if !follow {
            return Ok(());
        }
        loop {
            std::thread::sleep(ASK_AGAIN);
            let known = last.last().and_then(|line| line["seq"].as_u64()).unwrap_or(0);
            let new = self.newest("", MOST_LINES, known)?;
            self.print(&new)?;
            if !new.is_empty() {
                last = new;
            }
        }
    }

    fn search(&self, search: &Search) -> Outcome {
        if let Some(action) = &search.action {
            super::check_action(action)?;
        }
        let times = [("since", search.since), ("until", search.until)];
        let times = times.map(|(name, time)| (name, time.map(|time| time.to_rfc3339())));
        let words = [
            ("user", search.user.clone()),
            ("session", search.session.clone()),
            ("action", search.action.clone()),
        ];
        let query: String = words
            .into_iter()
            .chain(times)
            .filter_map(|(name, word)| Some(format!("&{name}={}", session::percent(&word?))))
            .collect();
        let found = self.newest(&query, MOST_LINES, 0)?;
        if found.len() == MOST_LINES {
            complain(format_args!(
                "note: only the last {MOST_LINES} lines; narrow it with --since"
            ));
        }
        self.print(&found)
    }

    /// The newest lines that match, oldest first, down to a number that is known.
    fn newest(&self, query: &str, most: usize, known: u64) -> Result<Vec<Json>, Failure> {
        let mut lines: Vec<Json> = Vec::new();
        let mut cursor = String::new();
        while lines.len() < most {
            let limit = PAGE.min(most - lines.len());
            let page: Json =
                self.client.get(&format!("/api/audit?limit={limit}{query}{cursor}"))?;
            let items = page["items"].as_array().cloned().unwrap_or_default();
            let count = items.len();
            lines.extend(items.into_iter().filter(|line| line["seq"].as_u64() > Some(known)));
            let next = page["next_cursor"].as_str();
            match next {
                Some(next) if count > 0 && lines.len().is_multiple_of(PAGE) => {
                    cursor = format!("&cursor={}", session::percent(next));
                }
                _ => break,
            }
        }
        lines.reverse();
        Ok(lines)
    }

    fn print(&self, lines: &[Json]) -> Outcome {
        let mut out = output::stdout();
        for line in lines {
            let entry = serde_json::from_value::<Entry>(line.clone());
            match (self.form, entry) {
                (Form::People, Ok(entry)) => writeln!(out, "{}", in_words(&entry))?,
                _ => writeln!(out, "{line}")?,
            }
        }
        out.flush()?;
        Ok(())
    }
}
