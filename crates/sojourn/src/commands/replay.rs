//! `sojourn session replay`: a recording, played in this terminal; an agent's conversation is told.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::IsTerminal;
use std::io::Read;
use std::io::Write;
use std::time::Duration;

use sojourn_term::cast::Code;
use sojourn_term::cast::Header;
use sojourn_term::cast::Reader;
use sojourn_term::replay::Frame;
use sojourn_term::replay::Pace;
use sojourn_term::replay::RESTORE;
use sojourn_term::replay::Replay as Frames;
use sojourn_term::sanitise::Sanitiser;

use super::conversation::Teller;
use super::session;
use crate::cli::Common;
use crate::cli::Replay;
use crate::client::is_remote;
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::failure::complain;
use crate::output;
use crate::recordings;
use crate::terminal::INTERRUPT;
use crate::terminal::Keys;

pub(super) fn run(common: &Common, options: &Replay) -> Outcome {
    let recording = BufReader::new(open(common, options)?);
    if common.json {
        return copy(recording);
    }
    let pace = Pace::new(options.speed, options.idle_limit.map(|limit| limit.0))
        .ok_or_else(|| Failure::Usage("--speed has to be above 0".to_owned()))?;
    let reader = Reader::open(recording).map_err(|error| Failure::caused(&error))?;
    if io::stdout().is_terminal() {
        say_size(reader.header());
    }
    play(Frames::new(reader, pace), options.raw)
}

/// The recording, from the gateway when it runs, else from its file.
fn open(common: &Common, options: &Replay) -> Result<Box<dyn Read>, Failure> {
    let path = format!("{}/recording?channel={}", session::path(&options.id.id)?, options.channel);
    match session::client(common)?.stream(&path) {
        Ok(stream) => Ok(Box::new(stream)),
        Err(Failure::Unreachable(_)) if !is_remote() => {
            let data = super::data_dir(common)?;
            Ok(Box::new(open_file(&data, options)?))
        }
        Err(failure) => Err(failure),
    }
}

fn open_file(data: &DataDir, options: &Replay) -> Result<File, Failure> {
    data.become_owner()?;
    let root = data.recordings();
    let found = recordings::find(&root, &options.id.id, options.channel)
        .map_err(|error| Failure::at(&root, error))?;
    match found.as_slice() {
        [] => Err(Failure::refused(format!(
            "there is no recording of a channel {} of a session \"{}\" here",
            options.channel,
            output::foreign(&options.id.id)
        ))),
        [(_, path)] => File::open(path).map_err(|error| Failure::at(path, error)),
        many => {
            let ids: Vec<String> = many.iter().map(|(id, _)| id.to_string()).collect();
            let ids = ids.join(", ");
            Err(Failure::refused(format!("more than one session ends so; name one of {ids}")))
        }
    }
}

fn copy(mut recording: impl BufRead) -> Outcome {
    let mut out = io::stdout().lock();
    io::copy(&mut recording, &mut out)?;
    out.flush()?;
    Ok(())
}

fn say_size(header: &Header) {
    let Ok(size) = rustix::termios::tcgetwinsize(io::stdout()) else { return };
    let (width, height) = (u32::from(size.ws_col), u32::from(size.ws_row));
    if header.width > width || header.height > height {
        complain(format_args!(
            "note: this was a terminal of {} columns and {} rows; yours has {width} and {height}",
            header.width, header.height
        ));
    }
}

/// What the person wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    GoOn,
    Quit,
}

fn play<R: BufRead>(frames: Frames<R>, raw: bool) -> Outcome {
    let on_terminal = io::stdout().is_terminal();
    let mut keys = if on_terminal { Keys::take() } else { None };
    let outcome = show(frames, raw, keys.as_mut());
    if on_terminal {
        let mut out = io::stdout().lock();
        write!(out, "{RESTORE}\r\n")?;
        out.flush()?;
    }
    outcome
}

fn show<R: BufRead>(frames: Frames<R>, raw: bool, mut keys: Option<&mut Keys>) -> Outcome {
    let mut sanitiser = Sanitiser::default();
    let mut teller = Teller::default();
    let mut shown = String::new();
    for frame in frames {
        let Frame { delay, code, data } = frame.map_err(|error| Failure::caused(&error))?;
        if wait(delay, keys.as_deref_mut())? == Wish::Quit {
            return Ok(());
        }
        shown.clear();
        if code == Code::Agent {
            // What is no event of ours says nothing.
            let event: serde_json::Value = serde_json::from_str(&data).unwrap_or_default();
            shown = teller.event(&event["event"]);
        } else if raw {
            shown.push_str(&data);
        } else {
            sanitiser.push(&data, &mut shown);
        }
        let mut out = io::stdout().lock();
        out.write_all(shown.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// Waits as long as the person did then, unless this one presses a key.
fn wait(delay: Duration, keys: Option<&mut Keys>) -> Result<Wish, Failure> {
    let Some(keys) = keys else {
        std::thread::sleep(delay);
        return Ok(Wish::GoOn);
    };
    let begun = std::time::Instant::now();
    loop {
        let left = delay.saturating_sub(begun.elapsed());
        match keys.next(Some(left))? {
            None => return Ok(Wish::GoOn),
            Some(b'q' | b'Q' | INTERRUPT) => return Ok(Wish::Quit),
            Some(b' ') => return pause(keys),
            Some(_) => {}
        }
    }
}

/// Until the next space; what was left of the wait is over then.
fn pause(keys: &mut Keys) -> Result<Wish, Failure> {
    loop {
        match keys.next(None)? {
            Some(b' ') => return Ok(Wish::GoOn),
            Some(b'q' | b'Q' | INTERRUPT) => return Ok(Wish::Quit),
            _ => {}
        }
    }
}
