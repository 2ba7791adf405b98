//! What is listened for inside. The sockets are held by `init` itself, so that no connection is lost
//! between two helpers that take one.

use core::ffi::CStr;
use core::net::IpAddr;
use core::net::Ipv4Addr;
use core::net::Ipv6Addr;
use core::net::SocketAddr;

use crate::display::Display;
use crate::endpoint::Endpoint;
use crate::endpoint::literal;
use crate::kernel;
use crate::kernel::Errno;
use crate::kernel::Fd;
use crate::kernel::files;
use crate::kernel::files::Identity;
use crate::kernel::files::Which;
use crate::kernel::sockets;
use crate::kernel::sockets::Address;
use crate::kernel::sockets::LONGEST_PATH;
use crate::text::Text;

pub(crate) const MAX_LISTENERS: usize = 8;

/// What files are made with otherwise, and what a socket is.
const UMASK: usize = 0o022;
const PRIVATE: usize = 0o177;
/// Of a directory that is made for a socket.
const OWN_DIRECTORY: u32 = 0o700;

struct Listener {
    number: u16,
    fd: Fd,
    trace: Trace,
}

/// What a listener has besides its descriptor.
enum Trace {
    Nothing,
    File(File),
    Display(Display),
}

/// A socket's file.
pub(crate) struct File {
    pub(crate) path: Path,
    /// What was made there.
    pub(crate) made: Identity,
    /// Whether its directory was made too.
    pub(crate) in_own: bool,
}

pub(crate) type Path = Text<{ LONGEST_PATH + 1 }>;

pub(crate) struct Listeners([Option<Listener>; MAX_LISTENERS]);

impl Listeners {
    pub(crate) fn new() -> Self {
        Self([const { None }; MAX_LISTENERS])
    }

    /// Listens, and gives the port; of a display, its number.
    pub(crate) fn add(&mut self, number: u16, endpoint: &Endpoint<'_>) -> Result<u16, Errno> {
        if self.find(number).is_some() {
            return Err(kernel::EEXIST);
        }
        let place = self.0.iter_mut().find(|place| place.is_none()).ok_or(kernel::EMFILE)?;
        let (fd, port, trace) = match endpoint {
            Endpoint::Tcp { host, port } => {
                let fd = listen_at(host, *port)?;
                let address = sockets::local_address(fd).ok().and_then(|address| address.socket());
                (fd, address.map_or(0, |address| address.port()), Trace::Nothing)
            }
            Endpoint::Unix(path) => {
                let (fd, file) = listen_in_file(path, OWN_DIRECTORY)?;
                (fd, 0, Trace::File(file))
            }
            Endpoint::Display(cookie) => {
                let (fd, display) = Display::open(cookie)?;
                (fd, display.number(), Trace::Display(display))
            }
        };
        *place = Some(Listener { number, fd, trace });
        Ok(port)
    }

    pub(crate) fn find(&self, number: u16) -> Option<Fd> {
        self.0.iter().flatten().find(|listener| listener.number == number).map(|l| l.fd)
    }

    /// Listens no more; those who wait for a connection are told.
    pub(crate) fn remove(&mut self, number: u16) {
        let is_it = |place: &&mut Option<Listener>| {
            place.as_ref().is_some_and(|listener| listener.number == number)
        };
        let Some(listener) = self.0.iter_mut().find(is_it).and_then(Option::take) else { return };
        sockets::end_listening(listener.fd);
        kernel::close(listener.fd);
        match listener.trace {
            Trace::Nothing => {}
            Trace::File(file) => file.remove(),
            Trace::Display(display) => display.remove(),
        }
    }
}

fn listen_at(host: &[u8], port: u16) -> Result<Fd, Errno> {
    let address = match host {
        b"" | b"*" => {
            let every = |ip| Address::internet(SocketAddr::new(ip, port));
            let newer = open(&every(Ipv6Addr::UNSPECIFIED.into()), true);
            return newer.or_else(|_| open(&every(Ipv4Addr::UNSPECIFIED.into()), false));
        }
        _ if host.eq_ignore_ascii_case(b"localhost") => IpAddr::from(Ipv4Addr::LOCALHOST),
        _ => literal(host).ok_or(kernel::EADDRNOTAVAIL)?,
    };
    open(&Address::internet(SocketAddr::new(address, port)), false)
}

/// A socket that listens; `both`: for the older protocol too.
fn open(address: &Address, both: bool) -> Result<Fd, Errno> {
    let fd = sockets::stream(address)?;
    let listens = if both { sockets::take_both(fd) } else { Ok(()) }
        .and_then(|()| sockets::reuse_address(fd))
        .and_then(|()| sockets::bind(fd, address))
        .and_then(|()| sockets::listen(fd))
        .and_then(|()| sockets::set_nonblocking(fd));
    match listens {
        Ok(()) => Ok(fd),
        Err(errno) => {
            kernel::close(fd);
            Err(errno)
        }
    }
}

/// A socket that listens at a path, which only its owner may connect to. A directory that is not
/// there is made, of this mode.
pub(crate) fn listen_in_file(path: &CStr, mode: u32) -> Result<(Fd, File), Errno> {
    let address = Address::unix(path)?;
    let mut in_own = false;
    kernel::umask(PRIVATE);
    let mut opened = open(&address, false);
    if opened == Err(kernel::ENOENT)
        && let Some(mut directory) = directory_of(path.to_bytes())
        && let Some(directory) = directory.as_c_str()
    {
        kernel::umask(0);
        in_own = files::make_directory(directory, mode).is_ok();
        kernel::umask(PRIVATE);
        opened = open(&address, false);
    }
    kernel::umask(UMASK);
    let listens = opened.and_then(|fd| match files::stat(Which::Path(path), false) {
        Ok(made) => {
            Ok((fd, File { path: Path::new(path.to_bytes()), made: made.identity(), in_own }))
        }
        Err(errno) => {
            kernel::close(fd);
            Err(errno)
        }
    });
    if listens.is_err() && in_own {
        remove_directory_of(path.to_bytes());
    }
    listens
}

fn directory_of(path: &[u8]) -> Option<Path> {
    let slash = path.iter().rposition(|byte| *byte == b'/').filter(|slash| *slash > 0)?;
    Some(Path::new(path.get(..slash)?))
}

/// Removes what was made for a socket, unless somebody put something there.
fn remove_directory_of(path: &[u8]) {
    if let Some(mut directory) = directory_of(path)
        && let Some(directory) = directory.as_c_str()
    {
        let _gone = files::remove(directory, true);
    }
}

impl File {
    /// Removes it, unless something else is there by now, and the directory that was made for it.
    pub(crate) fn remove(mut self) {
        remove_made(&mut self.path, self.made);
        if self.in_own {
            remove_directory_of(self.path.as_bytes());
        }
    }
}

/// Removes what was made at a path, unless something else is there by now.
pub(crate) fn remove_made(path: &mut Path, made: Identity) {
    let Some(path) = path.as_c_str() else { return };
    if files::stat(Which::Path(path), false).is_ok_and(|found| found.identity() == made) {
        let _gone = files::remove(path, false);
    }
}
