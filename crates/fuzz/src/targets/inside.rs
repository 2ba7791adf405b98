//! What process 1 of a sandbox reads, and what it may say: it is the prisoner's.

use sojourn_core::wire::files;
use sojourn_core::wire::shim as core;
use sojourn_shim::init_link::InitLink;

use crate::dns::Kind;
use crate::dns::Question;
use crate::endpoint::Endpoint;
use crate::endpoint::literal;
use crate::input::Input;
use crate::request::Change;
use crate::request::Request;

/// The longest name that a question can have.
const LONGEST_NAME: usize = 253;

/// Requests as the file helper reads them: what it takes is exactly what a gateway writes.
pub fn helper_requests(data: &[u8]) {
    let Some((code, payload)) = data.split_first() else { return };
    if let Some(request) = Request::parse(*code, payload) {
        let mut frame = Vec::new();
        as_written(&request).encode(7, &mut frame);
        assert_eq!(frame.get(files::HEADER..), Some(payload), "{request:?}");
        assert_eq!(frame.get(files::HEADER - 1), Some(code));
    }
    match Endpoint::read(&mut Input(data)) {
        Some(Endpoint::Tcp { host, port }) => {
            assert!(!host.contains(&0) && data.get(1..3) == Some(&port.to_be_bytes()[..]));
            let _address = literal(host);
        }
        Some(Endpoint::Unix(path)) => assert!(path.to_bytes().len() < data.len()),
        Some(Endpoint::Display(cookie)) => {
            assert!(!cookie.is_empty() && cookie.len() <= core::Cookie::LONGEST);
        }
        None => {}
    }
}

fn change(change: &Change) -> files::Change {
    let Change { size, mode, owner, times } = *change;
    files::Change { size, mode, owner, times }
}

fn as_written<'a>(request: &Request<'a>) -> files::Request<'a> {
    match *request {
        Request::Open { flags, mode, path } => files::Request::Open { flags, mode, path },
        Request::Close(handle) => files::Request::Close(handle),
        Request::Read { handle, offset, length } => files::Request::Read { handle, offset, length },
        Request::Write { handle, offset, bytes } => files::Request::Write { handle, offset, bytes },
        Request::Stat(path) => files::Request::Stat(path),
        Request::Lstat(path) => files::Request::Lstat(path),
        Request::Fstat(handle) => files::Request::Fstat(handle),
        Request::Setstat(path, ref new) => files::Request::Setstat(path, change(new)),
        Request::Fsetstat(handle, ref new) => files::Request::Fsetstat(handle, change(new)),
        Request::Opendir(path) => files::Request::Opendir(path),
        Request::Readdir(handle) => files::Request::Readdir(handle),
        Request::Remove(path) => files::Request::Remove(path),
        Request::Mkdir { mode, path } => files::Request::Mkdir { mode, path },
        Request::Rmdir(path) => files::Request::Rmdir(path),
        Request::Rename { replace, from, to } => files::Request::Rename { replace, from, to },
        Request::Readlink(path) => files::Request::Readlink(path),
        Request::Symlink { target, path } => files::Request::Symlink { target, path },
        Request::Link { from, to } => files::Request::Link { from, to },
        Request::Realpath(path) => files::Request::Realpath(path),
        Request::Statvfs(path) => files::Request::Statvfs(path),
        Request::Fsync(handle) => files::Request::Fsync(handle),
        Request::Copy { from, offset, length, to, at } => {
            files::Request::Copy { from, offset, length, to, at }
        }
    }
}

/// Whatever process 1 says, a message at a time with its length before it: until it breaks its
/// protocol. It was asked to listen, twice.
pub fn init_events(data: &[u8]) {
    let (mut link, init) = InitLink::pair().expect("a socket");
    let everywhere = core::Endpoint::Tcp { host: "localhost".into(), port: 0 };
    for listener in [1, 2] {
        link.listen(listener, &everywhere).expect("room for a message");
    }
    link.unlisten(2).expect("room for a message");
    let mut rest = data;
    while let Some((length, after)) = rest.split_first() {
        let (message, after) = after.split_at(usize::from(length % 9).min(after.len()));
        rest = after;
        let sent = rustix::net::send(&init, message, rustix::net::SendFlags::NOSIGNAL);
        assert_eq!(sent, Ok(message.len()));
        match link.recv() {
            Ok(event) => assert!(event.is_some(), "a message came"),
            Err(_) => return,
        }
    }
}

/// A name server's answers, and names that are asked for.
pub fn name_answers(data: &[u8]) {
    let (name, message) = data.split_at(data.len().min(usize::from(*data.first().unwrap_or(&0))));
    for kind in [Kind::A, Kind::Aaaa] {
        let Some(question) = Question::new([1, 2], name, kind) else { continue };
        assert!(name.len() <= LONGEST_NAME + 1);
        let mut count = 0;
        // Also one that is not about the question: whoever reads it asks that first.
        let _answered = question.is_answered_by(message);
        let _known = question.addresses(message, |address| {
            assert_eq!(address.is_ipv4(), matches!(kind, Kind::A) || address.is_ipv4());
            count += 1;
        });
        assert!(count <= message.len() / 4, "more addresses than there is room for");
        assert!(!question.is_answered_by(question.as_bytes()), "a question is no answer");
    }
}
