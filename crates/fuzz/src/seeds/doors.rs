//! What strangers send to the doors.

use sojourn_core::fuzz::joined;

use super::Seeds;

fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// Headers of a load balancer.
#[must_use]
pub fn proxy() -> Seeds {
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let four = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0, 22];
    let second = [&signature[..], &[0x21, 0x11, 0, 12], &four, b"SSH-2.0-x\r\n"].concat();
    let health = [&signature[..], &[0x20, 0, 0, 3], b"\x04\0\0"].concat();
    vec![
        ("first", text("PROXY TCP4 192.0.2.7 198.51.100.1 4711 22\r\nSSH-2.0-x\r\n")),
        ("first_six", text("PROXY TCP6 2001:db8::7 2001:db8::1 4711 22\r\n")),
        ("unknown", text("PROXY UNKNOWN\r\n")),
        ("second", second),
        ("health", health),
    ]
}

/// A version line and the first packet of a key exchange.
#[must_use]
pub fn hello() -> Seeds {
    let list = |names: &str| {
        let length = u32::try_from(names.len()).unwrap_or(0);
        [&length.to_be_bytes()[..], names.as_bytes()].concat()
    };
    let mut payload = vec![20];
    payload.extend([0x5a; 16]);
    for names in ["curve25519-sha256", "ssh-ed25519", "aes128-ctr", "aes128-ctr"] {
        payload.extend(list(names));
    }
    for names in ["hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""] {
        payload.extend(list(names));
    }
    payload.extend([0; 5]);
    let packet = |payload: &[u8]| {
        let padding = 4;
        let length = u32::try_from(1 + payload.len() + padding).unwrap_or(0);
        [&length.to_be_bytes()[..], &[4], payload, &[0; 4]].concat()
    };
    let ignored = packet(&[2, 0, 0, 0, 1, b'x']);
    let version = b"SSH-2.0-OpenSSH_9.2\r\n";
    vec![
        ("plain", [&version[..], &packet(&payload)].concat()),
        ("ignored", [&version[..], &ignored, &packet(&payload)].concat()),
    ]
}

/// Names that people come with.
#[must_use]
pub fn names() -> Seeds {
    vec![
        ("plain", text("alice")),
        ("profile", text("alice+tools")),
        ("running", text("alice+@3f2a91c0")),
        ("runner", text("alice+laptop:")),
    ]
}

/// None of ours: the corpus has one that `ssh-keygen` made.
#[must_use]
pub fn certificates() -> Seeds {
    Vec::new()
}

/// Packets of an SFTP client.
#[must_use]
pub fn sftp() -> Seeds {
    let packet = |kind: u8, payload: &[u8]| {
        let length = u32::try_from(1 + payload.len()).unwrap_or(0);
        [&length.to_be_bytes()[..], &[kind], payload].concat()
    };
    let string = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).unwrap_or(0);
        [&length.to_be_bytes()[..], bytes].concat()
    };
    let id = [0, 0, 0, 7];
    let number = |number: u32| number.to_be_bytes();
    let open = [&id[..], &string(b"/tmp/a"), &number(26), &number(4), &number(0o600)].concat();
    let write = [&id[..], &string(&number(0)), &[0; 8], &string(b"hello")].concat();
    let more = [&number(0x8000_0000)[..], &number(1), &string(b"a"), &string(b"b")].concat();
    let setstat = [&id[..], &string(b"/tmp/a"), &more].concat();
    let rename = [&id[..], &string(b"posix-rename@openssh.com"), &string(b"/a"), &string(b"/b")];
    let copy = [&id[..], &string(b"copy-data"), &string(&number(0)), &[0; 16], &string(&number(1))];
    let copy = [&copy.concat()[..], &[0; 8]].concat();
    let first = [packet(1, &number(3)), packet(3, &open), packet(6, &write)].concat();
    vec![
        ("upload", first),
        ("setstat", packet(9, &setstat)),
        ("extended", [packet(200, &rename.concat()), packet(200, &copy)].concat()),
        ("list", [packet(11, &[&id[..], &string(b".")].concat()), packet(12, &write)].concat()),
    ]
}

