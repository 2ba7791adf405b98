//! Accounts of a gateway elsewhere, over its API. Passwords and keys are not set from here: their
//! owners do that, on the page.

use hyper::Method;
use serde_json::Value as Json;
use serde_json::json;

use super::Input;
use crate::cli::Common;
use crate::cli::User as Command;
use crate::client::Client;
use crate::commands::session;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::failure::complain;
use crate::output;

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    if matches!(command, Command::Passwd { .. } | Command::Key(_) | Command::Reset { .. }) {
        return Err(Failure::refused(
            "passwords and keys of others are set on the gateway's own machine; unset SOJOURN_URL",
        ));
    }
    let input = Input::of(&command)?;
    let office = Remote { client: session::client(common)?, is_json: common.json };
    match command {
        Command::Add { name, role, password: how } => {
            let body = json!({"name": name, "role": role.name()});
            office.add(&name, body, input.password(), how.link)
        }
        Command::Ls => {
            let users: Json = office.client.get("/api/users")?;
            super::list(common, users["items"].as_array().map_or(&[][..], Vec::as_slice))
        }
        Command::Role { name, role } => {
            let now = office.change(&name, &json!({"role": role.name()}))?;
            match common.json {
                true => output::json(&now),
                false => super::show_role(common, &name, role),
            }
        }
        Command::Disable { name } => office.close(&name, true, "disabled"),
        Command::Enable { name } => office.close(&name, false, "enabled"),
        // Refused above, and asked for elsewhere.
        Command::Passwd { .. }
        | Command::Key(_)
        | Command::Reset { .. }
        | Command::Logins { .. } => Ok(()),
    }
}

struct Remote {
    client: Client,
    is_json: bool,
}

impl Remote {
    fn add(&self, name: &str, mut body: Json, password: Option<String>, link: bool) -> Outcome {
        match password {
            Some(password) => body["password"] = Json::String(password),
            None => body["link"] = json!(link),
        }
        let made: Json = self.client.create("/api/users", &body)?;
        if self.is_json {
            return output::json(&made);
        }
        output::say(format_args!("{name}: added"))?;
        if body["link"] == false {
            super::note_no_way_in(name);
        }
        if let Some(url) = made["link"]["url"].as_str() {
            complain(format_args!(
                "note: {name} sets a password there, once, within the hour: {}",
                output::foreign(url)
            ));
        }
        Ok(())
    }

    fn change(&self, name: &str, changes: &Json) -> Result<Json, Failure> {
        let path = format!("/api/users/{}", session::percent(name));
        self.client.call(Method::PATCH, &path, Some(changes))
    }

    fn close(&self, name: &str, disabled: bool, what: &str) -> Outcome {
        let now = self.change(name, &json!({"disabled": disabled}))?;
        match self.is_json {
            true => output::json(&now),
            false => output::say(format_args!("{name}: {what}")),
        }
    }
}
