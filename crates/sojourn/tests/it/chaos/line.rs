//! The line between clients and the SSH door: it follows the gateway from port to port, and can be slow
//! or cut.

use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How much later each piece is on a slow line.
const SLOWNESS: Duration = Duration::from_millis(30);

/// A relay on a port of its own. It ends with the test's process.
pub(super) struct Line {
    /// Where clients connect.
    pub(super) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// Where the gateway is.
    to: AtomicU16,
    slow: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Line {
    pub(super) fn new(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            to: AtomicU16::new(to),
            slow: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let relay = shared.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                relay.pass(&near);
            }
        });
        Self { port, shared }
    }

    /// The gateway has another port now.
    pub(super) fn follow(&self, to: u16) {
        self.shared.to.store(to, Ordering::Relaxed);
    }

    /// From now on it is slow, or not.
    pub(super) fn slow(&self, slow: bool) {
        self.shared.slow.store(slow, Ordering::Relaxed);
    }

    /// Cuts every connection there is.
    pub(super) fn cut(&self) {
        for end in self.shared.open.lock().unwrap().drain(..) {
            let _gone = end.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    /// Joins a connection with one to the gateway; without one it is closed.
    fn pass(self: &Arc<Self>, near: &TcpStream) {
        let to = self.to.load(Ordering::Relaxed);
        let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { return };
        for (from, into) in [(near, &far), (&far, near)] {
            let (Ok(from), Ok(into)) = (from.try_clone(), into.try_clone()) else { return };
            let shared = self.clone();
            std::thread::spawn(move || shared.carry(&from, &into));
        }
        let ends = [near, &far].into_iter().filter_map(|end| end.try_clone().ok());
        self.open.lock().unwrap().extend(ends);
    }

    fn carry(&self, mut from: &TcpStream, mut into: &TcpStream) {
        let mut part = [0; 16384];
        while let Ok(n @ 1..) = from.read(&mut part) {
            if self.slow.load(Ordering::Relaxed) {
                std::thread::sleep(SLOWNESS);
            }
            if into.write_all(&part[..n]).is_err() {
                break;
            }
        }
        let _over = into.shutdown(Shutdown::Write);
        let _over = from.shutdown(Shutdown::Read);
    }
}
