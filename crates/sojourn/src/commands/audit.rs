//! `sojourn audit`: the log as it lies in the data directory, with the gateway running or not; with
//! `SOJOURN_URL` the one of a gateway elsewhere.

mod remote;

use std::collections::VecDeque;
use std::io;
use std::io::Write;
use std::time::Duration;

use serde_json::Value as Json;
use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Entry;
use sojourn_engine::audit::Line;
use sojourn_engine::audit::LogReader;
use sojourn_engine::audit::Query;

use crate::cli::Audit as Command;
use crate::cli::Common;
use crate::cli::Search;
use crate::client::is_remote;
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::output;

/// How often a log that is followed is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The most lines that `tail` holds.
const MOST_LINES: usize = 100_000;

/// The longest entry as people get it, in characters.
const LONGEST: usize = 4096;

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    if is_remote() {
        return remote::run(common, command);
    }
    let data = super::data_dir(common)?;
    data.become_owner()?;
    let log = Log { data, form: Form::of(common) };
    match command {
        Command::Tail { follow, lines } => log.tail(lines.min(MOST_LINES), follow),
        Command::Search(search) => log.search(&search),
        Command::Export => log.export(),
    }
}

/// How entries are printed.
#[derive(Clone, Copy)]
enum Form {
    /// The lines as they are.
    Lines,
    /// For people, one line an entry however wide the terminal is: what was changed stands last.
    People,
}

impl Form {
    fn of(common: &Common) -> Self {
        if common.json { Self::Lines } else { Self::People }
    }

    fn print(self, out: &mut impl Write, line: &Line) -> io::Result<()> {
        match (self, line.entry()) {
            (Self::Lines, _) => {
                out.write_all(&line.bytes)?;
                writeln!(out)
            }
            (Self::People, Some(entry)) => writeln!(out, "{}", in_words(&entry)),
            (Self::People, None) => {
                writeln!(out, "{}, line {}: cannot be read", line.file_name(), line.number)
            }
        }
    }
}

struct Log {
    data: DataDir,
    form: Form,
}

impl Log {
    fn failed(&self, error: &io::Error) -> Failure {
        Failure::at(&self.data.audit(), error)
    }

    fn tail(&self, lines: usize, follow: bool) -> Outcome {
        let mut reader = LogReader::open_last(&self.data.audit()).map_err(|e| self.failed(&e))?;
        let mut last = self.last_of(&mut reader, lines)?;
        if last.len() < lines {
            // The last file has only just begun.
            reader = LogReader::open(&self.data.audit()).map_err(|e| self.failed(&e))?;
            last = self.last_of(&mut reader, lines)?;
        }
        let mut out = output::stdout();
        for line in &last {
            self.form.print(&mut out, line)?;
        }
        out.flush()?;
        if !follow {
            return Ok(());
        }
        loop {
            while let Some(line) = reader.next_line().map_err(|e| self.failed(&e))? {
                self.form.print(&mut out, &line)?;
            }
            out.flush()?;
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn last_of(&self, reader: &mut LogReader, lines: usize) -> Result<VecDeque<Line>, Failure> {
        let mut last = VecDeque::new();
        while let Some(line) = reader.next_line().map_err(|e| self.failed(&e))? {
            last.push_back(line);
            if last.len() > lines {
                last.pop_front();
            }
        }
        Ok(last)
    }

    fn search(&self, search: &Search) -> Outcome {
        if let Some(action) = &search.action {
            check_action(action)?;
        }
        let query = Query {
            user: search.user.clone(),
            session: search.session.clone(),
            action: search.action.clone(),
            since: search.since,
            until: search.until,
        };
        let mut reader = LogReader::open(&self.data.audit()).map_err(|e| self.failed(&e))?;
        let mut out = output::stdout();
        while let Some(line) = reader.next_line().map_err(|e| self.failed(&e))? {
            if line.entry().is_some_and(|entry| query.matches(&entry)) {
                self.form.print(&mut out, &line)?;
            }
        }
        out.flush()?;
        Ok(())
    }

    fn export(&self) -> Outcome {
        let mut reader = LogReader::open(&self.data.audit()).map_err(|e| self.failed(&e))?;
        let mut out = output::stdout();
        while let Some(line) = reader.next_line().map_err(|e| self.failed(&e))? {
            Form::Lines.print(&mut out, &line)?;
        }
        out.flush()?;
        Ok(())
    }
}

fn check_action(action: &str) -> Outcome {
    if action.parse::<Action>().is_ok() {
        return Ok(());
    }
    let names: Vec<&str> = Action::ALL.iter().map(|action| action.name()).collect();
    let near = crate::config::nearest(action, &names)
        .map(|near| format!("; the nearest is \"{near}\""))
        .unwrap_or_default();
    let action = output::foreign(action);
    Err(Failure::Usage(format!("there is no action \"{action}\"{near}")))
}

/// One entry in one line: when, what, who, where, and the rest.
fn in_words(entry: &Entry) -> String {
    let session = entry.session_id.map(|id| id.short()).unwrap_or_default();
    let details: Vec<String> = entry
        .details
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| format!("{name}={}", plain(value)))
        .collect();
    let line = format!(
        "{}  {:<21} {:<8}  {}  {}",
        output::time(entry.timestamp),
        entry.action,
        session,
        who(&entry.actor),
        details.join(" ")
    );
    sojourn_term::escape::escape(line.trim_end(), LONGEST)
}

fn plain(value: &Json) -> String {
    match value {
        Json::String(text) if !text.is_empty() && !text.contains(char::is_whitespace) => {
            text.clone()
        }
        value => value.to_string(),
    }
}

fn who(actor: &Actor) -> String {
    let kind = serde_json::to_value(actor.kind).ok();
    let kind = kind.as_ref().and_then(Json::as_str).unwrap_or_default().to_owned();
    match (&actor.user, actor.ip_address, actor.uid) {
        (Some(user), Some(address), _) => format!("{user}@{address}"),
        (Some(user), None, _) => user.clone(),
        (None, _, Some(0)) => format!("{kind}:root"),
        (None, _, Some(uid)) => format!("{kind}:{uid}"),
        (None, Some(address), _) => format!("{kind}@{address}"),
        _ => kind,
    }
}

#[cfg(test)]
mod tests {
    use sojourn_core::audit::ChainWriter;
    use sojourn_core::audit::Event;
    use sojourn_core::audit::Head;
    use sojourn_core::time::Wall;

    use super::*;

    fn entry(event: &Event) -> Entry {
        let line = ChainWriter::new(Head::START).line(event).unwrap();
        Entry::from_line(line.as_bytes()).unwrap()
    }

    #[test]
    fn an_entry_is_one_line_that_is_safe_to_print() {
        let wall = Wall(1_795_345_331_532_000);
        let actor = Actor::ssh("al\u{1b}ice", "203.0.113.7".parse().unwrap());
        let event = Event::new(wall, Action::AuthAttempt, actor)
            .session("01932b5e-7c1a-7f00-8000-00003f2a91c0".parse().unwrap())
            .detail("method", "password")
            .detail("why", "two words");
        assert_eq!(
            in_words(&entry(&event)),
            "2026-11-22 11:02:11Z  auth_attempt          3f2a91c0  al\\x1bice@203.0.113.7  \
             method=password why=\"two words\""
        );
    }
}
