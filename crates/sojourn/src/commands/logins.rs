//! `sojourn user logins`: what only a running gateway can say and do of an account.

use hyper::Method;
use serde_json::Value as Json;

use super::session;
use crate::cli::Common;
use crate::failure::Outcome;
use crate::output;
use crate::table::Table;

/// Where somebody is signed in; with `end`, nowhere from now on.
pub(super) fn logins(common: &Common, name: &str, end: bool) -> Outcome {
    let client = session::client(common)?;
    let path = format!("/api/users/{}/logins", session::percent(name));
    if end {
        let answer: Json = client.call(Method::DELETE, &path, None)?;
        return match (common.json, answer["ended"].as_u64()) {
            (true, _) => output::json(&answer),
            (false, Some(1)) => output::say("1 login has ended"),
            (false, count) => output::say(format_args!("{} logins have ended", count.unwrap_or(0))),
        };
    }
    let answer: Json = client.get(&path)?;
    if common.json {
        return output::json(&answer);
    }
    let mut table = Table::new(&["ID", "ADDRESS", "DEVICE", "SINCE", "LAST SEEN", "ENDS"]);
    for login in answer["items"].as_array().into_iter().flatten() {
        let text = |name: &str| output::foreign(login[name].as_str().unwrap_or_default());
        let time = |name: &str| text(name).replace('T', " ").split('.').next().map(str::to_owned);
        let id = text("id");
        let short = id.get(id.len().saturating_sub(8)..).unwrap_or(&id).to_owned();
        let [since, seen, ends] = ["created_at", "last_seen_at", "idle_expires_at"]
            .map(|at| time(at).unwrap_or_default());
        table.row([short, text("address"), text("device"), since, seen, ends]);
    }
    table.print("signed in nowhere")
}
