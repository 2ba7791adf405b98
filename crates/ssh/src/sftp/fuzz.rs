//! What fuzzers call of SFTP.

use bytes::BytesMut;
use sojourn_core::fuzz::pieces;
use sojourn_core::wire::files::MAX_PATH;

use super::ask::next_packet;
use super::wire;
use super::wire::Request;

/// A client's packets: the same in whatever pieces they come, and no path that could not be one.
pub fn sftp(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    let mut whole = Vec::new();
    let ended = loop {
        match next_packet(&mut buffer) {
            Ok(Some(packet)) => whole.push(packet),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    let mut buffer = BytesMut::new();
    let mut packets = Vec::new();
    let mut goes_on = true;
    for piece in pieces(data) {
        buffer.extend_from_slice(piece);
        while goes_on {
            match next_packet(&mut buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(_) => goes_on = false,
            }
        }
    }
    assert_eq!((packets, goes_on), (whole.clone(), ended));
    for packet in &whole {
        let Ok((_, request)) = wire::decode(packet) else { continue };
        for path in paths(&request).into_iter().flatten() {
            assert!(path.len() <= MAX_PATH && !path.contains(&0));
        }
        if let Request::Write { bytes, .. } = request {
            assert!(bytes.len() < packet.len());
        }
    }
}

fn paths<'a>(request: &Request<'a>) -> [Option<&'a [u8]>; 2] {
    match *request {
        Request::Open { path, .. }
        | Request::Lstat(path)
        | Request::Setstat(path, _)
        | Request::Opendir(path)
        | Request::Remove(path)
        | Request::Mkdir { path, .. }
        | Request::Rmdir(path)
        | Request::Realpath(path)
        | Request::Stat(path)
        | Request::Readlink(path)
        | Request::Statvfs(path)
        | Request::ExpandPath(path) => [Some(path), None],
        Request::Rename { from, to, .. } | Request::Link { from, to } => [Some(from), Some(to)],
        Request::Symlink { target, path } => [Some(target), Some(path)],
        _ => [None, None],
    }
}
