//! What the agent does for a prompt, and how its sessions begin.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::Client;
use agent_client_protocol::Error;
use agent_client_protocol::ErrorCode;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::PromptResponse;
use agent_client_protocol::v1::schema::SessionId;
use agent_client_protocol::v1::schema::StopReason;
use serde_json::Value;
use serde_json::json;
use tokio::sync::watch;

use super::Shared;
use super::broken;
use super::log;

/// What is said at once in a stream, in bytes.
const CHUNK: u64 = 1000;

/// Answers requests about sessions.
pub(crate) async fn session(shared: &Shared, method: &str, params: &Value) -> Result<Value, Error> {
    let options = &shared.options;
    let id = params.get("sessionId").and_then(Value::as_str).unwrap_or_default();
    let begun = |answer: Value| if options.null_results { Value::Null } else { answer };
    match method {
        "session/new" if options.sign_in => Err(Error::auth_required()),
        "session/new" => {
            let mut answer = modes(shared);
            answer["sessionId"] = format!("fake-{}", std::process::id()).into();
            Ok(answer)
        }
        "session/resume" | "session/load" if id == "unknown" => {
            Err(Error::new(ErrorCode::RESOURCE_NOT_FOUND, "no such session"))
        }
        "session/resume" => Ok(begun(modes(shared))),
        "session/load" => {
            if options.replays {
                shared.voice.say(id, "an old answer").await.map_err(broken)?;
            }
            if options.replays_late {
                let (voice, id) = (shared.voice.clone(), id.to_owned());
                tokio::spawn(async move {
                    // Until the answer is written.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let told = voice.say(&id, "an old answer").await.is_ok();
                    let kind = "available_commands_update";
                    let last = json!({"sessionUpdate": kind, "availableCommands": []});
                    let told = told && voice.update(&id, last).await.is_ok();
                    log::got(&json!({"got": "replayed", "told": told}));
                });
            }
            Ok(begun(modes(shared)))
        }
        "session/set_mode" | "session/set_config_option" | "session/close" => Ok(json!({})),
        _ => Err(Error::method_not_found()),
    }
}

fn modes(shared: &Shared) -> Value {
    let modes = shared.options.flavour.modes;
    let first = modes.first().copied().unwrap_or_default();
    let list = |key: &str| -> Vec<Value> {
        modes.iter().map(|mode| json!({key: mode, "name": mode})).collect()
    };
    if !shared.options.has_modes {
        return json!({});
    }
    if shared.options.config_modes {
        let option = json!({
            "id": "mode", "name": "Mode", "category": "mode", "type": "select",
            "currentValue": first, "options": list("value"),
        });
        return json!({"configOptions": [option]});
    }
    json!({"modes": {"currentModeId": first, "availableModes": list("id")}})
}

/// One turn.
pub(crate) struct Turn {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connection: ConnectionTo<Client>,
    pub(crate) session: SessionId,
    cancels: watch::Receiver<u64>,
}

impl Turn {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connection: ConnectionTo<Client>,
        session: SessionId,
    ) -> Self {
        let cancels = shared.cancels.subscribe();
        Self { shared, connection, session, cancels }
    }

    /// Does what it is told, until the end or until it is told to stop.
    pub(crate) async fn play(mut self, text: &str) -> Result<PromptResponse, Error> {
        // What was counted before this turn began is not about it.
        let mut cancels = self.cancels.clone();
        let done = if text.starts_with("ignore-cancel") {
            self.act(text).await
        } else {
            tokio::select! {
                done = self.act(text) => done,
                _ = cancels.changed() => Ok(StopReason::Cancelled),
            }
        };
        done.map(PromptResponse::new)
    }

    async fn act(&mut self, text: &str) -> Result<StopReason, Error> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["say", count] => {
                for n in 1..=count.parse().unwrap_or(1) {
                    self.say(&format!("word {n}\n")).await?;
                }
            }
            ["stream", total, rate @ ..] => {
                let rate = rate.iter().rfind(|word| word.ends_with("/s"));
                self.stream(size(total), rate.map(|rate| size(rate.trim_end_matches("/s"))))
                    .await?;
            }
            ["perm", ..] => return self.permission(&words).await,
            ["work", count] => {
                for n in 1..=count.parse().unwrap_or(1) {
                    self.say(&format!("part {n}\n")).await?;
                    let part = format!("part{n}");
                    let stop = self.permission(&["perm", "make", &part]).await?;
                    if stop != StopReason::EndTurn {
                        return Ok(stop);
                    }
                }
            }
            ["ask", ..] => self.ask().await?,
            ["hang" | "ignore-cancel", ..] => std::future::pending::<()>().await,
            ["die" | "big-line" | "nonjson" | "fork-setsid", ..] => self.misbehave(&words).await?,
            ["mode", name] => {
                let kind = "current_mode_update";
                self.update(json!({"sessionUpdate": kind, "currentModeId": name})).await?;
            }
            ["usage", amount @ ..] => {
                let amount = amount.first().and_then(|amount| amount.parse::<f64>().ok());
                let cost = json!({"amount": amount.unwrap_or(0.0123), "currency": "USD"});
                let kind = "usage_update";
                let usage =
                    json!({"sessionUpdate": kind, "used": 1000, "size": 200_000, "cost": cost});
                self.update(usage).await?;
            }
            ["edit", path, text @ ..] => self.edit(path, &text.join(" ")).await?,
            ["stderr", text @ ..] => eprintln!("{}", text.join(" ")),
            _ => self.say(text).await?,
        }
        Ok(StopReason::EndTurn)
    }

    pub(crate) async fn say(&self, text: &str) -> Result<(), Error> {
        self.shared.voice.say(&self.session.0, text).await.map_err(broken)
    }

    pub(crate) async fn update(&self, update: Value) -> Result<(), Error> {
        self.shared.voice.update(&self.session.0, update).await.map_err(broken)
    }

    async fn stream(&self, total: u64, rate: Option<u64>) -> Result<(), Error> {
        let text = "x".repeat(usize::try_from(CHUNK).unwrap_or_default());
        let mut said = 0;
        while said < total {
            self.say(&text).await?;
            said += CHUNK;
            if let Some(rate) = rate {
                tokio::time::sleep(Duration::from_secs_f64(CHUNK as f64 / rate.max(1) as f64))
                    .await;
            }
        }
        Ok(())
    }

    /// Writes a file and says so, as agents do that edit unasked.
    pub(crate) async fn edit(&self, path: &str, text: &str) -> Result<(), Error> {
        let id = format!("edit-{path}");
        let call = json!({
            "sessionUpdate": "tool_call", "toolCallId": id, "title": format!("Edit {path}"),
            "kind": "edit", "status": "in_progress", "rawInput": {"file_path": path},
        });
        self.update(call).await?;
        write(path, text).map_err(broken)?;
        let done =
            json!({"sessionUpdate": "tool_call_update", "toolCallId": id, "status": "completed"});
        self.update(done).await
    }
}

pub(crate) fn write(path: &str, text: &str) -> io::Result<()> {
    std::fs::write(path, format!("{text}\n"))
}

/// `200MB`, `64M`, `10k`, `7`.
pub(crate) fn size(text: &str) -> u64 {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().unwrap_or_default();
    match text.chars().nth(digits.len()).map(|unit| unit.to_ascii_lowercase()) {
        Some('k') => number * 1000,
        Some('m') => number * 1_000_000,
        _ => number,
    }
}
