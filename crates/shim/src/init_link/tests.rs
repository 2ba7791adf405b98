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
    pair.says(&[1, 3]);
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
        &[1, 3],
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

fn anywhere() -> Endpoint {
    Endpoint::Tcp { host: "localhost".into(), port: 0 }
}

/// A link whose `init` was asked to listen as 1.
fn asked() -> Pair {
    let mut pair = starting();
    pair.link.listen(1, &anywhere()).unwrap();
    pair
}

#[test]
fn a_listener_is_answered_once() {
    let mut pair = asked();
    assert!(matches!(pair.link.listen(1, &anywhere()), Err(StartError::Listens(1))));
    pair.says(&[5, 0, 1, 0x1f, 0x90]);
    let listening = InitEvent::Listening { listener: 1, port: 8080 };
    assert_eq!(pair.link.recv().unwrap(), Some(listening));
    pair.breaks_the_protocol(&[5, 0, 1, 0x1f, 0x90]);
    pair.breaks_the_protocol(&[6, 0, 1, 0, 0, 0, 13]);

    let mut pair = asked();
    pair.says(&[6, 0, 1, 0, 0, 0, 13]);
    let refused = InitEvent::NotListening { listener: 1, errno: 13 };
    assert_eq!(pair.link.recv().unwrap(), Some(refused));
    pair.breaks_the_protocol(&[6, 0, 1, 0, 0, 0, 13]);
    pair.link.listen(1, &anywhere()).unwrap();

    // One that is not wanted any more is answered too, and then never was.
    let mut pair = asked();
    pair.link.unlisten(1).unwrap();
    pair.link.unlisten(1).unwrap();
    assert!(matches!(pair.link.listen(1, &anywhere()), Err(StartError::Listens(1))));
    pair.says(&[5, 0, 1, 0x1f, 0x90]);
    assert_eq!(pair.link.recv().unwrap(), Some(listening));
    pair.breaks_the_protocol(&[5, 0, 1, 0x1f, 0x90]);
    pair.link.listen(1, &anywhere()).unwrap();
}

#[test]
fn nothing_is_heard_of_listeners_out_of_turn() {
    pair().breaks_the_protocol(&[5, 0, 1, 0, 0]);
    for message in [
        &[5, 0, 2, 0, 0][..],
        &[6, 0, 2, 0, 0, 0, 1],
        &[5, 0, 1, 0],
        &[5, 0, 1, 0, 0, 0],
        &[5, 0, 1],
        &[6, 0, 1, 0, 0, 0],
        &[6, 0, 1, 0, 0, 0, 0, 1],
    ] {
        asked().breaks_the_protocol(message);
    }
    // A number is a channel's or a listener's, not both.
    starting().breaks_the_protocol(&[5, 0, 7, 0, 0]);
    asked().breaks_the_protocol(&[2, 0, 1]);
}

#[test]
fn helpers_are_channels_and_take_from_listeners_that_listen() {
    let null = std::fs::File::open("/dev/null").unwrap();
    let ends = [null.as_fd(); 2];
    let mut pair = asked();
    let accept = Helper::Accept { listener: 1 };
    let taken = pair.link.help(8, &accept, ends);
    assert!(matches!(taken, Err(StartError::NoListener(1))), "it has not answered");
    pair.says(&[5, 0, 1, 0, 0]);
    pair.link.recv().unwrap();
    pair.link.help(8, &accept, ends).unwrap();
    let files = Helper::Files { cwd: "/root" };
    assert!(matches!(pair.link.help(8, &files, ends), Err(StartError::InUse(8))));
    pair.says(&[2, 0, 8]);
    assert_eq!(pair.link.recv().unwrap(), Some(InitEvent::Started { channel: 8 }));
    pair.link.unlisten(1).unwrap();
    assert!(matches!(pair.link.help(9, &accept, ends), Err(StartError::NoListener(1))));

    let mut connect = |endpoint| pair.link.help(9, &Helper::Connect(&endpoint), ends);
    let tcp = |host: &str| Endpoint::Tcp { host: host.into(), port: 1 };
    assert!(matches!(connect(tcp("a\0b")), Err(StartError::Malformed(_))));
    assert!(matches!(connect(tcp(&"x".repeat(256))), Err(StartError::LongEndpoint)));
    let path = |length| Endpoint::Unix("x".repeat(length).as_str().into());
    assert!(matches!(connect(path(108)), Err(StartError::LongEndpoint)));
    assert!(matches!(connect(Endpoint::Unix("\0x".into())), Err(StartError::Malformed(_))));
    connect(path(107)).unwrap();

    let mut pair = starting();
    for listener in 0..8 {
        pair.link.listen(listener, &anywhere()).unwrap();
    }
    let one_more = pair.link.listen(8, &anywhere());
    assert!(matches!(one_more, Err(StartError::TooManyListeners)), "{one_more:?}");
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
