//! Words that stand for several paths, looked up as a shell does.

use sojourn_core::wire::files::MAX_PATH;
use sojourn_core::wire::files::Request;

use super::command::Word;
use super::far::Broken;
use super::far::Far;
use super::far::join;
use super::pattern::Pattern;
use crate::gate::Gate;

/// The most paths that words may stand for, and directories that are read to find them.
const MOST_PATHS: usize = 10_000;
const MOST_DIRECTORIES: usize = 1000;

/// The paths a word stands for, in order; the word itself, where there are none.
pub(super) async fn expand<G: Gate>(
    far: &mut Far<'_, G>,
    word: &Word,
) -> Result<Vec<Vec<u8>>, Broken> {
    let home = match word.home {
        true => far.home().to_vec(),
        false => Vec::new(),
    };
    let literal = match (word.home, word.literal()) {
        (true, rest) if rest.is_empty() => home.clone(),
        (true, rest) => join(&home, &rest),
        (false, rest) if rest.is_empty() => b".".to_vec(),
        (false, rest) => rest,
    };
    if !word.is_pattern() {
        return Ok(vec![literal]);
    }
    let mut paths = vec![home];
    let mut read = 0;
    for (index, part) in word.parts().iter().enumerate() {
        paths = match part.literal() {
            Some(name) if name.is_empty() && index == 0 && !word.home => vec![b"/".to_vec()],
            // Slashes that follow each other are one.
            Some(name) if name.is_empty() => paths,
            Some(name) => paths.iter().map(|path| join(path, &name)).collect(),
            None => {
                read += paths.len();
                if read > MOST_DIRECTORIES {
                    far.fatal("a pattern stands for too much").await?;
                }
                matching(far, &paths, part).await?
            }
        };
        if paths.len() > MOST_PATHS {
            far.fatal("a pattern stands for too many files").await?;
        }
    }
    let mut found = Vec::new();
    for path in paths {
        if path.len() <= MAX_PATH && far.call(&Request::Lstat(&path)).await?.is_ok() {
            found.push(path);
        }
    }
    found.sort();
    Ok(if found.is_empty() { vec![literal] } else { found })
}

/// Names that fit in any of these directories. One that cannot be read has none.
async fn matching<G: Gate>(
    far: &mut Far<'_, G>,
    directories: &[Vec<u8>],
    pattern: &Pattern,
) -> Result<Vec<Vec<u8>>, Broken> {
    let mut found = Vec::new();
    for directory in directories {
        let path = if directory.is_empty() { b".".as_slice() } else { directory };
        if path.len() > MAX_PATH {
            continue;
        }
        let Ok(open) = far.open(&Request::Opendir(path)).await? else { continue };
        while let Ok(names) = far.names(open).await? {
            if names.is_empty() || found.len() > MOST_PATHS {
                break;
            }
            let fitting = names.iter().filter(|name| pattern.fits(name));
            found.extend(fitting.map(|name| join(directory, name)));
        }
        let _closed = far.call(&Request::Close(open)).await?;
    }
    Ok(found)
}
