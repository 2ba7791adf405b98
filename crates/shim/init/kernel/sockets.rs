//! Calls about sockets, and what waiting for them takes.

use core::ffi::CStr;
use core::net::IpAddr;
use core::net::Ipv4Addr;
use core::net::Ipv6Addr;
use core::net::SocketAddr;

use super::ENAMETOOLONG;
use super::Errno;
use super::Fd;
use super::MSG_NOSIGNAL;
use super::O_CLOEXEC;
use super::O_NONBLOCK;
use super::SOL_SOCKET;
use super::call;
use super::plain;
use super::word;

calls! {
    SOCKET = 41, 198;
    CONNECT = 42, 203;
    SENDTO = 44, 206;
    SHUTDOWN = 48, 210;
    BIND = 49, 200;
    LISTEN = 50, 201;
    GETSOCKNAME = 51, 204;
    SETSOCKOPT = 54, 208;
    FCNTL = 72, 25;
    CLOCK_GETTIME = 228, 113;
    PPOLL = 271, 73;
    ACCEPT4 = 288, 242;
    GETRANDOM = 318, 278;
}

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: usize = 1;
const SOCK_DGRAM: usize = 2;
const SOCK_SEQPACKET: usize = 5;
const SO_REUSEADDR: usize = 2;
const SO_SNDTIMEO: usize = 21;
const IPPROTO_TCP: usize = 6;
const TCP_NODELAY: usize = 1;
const IPPROTO_IPV6: usize = 41;
const IPV6_V6ONLY: usize = 26;
const SHUT_WR: usize = 1;
const SHUT_RDWR: usize = 2;
const F_SETFL: i32 = 4;
const CLOCK_BOOTTIME: usize = 7;

pub(crate) const POLLIN: i16 = 1;
pub(crate) const POLLOUT: i16 = 4;

/// Connections that wait at a listener to be taken.
const BACKLOG: usize = 64;
/// An address of any family, of which the path of a Unix socket is the longest.
const LONGEST: usize = 110;
/// The longest path of a Unix socket, without its zero.
pub(crate) const LONGEST_PATH: usize = 107;

/// An address as the kernel has it.
pub(crate) struct Address {
    bytes: [u8; LONGEST],
    length: u32,
}

impl Address {
    fn of(parts: &[&[u8]], length: usize) -> Self {
        let mut address = Self { bytes: [0; LONGEST], length: length as u32 };
        let bytes = parts.iter().flat_map(|part| part.iter());
        address.bytes.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        address
    }

    pub(crate) fn internet(address: SocketAddr) -> Self {
        let port = address.port().to_be_bytes();
        match address.ip() {
            IpAddr::V4(ip) => Self::of(&[&AF_INET.to_ne_bytes(), &port, &ip.octets()], 16),
            IpAddr::V6(ip) => {
                Self::of(&[&AF_INET6.to_ne_bytes(), &port, &[0; 4], &ip.octets()], 28)
            }
        }
    }

    pub(crate) fn unix(path: &CStr) -> Result<Self, Errno> {
        let path = path.to_bytes_with_nul();
        if path.len() > LONGEST_PATH + 1 {
            return Err(ENAMETOOLONG);
        }
        Ok(Self::of(&[&AF_UNIX.to_ne_bytes(), path], 2 + path.len()))
    }

    /// Of a Unix socket that has a name and no file. It is whole: no zero is behind it.
    pub(crate) fn without_file(name: &CStr) -> Result<Self, Errno> {
        let name = name.to_bytes();
        if name.len() > LONGEST_PATH {
            return Err(ENAMETOOLONG);
        }
        Ok(Self::of(&[&AF_UNIX.to_ne_bytes(), &[0], name], 3 + name.len()))
    }

    fn family(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[0], self.bytes[1]])
    }

    /// Address and port, where it has these. A mapped one is shown as what it was.
    pub(crate) fn socket(&self) -> Option<SocketAddr> {
        let port = u16::from_be_bytes([self.bytes[2], self.bytes[3]]);
        let ip = match self.family() {
            AF_INET => IpAddr::from(Ipv4Addr::from(*self.bytes[4..].first_chunk::<4>()?)),
            AF_INET6 => {
                IpAddr::from(Ipv6Addr::from(*self.bytes[8..].first_chunk::<16>()?)).to_canonical()
            }
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }
}

fn socket(family: u16, kind: usize) -> Result<Fd, Errno> {
    plain(SOCKET, [family.into(), kind | word(O_CLOEXEC), 0, 0, 0]).map(|fd| fd as Fd)
}

/// A socket of an address's family: of a stream, or of datagrams.
pub(crate) fn stream(address: &Address) -> Result<Fd, Errno> {
    socket(address.family(), SOCK_STREAM)
}

pub(crate) fn datagrams(address: &Address) -> Result<Fd, Errno> {
    socket(address.family(), SOCK_DGRAM)
}

/// A socket whose messages stay whole.
pub(crate) fn packets(address: &Address) -> Result<Fd, Errno> {
    socket(address.family(), SOCK_SEQPACKET)
}

/// Connects, waiting for as long as [`limit_waiting`] lets it.
pub(crate) fn connect(fd: Fd, address: &Address) -> Result<(), Errno> {
    let (start, length) = (address.bytes.as_ptr() as usize, address.length as usize);
    // SAFETY: the address outlives the call and its length is given.
    unsafe { call(CONNECT, [word(fd), start, length, 0, 0]) }.map(drop)
}

