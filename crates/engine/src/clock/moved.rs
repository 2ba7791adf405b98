//! A clock that a test moves over a Unix socket. It is in no program that is shipped.
//!
//! `SOJOURN_TEST_CLOCK` is where the socket is to be. Each line is a command, each answer a line that
//! begins with the time: `advance 31m` moves both times on, `back 1h` turns back the time people have,
//! `hold` stops the clock where it is, `go` lets it run, `now` only tells. What it is ahead is kept in a
//! file beside the socket, so that a gateway that is started again does not fall back.

use std::fs;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use sojourn_core::time::Mono;
use sojourn_core::time::Wall;
use sojourn_core::time::micros;
use sojourn_core::units::Span;
use tokio::sync::watch;

use super::Clock;
use super::SystemClock;

/// Where the socket is to be.
const VARIABLE: &str = "SOJOURN_TEST_CLOCK";

/// The longest command.
const LONGEST_LINE: u64 = 64;

pub(super) fn from_environment() -> io::Result<Option<Arc<dyn Clock>>> {
    let Some(socket) = std::env::var_os(VARIABLE) else { return Ok(None) };
    let clock = Arc::new(MovedClock::new(&PathBuf::from(socket)));
    clock.clone().listen()?;
    Ok(Some(clock))
}

/// The machine's clocks, and how far they were moved.
struct MovedClock {
    socket: PathBuf,
    state: Mutex<State>,
    moves: watch::Sender<u64>,
}

#[derive(Clone, Copy, Default)]
struct State {
    mono_ahead: u64,
    wall_ahead: i64,
    held: Option<(Mono, Wall)>,
}

impl State {
    fn now(&self) -> (Mono, Wall) {
        self.held.unwrap_or_else(|| {
            let (mono, wall) = (SystemClock.mono(), SystemClock.wall());
            (Mono(mono.0 + self.mono_ahead), Wall(wall.0 + self.wall_ahead))
        })
    }

    /// Makes it so late, whether it is held or runs.
    fn set(&mut self, (mono, wall): (Mono, Wall)) {
        self.mono_ahead = mono.0.saturating_sub(SystemClock.mono().0);
        self.wall_ahead = wall.0 - SystemClock.wall().0;
        if self.held.is_some() {
            self.held = Some((mono, wall));
        }
    }

    fn obey(&mut self, command: &str) -> Result<(), String> {
        let (verb, span) = command.split_once(' ').unwrap_or((command, "0"));
        let Span(by) = span.parse().map_err(|error| format!("{error}"))?;
        let (mono, wall) = self.now();
        match verb {
            "advance" => self.set((mono.after(by), wall.after(by))),
            "back" => {
                let back = i64::try_from(micros(by)).map_err(|error| error.to_string())?;
                self.set((mono, Wall(wall.0 - back)));
            }
            "hold" => self.held = Some((mono, wall)),
            "go" => {
                self.held = None;
                self.set((mono, wall));
            }
            "now" => {}
            _ => return Err(format!("there is no command {verb:?}")),
        }
        Ok(())
    }
}

impl MovedClock {
    fn new(socket: &Path) -> Self {
        let mut state = State::default();
        let kept = fs::read_to_string(kept(socket)).unwrap_or_default();
        if let Some((mono, wall)) = kept.split_once(' ') {
            state.mono_ahead = mono.parse().unwrap_or(0);
            state.wall_ahead = wall.parse().unwrap_or(0);
        }
        Self { socket: socket.to_owned(), state: Mutex::new(state), moves: watch::Sender::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: Arc<Self>) -> io::Result<()> {
        let _former = fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket)?;
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let _gone = self.serve(&stream);
            }
        });
        Ok(())
    }

    fn serve(&self, mut stream: &UnixStream) -> io::Result<()> {
        let mut lines = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if lines.by_ref().take(LONGEST_LINE).read_line(&mut line)? == 0 {
                return Ok(());
            }
            let answer = self.command(line.trim_end())?;
            stream.write_all(answer.as_bytes())?;
        }
    }

    fn command(&self, line: &str) -> io::Result<String> {
        let mut state = self.state();
        if let Err(why) = state.obey(line) {
            return Ok(format!("error: {why}\n"));
        }
        fs::write(kept(&self.socket), format!("{} {}", state.mono_ahead, state.wall_ahead))?;
        let (mono, wall) = state.now();
        drop(state);
        self.moves.send_modify(|count| *count += 1);
        Ok(format!("{wall} {}\n", mono.0))
    }
}

/// What the clock is ahead, for the next one at this socket.
fn kept(socket: &Path) -> PathBuf {
    socket.with_extension("ahead")
}

impl Clock for MovedClock {
    fn mono(&self) -> Mono {
        self.state().now().0
    }

    fn wall(&self) -> Wall {
        self.state().now().1
    }

    fn moves(&self) -> Option<watch::Receiver<u64>> {
        Some(self.moves.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_is_held_moved_and_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let clock = MovedClock::new(&directory.path().join("clock"));
        let moves = clock.moves().unwrap();
        clock.command("hold").unwrap();
        let (mono, wall) = (clock.mono(), clock.wall());
        clock.command("advance 29m59s999ms").unwrap();
        let by = Duration::from_millis(1_799_999);
        assert_eq!((clock.mono(), clock.wall()), (mono.after(by), wall.after(by)));
        clock.command("back 1h").unwrap();
        let hour = Duration::from_secs(3600);
        assert_eq!((clock.mono(), clock.wall().after(hour)), (mono.after(by), wall.after(by)));
        assert!(moves.has_changed().unwrap(), "who waits is told");
        clock.command("advance 2h").unwrap();
        let again = MovedClock::new(&directory.path().join("clock"));
        assert!(again.wall() >= clock.wall(), "the next one does not fall back");
        assert!(again.mono().since(clock.mono()) < hour);
        let before = clock.wall();
        for wrong in ["", "forward 1h", "advance soon", "back 1"] {
            assert!(clock.command(wrong).unwrap().starts_with("error: "), "{wrong:?}");
        }
        assert_eq!(clock.wall(), before);
        clock.command("go").unwrap();
        assert!(clock.wall() >= wall.after(hour), "it runs on from where it was");
    }
}
