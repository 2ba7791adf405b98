//! The web door, as anybody finds it: who is let in, what every answer carries, and that hostile
//! requests get a clear answer and nothing else.

mod doors;
mod hostile;
mod raw;
mod reload;
mod tls;

use sojourn_testkit::Gateway;
use sojourn_testkit::Options;

use raw::ask;

fn gateway() -> Gateway {
    crate::gateway(&Options::default())
}

/// Has it read its configuration again.
pub(crate) fn hang_up(gateway: &Gateway) {
    let pid = i32::try_from(gateway.pid()).ok().and_then(rustix::process::Pid::from_raw);
    let hup = rustix::process::Signal::HUP;
    rustix::process::kill_process(pid.expect("a pid"), hup).expect("a living gateway");
}

#[test]
fn strangers_get_health_and_nothing_else() {
    let gateway = gateway();
    let port = gateway.web_port();
    let health = ask(port, "GET", "/api/health", &[]);
    assert_eq!((health.status, &health.json()["status"]), (200, &"healthy".into()));
    let list = ask(port, "GET", "/api/sessions", &[]);
    assert_eq!((list.status, list.code().as_str()), (401, "LOGIN_REQUIRED"));
    let elsewhere = ask(port, "GET", "/api/health", &[("Host", "evil.example.org")]);
    assert_eq!((elsewhere.status, elsewhere.code().as_str()), (421, "MISDIRECTED"));
    let nothing = ask(port, "GET", "/api/nothing", &[]);
    assert_eq!((nothing.status, nothing.code().as_str()), (404, "NOT_FOUND"));
    let wrong = ask(port, "PUT", "/api/sessions", &[]);
    assert_eq!((wrong.status, wrong.code().as_str()), (405, "METHOD_NOT_ALLOWED"));
    assert!(wrong.header("allow").is_some_and(|allow| allow.contains("GET")), "{wrong:?}");
    let document = ask(port, "GET", "/api/openapi.json", &[]);
    assert_eq!(document.json()["openapi"], "3.1.0");
}
