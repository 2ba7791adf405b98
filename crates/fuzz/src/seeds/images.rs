//! Image archives and what a sandbox left.

use std::fmt::Write;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;
use sojourn_core::fuzz::joined;
use sojourn_sandbox::fuzz::with_sums;

use super::Seeds;

/// A tar, entry by entry, as no tool would write it.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, kind: u8, path: &str, link: &str, data: &[u8]) -> Self {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| {
            block.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
        };
        put(0, path.as_bytes());
        put(100, b"0000755\0");
        put(108, b"0001750\0");
        put(116, b"0001750\0");
        put(124, format!("{:011o}\0", data.len()).as_bytes());
        put(136, b"14000000000\0");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        self.0.extend(block);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(b'0', path, "", data)
    }

    fn done(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        with_sums(&self.0)
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn layer() -> Vec<u8> {
    Tar::default()
        .entry(b'5', "etc/", "", b"")
        .file("etc/motd", b"hello\n")
        .entry(b'2', "up", "../..", b"")
        .entry(b'1', "etc/again", "etc/motd", b"")
        .file("up/outside", b"changed")
        .file("etc/.wh.motd", b"")
        .file("etc/.wh..wh..opq", b"")
        .done()
}

/// Layers: with links that lead upwards and marks that hide, with long names, compressed.
#[must_use]
pub fn layers() -> Seeds {
    let record = b"27 path=a/../very/long/nam\n";
    let long = Tar::default()
        .entry(b'x', "pax", "", record)
        .file("short", b"x")
        .entry(b'L', "././@LongLink", "", b"another/long/name\0")
        .file("short", b"y")
        .entry(b'3', "dev/null", "", b"")
        .done();
    // Stored: what is compressed may come out otherwise with the next version.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    let compressed = gzip.write_all(&layer()).and_then(|()| gzip.finish());
    vec![("links", layer()), ("long", long), ("gzip", compressed.unwrap_or_default())]
}

/// Archives of both forms.
#[must_use]
pub fn archives() -> Seeds {
    let layer = layer();
    let hash = format!("sha256:{}", digest(&layer));
    let config = json!({ "os": "linux", "rootfs": { "type": "layers", "diff_ids": [hash] },
        "config": { "Env": ["PATH=/bin"] } })
    .to_string();
    let name = format!("{}.json", digest(config.as_bytes()));
    let manifest = json!([{ "Config": name, "Layers": ["one/layer.tar"] }]).to_string();
    let saved = Tar::default()
        .file("one/layer.tar", &layer)
        .entry(b'2', "two/layer.tar", "../one/layer.tar", b"")
        .file(&name, config.as_bytes())
        .file("manifest.json", manifest.as_bytes())
        .done();
    let descriptor = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len() });
    let manifest = json!({
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    })
    .to_string();
    let manifest = manifest.as_bytes();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let index = json!({ "manifests": [descriptor(kind, manifest)] }).to_string();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", digest(bytes));
    let oci = Tar::default()
        .file(&blob(&layer), &layer)
        .file(&blob(config.as_bytes()), config.as_bytes())
        .file(&blob(manifest), manifest)
        .file("index.json", index.as_bytes())
        .done();
    vec![("saved", saved), ("oci", oci)]
}

/// Names that are meant to deceive.
#[must_use]
pub fn names() -> Seeds {
    let odd = "a\\b\\x0a \u{202e}gpj.exe\u{200b}\u{9b}2J\t\r\n\x1b[2J".as_bytes();
    vec![("odd", odd.to_vec()), ("bytes", b"\xff\xfe\\xff\xc3".to_vec())]
}

/// A path, a target and a content.
#[must_use]
pub fn left() -> Seeds {
    let long = "d/".repeat(80) + "file";
    vec![
        ("plain", joined(&[b"root/a.txt", b"b", b"hello\n"])),
        ("long", joined(&[long.as_bytes(), long.as_bytes(), &[7; 600]])),
        ("bytes", joined(&[b"a\xff/\xfe", b"\x01\n", b""])),
    ]
}
