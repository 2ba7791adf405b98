//! The file helper: real files of a real sandbox, and what a client or a prisoner may try.

use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::wire::files::Answer;
use sojourn_core::wire::files::Attributes;
use sojourn_core::wire::files::Change;
use sojourn_core::wire::files::Fields;
use sojourn_core::wire::files::MAX_DATA;
use sojourn_core::wire::files::MAX_FRAME;
use sojourn_core::wire::files::MAX_HANDLES;
use sojourn_core::wire::files::Request;
use sojourn_core::wire::shim::Endpoint;
use sojourn_core::wire::shim::OUTPUT_WINDOW;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::ToShim;

use crate::shim_house::Gateway;
use crate::shim_house::House;
use crate::shim_house::Shim;
use crate::shim_house::as_runner;

const READ: u32 = 0;
const WRITE: u32 = 1;
const CREATE: u32 = 0o100;
const EXCLUSIVE: u32 = 0o200;
const TRUNCATE: u32 = 0o1000;
const APPEND: u32 = 0o2000;

/// A gateway's end of a file helper.
struct Files<'a> {
    gateway: &'a mut Gateway,
    channel: u16,
    next: u32,
    /// Answers that were read, in bytes.
    read: usize,
}

impl<'a> Files<'a> {
    fn open(gateway: &'a mut Gateway, channel: u16) -> Self {
        gateway.start(channel, Program::Files, false, OUTPUT_WINDOW);
        gateway.until("the helper", |seen| seen.started.contains(&channel));
        Self { gateway, channel, next: 0, read: 0 }
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<Vec<u8>, u32> {
        let mut frame = Vec::new();
        self.next += 1;
        request.encode(self.next, &mut frame);
        self.gateway.feed(self.channel, &frame);
        self.answer()
    }

    /// The answer to what was asked last.
    fn answer(&mut self) -> Result<Vec<u8>, u32> {
        let (channel, read) = (self.channel, self.read);
        self.gateway.until("an answer", |seen| {
            let came = seen.out.get(&channel).map_or(&[][..], |out| &out[read..]);
            Answer::decode(came).expect("a frame").is_some()
        });
        let came = &self.gateway.seen.out[&channel][read..];
        let (answer, length) = Answer::decode(came).expect("a frame").expect("whole");
        self.read += length;
        assert_eq!(answer.id, self.next);
        answer.result.map(<[u8]>::to_vec)
    }

    fn handle(&mut self, request: &Request<'_>) -> Result<u32, u32> {
        self.ask(request).map(|answer| Fields(&answer).u32().expect("a number"))
    }

    fn open_file(&mut self, path: &[u8], flags: u32) -> Result<u32, u32> {
        self.handle(&Request::Open { flags, mode: 0o644, path })
    }

    fn put(&mut self, path: &[u8], content: &[u8]) {
        let handle = self.open_file(path, WRITE | CREATE | TRUNCATE).expect("it can be made");
        for (index, bytes) in content.chunks(MAX_DATA).enumerate() {
            let offset = (index * MAX_DATA) as u64;
            self.ask(&Request::Write { handle, offset, bytes }).expect("it is written");
        }
        self.ask(&Request::Close(handle)).expect("it is open");
    }

    fn get(&mut self, path: &[u8]) -> Result<Vec<u8>, u32> {
        let handle = self.open_file(path, READ)?;
        let mut content = Vec::new();
        loop {
            let (offset, length) = (content.len() as u64, MAX_DATA as u32);
            let answer = self.ask(&Request::Read { handle, offset, length })?;
            let mut fields = Fields(&answer);
            let bytes = fields.string().expect("bytes");
            assert!(fields.0.is_empty());
            if bytes.is_empty() {
                self.ask(&Request::Close(handle))?;
                return Ok(content);
            }
            content.extend_from_slice(bytes);
        }
    }

    fn text(&mut self, request: &Request<'_>) -> Result<Vec<u8>, u32> {
        self.ask(request).map(|answer| Fields(&answer).string().expect("bytes").to_vec())
    }

    fn attributes(&mut self, request: &Request<'_>) -> Result<Attributes, u32> {
        self.ask(request).map(|answer| {
            let mut fields = Fields(&answer);
            let attributes = fields.attributes().expect("attributes");
            assert!(fields.0.is_empty());
            attributes
        })
    }

    fn list(&mut self, path: &[u8]) -> Vec<(Vec<u8>, Attributes)> {
        let handle = self.handle(&Request::Opendir(path)).expect("a directory");
        let mut entries = Vec::new();
        loop {
            let answer = self.ask(&Request::Readdir(handle)).expect("it is open");
            if answer.is_empty() {
                self.ask(&Request::Close(handle)).expect("it is open");
                return entries;
            }
            let mut fields = Fields(&answer);
            while !fields.0.is_empty() {
                let name = fields.string().expect("a name").to_vec();
                entries.push((name, fields.attributes().expect("attributes")));
            }
        }
    }
}

#[test]
fn files_are_copied_inside() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        let mut files = Files::open(&mut gateway, 0);
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
        files.put(b"one", &content);
        let from = files.open_file(b"one", READ).unwrap();
        let to = files.open_file(b"other", WRITE | CREATE).unwrap();
        let copy = |offset, length, at| Request::Copy { from, offset, length, to, at };
        let count = |answer: Vec<u8>| Fields(&answer).u64().unwrap();
        assert_eq!(files.ask(&copy(0, 0, 0)).map(count), Ok(400_000));
        assert_eq!(files.get(b"other").unwrap(), content);
        assert_eq!(files.ask(&copy(399_990, 30_000, 10)).map(count), Ok(10), "no more is there");
        assert_eq!(files.ask(&copy(u64::MAX, 0, 0)).map(count), Ok(0));
        let wanted = [&content[..10], &content[399_990..], &content[20..]].concat();
        assert_eq!(files.get(b"other").unwrap(), wanted);
        // Behind itself it is copied once.
        let behind = files.open_file(b"one", WRITE).unwrap();
        let twice = Request::Copy { from, offset: 0, length: 0, to: behind, at: 400_000 };
        assert_eq!(files.ask(&twice).map(count), Ok(400_000));
        assert_eq!(files.get(b"one").unwrap(), [&content[..], &content[..]].concat());
        // Its own target; one that is not open for it; none; a directory.
        let same = Request::Copy { from, offset: 0, length: 1, to: from, at: 9 };
        assert_eq!(files.ask(&same), Err(22));
        let backwards = Request::Copy { from: to, offset: 0, length: 1, to: from, at: 0 };
        assert_eq!(files.ask(&backwards), Err(9));
        let nowhere = Request::Copy { from, offset: 0, length: 1, to: 63, at: 0 };
        assert_eq!(files.ask(&nowhere), Err(9));
        let directory = files.handle(&Request::Opendir(b"/")).unwrap();
        let listing = Request::Copy { from: directory, offset: 0, length: 1, to, at: 0 };
        assert_eq!(files.ask(&listing), Err(21));
        let far = Request::Copy { from, offset: 0, length: 1, to, at: u64::MAX };
        assert!(files.ask(&far).is_err());
    });
}

