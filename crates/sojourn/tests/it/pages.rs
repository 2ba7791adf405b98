//! The page, in a real browser: `web-ui/tests` has a scenario each, which says with a line `@…` what no
//! browser can do, and is answered with a line when it is done.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::PushService;
use sojourn_testkit::Runner;
use sojourn_testkit::Running;
use sojourn_testkit::Subscription;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::gateway;

const PASSWORD: &str = "plum orbit cartwheel nine";

/// The longest that a scenario may take: a browser on a machine with much else to do.
const LONGEST: Duration = Duration::from_secs(600);

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../web-ui");

/// Whether there is a page, and a browser to look at it. The complete run, which installs both, insists.
fn can_look() -> bool {
    let page = Path::new(PAGE);
    let needed = [page.join("dist/index.html"), page.join("node_modules/playwright-core")];
    let browsers = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let there = needed.iter().all(|path| path.exists())
        && browsers.iter().any(|path| Path::new(path).exists());
    assert!(
        there || std::env::var_os("SOJOURN_TEST_PAGE").is_none(),
        "no page or no Chromium: run `make page`, and install Debian's package chromium"
    );
    if !there {
        eprintln!("not run: the page was not built, or there is no Chromium");
    }
    there
}

/// A gateway with an admin and a member who have passwords; alice comes by SSH.
fn house() -> Gateway {
    house_with("")
}

/// The same, with more in its configuration.
fn house_with(more: &str) -> Gateway {
    let (limits, more) = ("starts_per_minute = 60\n".to_owned(), more.to_owned());
    let options = Options { limits, more, ..Options::default() };
    let gateway = gateway(&options);
    gateway.add_user("ana", "admin", PASSWORD);
    gateway.add_user("bo", "member", PASSWORD);
    gateway
}

/// Plays a scenario, which may know these things besides where the gateway is.
fn play(gateway: &Gateway, scenario: &str, known: &[(&str, &str)]) {
    play_beside(gateway, None, scenario, known);
}

/// The same, beside a push service.
fn play_beside(
    gateway: &Gateway,
    service: Option<&PushService>,
    scenario: &str,
    known: &[(&str, &str)],
) {
    let mut node = Command::new("node");
    node.arg(format!("{PAGE}/tests/{scenario}.mjs")).envs(known.iter().copied());
    node.env("SOJOURN_URL", format!("http://localhost:{}", gateway.web_port()));
    let mut running = Running::new(node);
    let mut clients = Vec::new();
    let mut answered = 0;
    until(&format!("the end of {scenario}"), LONGEST, || {
        let is_over = running.is_over();
        let said = running.so_far();
        let whole = said.rfind('\n').map_or("", |end| said.get(..=end).unwrap_or_default());
        let asked: Vec<&str> = whole.lines().filter_map(|line| line.strip_prefix('@')).collect();
        for command in asked.iter().skip(answered) {
            println!("{scenario} asks: {command}");
            let answer = done(gateway, service, &mut clients, command);
            running.write(format!("{answer}\n").as_bytes());
        }
        answered = asked.len();
        is_over.then_some(())
    });
    let output = running.finish(Duration::from_secs(5));
    assert_eq!(output.code, 0, "{scenario}: {}\n{}", output.text(), output.err);
    println!("{}", output.text());
}

/// Does what a scenario asks for.
fn done(
    gateway: &Gateway,
    service: Option<&PushService>,
    clients: &mut Vec<Running>,
    command: &str,
) -> String {
    let (what, rest) = command.split_once(' ').unwrap_or((command, ""));
    match what {
        "now" => return gateway.clock().now(),
        "told" => {
            let service = service.expect("a push service");
            let told = until("a message", PATIENCE, || service.told(rest).pop());
            return told.to_string();
        }
        "advance" => gateway.clock().advance(rest),
        "ssh" => {
            let client = gateway.alice().with("-tt").start(&[]);
            client.expect("# ");
            clients.push(client);
        }
        "type" => {
            let client = clients.last_mut().expect("a client");
            client.write(format!("{rest}\n").as_bytes());
        }
        _ => panic!("a scenario asks for {command:?}"),
    }
    "done".to_owned()
}

fn ana() -> [(&'static str, &'static str); 2] {
    [("SOJOURN_USER", "ana"), ("SOJOURN_PASSWORD", PASSWORD)]
}

