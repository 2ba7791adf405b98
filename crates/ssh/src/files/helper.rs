//! Our end of the file helper: requests go in, answers come out in their order. What it says is
//! hostile: it is bounded, and believed only about the sandbox's own files.

use bytes::Bytes;
use bytes::BytesMut;
use sojourn_core::wire::WireError;
use sojourn_core::wire::files::Answer;
use sojourn_core::wire::files::Fields;
use sojourn_core::wire::files::Request;
use sojourn_core::wire::shim::Stream;
use sojourn_engine::door::ChannelEvent;

use crate::gate::GateInput;
use crate::gate::GateOutput;

/// So much waits at the most before it is sent.
const LONG: usize = 64 * 1024;

/// Why the helper is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    /// It ended, or its sandbox did.
    #[error("the file helper is gone")]
    Gone,
    /// It answered what was not asked.
    #[error("the file helper answered out of turn")]
    Order,
    /// It does not speak the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Requests to the helper.
pub(crate) struct Asking<I> {
    input: I,
    next: u32,
    frame: Vec<u8>,
}

impl<I: GateInput> Asking<I> {
    pub(crate) fn new(input: I) -> Self {
        Self { input, next: 0, frame: Vec::new() }
    }

    /// Puts a request behind those that wait to be sent.
    pub(crate) fn push(&mut self, request: &Request<'_>) {
        request.encode(self.next, &mut self.frame);
        self.next = self.next.wrapping_add(1);
    }

    /// Whether enough waits to be sent.
    pub(crate) fn is_long(&self) -> bool {
        self.frame.len() >= LONG
    }

    /// Sends what waits.
    pub(crate) async fn flush(&mut self) -> Result<(), HelperError> {
        let sent = self.input.send(&self.frame).await;
        self.frame.clear();
        sent.map_err(|_| HelperError::Gone)
    }

    /// Sends a request.
    pub(crate) async fn ask(&mut self, request: &Request<'_>) -> Result<(), HelperError> {
        self.push(request);
        self.flush().await
    }
}

/// The helper's answers.
pub(crate) struct Answers<O> {
    output: O,
    buffer: BytesMut,
    next: u32,
    /// Lines for the person, that came between answers.
    notices: Vec<String>,
}

impl<O: GateOutput> Answers<O> {
    pub(crate) fn new(output: O) -> Self {
        Self { output, buffer: BytesMut::new(), next: 0, notices: Vec::new() }
    }

    /// The answer to the oldest request that is not answered yet: its payload, or an errno. May be
    /// given up and called again.
    pub(crate) async fn next(&mut self) -> Result<Result<Bytes, u32>, HelperError> {
        loop {
            if let Some(answer) = self.take()? {
                return Ok(answer);
            }
            self.read().await?;
        }
    }

    /// The next line for the person; never, when there is none. May be given up and called again.
    pub(crate) async fn notice(&mut self) -> Result<String, HelperError> {
        loop {
            if let Some(line) = self.notices.pop() {
                return Ok(line);
            }
            // Nothing was asked, so there is nothing to be answered.
            if !self.buffer.is_empty() {
                return Err(HelperError::Order);
            }
            self.read().await?;
        }
    }

    /// A line for the person that came between answers.
    pub(crate) fn take_notice(&mut self) -> Option<String> {
        self.notices.pop()
    }

    /// Waits until the helper has ended.
    pub(crate) async fn ended(&mut self) {
        while let Some(event) = self.output.next().await {
            if matches!(event, ChannelEvent::Exit(_)) {
                return;
            }
        }
    }

    /// Whether a whole answer is here already.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(Answer::decode(&self.buffer), Ok(Some(_)))
    }

    async fn read(&mut self) -> Result<(), HelperError> {
        match self.output.next().await {
            Some(ChannelEvent::Output(Stream::Out, bytes)) => self.buffer.extend_from_slice(&bytes),
            Some(ChannelEvent::Notice(line)) => {
                // There are two limits to warn of.
                self.notices.truncate(8);
                self.notices.insert(0, line);
            }
            Some(ChannelEvent::Exit(_) | ChannelEvent::TakenOver(_)) | None => {
                return Err(HelperError::Gone);
            }
            Some(ChannelEvent::Output(Stream::Err, _))
            | Some(ChannelEvent::Eof(_) | ChannelEvent::InputClosed) => {}
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Result<Bytes, u32>>, HelperError> {
        let Some((Answer { id, result }, length)) = Answer::decode(&self.buffer)? else {
            return Ok(None);
        };
        if id != self.next {
            return Err(HelperError::Order);
        }
        self.next = self.next.wrapping_add(1);
        let payload = result.map(<[u8]>::len);
        let mut frame = self.buffer.split_to(length);
        Ok(Some(payload.map(|payload| frame.split_off(length - payload).freeze())))
    }
}

/// The bytes that an answer consists of.
pub(crate) fn bytes_of(payload: &Bytes) -> Result<Bytes, HelperError> {
    let mut fields = Fields(payload);
    let length = fields.string()?.len();
    match fields.0.is_empty() {
        true => Ok(payload.slice(payload.len() - length..)),
        false => Err(HelperError::Order),
    }
}

/// What an errno means, in the words that people know.
pub(crate) fn error_text(errno: u32) -> String {
    let known = i32::try_from(errno).ok().filter(|errno| (1..=200).contains(errno));
    let Some(errno) = known else { return "Failure".to_owned() };
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    struct Says(VecDeque<ChannelEvent>);

    impl GateOutput for Says {
        async fn next(&mut self) -> Option<ChannelEvent> {
            self.0.pop_front()
        }
    }

    fn answers(parts: &[&[u8]]) -> Answers<Says> {
        let out = |part: &&[u8]| ChannelEvent::Output(Stream::Out, Bytes::copy_from_slice(part));
        Answers::new(Says(parts.iter().map(out).collect()))
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn answers_are_put_together_and_come_in_order() {
        let first = [0, 0, 0, 7, 0, 0, 0, 0, 0, b'h', b'i'];
        let second = [0, 0, 0, 9, 0, 0, 0, 1, 1, 0, 0, 0, 2];
        run(async {
            let mut all = answers(&[&first[..3], &first[3..], &second]);
            assert_eq!(all.next().await.unwrap(), Ok(Bytes::from_static(b"hi")));
            assert_eq!(all.next().await.unwrap(), Err(2));
            assert!(matches!(all.next().await, Err(HelperError::Gone)));
            let mut wrong = answers(&[&second]);
            assert!(matches!(wrong.next().await, Err(HelperError::Order)));
            let mut long = answers(&[&[0xff; 9]]);
            assert!(matches!(long.next().await, Err(HelperError::Wire(_))));
            let mut unasked = answers(&[&first]);
            assert!(matches!(unasked.notice().await, Err(HelperError::Order)));
        });
    }

    #[test]
    fn bytes_have_their_length_before_them() {
        let hi = Bytes::from_static(&[0, 0, 0, 2, b'h', b'i']);
        assert_eq!(bytes_of(&hi).unwrap(), Bytes::from_static(b"hi"));
        assert!(bytes_of(&hi.slice(..5)).is_err());
        assert!(bytes_of(&Bytes::from_static(&[0, 0, 0, 1, b'h', b'i'])).is_err());
    }

    #[test]
    fn errors_are_told_in_plain_words() {
        assert_eq!(error_text(28), "No space left on device");
        assert_eq!(error_text(0), "Failure");
        assert_eq!(error_text(u32::MAX), "Failure");
    }
}
