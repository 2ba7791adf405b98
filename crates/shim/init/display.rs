//! A display inside whose X server is elsewhere: the socket that X programs connect to, and the file
//! from which they learn how to prove themselves.

use core::ffi::CStr;

use crate::authority;
use crate::authority::LONGEST_HOST;
use crate::kernel;
use crate::kernel::Errno;
use crate::kernel::Fd;
use crate::kernel::files;
use crate::kernel::files::Identity;
use crate::kernel::files::Which;
use crate::kernel::sockets;
use crate::kernel::sockets::Address;
use crate::listeners::File;
use crate::listeners::Path;
use crate::listeners::listen_in_file;
use crate::listeners::remove_made;

/// The first number, as OpenSSH's server has it: those before are for X servers that run here.
const FIRST: u16 = 10;
/// How many are tried.
const MOST: u16 = 64;

/// Of the directory that all displays of a machine are in, as X servers make it.
const DIRECTORY: u32 = 0o1777;
/// Of the file with the cookie.
const PRIVATE: u32 = 0o600;
/// To write, and made here: no link is followed.
const NEW: u32 = 0o1 | 0o100 | 0o200;

pub(crate) struct Display {
    number: u16,
    /// The socket's file, and whether its directory was made too.
    socket: Identity,
    in_own: bool,
    authority: Identity,
    /// Holds the name without a file that libraries try first, so that nobody else has it.
    name: Fd,
}

impl Display {
    /// Listens under the first number that is free.
    pub(crate) fn open(cookie: &[u8]) -> Result<(Fd, Self), Errno> {
        let mut outcome = Err(kernel::EADDRINUSE);
        for number in FIRST..FIRST + MOST {
            outcome = Self::open_as(number, cookie);
            if !matches!(outcome, Err(kernel::EADDRINUSE | kernel::EEXIST)) {
                break;
            }
        }
        outcome
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    fn open_as(number: u16, cookie: &[u8]) -> Result<(Fd, Self), Errno> {
        let mut path = socket_path(number);
        let path = path.as_c_str().ok_or(kernel::EINVAL)?;
        let name = hold(path)?;
        let opened = listen_in_file(path, DIRECTORY).and_then(|(fd, file)| {
            match write_authority(number, cookie) {
                Ok(authority) => {
                    let File { made: socket, in_own, .. } = file;
                    Ok((fd, Self { number, socket, in_own, authority, name }))
                }
                Err(errno) => {
                    kernel::close(fd);
                    file.remove();
                    Err(errno)
                }
            }
        });
        if opened.is_err() {
            kernel::close(name);
        }
        opened
    }

    /// Removes what was made for it.
    pub(crate) fn remove(self) {
        kernel::close(self.name);
        remove_made(&mut authority_path(self.number), self.authority);
        let path = socket_path(self.number);
        File { path, made: self.socket, in_own: self.in_own }.remove();
    }
}

fn socket_path(number: u16) -> Path {
    let mut path = Path::new(b"/tmp/.X11-unix/X");
    path.number(number.into(), 10);
    path
}

/// As `authority` of `crates/core/src/wire/shim/forward.rs` has it.
fn authority_path(number: u16) -> Path {
    let mut path = Path::new(b"/tmp/.X");
    path.number(number.into(), 10);
    path.push(b"-authority");
    path
}

/// Has a socket's name without listening: who connects to it is refused, and then tries the file.
fn hold(path: &CStr) -> Result<Fd, Errno> {
    let address = Address::without_file(path)?;
    let fd = sockets::stream(&address)?;
    match sockets::bind(fd, &address) {
        Ok(()) => Ok(fd),
        Err(errno) => {
            kernel::close(fd);
            Err(errno)
        }
    }
}

fn write_authority(number: u16, cookie: &[u8]) -> Result<Identity, Errno> {
    let mut path = authority_path(number);
    let path = path.as_c_str().ok_or(kernel::EINVAL)?;
    // With the line feed behind it.
    let mut host = [0; LONGEST_HOST + 1];
    let length = kernel::read_file(c"/proc/sys/kernel/hostname", &mut host).unwrap_or(0);
    let host = host.get(..length).unwrap_or_default().trim_ascii_end();
    let entries = authority::entries(host, number, cookie);
    let fd = files::open(path, NEW, PRIVATE)?;
    let written = kernel::write_all(fd, entries.as_bytes())
        .and_then(|()| files::stat(Which::Open(fd), false));
    kernel::close(fd);
    written.map(|made| made.identity()).inspect_err(|_| {
        let _gone = files::remove(path, false);
    })
}
