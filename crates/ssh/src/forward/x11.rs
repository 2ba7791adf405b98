//! `-X` and `-Y`: the client's X server, reached through a display inside the sandbox (RFC 4254
//! section 6.3). What programs prove themselves with is of the client's making, and its to check.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use sojourn_core::wire::Text;
use sojourn_core::wire::shim::Cookie;
use sojourn_core::wire::shim::authority;
use sojourn_engine::profiles::Forward;
use tokio::sync::OnceCell;

use super::name;
use super::remote;
use super::remote::Listener;
use super::remote::Where;
use crate::connection::Connection;
use crate::gate::Gate;

/// How many displays one connection may have; OpenSSH's client makes one for all of its channels.
const MOST: usize = 4;

/// The one way of proving oneself that clients offer.
const METHOD: &str = "MIT-MAGIC-COOKIE-1";

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(super) cookie: Cookie,
    /// Whether one connection is enough.
    pub(super) single: bool,
    screen: u8,
}

impl Asked {
    /// Reads a client's request.
    pub(crate) fn read(
        single: bool,
        method: &str,
        cookie: &str,
        screen: u32,
    ) -> Result<Self, &'static str> {
        if method != METHOD {
            return Err("only MIT-MAGIC-COOKIE-1 is known");
        }
        let cookie = Cookie::parse(cookie).ok_or("the cookie is none")?;
        let screen = u8::try_from(screen).map_err(|_| "there is no such screen")?;
        Ok(Self { cookie, single, screen })
    }
}

/// A connection's displays.
#[derive(Default)]
pub(crate) struct Displays(Mutex<Vec<Arc<Display>>>);

struct Display {
    asked: Asked,
    /// Its number; none when it could not be made.
    made: OnceCell<Option<(u16, Listener)>>,
}

impl Displays {
    /// What a program that is started now has in its environment.
    pub(crate) async fn environment<G: Gate>(
        &self,
        connection: &Arc<Connection<G>>,
        session: &G::Session,
        asked: Asked,
    ) -> Vec<(Text, Text)> {
        let Some(display) = self.find(asked) else {
            let why = format!("{MOST} displays are open already");
            connection.refused_forward(name(Forward::X11), "", "listen", &why);
            return Vec::new();
        };
        let made = display.made.get_or_init(|| make(connection, session, &display.asked)).await;
        let Some((number, _)) = made else { return Vec::new() };
        let screen = display.asked.screen;
        vec![
            ("DISPLAY".into(), format!(":{number}.{screen}").into()),
            ("XAUTHORITY".into(), authority(*number).into()),
        ]
    }

    /// The display that was asked for so before, or a new one; none, when there are too many.
    fn find(&self, asked: Asked) -> Option<Arc<Display>> {
        let mut displays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        displays.retain(|display| !display.is_over());
        let same = displays.iter().find(|known| !asked.single && known.asked == asked);
        if let Some(same) = same {
            return Some(same.clone());
        }
        if displays.len() >= MOST {
            return None;
        }
        let display = Arc::new(Display { asked, made: OnceCell::new() });
        displays.push(display.clone());
        Some(display)
    }
}

impl Display {
    /// Whether nobody can connect to it any more.
    fn is_over(&self) -> bool {
        let made = self.made.get();
        made.is_some_and(|made| made.as_ref().is_none_or(|(_, listener)| listener.is_over()))
    }
}

async fn make<G: Gate>(
    connection: &Arc<Connection<G>>,
    session: &G::Session,
    asked: &Asked,
) -> Option<(u16, Listener)> {
    match remote::begin(connection, session, Where::Display(asked.clone(), 0)).await {
        Ok((listener, number)) => Some((number, listener)),
        Err(why) => {
            connection.refused_forward(name(Forward::X11), "", "listen", &why);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn what_a_client_asks_for_is_bounded() {
        assert!(Asked::read(false, METHOD, COOKIE, 0).is_ok());
        for (method, cookie, screen) in [
            ("XDM-AUTHORIZATION-1", COOKIE, 0),
            ("", COOKIE, 0),
            (METHOD, "", 0),
            (METHOD, "0011223", 0),
            (METHOD, "g0", 0),
            (METHOD, COOKIE, 256),
            (METHOD, &COOKIE.repeat(5), 0),
        ] {
            assert!(Asked::read(false, method, cookie, screen).is_err(), "{method} {screen}");
        }
    }

    #[test]
    fn one_display_does_for_all_who_ask_alike_unless_it_is_for_one_connection() {
        let displays = Displays::default();
        let asked = |single, screen| Asked::read(single, METHOD, COOKIE, screen).unwrap();
        let find = |single, screen| displays.find(asked(single, screen));
        let first = find(false, 0).unwrap();
        assert!(Arc::ptr_eq(&first, &find(false, 0).unwrap()));
        assert!(!Arc::ptr_eq(&first, &find(false, 1).unwrap()));
        find(true, 0).unwrap();
        find(true, 0).unwrap();
        assert!(find(true, 0).is_none(), "that many");
        assert!(find(false, 0).is_some(), "it is there");
        // One that could not be made makes room.
        assert!(first.made.set(None).is_ok());
        assert!(find(true, 0).is_some());
    }
}
