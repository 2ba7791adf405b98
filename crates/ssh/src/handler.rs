//! What the SSH library asks of us about one connection. Answers are given here, at once and in order;
//! bytes go another way (see [`crate::channel`]), so that nothing here ever waits for a program.

use std::collections::HashMap;
use std::sync::Arc;

use russh::Channel;
use russh::ChannelId;
use russh::ChannelOpenFailure;
use russh::Error;
use russh::Pty as PtyMode;
use russh::keys::ssh_key::Certificate;
use russh::server::Auth;
use russh::server::ChannelOpenHandle;
use russh::server::Handler;
use russh::server::Msg;
use russh::server::PublicKeyOffer;
use russh::server::Response;
use russh::server::Session;
use russh::server::VerifiedPublicKey;
use sojourn_core::wire::Text;
use sojourn_core::wire::shim::Endpoint;
use sojourn_core::wire::shim::Program;
use sojourn_core::wire::shim::Pty;
use sojourn_core::wire::shim::WindowSize;
use sojourn_engine::door::ChannelRequest;
use sojourn_engine::profiles::Forward;
use tokio::sync::oneshot;

use crate::channel;
use crate::channel::Start;
use crate::connection::Connection;
use crate::files::Service;
use crate::forward;
use crate::forward::Asked;
use crate::forward::Remotes;
use crate::forward::Wanted;
use crate::forward::Where;
use crate::gate::Gate;
use crate::scp;
use crate::sign_in::Rules;
use crate::sign_in::SignIn;
use crate::valve::SMALL_WINDOW;
use crate::valve::WINDOW;

/// How many variables, and bytes of them, a channel may send.
const MOST_ENV: usize = 128;
const MOST_ENV_BYTES: usize = 32 * 1024;

/// The longest name of a terminal's type.
const LONGEST_TERM: usize = 256;

/// A certificate's forced command that is no program of the sandbox.
const INTERNAL_SFTP: &str = "internal-sftp";

/// How many refused forwards of one connection are put on record one by one; a browser makes hundreds a
/// page. How many more there were is on record at its end.
const RECORDED_FORWARDS: usize = 16;

/// One connection's side that the library calls.
pub(crate) struct SshHandler<G: Gate> {
    connection: Arc<Connection<G>>,
    rules: Arc<Rules>,
    /// Tells the connection's task that somebody has signed in.
    signed_in: Option<oneshot::Sender<()>>,
    sign_in: SignIn<G>,
    /// Channels that are open and run nothing yet.
    opened: HashMap<ChannelId, Opened>,
    forwards_refused: usize,
    remotes: Remotes,
}

/// What a channel is to do.
enum Job {
    /// A program of the sandbox runs.
    Run(Program),
    /// The door serves it itself.
    Serve(Service),
}

/// A channel before its program: what was asked for so far.
struct Opened {
    pty: Option<Pty>,
    env: Vec<(Text, Text)>,
    env_bytes: usize,
    x11: Option<Asked>,
    start: oneshot::Sender<Start>,
}

impl<G: Gate> SshHandler<G> {
    pub(crate) fn new(
        connection: Arc<Connection<G>>,
        rules: Arc<Rules>,
        signed_in: oneshot::Sender<()>,
    ) -> Self {
        Self {
            signed_in: Some(signed_in),
            sign_in: SignIn::new(connection.clone(), rules.clone()),
            connection,
            rules,
            opened: HashMap::new(),
            forwards_refused: 0,
            remotes: Remotes::default(),
        }
    }

    /// Whether this may be forwarded; that it may not is on record.
    fn may_forward(&mut self, kind: Forward, target: &str) -> bool {
        let allowed = self.connection.may_forward(kind);
        if !allowed {
            self.refuse_forward(kind, target, "forbidden", "");
        }
        allowed
    }

    fn refuse_forward(&mut self, kind: Forward, target: &str, code: &str, why: &str) {
        self.forwards_refused += 1;
        if self.forwards_refused <= RECORDED_FORWARDS {
            self.connection.refused_forward(forward::name(kind), target, code, why);
        }
    }

