//! Looking on at a terminal, and driving it: for doors that show the output by how much was printed
//! before it.
//!
//! ```text
//!   shim ──output──▶ session's task ──▶ Tap: the last MiB, by offset ──▶ any number of Watching
//!                         │                                               each at its own pace
//!                         └──▶ the driver's channel: credit, so that it holds the program back
//! ```
//!
//! Whoever looks on never holds anything up: what they have not read in time is gone for them, and they
//! go on from the recording, or from a screen drawn anew. The one who drives reads the same bytes, and
//! the program waits for them as it does for an SSH client.

mod late;
mod ring;
mod small;
mod tap;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::wire::shim::Attached;
use sojourn_core::wire::shim::WindowSize;
use sojourn_term::snapshot::Snapshot;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::channel::ChannelInput;
use crate::channel::ChannelOutput;
use crate::door::Refusal;
use crate::roster::Guest;
use crate::session::Command;
use crate::session::Session;

pub use ring::HELD;
pub use ring::Read;
pub use small::Thumbnail;
pub use sojourn_term::thumbnail::Run;
pub use tap::Driver;
pub(crate) use tap::Tap;

/// The most people who may look on at a session at the same time, its driver at the web door included,
/// until something else is set.
pub const MAX_WATCHERS: usize = 32;

/// How long a shim may take to say where a terminal stands.
const LOCATE: Duration = Duration::from_secs(10);

/// A screen that was drawn is good for everybody for so long, and for three times as long as it took.
const FRESH: Duration = Duration::from_millis(500);
const SHARE: u32 = 3;

/// Somebody who looks on at a session's terminal. Counts until it is dropped.
#[derive(Debug)]
pub struct Watching {
    session: Session,
    tap: Arc<Tap>,
}

/// What somebody goes on from who has not read what is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaughtUp {
    /// These bytes come next; then what was printed after them.
    Bytes(Bytes),
    /// The screen as it was when so much had been printed.
    Screen(Arc<Screen>),
    /// It cannot be drawn; output goes on from here.
    Blank(u64),
}

/// A screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    /// How much had been printed.
    pub seq: u64,
    /// Its columns.
    pub cols: u16,
    /// Its rows.
    pub rows: u16,
    /// Bytes that draw it.
    pub data: Vec<u8>,
}

/// A screen for everybody who needs one about now.
#[derive(Debug)]
pub(crate) struct Drawn {
    screen: Arc<Screen>,
    at: Instant,
    took: Duration,
}

/// What everybody at a session is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Limits that came near so far, and the last of them.
    pub warnings: u64,
    /// Which, and what was left.
    pub warned: Option<(Limit, Duration)>,
    /// The limit that was reached, what it was set to, and the line about it.
    pub exceeded: Option<(Limit, u64, String)>,
    /// Whether it is ending.
    pub ending: bool,
    /// How many times the lease was told.
    pub leases: u64,
    /// Once everything of it is gone: why, and how its program ended.
    pub ended: Option<(EndReason, Option<Exit>)>,
}

/// Somebody who drives a terminal. To be left with [`Driving::leave`].
#[derive(Debug)]
pub struct Driving {
    session: Session,
    /// Into it.
    pub input: ChannelInput,
    /// What is taken from it is given back to the program as credit; the bytes are those that
    /// [`Watching`] reads.
    pub output: ChannelOutput,
    /// How much had been printed before `output`.
    pub printed: u64,
}

/// What becomes of a terminal whose person is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// It waits for them as long as the profile says.
    ForGrace,
    /// It goes on under its lease alone.
    ForLease,
    /// The same, and nobody has been there yet.
    NotYet,
}

impl Session {
    /// Looks on at a terminal of this number, or at the session's first.
    ///
    /// # Errors
    /// When there is none, or too many look on.
    pub async fn watch(&self, number: Option<u16>) -> Result<Watching, Refusal> {
        let (answer, tap) = oneshot::channel();
        self.tell(Command::Watch { number, answer }).await?;
        let tap = tap.await.map_err(|_| Refusal::Over)??;
        self.recorded().await?;
        Ok(Watching { session: self.shared.handle(), tap })
    }

    /// The number of a terminal that runs: this one, or the first.
    pub(crate) async fn terminal(&self, number: Option<u16>) -> Option<u16> {
        let (answer, found) = oneshot::channel();
        self.tell(Command::Terminal { number, answer }).await.ok()?;
        found.await.ok().flatten()
    }

