//! What a prisoner who became `init` may try on the shim.

use std::io;
use std::os::fd::AsFd;

use super::*;

/// A link, and the end of its socket that is the prisoner's.
struct Pair {
    link: InitLink,
    prisoner: OwnedFd,
}

fn pair() -> Pair {
    let (link, prisoner) = InitLink::pair().unwrap();
    Pair { link, prisoner }
}

/// A link to an `init` that is ready, with a program starting in channel 7.
fn starting() -> Pair {
    let mut pair = pair();
    pair.says(&[1, 2]);
    assert_eq!(pair.link.recv().unwrap(), Some(InitEvent::Ready));
    pair.start(7).unwrap();
    pair
}

impl Pair {
    fn says(&self, message: &[u8]) {
        seqpacket::send(&self.prisoner, message, &[]).unwrap();
    }

    fn start(&mut self, channel: u16) -> Result<(), StartError> {
        let null = std::fs::File::open("/dev/null").unwrap();
        let command = Command { cwd: "/", argv: &["true"], env: &[] };
        self.link.start(channel, &command, Stdio::Pipes([null.as_fd(); 3]))
    }

    fn breaks_the_protocol(&mut self, message: &[u8]) {
        self.says(message);
        let answer = self.link.recv();
        assert!(matches!(answer, Err(LinkError::Protocol(_))), "{message:?}: {answer:?}");
    }
}

#[test]
fn a_program_starts_and_ends_once() {
    let mut pair = starting();
    pair.says(&[2, 0, 7]);
    assert_eq!(pair.link.recv().unwrap(), Some(InitEvent::Started { channel: 7 }));
    assert_eq!(pair.link.recv().unwrap(), None);
    assert!(matches!(pair.start(7), Err(StartError::InUse(7))));
    pair.says(&[4, 0, 7, 0, 0, 3, 0]);
    let Some(InitEvent::Exited { channel: 7, status }) = pair.link.recv().unwrap() else {
        panic!("it ended");
    };
    assert_eq!(status.code(), Some(3));
    pair.breaks_the_protocol(&[4, 0, 7, 0, 0, 3, 0]);
}

#[test]
fn what_is_no_message_is_a_breach() {
    let event = [
        &[0][..],
        &[9],
        &[1],
        &[1, 1],
        &[1, 2],
        &[2],
        &[2, 0],
        &[2, 0, 7, 0],
        &[3, 0, 7],
        &[3, 0, 7, 0, 0, 0],
        &[4, 0, 7, 0, 0],
        &[0; 7],
        &[0; 8],
        &[1; 4096],
    ];
    for message in event {
        starting().breaks_the_protocol(message);
    }
}

#[test]
fn nothing_is_heard_out_of_turn() {
    // Before it is ready.
    pair().breaks_the_protocol(&[2, 0, 7]);
    // Of a program that was never asked for, or that has not started.
    starting().breaks_the_protocol(&[2, 0, 8]);
    starting().breaks_the_protocol(&[3, 1, 7, 0, 0, 0, 2]);
    starting().breaks_the_protocol(&[4, 0, 7, 0, 0, 0, 0]);
    // Twice.
    let mut pair = starting();
    pair.says(&[2, 0, 7]);
    pair.link.recv().unwrap();
    pair.breaks_the_protocol(&[2, 0, 7]);
    pair.breaks_the_protocol(&[3, 0, 7, 0, 0, 0, 2]);
    // A stop is no end.
    pair.breaks_the_protocol(&[4, 0, 7, 0, 0, 0x13, 0x7f]);
}

#[test]
fn descriptors_are_refused_and_not_kept() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (passed, _other_end) = seqpacket::pair().unwrap();
    for count in [1, 3, 8] {
        let mut pair = starting();
        seqpacket::send(&pair.prisoner, &[2, 0, 7], &vec![passed.as_fd(); count]).unwrap();
        let before = open();
        let answer = pair.link.recv();
        assert!(matches!(answer, Err(LinkError::Protocol("sent a descriptor"))), "{answer:?}");
        // Other tests of this process come and go; a hundred times as many would not.
        assert!(open() < before + 100);
    }
    for _ in 0..200 {
        let mut pair = starting();
        seqpacket::send(&pair.prisoner, &[2, 0, 7], &[passed.as_fd(); 8]).unwrap();
        pair.link.recv().unwrap_err();
    }
    assert!(open() < 1000);
}

#[test]
fn a_prisoner_who_leaves_or_does_not_listen_is_noticed() {
    let Pair { mut link, prisoner } = starting();
    drop(prisoner);
    assert!(matches!(link.recv(), Err(LinkError::Gone)));
    assert!(matches!(link.signal(7, 15), Err(LinkError::Gone)));

    let mut pair = starting();
    let stuck = (0..1_000_000).find_map(|_| pair.link.signal(7, 15).err());
    assert!(matches!(stuck, Some(LinkError::Stuck)), "{stuck:?}");
}

#[test]
fn programs_are_bounded() {
    let mut pair = starting();
    for channel in 100..163 {
        // The prisoner's queue is shorter than the list of channels.
        let mut message = [0; 64];
        seqpacket::recv(&pair.prisoner, &mut message).unwrap();
        pair.start(channel).unwrap();
    }
    assert!(matches!(pair.start(163), Err(StartError::TooMany)));
}

#[test]
fn command_lines_are_bounded_and_whole() {
    let null = std::fs::File::open("/dev/null").unwrap();
    let start = |argv: &[&[u8]], env: &[&[u8]]| {
        let command = Command { cwd: "/", argv, env };
        pair().link.start(0, &command, Stdio::Terminal(null.as_fd()))
    };
    assert!(matches!(start(&[], &[]), Err(StartError::Malformed(_))));
    assert!(matches!(start(&[b""], &[]), Err(StartError::Malformed(_))));
    assert!(matches!(start(&[b"a\0b"], &[]), Err(StartError::Malformed(_))));
    assert!(matches!(start(&[b"a"], &[b"A=\0"]), Err(StartError::Malformed(_))));
    let long = vec![b'x'; 65_535];
    assert!(matches!(start(&[b"a", &long], &[]), Err(StartError::TooLong)));
    assert!(matches!(
        start(&[b"a", &long[..40_000]], &[&long[..40_000]]),
        Err(StartError::TooLong)
    ));
    assert!(matches!(start(&vec![&b"a"[..]; 70_000], &[]), Err(StartError::TooLong)));
    assert!(start(&[b"a", &long[..60_000]], &[b"A=\xff"]).is_ok());
}

#[test]
fn the_image_is_sealed_and_read_only() {
    let image = InitImage::make().unwrap();
    let write = rustix::io::pwrite(&image, b"x", 0).map_err(io::Error::from);
    assert!(write.is_err());
    let mut beginning = [0; 4];
    rustix::io::pread(&image, &mut beginning, 0).unwrap();
    assert_eq!(&beginning, b"\x7fELF");
    let seals = rustix::fs::fcntl_get_seals(&image).unwrap();
    assert!(seals.contains(rustix::fs::SealFlags::WRITE));
}
