//! What fuzzers call of what a sandbox left: whatever names a prisoner gives, the list shows them apart
//! and the tar has them as they are.

use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::Write;

use rustix::fs::MemfdFlags;
use sojourn_core::fuzz::parts;
use tar::EntryType;

use super::archive::Archive;
use super::archive::Meta;
use super::list;

/// What an entry may be called at most, here.
const LONGEST: usize = 4096;

const META: Meta = Meta { mode: 0o6755, uid: 0, gid: 0, mtime: 0 };

/// A name as the list shows it can be read back, so no two look the same; and it acts on no terminal.
pub fn left_names(data: &[u8]) {
    let shown = list::text(data);
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    assert_eq!(unescaped(&shown), data, "{shown:?}");
}

/// Reads back what the list shows.
fn unescaped(shown: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = shown;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        rest = escape.get(1..).unwrap_or_default();
        match escape.as_bytes().first() {
            Some(b'n') => bytes.push(b'\n'),
            Some(b'r') => bytes.push(b'\r'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'x') => {
                let (hex, after) = rest.split_at(2);
                bytes.push(u8::from_str_radix(hex, 16).expect("two digits"));
                rest = after;
            }
            Some(b'u') => {
                let (hex, after) = rest[1..].split_once('}').expect("an end");
                let char = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
                bytes.extend_from_slice(char.expect("a character").to_string().as_bytes());
                rest = after;
            }
            _ => bytes.push(b'\\'),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// A file, a link to it, a symbolic link and a directory: another program reads them as they were.
pub fn left_tar(data: &[u8]) {
    let [path, target, content] = parts::<3>(data);
    // What a walk of a directory gives: parts between slashes, without a zero in them. A line feed in a
    // long name is right by its length, which GNU tar reads by; the reader here reads by lines.
    let name = |bytes: &[u8]| -> Vec<u8> {
        let plain = bytes.iter().take(LONGEST).filter(|byte| !matches!(byte, 0 | b'\n'));
        let plain: Vec<u8> = plain.copied().collect();
        let plain = plain.split(|byte| *byte == b'/');
        let parts: Vec<&[u8]> = plain.filter(|p| !matches!(*p, b"" | b"." | b"..")).collect();
        parts.join(&b'/')
    };
    let (path, target) = (name(path), name(target));
    if path.is_empty() || target.is_empty() {
        return;
    }
    let Ok(file) = rustix::fs::memfd_create("left", MemfdFlags::CLOEXEC) else { return };
    let mut file = File::from(file);
    let mut tar = Archive::new(file.try_clone().expect("a second descriptor"), 1 << 20);
    let size = content.len() as u64;
    let done = tar
        .begin(&path, META, size, &[(0, size)])
        .and_then(|()| tar.data(content))
        .and_then(|()| tar.end())
        .and_then(|()| tar.link(&target, &path, META))
        .and_then(|()| tar.symlink(&path, &target, META))
        .and_then(|()| tar.directory(&path, META))
        .and_then(|()| tar.flush());
    done.expect("room for little");
    file.write_all(&[0; 1024]).expect("a file in memory");
    file.rewind().expect("a file in memory");
    let mut archive = tar::Archive::new(file);
    let wanted = [
        (EntryType::Regular, path.clone(), None),
        (EntryType::Link, target.clone(), Some(path.clone())),
        (EntryType::Symlink, path.clone(), Some(target)),
        (EntryType::Directory, [&path[..], b"/"].concat(), None),
    ];
    let mut entries = archive.entries().expect("a tar");
    for (kind, path, link) in wanted {
        let mut entry = entries.next().expect("an entry").expect("a whole entry");
        let header = entry.header();
        assert_eq!(header.entry_type(), kind);
        assert_eq!(header.mode().expect("a mode") & 0o6000, 0, "a set-user-id bit");
        assert_eq!(entry.path_bytes().as_ref(), path);
        let found = entry.link_name_bytes().map(|link| link.into_owned());
        assert_eq!(found, link);
        let mut read = Vec::new();
        entry.read_to_end(&mut read).expect("its data");
        assert_eq!(read, if kind == EntryType::Regular { content } else { &[] });
    }
    assert!(entries.next().is_none());
}
