//! The file helper: real files of a real sandbox, and what a client or a prisoner may try.

use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::wire::files::Answer;
use sojourn_core::wire::files::Attributes;
use sojourn_core::wire::files::Change;
use sojourn_core::wire::files::Fields;
use sojourn_core::wire::files::MAX_DATA;
use sojourn_core::wire::files::Request;
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
