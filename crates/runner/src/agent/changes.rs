//! What an agent changed in its working directory, as one diff that replaces the one before.
//!
//! The directory is hostile: a repository can name programs for git to run (filters, hooks, pagers,
//! diff drivers, monitors). So git never reads its configuration. It gets a git directory of our own,
//! a copy of the repository's index to be quick, and the repository's objects to look things up in;
//! attributes alone name no program. What is too much is left out, or all of it given up.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::Hash;
use std::hash::Hasher;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::wire::relay::Event;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Sink;
use super::Times;

/// The longest diff, in bytes. As JSON it fits an event even if it has to be escaped.
const MAX_PATCH: usize = 100 << 10;

/// The most files that are named, and the bytes of their names.
const MAX_FILES: usize = 500;
const MAX_NAMES: usize = 32 << 10;

/// The most files that are looked at because they are new or changed, and the bytes of their names.
const MAX_LOOKED: usize = 20_000;
const MAX_LIST: usize = 4 << 20;

/// A longer file is not compared.
const MAX_FILE: u64 = 1 << 20;

/// More than this in all is not compared.
const MAX_TOTAL: u64 = 64 << 20;

/// A longer index is not copied.
const MAX_INDEX: u64 = 64 << 20;

/// However busy an agent is, so many quiet times are waited at most.
const PATIENCE: u32 = 5;

/// Tells that something may have changed.
#[derive(Clone)]
pub(super) struct Touch(Arc<Notify>);

impl Touch {
    pub(super) fn touched(&self) {
        self.0.notify_one();
    }
}

/// A working directory as it was.
pub(super) struct Base {
    git: Git,
    /// The tree of that time.
    tree: String,
}

/// Begins to watch; [`watch`] goes on with what this gives, once the agent may work.
pub(super) fn touch() -> Touch {
    Touch(Arc::new(Notify::new()))
}

/// Keeps a working directory as it is. None where it belongs to no repository, or is too much.
pub(super) async fn base(cwd: PathBuf, directory: PathBuf, times: Times) -> Option<Base> {
    let taken = tokio::time::timeout(times.compare, Base::take(&cwd, &directory)).await;
    match taken {
        Ok(Ok(base)) => base,
        Ok(Err(error)) => {
            tracing::debug!(%error, "changes are not shown");
            None
        }
        Err(_) => {
            tracing::debug!("the working directory is too large to show changes");
            None
        }
    }
}

/// Tells what changed, each time that a working directory was touched and left alone for a while.
pub(super) async fn watch(
    base: Base,
    touch: Touch,
    times: Times,
    sink: Arc<dyn Sink>,
    closing: CancellationToken,
) {
    let mut told = None;
    loop {
        tokio::select! {
            () = touch.0.notified() => {}
            () = closing.cancelled() => return,
        }
        if quiet(&touch, times.quiet, &closing).await.is_none() {
            return;
        }
        let changes = tokio::time::timeout(times.compare, base.changes());
        let changes = tokio::select! {
            changes = changes => changes,
            () = closing.cancelled() => return,
        };
        let Ok(Ok((files, patch, truncated))) = changes else { continue };
        let mut hasher = DefaultHasher::new();
        (&files, &patch, truncated).hash(&mut hasher);
        let hash = hasher.finish();
        // Nothing that never was is not worth saying.
        if told == Some(hash) || (told.is_none() && files.is_empty()) {
            continue;
        }
        told = Some(hash);
        tokio::select! {
            gone = sink.emit(Event::Diff { files, patch, truncated }) => if gone.is_err() { return },
            () = closing.cancelled() => return,
        }
    }
}

/// Waits until nothing was touched for a while, or it went on for long. None at the end.
async fn quiet(touch: &Touch, time: Duration, closing: &CancellationToken) -> Option<()> {
    let last = Instant::now() + time * PATIENCE;
    loop {
        let until = (Instant::now() + time).min(last);
        tokio::select! {
            () = tokio::time::sleep_until(until) => return Some(()),
            () = touch.0.notified() => {}
            () = closing.cancelled() => return None,
        }
    }
}

