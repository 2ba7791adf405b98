//! What is on record: recordings, sidecars, the audit log, and the proof that nobody changed them.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use sojourn_testkit::DiskKind;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::files_below;
use crate::gateway;

/// The files of the newest session, once it has ended.
fn ended(gateway: &Gateway) -> (Value, PathBuf, Value) {
    let session = until("the session's end", PATIENCE, || {
        let is_over =
            |session: &Value| session["status"] == "ended" || session["status"] == "failed";
        gateway.sessions().into_iter().next().filter(is_over)
    });
    let id = session["id"].as_str().unwrap().to_owned();
    let files = files_below(&gateway.data().join("recordings"));
    let named = |suffix: &str| {
        let found = files.iter().find(|file| file.ends_with(format!("{id}{suffix}")));
        found.unwrap_or_else(|| panic!("no {id}{suffix} in {files:?}")).clone()
    };
    let sidecar = serde_json::from_slice(&fs::read(named(".json")).unwrap()).unwrap();
    (session, named(".cast"), sidecar)
}

#[test]
fn a_terminal_is_recorded_and_plays_in_asciinema() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    let mut shell = gateway.alice().with("-tt").start(&[]);
    shell.expect("# ");
    shell.write("echo gr\u{fc}n-\u{1f600}\n".as_bytes());
    shell.expect("gr\u{fc}n-\u{1f600}\r\n");
    shell.write(b"read -s -p 'password: ' secret; echo; echo taken\n");
    shell.expect("password: ");
    shell.write(b"hunter2hunter2\n");
    shell.expect("taken");
    shell.write(b"exit 5\n");
    assert_eq!(shell.finish(PATIENCE).code, 5);
    let (session, cast, sidecar) = ended(&gateway);
    assert_eq!(session["exit"]["code"], 5);
    assert_eq!(session["end_reason"], "exited");
    let text = fs::read_to_string(&cast).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["version"], 2);
    let of_kind = |kind: &str| -> String {
        let events = lines[1..].iter().filter(|line| line[1] == kind);
        events.filter_map(|line| line[2].as_str()).collect()
    };
    assert!(of_kind("o").contains("gr\u{fc}n-\u{1f600}\r\n"), "{text}");
    assert!(of_kind("i").contains("echo gr\u{fc}n"), "{text}");
    assert!(!text.contains("hunter2"), "a password is in the recording");
    let times: Vec<f64> = lines[1..].iter().filter_map(|line| line[0].as_f64()).collect();
    assert!(times.is_sorted());
    assert_eq!(sidecar["user"], "alice");
    assert_eq!(sidecar["end_reason"], "exited");
    // It wants a terminal of its own.
    let line = format!("asciinema cat {}", cast.display());
    let played = Command::new("script").args(["-qec", &line, "/dev/null"]).output().unwrap();
    let shown = String::from_utf8_lossy(&played.stdout);
    assert!(played.status.success() && shown.contains("taken"), "{shown}");
    let replayed =
        gateway.cli(&["session", "replay", session["id"].as_str().unwrap(), "--speed", "1000"]);
    assert!(replayed.contains("taken"), "{replayed}");
}

#[test]
fn on_a_full_disk_every_byte_is_recorded_or_counted() {
    if !can_make_sandboxes() {
        return;
    }
    let disk = Some(DiskKind::Memory(64));
    let gateway = gateway(&Options { disk, ..Options::default() });
    let printing = "i=0; while :; do printf 'line-%d-%02000d\\n' $((i++)) 0; sleep 0.01; done";
    let shell = gateway.alice().with("-tt").start(&[printing]);
    shell.expect("line-9-");
    let ballast = gateway.data().join("ballast");
    let mut file = File::create(&ballast).unwrap();
    for part in [vec![0; 1 << 20], vec![0; 4096]] {
        while file.write_all(&part).is_ok() {}
    }
    assert_ne!(shell.finish(PATIENCE).code, 0);
    drop(file);
    fs::remove_file(&ballast).unwrap();
    let (session, cast, _) = ended(&gateway);
    // It is written when there is room again, and everybody has been told before.
    let sidecar = until("its sidecar", PATIENCE, || {
        let text = fs::read(cast.with_extension("json")).unwrap();
        let sidecar: Value = serde_json::from_slice(&text).unwrap();
        (sidecar["end_reason"] == "failed").then_some(sidecar)
    });
    assert_eq!(session["end_reason"], "failed", "what cannot be recorded does not go on");
    let text = fs::read_to_string(&cast).unwrap();
    let events: Vec<Value> =
        text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_kind = |kind: &'static str| {
        events.iter().filter(move |event| event[1] == kind).filter_map(|event| event[2].as_str())
    };
    let recorded: usize = of_kind("o").map(str::len).sum();
    let gap = |note: &str| -> Option<usize> {
        note.strip_prefix("recording gap: ")?.split(' ').next()?.parse().ok()
    };
    let lost: usize = of_kind("m").filter_map(gap).sum();
    let printed = sidecar["lease"]["output_bytes"].as_u64().unwrap();
    assert_eq!((recorded + lost) as u64, printed, "{recorded} recorded, {lost} counted");
    assert!(of_kind("m").any(|note| note == "session ends: failed"));
    gateway.cli(&["verify"]);
}

