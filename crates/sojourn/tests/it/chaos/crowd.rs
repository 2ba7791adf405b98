//! A gateway that is killed in the very moment in which people come, again and again: what is put on
//! record one after the other has no moment between that a crash finds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use super::dice::Dice;
use crate::gateway;

/// How many come at a time.
const CROWD: usize = 6;

#[test]
fn a_gateway_killed_as_a_crowd_comes_has_one_start_and_one_end_of_each() {
    if !can_make_sandboxes() {
        return;
    }
    let mut dice = Dice::new(7);
    let kills = if crate::is_long_run() { 60 } else { 4 };
    let mut gateway = gateway(&Options::default());
    for _ in 0..kills {
        let shape = |one: usize| if one.is_multiple_of(2) { "-tt" } else { "-T" };
        let crowd: Vec<_> = (0..CROWD)
            .map(|one| gateway.alice().with(shape(one)).start(&["echo up; sleep 0.2; exit 7"]))
            .collect();
        let (enough, opened) = (1 + dice.below(CROWD as u64), RefCell::new(BTreeSet::new()));
        gateway.wait_for_log("so many sessions", |line| {
            if line["event"] == "session_opened" {
                opened.borrow_mut().insert(line["session"].to_string());
            }
            opened.borrow().len() as u64 >= enough
        });
        gateway.kill();
        for one in crowd {
            one.finish(PATIENCE);
        }
        gateway.launch();
    }
    until("all to be over", PATIENCE, || {
        gateway.sessions().iter().all(|session| session["status"] == "ended").then_some(())
    });
    assert!(gateway.stop().success(), "{}", gateway.log());
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in gateway.audit() {
        let (Some(id), Some(action)) = (line["session_id"].as_str(), line["action"].as_str())
        else {
            continue;
        };
        if ["session_started", "session_ended"].contains(&action) {
            told.entry(id.to_owned()).or_default().push(line.to_string());
        }
    }
    assert!(told.len() >= kills, "{told:#?}");
    let is_well = |lines: &Vec<String>| {
        let count = |action: &str| lines.iter().filter(|line| line.contains(action)).count();
        (count("\"session_started\""), count("\"session_ended\"")) == (1, 1)
    };
    told.retain(|_, lines| !is_well(lines));
    assert!(told.is_empty(), "{told:#?}");
}
