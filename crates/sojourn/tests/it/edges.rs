//! The hard cases of SSH, one by one, and the table of them in the documentation.
//!
//! Each row is run against us. A long run holds OpenSSH's own server against the same rows.

mod rows;

use std::time::Duration;
use std::time::Instant;

use sojourn_testkit::Options;
use sojourn_testkit::Output;
use sojourn_testkit::Peer;
use sojourn_testkit::Sshd;
use sojourn_testkit::can_make_sandboxes;

use self::rows::ROWS;
use self::rows::Row;
use crate::gateway;
use crate::is_long_run;

/// Where clients in Python and what others need are.
pub(crate) const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// The page with the table.
const PAGE: &str = include_str!("../../../../docs/ssh.md");

/// Chooses between `{long|short}`.
fn choose(text: &str, long: bool) -> String {
    let mut chosen = String::new();
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once('{') {
        let choice = inside.split_once('}').and_then(|(choice, after)| {
            let (first, second) = choice.split_once('|')?;
            let number =
                |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
            (number(first) && number(second)).then_some((first, second, after))
        });
        chosen.push_str(before);
        match choice {
            Some((first, second, after)) => {
                chosen.push_str(if long { first } else { second });
                rest = after;
            }
            None => {
                chosen.push('{');
                rest = inside;
            }
        }
    }
    chosen + rest
}

/// What a recipe came to: its lines, joined.
fn result(output: &Output) -> String {
    output.text().trim_end().lines().collect::<Vec<_>>().join(", ")
}

fn run(peer: &Peer, row: &Row) -> Output {
    let patience = Duration::from_secs(if is_long_run() { 300 } else { 120 });
    let recipe = format!("CLIENTS={CLIENTS}\n{}", choose(row.recipe, is_long_run()));
    peer.run(&recipe, patience)
}

/// Runs rows all at once and gives what was not as expected.
fn mistakes(peer: &Peer, rows: &[&Row], expected: impl Fn(&Row) -> &str + Sync) -> Vec<String> {
    let mut mistakes = Vec::new();
    std::thread::scope(|scope| {
        let running: Vec<_> = rows
            .iter()
            .map(|row| (row, scope.spawn(|| (Instant::now(), run(peer, row)))))
            .collect();
        for (row, thread) in running {
            match thread.join() {
                Ok((_, output)) => {
                    let (got, want) = (result(&output), choose(expected(row), is_long_run()));
                    eprintln!("{} {:5.1} s  {got}", row.id, output.took.as_secs_f64());
                    if got != want {
                        mistakes.push(format!(
                            "{} {}: {got:?}, not {want:?}; {}",
                            row.id, row.what, output.err
                        ));
                    }
                }
                Err(_) => mistakes.push(format!("{} {}: not over in time", row.id, row.what)),
            }
        }
    });
    mistakes
}

fn section(number: &str) -> Vec<&'static Row> {
    ROWS.iter().filter(|row| row.id.split('.').next() == Some(number)).collect()
}

fn holds(number: &str) {
    if !can_make_sandboxes() {
        return;
    }
    // A client that is killed is to be done with.
    let limits = "detach_grace = \"0\"
grace = \"3s\"
";
    holds_with(
        number,
        limits,
        "[profiles.default]
forward = [\"local\"]
disk_size = \"1GB\"
",
    );
}

fn holds_with(number: &str, limits: &str, more: &str) {
    let (limits, more) = (limits.to_owned(), more.to_owned());
    let gateway = gateway(&Options { limits, more, ..Options::default() });
    let found = mistakes(&gateway.peer(), &section(number), |row| row.ours);
    assert!(found.is_empty(), "{found:#?}\n{}", gateway.log());
}

#[test]
fn the_end_of_input_is_a_half_close() {
    holds("1");
}

#[test]
fn output_then_status_then_the_end() {
    holds("2");
}

#[test]
fn a_slow_side_holds_up_its_own_channel_alone() {
    holds("3");
}

#[test]
fn nothing_sent_early_is_lost() {
    holds("4");
}

#[test]
fn streams_are_apart_and_unharmed() {
    holds("5");
}

#[test]
fn deaths_and_signals_are_told() {
    holds("6");
}

#[test]
fn channels_are_many_and_apart() {
    holds("7");
}

#[test]
fn keys_change_in_mid_stream() {
    holds("8");
}

#[test]
fn a_terminal_is_as_the_client_has_it() {
    holds("9");
}

#[test]
fn files_go_in_and_out() {
    holds("10");
}

#[test]
fn connections_are_forwarded() {
    holds("11");
}

#[test]
fn time_is_up_whatever_a_client_does() {
    if can_make_sandboxes() {
        let limits = "session_timeout = \"5s\"\nidle_timeout = \"3s\"\n\
                      warn_before = \"2s\"\ngrace = \"2s\"\ndetach_grace = \"0\"\n";
        holds_with("12", limits, "");
    }
}

#[test]
fn forwards_are_refused_as_ssh_refuses() {
    if can_make_sandboxes() {
        holds_with("13", "", "");
    }
}

#[test]
fn the_table_in_the_documentation_is_that_of_the_tests() {
    let table = table();
    assert!(PAGE.contains(&table), "docs/ssh.md should have this table:\n\n{table}");
}

fn table() -> String {
    let cell = |text: &str| choose(text, true).replace('|', "\\|");
    let rows = ROWS.iter().map(|row| {
        let (sshd, ours) = (format!("`{}`", cell(row.sshd)), format!("`{}`", cell(row.ours)));
        let ours = if ours == sshd { "the same".to_owned() } else { ours };
        format!("| {} | {} | {sshd} | {ours} | {} |\n", row.id, cell(row.what), cell(row.why))
    });
    "| | what | `sshd` | here | why |\n|---|---|---|---|---|\n".to_owned()
        + &rows.collect::<String>()
}

#[test]
fn sshd_does_what_the_table_says() {
    if !can_make_sandboxes() || !is_long_run() {
        return;
    }
    let sshd = Sshd::start();
    let peer = sshd.peer();
    let sections = (1..=13).map(|number| section(&number.to_string()));
    let found: Vec<String> =
        sections.flat_map(|rows| mistakes(&peer, &rows, |row| row.sshd)).collect();
    assert!(found.is_empty(), "{found:#?}");
}
