//! A relay between a runner and its gateway that cuts each connection after so many of the runner's
//! frames.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// A relay on a port of its own. It ends with the test's process.
#[derive(Debug)]
pub struct Cutter {
    /// Where runners dial.
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Where the gateway is.
    to: AtomicU16,
    /// A connection is cut after so many frames; 0 = never.
    after: AtomicUsize,
    cuts: AtomicUsize,
}

impl Cutter {
    /// Relays to the gateway at this port, and cuts nothing.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn new(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            to: AtomicU16::new(to),
            after: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
        });
        let relays = shared.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let shared = relays.clone();
                std::thread::spawn(move || shared.relay(near));
            }
        });
        Self { port, shared }
    }

    /// From now on each connection is cut after so many frames of the runner's; 0 is never.
    pub fn cut_after(&self, frames: usize) {
        self.shared.after.store(frames, Ordering::Relaxed);
    }

    /// The gateway has another port now.
    pub fn follow(&self, to: u16) {
        self.shared.to.store(to, Ordering::Relaxed);
    }

    /// How many connections were cut.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn relay(&self, near: TcpStream) {
        let Ok(far) = TcpStream::connect(("127.0.0.1", self.to.load(Ordering::Relaxed))) else {
            return;
        };
        let (Ok(mut from_far), Ok(mut to_near)) = (far.try_clone(), near.try_clone()) else {
            return;
        };
        std::thread::spawn(move || {
            let _over = io::copy(&mut from_far, &mut to_near);
            let _over = to_near.shutdown(Shutdown::Both);
        });
        if self.pass_frames(&near, &far).is_ok() {
            self.cuts.fetch_add(1, Ordering::Relaxed);
        }
        let _over = near.shutdown(Shutdown::Both);
        let _over = far.shutdown(Shutdown::Both);
    }

    /// Passes the request and then frames on. Ok: it is time to cut.
    fn pass_frames(&self, mut near: &TcpStream, mut far: &TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            near.read_exact(&mut byte)?;
            head.extend(byte);
        }
        // The gateway is asked for by its own name.
        let (port, to) = (near.local_addr()?.port(), far.peer_addr()?.port());
        let head = String::from_utf8_lossy(&head);
        far.write_all(
            head.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{to}")).as_bytes(),
        )?;
        let mut frames = 0;
        loop {
            let mut frame = vec![0; 2];
            near.read_exact(&mut frame)?;
            let length = match frame[1] & 0x7f {
                126 => be(&extend(&mut frame, near, 2)?),
                127 => be(&extend(&mut frame, near, 8)?),
                short => u64::from(short),
            };
            extend(&mut frame, near, 4 + usize::try_from(length).map_err(io::Error::other)?)?;
            far.write_all(&frame)?;
            frames += 1;
            let after = self.after.load(Ordering::Relaxed);
            // The first one is hello: cut after it, nothing would ever get through.
            if after > 0 && frames > after {
                return Ok(());
            }
        }
    }
}

/// Reads so many bytes onto the end of a frame, and gives them.
fn extend(frame: &mut Vec<u8>, mut near: &TcpStream, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    near.read_exact(&mut bytes)?;
    frame.extend(&bytes);
    Ok(bytes)
}

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}
