//! `scp -t`: files come. What the client says of names is hostile: a name is one, or is refused.

use sojourn_core::wire::files::Change;
use sojourn_core::wire::files::MAX_DATA;
use sojourn_core::wire::files::MAX_PATH;
use sojourn_core::wire::files::Request;
use sojourn_engine::door::shown;

use super::command::Command;
use super::expand::expand;
use super::far::Broken;
use super::far::Far;
use super::far::Response;
use super::far::is_directory;
use super::far::join;
use crate::files::Direction;
use crate::files::IN_FLIGHT;
use crate::files::error_text;
use crate::gate::Gate;

/// How deep directories may lie in each other.
const DEEPEST: usize = 256;

/// Opened to be written: `O_WRONLY`, `O_CREAT`, `O_TRUNC`.
const WRITE: u32 = 0o1 | 0o100 | 0o1000;

/// A line that announces a file or a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Announced<'a> {
    mode: u32,
    size: u64,
    pub(super) name: &'a [u8],
}

/// A directory that files come into.
struct Directory {
    path: Vec<u8>,
    /// What it gets when it is complete.
    change: Change,
}

/// Takes what the client sends.
pub(super) async fn serve<G: Gate>(far: &mut Far<'_, G>, command: &Command) -> Result<(), Broken> {
    let Some(word) = command.paths.first() else { return Err(Broken::Fatal) };
    let mut targets = expand(far, word).await?;
    let (Some(target), true) = (targets.pop(), targets.is_empty()) else {
        return far.fatal("ambiguous target").await;
    };
    let is_directory = far.stat(&target).await?.is_ok_and(|about| is_directory(&about));
    if command.directory && !is_directory {
        far.error(&target, "Not a directory").await?;
        return Err(Broken::Fatal);
    }
    far.yes().await?;
    let mut inside: Vec<Directory> = Vec::new();
    let mut times = None;
    while let Some(line) = far.line().await? {
        match line.split_first() {
            Some((1, _)) => far.has_told(),
            Some((2, _)) => return Err(Broken::Fatal),
            Some((b'E', _)) => {
                let Some(done) = inside.pop() else { return far.yes().await };
                finish(far, &done).await?;
            }
            Some((b'T', rest)) => match parse_times(rest) {
                Some(parsed) => {
                    times = Some(parsed);
                    far.yes().await?;
                }
                None => far.fatal("protocol error: times").await?,
            },
            Some((kind @ (b'C' | b'D'), rest)) => {
                let Some(announced) = announced(rest) else {
                    return far.fatal("protocol error: a file is not announced right").await;
                };
                if !is_name(announced.name) {
                    let name = shown(announced.name, 256);
                    far.error(b"", &format!("error: unexpected filename: {name}")).await?;
                    return Err(Broken::Fatal);
                }
                let path = match inside.last() {
                    Some(directory) => join(&directory.path, announced.name),
                    None if is_directory => join(&target, announced.name),
                    None => target.clone(),
                };
                let times = times.take();
                if path.len() > MAX_PATH || inside.len() >= DEEPEST {
                    // ENAMETOOLONG
                    far.failed(announced.name, 36).await?;
                } else if *kind == b'C' {
                    file(far, command, &path, &announced, times).await?;
                } else if !command.recursive {
                    return far.fatal("received directory without -r").await;
                } else if let Some(made) = directory(far, command, path, &announced, times).await? {
                    inside.push(made);
                }
            }
            _ => return far.fatal("protocol error: expected control record").await,
        }
    }
    Ok(())
}

async fn directory<G: Gate>(
    far: &mut Far<'_, G>,
    command: &Command,
    path: Vec<u8>,
    announced: &Announced<'_>,
    times: Option<(u64, u64)>,
) -> Result<Option<Directory>, Broken> {
    let mut change = Change { times, ..Change::default() };
    match far.stat(&path).await? {
        // ENOTDIR
        Ok(about) if !is_directory(&about) => {
            far.failed(&path, 20).await?;
            return Ok(None);
        }
        Ok(_) => change.mode = command.preserve.then_some(announced.mode),
        Err(_) => {
            // Whatever it is to be in the end, files have to get in first.
            let mode = announced.mode | 0o700;
            if let Err(errno) = far.call(&Request::Mkdir { mode, path: &path }).await? {
                far.failed(&path, errno).await?;
                return Ok(None);
            }
            let settle = command.preserve || mode != announced.mode;
            change.mode = settle.then_some(announced.mode);
        }
    }
    far.yes().await?;
    Ok(Some(Directory { path, change }))
}

