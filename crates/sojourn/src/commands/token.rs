//! `sojourn token`: tokens of programs and runners, asked of the gateway.

use hyper::Method;
use serde_json::Value as Json;
use serde_json::json;

use super::session;
use crate::cli::Common;
use crate::cli::NewToken;
use crate::cli::Token as Command;
use crate::client::Client;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::failure::complain;
use crate::output;
use crate::table::Table;

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    let client = session::client(common)?;
    match command {
        Command::Create(new) => create(common, &client, &new),
        Command::Ls { user } => list(common, &client, user.as_deref()),
        Command::Revoke { id } => revoke(common, &client, &id),
    }
}

/// The token goes alone to standard output, so that it can go into a file; the rest is said beside.
fn create(common: &Common, client: &Client, new: &NewToken) -> Outcome {
    if new.user.is_none() && new.runner.is_none() {
        let line = "say what it is for: --user NAME for programs of theirs, or --runner NAME";
        return Err(Failure::Usage(line.to_owned()));
    }
    let owner = match new.user.as_ref().or(new.owner.as_ref()) {
        Some(name) => name.clone(),
        None => only_user(client)?,
    };
    let mut body = json!({"scopes": []});
    let usual = match &new.runner {
        Some(runner) => {
            body["runner"] = json!(runner);
            format!("runner {runner}")
        }
        None => {
            let scopes: Vec<String> = new.scope.iter().map(ToString::to_string).collect();
            body["scopes"] = if scopes.is_empty() { json!(["read"]) } else { json!(scopes) };
            "command line".to_owned()
        }
    };
    body["name"] = json!(new.name.as_ref().unwrap_or(&usual));
    if let Some(expires) = new.expires {
        body["expires_seconds"] = json!(expires.0.as_secs_f64());
    }
    let path = format!("/api/users/{}/tokens", session::percent(&owner));
    let made: Json = client.create(&path, &body)?;
    if common.json {
        return output::json(&made);
    }
    let until = made["expires_at"].as_str().map_or("it is revoked".to_owned(), output::foreign);
    complain(format_args!("a token of {owner}, good until {until}; it is shown this once"));
    output::say(made["token"].as_str().unwrap_or_default())
}

fn only_user(client: &Client) -> Result<String, Failure> {
    let users: Json = client.get("/api/users")?;
    match users["items"].as_array().map(Vec::as_slice) {
        Some([one]) => Ok(one["name"].as_str().unwrap_or_default().to_owned()),
        _ => {
            Err(Failure::Usage("there are several users; say whose it is with --owner".to_owned()))
        }
    }
}

fn list(common: &Common, client: &Client, user: Option<&str>) -> Outcome {
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut query = Vec::new();
        query.extend(user.map(|user| format!("user={}", session::percent(user))));
        query.extend(cursor.map(|cursor| format!("cursor={}", session::percent(&cursor))));
        let page: Json = client.get(&format!("/api/tokens?{}", query.join("&")))?;
        all.extend(page["items"].as_array().cloned().unwrap_or_default());
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    if common.json {
        return output::json(&json!({"items": all, "next_cursor": null}));
    }
    let mut table = Table::new(&["ID", "USER", "NAME", "FOR", "STATUS", "EXPIRES", "LAST USED"]);
    for token in &all {
        let text = |name: &str| output::foreign(token[name].as_str().unwrap_or_default());
        let day = |name: &str| text(name).split('T').next().unwrap_or_default().to_owned();
        let scopes: Vec<&str> =
            token["scopes"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let id = text("id");
        let short = id.get(id.len().saturating_sub(8)..).unwrap_or(&id).to_owned();
        let used_for = match token["runner"].as_str() {
            Some(runner) => format!("runner {}", output::foreign(runner)),
            None => output::foreign(&scopes.join(" ")),
        };
        let [user, name, status] = ["user", "name", "status"].map(text);
        let [expires, used] = ["expires_at", "last_used_at"].map(day);
        table.row([short, user, name, used_for, status, expires, used]);
    }
    table.print("no tokens")
}

fn revoke(common: &Common, client: &Client, id: &str) -> Outcome {
    let path = format!("/api/tokens/{}", session::percent(id));
    let _nothing: Json = client.call(Method::DELETE, &path, None)?;
    match common.json {
        true => output::json(&json!({"revoked": id})),
        false => output::say(format_args!("{} is revoked", output::foreign(id))),
    }
}
