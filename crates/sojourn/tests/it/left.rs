//! What sessions left in their sandboxes: kept, listed, read.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::gateway;

/// The directories in `kept/`, oldest first.
fn kept(gateway: &Gateway) -> Vec<PathBuf> {
    let entries = fs::read_dir(gateway.data().join("kept")).unwrap().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.join("about.json").is_file())
        .collect();
    paths.sort();
    paths
}

fn lines(directory: &std::path::Path) -> Vec<Value> {
    let list = fs::read_to_string(directory.join("files.jsonl")).unwrap();
    list.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_a_session_changed_is_kept() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = gateway(&Options::default());
    gateway.alice().run("true");
    gateway.alice().run("echo mine > /root/note; rm /etc/hosts; echo 'x:x:0:0::/:' >> /etc/passwd");
    until("it is kept", PATIENCE, || (!kept(&gateway).is_empty()).then_some(()));
    let kept = kept(&gateway);
    let [kept] = kept.as_slice() else { panic!("nothing of the first: {kept:?}") };
    let what = |path: &str| {
        let lines = lines(kept);
        lines.iter().find(|line| line["path"] == path).map(|line| line["what"].clone())
    };
    assert_eq!(what("root/note"), Some("added".into()));
    assert_eq!(what("etc/hosts"), Some("deleted".into()));
    assert_eq!(what("etc/passwd"), Some("changed".into()));
    assert_eq!(lines(kept).len(), 4, "these and the totals");
}
