//! `-L` and `-D`: a client asks for a connection, and it is made inside the sandbox.

use std::sync::Arc;

use russh::Channel;
use russh::ChannelOpenFailure;
use russh::server::ChannelOpenHandle;
use russh::server::Msg;
use sojourn_core::wire::shim::Endpoint;
use sojourn_core::wire::shim::Greeting;
use sojourn_core::wire::shim::Program;
use sojourn_engine::door::ChannelRequest;
use sojourn_engine::door::Refusal;
use sojourn_engine::door::shown;
use sojourn_engine::profiles::Forward;

use super::LONGEST_TARGET;
use super::greeting;
use super::name;
use super::passage::Inside;
use super::passage::Passage;
use crate::connection::Connection;
use crate::connection::Denial;
use crate::gate::Gate;
use crate::gate::GateInput;
use crate::gate::GateSession;
use crate::places::Place;

/// SSH's number for a target that cannot be connected to.
const CONNECT_FAILED: u32 = 2;

/// SSH's numbers for what is forbidden, and for what there is not enough of.
const PROHIBITED: u32 = 1;
const SHORTAGE: u32 = 4;

/// A connection that a client asks for.
pub(crate) struct Wanted {
    pub(crate) endpoint: Endpoint,
    pub(crate) target: String,
    pub(crate) from: String,
}

impl Wanted {
    /// Makes the connection, in a task of its own, and says how that went.
    pub(crate) fn open<G: Gate>(
        self,
        connection: Arc<Connection<G>>,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        place: Place,
    ) {
        connection.tasks.clone().spawn(async move {
            connection.forward_pace.turn().await;
            match self.connect(&connection).await {
                Ok((inside, session)) => {
                    reply.accept().await;
                    let Self { target, from, .. } = self;
                    let kind = Forward::Local;
                    let passage = Passage { connection: connection.clone(), kind, target, from };
                    passage.carry(channel, inside, session, place).await;
                }
                Err(failure) => {
                    reply.reject(failure).await;
                    place.left_nothing();
                }
            }
        });
    }

    async fn connect<'a, G: Gate>(
        &self,
        connection: &'a Arc<Connection<G>>,
    ) -> Result<(Inside<G>, &'a G::Session), ChannelOpenFailure> {
        let denied = |denial| denied(connection, &denial);
        let session = connection.session(&[], None).await.map_err(denied)?;
        let request = ChannelRequest::new(Program::Connect(self.endpoint.clone()));
        let started = session.start(request).await;
        let (input, mut output) = started.map_err(|refusal| denied(refusal.into()))?;
        let said = tokio::select! {
            said = tokio::time::timeout(greeting::PATIENCE, greeting::read(&mut output)) => {
                said.unwrap_or_else(|_| Some((failed("timed out"), bytes::Bytes::new())))
            }
            () = connection.gone.cancelled() => None,
        };
        let why = match said {
            Some((Greeting::Open { .. }, early)) => {
                return Ok((Inside { input, output, early }, session));
            }
            Some((Greeting::Failed(why), _)) => why,
            None => "the sandbox did not connect".to_owned(),
        };
        input.close().await;
        let why = shown(why.as_bytes(), LONGEST_TARGET);
        connection.refused_forward(name(Forward::Local), &self.target, "connect", &why);
        // Clients show it as it is, and know it from OpenSSH's server.
        Err(ChannelOpenFailure::Other { code: CONNECT_FAILED, reason: capitalized(&why) })
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn failed(why: &str) -> Greeting {
    Greeting::Failed(why.to_owned())
}

/// A session or a channel was refused: in SSH's words, with ours.
fn denied<G: Gate>(connection: &Connection<G>, denial: &Denial) -> ChannelOpenFailure {
    let code = match denial {
        Denial::Refused(
            Refusal::GatewayFull { .. }
            | Refusal::UserFull { .. }
            | Refusal::Channels(_)
            | Refusal::Sandbox { .. },
        ) => SHORTAGE,
        Denial::Refused(Refusal::Start(_)) => CONNECT_FAILED,
        _ => PROHIBITED,
    };
    ChannelOpenFailure::Other { code, reason: connection.excuse(denial) }
}
