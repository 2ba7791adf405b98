//! What the targets begin with: made by the real encoders where there are any.

pub mod doors;
pub mod images;
pub mod records;
pub mod wire;

/// Seeds by name.
pub(crate) type Seeds = Vec<(&'static str, Vec<u8>)>;

/// Configurations of a few keys; the corpus also has one of all, which need not be the newest.
#[must_use]
pub fn config() -> Seeds {
    let small = "data_dir = \"/x\"\n[limits]\nsession_timeout = \"90s\"\n[[ssh]]\nlisten = \
                 \"127.0.0.1:0\"\nproxy_protocol_from = [\"192.0.2.0/24\"]\n[profiles.tools]\n\
                 network = \"nat\"\negress = [\"example.com:443\", \"192.0.2.0/24\"]\n";
    vec![
        ("small", small.as_bytes().to_vec()),
        ("variable", b"LIMITS__IDLE_TIMEOUT\n5m".to_vec()),
        ("wrong", b"[web]\nlisten = \"localhost\"\npublic_url = \"ftp://x\"\n[nothing]\n".to_vec()),
    ]
}

/// Durations, sizes, ids, networks, destinations, times.
#[must_use]
pub fn small_texts() -> Seeds {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("span", text("1d2h3m4s5ms")),
        ("size", text("256 MB")),
        ("id", text("01932b5e-7c1a-7f00-8000-00003f2a91c0")),
        ("ending", text("3F2A-91c0")),
        ("network", text("2001:db8::/32")),
        ("destination", text("example.com:443")),
        ("time", text("2026-11-22T14:02:11.532Z")),
        ("file_name", text("20261122T140211Z")),
    ]
}
