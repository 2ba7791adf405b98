//! What a runner on another machine finds on its disk when it starts again.

use std::fs;

use sojourn_core::fuzz::Scratch;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Held;
use sojourn_runner::remote::spool::Spool;

/// Much more than an input.
const ROOM: u64 = 1 << 20;

/// A segment of events: what is whole stays, what is not is cut off, and the next event follows.
pub fn spool(data: &[u8]) {
    let scratch = Scratch::new();
    let directory = scratch.path().join("spool");
    fs::create_dir(&directory).expect("a directory in memory");
    fs::write(directory.join(format!("{:020}.jsonl", 1)), data).expect("a file in memory");
    let session: SessionId = "01932b5e-7c1a-7f00-8000-00003f2a91c0".parse().expect("an id");
    let open = || Spool::open(&directory, session, ROOM);
    let Ok(mut spool) = open() else { return };
    let head = spool.head();
    let events = spool.from(1, usize::MAX).expect("what is whole can be read");
    assert_eq!(events.len() as u64, head);
    assert!(events.iter().zip(1..).all(|(event, number)| event.seq == number));
    let next = spool.append(1, Wall(0), Event::Cut { what: Held::LongLine, bytes: 1 });
    assert_eq!(next.expect("there is room").seq, head + 1);
    drop(spool);
    let mut again = open().expect("it was opened before");
    assert_eq!(again.head(), head + 1);
    let all = again.from(1, usize::MAX).expect("and can be read");
    assert_eq!(all.get(..events.len()), Some(&events[..]));
}
