//! A recording as it grows: what there is, then what comes, until it is complete.

use std::fs::File;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream;
use tokio::io::AsyncReadExt;

/// So much is read at once.
const PART: usize = 64 << 10;

/// How often it is looked whether there is more.
const LOOK: Duration = Duration::from_millis(100);

/// A recording, followed.
struct Following {
    file: tokio::fs::File,
    /// Resolves when it is complete.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    over: bool,
    /// Resolves when its reader has lost the right to it.
    gone: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// The file's bytes as they come, until the session is over, which `end` says. It breaks off when `gone`
/// says that its reader may not read it any more.
pub(crate) fn follow(
    file: File,
    end: impl Future<Output = ()> + Send + 'static,
    gone: impl Future<Output = ()> + Send + 'static,
) -> Body {
    let file = tokio::fs::File::from_std(file);
    let (end, gone) = (Box::pin(end), Box::pin(gone));
    let following = Following { file, end, over: false, gone };
    Body::from_stream(stream::try_unfold(following, |mut following| async move {
        let part = following.next().await?;
        Ok::<_, std::io::Error>(part.map(|part| (part, following)))
    }))
}

fn no_more() -> std::io::Error {
    std::io::Error::other("the login that this was read by has ended")
}

impl Following {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let mut part = vec![0; PART];
        loop {
            // Also of a session that never pauses.
            if (&mut self.gone).now_or_never().is_some() {
                return Err(no_more());
            }
            let length = self.file.read(&mut part).await?;
            if length > 0 {
                part.truncate(length);
                return Ok(Some(part.into()));
            }
            // What was written before its end was known is read after it.
            if self.over {
                return Ok(None);
            }
            tokio::select! {
                () = &mut self.end => self.over = true,
                () = &mut self.gone => return Err(no_more()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}
