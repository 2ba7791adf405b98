//! Something between a client and the gateway, as a load balancer is: it may say whose connection it
//! passes on, and remembers what the client said.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;

/// A relay to one port of this machine.
pub(crate) struct Relay {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Relay {
    /// Every connection through it begins with `header`.
    pub(crate) fn to(port: u16, header: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a relay");
        let own = listener.local_addr().expect("its address").port();
        let (header, seen) = (header.to_vec(), Arc::new(Mutex::new(Vec::new())));
        let copy = seen.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (header, copy) = (header.clone(), copy.clone());
                std::thread::spawn(move || pass(client, port, &header, &copy));
            }
        });
        Self { port: own, seen }
    }

    /// What clients sent through it so far.
    pub(crate) fn seen(&self) -> Vec<u8> {
        self.seen.lock().expect("what was seen").clone()
    }
}

fn pass(client: TcpStream, port: u16, header: &[u8], seen: &Mutex<Vec<u8>>) -> io::Result<()> {
    let mut gateway = TcpStream::connect(("127.0.0.1", port))?;
    gateway.write_all(header)?;
    let (mut back, mut to_client) = (gateway.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _gone = io::copy(&mut back, &mut to_client);
        let _gone = to_client.shutdown(Shutdown::Write);
    });
    let mut client = client;
    let mut part = [0; 16384];
    while let n @ 1.. = client.read(&mut part)? {
        seen.lock().expect("what was seen").extend_from_slice(&part[..n]);
        gateway.write_all(&part[..n])?;
    }
    gateway.shutdown(Shutdown::Write)
}
