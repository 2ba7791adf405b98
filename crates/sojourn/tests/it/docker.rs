//! Sessions in containers of a real engine.

use sojourn_testkit::Dockerd;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;

use crate::gateway;

fn house(keys: &str) -> Option<(Dockerd, Gateway)> {
    let engine = Dockerd::start()?;
    let gateway = gateway(&Options { more: engine.config(keys), ..Options::default() });
    Some((engine, gateway))
}

#[test]
fn a_session_in_a_container_is_like_any_other() {
    let Some((_engine, gateway)) = house("") else { return };
    let ssh = gateway.alice();
    let split = ssh.run("echo out; echo err >&2; exit 7");
    assert_eq!((split.code, split.text().as_str()), (7, "out\n"), "{split:?}\n{}", gateway.log());
    assert_eq!(split.err, "err\n");
}

#[test]
fn what_a_session_in_a_container_left_is_kept() {
    let Some((_engine, gateway)) = house("") else { return };
    let done = gateway.alice().run("echo mine > /note; echo more >> /etc/passwd; rm /etc/group");
    assert_eq!(done.code, 0, "{}", done.err);
    let id = crate::left::newest(&gateway);
    crate::left::is_kept(&gateway, &id);
    let listed = gateway.cli(&["session", "files", &id, "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let items = listed["items"].as_array().unwrap();
    let what = |path: &str| {
        let found = items.iter().find(|item| item["path"] == path);
        found.map(|item| (item["what"].clone(), item["uid"].clone()))
    };
    assert_eq!(what("note"), Some(("added".into(), 0.into())), "{listed:#}");
    assert_eq!(what("etc/passwd"), Some(("changed".into(), 0.into())), "{listed:#}");
    assert_eq!(what("etc/group").map(|found| found.0), Some("deleted".into()), "{listed:#}");
}