    /// Answers a client that wants a connection made inside.
    async fn connect(&mut self, wanted: Wanted, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        if !self.may_forward(Forward::Local, &wanted.target) {
            return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        }
        match self.connection.places.try_take() {
            Some(place) => wanted.open(self.connection.clone(), channel, reply, place),
            None => self.reject_for_number(reply).await,
        }
    }

    /// Refuses a channel to a connection that has had as many as one may.
    async fn reject_for_number(&self, reply: ChannelOpenHandle) {
        self.connection.count_refusal("channels");
        reply.reject(ChannelOpenFailure::ResourceShortage).await;
    }

    /// Has it listened inside, if that may be. The client waits for the answer, and so does all else
    /// that it sends; a listener is mostly the first thing it asks for.
    async fn listen(&mut self, place: Where) -> Option<u32> {
        let target = place.shown();
        if !self.may_forward(Forward::Remote, &target) {
            return None;
        }
        let added = self.remotes.add(&self.connection, place).await;
        added.inspect_err(|why| self.refuse_forward(Forward::Remote, &target, "listen", why)).ok()
    }

    /// Starts a channel's program, once.
    fn start(&mut self, channel: ChannelId, job: Job, session: &mut Session) -> Result<(), Error> {
        let Some(opened) = self.opened.remove(&channel) else {
            return session.channel_failure(channel);
        };
        let forced = self.connection.guest().and_then(|guest| guest.terms.force_command.clone());
        let job = match forced.as_deref().map(str::trim) {
            Some(INTERNAL_SFTP) => Job::Serve(Service::Sftp),
            Some(command) => Job::Run(Program::Exec(command.into())),
            None => job,
        };
        let start = match job {
            Job::Run(program) => Start {
                request: ChannelRequest {
                    pty: opened.pty,
                    env: opened.env,
                    ..ChannelRequest::new(program)
                },
                service: None,
                x11: opened.x11,
            },
            Job::Serve(service) => Start {
                request: ChannelRequest { env: opened.env, ..ChannelRequest::new(Program::Files) },
                service: Some(service),
                x11: None,
            },
        };
        match opened.start.send(start) {
            Ok(()) => session.channel_success(channel),
            Err(_) => session.channel_failure(channel),
        }
    }
}

impl<G: Gate> Drop for SshHandler<G> {
    fn drop(&mut self) {
        let more = self.forwards_refused.saturating_sub(RECORDED_FORWARDS);
        if more > 0 {
            self.connection.refused_more_forwards(more);
        }
    }
}

