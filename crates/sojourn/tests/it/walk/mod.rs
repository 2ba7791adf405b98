//! Who may what, walked from end to end: every route, the socket of a terminal, and every kind of SSH
//! channel, by everybody there is, held against written tables. A route without a line fails the test.

mod channels;
mod routes;
mod table;

use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::can_make_sandboxes;

use crate::gateway;

/// Everybody's who has one.
const PASSWORD: &str = "five slow barges below 93 willows";

/// A gateway with `mia`, a member, `otto`, an auditor, `adam`, an admin, and `dora`, of whom nobody
/// asks anything; and a honeypot in which `root` has a password.
fn house() -> Option<Gateway> {
    if !can_make_sandboxes() {
        return None;
    }
    let more = "[profiles.default]\npool = 1\n[profiles.bait]\npool = 1\n\
                [profiles.open]\npool = 0\nforward = [\"local\", \"remote\", \"agent\", \"x11\"]\n\
                [[ssh]]\nlisten = \"127.0.0.1:0\"\nmode = \"honeypot\"\nrefusal_delay = \"0s\"\n\
                credentials = [[\"root\", \"toor\"]]\naccept_after_failures = 0\n";
    let gateway = gateway(&Options { more: more.to_owned(), ..Options::default() });
    let public = gateway.scratch().path().join("key.pub");
    let public = public.to_str().expect("a path in UTF-8");
    for (name, role) in
        [("mia", "member"), ("otto", "auditor"), ("adam", "admin"), ("dora", "member")]
    {
        gateway.add_user(name, role, PASSWORD);
        gateway.cli(&["user", "key", "add", name, public]);
    }
    Some(gateway)
}