    /// What everybody at the session is told, from now on.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<News> {
        self.shared.news.clone()
    }

    /// Whether nobody ended it and it did not end.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        !self.is_ending()
    }
}

impl Watching {
    /// The session.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The terminal's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.tap.number
    }

    /// What was printed after `at` bytes, at most `most` of it.
    #[must_use]
    pub fn read(&self, at: u64, most: usize) -> Read {
        self.tap.read(at, most)
    }

    /// How much was printed, as it changes.
    #[must_use]
    pub fn printed(&self) -> watch::Receiver<u64> {
        self.tap.printed()
    }

    /// Who drives it, as it changes.
    #[must_use]
    pub fn driver(&self) -> watch::Receiver<Option<Driver>> {
        self.tap.driver()
    }

    /// The terminal's size, as it changes.
    #[must_use]
    pub fn size(&self) -> watch::Receiver<Option<WindowSize>> {
        self.tap.size()
    }

    /// How somebody goes on who has read `at` bytes, or nothing yet: from what is held, from the
    /// recording where that is not much, else from the screen.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn catch_up(&self, at: Option<u64>) -> Result<CaughtUp, Refusal> {
        if let Some(at) = at {
            if self.tap.holds(at) {
                return Ok(CaughtUp::Bytes(Bytes::new()));
            }
            // Of one whose program has just ended it is known where it stood; what it printed after that
            // is held.
            let place = self.locate().await.or_else(|over| self.tap.place().ok_or(over))?;
            let missed = place.printed.checked_sub(at);
            if let Some(missed) = missed.filter(|missed| *missed <= HELD as u64) {
                let read = self.session.shared.screens.printed(&place, missed).await;
                if let Some(bytes) = read.filter(|bytes| bytes.len() as u64 == missed) {
                    return Ok(CaughtUp::Bytes(bytes));
                }
            }
        }
        self.draw().await
    }

    /// The screen: the one that was drawn last, while it is fresh.
    async fn draw(&self) -> Result<CaughtUp, Refusal> {
        let mut drawn = self.tap.drawn.lock().await;
        if let Some(last) = &*drawn {
            let rest = FRESH.max(last.took * SHARE).saturating_sub(last.at.elapsed());
            if !rest.is_zero() && self.tap.holds(last.screen.seq) {
                return Ok(CaughtUp::Screen(last.screen.clone()));
            }
            // Whoever looks on at a flood sees it now and then, which is as much as can be seen.
            tokio::time::sleep(rest).await;
        }
        let place = self.locate().await?;
        let (seq, began) = (place.printed, Instant::now());
        let size = place.size;
        let Some(snapshot) = self.session.shared.screens.snapshot(place, size).await else {
            *drawn = None;
            return Ok(CaughtUp::Blank(seq));
        };
        let Snapshot { cols, rows, data, .. } = snapshot;
        let screen = Arc::new(Screen { seq, cols, rows, data });
        let took = began.elapsed();
        *drawn = Some(Drawn { screen: screen.clone(), at: Instant::now(), took });
        Ok(CaughtUp::Screen(screen))
    }

    /// Where the terminal stands.
    async fn locate(&self) -> Result<Attached, Refusal> {
        let (answer, place) = oneshot::channel();
        self.session.tell(Command::Locate { number: self.tap.number, answer }).await?;
        match tokio::time::timeout(LOCATE, place).await {
            Ok(Ok(Some(place))) => Ok(place),
            _ => Err(Refusal::Over),
        }
    }

    /// Takes the terminal, from whoever has it: they are told.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) async fn drive(&self, guest: Guest) -> Result<Driving, Refusal> {
        let session = self.session.enter(guest).await?;
        match session.seat(Some(self.tap.number)).await {
            Ok(Some((channel, attached))) => Ok(Driving {
                session,
                input: channel.input,
                output: channel.output,
                printed: attached.printed,
            }),
            Ok(None) => {
                session.leave(Stays::ForGrace).await;
                Err(Refusal::Over)
            }
            Err(refusal) => {
                session.leave(Stays::ForGrace).await;
                Err(refusal)
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if self.tap.leave() {
            // Where there is no room for it, the next one of these, or the next look, says it.
            let _full = self.session.shared.commands.try_send(Command::Unwatched);
        }
    }
}

impl Driving {
    /// They are gone.
    pub async fn leave(self, stays: Stays) {
        self.session.leave(stays).await;
    }
}
