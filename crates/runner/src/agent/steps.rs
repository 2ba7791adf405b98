//! The start of a conversation, step by step. Each step is told when it begins and when it is done,
//! has so much time, and fails with a line that says what to do.

use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_client_protocol::Agent;
use agent_client_protocol::Error;
use agent_client_protocol::ErrorCode;
use agent_client_protocol::UntypedMessage;
use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::ClientCapabilities;
use agent_client_protocol::v1::schema::ElicitationCapabilities;
use agent_client_protocol::v1::schema::ElicitationFormCapabilities;
use agent_client_protocol::v1::schema::Implementation;
use agent_client_protocol::v1::schema::InitializeRequest;
use agent_client_protocol::v1::schema::InitializeResponse;
use serde_json::Value;
use serde_json::json;
use sojourn_core::end::Exit;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Recovery;
use sojourn_core::wire::relay::Step;
use sojourn_core::wire::relay::StepState;
use sojourn_term::escape::escape;
use tokio::sync::watch;

use super::Prepared;
use super::StartError;
use super::conversation::Conversation;
use super::conversation::Mode;
use super::conversation::Over;
use super::modes;
use super::owner;
use super::owner::Owned;
use super::stderr::Last;

/// How long is waited for the exit status of a program that closed its output.
const EXIT: Duration = Duration::from_secs(2);

/// The longest text of an agent's in an error, in characters.
const MAX_QUOTE: usize = 300;

/// What the steps found.
pub(super) struct Begun {
    /// The agent's name and version.
    pub(super) agent: Option<String>,
    pub(super) recovery: Recovery,
    /// The conversation is this process' own while this is kept.
    pub(super) owned: Owned,
}

/// Why a step failed: its line is told.
enum Failed {
    Line(String),
    Over(Over),
}

impl From<Over> for Failed {
    fn from(over: Over) -> Self {
        Self::Over(over)
    }
}

impl Conversation {
    /// Takes all steps.
    pub(super) async fn begin(
        &mut self,
        prepared: &Prepared,
        pid: u32,
        last: &Last,
    ) -> Result<Begun, StartError> {
        let times = self.times;
        let connection = self.wire.connection.clone();
        let hello =
            self.step(Step::Initialize, times.initialize, last, initialize(connection)).await?;
        let agent = hello.agent_info.as_ref().map(|info| {
            let name = info.title.as_deref().unwrap_or(&info.name);
            escape(&format!("{name} {}", info.version), 128)
        });
        self.done(Step::Initialize, agent.clone()).await?;
        let can = &hello.agent_capabilities;
        self.can_close = can.session_capabilities.close.is_some();
        let can_resume = can.session_capabilities.resume.is_some();
        let can_load = can.load_session;

        let way = match (&self.launch.resume, can_resume, can_load) {
            (None, _, _) => "session/new",
            (Some(_), true, _) => "session/resume",
            (Some(_), false, true) => "session/load",
            (Some(_), false, false) => {
                let message = "this agent cannot take up a conversation; start a new session";
                return Err(self.failed(Step::Conversation, message.to_owned()).await);
            }
        };
        let mut owned = None;
        if let Some(id) = &self.launch.resume {
            // Before the agent touches it: the other one may be writing.
            match owner::take(&prepared.state_dir, &self.launch.harness, id, pid) {
                Ok(taken) => owned = Some(taken),
                Err(error) => return Err(self.failed(Step::Conversation, error.to_string()).await),
            }
        }
        self.wire.replaying.store(way == "session/load", Ordering::Release);
        let open = open(
            self.wire.connection.clone(),
            way,
            self.launch.resume.clone(),
            self.cwd.to_string_lossy().into_owned(),
        );
        let answer = self.step(Step::Conversation, times.conversation, last, open).await?;
        // An agent that takes a conversation up need not say its id again.
        let id = answer.get("sessionId").and_then(Value::as_str).map(str::to_owned);
        self.id = self.launch.resume.clone().or(id).unwrap_or_default();
        let owned = match owned {
            Some(owned) => owned,
            None => match owner::take(&prepared.state_dir, &self.launch.harness, &self.id, pid) {
                Ok(taken) => taken,
                Err(error) => return Err(self.failed(Step::Conversation, error.to_string()).await),
            },
        };
        self.done(Step::Conversation, None).await?;
        self.choose_mode(prepared, &answer, last).await?;
        let recovery = Recovery {
            agent_session_id: self.id.clone(),
            cwd: self.cwd.to_string_lossy().into_owned(),
            can_resume: can_resume || can_load,
        };
        Ok(Begun { agent, recovery, owned })
    }

