//! A shell on this machine: a terminal whose bytes go to the gateway, and what is typed there comes
//! back. As a rule there is no isolation: it is the user's own machine, and the user's own shell. A
//! shell in a sandbox has a terminal of its own in there; ours passes bytes on as they are.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;
use rustix::termios::Winsize;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::shim::WindowSize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::held::Held;
use super::held::Key;
use crate::agent::Gone;
use crate::agent::Sink;
use crate::chamber::Word;
use crate::process::ProcessError;
use crate::process::Run;
use crate::process::Tree;
use crate::process::Warden;

/// So much is read at a time.
const CHUNK: usize = 16 << 10;

/// The longest first word of a chamber, in bytes.
const LONGEST_WORD: usize = 4096;

/// How long it may take: longer than a sandbox.
const MADE: Duration = Duration::from_secs(120);

/// The size of a terminal of which nobody said it.
const USUAL: (u16, u16) = (80, 24);

/// Our end of a terminal.
pub(super) struct Terminal {
    master: AsyncFd<OwnedFd>,
}

impl Terminal {
    /// Starts a program on a new terminal.
    pub(super) async fn start(
        warden: &Warden,
        run: Run,
        size: WindowSize,
    ) -> Result<(Tree, Self), ProcessError> {
        let (master, slave) = open(size).map_err(ProcessError::Warden)?;
        let tree = Tree::on_terminal(warden, run, slave).await?;
        Ok((tree, Self { master }))
    }

    /// The same for a program that makes a sandbox and passes bytes on.
    pub(super) async fn start_chamber(
        warden: &Warden,
        run: Run,
        size: WindowSize,
    ) -> Result<(Tree, Self), ProcessError> {
        let (master, slave) = open(size).map_err(ProcessError::Warden)?;
        let raw = rustix::termios::tcgetattr(&slave).and_then(|mut modes| {
            modes.make_raw();
            rustix::termios::tcsetattr(&slave, OptionalActions::Now, &modes)
        });
        raw.map_err(|error| ProcessError::Warden(error.into()))?;
        let tree = Tree::on_terminal(warden, run, slave).await?;
        Ok((tree, Self { master }))
    }

    /// Waits for a chamber's word that the shell in it runs.
    ///
    /// # Errors
    /// A line that says why it does not.
    pub(super) async fn is_made(&self) -> Result<(), String> {
        let word = match tokio::time::timeout(MADE, self.word()).await {
            Ok(Some(line)) => serde_json::from_slice(&line).ok(),
            Ok(None) => None,
            Err(_) => return Err("its sandbox is not made in two minutes".to_owned()),
        };
        match word {
            Some(Word::Runs) => Ok(()),
            Some(Word::Failed { message }) => Err(message),
            None => Err("what makes its sandbox left without a word".to_owned()),
        }
    }

    /// The first line, and not a byte more: those are the shell's.
    async fn word(&self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        while line.len() < LONGEST_WORD {
            let mut byte = [0];
            let read = self
                .master
                .async_io(Interest::READABLE, |master| Ok(rustix::io::read(master, &mut byte)?));
            match (read.await.ok()?, byte) {
                (0, _) => return None,
                (_, [b'\n']) => return Some(line),
                (_, [byte]) => line.push(byte),
            }
        }
        None
    }

    /// Passes bytes both ways until the program closes its end. What it prints waits while there is
    /// no room for it, and so does the program.
    pub(super) async fn serve(&self, held: &Held, mut typed: mpsc::Receiver<Key>) {
        let typing = async {
            while let Some(key) = typed.recv().await {
                match key {
                    Key::Input(bytes) => self.write(&bytes).await,
                    Key::Resize(size) => self.resize(held, size).await,
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = typing => {}
            () = self.print(held) => {}
        }
    }

    async fn print(&self, held: &Held) {
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = self
                .master
                .async_io(Interest::READABLE, |master| Ok(rustix::io::read(master, &mut buffer)?));
            // The system calls it an error when nobody holds the other end.
            let Some(length) = read.await.ok().filter(|length| *length > 0) else { return };
            held.printed(length as u64);
            let bytes = buffer.get(..length).unwrap_or_default();
            if held.print(bytes).await == Err(Gone) {
                return std::future::pending().await;
            }
        }
    }

    async fn write(&self, bytes: &[u8]) {
        let mut left = bytes;
        while !left.is_empty() {
            let written = self
                .master
                .async_io(Interest::WRITABLE, |master| Ok(rustix::io::write(master, left)?));
            match written.await {
                Ok(length) => left = left.get(length..).unwrap_or_default(),
                Err(_) => return,
            }
        }
    }

    async fn resize(&self, held: &Held, size: WindowSize) {
        if set_size(self.master.get_ref(), size).is_ok() {
            let told = Event::Resized { cols: size.cols, rows: size.rows };
            let _ending = held.tell(told).await;
        }
    }
}

/// A new terminal: our end, and the program's.
fn open(size: WindowSize) -> io::Result<(AsyncFd<OwnedFd>, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    let (cols, rows) = match (size.cols, size.rows) {
        (0, _) | (_, 0) => USUAL,
        given => given,
    };
    set_size(&master, WindowSize { cols, rows, ..size })?;
    rustix::io::ioctl_fionbio(&master, true)?;
    #[expect(
        deprecated,
        reason = "the new way is unsafe for a type that may lose its descriptor; this one owns it"
    )]
    let master = AsyncFd::new(master)?;
    Ok((master, slave))
}

fn set_size(master: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: size.width,
        ws_ypixel: size.height,
    };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}