#[test]
fn files_are_put_listed_changed_and_fetched() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        let mut files = Files::open(&mut gateway, 0);
        assert_eq!(files.text(&Request::Realpath(b".")).unwrap(), b"/root");
        let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        files.put(b"big", &content);
        assert!(files.get(b"/root/big").unwrap() == content);
        let is = files.attributes(&Request::Stat(b"big")).unwrap();
        assert_eq!((is.mode, is.uid, is.gid, is.size), (0o100_644, 0, 0, 3_000_000));
        assert!(is.mtime > 1_700_000_000);

        // Names are bytes.
        let odd = b"a \xff\n\"name";
        files.ask(&Request::Mkdir { mode: 0o777, path: b"d" }).unwrap();
        files.put(b"d/\xff", b"odd");
        files
            .ask(&Request::Rename { replace: false, from: b"d/\xff", to: b"d/a \xff\n\"name" })
            .unwrap();
        files.ask(&Request::Symlink { target: odd, path: b"d/link" }).unwrap();
        assert_eq!(files.text(&Request::Readlink(b"d/link")).unwrap(), odd);
        assert_eq!(files.get(b"d/link").unwrap(), b"odd");
        assert_eq!(
            files.text(&Request::Realpath(b"d/../d/link")).unwrap(),
            b"/root/d/a \xff\n\"name"
        );
        assert_eq!(files.text(&Request::Realpath(b"d//new/")).unwrap(), b"/root/d/new");
        assert_eq!(files.text(&Request::Realpath(b"/new")).unwrap(), b"/new");
        assert_eq!(files.ask(&Request::Realpath(b"none/new")), Err(2));
        let mut names: Vec<_> =
            files.list(b"d").into_iter().map(|(name, is)| (name, is.mode)).collect();
        names.sort();
        let wanted: [(&[u8], u32); 4] =
            [(b".", 0o40_755), (b"..", 0o40_700), (odd, 0o100_644), (b"link", 0o120_777)];
        assert_eq!(names, wanted.map(|(name, mode)| (name.to_vec(), mode)));
        assert_eq!(files.attributes(&Request::Lstat(b"d/link")).unwrap().mode, 0o120_777);
        assert_eq!(files.attributes(&Request::Stat(b"d/link")).unwrap().mode, 0o100_644);

        let change = Change {
            size: Some(2),
            mode: Some(0o600),
            owner: Some((7, 8)),
            times: Some((1_000, 2_000)),
        };
        files.ask(&Request::Setstat(b"d/link", change)).unwrap();
        let is = files.attributes(&Request::Stat(b"d/link")).unwrap();
        let wanted =
            Attributes { mode: 0o100_600, uid: 7, gid: 8, size: 2, atime: 1_000, mtime: 2_000 };
        assert_eq!(is, wanted);
        let handle = files.open_file(b"big", 2 | APPEND).unwrap();
        files.ask(&Request::Write { handle, offset: 0, bytes: b"end" }).unwrap();
        files
            .ask(&Request::Fsetstat(handle, Change { mode: Some(0o640), ..Change::default() }))
            .unwrap();
        files.ask(&Request::Fsync(handle)).unwrap();
        let is = files.attributes(&Request::Fstat(handle)).unwrap();
        assert_eq!((is.mode, is.size), (0o100_640, 3_000_003));
        let answer = files.ask(&Request::Read { handle, offset: 3_000_000, length: 9 }).unwrap();
        assert_eq!(answer, b"\0\0\0\x03end");
        files.ask(&Request::Close(handle)).unwrap();
        assert_eq!(files.ask(&Request::Close(handle)), Err(9));

        files.ask(&Request::Link { from: b"big", to: b"second" }).unwrap();
        let rename = |replace| Request::Rename { replace, from: b"second", to: b"d/link" };
        assert_eq!(files.ask(&rename(false)), Err(17));
        files.ask(&rename(true)).unwrap();
        assert_eq!(files.ask(&Request::Rmdir(b"d")), Err(39));
        for path in [&b"d/link"[..], b"d/a \xff\n\"name", b"big"] {
            files.ask(&Request::Remove(path)).unwrap();
        }
        files.ask(&Request::Rmdir(b"d")).unwrap();
        assert_eq!(files.list(b"/root").len(), 2);
        let room = files.ask(&Request::Statvfs(b"/root")).unwrap();
        let mut fields = Fields(&room);
        let numbers: Vec<_> = (0..7).map(|_| fields.u64().unwrap()).collect();
        assert!(fields.0.is_empty() && numbers[0] * numbers[1] == 8 << 20, "{numbers:?}");

        gateway.say(&ToShim::InputEof(0));
        assert_eq!(gateway.until_exit(0), Exit::Code(0));
        gateway.end(EndReason::Exited);
        let summary = gateway.until_ended();
        assert_eq!((summary.exit.clone(), summary.recordings.len()), (Some(Exit::Code(0)), 1));
        assert!(summary.recordings[0].bytes < 1000, "nothing of what moved: {summary:?}");
        assert_eq!(summary.output_bytes, 0);
        let sidecar = house.sidecar();
        let channel = &sidecar.channels[0];
        assert_eq!(channel.kind, "sftp");
        assert!(summary.recordings[0].file.ends_with(&channel.recording), "{channel:?}");
        let moved = channel.moved.unwrap();
        assert!(moved.input > 3_000_000 && moved.output > 3_000_000, "{moved:?}");
        shim.is_gone();
    });
}

