//! The helpers that stand for a connection: one that is made from inside, one that is taken.

use core::net::IpAddr;
use core::net::SocketAddr;

use crate::endpoint::Endpoint;
use crate::kernel;
use crate::kernel::Errno;
use crate::kernel::Fd;
use crate::kernel::sockets;
use crate::kernel::sockets::Address;
use crate::kernel::sockets::POLLIN;
use crate::kernel::sockets::Polled;
use crate::relay;
use crate::resolve;
use crate::text::Text;

const INPUT: Fd = 0;
const OUTPUT: Fd = 1;
/// Where the helper that takes a connection has its listener.
pub(crate) const LISTENER: Fd = 2;

/// How long connecting to one address may take, in seconds.
const PATIENCE: i64 = 10;
/// The longest first line.
const LONGEST: usize = 256;

/// Connects, says so or why not, and copies. Gives the exit status.
pub(crate) fn serve_connect(endpoint: &Endpoint<'_>, room: &mut [u8]) -> i32 {
    let connected = match endpoint {
        Endpoint::Unix(path) => Address::unix(path).and_then(|address| connect(&address)),
        // It is only listened for.
        Endpoint::Display(_) => Err(kernel::EAFNOSUPPORT),
        Endpoint::Tcp { host, port } => {
            let mut outcome = None;
            for address in resolve::resolve(host, room).iter() {
                let address = Address::internet(SocketAddr::new(address, *port));
                let connected = connect(&address);
                let is_made = connected.is_ok();
                outcome = Some(connected);
                if is_made {
                    break;
                }
            }
            match outcome {
                Some(connected) => connected,
                None => return refuse(b"name or service not known"),
            }
        }
    };
    match connected {
        Ok(socket) if say(b"ok\n") => relay::relay(socket, room),
        Ok(_) => 1,
        Err(errno) => refuse_for(errno),
    }
}

fn connect(address: &Address) -> Result<Fd, Errno> {
    let socket = sockets::stream(address)?;
    let connected =
        sockets::limit_waiting(socket, PATIENCE).and_then(|()| sockets::connect(socket, address));
    match connected {
        Ok(()) => Ok(socket),
        Err(errno) => {
            kernel::close(socket);
            Err(errno)
        }
    }
}

/// Takes the next connection of the listener, says from whom, and copies. Gives the exit status.
pub(crate) fn serve_accept(room: &mut [u8]) -> i32 {
    loop {
        let mut polled = [Polled::new(INPUT, 0), Polled::new(LISTENER, POLLIN)];
        sockets::wait(&mut polled, None);
        let [gone, called] = polled.map(|polled| polled.happened());
        if gone {
            // Whoever waited for a connection does so no more.
            return 0;
        }
        if !called {
            continue;
        }
        match sockets::accept(LISTENER) {
            Ok((socket, peer)) => {
                // Others may go on taking from it.
                kernel::close(LISTENER);
                let mut line = Text::<LONGEST>::new(b"ok");
                if let Some(peer) = peer.socket() {
                    put_address(&mut line, peer);
                }
                line.push(b"\n");
                return if say(line.as_bytes()) { relay::relay(socket, room) } else { 1 };
            }
            // Another was faster, or the caller gave up.
            Err(kernel::EAGAIN | kernel::ECONNABORTED) => {}
            Err(kernel::EINVAL) => return refuse(b"nothing listens any more"),
            Err(errno) => return refuse_for(errno),
        }
    }
}

/// ` ADDRESS PORT`, the address as in RFC 4291 with all of its groups.
fn put_address(line: &mut Text<LONGEST>, peer: SocketAddr) {
    match peer.ip() {
        IpAddr::V4(ip) => {
            for (mark, octet) in [b" ", b".", b".", b"."].iter().zip(ip.octets()) {
                line.push(*mark);
                line.number(octet.into(), 10);
            }
        }
        IpAddr::V6(ip) => {
            for (index, group) in ip.segments().into_iter().enumerate() {
                line.push(if index == 0 { b" " } else { b":" });
                line.number(group.into(), 16);
            }
        }
    }
    line.push(b" ");
    line.number(peer.port().into(), 10);
}

/// Writes the first line; false when nobody reads it.
fn say(line: &[u8]) -> bool {
    kernel::write_all(OUTPUT, line).is_ok()
}

fn refuse(why: &[u8]) -> i32 {
    let mut line = Text::<LONGEST>::new(b"error ");
    line.push(why);
    line.push(b"\n");
    let _said = say(line.as_bytes());
    1
}

fn refuse_for(errno: Errno) -> i32 {
    let why: &[u8] = match errno {
        kernel::ENOENT => b"no such socket",
        kernel::EACCES | kernel::EPERM => b"permission denied",
        kernel::ENOTSOCK | kernel::EPROTOTYPE => b"not a stream socket",
        kernel::EAFNOSUPPORT => b"address family not supported",
        kernel::ENETUNREACH => b"network is unreachable",
        kernel::EHOSTUNREACH => b"no route to host",
        kernel::ECONNREFUSED => b"connection refused",
        // As a wait ends that was limited.
        kernel::ETIMEDOUT | kernel::EINPROGRESS | kernel::EAGAIN => b"connection timed out",
        kernel::ENAMETOOLONG => b"path too long for a socket",
        errno => {
            let mut why = Text::<LONGEST>::new(b"system error ");
            why.number(errno.unsigned_abs(), 10);
            return refuse(why.as_bytes());
        }
    };
    refuse(why)
}
