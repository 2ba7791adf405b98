//! An agent for tests, on the official crate: it does what the first line of a prompt tells it to, and
//! writes down everything that reaches it. `--help` lists what it knows.

mod asking;
mod log;
mod misbehaving;
mod options;
mod script;
mod voice;

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::Agent;
use agent_client_protocol::Error;
use agent_client_protocol::Lines;
use agent_client_protocol::UntypedMessage;
use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema::AgentCapabilities;
use agent_client_protocol::v1::schema::CancelNotification;
use agent_client_protocol::v1::schema::ContentBlock;
use agent_client_protocol::v1::schema::Implementation;
use agent_client_protocol::v1::schema::InitializeRequest;
use agent_client_protocol::v1::schema::InitializeResponse;
use agent_client_protocol::v1::schema::PromptRequest;
use agent_client_protocol::v1::schema::SessionCapabilities;
use agent_client_protocol::v1::schema::SessionCloseCapabilities;
use agent_client_protocol::v1::schema::SessionResumeCapabilities;
use futures_util::stream;
use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::sync::watch;

use self::options::Options;
use self::script::Turn;
use self::voice::Voice;

/// What all handlers share.
struct Shared {
    options: Options,
    voice: Voice,
    /// Counts the times that it was told to cancel.
    cancels: watch::Sender<u64>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(help) => {
            eprintln!("{help}");
            return ExitCode::from(2);
        }
    };
    if let Some(code) = options.die_at_start {
        eprintln!("fake-agent: cannot find the model");
        return ExitCode::from(code);
    }
    let env: BTreeMap<String, String> = std::env::vars().collect();
    log::got(&json!({"got": "environment", "env": env}));
    let (cancels, _) = watch::channel(0);
    let shared = Arc::new(Shared { options, voice: Voice::new(), cancels });
    match serve(shared).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fake-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(shared: Arc<Shared>) -> Result<(), Error> {
    let incoming = stream::unfold(BufReader::new(tokio::io::stdin()).lines(), async |mut lines| {
        let line = lines.next_line().await.transpose()?;
        Some((line, lines))
    });
    let outgoing = shared.voice.sink();
    let (hello, prompts, cancels, others) =
        (Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&shared));
    Agent
        .v1()
        .name("fake-agent")
        .on_receive_request(
            async move |request: InitializeRequest, responder, _connection| {
                log::got(
                    &json!({"got": "initialize", "capabilities": request.client_capabilities}),
                );
                let shared = Arc::clone(&hello);
                tokio::spawn(async move {
                    tokio::time::sleep(shared.options.slow_start).await;
                    responder.respond(initialized(&shared.options))
                });
                Ok(())
            },
            agent_client_protocol::on_receive_request!(),
        )
        .on_receive_request(
            async move |request: PromptRequest, responder, connection| {
                let text = text(&request.prompt);
                log::got(&json!({"got": "prompt", "text": text}));
                let turn = Turn::new(Arc::clone(&prompts), connection, request.session_id);
                // Beside the dispatch loop, so that cancelling is heard.
                tokio::spawn(async move {
                    let answer = turn.play(&text).await;
                    responder.respond_with_result(answer)
                });
                Ok(())
            },
            agent_client_protocol::on_receive_request!(),
        )
        .on_receive_notification(
            async move |_: CancelNotification, _connection| {
                log::got(&json!({"got": "cancel"}));
                cancels.cancels.send_modify(|count| *count += 1);
                Ok(())
            },
            agent_client_protocol::on_receive_notification!(),
        )
        .on_receive_request(
            async move |request: UntypedMessage, responder, _connection| {
                let (method, params) = request.into_parts();
                log::got(&json!({"got": method, "params": params}));
                let shared = Arc::clone(&others);
                tokio::spawn(async move {
                    let answer = script::session(&shared, &method, &params).await;
                    responder.respond_with_result(answer)
                });
                Ok(())
            },
            agent_client_protocol::on_receive_request!(),
        )
        .connect_to(Lines::new(Box::pin(outgoing), Box::pin(incoming)))
        .await?;
    log::got(&json!({"got": "eof"}));
    // Whatever still runs gets a moment, as with real agents.
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(())
}

fn initialized(options: &Options) -> InitializeResponse {
    let mut session = SessionCapabilities::new().close(SessionCloseCapabilities::new());
    if options.resumes {
        session = session.resume(SessionResumeCapabilities::new());
    }
    let can = AgentCapabilities::new().load_session(options.loads).session_capabilities(session);
    InitializeResponse::new(ProtocolVersion::V1)
        .agent_capabilities(can)
        .agent_info(Implementation::new("fake", "1.0"))
}

fn text(prompt: &[ContentBlock]) -> String {
    let texts = prompt.iter().map(|block| match block {
        ContentBlock::Text(text) => text.text.as_str(),
        _ => "",
    });
    texts.collect()
}

/// A broken pipe and the like.
fn broken(error: io::Error) -> Error {
    Error::internal_error().data(error.to_string())
}
