//! What a client sends into a channel, on its way to the program: taken off the connection at once,
//! spooled, and given to the program as it takes it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use russh::ChannelMsg;
use russh::ChannelReadHalf;
use russh::Sig;
use sojourn_core::wire::shim::WindowSize;
use sojourn_engine::channel::InputClosed;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::gate::GateInput;
use crate::gate::GateOutput;
use crate::handler::size;
use crate::spool::Spool;
use crate::valve::Hold;

/// How much the program is given at once.
const CHUNK: usize = 32 * 1024;

/// The same while the spool is full, so that a slow program is seen to take something.
const SMALL_CHUNK: usize = 4 * 1024;

/// What a held message costs beyond its bytes.
const MESSAGE_COST: usize = 128;

/// How many signals may wait for the program to start.
const MOST_SIGNALS: usize = 8;

/// How long what a client said before its connection was gone may take to be here, and then to be taken.
const LAST_WORD: Duration = Duration::from_millis(100);

/// How long a program may take to take what was sent before its channel was closed.
pub(crate) const LAST_BYTES: Duration = Duration::from_secs(1);

/// Why a channel is over from the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The client closed it.
    Closed,
    /// The connection is gone.
    Gone,
    /// Its program took nothing for so long while the spool was full.
    Stuck {
        /// How long.
        waited: Duration,
    },
    /// What was spooled cannot be read back.
    Unreadable,
}

/// A channel's input.
pub(crate) struct Intake<I> {
    read: ChannelReadHalf,
    gone: CancellationToken,
    patience: Duration,
    spool: Spool,
    /// What the full spool did not take. While there is any the connection waits, so what still comes
    /// is little.
    held: VecDeque<Bytes>,
    held_cost: usize,
    hold: Hold,
    /// Whether the program took something since the spool was last found full.
    has_room: bool,
    /// When a full channel has been borne long enough.
    deadline: Instant,
    input: Option<I>,
    sending: Option<Sending>,
    /// The program takes no more, so what comes is dropped.
    deaf: bool,
    /// The client sends no more; taken when the program has been told.
    eof: bool,
    size: Option<WindowSize>,
    signals: Vec<String>,
}

type Sending = Pin<Box<dyn Future<Output = Result<(), InputClosed>> + Send>>;

impl<I: GateInput> Intake<I> {
    pub(crate) fn new(
        read: ChannelReadHalf,
        spool: Spool,
        patience: Duration,
        gone: CancellationToken,
        hold: Hold,
    ) -> Self {
        Self {
            read,
            gone,
            patience,
            spool,
            held: VecDeque::new(),
            held_cost: 0,
            hold,
            has_room: false,
            deadline: Instant::now(),
            input: None,
            sending: None,
            deaf: false,
            eof: false,
            size: None,
            signals: Vec::new(),
        }
    }

    /// Runs until the channel is over, or the one who holds `over`'s other end has left. `input` comes
    /// when the program runs.
    pub(crate) async fn run(
        mut self,
        mut input: oneshot::Receiver<I>,
        mut over: oneshot::Sender<Over>,
    ) {
        let why = loop {
            if self.advance().await.is_err() {
                break Over::Unreadable;
            }
            tokio::select! {
                biased;
                () = over.closed() => return,
                () = self.gone.cancelled() => break self.last_word().await,
                given = &mut input, if self.input.is_none() => match given {
                    Ok(input) => {
                        self.input = Some(input);
                        self.deadline = Instant::now() + self.patience;
                    }
                    Err(_) => return,
                },
                sent = next(&mut self.sending) => {
                    self.sending = None;
                    self.has_room = true;
                    self.hold.moved();
                    self.deadline = Instant::now() + self.patience;
                    if sent.is_err() {
                        self.deaf = true;
                        self.spool.clear();
                        self.held.clear();
                        self.held_cost = 0;
                    }
                }
                message = self.read.wait() => match message {
                    Some(ChannelMsg::Close) => break Over::Closed,
                    Some(message) => self.take(message).await,
                    None => break Over::Gone,
                },
                () = tokio::time::sleep_until(self.deadline), if self.is_waiting() => {
                    break Over::Stuck { waited: self.patience };
                }
            }
        };
        let patience = match why {
            Over::Closed => LAST_BYTES,
            Over::Gone => LAST_WORD,
            Over::Stuck { .. } | Over::Unreadable => Duration::ZERO,
        };
        tokio::select! {
            biased;
            () = over.closed() => return,
            () = self.drain(input) => {}
            () = tokio::time::sleep(patience) => {}
        }
        // What a connection that is gone leaves behind is the session's to decide.
        if let (Some(input), true) = (&self.input, why != Over::Gone) {
            input.close().await;
        }
        let _left = over.send(why);
    }