#[test]
fn only_regular_files_are_opened_and_all_of_them_inside() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.exec(
            0,
            "cd /root && mkfifo fifo fed || exit; (exec >/dev/null 2>&1; echo x > fed) & mkdir d && echo plain > d/plain &&
             ln -s / root && ln -s ../../../../../../../../.. up && ln -s loop loop &&
             ln -s /proc/1/root/etc/hostname other && ln -s /proc/self/root/etc/hostname own &&
             ln -s /dev/zero zero && ln -s fifo to-fifo",
        );
        assert_eq!(gateway.until_exit(0), Exit::Code(0));
        gateway.say(&ToShim::Listen(1, Endpoint::Unix("/root/socket".into())));
        let mut files = Files::open(&mut gateway, 1);
        // Whatever leads up ends at the sandbox's own root.
        for path in
            ["/etc/hostname", "/../../etc/hostname", "root/etc/hostname", "up/etc/hostname", "own"]
        {
            assert_eq!(files.get(path.as_bytes()).unwrap(), b"room\n", "{path}");
        }
        assert_eq!(files.text(&Request::Realpath(b"up/../root/root/root/d")).unwrap(), b"/root/d");
        assert_eq!(files.text(&Request::Realpath(b"up")).unwrap(), b"/");
        for (path, errno) in [
            ("other", 13),
            ("/proc/1/root/etc/hostname", 13),
            ("/proc/1/mem", 13),
            ("/proc/1/fd/3", 13),
            ("/proc/1/environ", 13),
            ("loop", 40),
            ("d", 21),
            ("d/plain/x", 20),
            ("none", 2),
            ("", 2),
            ("a\0b", 22),
        ] {
            assert_eq!(files.open_file(path.as_bytes(), READ), Err(errno), "{path}");
        }
        // Nothing that would wait, answer by itself or go to somebody else.
        for path in
            ["fifo", "fed", "to-fifo", "zero", "/dev/null", "/dev/tty", "/dev/ptmx", "/dev/random"]
        {
            for flags in [READ, 2, 2 | CREATE | TRUNCATE, 2 | APPEND] {
                let refused = files.open_file(path.as_bytes(), flags).unwrap_err();
                assert!([13, 6].contains(&refused), "{path}: {refused}");
            }
        }
        assert_eq!(files.open_file(b"fifo", WRITE), Err(6));
        assert_eq!(files.open_file(b"socket", READ), Err(6));
        assert_eq!(files.open_file(b"/proc/self/fd/0", READ), Err(13));
        // Its own memory and program are not to be changed by who may only bring files.
        assert_eq!(files.open_file(b"/proc/self/mem", 2), Err(13));
        assert_eq!(files.open_file(b"/proc/self/oom_score_adj", WRITE), Err(13));
        assert_eq!(files.open_file(b"/proc/self/exe", WRITE), Err(26));
        assert_eq!(files.ask(&Request::Setstat(b"/proc/self/exe", mode(0o777))), Err(1));
        assert_eq!(&files.get(b"/proc/self/exe").unwrap()[..4], b"\x7fELF");
        assert!(files.get(b"/proc/self/status").unwrap().starts_with(b"Name:\tsftp-server\n"));
        for path in ["/usr/bin/env", "/usr/new", "/sys/x", "/proc/x", "/etc/ld.so.cache"] {
            files.open_file(path.as_bytes(), WRITE | CREATE).unwrap_err();
        }
        assert_eq!(files.handle(&Request::Opendir(b"d/plain")), Err(20));
        assert_eq!(files.handle(&Request::Opendir(b"fifo")), Err(20));
        assert_eq!(files.ask(&Request::Readlink(b"d/plain")), Err(22));
        assert_eq!(files.text(&Request::Readlink(b"up")).unwrap(), b"../../../../../../../../..");
        for path in [&b"fifo"[..], b"socket", b"zero", b"/dev/null"] {
            files.attributes(&Request::Stat(path)).unwrap();
        }

        // A link is removed, not what it leads to; and made only where there is nothing.
        files.ask(&Request::Symlink { target: b"d/plain", path: b"soft" }).unwrap();
        assert_eq!(files.open_file(b"soft", WRITE | CREATE | EXCLUSIVE), Err(17));
        assert_eq!(files.ask(&Request::Symlink { target: b"x", path: b"soft" }), Err(17));
        files.ask(&Request::Remove(b"soft")).unwrap();
        assert_eq!(files.get(b"d/plain").unwrap(), b"plain\n");
        assert_eq!(files.ask(&Request::Remove(b"d")), Err(21));

        // Modes are the client's, less what everybody's umask takes; no set-user-id at the making.
        let open = Request::Open { flags: WRITE | CREATE, mode: 0o4777, path: b"d/new" };
        files.handle(&open).unwrap();
        files.ask(&Request::Mkdir { mode: 0o2777, path: b"d/dir" }).unwrap();
        assert_eq!(files.attributes(&Request::Stat(b"d/new")).unwrap().mode, 0o100_755);
        assert_eq!(files.attributes(&Request::Stat(b"d/dir")).unwrap().mode, 0o40_755);
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        shim.is_gone();
    });
}