    /// Sets the mode, and the model where one is wanted.
    async fn choose_mode(
        &mut self,
        prepared: &Prepared,
        answer: &Value,
        last: &Last,
    ) -> Result<(), StartError> {
        let harness = &self.launch.harness;
        let wanted = modes::mode(harness, prepared.mode.as_deref(), self.allow_bypass, answer);
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(error) => return Err(self.failed(Step::Mode, error.to_string()).await),
        };
        let model = match self.launch.model.as_deref().map(|model| modes::model(model, answer)) {
            Some(Err(error)) => return Err(self.failed(Step::Mode, error.to_string()).await),
            Some(Ok(choice)) => Some(choice),
            None => None,
        };
        let choices: Vec<_> =
            wanted.iter().chain(&model).map(|(way, value)| self.choose(way, value)).collect();
        let connection = self.wire.connection.clone();
        let set = async move {
            for (method, params) in choices {
                ask(&connection, method, params)
                    .await
                    .map_err(|error| format!("the agent refused {method}: {}", quote(&error)))?;
            }
            Ok(())
        };
        self.step(Step::Mode, self.times.mode, last, set).await?;
        let Some((way, wanted)) = wanted else {
            return self.done(Step::Mode, Some("the agent has no modes".to_owned())).await;
        };
        self.mode = Some(Mode { way, wanted: wanted.clone(), current: wanted.clone() });
        let name = escape(&wanted, 64);
        self.done(Step::Mode, Some(name.clone())).await?;
        self.emit(Event::Mode { mode: name, by_agent: false }).await.map_err(over)
    }

    /// Does a step's work, and deals with what the agent says meanwhile.
    async fn step<T>(
        &mut self,
        step: Step,
        time: Duration,
        last: &Last,
        work: impl Future<Output = Result<T, String>>,
    ) -> Result<T, StartError> {
        let begun = Event::Step { step, state: StepState::Begun, message: None };
        self.emit(begun).await.map_err(over)?;
        match self.work(time, work).await {
            Ok(done) => Ok(done),
            Err(Failed::Line(message)) => Err(self.failed(step, message).await),
            Err(Failed::Over(Over::Died)) => {
                let message = self.how_it_died(last).await;
                Err(self.failed(step, message).await)
            }
            Err(Failed::Over(other)) => Err(over(other)),
        }
    }

    async fn work<T>(
        &mut self,
        time: Duration,
        work: impl Future<Output = Result<T, String>>,
    ) -> Result<T, Failed> {
        let mut work = std::pin::pin!(work);
        let mut time_out = std::pin::pin!(tokio::time::sleep(time));
        loop {
            tokio::select! {
                done = &mut work => {
                    // That the agent is gone is in the inbox before its request fails.
                    self.drain().await?;
                    return done.map_err(Failed::Line);
                }
                inbound = self.wire.inbox.recv() => match inbound {
                    Some(inbound) => self.heard(inbound).await?,
                    None => return Err(Failed::Over(Over::Died)),
                },
                () = ended(&mut self.exit) => return Err(Failed::Over(Over::Died)),
                () = self.closing.cancelled() => return Err(Failed::Over(Over::Closed)),
                () = &mut time_out => {
                    return Err(Failed::Line(format!(
                        "the agent did not answer within {} s; run it by hand on the runner's \
                         machine to see what it waits for",
                        time.as_secs()
                    )));
                }
            }
        }
    }

    async fn how_it_died(&mut self, last: &Last) -> String {
        let exit = tokio::time::timeout(EXIT, self.exit.wait_for(Option::is_some)).await;
        let exit = exit.ok().and_then(Result::ok).and_then(|exit| (*exit).clone());
        let how = match exit {
            Some(Exit::Code(code)) => format!("ended with exit status {code}"),
            Some(Exit::Signal(signal)) => format!("was ended by SIG{signal}"),
            None => "closed its output".to_owned(),
        };
        let said = match last.line() {
            line if line.is_empty() => String::new(),
            line => format!(" ({line})"),
        };
        format!("the agent {how} before it answered{said}; run it by hand to see why")
    }

    async fn done(&mut self, step: Step, message: Option<String>) -> Result<(), StartError> {
        let done = Event::Step { step, state: StepState::Done, message };
        self.emit(done).await.map_err(over)
    }

    async fn failed(&mut self, step: Step, message: String) -> StartError {
        let failed = Event::Step { step, state: StepState::Failed, message: Some(message.clone()) };
        // Whoever takes no events any more gets it as the error.
        let _ = self.emit(failed).await;
        StartError(message)
    }
}

