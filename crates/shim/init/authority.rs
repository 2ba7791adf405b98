//! What a file says of how programs prove themselves to a display: the format of `xauth`, which an
//! image need not have.

use crate::endpoint::LONGEST_COOKIE;
use crate::text::Text;

/// The longest name of a host.
pub(crate) const LONGEST_HOST: usize = 64;

const METHOD: &[u8] = b"MIT-MAGIC-COOKIE-1";

/// Whose display it is: that of the host of this name, or anybody's. Libraries look for the first,
/// some of them for nothing else; the second holds when the name changes.
const LOCAL: u16 = 256;
const ANY: u16 = 0xffff;

/// An entry's kind of address and four lengths, and the digits of a number.
const FIXED: usize = 2 * 5 + 5;
const LONGEST_ENTRY: usize = FIXED + LONGEST_HOST + METHOD.len() + LONGEST_COOKIE;

/// A whole file.
pub(crate) type Authority = Text<{ 2 * LONGEST_ENTRY }>;

/// The entries of a display on this host.
pub(crate) fn entries(host: &[u8], display: u16, cookie: &[u8]) -> Authority {
    let mut number = Text::<5>::new(b"");
    number.number(display.into(), 10);
    let mut all = Authority::new(b"");
    for (kind, address) in [(LOCAL, host), (ANY, &b""[..])] {
        all.push(&kind.to_be_bytes());
        for field in [address, number.as_bytes(), METHOD, cookie] {
            all.push(&(field.len() as u16).to_be_bytes());
            all.push(field);
        }
    }
    all
}