impl Base {
    /// Takes the tree of a working directory, or the one that was taken in an earlier epoch.
    async fn take(cwd: &Path, directory: &Path) -> io::Result<Option<Self>> {
        let Some(git) = Git::find(cwd, directory)? else { return Ok(None) };
        let kept = directory.join("base");
        if let Ok(tree) = fs::read_to_string(&kept)
            && is_name(&tree)
        {
            return Ok(Some(Self { git, tree }));
        }
        git.init().await?;
        if !git.look().await? {
            return Ok(None);
        }
        let tree = git.tree().await?;
        fs::write(kept, &tree)?;
        Ok(Some(Self { git, tree }))
    }

    /// The files that changed, by path below the working directory, and how.
    async fn changes(&self) -> io::Result<(Vec<String>, String, bool)> {
        let whole = self.git.look().await?;
        let compare = ["diff-index", "--cached", "--no-ext-diff", "--no-textconv", "--relative"];
        let all = |more: &[&'static str]| {
            let mut arguments = compare.to_vec();
            arguments.extend_from_slice(more);
            arguments.push("--ignore-submodules=all");
            arguments
        };
        let mut arguments = all(&["--name-only", "-z", "--no-renames"]);
        arguments.push(&self.tree);
        let (names, names_cut) = self.git.run(&arguments, &[], MAX_NAMES).await?;
        let mut files: Vec<String> = names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        let files_cut = files.len() > MAX_FILES;
        files.truncate(MAX_FILES);
        let mut arguments = all(&["-p", "-M", "--no-color"]);
        arguments.push(&self.tree);
        let (patch, patch_cut) = self.git.run(&arguments, &[], MAX_PATCH).await?;
        let mut patch = String::from_utf8_lossy(&patch).into_owned();
        if patch_cut {
            // Cut after a whole line.
            patch.truncate(patch.rfind('\n').map_or(0, |end| end + 1));
        }
        Ok((files, patch, !whole || names_cut || files_cut || patch_cut))
    }
}

/// Git with a directory of our own.
struct Git {
    program: PathBuf,
    cwd: PathBuf,
    /// The top of the repository that the working directory is in.
    top: PathBuf,
    directory: PathBuf,
    /// The repository's own git directory, where it is a plain one.
    theirs: Option<PathBuf>,
}

impl Git {
    /// None where there is no git, or the directory belongs to no repository.
    fn find(cwd: &Path, directory: &Path) -> io::Result<Option<Self>> {
        let Some(program) = program() else { return Ok(None) };
        let is_top = |top: &&Path| fs::symlink_metadata(top.join(".git")).is_ok();
        let Some(top) = cwd.ancestors().find(is_top) else { return Ok(None) };
        let theirs = top.join(".git");
        let is_plain = fs::symlink_metadata(&theirs)?.is_dir();
        fs::create_dir_all(directory)?;
        Ok(Some(Self {
            program,
            cwd: cwd.to_owned(),
            top: top.to_owned(),
            directory: directory.to_owned(),
            theirs: is_plain.then_some(theirs),
        }))
    }

    fn repository(&self) -> PathBuf {
        self.directory.join("git")
    }

    async fn init(&self) -> io::Result<()> {
        let repository = self.repository();
        // By hand: `init` copies templates, and needs no more than this.
        for part in ["objects/info", "objects/pack", "refs"] {
            fs::create_dir_all(repository.join(part))?;
        }
        fs::write(repository.join("HEAD"), "ref: refs/heads/none\n")?;
        let config = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n";
        fs::write(repository.join("config"), config)?;
        let index = repository.join("index");
        if let Some(theirs) = self.theirs.as_ref().map(|theirs| theirs.join("index"))
            && fs::symlink_metadata(&theirs)
                .is_ok_and(|index| index.is_file() && index.len() <= MAX_INDEX)
        {
            fs::copy(theirs, &index)?;
            if self.run(&["ls-files", "-z", "--", "."], &[], 0).await.is_err() {
                // One that only makes sense where it was.
                fs::remove_file(&index)?;
            }
        }
        Ok(())
    }