/// Waits until a program has ended, or nobody will say so.
async fn ended(exit: &mut watch::Receiver<Option<Exit>>) {
    let _ = exit.wait_for(Option::is_some).await;
}

fn over(over: Over) -> StartError {
    StartError(match over {
        Over::Closed => "the session was ended while it started".to_owned(),
        Over::Gone => "the session takes no more events".to_owned(),
        Over::Died => "the agent ended; run it by hand to see why".to_owned(),
    })
}

async fn initialize(connection: ConnectionTo<Agent>) -> Result<InitializeResponse, String> {
    let form = ElicitationCapabilities::new().form(ElicitationFormCapabilities::new());
    // No files and no terminals of ours: an agent uses its own, where it is.
    let can = ClientCapabilities::new().elicitation(form);
    let hello = InitializeRequest::new(ProtocolVersion::V1)
        .client_capabilities(can)
        .client_info(Implementation::new("sojourn", env!("CARGO_PKG_VERSION")));
    let hello = connection.send_request(hello).block_task().await.map_err(|error| {
        format!("the agent refused to begin: {}; is it one that speaks ACP?", quote(&error))
    })?;
    match hello.protocol_version == ProtocolVersion::V1 {
        true => Ok(hello),
        false => Err(format!(
            "the agent speaks version {} of ACP, and 1 is needed; install another version of it",
            hello.protocol_version
        )),
    }
}

/// Begins a conversation, or takes one up again.
async fn open(
    connection: ConnectionTo<Agent>,
    way: &'static str,
    resume: Option<String>,
    cwd: String,
) -> Result<Value, String> {
    let mut params = json!({"cwd": cwd, "mcpServers": []});
    if let (Some(id), Some(params)) = (&resume, params.as_object_mut()) {
        params.insert("sessionId".to_owned(), id.as_str().into());
    }
    let answer = ask(&connection, way, params).await.map_err(|error| {
        if error.code == ErrorCode::AUTH_REQUIRED {
            return "the agent is not signed in; run it by hand on the runner's machine and sign in"
                .to_owned();
        }
        match resume {
            Some(_) => format!(
                "the agent cannot take up the conversation: {}; start a new session",
                quote(&error)
            ),
            None => format!("the agent began no conversation: {}", quote(&error)),
        }
    })?;
    if resume.is_none() && answer.get("sessionId").and_then(Value::as_str).is_none() {
        return Err(
            "the agent gave its conversation no id; install another version of it".to_owned()
        );
    }
    Ok(answer)
}

async fn ask(
    connection: &ConnectionTo<Agent>,
    method: &str,
    params: Value,
) -> Result<Value, Error> {
    connection.send_request(UntypedMessage::new(method, params)?).block_task().await
}

fn quote(error: &Error) -> String {
    let data = error.data.as_ref().map(|data| format!(" ({data})")).unwrap_or_default();
    escape(&format!("{}{data}", error.message), MAX_QUOTE)
}
