//! A terminal as people see it who look at many: its screen as text, now and then.
//!
//! All who look share it. It follows what is printed as long as that is held; after more than that it
//! is drawn anew, and then the less often the longer that takes.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use sojourn_core::wire::shim::WindowSize;
use sojourn_term::thumbnail::Run;
use sojourn_term::thumbnail::Small;

use super::FRESH;
use super::HELD;
use super::Read;
use super::Watching;
use crate::door::Refusal;

/// It is as it was for so many times as long as it took to make.
const SHARE: u32 = 9;

/// A screen, small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// How much had been printed.
    pub seq: u64,
    /// The terminal's columns.
    pub cols: u16,
    /// The terminal's rows.
    pub rows: u16,
    /// What it shows.
    pub lines: Vec<Vec<Run>>,
}

/// The one that was made last, and what the next is made of.
#[derive(Debug)]
pub(crate) struct Kept {
    small: Small,
    shown: Arc<Thumbnail>,
    at: Instant,
    took: Duration,
}

impl Kept {
    /// Makes it of a terminal that has printed so much.
    fn of(small: Small, seq: u64, began: Instant) -> Self {
        let (cols, rows) = small.size();
        let side = |side: usize| u16::try_from(side).unwrap_or(u16::MAX);
        let (cols, rows) = (side(cols), side(rows));
        let shown = Arc::new(Thumbnail { seq, cols, rows, lines: small.lines() });
        Self { small, shown, at: Instant::now(), took: began.elapsed() }
    }
}

impl Watching {
    /// The screen as text. The same one as before where nothing has happened, or not long ago.
    ///
    /// # Errors
    /// When the session is over, or its screen cannot be drawn.
    pub async fn thumbnail(&self) -> Result<Arc<Thumbnail>, Refusal> {
        let mut kept = self.tap.small.lock().await;
        if let Some(last) = &*kept {
            let is_as_it_was = matches!(self.tap.read(last.shown.seq, 1), Read::Nothing)
                && self.wanted_size().is_none_or(|size| is_of(last, size));
            let rest = FRESH.max(last.took * SHARE).saturating_sub(last.at.elapsed());
            if is_as_it_was || !rest.is_zero() {
                return Ok(last.shown.clone());
            }
        }
        let next = match kept.take() {
            Some(last) => match self.tap.read(last.shown.seq, HELD) {
                Read::Gone => self.small_anew().await?,
                Read::Nothing => self.go_on(last, Vec::new()).await?,
                Read::Bytes(parts) => self.go_on(last, parts).await?,
            },
            None => self.small_anew().await?,
        };
        let shown = next.shown.clone();
        *kept = Some(next);
        Ok(shown)
    }

    fn wanted_size(&self) -> Option<WindowSize> {
        self.tap.size().borrow().filter(|size| size.cols > 0 && size.rows > 0)
    }

    /// It has printed this since.
    async fn go_on(&self, last: Kept, parts: Vec<bytes::Bytes>) -> Result<Kept, Refusal> {
        let size = self.wanted_size();
        let make = move || {
            let began = Instant::now();
            let mut small = last.small;
            if let Some(WindowSize { cols, rows, .. }) = size {
                small.resize(cols, rows);
            }
            let mut seq = last.shown.seq;
            for part in parts {
                small.feed(&part);
                seq += part.len() as u64;
            }
            Kept::of(small, seq, began)
        };
        self.session.shared.screens.make(make).await.ok_or_else(cannot)
    }

    async fn small_anew(&self) -> Result<Kept, Refusal> {
        let (place, began) = (self.locate().await?, Instant::now());
        let (seq, size) = (place.printed, place.size);
        let screens = &self.session.shared.screens;
        let snapshot = screens.snapshot(place, size).await.ok_or_else(cannot)?;
        let make = move || {
            let small = Small::new(snapshot.cols, snapshot.rows, &snapshot.data)?;
            Some(Kept::of(small, seq, began))
        };
        screens.make(make).await.flatten().ok_or_else(cannot)
    }
}

fn is_of(kept: &Kept, size: WindowSize) -> bool {
    (kept.shown.cols, kept.shown.rows) == (size.cols, size.rows)
}

fn cannot() -> Refusal {
    Refusal::Start("its screen cannot be drawn now".to_owned())
}
