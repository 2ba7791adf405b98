//! Where a file has data: a hole of a terabyte takes no room, and no time to read.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// The most stretches of data in one file that are told apart.
const MOST: usize = 16 << 10;

/// A stretch of data: offset and length.
pub(super) type Extent = (u64, u64);

/// A file's stretches of data, in order. None: there are too many to be of use.
pub(super) fn extents(
    file: impl AsFd,
    size: u64,
    allocated: u64,
) -> io::Result<Option<Vec<Extent>>> {
    if size == 0 || allocated >= size {
        return Ok(Some(if size == 0 { Vec::new() } else { vec![(0, size)] }));
    }
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(data) if data < size => data,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = rustix::fs::seek(&file, SeekFrom::Hole(data))?.min(size);
        if hole <= data {
            break;
        }
        if found.len() == MOST {
            return Ok(None);
        }
        found.push((data, hole - data));
        at = hole;
    }
    Ok(Some(found))
}

/// How many bytes of data there are.
pub(super) fn total(extents: &[Extent]) -> u64 {
    extents.iter().fold(0, |sum, (_, length)| sum.saturating_add(*length))
}
