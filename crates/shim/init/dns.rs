//! Questions to a name server and its answers (RFC 1035), as far as addresses go.

use core::net::IpAddr;
use core::net::Ipv4Addr;
use core::net::Ipv6Addr;

use super::input::Input;

/// The longest message without extensions.
pub(crate) const MAX_MESSAGE: usize = 512;
const HEADER: usize = 12;
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
const INTERNET: u16 = 1;
/// Recursion is desired.
const ASKS: u16 = 0x0100;
/// It is an answer, to a standard query; what remains of these must be zero: its kind, its failure.
const ANSWERS: u16 = 0x8000;
const KIND_AND_FAILURE: u16 = 0xf80f;
const NO_SUCH_NAME: u16 = 3;
const POINTER: u8 = 0xc0;

/// What is asked for: the kinds of records that hold addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    A = 1,
    Aaaa = 28,
}

/// A question: header, name, kind, class.
pub(crate) struct Question {
    bytes: [u8; HEADER + MAX_NAME + 2 + 4],
    length: usize,
    kind: Kind,
}

impl Question {
    /// None when the name cannot be one.
    pub(crate) fn new(id: [u8; 2], name: &[u8], kind: Kind) -> Option<Self> {
        let name = name.strip_suffix(b".").unwrap_or(name);
        if name.len() > MAX_NAME {
            return None;
        }
        let mut question = Self { bytes: [0; HEADER + MAX_NAME + 2 + 4], length: 0, kind };
        question.push(&id)?;
        for number in [ASKS, 1, 0, 0, 0] {
            question.push(&number.to_be_bytes())?;
        }
        for label in name.split(|byte| *byte == b'.') {
            if label.is_empty() || label.len() > MAX_LABEL || !label.iter().all(is_plain) {
                return None;
            }
            question.push(&[u8::try_from(label.len()).ok()?])?;
            question.push(label)?;
        }
        question.push(&[0])?;
        question.push(&(kind as u16).to_be_bytes())?;
        question.push(&INTERNET.to_be_bytes())?;
        Some(question)
    }

    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.length + bytes.len();
        self.bytes.get_mut(self.length..end)?.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Whether a message answers this very question.
    pub(crate) fn is_answered_by(&self, message: &[u8]) -> bool {
        let same_id = message.get(..2) == self.as_bytes().get(..2);
        let flags = message.get(2..4).and_then(|flags| flags.try_into().ok());
        let answers = flags.is_some_and(|flags| u16::from_be_bytes(flags) & ANSWERS != 0);
        let asked = self.as_bytes().get(HEADER..).unwrap_or_default();
        let repeated = message.get(HEADER..self.length).unwrap_or_default();
        same_id
            && answers
            && message.get(4..6) == Some(&[0, 1])
            && repeated.eq_ignore_ascii_case(asked)
    }

    /// Gives the addresses in a message that answers it, as far as it is whole. False: the server
    /// could not tell.
    pub(crate) fn addresses(&self, message: &[u8], mut give: impl FnMut(IpAddr)) -> bool {
        let mut header = Input(message.get(2..HEADER).unwrap_or_default());
        let failure = header.u16().map(|flags| flags & KIND_AND_FAILURE);
        if failure != Some(ANSWERS) {
            return failure == Some(ANSWERS | NO_SUCH_NAME);
        }
        let count = header.u32().map_or(0, |counts| counts & 0xffff);
        let mut rest = Input(message.get(self.length..).unwrap_or_default());
        for _ in 0..count {
            let Some((kind, data)) = record(&mut rest) else { break };
            if kind != self.kind as u16 {
                continue;
            }
            if let Ok(octets) = <[u8; 4]>::try_from(data) {
                give(Ipv4Addr::from(octets).into());
            } else if let Ok(octets) = <[u8; 16]>::try_from(data) {
                give(Ipv6Addr::from(octets).into());
            }
        }
        true
    }
}

/// Of a name that people use.
fn is_plain(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// The kind and the data of the next record. Whose it is, is not looked at: the server follows
/// aliases, and whoever can forge the one can forge the other.
fn record<'a>(rest: &mut Input<'a>) -> Option<(u16, &'a [u8])> {
    loop {
        match rest.u8()? {
            0 => break,
            length if length & POINTER == POINTER => {
                rest.u8()?;
                break;
            }
            length if length & POINTER == 0 => rest.take(length.into()).map(drop)?,
            _ => return None,
        }
    }
    let (kind, class, _lifetime) = (rest.u16()?, rest.u16()?, rest.u32()?);
    let length = rest.u16()?;
    let data = rest.take(length.into())?;
    Some((if class == INTERNET { kind } else { 0 }, data))
}
