//! Sessions in containers of a real engine.

use sojourn_testkit::Dockerd;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;

use crate::gateway;

fn house(keys: &str) -> Option<(Dockerd, Gateway)> {
    let engine = Dockerd::start()?;
    let gateway = gateway(&Options { more: engine.config(keys), ..Options::default() });
    Some((engine, gateway))
}

#[test]
fn a_session_in_a_container_is_like_any_other() {
    let Some((_engine, gateway)) = house("") else { return };
    let ssh = gateway.alice();
    let split = ssh.run("echo out; echo err >&2; exit 7");
    assert_eq!((split.code, split.text().as_str()), (7, "out\n"), "{split:?}\n{}", gateway.log());
    assert_eq!(split.err, "err\n");
}
