//! Network interfaces of the namespace this process is in.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use super::check;

/// Raises the loopback interface.
pub(crate) fn raise_loopback() -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    // SAFETY: a plain structure of numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes_with_nul()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: `request` outlives the call and is what this request takes.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(())
}

/// The IPv4 addresses of this machine's interfaces.
///
/// # Errors
/// The system's.
pub fn own_addresses() -> io::Result<Vec<Ipv4Addr>> {
    let mut first = std::ptr::null_mut();
    // SAFETY: the call makes a list, or fails.
    check(unsafe { libc::getifaddrs(&raw mut first) })?;
    let mut addresses = Vec::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: an entry of the list, which lives until it is freed below.
        let entry = unsafe { &*next };
        next = entry.ifa_next;
        let address = entry.ifa_addr;
        // SAFETY: every address begins with its family; one of IPv4 is a `sockaddr_in`.
        unsafe {
            if !address.is_null() && i32::from((*address).sa_family) == libc::AF_INET {
                let inet = address.cast::<libc::sockaddr_in>().read_unaligned();
                addresses.push(Ipv4Addr::from_bits(u32::from_be(inet.sin_addr.s_addr)));
            }
        }
    }
    // SAFETY: made above, used no more.
    unsafe { libc::freeifaddrs(first) };
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}