/// Command lines of `scp`, a name, and a line of its protocol.
#[must_use]
pub fn scp() -> Seeds {
    vec![
        ("sink", joined(&[b"scp -r -t -- ~/'a b'", b"a b", b"0644 12 a b"])),
        ("source", joined(&[b"scp -f /tmp/[!a-c]*.t?t \"q\\\"\"", b"dd.txt", b"1 0 2 0"])),
    ]
}

/// Lines of an `authorized_keys` file.
#[must_use]
pub fn keys() -> Seeds {
    let ed25519 =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
    vec![
        ("ed25519", text(&format!("# mine\n{ed25519} alice@laptop\n"))),
        ("options", text(&format!("no-pty,command=\"x\" {ed25519}"))),
        ("private", text("-----BEGIN OPENSSH PRIVATE KEY-----\n")),
    ]
}

/// What browsers say on attach sockets.
#[must_use]
pub fn frames() -> Seeds {
    let request = "01932b5e-7c1a-7f00-8000-00003f2a91c0";
    vec![
        ("resize", text(r#"{"type":"resize","cols":80,"rows":24}"#)),
        ("end", text(r#"{"type":"end","reason":"done"}"#)),
        ("seen", text(r#"{"type":"seen","seq":4711}"#)),
        ("message", text(r#"{"type":"user_message","content":"hi","client_msg_id":"m1"}"#)),
        (
            "permission",
            text(&format!(
                r#"{{"type":"permission_response","request_id":"{request}","input_hash":"ab","allow":true,"remember":true}}"#
            )),
        ),
        (
            "question",
            text(&format!(
                r#"{{"type":"question_response","request_id":"{request}","answer":{{"a":[1,null]}}}}"#
            )),
        ),
    ]
}

/// Bodies of requests.
#[must_use]
pub fn bodies() -> Seeds {
    vec![
        (
            "terminal",
            text(
                r#"{"harness":"shell","profile":"default","cols":80,"rows":24,"limits":{"max_runtime_seconds":60,"idle_timeout_seconds":0.5,"max_output_bytes":1},"why":"x","labels":{"a":"b"}}"#,
            ),
        ),
        (
            "agent",
            text(
                r#"{"harness":"claude","runner":"laptop","cwd":"/src","prompt":"hi","model":"m","permission_mode":"relay"}"#,
            ),
        ),
        ("kinds", text(r#"{"keep":true,"scopes":["read","admin"],"cols":1e300,"why":null}"#)),
    ]
}

/// Query strings.
#[must_use]
pub fn queries() -> Seeds {
    vec![("all", text("q=a%20b&user=&limit=7&cursor=x&q=c%C3%A9"))]
}

/// An address, cookies, and headers of proxies.
#[must_use]
pub fn headers() -> Seeds {
    let forwarded = b"for=192.0.2.60;proto=http, for=\"[2001:db8::17]:4711\"";
    vec![(
        "all",
        joined(&[
            b"https://gateway.example.org:8443",
            b"a=b; __Host-sojourn=token; c",
            b"198.51.100.7, 192.0.2.9",
            forwarded,
        ]),
    )]
}

/// Lines of a coding agent.
#[must_use]
pub fn agent() -> Seeds {
    let update = r#"{"sessionUpdate":"tool_call","toolCallId":"1","title":"Edit a.rs","kind":"edit","rawInput":{"file_path":"/src/a.rs","command":"make"},"locations":[{"path":"/src/a.rs"}],"content":[{"type":"diff","path":"/src/a.rs","oldText":"a\nb\nc\n","newText":"a\nx\nc\n"}]}"#;
    let asked = r#"{"toolCallId":"1","kind":"edit","status":"pending","title":"Edit"}"#;
    let chunk =
        r#"{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"hel🦀lo"}}"#;
    let modes = r#"{"modes":{"currentModeId":"ask","availableModes":[{"id":"ask","name":"Ask"}]}}"#;
    vec![
        ("edit", text(&format!("{update}\n{asked}\n"))),
        ("chunk", text(&format!("{chunk}\nnoise\n\n{modes}"))),
    ]
}
