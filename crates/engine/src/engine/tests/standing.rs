//! What ends with a login, a password or an account, and what goes on.

use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::login::LoginEnd;
use sojourn_core::wire::runner::About;
use sojourn_core::wire::runner::Held;
use sojourn_store::NewSession;

use super::house::Shim;
use super::*;
use crate::identity::Client;
use crate::identity::Methods;
use crate::identity::SignedIn;
use crate::login::Login;
use crate::login::Rules;

/// The frame that tells a shim to end.
const END: u8 = 0x0a;
/// The one that has it start a program.
const START: u8 = 0x02;

impl House {
    /// From now on, sessions are opened through a login of alice's.
    async fn sign_in(&mut self) -> Arc<Login> {
        let user = self.store.user_by_name("alice").await.unwrap().unwrap();
        let (proof, client) = (SignedIn::new(&user, Methods::default()), client());
        let begun = self.engine.logins().begin(&proof, &client, None).await;
        let (_secret, login) = begun.unwrap();
        self.principal = login.principal();
        login
    }

    fn watch(&self) {
        let engine = self.engine.clone();
        tokio::spawn(async move { engine.watch_accounts().await });
    }

    fn commands(&self) -> Accounts {
        Accounts::new(self.store.clone(), self.clock.clone(), self.dir.path().to_owned())
    }

    /// Nothing ends it, once all that is to be looked at has been.
    async fn lets_go_on(&self, session: &Session, shim: &Shim) {
        self.engine.logins().recheck().await.unwrap();
        self.engine.end_what_does_not_stand().await;
        // What is said to a shim comes in order.
        let asked = session.start(ChannelRequest::new(Program::Shell));
        let heard = async {
            loop {
                match shim.hear().await {
                    END => panic!("it is ended"),
                    START => break,
                    _ => {}
                }
            }
            shim.say(&FromShim::Started(0)).await;
        };
        let (started, ()) = tokio::join!(asked, heard);
        started.unwrap();
    }
}

fn client() -> Client {
    Client::new([192, 0, 2, 7].into(), "curl/8")
}

impl Shim {
    /// It is told to end because of a login.
    async fn is_ended(&self) {
        let frame = self.hear_kind(END).await;
        match ToShim::decode(&frame).unwrap() {
            ToShim::End(request) => assert_eq!(request.reason, EndReason::LoginEnded),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn sessions_of_a_login_end_with_the_password_and_those_of_a_key_go_on() {
    let mut house = House::new(4).await;
    let (by_key, its_shim) = house.open().await;
    house.sign_in().await;
    let (_session, shim) = house.open().await;
    house.watch();
    let new = Some("plum orbit cartwheel nine");
    house.commands().set_password("alice", new, Actor::local(0)).await.unwrap();
    shim.is_ended().await;
    house.lets_go_on(&by_key, &its_shim).await;
}

#[tokio::test]
async fn sessions_of_a_login_end_when_the_account_is_closed() {
    let mut house = House::new(4).await;
    house.sign_in().await;
    let (_session, shim) = house.open().await;
    house.watch();
    house.commands().disable("alice", Actor::local(0)).await.unwrap();
    shim.is_ended().await;
}

#[tokio::test]
async fn sessions_outlive_their_login_unless_they_are_not_to() {
    let mut house = House::new(4).await;
    let login = house.sign_in().await;
    let (session, shim) = house.open().await;
    let by = login.actor(&client());
    house.engine.logins().end(login.id(), LoginEnd::Logout, &by).await.unwrap();
    house.lets_go_on(&session, &shim).await;

    house.engine.logins().set_rules(Rules { end_sessions: true, ..Rules::default() });
    house.watch();
    shim.is_ended().await;
    let login = house.sign_in().await;
    let (_session, shim) = house.open().await;
    house.engine.logins().end(login.id(), LoginEnd::Revoked, &by).await.unwrap();
    shim.is_ended().await;
}

#[tokio::test]
async fn what_a_login_opened_before_this_gateway_ends_with_the_password_too() {
    let house = House::new(4).await;
    let id = SessionId::new();
    let user = house.store.user_by_name("alice").await.unwrap().unwrap();
    let new = NewSession {
        id,
        user: Some(user.id),
        user_name: Some("alice".to_owned()),
        door: "web".to_owned(),
        harness: "shell".to_owned(),
        profile: DEFAULT.to_owned(),
        cwd: None,
        why: None,
        labels: std::collections::BTreeMap::new(),
        limits: Limits::default(),
        peer: None,
        client: None,
        auth_method: Some(How::Login.name().to_owned()),
        auth_key: None,
        auth_epoch: Some(user.epoch),
        login: Some(sojourn_core::ids::LoginId::new().to_string()),
        token: None,
        created_at: house.engine.clock().wall(),
        remote: None,
    };
    let started = Event::new(new.created_at, Action::SessionStarted, Actor::local(0)).session(id);
    house.store.begin_session(&new, new.created_at, &started).await.unwrap();
    // While no gateway ran.
    let password = Some("plum orbit cartwheel nine");
    house.commands().set_password("alice", password, Actor::local(0)).await.unwrap();

    let about = About { user: "alice".to_owned(), ..About::default() };
    let held = Held { session: id, profile: DEFAULT.to_owned(), about, ended: None };
    let (adopted, shim) = tokio::join!(house.engine.adopt(), house.goes_on(held));
    assert_eq!(adopted.unwrap().running, 1);
    house.watch();
    shim.is_ended().await;
}
