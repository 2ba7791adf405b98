//! Recordings of sessions on other machines. Their bytes come from the gateway, which may append to
//! them and no more: the files are made, opened again and measured here.

use std::fs::File;
use std::io;
use std::io::BufReader;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use sojourn_core::end::Exit;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::runner::Sealing;
use sojourn_core::wire::shim::RecordingFacts;
use sojourn_shim::files;
use sojourn_term::cast;
use sojourn_term::escape::escape_bytes;
use sojourn_term::sidecar;
use sojourn_term::sidecar::Sidecar;

use crate::directories::Directories;

/// Readable by the owner and the group, as every recording.
const MODE: Mode = Mode::from_raw_mode(0o640);

/// The longest sidecar that is read.
const LONGEST_SIDECAR: u64 = 4 << 20;

/// The most recordings of one session: it was taken up again so often.
const MOST_CHANNELS: u16 = 1000;

/// The longest text in a sidecar, in characters.
const LONGEST_TEXT: usize = 256;

/// A recording that may be appended to.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: String,
    pub(crate) fd: OwnedFd,
    pub(crate) events: u64,
    pub(crate) last_us: u64,
    pub(crate) is_new: bool,
}

/// Makes a recording, or opens it again, cut to its last whole line. To one that is sealed nothing can be
/// added any more; but its events may come again, where the store did not keep them.
///
/// # Errors
/// When there is no such place, or the file is damaged.
pub(crate) fn open(
    dirs: &Directories,
    session: SessionId,
    channel: u16,
    created: Wall,
) -> io::Result<Opened> {
    let name = name(session, channel)?;
    let (day, below) = dirs.day(created)?;
    if is_sealed(&day, session, channel)? {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&day, &name, flags, Mode::empty())?);
        let found = cast::survey(BufReader::new(&mut file)).map_err(io::Error::other)?.0;
        return Ok(Opened {
            file: format!("{below}/{name}"),
            fd: file.into(),
            events: found.events,
            last_us: found.duration_us,
            is_new: false,
        });
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&day, &name, flags, MODE)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    let found = cast::recover(&mut file).map_err(io::Error::other)?.verified;
    note(&day, session, channel, &name)?;
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&day, &name, flags, Mode::empty())?;
    Ok(Opened {
        file: format!("{below}/{name}"),
        fd,
        events: found.events,
        last_us: found.duration_us,
        is_new: found.whole_lines == 0,
    })
}

/// Has the sidecar of a session that was over, and goes on, know of its next recording.
fn note(day: &OwnedFd, session: SessionId, channel: u16, recording: &str) -> io::Result<()> {
    let Some(mut sidecar) = read(day, session)? else { return Ok(()) };
    let n = u32::from(channel);
    if sidecar.channels.iter().any(|known| known.n == n) {
        return Ok(());
    }
    let recording = recording.to_owned();
    sidecar.channels.push(sidecar::Channel { n, recording, ..sidecar::Channel::default() });
    // It is not over any more, and nothing of it is old.
    sidecar.ended_at = None;
    let name = format!("{session}.json");
    files::replace(day.as_fd(), &name, &sidecar.to_json()?, files::Durability::Power)
}

