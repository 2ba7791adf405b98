//! What a session's agent did, on the gateway's disk: one line an event, written before the event is
//! acknowledged, in a file that the built-in runner made and only lets us append to.

use std::fs::File;
use std::io;

use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::relay::Seq;
use sojourn_core::wire::runner::Reply;
use sojourn_core::wire::runner::Request;
use sojourn_core::wire::runner::Sealing;
use sojourn_core::wire::shim::RecordingFacts;
use sojourn_term::cast::Header;
use sojourn_term::cast::Origin;
use sojourn_term::cast::Writer;

use crate::remote::Later;
use crate::runner_link::RunnerLink;

/// A recording that can be written.
pub(crate) struct Opened {
    /// Appended to.
    pub(crate) file: File,
    /// Its name below `recordings/`.
    pub(crate) name: String,
    /// Lines of events that are in it.
    pub(crate) events: u64,
    /// The time of the last of them, in microseconds from its start.
    pub(crate) last_us: u64,
    /// Whether nothing is in it, not even its header.
    pub(crate) is_new: bool,
}

/// Who makes recordings and seals them.
pub(crate) trait Recordings: Send + Sync + 'static {
    /// Makes the recording of a channel of a session that was begun then, or opens it again, cut to
    /// its last whole line.
    fn open(
        &self,
        session: SessionId,
        channel: u16,
        created: Wall,
    ) -> Later<'_, io::Result<Opened>>;

    /// Nothing more is written to it: it is measured, and the sidecar says so. None where there is no
    /// recording.
    fn seal(&self, sealing: Sealing) -> Later<'_, io::Result<Option<RecordingFacts>>>;
}

impl Recordings for RunnerLink {
    fn open(
        &self,
        session: SessionId,
        channel: u16,
        created: Wall,
    ) -> Later<'_, io::Result<Opened>> {
        Box::pin(async move {
            match self.ask(Request::Record { session, channel, created }).await {
                Ok((Reply::Recording { file: name, events, last_us, is_new }, Some(fd))) => {
                    Ok(Opened { file: fd.into(), name, events, last_us, is_new })
                }
                Ok((Reply::Failed { message, .. }, _)) => Err(io::Error::other(message)),
                Ok((other, _)) => Err(io::Error::other(format!("unexpected answer {other:?}"))),
                Err(error) => Err(io::Error::other(error)),
            }
        })
    }

    fn seal(&self, sealing: Sealing) -> Later<'_, io::Result<Option<RecordingFacts>>> {
        Box::pin(async move {
            match self.ask(Request::Seal(Box::new(sealing))).await {
                Ok((Reply::Sealed { recording }, _)) => Ok(Some(recording)),
                Ok((Reply::Unknown, _)) => Ok(None),
                Ok((Reply::Failed { message, .. }, _)) => Err(io::Error::other(message)),
                Ok((other, _)) => Err(io::Error::other(format!("unexpected answer {other:?}"))),
                Err(error) => Err(io::Error::other(error)),
            }
        })
    }
}

/// A recording that is written.
pub(crate) struct Recorder {
    writer: Writer<File>,
    /// The last event in it.
    head: Seq,
}

impl Recorder {
    /// Goes on with a recording, or begins it; `after`: the last event before its first.
    pub(crate) fn new(
        opened: Opened,
        (session, channel): (SessionId, u16),
        created: Wall,
        title: &str,
        after: Seq,
    ) -> io::Result<Self> {
        let began = micros(created);
        let writer = match opened.is_new {
            true => {
                let header = Header {
                    width: 80,
                    height: 24,
                    timestamp: Some(began / 1_000_000),
                    title: Some(title.to_owned()),
                    sojourn: Some(Origin {
                        session: session.to_string(),
                        channel: u32::from(channel),
                    }),
                    ..Header::default()
                };
                Writer::start(opened.file, &header, began)?
            }
            false => Writer::resume(opened.file, began, opened.last_us),
        };
        Ok(Self { writer, head: after + opened.events })
    }

    /// Writes an event, unless it is there already.
    pub(crate) fn event(&mut self, seq: Seq, at: Wall, json: &str) -> io::Result<()> {
        if seq <= self.head {
            return Ok(());
        }
        self.writer.agent_event(micros(at), json)?;
        self.head = seq;
        Ok(())
    }

    /// What was written is on the disk when this returns.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.writer.get_ref().sync_data()
    }
}

fn micros(at: Wall) -> u64 {
    u64::try_from(at.0).unwrap_or(0)
}