#[test]
fn of_an_exec_the_beginning_is_recorded_and_the_rest_is_measured() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options {
        more: "[recording]\nexec_bytes = \"1KB\"\n".to_owned(),
        ..Options::default()
    });
    assert_eq!(gateway.alice().run("head -c 1000000 /dev/zero | tr '\\0' x").out.len(), 1_000_000);
    let (_, cast, _) = ended(&gateway);
    let text = fs::read_to_string(cast).unwrap();
    assert!(text.len() < 10_000, "{} bytes were recorded", text.len());
    assert!(text.contains("1000000"), "{text}");
}

#[test]
fn a_stay_is_told_from_its_first_to_its_last_word() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options {
        limits: "session_timeout = \"2s\"\nwarn_before = \"1s\"\ngrace = \"1s\"\n".to_owned(),
        ..Options::default()
    });
    gateway.alice().run("sleep 60");
    let released = gateway.wait_for_log("released", |line| line["event"] == "sandbox_released");
    let id = released["session"].as_str().unwrap().to_owned();
    let events: Vec<String> = gateway
        .log_lines()
        .iter()
        .filter(|line| line["session"] == id.as_str())
        .filter_map(|line| line["event"].as_str().map(str::to_owned))
        .filter(|event| {
            ["lease_started", "limit_warned", "limit_exceeded", "sandbox_released"]
                .contains(&event.as_str())
        })
        .collect();
    assert_eq!(events, ["lease_started", "limit_warned", "limit_exceeded", "sandbox_released"]);
    gateway.wait_for_audit("its end", |line| {
        line["action"] == "session_ended" && line["session_id"] == id.as_str()
    });
    let actions: Vec<String> = gateway
        .audit()
        .iter()
        .filter(|line| line["session_id"] == id.as_str())
        .filter_map(|line| line["action"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(actions, ["session_started", "limit_warned", "limit_exceeded", "session_ended"]);
    let show = gateway.cli(&["session", "show", &id]);
    assert!(show.contains("max_runtime"), "{show}");
}

#[test]
fn a_flipped_byte_is_found_and_named() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&Options::default());
    gateway.alice().run("echo one");
    gateway.alice().with("-tt").run("echo two");
    let (_, cast, _) = ended(&gateway);
    let end = gateway.wait_for_audit("the end", |line| line["action"] == "session_ended");
    let details = &end["details"];
    assert!(details["recording_sha256"].is_string(), "{end}");
    assert_eq!(details["recordings"][0]["sha256"], details["recording_sha256"]);
    let verify = |gateway: &Gateway| {
        let (status, out, err) = gateway.try_cli(&["verify"], "");
        (status.code(), format!("{out}{err}"))
    };
    assert_eq!(verify(&gateway).0, Some(0), "beside a running gateway: {:?}", verify(&gateway));
    gateway.stop();
    let (code, said) = verify(&gateway);
    assert_eq!((code, said.trim()), (Some(0), ""), "it is silent when all is whole");
    let logs = files_below(&gateway.data().join("audit"));
    let log = logs.iter().find(|path| path.extension().is_some_and(|e| e == "jsonl")).unwrap();
    for file in [&cast, log] {
        let whole = fs::read(file).unwrap();
        for at in [0, whole.len() / 3, whole.len() / 2, whole.len() - 2] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(file, &changed).unwrap();
            let (code, said) = verify(&gateway);
            assert_eq!(code, Some(1), "byte {at} of {}: {said}", file.display());
            let name = Path::new(file).file_name().unwrap().to_str().unwrap();
            assert!(said.contains(name), "byte {at}: {said}");
            if file == &cast {
                let line = whole[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
                assert!(said.contains(&format!("{name}, line {line}: changed: ")), "{at}: {said}");
            }
        }
        fs::write(file, &whole).unwrap();
    }
    assert_eq!(verify(&gateway).0, Some(0));
}