fn mode(mode: u32) -> Change {
    Change { mode: Some(mode), ..Change::default() }
}

#[test]
fn files_are_bounded_by_the_disk_and_the_protocol() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        let mut files = Files::open(&mut gateway, 0);
        let handle = files.open_file(b"full", 2 | CREATE).unwrap();
        let bytes = vec![7; MAX_DATA];
        let most = 8 << 20;
        let full = (0..=most / MAX_DATA as u64)
            .map(|index| {
                files.ask(&Request::Write {
                    handle,
                    offset: index * MAX_DATA as u64,
                    bytes: &bytes,
                })
            })
            .position(|written| written == Err(28));
        assert!(full.is_some_and(|index| index > 200), "{full:?}");
        files.ask(&Request::Remove(b"full")).unwrap();
        files.ask(&Request::Close(handle)).unwrap();
        files.put(b"again", &bytes);

        let handle = files.open_file(b"again", 2).unwrap();
        let write = |offset, bytes| Request::Write { handle, offset, bytes };
        assert_eq!(files.ask(&write(u64::MAX, b"x")), Err(22));
        assert_eq!(files.ask(&write(u64::MAX / 2, b"xy")), Err(22));
        assert_eq!(files.ask(&write(0, &[0; MAX_DATA + 1])), Err(22));
        let read = |offset| Request::Read { handle, offset, length: u32::MAX };
        assert_eq!(files.ask(&read(0)).unwrap().len(), 4 + MAX_DATA);
        assert_eq!(files.ask(&read(u64::MAX / 4)).unwrap(), [0; 4]);
        assert_eq!(files.ask(&read(u64::MAX)), Err(22));
        let size = |size| Change { size: Some(size), ..Change::default() };
        files.ask(&Request::Fsetstat(handle, size(u64::MAX))).unwrap_err();
        files.ask(&Request::Setstat(b"again", size(u64::MAX))).unwrap_err();
        // What can be changed is, though another part cannot.
        let change = Change { mode: Some(0o600), ..size(u64::MAX) };
        files.ask(&Request::Fsetstat(handle, change)).unwrap_err();
        assert_eq!(files.attributes(&Request::Fstat(handle)).unwrap().mode, 0o100_600);
        let read_only = files.open_file(b"again", READ).unwrap();
        let write = Request::Write { handle: read_only, offset: 0, bytes: b"x" };
        assert_eq!(files.ask(&write), Err(9));
        for flags in [3, 0o4000, 0o40_000, 0o10_000_000, 1 << 31] {
            assert_eq!(files.open_file(b"again", flags), Err(22), "{flags:o}");
        }
        for handle in [2, 63, 64, 255, u32::MAX] {
            for request in [
                Request::Close(handle),
                Request::Fstat(handle),
                Request::Readdir(handle),
                Request::Fsync(handle),
                Request::Read { handle, offset: 0, length: 1 },
            ] {
                assert_eq!(files.ask(&request), Err(9), "{request:?}");
            }
        }
        assert_eq!(files.ask(&Request::Readdir(handle)), Err(20));
        let directory = files.handle(&Request::Opendir(b"/")).unwrap();
        let read = Request::Read { handle: directory, offset: 0, length: 1 };
        assert_eq!(files.ask(&read), Err(21));
        for _ in 3..MAX_HANDLES {
            files.open_file(b"again", READ).unwrap();
        }
        assert_eq!(files.open_file(b"again", READ), Err(24));
        assert_eq!(files.handle(&Request::Opendir(b"/")), Err(24));
        files.ask(&Request::Close(directory)).unwrap();
        assert_eq!(files.open_file(b"again", READ), Ok(directory));

        files.ask(&Request::Close(1)).unwrap();
        let long = vec![b'x'; 255];
        files.put(&long, b"");
        assert_eq!(files.open_file(&[&long[..], b"x"].concat(), READ), Err(36));
        for length in [4096, 8192, 20_000] {
            assert_eq!(files.open_file(&vec![b'/'; length], READ), Err(36));
        }
        assert_eq!(files.text(&Request::Realpath(&[b'/'; 4095])).unwrap(), b"/");
        gateway
            .exec(1, "mkdir /tmp/many && cd /tmp/many && touch $(seq 3000) $(seq -f %0200g 300)");
        assert_eq!(gateway.until_exit(1), Exit::Code(0));
        let (next, read) = (100_000, gateway.seen.out[&0].len());
        let mut files = Files { gateway: &mut gateway, channel: 0, next, read };
        let entries = files.list(b"/tmp/many");
        let names: std::collections::HashSet<_> = entries.iter().map(|(name, _)| name).collect();
        assert_eq!((entries.len(), names.len()), (3302, 3302));
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        shim.is_gone();
    });
}