pub(crate) fn bind(fd: Fd, address: &Address) -> Result<(), Errno> {
    let (start, length) = (address.bytes.as_ptr() as usize, address.length as usize);
    // SAFETY: the address outlives the call and its length is given.
    unsafe { call(BIND, [word(fd), start, length, 0, 0]) }.map(drop)
}

pub(crate) fn listen(fd: Fd) -> Result<(), Errno> {
    plain(LISTEN, [word(fd), BACKLOG, 0, 0, 0]).map(drop)
}

/// What a socket is bound to.
pub(crate) fn local_address(fd: Fd) -> Result<Address, Errno> {
    let mut address = Address { bytes: [0; LONGEST], length: LONGEST as u32 };
    let (start, length) = (address.bytes.as_mut_ptr() as usize, &raw mut address.length as usize);
    // SAFETY: address and length outlive the call, and the length is that of the address.
    unsafe { call(GETSOCKNAME, [word(fd), start, length, 0, 0]) }?;
    Ok(address)
}

/// Takes a connection, and says from whom.
pub(crate) fn accept(fd: Fd) -> Result<(Fd, Address), Errno> {
    let mut address = Address { bytes: [0; LONGEST], length: LONGEST as u32 };
    let (start, length) = (address.bytes.as_mut_ptr() as usize, &raw mut address.length as usize);
    // SAFETY: address and length outlive the call, and the length is that of the address.
    let taken = unsafe { call(ACCEPT4, [word(fd), start, length, word(O_CLOEXEC), 0]) }?;
    Ok((taken as Fd, address))
}

fn set_option<T>(fd: Fd, level: usize, option: usize, value: &T) -> Result<(), Errno> {
    let start = core::ptr::from_ref(value) as usize;
    // SAFETY: the value outlives the call and its size is given.
    unsafe { call(SETSOCKOPT, [word(fd), level, option, start, size_of::<T>()]) }.map(drop)
}

/// Lets an address be listened at again at once.
pub(crate) fn reuse_address(fd: Fd) -> Result<(), Errno> {
    set_option(fd, SOL_SOCKET as usize, SO_REUSEADDR, &1_i32)
}

/// Has a socket of the newer protocol take connections of the older one too.
pub(crate) fn take_both(fd: Fd) -> Result<(), Errno> {
    set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, &0_i32)
}

/// Has small pieces sent at once. Other sockets than those of TCP do so anyway.
pub(crate) fn send_at_once(fd: Fd) {
    let _set = set_option(fd, IPPROTO_TCP, TCP_NODELAY, &1_i32);
}

/// Bounds how long connecting may take.
pub(crate) fn limit_waiting(fd: Fd, seconds: i64) -> Result<(), Errno> {
    set_option(fd, SOL_SOCKET as usize, SO_SNDTIMEO, &[seconds, 0])
}

/// Sends what there is room for.
pub(crate) fn send_some(fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
    let (start, length) = (bytes.as_ptr() as usize, bytes.len());
    // SAFETY: the buffer outlives the call and its length is given.
    unsafe { call(SENDTO, [word(fd), start, length, word(MSG_NOSIGNAL), 0]) }
}

/// Nothing more will be sent.
pub(crate) fn end_sending(fd: Fd) {
    let _ended = plain(SHUTDOWN, [word(fd), SHUT_WR, 0, 0, 0]);
}

/// Ends a listener for everybody who holds it.
pub(crate) fn end_listening(fd: Fd) {
    let _ended = plain(SHUTDOWN, [word(fd), SHUT_RDWR, 0, 0, 0]);
}

pub(crate) fn set_nonblocking(fd: Fd) -> Result<(), Errno> {
    plain(FCNTL, [word(fd), word(F_SETFL), word(O_NONBLOCK), 0, 0]).map(drop)
}

/// A descriptor that is waited for; a negative one is not.
#[repr(C)]
pub(crate) struct Polled {
    fd: Fd,
    events: i16,
    happened: i16,
}

impl Polled {
    pub(crate) fn new(fd: Fd, events: i16) -> Self {
        Self { fd, events, happened: 0 }
    }

    /// One of which nothing is to be known.
    pub(crate) fn nothing() -> Self {
        Self::new(-1, 0)
    }

    /// Whether what was waited for happened, or its other side is gone.
    pub(crate) fn happened(&self) -> bool {
        self.happened != 0
    }
}

/// Waits until something happens, or for so many milliseconds.
#[unsafe(link_section = ".waiting")]
pub(crate) fn wait(polled: &mut [Polled], limit: Option<u64>) {
    let limit = limit.map(|limit| [limit / 1000, limit % 1000 * 1_000_000]);
    let timeout = limit.as_ref().map_or(0, |limit| limit.as_ptr() as usize);
    // SAFETY: the array and the time outlive the call, and the array's length is given.
    let _ready =
        unsafe { call(PPOLL, [polled.as_mut_ptr() as usize, polled.len(), timeout, 0, 0]) };
}

/// A clock that only goes forward, in milliseconds.
pub(crate) fn now() -> u64 {
    let mut now = [0_u64; 2];
    // SAFETY: the time outlives the call.
    let _read =
        unsafe { call(CLOCK_GETTIME, [CLOCK_BOOTTIME, now.as_mut_ptr() as usize, 0, 0, 0]) };
    now[0] * 1000 + now[1] / 1_000_000
}

/// Bytes that nobody can guess.
pub(crate) fn random() -> Result<[u8; 4], Errno> {
    let mut bytes = [0; 4];
    // SAFETY: the buffer outlives the call and its length is given.
    unsafe { call(GETRANDOM, [bytes.as_mut_ptr() as usize, bytes.len(), 0, 0, 0]) }?;
    Ok(bytes)
}