async fn finish<G: Gate>(far: &mut Far<'_, G>, done: &Directory) -> Result<(), Broken> {
    if done.change == Change::default() {
        return far.yes().await;
    }
    match far.call(&Request::Setstat(&done.path, done.change)).await? {
        Ok(_) => far.yes().await,
        Err(errno) => far.failed(&done.path, errno).await,
    }
}

async fn file<G: Gate>(
    far: &mut Far<'_, G>,
    command: &Command,
    path: &[u8],
    announced: &Announced<'_>,
    times: Option<(u64, u64)>,
) -> Result<(), Broken> {
    let open = Request::Open { flags: WRITE, mode: announced.mode | 0o200, path };
    let handle = match far.open(&open).await? {
        Ok(handle) => handle,
        // The client sends nothing of it then.
        Err(errno) => return far.failed(path, errno).await,
    };
    let mut transfer = far.begin(Direction::In, path);
    far.yes().await?;
    let (mut offset, mut waiting, mut error) = (0, 0, None);
    while offset < announced.size {
        let most = usize::try_from(announced.size - offset).unwrap_or(MAX_DATA).min(MAX_DATA);
        let bytes = far.receive(most).await?;
        transfer.pass(offset, &bytes);
        // What cannot be written has to be received all the same.
        if error.is_none() {
            far.ask(&Request::Write { handle, offset, bytes: &bytes }).await?;
            waiting += 1;
        }
        offset = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        while waiting > if offset < announced.size { IN_FLIGHT } else { 0 } {
            error = error.or(far.answer().await?.err());
            waiting -= 1;
        }
    }
    while waiting > 0 {
        error = error.or(far.answer().await?.err());
        waiting -= 1;
    }
    let sent = far.response().await?;
    let mode = (command.preserve || announced.mode & 0o200 == 0).then_some(announced.mode);
    let change = Change { mode, times, ..Change::default() };
    if change != Change::default() && error.is_none() {
        error = far.call(&Request::Fsetstat(handle, change)).await?.err();
    }
    error = error.or(far.call(&Request::Close(handle)).await?.err());
    if let Some(errno) = error {
        transfer.failed(errno);
    }
    if sent == Response::No {
        transfer.not_whole();
    }
    error = far.close(transfer).await.err().or(error);
    match (error, sent) {
        (Some(errno), _) => far.error(path, &error_text(errno)).await,
        (None, _) => far.yes().await,
    }
}

/// `MTIME 0 ATIME 0`
pub(super) fn parse_times(text: &[u8]) -> Option<(u64, u64)> {
    let mut numbers = std::str::from_utf8(text).ok()?.split(' ');
    let modified = numbers.next()?.parse().ok()?;
    let micros: u32 = numbers.next()?.parse().ok()?;
    let accessed = numbers.next()?.parse().ok()?;
    let more: u32 = numbers.next()?.parse().ok()?;
    let whole = numbers.next().is_none() && micros < 1_000_000 && more < 1_000_000;
    whole.then_some((accessed, modified))
}

/// `MODE SIZE NAME`
pub(super) fn announced(text: &[u8]) -> Option<Announced<'_>> {
    let mut parts = text.splitn(3, |byte| *byte == b' ');
    let (mode, size, name) = (parts.next()?, parts.next()?, parts.next()?);
    let mode = std::str::from_utf8(mode).ok().filter(|mode| mode.len() == 4)?;
    let mode = u32::from_str_radix(mode, 8).ok()?;
    let size = std::str::from_utf8(size).ok()?.parse().ok()?;
    Some(Announced { mode, size, name })
}

/// Whether it names something in a directory, and nothing elsewhere.
pub(super) fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && name.len() <= 255
        && !name.iter().any(|byte| matches!(byte, b'/' | b'\n' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_announced_by_mode_size_and_name() {
        let wanted = Announced { mode: 0o644, size: 12, name: b"a b" };
        assert_eq!(announced(b"0644 12 a b"), Some(wanted));
        for bad in [&b"0644 12"[..], b"644 12 a", b"0999 1 a", b"0644 -1 a", b"0644  1 a", b""] {
            assert_eq!(announced(bad), None, "{bad:?}");
        }
        assert_eq!(parse_times(b"1 0 2 0"), Some((2, 1)));
        assert_eq!(parse_times(b"1 0 2"), None);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        assert!(is_name(b"a") && is_name(b"...") && is_name(b"\xff"));
        let long = [b'a'; 256];
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\nb", b"a\0", &long] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
