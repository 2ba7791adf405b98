//! `sojourn user`: accounts and their keys, in the data directory itself, also while the gateway is
//! stopped; with `SOJOURN_URL` those of a gateway elsewhere.

mod remote;

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;
use serde_json::json;
use sojourn_core::audit::Actor;
use sojourn_core::authz::Role;
use sojourn_core::time::Wall;
use sojourn_engine::audit::AuditOptions;
use sojourn_engine::audit::OnFailure;
use sojourn_engine::audit::drain;
use sojourn_engine::clock::Clock;
use sojourn_engine::clock::SystemClock;
use sojourn_engine::identity::AccountError;
use sojourn_engine::identity::Accounts;
use sojourn_engine::identity::ResetLink;
use sojourn_store::Store;
use sojourn_store::User as Account;
use sojourn_store::UserKey;
use sojourn_web::Origin;

use super::logins::logins;
use crate::cli::Common;
use crate::cli::Key;
use crate::cli::User as Command;
use crate::client::is_remote;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::failure::complain;
use crate::output;
use crate::table::Table;
use crate::terminal;

/// The longest file of a public key.
const LONGEST_FILE: u64 = 64 << 10;

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    let todo = match command {
        Command::Logins { name, end } => return logins(common, &name, end),
        command if is_remote() => return remote::run(common, command),
        command => command,
    };
    let config = super::load(common)?.config;
    let data = DataDir::open(&config.data_dir.0)?;
    // What comes from outside is read first, with the rights of whoever calls.
    let input = Input::of(&todo)?;
    let actor = Actor::local(rustix::process::getuid().as_raw());
    data.become_owner()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::refused)?;
    runtime.block_on(async {
        let office = Office::open(&data, &config, actor).await?;
        let outcome = office.run(common, todo, input).await;
        office.close().await;
        outcome
    })
}

/// What a command reads besides its options.
enum Input {
    None,
    /// A new password; none: the account shall have none.
    Password(Option<String>),
    /// The text of a public key.
    Key(String),
}

impl Input {
    fn of(command: &Command) -> Result<Self, Failure> {
        let password = |name: &str, from_stdin| match from_stdin {
            true => terminal::read_line(io::stdin().lock()),
            false => terminal::ask_new_password(name),
        };
        Ok(match command {
            Command::Add { password: how, .. } if how.no_password || how.link => {
                Self::Password(None)
            }
            Command::Add { name, password: how, .. } => {
                Self::Password(Some(password(name, how.password_stdin)?))
            }
            Command::Passwd { name, password_stdin } => {
                Self::Password(Some(password(name, *password_stdin)?))
            }
            Command::Key(Key::Add { file, .. }) => Self::Key(read_key(file)?),
            _ => Self::None,
        })
    }

    fn password(self) -> Option<String> {
        match self {
            Self::Password(password) => password,
            _ => None,
        }
    }

    fn key(self) -> String {
        match self {
            Self::Key(text) => text,
            _ => String::new(),
        }
    }
}

/// The one key in a file.
fn read_key(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(LONGEST_FILE).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(LONGEST_FILE).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::at(path, error))?;
    let is_key = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let mut keys = text.lines().filter(is_key);
    let key = keys.next().ok_or_else(|| Failure::at(path, "there is no key in it"))?.to_owned();
    // A private key has many lines, and is better refused as what it is.
    if keys.next().is_some() && !key.starts_with("-----") {
        return Err(Failure::at(path, "there is more than one key in it; add them one by one"));
    }
    Ok(key)
}

impl From<AccountError> for Failure {
    fn from(error: AccountError) -> Self {
        match &error {
            AccountError::NoUser(_) => {
                Self::refused(format!("{error}; \"sojourn user ls\" lists them"))
            }
            _ => Self::caused(&error),
        }
    }
}

/// Where accounts are changed.
struct Office {
    store: Store,
    accounts: Accounts,
    clock: Arc<dyn Clock>,
    options: AuditOptions,
    actor: Actor,
    /// Where the page is; none while its port is not known.
    page: Option<Origin>,
}

impl Office {
    async fn open(data: &DataDir, config: &Config, actor: Actor) -> Result<Self, Failure> {
        let store = Store::open_at(config.store.url.location(data.path()))
            .await
            .map_err(|error| Failure::caused(&error))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let data_dir = data.path().to_owned();
        let accounts = Accounts::new(store.clone(), clock.clone(), data_dir.clone());
        let options = AuditOptions { data_dir, on_failure: OnFailure::Refuse };
        let (web, port) = (&config.web, config.web.listen.0.port());
        let page = (port != 0 || web.public_url.0.is_some()).then(|| web.origin(port));
        Ok(Self { store, accounts, clock, options, actor, page })
    }

    /// Leaves the log in order: a gateway that runs fetches what was done here, else it is written.
    async fn close(self) {
        if let Err(error) = drain(&self.options, self.store.clone(), self.clock).await {
            let failure = Failure::caused(&error);
            complain(format_args!("the audit log waits for the next start: {failure}"));
        }
        self.store.close().await;
    }