#[test]
fn what_is_no_request_ends_the_helper_alone() {
    as_runner(|zygote| {
        let shim = Shim::make(&zygote);
        let house = House::new();
        let mut gateway = house.open(&shim);
        gateway.shell(0);
        let too_long = u32::try_from(MAX_FRAME + 1).unwrap().to_be_bytes();
        for (channel, frame) in (1..).zip([
            &too_long[..],
            &[0xff; 9],
            &[0, 0, 0, 4, 0, 0, 0, 1],
            &[0; 4],
            b"\0\0\0\x09\0",
            b"\0",
        ]) {
            let files = Files::open(&mut gateway, channel);
            files.gateway.feed(channel, frame);
            files.gateway.say(&ToShim::InputEof(channel));
            assert_eq!(gateway.until_exit(channel), Exit::Code(1), "{frame:?}");
            assert_eq!(gateway.seen.text(channel), "");
        }
        // A frame that is one, and says nothing that is known, is answered.
        let mut files = Files::open(&mut gateway, 10);
        for body in [
            &[22][..],
            &[0],
            &[255, 1, 2],
            &[2],
            &[2, 0, 0, 0, 0, 0],
            &[8, 0, 0, 0, 0, 0, 0, 0, 16],
        ] {
            files.next += 1;
            let length = u32::try_from(4 + body.len()).unwrap();
            let frame = [&length.to_be_bytes()[..], &files.next.to_be_bytes(), body].concat();
            files.gateway.feed(10, &frame);
            assert_eq!(files.answer(), Err(22), "{body:?}");
        }
        assert_eq!(files.text(&Request::Realpath(b"")), Err(2));
        gateway.type_in(0, "echo still $((40 + 2))\n");
        gateway.until_text(0, "still 42");
        gateway.end(EndReason::Closed);
        gateway.until_ended();
        shim.is_gone();
    });
}
