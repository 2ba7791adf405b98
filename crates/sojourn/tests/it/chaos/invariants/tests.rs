//! Each kind of breach is seen: what was well is broken once, in one place.

use serde_json::json;
use sojourn_testkit::Options;
use sojourn_testkit::Scratch;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use super::*;
use crate::leaving::cgroup_parent;

const TERMINAL: &str = "01a20000-0000-7000-8000-000000000001";
const AGENT: &str = "01a20000-0000-7000-8000-000000000002";
const DIGEST: &str = "5e1f";

/// A round that went well: what people saw, and what is on record.
struct Told {
    ledger: Ledger,
    audit: Vec<Value>,
    data: Scratch,
}

fn line(number: usize, action: &str, session: &str, details: &Value) -> Value {
    json!({
        "event_id": format!("e{number}"), "action": action, "session_id": session,
        "actor": {"user": "sam"}, "details": details,
    })
}

/// A recording with what was printed, and with events.
fn cast(output: &[&str], events: &[Value]) -> String {
    let mut text = json!({"version": 2, "width": 80, "height": 24}).to_string();
    for part in output {
        text.push_str(&format!("\n{}", json!([0.1, "o", part])));
    }
    for event in events {
        text.push_str(&format!("\n{}", json!([0.1, "e", event.to_string()])));
    }
    text + "\n"
}

fn event(seq: u64, event: &Value) -> Value {
    json!({"seq": seq, "event": event})
}

fn said(text: &str) -> Value {
    json!({"type": "update", "update": {"content": {"text": text}}})
}

impl Told {
    fn new() -> Self {
        let audit = [
            ("session_started", TERMINAL, json!({})),
            ("session_ended", TERMINAL, json!({"reason": "exited"})),
            ("session_started", AGENT, json!({})),
            ("permission_granted", AGENT, json!({})),
            ("session_ended", AGENT, json!({"reason": "ended_by"})),
            ("login_succeeded", "", json!({})),
            ("file_transferred", TERMINAL, json!({"sha256": DIGEST})),
            ("file_transferred", TERMINAL, json!({"sha256": DIGEST})),
        ];
        let audit = audit.iter().zip(1..);
        let audit = audit.map(|((action, id, details), n)| line(n, action, id, details)).collect();
        let told = Self { ledger: Ledger::new(), audit, data: Scratch::new() };
        std::fs::create_dir_all(told.data.path().join("recordings")).unwrap();
        told.keep(TERMINAL, "exited", &cast(&["t-0\n", "t-1\n"], &[]));
        told.keep(AGENT, "ended_by", &cast(&[], &conversation()));
        let ledger = &told.ledger;
        ledger.begun.lock().unwrap().push(TERMINAL.to_owned());
        ledger.asks("login_succeeded", "sam");
        ledger.is_answered("login_succeeded", "sam");
        ledger.transfers.lock().unwrap().push(DIGEST.to_owned());
        ledger.printed.lock().unwrap().push(Printed {
            tag: "t".to_owned(),
            session: None,
            before: String::new(),
            lines: Some(2),
            seen: b"t-0\nt-1\n".to_vec(),
            told_end: true,
        });
        ledger.conversations.lock().unwrap().push(Conversation {
            session: AGENT.to_owned(),
            text: "hello".to_owned(),
            events: 2,
            whole: true,
            granted: true,
        });
        told
    }

    /// What there is of a session.
    fn keep(&self, id: &str, reason: &str, cast: &str) {
        let path = self.data.path().join("recordings").join(format!("{id}.cast"));
        std::fs::write(&path, cast).unwrap();
        std::fs::write(path.with_extension("json"), json!({"end_reason": reason}).to_string())
            .unwrap();
    }

    fn breaches(self) -> Vec<String> {
        compare(&Records::of(self.audit, self.data.path()), &self.ledger);
        self.ledger.breaches()
    }

    /// Breaks something; that is seen, and told in these words.
    #[track_caller]
    fn is_caught(break_it: impl FnOnce(&mut Self), words: &str) {
        let mut told = Self::new();
        break_it(&mut told);
        let breaches = told.breaches();
        assert!(breaches.iter().any(|breach| breach.contains(words)), "{words}: {breaches:#?}");
    }
}

fn conversation() -> [Value; 2] {
    [event(1, &said("hel")), event(2, &said("lo"))]
}

#[test]
fn a_round_that_went_well_is_no_breach() {
    assert_eq!(Told::new().breaches(), [""; 0]);
}

