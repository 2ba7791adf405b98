//! The line that a connection inside begins with. It is the sandbox's own word.

use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use sojourn_core::wire::shim::Greeting;
use sojourn_core::wire::shim::Stream;
use sojourn_engine::door::ChannelEvent;

use crate::gate::GateOutput;

/// How long a connection may take to be made.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the line; gives what came behind it as well. None when there is no such line.
pub(super) async fn read(output: &mut impl GateOutput) -> Option<(Greeting, Bytes)> {
    let mut line = BytesMut::new();
    loop {
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            let rest = line.split_off(end + 1).freeze();
            return Some((Greeting::parse(line.get(..end)?).ok()?, rest));
        }
        if line.len() >= Greeting::LONGEST {
            return None;
        }
        match output.next().await? {
            ChannelEvent::Output(Stream::Out, bytes) => line.extend_from_slice(&bytes),
            ChannelEvent::Exit(_) => return None,
            _ => {}
        }
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

    fn said(parts: &[&'static [u8]]) -> Option<(Greeting, Bytes)> {
        let out =
            |part: &&'static [u8]| ChannelEvent::Output(Stream::Out, Bytes::from_static(part));
        let mut says = Says(parts.iter().map(out).collect());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(read(&mut says))
    }

    #[test]
    fn what_comes_behind_the_line_is_not_lost() {
        let open = Greeting::Open { peer: None };
        let said_early = said(&[b"o", b"k\nSSH-2.0-", b"x"]);
        assert_eq!(said_early, Some((open, Bytes::from_static(b"SSH-2.0-"))));
        let failed = Greeting::Failed("connection refused".to_owned());
        assert_eq!(said(&[b"error connection refused\n"]), Some((failed, Bytes::new())));
        assert_eq!(said(&[b"ok"]), None);
        assert_eq!(said(&[&[b'o'; 300], b"\n"]), None);
    }
}