    async fn run(&self, common: &Common, command: Command, input: Input) -> Outcome {
        let (accounts, actor) = (&self.accounts, self.actor.clone());
        let done = |name: &str, what: &str| match common.json {
            true => output::json(&json!({"user": name, "done": what})),
            false => output::say(format_args!("{name}: {what}")),
        };
        match command {
            Command::Add { name, role, password: how } => {
                let password = input.password();
                accounts.add(&name, role, password.as_deref(), actor.clone()).await?;
                if how.link {
                    let link = accounts.issue_reset(&name, actor).await?;
                    return self.show_reset(common, &name, &link, "");
                }
                done(&name, "added")?;
                if password.is_none() && !common.json {
                    note_no_way_in(&name);
                }
                Ok(())
            }
            Command::Ls => {
                list(common, &accounts.list().await?.iter().map(shown).collect::<Vec<_>>())
            }
            Command::Passwd { name, .. } => {
                accounts.set_password(&name, input.password().as_deref(), actor).await?;
                done(&name, "password changed")
            }
            Command::Role { name, role } => {
                accounts.set_role(&name, role, actor).await?;
                show_role(common, &name, role)
            }
            Command::Disable { name } => {
                accounts.disable(&name, actor).await?;
                done(&name, "disabled")
            }
            Command::Enable { name } => {
                accounts.enable(&name, actor).await?;
                done(&name, "enabled")
            }
            Command::Key(Key::Add { name, .. }) => {
                let key = accounts.add_key(&name, &input.key(), actor).await?;
                done(&name, &format!("key {} added", key.fingerprint))
            }
            Command::Key(Key::Ls { name }) => list_keys(common, &accounts.keys(&name).await?),
            Command::Key(Key::Rm { name, id }) => {
                let key = accounts.remove_key(&name, &id, actor).await?;
                done(&name, &format!("key {} removed", key.fingerprint))
            }
            Command::Reset { name } => {
                let link = accounts.issue_reset(&name, actor).await?;
                self.show_reset(common, &name, &link, "; until then the old one is good")
            }
            // The gateway is asked for these.
            Command::Logins { .. } => Ok(()),
        }
    }

    /// The token alone on standard output, so that it can be piped to where its owner finds it.
    fn show_reset(
        &self,
        common: &Common,
        name: &str,
        link: &ResetLink,
        meanwhile: &str,
    ) -> Outcome {
        let (token, expires_at) = (link.token.expose(), link.expires_at);
        let url = self.page.as_ref().map(|page| format!("{page}/reset#{token}"));
        if common.json {
            return output::json(&json!({
                "user": name,
                "token": token,
                "url": url,
                "expires_at": expires_at.to_rfc3339(),
            }));
        }
        // Without the token: what is said on standard error ends up in logs.
        let place = self.page.as_ref().map(|page| format!("; it goes behind {page}/reset#"));
        let place = place.unwrap_or_default();
        complain(format_args!(
            "note: {name} sets a password with this once, until {}{meanwhile}{place}",
            output::time(expires_at)
        ));
        output::say(format_args!("{token}"))
    }
}

/// An account without password and key is there, and nobody comes in with it.
fn note_no_way_in(name: &str) {
    complain(format_args!(
        "note: {name} can come in once there is a key: sojourn user key add {name} FILE"
    ));
}

/// Says what an account may from now on.
fn show_role(common: &Common, name: &str, role: Role) -> Outcome {
    if common.json {
        return output::json(&json!({"user": name, "done": format!("is {role} now")}));
    }
    let article = if role == Role::Member { "a" } else { "an" };
    output::say(format_args!("{name} is {article} {role} now"))
}

/// An account as the API has it.
fn shown(user: &Account) -> Json {
    json!({
        "name": user.name,
        "role": user.role,
        "has_password": user.password.is_some(),
        "must_change": user.must_change,
        "disabled": user.disabled_at.is_some(),
        "created_at": user.created_at.to_rfc3339(),
        "password_changed_at": user.password_changed_at.map(|at| at.to_rfc3339()),
        "disabled_at": user.disabled_at.map(|at| at.to_rfc3339()),
    })
}

fn list(common: &Common, users: &[Json]) -> Outcome {
    if common.json {
        return output::json(&json!({"items": users, "next_cursor": null}));
    }
    let mut table = Table::new(&["NAME", "ROLE", "PASSWORD", "CREATED", "STATUS"]);
    for user in users {
        let text = |name: &str| output::foreign(user[name].as_str().unwrap_or_default());
        let password = match (user["has_password"] == true, user["must_change"] == true) {
            (false, _) => "none",
            (true, true) => "to be changed",
            (true, false) => "set",
        };
        let status = if user["disabled"] == true { "disabled" } else { "" };
        let created = user["created_at"].as_str().and_then(|at| Wall::from_rfc3339(at).ok());
        table.row([
            text("name"),
            text("role"),
            password.to_owned(),
            created.map(output::time).unwrap_or_default(),
            status.to_owned(),
        ]);
    }
    table.print("no users; make one with \"sojourn user add NAME\"")
}

fn list_keys(common: &Common, keys: &[UserKey]) -> Outcome {
    if common.json {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| {
                json!({
                    "id": key.id,
                    "fingerprint": key.fingerprint,
                    "comment": key.comment,
                    "key": key.openssh,
                    "added_at": key.added_at.to_rfc3339(),
                })
            })
            .collect();
        return output::json(&json!({"items": keys, "next_cursor": null}));
    }
    let mut table = Table::new(&["ID", "FINGERPRINT", "COMMENT"]);
    for key in keys {
        table.row([key.id.short(), key.fingerprint.clone(), key.comment.clone()]);
    }
    table.print("no keys")
}