#[test]
fn a_start_or_an_end_that_is_missing_or_there_twice_is_caught() {
    Told::is_caught(|told| drop(told.audit.remove(0)), "starts: 0");
    Told::is_caught(|told| drop(told.audit.remove(0)), "its start is not on record");
    Told::is_caught(|told| drop(told.audit.remove(1)), "ends: 0");
    Told::is_caught(
        |told| told.audit.push(line(9, "session_ended", TERMINAL, &json!({"reason": "exited"}))),
        "ends: 2",
    );
    Told::is_caught(
        |told| {
            let again = told.audit[5].clone();
            told.audit.push(again);
        },
        "twice in the audit log",
    );
    Told::is_caught(
        |told| told.audit[1]["details"]["reason"] = "closed".into(),
        "its sidecar says exited, the log says closed",
    );
}

#[test]
fn a_line_of_the_log_that_somebody_was_answered_for_is_missed() {
    Told::is_caught(|told| drop(told.audit.remove(5)), "1 login_succeeded of sam, 0 on record");
    Told::is_caught(|told| drop(told.audit.remove(6)), "1 transfers of 5e1f on record");
    Told::is_caught(|told| drop(told.audit.remove(3)), "0 grants on record");
}

#[test]
fn what_was_printed_and_is_not_recorded_is_missed() {
    let kept = |output: &'static [&'static str]| {
        move |told: &mut Told| told.keep(TERMINAL, "exited", &cast(output, &[]))
    };
    Told::is_caught(kept(&["t-0\n", "t-"]), "seen \"t-0\\nt-1\\n\", recorded");
    Told::is_caught(kept(&["t-0\n", "1\n"]), "not what was printed");
    Told::is_caught(kept(&["t-0\n", "t-0\n"]), "not what was printed");
    Told::is_caught(kept(&[]), "8 bytes seen, no recording");
    Told::is_caught(
        |told| told.ledger.printed.lock().unwrap()[0].seen.truncate(4),
        "told of the end, seen \"t-0\\n\"",
    );
    Told::is_caught(
        |told| {
            // Nobody saw it, but it was at its end.
            told.ledger.printed.lock().unwrap()[0].seen.clear();
            told.keep(TERMINAL, "exited", &cast(&["t-0\n"], &[]));
        },
        "the program came to its end, recorded",
    );
}

#[test]
fn an_event_that_is_lost_or_there_twice_is_missed() {
    let kept = |events: Vec<Value>| {
        move |told: &mut Told| told.keep(AGENT, "ended_by", &cast(&[], &events))
    };
    let [first, second] = conversation();
    Told::is_caught(kept(vec![first.clone()]), "2 events seen, recorded [1]");
    Told::is_caught(kept(vec![first.clone()]), "it said 3 bytes of 5");
    Told::is_caught(kept(vec![second.clone()]), "2 events seen, recorded [2]");
    Told::is_caught(kept(vec![first.clone(), second.clone(), second]), "recorded [1, 2, 2]");
    let other = event(2, &said("p"));
    Told::is_caught(kept(vec![first, other]), "it said \"help\"");
    Told::is_caught(
        |told| {
            let recordings = told.data.path().join("recordings");
            std::fs::remove_file(recordings.join(format!("{AGENT}.cast"))).unwrap();
        },
        "2 events, no recording",
    );
}

/// A control group that goes with this.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _gone = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_control_group_a_directory_and_a_process_that_are_left_are_found() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = crate::gateway(&Options::default());
    gateway.alice().run("true");
    let cgroups = cgroup_parent(&gateway);
    gateway.stop();
    let found = || {
        let ledger = Ledger::new();
        nothing_is_left(&gateway, &cgroups, &ledger, Duration::ZERO);
        ledger.breaches().join("\n")
    };
    until("nothing to be left", LONG, || found().is_empty().then_some(()));

    let hierarchy = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
    let hierarchy = hierarchy.iter().find(|root| Path::new(root).join("cgroup.procs").exists());
    let group = Group(Path::new(hierarchy.unwrap()).join(&cgroups));
    fs::create_dir(&group.0).unwrap();
    assert!(found().contains(&group.0.display().to_string()), "{}", found());
    drop(group);
    assert_eq!(found(), "");

    let directory = gateway.data().join("sessions").join(TERMINAL);
    fs::create_dir(&directory).unwrap();
    assert!(found().contains(TERMINAL), "{}", found());
    fs::remove_dir(&directory).unwrap();
    assert_eq!(found(), "");

    let held = fs::File::open(gateway.data().join("sojourn.db")).unwrap();
    let mut program = Command::new("sleep").arg("1000").stdin(held).spawn().unwrap();
    let seen = found();
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(seen.contains(&format!("{} sleep", program.id())), "{seen}");
}