    /// Brings our index up to what is there. False when something was left out.
    async fn look(&self) -> io::Result<bool> {
        let list = ["ls-files", "-z", "-m", "-d", "-o", "--exclude-standard", "--", "."];
        let (names, cut) = self.run(&list, &[], MAX_LIST).await?;
        if cut {
            return Err(io::Error::other("too many files are new or changed"));
        }
        let mut wanted = Vec::new();
        let mut whole = true;
        let (mut count, mut total) = (0, 0);
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            use std::os::unix::ffi::OsStrExt;
            count += 1;
            let path = self.cwd.join(std::ffi::OsStr::from_bytes(name));
            match fs::symlink_metadata(&path) {
                // A repository in it, or a directory of one.
                Ok(found) if found.is_dir() => continue,
                Ok(found) if found.len() > MAX_FILE => {
                    whole = false;
                    continue;
                }
                Ok(found) => total += found.len(),
                Err(_) => {}
            }
            if total > MAX_TOTAL || count > MAX_LOOKED {
                return Err(io::Error::other("too much is new or changed"));
            }
            wanted.extend_from_slice(name);
            wanted.push(0);
        }
        if !wanted.is_empty() {
            let update = ["update-index", "-z", "--add", "--remove", "--stdin"];
            self.run(&update, &wanted, 0).await?;
        }
        Ok(whole)
    }

    /// The tree of our index.
    async fn tree(&self) -> io::Result<String> {
        let (tree, _) = self.run(&["write-tree", "--missing-ok"], &[], 128).await?;
        let tree = String::from_utf8_lossy(&tree).trim().to_owned();
        match is_name(&tree) {
            true => Ok(tree),
            false => Err(io::Error::other("git gave no tree")),
        }
    }

    /// Runs git, with something to read; gives what it says, so much of it, and whether that was cut.
    async fn run(
        &self,
        arguments: &[&str],
        input: &[u8],
        most: usize,
    ) -> io::Result<(Vec<u8>, bool)> {
        let mut command = Command::new(&self.program);
        command
            .args(["--no-pager", "--no-replace-objects", "--literal-pathspecs"])
            .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
            .args(["-c", "core.untrackedCache=false", "-c", "protocol.allow=never"])
            .args(arguments)
            .current_dir(&self.cwd)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .env("GIT_DIR", self.repository())
            .env("GIT_WORK_TREE", &self.top)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        if let Some(theirs) = &self.theirs {
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", theirs.join("objects"));
        }
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A git that does not want to read says so by its exit status.
                let _ = stdin.write_all(input).await;
            }
        };
        let read = async {
            let mut said = Vec::new();
            let mut more = false;
            if let Some(mut stdout) = stdout {
                (&mut stdout).take(most as u64).read_to_end(&mut said).await?;
                more = stdout.read(&mut [0; 1]).await? > 0;
            }
            Ok::<_, io::Error>((said, more))
        };
        let ((), said) = tokio::join!(write, read);
        let (said, cut) = said?;
        if cut {
            // It has more to say than anybody wants to hear.
            child.kill().await?;
            return Ok((said, true));
        }
        let status = child.wait().await?;
        match status.success() {
            true => Ok((said, false)),
            false => Err(io::Error::other(format!("git {}: {status}", arguments.join(" ")))),
        }
    }
}

/// Where git is. Never a relative path: the agent may have put one there.
fn program() -> Option<PathBuf> {
    ["/usr/bin/git", "/bin/git", "/usr/local/bin/git"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

fn is_name(tree: &str) -> bool {
    matches!(tree.len(), 40 | 64) && tree.bytes().all(|byte| byte.is_ascii_hexdigit())
}
