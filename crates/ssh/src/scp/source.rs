//! `scp -f`: files are fetched.

use std::collections::VecDeque;

use bytes::Bytes;
use sojourn_core::wire::files::Attributes;
use sojourn_core::wire::files::Fields;
use sojourn_core::wire::files::MAX_DATA;
use sojourn_core::wire::files::MAX_PATH;
use sojourn_core::wire::files::Request;

use super::command::Command;
use super::expand::expand;
use super::far::Broken;
use super::far::Far;
use super::far::Response;
use super::far::is_directory;
use super::far::join;
use crate::files::Direction;
use crate::files::HelperError;
use crate::files::IN_FLIGHT;
use crate::files::bytes_of;
use crate::files::error_text;
use crate::gate::Gate;

/// How deep directories are followed; each holds one handle. Links may make a ring of them.
const DEEPEST: usize = 48;

/// A directory that is being sent.
struct Directory {
    path: Vec<u8>,
    handle: u32,
    /// Names in it that are next.
    names: VecDeque<Vec<u8>>,
}

/// Sends what the client wants.
pub(super) async fn serve<G: Gate>(far: &mut Far<'_, G>, command: &Command) -> Result<(), Broken> {
    if far.response().await? == Response::No {
        return Ok(());
    }
    for word in &command.paths {
        for path in expand(far, word).await? {
            tree(far, command, path).await?;
        }
    }
    Ok(())
}

/// Sends a file, or a directory with all that is in it.
async fn tree<G: Gate>(
    far: &mut Far<'_, G>,
    command: &Command,
    path: Vec<u8>,
) -> Result<(), Broken> {
    let mut inside: Vec<Directory> = Vec::new();
    let mut next = Some(path);
    loop {
        if let Some(path) = next.take() {
            inside.extend(one(far, command, path, inside.len()).await?);
        }
        let Some(directory) = inside.last_mut() else { return Ok(()) };
        if directory.names.is_empty() {
            match far.names(directory.handle).await? {
                Ok(names) => directory.names.extend(names),
                Err(errno) => far.failed(&directory.path, errno).await?,
            }
        }
        if let Some(name) = directory.names.pop_front() {
            next = Some(join(&directory.path, &name));
            continue;
        }
        let handle = directory.handle;
        inside.pop();
        let _closed = far.call(&Request::Close(handle)).await?;
        far.send(&b"E\n"[..]).await?;
        far.response().await?;
    }
}

/// Sends a file; opens a directory.
async fn one<G: Gate>(
    far: &mut Far<'_, G>,
    command: &Command,
    path: Vec<u8>,
    depth: usize,
) -> Result<Option<Directory>, Broken> {
    if last(&path).contains(&b'\n') {
        far.error(&path, "its name cannot be sent").await?;
        return Ok(None);
    }
    if path.len() > MAX_PATH || depth >= DEEPEST {
        far.error(&path, "too deep").await?;
        return Ok(None);
    }
    let about = match far.stat(&path).await? {
        Ok(about) => about,
        Err(errno) => {
            far.failed(&path, errno).await?;
            return Ok(None);
        }
    };
    if !is_directory(&about) {
        file(far, command, &path).await?;
        return Ok(None);
    }
    if !command.recursive {
        far.error(&path, "not a regular file").await?;
        return Ok(None);
    }
    let handle = match far.open(&Request::Opendir(&path)).await? {
        Ok(handle) => handle,
        Err(errno) => {
            far.failed(&path, errno).await?;
            return Ok(None);
        }
    };
    let announced = announce(far, command, b'D', &path, &Attributes { size: 0, ..about }).await?;
    if announced == Response::No {
        let _closed = far.call(&Request::Close(handle)).await?;
        return Ok(None);
    }
    Ok(Some(Directory { path, handle, names: VecDeque::new() }))
}

async fn announce<G: Gate>(
    far: &mut Far<'_, G>,
    command: &Command,
    kind: u8,
    path: &[u8],
    about: &Attributes,
) -> Result<Response, Broken> {
    if command.preserve {
        far.send(format!("T{} 0 {} 0\n", about.mtime, about.atime)).await?;
        if far.response().await? == Response::No {
            return Ok(Response::No);
        }
    }
    let start = format!("{}{:04o} {} ", char::from(kind), about.mode & 0o7777, about.size);
    far.send([start.as_bytes(), last(path), b"\n"].concat()).await?;
    far.response().await
}

async fn file<G: Gate>(far: &mut Far<'_, G>, command: &Command, path: &[u8]) -> Result<(), Broken> {
    let handle = match far.open(&Request::Open { flags: 0, mode: 0, path }).await? {
        Ok(handle) => handle,
        Err(errno) => return far.failed(path, errno).await,
    };
    let about = match far.call(&Request::Fstat(handle)).await? {
        Ok(payload) => Fields(&payload).attributes().map_err(HelperError::from)?,
        Err(errno) => {
            let _closed = far.call(&Request::Close(handle)).await?;
            return far.failed(path, errno).await;
        }
    };
    if announce(far, command, b'C', path, &about).await? == Response::Yes {
        let mut transfer = far.begin(Direction::Out, path);
        let mut asked = 0;
        let (mut sent, mut waiting, mut error) = (0_u64, VecDeque::new(), None);
        while sent < about.size {
            while asked < about.size && waiting.len() < IN_FLIGHT {
                let length = (about.size - asked).min(PART);
                let length = u32::try_from(length).unwrap_or(0);
                far.ask(&Request::Read { handle, offset: asked, length }).await?;
                waiting.push_back(length);
                asked += u64::from(length);
            }
            let Some(length) = waiting.pop_front() else { break };
            let wanted = usize::try_from(length).unwrap_or(MAX_DATA);
            let bytes = match far.answer().await? {
                Ok(payload) => bytes_of(&payload)?,
                Err(errno) => {
                    error.get_or_insert_with(|| error_text(errno));
                    Bytes::new()
                }
            };
            if bytes.len() > wanted {
                return Err(HelperError::Order.into());
            }
            if bytes.len() < wanted {
                error.get_or_insert_with(|| "it became shorter while it was sent".to_owned());
                transfer.not_whole();
            }
            transfer.pass(sent, &bytes);
            // The client was told how much will come.
            let missing = wanted.saturating_sub(bytes.len());
            if !bytes.is_empty() {
                far.send(bytes).await?;
            }
            if missing > 0 {
                far.send(vec![0; missing]).await?;
            }
            sent += u64::from(length);
        }
        match error {
            Some(why) => far.error(path, &why).await?,
            None => far.yes().await?,
        }
        if far.response().await? == Response::No {
            transfer.not_whole();
        }
        // The client has it, and asks for no more answer.
        let _not_on_record = far.close(transfer).await;
    }
    let _closed = far.call(&Request::Close(handle)).await?;
    Ok(())
}

/// The most of a file that is read at once.
const PART: u64 = MAX_DATA as u64;

/// The last part of a path, as it is named to the client.
fn last(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let path = path.get(..end).unwrap_or(path);
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_a_path_is_its_name() {
        assert_eq!(last(b"/a/b"), b"b");
        assert_eq!(last(b"/a/b//"), b"b");
        assert_eq!(last(b"a"), b"a");
        assert_eq!(last(b"/"), b"");
    }
}
