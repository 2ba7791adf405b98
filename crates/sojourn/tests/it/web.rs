//! The web door, as anybody finds it: who is let in, what every answer carries, and that hostile
//! requests get a clear answer and nothing else.

mod raw;

use sojourn_testkit::Gateway;
use sojourn_testkit::Options;

use raw::ask;

fn gateway() -> Gateway {
    Gateway::start(env!("CARGO_BIN_EXE_sojourn"), &Options::default())
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
    assert_eq!(wrong.header("allow"), Some("GET,HEAD"));
    let document = ask(port, "GET", "/api/openapi.json", &[]);
    assert_eq!(document.json()["openapi"], "3.1.0");
}
