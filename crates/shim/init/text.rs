//! Short texts put together without a heap.

use core::ffi::CStr;

/// A text of at most `N` bytes; what does not fit is left out.
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    pub(crate) fn new(start: &[u8]) -> Self {
        let mut text = Self { bytes: [0; N], length: 0 };
        text.push(start);
        text
    }

    pub(crate) fn push(&mut self, more: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        room.iter_mut().zip(more).for_each(|(to, from)| *to = *from);
        self.length += room.len().min(more.len());
    }

    /// Appends a number in a base of at most 16.
    pub(crate) fn number(&mut self, number: u32, base: u32) {
        let mut digits = [0; 32];
        let (mut rest, mut first) = (number, digits.len());
        for (index, place) in digits.iter_mut().enumerate().rev() {
            let digit = rest.checked_rem(base).unwrap_or(0) as u8;
            *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
            first = index;
            rest = rest.checked_div(base).unwrap_or(0);
            if rest == 0 {
                break;
            }
        }
        self.push(digits.get(first..).unwrap_or_default());
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// With a zero behind it, if there was room and none in it.
    pub(crate) fn as_c_str(&mut self) -> Option<&CStr> {
        *self.bytes.get_mut(self.length)? = 0;
        CStr::from_bytes_with_nul(self.bytes.get(..=self.length)?).ok()
    }
}