#[test]
fn a_first_password_and_a_second_factor_are_the_way_in() {
    if !can_look() {
        return;
    }
    let gateway = gateway(&Options::default());
    let first = fs::read_to_string(gateway.data().join("first-admin")).expect("the first admin");
    let first = first.split_whitespace().last().expect("a password").to_owned();
    play(&gateway, "signing-in", &[("SOJOURN_FIRST", &first)]);
}

#[test]
fn a_login_says_in_time_that_it_ends_and_afterwards_why() {
    if can_look() {
        play(&house(), "expiry", &[("SOJOURN_USER", "bo"), ("SOJOURN_PASSWORD", PASSWORD)]);
    }
}

#[test]
fn a_terminal_comes_back_as_it_was_and_a_flood_can_be_interrupted() {
    if can_look() && can_make_sandboxes() {
        play(&house(), "terminal", &ana());
    }
}

#[test]
fn what_a_real_ssh_does_is_seen_and_taken_over_in_a_browser() {
    if can_look() && can_make_sandboxes() {
        play(&house(), "watching", &ana());
    }
}

#[test]
fn a_login_ended_elsewhere_closes_its_terminal_and_says_so() {
    if can_look() && can_make_sandboxes() {
        play(&house(), "revoked", &ana());
    }
}

#[test]
fn every_page_is_accessible_fits_and_survives_a_reload() {
    if can_look() && can_make_sandboxes() {
        play(&house(), "pages", &ana());
    }
}

#[test]
fn thousands_of_sessions_scroll_and_the_keyboard_finds_its_way() {
    if can_look() {
        play(&house(), "many", &ana());
    }
}

/// For the documents: `make screenshots` says where to.
#[test]
fn pictures_are_taken_of_every_page_where_they_are_wanted() {
    if std::env::var_os("SOJOURN_SHOTS").is_some() && can_look() && can_make_sandboxes() {
        play(&house(), "screenshots", &ana());
    }
}

#[test]
fn what_a_session_showed_is_replayed_searched_and_linked_to() {
    if can_look() && can_make_sandboxes() {
        play(&house(), "replay", &ana());
    }
}

#[test]
fn everything_is_a_few_letters_away() {
    if can_look() {
        play(&house(), "palette", &ana());
    }
}

#[test]
fn many_screens_are_seen_at_once_and_everybody_knows_who_looks() {
    if can_look() && can_make_sandboxes() {
        play(&house(), "wall", &ana());
    }
}

#[test]
fn a_browser_says_that_a_prompt_is_open_while_nobody_looks() {
    with_an_agent("notify");
}

#[test]
fn an_agent_is_started_with_the_form_after_its_directory_was_corrected() {
    with_an_agent("agent-start");
}

#[test]
fn what_an_agent_asks_is_answered_in_one_browser_and_seen_in_the_other() {
    with_an_agent("agent");
}

/// Plays a scenario where ana has a runner with an agent.
fn with_an_agent(scenario: &str) {
    if !can_look() {
        return;
    }
    let service = PushService::open();
    let gateway = house_with(&format!("[push]\nservices = [{:?}]\n", service.authority()));
    let Subscription { endpoint, p256dh, auth } = service.subscribe("phone");
    let phone = json!({"endpoint": endpoint, "p256dh": p256dh, "auth": auth}).to_string();
    let mut browser = gateway.signed_in("ana", PASSWORD);
    let made = browser.post("/api/runners", &json!({"name": "laptop"})).expect(201);
    let token = made["token"].as_str().expect("a token");
    let mut runner = Runner::new(env!("CARGO_BIN_EXE_sojourn"), gateway.web_port(), token);
    runner.launch();
    until(&format!("the runner: {}", runner.log()), PATIENCE, || {
        let listed = browser.get("/api/runners").expect(200);
        (listed["items"][0]["connected"] == true).then_some(())
    });
    let work = runner.work().display().to_string();
    let mut known = ana().to_vec();
    known.extend([("SOJOURN_HARNESS", "fake"), ("SOJOURN_CWD", work.as_str())]);
    known.extend([("SOJOURN_ASKS", "perm"), ("SOJOURN_WORKS", "hang"), ("SOJOURN_SAYS", "say 2")]);
    known.push(("SOJOURN_BROWSER", phone.as_str()));
    play_beside(&gateway, Some(&service), scenario, &known);
}
