//! Logins, row by row: each test is named after the requirement it holds the program to, and asks over
//! HTTP, the real program, with a clock that it moves. docs/logins.md says which rows are elsewhere.

mod cookies;
mod cross_site;
mod ending;
mod factors;
mod headers;
mod originals;
mod password;
mod races;
mod records;
mod rotation;
mod secrets;
mod setup;
mod sockets;
mod throttle;
mod timeouts;

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::can_make_sandboxes;

use crate::gateway;

/// Bob's.
pub(crate) const PASSWORD: &str = "violet otter harbour 27 lamps";

/// What bob's is changed to.
const OTHER: &str = "seven quiet engines under 41 bridges";

/// The root's.
pub(crate) const ADMINS: &str = "a kettle on the northern lighthouse 5";

/// No sandboxes ahead: nobody here waits for one.
const LEAN: &str = "[profiles.default]\npool = 0\n";

/// A gateway with `bob`, a member, and `carol`, an admin; none where none can be made.
fn house() -> Option<Gateway> {
    house_with(Options::default())
}

fn house_with(options: Options) -> Option<Gateway> {
    if !can_make_sandboxes() {
        return None;
    }
    let more = format!("{LEAN}{}", options.more);
    let gateway = gateway(&Options { more, ..options });
    gateway.add_user("bob", "member", PASSWORD);
    gateway.add_user("carol", "admin", ADMINS);
    Some(gateway)
}

/// A browser in which bob is signed in.
fn bob(gateway: &Gateway) -> Browser {
    gateway.signed_in("bob", PASSWORD)
}

/// A browser in which carol, an admin, is signed in.
fn carol(gateway: &Gateway) -> Browser {
    gateway.signed_in("carol", ADMINS)
}

/// What a change of bob's password is asked with.
fn change(current: &str, new: &str) -> Value {
    json!({"current_password": current, "new_password": new, "confirm_password": new})
}

/// Whether the login in a browser is good.
#[track_caller]
fn is_in(browser: &mut Browser) -> bool {
    let answer = browser.get("/api/me/login");
    match answer.status {
        200 => true,
        401 => false,
        _ => panic!("{answer:?}"),
    }
}

/// Audit lines with this action.
fn on_record(gateway: &Gateway, action: &str) -> Vec<Value> {
    gateway.audit().into_iter().filter(|line| line["action"] == action).collect()
}

/// The same, as soon as there are so many: some are on record a moment after they are seen.
#[track_caller]
fn recorded(gateway: &Gateway, action: &str, count: usize) -> Vec<Value> {
    gateway.audit_with(count, action);
    on_record(gateway, action)
}

/// The names of audit actions so far that concern logins, in order.
fn story(gateway: &Gateway) -> Vec<String> {
    let actions =
        gateway.audit().into_iter().map(|line| line["action"].as_str().map(str::to_owned));
    actions
        .flatten()
        .filter(|action| action.contains("login") || action.contains("password"))
        .collect()
}

/// Every row of every table, by table, as the database has it just now.
fn tables(gateway: &Gateway) -> BTreeMap<String, Vec<Value>> {
    const SCRIPT: &str = "
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=10)
names = [row[0] for row in db.execute(\"SELECT name FROM sqlite_master WHERE type = 'table'\")]
print(json.dumps({name: [list(row) for row in db.execute(f'SELECT * FROM \"{name}\"')] for name in names},
                 default=str))
";
    let file = gateway.data().join("sojourn.db");
    let output = Command::new("python3").args(["-c", SCRIPT]).arg(file).output().expect("python3");
    let text = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Bytes of every file below the data directory, and of the log: where secrets must not be.
fn everything_kept(gateway: &Gateway) -> Vec<(String, Vec<u8>)> {
    let mut kept: Vec<(String, Vec<u8>)> = crate::files_below(&gateway.data())
        .into_iter()
        .filter_map(|path| Some((path.display().to_string(), std::fs::read(&path).ok()?)))
        .collect();
    kept.push(("the log".to_owned(), gateway.log().into_bytes()));
    kept
}

/// Where a secret is found, as text or in hexadecimal.
fn found_in(kept: &[(String, Vec<u8>)], secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let needles = [secret.as_bytes().to_vec(), hex.into_bytes()];
    let has = |bytes: &[u8]| {
        needles.iter().any(|needle| bytes.windows(needle.len()).any(|window| window == &needle[..]))
    };
    kept.iter().filter(|(_, bytes)| has(bytes)).map(|(name, _)| name.clone()).collect()
}
