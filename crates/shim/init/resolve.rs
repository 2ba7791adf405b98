//! From names to addresses, inside the sandbox: addresses themselves, `localhost`, `/etc/hosts`, and
//! the name servers of `/etc/resolv.conf`. Done by the child that connects, which may wait.

use core::ffi::CStr;
use core::net::IpAddr;
use core::net::Ipv4Addr;
use core::net::Ipv6Addr;
use core::net::SocketAddr;

use crate::dns::Kind;
use crate::dns::MAX_MESSAGE;
use crate::dns::Question;
use crate::endpoint::literal;
use crate::kernel;
use crate::kernel::Fd;
use crate::kernel::sockets;
use crate::kernel::sockets::Address;
use crate::kernel::sockets::Polled;

/// Addresses of one name that are kept.
const MAX_ADDRESSES: usize = 4;
/// Of these so many of the older protocol, so that there is room for the newer.
const MAX_OLDER: usize = 2;
const MAX_SERVERS: usize = 3;
/// How often every server is asked, and how long each time, in milliseconds.
const TRIES: usize = 2;
const PATIENCE: u64 = 2000;
const NAME_SERVICE: u16 = 53;

/// The addresses of a name, in the order in which they are tried.
#[derive(Default)]
pub(crate) struct Addresses([Option<IpAddr>; MAX_ADDRESSES]);

impl Addresses {
    pub(crate) fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.0.iter().flatten().copied()
    }

    fn add(&mut self, address: IpAddr) {
        let older = self.iter().filter(IpAddr::is_ipv4).count();
        let is_known = self.iter().any(|known| known == address);
        if is_known || (address.is_ipv4() && older >= MAX_OLDER) {
            return;
        }
        if let Some(place) = self.0.iter_mut().find(|place| place.is_none()) {
            *place = Some(address);
        }
    }

    fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// The addresses of a host; none when it has none.
pub(crate) fn resolve(host: &[u8], room: &mut [u8]) -> Addresses {
    let mut found = Addresses::default();
    if let Some(address) = literal(host) {
        found.add(address);
    } else if host.eq_ignore_ascii_case(b"localhost") {
        found.add(Ipv4Addr::LOCALHOST.into());
        found.add(Ipv6Addr::LOCALHOST.into());
    } else {
        look_in_hosts(host, room, &mut found);
        if found.is_empty() {
            ask_servers(host, room, &mut found);
        }
    }
    found
}

/// The words of each line of a file, without what follows a `#` or a `;`.
fn lines<'a>(
    path: &CStr,
    room: &'a mut [u8],
) -> impl Iterator<Item = impl Iterator<Item = &'a [u8]>> {
    let length = kernel::read_file(path, room).unwrap_or(0);
    let text = room.get(..length).unwrap_or_default();
    text.split(|byte| *byte == b'\n').map(|line| {
        let said = line.split(|byte| matches!(byte, b'#' | b';')).next().unwrap_or_default();
        said.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
    })
}

fn look_in_hosts(host: &[u8], room: &mut [u8], found: &mut Addresses) {
    for mut words in lines(c"/etc/hosts", room) {
        let address = words.next().and_then(literal);
        if let Some(address) = address
            && words.any(|name| name.eq_ignore_ascii_case(host))
        {
            found.add(address);
        }
    }
}

fn ask_servers(host: &[u8], room: &mut [u8], found: &mut Addresses) {
    let mut servers = [None; MAX_SERVERS];
    let named = lines(c"/etc/resolv.conf", room).filter_map(|mut words| match words.next() {
        Some(b"nameserver") => words.next().and_then(literal),
        _ => None,
    });
    servers.iter_mut().zip(named).for_each(|(place, server)| *place = Some(server));
    for _ in 0..TRIES {
        for server in servers.iter().flatten() {
            if let Some(()) = ask(*server, host, found) {
                return;
            }
        }
    }
}

/// Asks one server for both kinds of address; none when it has nothing to say in time.
fn ask(server: IpAddr, host: &[u8], found: &mut Addresses) -> Option<()> {
    let [a, b, c, d] = sockets::random().ok()?;
    let older = Question::new([a, b], host, Kind::A)?;
    let newer = Question::new([c, d], host, Kind::Aaaa)?;
    let address = Address::internet(SocketAddr::new(server, NAME_SERVICE));
    let socket = Socket(sockets::datagrams(&address).ok()?);
    sockets::connect(socket.0, &address).ok()?;
    sockets::set_nonblocking(socket.0).ok()?;
    sockets::send_some(socket.0, older.as_bytes()).ok()?;
    sockets::send_some(socket.0, newer.as_bytes()).ok()?;
    let until = sockets::now() + PATIENCE;
    // Of either kind, once it was answered.
    let mut answers: [Option<Addresses>; 2] = [None, None];
    let mut failed = false;
    while answers.iter().any(Option::is_none) {
        let Some(left) = until.checked_sub(sockets::now()).filter(|left| *left > 0) else { break };
        sockets::wait(&mut [Polled::new(socket.0, sockets::POLLIN)], Some(left));
        let mut message = [0; MAX_MESSAGE];
        let length = match kernel::read(socket.0, &mut message) {
            Ok(length) => length,
            Err(kernel::EAGAIN) => continue,
            // Nobody listens there.
            Err(_) => break,
        };
        let message = message.get(..length)?;
        for (place, question) in answers.iter_mut().zip([&older, &newer]) {
            if !question.is_answered_by(message) {
                continue;
            }
            let answer = place.get_or_insert_default();
            failed |= !question.addresses(message, |address| answer.add(address));
        }
    }
    let is_final = !failed && answers.iter().all(Option::is_some);
    answers.iter().flatten().flat_map(Addresses::iter).for_each(|address| found.add(address));
    (is_final || !found.is_empty()).then_some(())
}

/// A socket that is closed when this is dropped.
struct Socket(Fd);

impl Drop for Socket {
    fn drop(&mut self) {
        kernel::close(self.0);
    }
}
