//! Every kind of SSH channel, asked for by somebody who asks for each on a connection of its own.

use std::process::Command;

use sojourn_testkit::Gateway;

use super::house;
use super::table::CHANNELS;
use super::table::SSH;
use crate::edges::CLIENTS;

/// What one of them gets, a mark for each kind.
fn asked(gateway: &Gateway, user: &str) -> String {
    let (port, user, password) = match user {
        "visitor" => (gateway.honeypot(0), "root", "toor"),
        user => (gateway.port, user, ""),
    };
    let output = Command::new("/usr/bin/python3")
        .arg(format!("{CLIENTS}/walk.py"))
        .env("PORT", port.to_string())
        .env("USER", user)
        .env("PASSWORD", password)
        .env("KEY", gateway.scratch().path().join("key"))
        .output()
        .expect("python3");
    let marks = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(marks.len(), CHANNELS.len(), "{user}: {}", String::from_utf8_lossy(&output.stderr));
    marks
}

#[test]
fn every_kind_of_channel_is_open_to_whom_the_table_says() {
    let Some(gateway) = house() else { return };
    let mut wrong = Vec::new();
    for (user, expected) in SSH {
        let got = asked(&gateway, user);
        if got != *expected {
            wrong.push(format!("{user}: {got}, not {expected} ({CHANNELS:?})"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", gateway.log());
}

#[test]
fn nobody_comes_back_to_a_session_of_somebody_else() {
    let Some(gateway) = house() else { return };
    let held = gateway.client(gateway.port, "mia").with("-tt").start(&[]);
    held.expect("# ");
    let id = gateway.sessions()[0]["id"].as_str().expect("an id").to_owned();
    let ending = &id[id.len() - 8..];
    let unknown = gateway.client(gateway.port, "adam+@0000dead").with("-tt").run("");
    for name in ["adam", "otto", "dora"] {
        let client = gateway.client(gateway.port, &format!("{name}+@{ending}"));
        let answer = client.with("-tt").run("");
        assert_eq!(answer.code, unknown.code, "{name}: {}", answer.text());
        let as_if = unknown.text().replace("0000dead", ending);
        assert_eq!(answer.text(), as_if, "{name}: as if it were not there");
    }
}