impl<G: Gate> Handler for SshHandler<G> {
    type Error = Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Error> {
        self.sign_in.begin();
        let banner = &self.rules.banner;
        Ok((!banner.is_empty()).then(|| format!("{}\n", banner.trim_end())))
    }

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Error> {
        Ok(self.sign_in.question(user))
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Error> {
        Ok(self.sign_in.password(user, password).await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Error> {
        Ok(match response {
            None => self.sign_in.greet(user).await,
            // One question at a time is asked, so one answer counts.
            Some(mut answers) => {
                let answer = answers.next();
                self.sign_in.reply(user, answer.as_deref().unwrap_or_default()).await
            }
        })
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        Ok(self.sign_in.offer(user, offer).await)
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Error> {
        Ok(self.sign_in.key(user, key).await)
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Error> {
        Ok(self.sign_in.certificate(user, certificate).await)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Error> {
        // Nobody is here whom the gate did not let in.
        let Some(guest) = self.sign_in.guest(session.handle()) else {
            return Err(Error::Inconsistent);
        };
        self.connection.admit(guest);
        if let Some(signed_in) = self.signed_in.take() {
            // Its task is gone when the connection is being ended.
            let _gone = signed_in.send(());
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.opened.retain(|_, opened| !opened.start.is_closed());
        let Some(place) = self.connection.places.try_take() else {
            self.reject_for_number(reply).await;
            return Ok(());
        };
        let (start, request) = oneshot::channel();
        let opened = Opened { pty: None, env: Vec::new(), env_bytes: 0, x11: None, start };
        self.opened.insert(channel.id(), opened);
        channel::serve(self.connection.clone(), channel, session.handle(), request, place);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Error> {
        self.opened.remove(&channel);
        Ok(())
    }

    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        if self.connection.wire.valve.is_filed() { SMALL_WINDOW } else { WINDOW }
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        col_width: u32,
        row_height: u32,
        pix_width: u32,
        pix_height: u32,
        modes: &[(PtyMode, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let allowed = self.connection.guest().is_some_and(|guest| guest.terms.pty);
        let opened = self.opened.get_mut(&channel).filter(|opened| opened.pty.is_none());
        match opened {
            Some(opened) if allowed && term.len() <= LONGEST_TERM => {
                // Codes the library does not know come as 0, the end of the list.
                let modes = modes.iter().map(|(code, value)| (*code as u8, *value));
                opened.pty = Some(Pty {
                    term: term.into(),
                    size: size(col_width, row_height, pix_width, pix_height),
                    modes: modes.filter(|(code, _)| *code != 0).collect(),
                });
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let bytes = name.len() + value.len();
        match self.opened.get_mut(&channel) {
            Some(opened)
                if opened.env.len() < MOST_ENV && opened.env_bytes + bytes <= MOST_ENV_BYTES =>
            {
                opened.env.push((name.into(), value.into()));
                opened.env_bytes += bytes;
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        col_width: u32,
        row_height: u32,
        pix_width: u32,
        pix_height: u32,
        _session: &mut Session,
    ) -> Result<(), Error> {
        // Once the program runs, the channel's own task hears of it.
        if let Some(pty) = self.opened.get_mut(&channel).and_then(|opened| opened.pty.as_mut()) {
            pty.size = size(col_width, row_height, pix_width, pix_height);
        }
        Ok(())
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.start(channel, Job::Run(Program::Shell), session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        // On a terminal nobody copies files.
        let terminal = self.opened.get(&channel).is_some_and(|opened| opened.pty.is_some());
        let job = match scp::Command::parse(command).filter(|_| !terminal) {
            Some(command) => Job::Serve(Service::Scp(command)),
            None => Job::Run(Program::Exec(Text(command.to_vec()))),
        };
        self.start(channel, job, session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        match name {
            "sftp" => self.start(channel, Job::Serve(Service::Sftp), session),
            _ => session.channel_failure(channel),
        }
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        single_connection: bool,
        protocol: &str,
        cookie: &str,
        screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        if !self.may_forward(Forward::X11, "") {
            return session.channel_failure(channel);
        }
        let opened = self.opened.get_mut(&channel).filter(|opened| opened.x11.is_none());
        match (opened, Asked::read(single_connection, protocol, cookie, screen)) {
            (Some(opened), Ok(asked)) => {
                opened.x11 = Some(asked);
                session.channel_success(channel)
            }
            (None, Ok(_)) => session.channel_failure(channel),
            (_, Err(why)) => {
                self.refuse_forward(Forward::X11, "", "malformed", why);
                session.channel_failure(channel)
            }
        }
    }

    async fn agent_request(&mut self, _: ChannelId, _: &mut Session) -> Result<bool, Error> {
        let allowed = self.may_forward(Forward::Agent, "");
        if allowed {
            self.connection.agent.offer();
        }
        Ok(allowed)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        from_address: &str,
        from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let Ok(to) = u16::try_from(port) else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        };
        let wanted = Wanted {
            endpoint: Endpoint::Tcp { host: host.into(), port: to },
            target: format!("{host}:{port}"),
            from: format!("{from_address}:{from_port}"),
        };
        self.connect(wanted, channel, reply).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let wanted = Wanted {
            endpoint: Endpoint::Unix(socket_path.into()),
            target: socket_path.to_owned(),
            from: String::new(),
        };
        self.connect(wanted, channel, reply).await;
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _from_address: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        // A server's message: no client has a reason to send it.
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _from_address: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        let Some(listening) = self.listen(Where::Tcp(address.to_owned(), *port)).await else {
            return Ok(false);
        };
        *port = listening;
        Ok(true)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.remotes.remove(&Where::Tcp(address.to_owned(), port)))
    }

    async fn streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, Error> {
        Ok(self.listen(Where::Unix(path.to_owned())).await.is_some())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.remotes.remove(&Where::Unix(path.to_owned())))
    }
}

pub(crate) fn size(cols: u32, rows: u32, width: u32, height: u32) -> WindowSize {
    let fit = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    WindowSize { cols: fit(cols), rows: fit(rows), width: fit(width), height: fit(height) }
}
