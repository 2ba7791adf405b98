//! Those who look on at a session's terminals: what the session's task does for them.
//!
//! It passes output to them by how much was printed before it. While nobody drives a terminal it takes
//! the output itself, and gives the credit back at once: nobody who looks on is waited for.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use sojourn_core::wire::shim::Attached;
use sojourn_core::wire::shim::OUTPUT_WINDOW;
use sojourn_core::wire::shim::ToShim;
use sojourn_core::wire::shim::WindowSize;
use sojourn_core::wire::shim::cost;
use tokio::sync::oneshot;
use tokio::sync::watch;

use super::Broker;
use crate::door::Refusal;
use crate::watching::Driver;
use crate::watching::News;
use crate::watching::Tap;

/// The first version of a shim that says how much a terminal has printed.
const TELLS_PLACES: u16 = 2;

/// Questions about one terminal that may wait for an answer, for each who may look on: some come back
/// before it was noticed that they had gone.
const QUESTIONS: usize = 2;

/// What the session's task knows of them.
pub(crate) struct Onlookers {
    taps: BTreeMap<u16, Arc<Tap>>,
    flows: BTreeMap<u16, Flow>,
    questions: BTreeMap<u16, VecDeque<oneshot::Sender<Option<Attached>>>>,
    /// Whether its shim says where terminals stand.
    places: bool,
    news: watch::Sender<News>,
}

/// A channel's output, on its way here.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    /// How much was printed before the next frame.
    at: u64,
    /// Whether the session's task takes it itself.
    ours: bool,
    /// Credit it owes for what it took.
    owed: u32,
}

impl Onlookers {
    pub(crate) fn new(news: watch::Sender<News>) -> Self {
        let (taps, flows, questions) = Default::default();
        Self { taps, flows, questions, places: false, news }
    }

    pub(super) fn greeted(&mut self, version: u16) {
        self.places = version >= TELLS_PLACES;
    }

    pub(super) fn news(&self, change: impl FnOnce(&mut News)) {
        self.news.send_modify(change);
    }

    /// Whether anybody looks on.
    pub(super) fn is_watched(&self) -> bool {
        self.taps.values().any(|tap| tap.watchers() > 0)
    }

    /// A program starts, and has printed nothing.
    pub(super) fn begin(&mut self, number: u16) {
        self.flows.insert(number, Flow::default());
    }

    /// Takes a frame of output for those who look on. How much credit it owes for it now, where nobody
    /// else reads it.
    pub(super) fn output(&mut self, number: u16, bytes: &Bytes, is_read: bool) -> Option<u32> {
        let flow = self.flows.get_mut(&number)?;
        if let Some(tap) = self.taps.get(&number) {
            tap.push(flow.at, bytes.clone());
        }
        flow.at += bytes.len() as u64;
        if is_read || !flow.ours {
            return None;
        }
        flow.owed += cost(bytes.len());
        (flow.owed >= OUTPUT_WINDOW / 4).then(|| std::mem::take(&mut flow.owed))
    }

    /// The shim has answered an attach.
    pub(super) fn resume(&mut self, number: u16, place: &Attached) {
        let flow = self.flows.entry(number).or_default();
        (flow.at, flow.owed) = (place.printed, 0);
        if let Some(tap) = self.taps.get(&number) {
            tap.attached(place);
        }
    }

    /// The shim says where a terminal stands.
    pub(super) fn located(&mut self, number: u16, place: Option<Attached>) {
        if let (Some(tap), Some(place)) = (self.taps.get(&number), &place) {
            tap.resized(place.size);
        }
        let waiting = self.questions.get_mut(&number).and_then(VecDeque::pop_front);
        if let Some(waiting) = waiting {
            let _gone = waiting.send(place);
        }
    }

    pub(super) fn resized(&self, number: u16, size: WindowSize) {
        if let Some(tap) = self.taps.get(&number) {
            tap.resized(size);
        }
    }

    /// A program has ended.
    pub(super) fn ended(&mut self, number: u16) {
        self.flows.remove(&number);
        self.questions.remove(&number);
        if let Some(tap) = self.taps.get(&number) {
            tap.driven_by(None);
        }
    }

