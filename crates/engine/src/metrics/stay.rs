//! What is measured of one session, from its request to its end.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use sojourn_core::end::EndReason;
use sojourn_core::time::Mono;
use sojourn_core::wire::shim::Summary;

use super::Metrics;
use super::labels;

/// How far a session is, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its first program has not started.
    Starting,
    /// Somebody is there.
    Running,
    /// It goes on without its person.
    Detached,
    /// It is being ended.
    Ending,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Detached => "detached",
            Self::Ending => "ending",
        }
    }
}

/// The numbers of one session. When it is dropped, the session is not counted as in motion any more.
#[derive(Debug)]
pub(crate) struct Meter {
    metrics: Metrics,
    stay: labels::Stay,
    state: State,
    gauge: Gauge,
    started: bool,
    prompt: Prompt,
}

/// The way to the first prompt.
#[derive(Clone, Copy, Debug)]
enum Prompt {
    /// Not measured: it began under another gateway, or is told already.
    No,
    /// Nothing was printed yet.
    Awaited { asked: Mono, warm: bool, started: Option<Mono> },
}

impl Meter {
    /// A session that came by this door.
    pub(crate) fn new(metrics: &Metrics, door: &str, harness: &str) -> Self {
        let stay = labels::Stay::new(door, harness);
        let gauge = gauge(metrics, stay, State::Starting);
        gauge.inc();
        let (metrics, state) = (metrics.clone(), State::Starting);
        Self { metrics, stay, state, gauge, started: false, prompt: Prompt::No }
    }

    /// The same, of one that was asked for then and got a sandbox that was ready, or was not.
    pub(crate) fn asked(mut self, asked: Mono, warm: bool) -> Self {
        self.prompt = Prompt::Awaited { asked, warm, started: None };
        self
    }

    /// A session that another gateway started.
    pub(crate) fn found(mut self) -> Self {
        self.started = true;
        self
    }

    /// A program started.
    pub(crate) fn started(&mut self, now: Mono) {
        if !self.started {
            self.started = true;
            let started = &self.metrics.families().started;
            super::counted(started.get_or_create_owned(&self.stay));
        }
        if let Prompt::Awaited { started: started @ None, .. } = &mut self.prompt {
            *started = Some(now);
        }
    }

    /// A program printed something.
    pub(crate) fn printed(&mut self, now: impl FnOnce() -> Mono) {
        if let Prompt::Awaited { asked, warm, started: Some(_) } = self.prompt {
            self.prompted(now().since(asked), warm);
        }
    }

    /// How far it is: whether it is being ended, and whether somebody is there.
    pub(crate) fn is(&mut self, ending: bool, attached: bool) {
        let state = match (ending, self.started, attached) {
            (true, ..) => State::Ending,
            (_, false, _) => State::Starting,
            (_, _, true) => State::Running,
            (_, _, false) => State::Detached,
        };
        if state != self.state {
            self.gauge.dec();
            self.gauge = gauge(&self.metrics, self.stay, state);
            self.gauge.inc();
            self.state = state;
        }
    }

    /// It is over.
    pub(crate) fn ended(&mut self, summary: &Summary) {
        if let Prompt::Awaited { asked, warm, started: Some(started) } = self.prompt {
            self.prompted(started.since(asked), warm);
        }
        self.metrics.ended(self.stay, summary);
    }

    /// An agent's session is over, for this reason.
    pub(crate) fn ended_agent(&mut self, reason: EndReason, recorded: u64) {
        let labels::Stay { door, harness } = self.stay;
        let end = labels::StayEnd { reason: reason.name(), door, harness };
        super::counted(self.metrics.families().ended.get_or_create_owned(&end));
        self.metrics.families().recorded.inc_by(recorded);
    }

    fn prompted(&mut self, after: Duration, warm: bool) {
        self.prompt = Prompt::No;
        let labels = labels::Prompt { start: start(warm), door: self.stay.door };
        let timing = self.metrics.families().prompt.get_or_create_owned(&labels);
        timing.observe(after.as_secs_f64());
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Metrics {
    /// A session that ended while there was no gateway.
    pub(crate) fn ended_unseen(&self, door: &str, harness: &str, summary: &Summary) {
        self.ended(labels::Stay::new(door, harness), summary);
    }

    fn ended(&self, stay: labels::Stay, summary: &Summary) {
        let labels::Stay { door, harness } = stay;
        let end = labels::StayEnd { reason: summary.reason.name(), door, harness };
        super::counted(self.families().ended.get_or_create_owned(&end));
        let bytes = summary.recordings.iter().map(|recording| recording.bytes);
        self.families().recorded.inc_by(bytes.sum());
    }
}

/// What a sandbox was when it was wanted.
pub(super) const fn start(warm: bool) -> &'static str {
    if warm { "warm" } else { "cold" }
}

fn gauge(metrics: &Metrics, stay: labels::Stay, state: State) -> Gauge {
    let labels::Stay { door, harness } = stay;
    let labels = labels::StayState { state: state.name(), door, harness };
    metrics.families().sessions.get_or_create_owned(&labels)
}
