//! A connection's bytes: held to some progress, and with an answer of ours also where the request is
//! so broken that the HTTP library answers it in our stead.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::time::Sleep;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::places::Place;

/// How long somebody may take nothing of what is sent.
const STALLED: Duration = Duration::from_secs(60);

/// How long, and how much, is still read of what somebody goes on sending when the answer is given:
/// hung up on in the midst of it, they would never see the answer.
const LINGER: Duration = Duration::from_secs(1);
const MOST_LINGERED: usize = 4 << 20;

/// What is answered in the library's stead, by its status.
pub(crate) type OwnWords = Box<dyn Fn(u16) -> Vec<u8> + Send + Sync>;

/// The longest head that the library makes by itself.
const LONGEST_BARE: usize = 256;

/// A connection.
pub(crate) struct Wire<S> {
    io: S,
    /// Whether what was last to be sent was taken whole; else the rest of it follows.
    whole: bool,
    /// Answers in the library's stead.
    own_words: OwnWords,
    /// What is still to be said of that.
    words: Option<Vec<u8>>,
    stalled: Option<Pin<Box<Sleep>>>,
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
    _counted: (Option<Place>, TaskTrackerToken),
}

impl<S> Wire<S> {
    pub(crate) fn new(
        io: S,
        own_words: OwnWords,
        place: Option<Place>,
        token: TaskTrackerToken,
    ) -> Self {
        Self {
            io,
            whole: true,
            own_words,
            words: None,
            stalled: None,
            lingering: None,
            _counted: (place, token),
        }
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Gives up when nothing has been taken for too long.
    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALLED)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn note_whole(&mut self, polled: &Poll<io::Result<usize>>, offered: usize) {
        if let Poll::Ready(Ok(taken)) = polled {
            self.whole = *taken == offered;
        }
    }

    fn say_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(words) = self.words.as_mut().filter(|words| !words.is_empty()) {
            let polled = Pin::new(&mut self.io).poll_write(cx, words);
            if let Poll::Ready(Ok(length)) = &polled {
                words.drain(..*length);
            }
            match self.in_time(cx, polled) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The status of an answer that the library makes by itself: a head without a word of ours, and nothing
/// behind it.
fn status_of(buffer: &[u8]) -> Option<u16> {
    let line = buffer.strip_prefix(b"HTTP/1.1 4").filter(|_| buffer.len() <= LONGEST_BARE)?;
    let (head, behind) = std::str::from_utf8(line).ok()?.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let digits = lines.next()?.get(..2)?;
    let plain = |line: &str| {
        let name = line.split(':').next().unwrap_or_default();
        ["connection", "content-length", "date"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    };
    let is_bare = behind.is_empty() && lines.all(plain);
    is_bare.then(|| digits.parse().ok()).flatten().map(|rest: u16| 400 + rest)
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Reads what is still coming, and forgets it, until that ends or has taken long enough.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (over, read) =
            self.lingering.get_or_insert_with(|| (Box::pin(tokio::time::sleep(LINGER)), 0));
        let mut bytes = [0; 8 << 10];
        while *read < MOST_LINGERED && over.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    *read += buffer.filled().len()
                }
                Poll::Ready(_) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.words.is_none()
            && this.whole
            && let Some(status) = status_of(buffer)
        {
            this.words = Some((this.own_words)(status));
        }
        if this.words.is_some() {
            return this.say_words(cx).map_ok(|()| buffer.len());
        }
        let polled = Pin::new(&mut this.io).poll_write(cx, buffer);
        this.note_whole(&polled, buffer.len());
        this.in_time(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = buffers.iter().filter(|buffer| !buffer.is_empty());
        if let (Some(only), None) = (filled.next(), filled.next()) {
            return self.poll_write(cx, only);
        }
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, buffers);
        this.note_whole(&polled, buffers.iter().map(|buffer| buffer.len()).sum());
        this.in_time(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_flush(cx);
        this.in_time(cx, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            let polled = Pin::new(&mut this.io).poll_shutdown(cx);
            match this.in_time(cx, polled) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
        this.linger(cx).map(Ok)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_heads_of_errors_are_taken_for_the_librarys() {
        assert_eq!(status_of(b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n"), Some(431));
        let bare = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(status_of(bare), Some(400));
        let ours = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nx-content-type-options: nosniff\r\n\r\n";
        assert_eq!(status_of(ours), None);
        assert_eq!(status_of(b"HTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\nx"), None);
        assert_eq!(status_of(b"HTTP/1.1 100 Continue\r\n\r\n"), None);
        assert_eq!(status_of(b"HTTP/1.1 4"), None);
        assert_eq!(status_of(b""), None);
    }
}
