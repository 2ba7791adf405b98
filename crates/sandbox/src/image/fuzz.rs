//! What fuzzers call of image archives.

use std::fs;
use std::fs::File;
use std::io::BufReader;
use std::time::Duration;

use sojourn_core::fuzz::Scratch;

use super::Bounds;
use super::Meter;
use super::Problem;
use super::archive::Archive;
use super::compress::Counted;
use super::compress::Plain;
use super::describe;
use super::layer;
use super::tar::Tar;
use super::tree::Tree;
use super::unpacker;

const BLOCK: usize = 512;
/// Where a header has its sum.
const SUM: std::ops::Range<usize> = 148..156;

const fn bounds() -> Bounds {
    Bounds { entries: 200, bytes: 1 << 20, ratio: 20, free: 1 << 20, time: Duration::from_secs(60) }
}

/// A layer over an empty directory, with the sums of its headers put right: nothing outside changes,
/// and no more is written than the bounds allow.
pub fn image_layer(data: &[u8]) {
    let scratch = Scratch::new();
    let _applied = inside(&scratch, |root| {
        let meter = Meter::new(&bounds(), data.len() as u64);
        let fixed = with_sums(data);
        let counted = Counted { source: Plain::of(&fixed[..])?, meter: &meter };
        layer::apply(&mut Tar::new(BufReader::new(counted)), &Tree::new(root.into()), &meter)
    });
}

/// A whole archive, in either of its forms.
pub fn image_archive(data: &[u8]) {
    let scratch = Scratch::new();
    let path = scratch.path().join("archive");
    let fixed = with_sums(data);
    fs::write(&path, &fixed).expect("a file in memory");
    let read = inside(&scratch, |root| {
        let meter = Meter::new(&bounds(), fixed.len() as u64);
        let archive = Archive::open(File::open(&path)?, &root, &meter)?;
        let image = describe::image(&archive)?;
        let meter = Meter::new(&bounds(), fixed.len() as u64);
        unpacker::fill(&archive, &image, &Tree::new(root.into()), &meter)?;
        Ok(image.digest)
    });
    if let Ok(digest) = read {
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}

/// Runs this in a directory beside a file that has to stay as it is.
fn inside<T>(
    scratch: &Scratch,
    run: impl FnOnce(File) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let (root, outside) = (scratch.path().join("root"), scratch.path().join("outside"));
    fs::create_dir(&root).expect("a directory in memory");
    fs::write(&outside, "untouched").expect("a file in memory");
    let before = names(scratch);
    let result = run(File::open(&root).expect("what was just made"));
    assert_eq!(fs::read(&outside).expect("it is there"), b"untouched");
    assert_eq!(names(scratch), before, "something was made outside");
    result
}

fn names(scratch: &Scratch) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(scratch.path()).expect("our own directory");
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

/// A tar whose headers have their right sums, so that changed ones are looked at.
#[must_use]
pub fn with_sums(data: &[u8]) -> Vec<u8> {
    let mut fixed = data.to_vec();
    for block in fixed.chunks_exact_mut(BLOCK) {
        if block.get(257..262) != Some(b"ustar") {
            continue;
        }
        let blank = block.iter().enumerate().map(|(at, byte)| match SUM.contains(&at) {
            true => u32::from(b' '),
            false => u32::from(*byte),
        });
        let sum = format!("{:06o}\0 ", blank.sum::<u32>());
        if let Some(field) = block.get_mut(SUM) {
            field.copy_from_slice(sum.as_bytes());
        }
    }
    fixed
}