/// Measures a recording and says in the sidecar that it is complete. None where there is none.
pub(crate) fn seal(dirs: &Directories, sealing: &Sealing) -> io::Result<Option<RecordingFacts>> {
    let name = name(sealing.session, sealing.channel)?;
    let (day, below) = dirs.day(sealing.created)?;
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = match rustix::fs::openat(&day, &name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let sealed = is_sealed(&day, sealing.session, sealing.channel)?;
    let verified = match sealed {
        // It was, and the word of it was lost: it is told once more.
        true => cast::survey(BufReader::new(&mut file)).map_err(io::Error::other)?.0,
        false => cast::recover(&mut file).map_err(io::Error::other)?.verified,
    };
    let facts = RecordingFacts {
        channel: sealing.channel,
        file: format!("{below}/{name}"),
        bytes: verified.bytes,
        sha256: verified.sha256.clone(),
    };
    if !sealed {
        let mut sidecar = read(&day, sealing.session)?.unwrap_or_else(|| begin(sealing));
        complete(&mut sidecar, sealing, &name);
        let n = u32::from(sealing.channel);
        sidecar.seal(n, verified.bytes, &verified.sha256, verified.marks);
        let json = sidecar.to_json()?;
        let name = format!("{}.json", sealing.session);
        files::replace(day.as_fd(), &name, &json, files::Durability::Power)?;
    }
    Ok(Some(facts))
}

fn name(session: SessionId, channel: u16) -> io::Result<String> {
    match channel {
        0 => Ok(format!("{session}.cast")),
        n if n <= MOST_CHANNELS => Ok(format!("{session}.{n}.cast")),
        _ => Err(io::Error::other("this session has as many recordings as it may have")),
    }
}

fn read(day: &OwnedFd, session: SessionId) -> io::Result<Option<Sidecar>> {
    match files::read(day.as_fd(), &format!("{session}.json"), LONGEST_SIDECAR) {
        Ok(bytes) => Ok(Some(Sidecar::from_json(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_sealed(day: &OwnedFd, session: SessionId, channel: u16) -> io::Result<bool> {
    let sidecar = read(day, session)?;
    Ok(sidecar.is_some_and(|sidecar| {
        let mut channels = sidecar.channels.iter();
        channels.any(|it| it.n == u32::from(channel) && !it.sha256.is_empty())
    }))
}

fn begin(sealing: &Sealing) -> Sidecar {
    let Sealing { about, .. } = sealing;
    let mut sidecar = Sidecar::new(sealing.session.to_string());
    sidecar.user = Some(about.user.clone()).filter(|user| !user.is_empty());
    sidecar.door.clone_from(&about.door);
    sidecar.profile.clone_from(&sealing.profile);
    sidecar.peer = Some(sidecar::Peer {
        address: text(&about.peer),
        client_version: text(&about.client),
        hassh: None,
    });
    sidecar.started_at = sealing.started_at.unwrap_or(sealing.created).to_rfc3339();
    let millis = |time: Option<std::time::Duration>| {
        time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    };
    sidecar.lease.limits = sidecar::Limits {
        max_runtime_ms: millis(sealing.limits.max_runtime),
        idle_timeout_ms: millis(sealing.limits.idle_timeout),
        max_output_bytes: sealing.limits.max_output,
    };
    sidecar
}

fn complete(sidecar: &mut Sidecar, sealing: &Sealing, recording: &str) {
    let began = sealing.started_at.unwrap_or(sealing.created);
    let lasted = u64::try_from(sealing.ended_at.0.saturating_sub(began.0)).unwrap_or(0);
    sidecar.ended_at = Some(sealing.ended_at.to_rfc3339());
    sidecar.duration_ms = Some(lasted / 1000);
    sidecar.end_reason = Some(sealing.reason.name().to_owned());
    sidecar.ended_by = sealing
        .by
        .as_ref()
        .map(|name| sidecar::EndedBy { name: text(name), why: sealing.why.as_deref().map(text) });
    sidecar.lease.output_bytes = sealing.output_bytes;
    let n = u32::from(sealing.channel);
    sidecar.channels.retain(|channel| channel.n != n);
    sidecar.channels.push(sidecar::Channel {
        n,
        kind: text(&sealing.harness),
        exit: sealing.exit.as_ref().map(|exit| match exit {
            Exit::Code(code) => sidecar::Exit::Code(*code),
            Exit::Signal(name) => sidecar::Exit::Signal(text(name)),
        }),
        recording: recording.to_owned(),
        ..sidecar::Channel::default()
    });
}

fn text(text: &str) -> String {
    escape_bytes(text.as_bytes(), LONGEST_TEXT)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use sojourn_core::end::EndReason;
    use sojourn_core::limits::Limits;
    use sojourn_core::wire::runner::About;

    use super::*;

    #[test]
    fn a_sealed_recording_says_what_is_in_it_and_takes_nothing_more() {
        let session = SessionId::new();
        let data = std::env::temp_dir().join(format!("record-{session}"));
        for directory in ["recordings", "sessions", "images"] {
            std::fs::create_dir_all(data.join(directory)).unwrap();
        }
        let dirs = Directories::open(&data).unwrap();
        let created = Wall(1_795_345_331_532_000);
        let opened = open(&dirs, session, 0, created).unwrap();
        assert!(opened.is_new);
        let mut file = File::from(opened.fd);
        file.write_all(b"{\"version\": 2, \"width\": 80, \"height\": 24}\n").unwrap();
        file.write_all(b"[0.5, \"e\", \"{}\"]\n").unwrap();
        let sealing = Sealing {
            session,
            channel: 0,
            created,
            started_at: Some(created),
            ended_at: created,
            reason: EndReason::EndedBy,
            exit: None,
            by: None,
            why: None,
            output_bytes: 0,
            about: About::default(),
            profile: String::new(),
            harness: "fake".to_owned(),
            limits: Limits::default(),
        };
        let facts = seal(&dirs, &sealing).unwrap().unwrap();
        // The store did not keep it: the same comes again.
        let again = open(&dirs, session, 0, created).unwrap();
        assert_eq!((again.events, again.is_new), (1, false));
        assert!(File::from(again.fd).write_all(b"more").is_err());
        assert_eq!(seal(&dirs, &sealing).unwrap(), Some(facts));
        std::fs::remove_dir_all(&data).unwrap();
    }
}
