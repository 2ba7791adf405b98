//! Permissions and questions.

use agent_client_protocol::Error;
use agent_client_protocol::UntypedMessage;
use agent_client_protocol::v1::schema::RequestPermissionOutcome;
use agent_client_protocol::v1::schema::RequestPermissionRequest;
use agent_client_protocol::v1::schema::RequestPermissionResponse;
use agent_client_protocol::v1::schema::StopReason;
use serde_json::Value;
use serde_json::json;

use super::log;
use super::script::Turn;

/// What became of a request for permission.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Allowed {
    Yes,
    No,
    Cancelled,
}

impl Turn {
    pub(crate) async fn permission(&self, words: &[&str]) -> Result<StopReason, Error> {
        let commands: Vec<String> = match words {
            ["perm", "edit", path, text @ ..] => {
                return self.permission_to_edit(path, &text.join(" ")).await;
            }
            ["perm", "withdraw"] => return self.withdraw().await,
            ["perm"] => vec!["make all".to_owned()],
            ["perm", count] if count.starts_with('x') => {
                let count: usize = count[1..].parse().unwrap_or(1);
                (1..=count).map(|n| format!("make part{n}")).collect()
            }
            _ => vec![words[1..].join(" ")],
        };
        let mut asked = Vec::new();
        for (n, command) in commands.iter().enumerate() {
            let request = self.request(json!({
                "toolCallId": format!("run-{n}-{command}"),
                "title": format!("Run {command}"),
                "name": "Bash",
                "kind": "execute",
                "rawInput": {"command": command},
            }))?;
            let sent = self.connection.send_request(request);
            let command = command.clone();
            asked.push(async move { (command, sent.block_task().await) });
        }
        let mut stop = StopReason::EndTurn;
        let answers = futures_util::stream::FuturesUnordered::from_iter(asked);
        let mut answers = std::pin::pin!(answers);
        while let Some((command, answer)) = futures_util::StreamExt::next(&mut answers).await {
            let allowed = self.read(&command, answer)?;
            match allowed {
                Allowed::Yes => self.say(&format!("ran {command}\n")).await?,
                Allowed::No => self.say(&format!("denied {command}\n")).await?,
                Allowed::Cancelled => stop = StopReason::Cancelled,
            }
        }
        Ok(stop)
    }

    async fn permission_to_edit(&self, path: &str, text: &str) -> Result<StopReason, Error> {
        let old = std::fs::read_to_string(path).ok();
        let diff =
            json!({"type": "diff", "path": path, "oldText": old, "newText": format!("{text}\n")});
        let request = self.request(json!({
            "toolCallId": format!("edit-{path}"),
            "title": format!("Edit {path}"),
            "name": "Edit",
            "kind": "edit",
            "rawInput": {"file_path": path, "new_string": text},
            "locations": [{"path": path}],
            "content": [diff],
        }))?;
        let answer = self.connection.send_request(request).block_task().await;
        match self.read(path, answer)? {
            Allowed::Yes => self.edit(path, text).await?,
            Allowed::No => self.say(&format!("denied {path}\n")).await?,
            Allowed::Cancelled => return Ok(StopReason::Cancelled),
        }
        Ok(StopReason::EndTurn)
    }

    /// Asks, and does not want to know any more.
    async fn withdraw(&self) -> Result<StopReason, Error> {
        let call = json!({"toolCallId": "w", "title": "Run later", "kind": "execute",
                          "rawInput": {"command": "later"}});
        let sent = self.connection.send_request(self.request(call)?);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        sent.cancel()?;
        let answer = sent.block_task().await;
        let allowed = self.read("later", answer)?;
        assert!(allowed == Allowed::Cancelled, "what was withdrawn was answered");
        self.say("withdrawn\n").await?;
        Ok(StopReason::EndTurn)
    }

    /// With the option that lasts in first place, as some agents have it.
    fn request(&self, call: Value) -> Result<RequestPermissionRequest, Error> {
        let flavour = self.shared.options.flavour;
        let params = json!({
            "sessionId": self.session,
            "toolCall": call,
            "options": [
                {"optionId": flavour.always, "name": "Always", "kind": "allow_always"},
                {"optionId": flavour.once, "name": "Yes", "kind": "allow_once"},
                {"optionId": flavour.reject, "name": "No", "kind": "reject_once"},
            ],
        });
        serde_json::from_value(params)
            .map_err(|error| Error::internal_error().data(error.to_string()))
    }

    fn read(
        &self,
        what: &str,
        answer: Result<RequestPermissionResponse, Error>,
    ) -> Result<Allowed, Error> {
        let flavour = self.shared.options.flavour;
        let option = match answer.map(|answer| answer.outcome) {
            Ok(RequestPermissionOutcome::Selected(selected)) => selected.option_id.0.to_string(),
            _ => "cancelled".to_owned(),
        };
        log::got(&json!({"got": "permission", "what": what, "option": option}));
        match option.as_str() {
            option if option == flavour.once => Ok(Allowed::Yes),
            option if option == flavour.reject => Ok(Allowed::No),
            "cancelled" => Ok(Allowed::Cancelled),
            // Nobody may choose what lasts.
            other => Err(Error::invalid_params().data(other.to_owned())),
        }
    }

    pub(crate) async fn ask(&self) -> Result<(), Error> {
        let schema = json!({
            "type": "object",
            "properties": {
                "which": {"type": "string", "title": "Which one?", "enum": ["red", "green"]},
                "other": {"type": "string", "title": "Other"},
            },
            "required": ["which"],
        });
        let params = json!({"mode": "form", "sessionId": self.session,
                            "message": "Which colour?", "requestedSchema": schema});
        let request = UntypedMessage::new("elicitation/create", params)?;
        let answer = self.connection.send_request(request).block_task().await?;
        log::got(&json!({"got": "answer", "answer": answer}));
        self.say(&format!("answered {answer}\n")).await
    }
}

impl Turn {
    /// For scripts that end in the middle of a question.
    pub(crate) fn ask_and_leave(&self) -> Result<(), Error> {
        let call = json!({"toolCallId": "d", "title": "Run it", "name": "Bash", "kind": "execute",
                          "rawInput": {"command": "rm -r build"}});
        self.connection.send_request(self.request(call)?).detach();
        Ok(())
    }
}