    /// What a client whose connection is gone had to say of this channel: it may have closed it just
    /// before, and that is another thing than to lose the connection.
    async fn last_word(&mut self) -> Over {
        while let Ok(Some(message)) = tokio::time::timeout(LAST_WORD, self.read.wait()).await {
            match message {
                ChannelMsg::Close => return Over::Closed,
                message => self.take(message).await,
            }
        }
        Over::Gone
    }

    /// Gives the program what the client sent before it closed the channel (RFC 4254, 5.3: that
    /// message ends what is sent, and takes nothing back).
    async fn drain(&mut self, input: oneshot::Receiver<I>) {
        let is_owed = self.sending.is_some() || !self.spool.is_empty() || self.eof;
        if self.input.is_none() && is_owed {
            self.input = input.await.ok();
        }
        while self.advance().await.is_ok() && self.sending.is_some() {
            if next(&mut self.sending).await.is_err() {
                return;
            }
            self.sending = None;
            self.has_room = true;
        }
    }

    /// Whether the connection waits for the program.
    fn is_waiting(&self) -> bool {
        !self.held.is_empty() && self.input.is_some()
    }

    async fn take(&mut self, message: ChannelMsg) {
        match message {
            ChannelMsg::Data { data } if !self.deaf => self.store(data).await,
            ChannelMsg::Eof => self.eof = true,
            ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
                self.size = Some(size(col_width, row_height, pix_width, pix_height));
            }
            ChannelMsg::Signal { signal } if self.signals.len() < MOST_SIGNALS => {
                self.signals.extend(signal_name(&signal));
            }
            _ => {}
        }
    }

    async fn store(&mut self, data: Bytes) {
        if !self.held.is_empty() {
            self.hold_back(data);
        } else if let Err(back) = self.spool.push(data).await {
            self.hold_back(back);
            self.has_room = false;
            self.deadline = Instant::now() + self.patience;
        }
    }

    fn hold_back(&mut self, data: Bytes) {
        self.held_cost += data.len() + MESSAGE_COST;
        self.held.push_back(data);
    }

    /// Moves what is held into the spool, as far as there is room.
    async fn settle(&mut self) {
        while std::mem::take(&mut self.has_room)
            && let Some(data) = self.held.pop_front()
        {
            self.held_cost -= data.len() + MESSAGE_COST;
            match self.spool.push(data).await {
                Ok(()) => self.has_room = true,
                Err(back) => {
                    self.held_cost += back.len() + MESSAGE_COST;
                    self.held.push_front(back);
                }
            }
        }
        self.hold.set(self.held_cost, self.spool.is_filed());
    }

    /// Gives the program what is next, if it is ready for it.
    async fn advance(&mut self) -> std::io::Result<()> {
        self.settle().await;
        let Some(input) = &self.input else { return Ok(()) };
        if let Some(size) = self.size.take() {
            input.resize(size).await;
        }
        for signal in self.signals.drain(..) {
            input.signal(signal).await;
        }
        if self.sending.is_some() {
            return Ok(());
        }
        if !self.spool.is_empty() {
            let most = if !self.held.is_empty() { SMALL_CHUNK } else { CHUNK };
            let chunk = self.spool.take(most).await?;
            let input = input.clone();
            self.sending = Some(Box::pin(async move { input.send(&chunk).await }));
        } else if self.held.is_empty() && std::mem::take(&mut self.eof) {
            input.eof().await;
        }
        Ok(())
    }
}

/// Why a channel is over that nobody hears any more. What still comes out is passed over meanwhile: a
/// program that cannot print may not read either.
pub(crate) async fn unheard(
    output: &mut impl GateOutput,
    over: &mut oneshot::Receiver<Over>,
) -> Result<Over, oneshot::error::RecvError> {
    loop {
        tokio::select! {
            biased;
            over = &mut *over => return over,
            event = output.next() => if event.is_none() {
                return over.await;
            },
        }
    }
}

/// The end of what is being sent; never, when nothing is.
async fn next(sending: &mut Option<Sending>) -> Result<(), InputClosed> {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

/// The name without `SIG`, if it is one: capital letters and digits.
fn signal_name(signal: &Sig) -> Option<String> {
    let name = match signal {
        Sig::Custom(name) => name.clone(),
        known => format!("{known:?}"),
    };
    let plain = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    ((1..=16).contains(&name.len()) && plain).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_by_their_plain_names() {
        assert_eq!(signal_name(&Sig::TERM).as_deref(), Some("TERM"));
        assert_eq!(signal_name(&Sig::Custom("USR2".to_owned())).as_deref(), Some("USR2"));
        for odd in ["", "sigterm", "TERM\n", "A2345678901234567"] {
            assert_eq!(signal_name(&Sig::Custom(odd.to_owned())), None, "{odd:?}");
        }
    }
}
