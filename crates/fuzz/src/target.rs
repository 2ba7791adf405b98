//! What a target is, and the table of all.

use crate::seeds;
use crate::targets::config;
use crate::targets::files;
use crate::targets::inside;
use crate::targets::records;
use crate::targets::wire;

/// A decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its directory in the corpus.
    pub name: &'static str,
    /// Runs it; a panic is a finding.
    pub run: fn(&[u8]),
    /// What the encoders make, by name.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
    /// Words that its inputs are made of.
    pub words: &'static [&'static str],
    /// The longest input that is tried.
    pub longest: usize,
    /// What a run may allocate, over all of it, whatever its input.
    pub memory: usize,
}

const fn target(
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
    words: &'static [&'static str],
) -> Target {
    Target { name, run, seeds, words, longest: 16 << 10, memory: 4 << 20 }
}

impl Target {
    const fn longest(self, longest: usize) -> Self {
        Self { longest, ..self }
    }

    const fn memory(self, memory: usize) -> Self {
        Self { memory, ..self }
    }

    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

const JSON: &[&str] = &[
    "null",
    "true",
    "[]",
    "{}",
    "{",
    "}",
    "[[[[[[[[",
    "\"\"",
    "\\u0000",
    "\\ud800",
    "-1",
    "1e308",
    "18446744073709551616",
    "0.1",
    "\"type\":",
    ",",
    ":",
    "\u{202e}",
];

const CAST: &[&str] = &[
    "[0.0, \"o\", \"",
    "\"r\"",
    "\"m\"",
    "\"e\"",
    "\\u001b[",
    "\\u001b]0;",
    "\\u009b",
    "1e300",
    "-1",
    "1000x1000",
    "0x0",
    "\"]\n",
    "\\u001b[?1049h",
    "\\u001b[2J",
    "999999999",
    "[?1;2c",
];

const TERMINAL: &[&str] = &[
    "\x1b[",
    "\x1b]",
    "\x1bP",
    "\x1b\\",
    "\x07",
    "\u{9b}",
    "\u{9d}",
    "\x1b[6n",
    "\x1b[c",
    "\x18",
    "\x1b[200~",
    "\r",
    "\n",
    "\x03",
    "\x7f",
    "\t",
    "\x1b[A",
    "\u{1f980}",
    "\u{202e}",
    "\x1b[3J",
];

const TAR: &[&str] = &[
    "ustar\u{0}00",
    "../",
    "/",
    "./",
    ".wh.",
    ".wh..wh..opq",
    "28 path=",
    "linkpath=",
    "size=",
    "x",
    "L",
    "K",
    "1",
    "2",
    "5",
    "manifest.json",
    "index.json",
    "blobs/sha256/",
    "0000777",
    "7777777",
];

const CONFIG: &[&str] = &[
    "[limits]\n",
    "[[ssh]]\n",
    "[profiles.a]\n",
    "[web]\n",
    "\"1h\"",
    "\"0\"",
    "\"100MB\"",
    "= -1\n",
    "= []\n",
    "= {}\n",
    "true",
    "\"\"\"",
    "'''",
    "mode = \"honeypot\"\n",
    "egress = [\"",
    "/",
];

/// All of them.
pub static TARGETS: &[Target] = &[
    target("relay_from_runner", wire::relay_from_runner, seeds::wire::from_runner, JSON),
    target("relay_to_runner", wire::relay_to_runner, seeds::wire::to_runner, JSON),
    target("relay_bytes", wire::relay_bytes, seeds::wire::relay_bytes, &[]),
    target("shim_frames", wire::shim_frames, seeds::wire::shim_frames, JSON),
    target("runner_messages", wire::runner_messages, seeds::wire::runner_messages, JSON),
    target("shim_control", wire::shim_control, seeds::wire::shim_control, JSON),
    target("helper_answers", wire::helper_answers, seeds::wire::helper_answers, &[]),
    target("helper_requests", inside::helper_requests, seeds::wire::helper_requests, &[]),
    target("init_events", inside::init_events, seeds::wire::init_events, &[]),
    target("name_answers", inside::name_answers, seeds::wire::name_answers, &[]),
    target("audit_log", records::audit_log, seeds::records::audit_log, JSON).memory(16 << 20),
    target("recording", records::recording, seeds::records::recording, CAST).memory(24 << 20),
    target("snapshot", records::snapshot, seeds::records::recording, CAST).memory(512 << 20),
    target("sidecar", records::sidecar, seeds::records::sidecar, JSON),
    target("terminal_text", records::terminal_text, seeds::records::terminal, TERMINAL),
    target("command_lines", records::command_lines, seeds::records::terminal, TERMINAL),
    target("proxy_header", sojourn_ssh::fuzz::proxy_header, seeds::doors::proxy, &["PROXY "]),
    target("client_hello", sojourn_ssh::fuzz::client_hello, seeds::doors::hello, &["SSH-2.0-"])
        .longest(48 << 10)
        .memory(64 << 20),
    target("user_name", sojourn_ssh::fuzz::user_name, seeds::doors::names, &["+", "@", "+@", ":"]),
    target("certificate", sojourn_ssh::fuzz::certificate, seeds::doors::certificates, &[]),
    target("sftp", sojourn_ssh::fuzz::sftp, seeds::doors::sftp, &["posix-rename@openssh.com"]),
    target("scp", sojourn_ssh::fuzz::scp, seeds::doors::scp, &["scp -t ", "[!a-z]", "*", "C0644 "]),
    target("public_key", config::public_key, seeds::doors::keys, &["ssh-rsa ", "ssh-ed25519 "]),
    target("browser_frame", sojourn_web::fuzz::browser_frame, seeds::doors::frames, JSON),
    target("body", sojourn_web::fuzz::body, seeds::doors::bodies, JSON),
    target("query", sojourn_web::fuzz::query, seeds::doors::queries, &["%00", "&", "=", "+"]),
    target(
        "headers",
        sojourn_web::fuzz::headers,
        seeds::doors::headers,
        &["__Host-sojourn=", "for=", "\"[::1]:1\""],
    ),
    target("agent_output", sojourn_runner::fuzz::agent_output, seeds::doors::agent, JSON)
        .longest(96 << 10)
        .memory(64 << 20),
    target("spool", files::spool, seeds::wire::spool, JSON).memory(16 << 20),
    target("config", config::config, seeds::config, CONFIG).memory(24 << 20),
    target(
        "small_texts",
        config::small_texts,
        seeds::small_texts,
        &["1h", "MB", "/32", "99999999999999999999"],
    ),
    target("image_layer", sojourn_sandbox::fuzz::image_layer, seeds::images::layers, TAR)
        .memory(16 << 20),
    target("image_archive", sojourn_sandbox::fuzz::image_archive, seeds::images::archives, TAR)
        .longest(64 << 10)
        .memory(32 << 20),
    target(
        "left_names",
        sojourn_sandbox::fuzz::left_names,
        seeds::images::names,
        &["\\", "\u{202e}"],
    ),
    target("left_tar", sojourn_sandbox::fuzz::left_tar, seeds::images::left, &["/", "\u{0}"])
        .memory(16 << 20),
];
