//! A disk that fails for good, with all that was not synced: what was answered is there afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sojourn_testkit::DiskKind;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::gateway;
use crate::is_long_run;

const PASSWORD: &str = "five loud geese under 60 gates";

/// How long everything may take to be gone whose state cannot be written.
const GONE: Duration = Duration::from_secs(60);

#[test]
fn what_was_answered_survives_the_disk() {
    if !is_long_run() || !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&Options { disk: Some(DiskKind::Block(256)), ..Options::default() });
    gateway.add_user("pia", "member", PASSWORD);
    let alice = gateway.alice();
    assert_eq!(alice.run("exit 3").code, 3);
    let mut shell = alice.with("-tt").start(&["echo up; while :; do echo more; sleep 0.05; done"]);
    shell.expect("more");
    let mut pia = gateway.signed_in("pia", PASSWORD);
    let login = pia.get("/api/me").expect(200);
    let answered = gateway.audit();

    gateway.disk().fail();
    // Without a recording it may not go on.
    until("the end of what cannot be recorded", GONE, || shell.is_over().then_some(()));
    let refused = gateway.browser().sign_in("pia", PASSWORD);
    assert_eq!(refused.status, 503, "{}", refused.text());
    gateway.stop();
    until(&format!("nothing to have it open: {:?}", gateway.leftovers()), GONE, || {
        gateway.disk().take_out().then_some(())
    });
    gateway.disk().again();
    gateway.launch();

    let kept = gateway.audit();
    assert_eq!(kept[..answered.len()], answered[..], "every line that was there");
    let mut pia = gateway.browser();
    pia.sign_in("pia", PASSWORD).expect(200);
    assert_eq!(pia.get("/api/me").expect(200)["user"], login["user"]);
    until("every end to be on record", PATIENCE, || {
        let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
        for line in gateway.audit() {
            let Some(id) = line["session_id"].as_str() else { continue };
            let count = counts.entry(id.to_owned()).or_default();
            count[0] += usize::from(line["action"] == "session_started");
            count[1] += usize::from(line["action"] == "session_ended");
        }
        (counts.len() == 2 && counts.values().all(|count| *count == [1, 1])).then_some(())
    });
    let over = |session: &Value| session["status"] == "ended" || session["status"] == "failed";
    assert!(gateway.sessions().iter().all(over), "{:#?}", gateway.sessions());
    assert_eq!(gateway.alice().run("exit 4").code, 4);
    let (status, out, err) = gateway.try_cli(&["verify"], "");
    assert!(status.success() && out.is_empty(), "{out}{err}");
    gateway.stop();
}