    /// Whether the session's task is to take a terminal's output itself once nobody else does.
    pub(super) fn take_over(&mut self, number: u16) -> bool {
        let watched = self.taps.get(&number).is_some_and(|tap| tap.watchers() > 0);
        let flow = self.flows.entry(number).or_default();
        flow.ours = watched;
        watched
    }

    /// Somebody else reads a terminal's output from now on.
    pub(super) fn give_up(&mut self, number: u16) {
        if let Some(flow) = self.flows.get_mut(&number) {
            flow.ours = false;
        }
    }

    /// Terminals whose output the session's task takes for nobody.
    fn in_vain(&self) -> Vec<u16> {
        let watched = |number: &u16| self.taps.get(number).is_some_and(|tap| tap.watchers() > 0);
        let ours = self.flows.iter().filter(|(number, flow)| flow.ours && !watched(number));
        ours.map(|(number, _)| *number).collect()
    }
}

impl Broker {
    /// Somebody looks on at a terminal.
    pub(super) async fn look_on(
        &mut self,
        wanted: Option<u16>,
        answer: oneshot::Sender<Result<Arc<Tap>, Refusal>>,
    ) {
        let tap = self.admit(wanted);
        let number = tap.as_ref().ok().map(|tap| tap.number);
        if let Err(Ok(tap)) = answer.send(tap) {
            tap.leave();
        }
        self.show_drivers();
        let Some(number) = number else { return };
        let flows = self.onlookers.flows.get(&number).is_some_and(|flow| flow.ours);
        if !flows && !self.roster.is_read(number) {
            self.take_terminal(number).await;
        }
    }

    fn admit(&mut self, wanted: Option<u16>) -> Result<Arc<Tap>, Refusal> {
        if !self.onlookers.places {
            let line = "this session began under an older version; come back to it by SSH";
            return Err(Refusal::Start(line.to_owned()));
        }
        let number = self.roster.terminal(wanted).ok_or(Refusal::NoTerminal)?;
        let watchers: usize = self.onlookers.taps.values().map(|tap| tap.watchers()).sum();
        let most = self.inner.max_watchers.load(Ordering::Relaxed);
        if watchers >= most {
            return Err(Refusal::Watchers(most));
        }
        let at = self.onlookers.flows.get(&number).map(|flow| flow.at);
        let tap = self.onlookers.taps.entry(number).or_insert_with(|| Arc::new(Tap::new(number)));
        if let Some(at) = at {
            tap.resume(at);
        }
        tap.enter();
        Ok(tap.clone())
    }

    /// Takes a terminal's output where nobody reads it, if anybody looks on; else it is recorded only.
    pub(super) async fn take_terminal(&mut self, number: u16) {
        if self.onlookers.take_over(number) {
            self.roster.expect(number);
            self.send(&ToShim::Attach(number, OUTPUT_WINDOW)).await;
        } else {
            self.send(&ToShim::Detach(number)).await;
        }
    }

    /// Takes no output for those who are gone.
    pub(super) async fn take_nothing_in_vain(&mut self) {
        for number in self.onlookers.in_vain() {
            self.onlookers.give_up(number);
            if !self.roster.is_read(number) {
                self.send(&ToShim::Detach(number)).await;
            }
        }
    }

    /// Where does a terminal stand?
    pub(super) async fn locate(&mut self, number: u16, answer: oneshot::Sender<Option<Attached>>) {
        let questions = self.onlookers.questions.entry(number).or_default();
        // An answer that is dropped says that there is none.
        let most = self.inner.max_watchers.load(Ordering::Relaxed).max(32) * QUESTIONS;
        if questions.len() < most && self.onlookers.flows.contains_key(&number) {
            questions.push_back(answer);
            self.send(&ToShim::Locate(number)).await;
        }
    }

    /// Tells those who look on who drives.
    pub(super) fn show_drivers(&self) {
        for (number, tap) in &self.onlookers.taps {
            let driver = self.roster.driver(*number);
            tap.driven_by(
                driver.map(|guest| Driver { user: guest.name.clone(), address: guest.address }),
            );
        }
    }

    /// Looks after what nobody else does: called every few seconds.
    pub(super) async fn look_after(&mut self) {
        self.take_nothing_in_vain().await;
        if self.onlookers.is_watched() && self.shared.has_started() && !self.is_ending() {
            self.send(&ToShim::Query).await;
        }
    }
}
