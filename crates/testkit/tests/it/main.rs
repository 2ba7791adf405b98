//! That the fake agent is built and says what it can do. (A binary is built for the tests of its own
//! package; other packages' tests find it beside their own.)

use std::process::Command;

#[test]
fn the_fake_agent_lists_what_it_can_do() {
    let help = Command::new(env!("CARGO_BIN_EXE_fake-agent")).arg("--help").output().unwrap();
    let text = String::from_utf8(help.stderr).unwrap();
    assert_eq!(help.status.code(), Some(2));
    for script in ["say N", "perm xN", "die CODE", "big-line SIZE", "fork-setsid"] {
        assert!(text.contains(script), "{script} in {text}");
    }
}
