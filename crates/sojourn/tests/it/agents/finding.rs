//! Who does not look is told that an agent waits; and what was said is found.

use serde_json::Value;
use serde_json::json;
use sojourn_testkit::Browser;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::PushService;
use sojourn_testkit::Subscription;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use super::PASSWORD;
use super::house;
use super::scripted::Runner;
use super::scripted::prompt;
use super::scripted::update;
use super::stands;
use super::start;

fn with_push(service: &PushService) -> Gateway {
    let more = format!("[push]\nservices = [{:?}]\n", service.authority());
    house(&Options { more, ..Options::default() })
}

#[track_caller]
fn add(browser: &mut Browser, subscription: &Subscription) -> Value {
    let Subscription { endpoint, p256dh, auth } = subscription;
    let body = json!({"endpoint": endpoint, "p256dh": p256dh, "auth": auth});
    browser.post("/api/me/push", &body).expect(201)
}

/// What a browser has been told once it was told so many times.
#[track_caller]
fn told(service: &PushService, name: &str, times: usize) -> Vec<Value> {
    until(&format!("{times} messages to {name}"), PATIENCE, || {
        let told = service.told(name);
        (told.len() >= times).then_some(told)
    })
}

#[test]
fn whoever_does_not_look_is_told_what_an_agent_asks() {
    let service = PushService::open();
    let gateway = with_push(&service);
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut dora = gateway.signed_in("dora", PASSWORD);
    let phone = add(&mut mia, &service.subscribe("phone"));
    assert_eq!((&phone["current"], &phone["signed_in"]), (&json!(true), &json!(true)));
    add(&mut mia, &service.subscribe("desk"));
    add(&mut dora, &service.subscribe("doras"));
    // The same browser again is the same browser.
    add(&mut mia, &service.subscribe("desk"));
    let listed = mia.get("/api/me/push").expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "{listed}");
    assert_eq!(listed["public_key"].as_str().map(str::len), Some(87));
    let path = format!("/api/me/push/{}", phone["id"].as_str().expect("an id"));
    dora.delete(&path).refused(404, "NOT_FOUND");

    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    runner.command("start");
    runner.started(&id);
    let request = runner.event(&id, prompt("rm -rf target"));
    let wanted = json!({"type": "prompt", "session": id, "request": request, "harness": "claude",
        "tool": "Bash", "description": "rm -rf target"});
    for name in ["phone", "desk"] {
        assert_eq!(told(&service, name, 1), std::slice::from_ref(&wanted));
    }

    // One that its service does not know any more is forgotten, and the other is told.
    service.forget("desk");
    let request = runner.event(&id, prompt("make"));
    assert_eq!(told(&service, "phone", 2)[1]["request"], request);
    until("one browser", PATIENCE, || {
        let listed = mia.get("/api/me/push").expect(200);
        (listed["items"].as_array().map(Vec::len) == Some(1)).then_some(())
    });
    assert_eq!(service.told("doras"), Vec::<Value>::new(), "another's browser is told nothing");
    gateway.audit_with(1, "push_removed");
}

#[test]
fn a_browser_that_makes_room_for_an_eleventh_is_on_record() {
    let service = PushService::open();
    let gateway = with_push(&service);
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let first = add(&mut mia, &service.subscribe("0"));
    for name in 1..=10 {
        add(&mut mia, &service.subscribe(&name.to_string()));
    }
    // The same browser again makes nobody go.
    add(&mut mia, &service.subscribe("10"));
    let lines = gateway.audit_with(1, "push_removed");
    let gone: Vec<_> = lines.iter().filter(|line| line["action"] == "push_removed").collect();
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert_eq!(gone[0]["details"]["push_id"], first["id"]);
    let listed = mia.get("/api/me/push").expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(10), "{listed}");
}

#[test]
fn a_login_that_timed_out_is_told_less_and_one_that_was_ended_nothing() {
    let service = PushService::open();
    let gateway = with_push(&service);
    let mut mia = gateway.signed_in("mia", PASSWORD);
    add(&mut mia, &service.subscribe("phone"));
    let mut left = gateway.signed_in("mia", PASSWORD);
    add(&mut left, &service.subscribe("left"));
    left.post("/api/auth/logout", &json!({})).expect(204);
    gateway.clock().advance("31m");
    mia.get("/api/me").refused(401, "SESSION_EXPIRED");

    let mut mia = gateway.signed_in("mia", PASSWORD);
    add(&mut mia, &service.subscribe("desk"));
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    runner.command("start");
    runner.started(&id);
    let request = runner.event(&id, prompt("cat secrets"));
    assert_eq!(told(&service, "desk", 1)[0]["description"], "cat secrets");
    let bare = json!({"type": "prompt", "session": id, "request": request});
    assert_eq!(told(&service, "phone", 1), [bare]);
    // They are told in this order, and the one that was left is no more among them.
    assert_eq!(service.told("left"), Vec::<Value>::new());
    let listed = mia.get("/api/me/push").expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "{listed}");
}

#[test]
fn a_browser_cannot_send_the_gateway_to_its_neighbours() {
    let service = PushService::open();
    let gateway = with_push(&service);
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let good = service.subscribe("phone");
    for endpoint in [
        "https://127.0.0.1/x",
        "https://169.254.169.254/latest",
        "http://push.example.org/x",
        "https://localhost/x",
        "https://push.example.org:22/x",
        "http://127.0.0.1:1/x",
        "file:///etc/passwd",
        "",
    ] {
        let body = json!({"endpoint": endpoint, "p256dh": good.p256dh, "auth": good.auth});
        assert_eq!(mia.post("/api/me/push", &body).refused(422, "INVALID")["field"], "endpoint");
    }
    let body = json!({"endpoint": good.endpoint, "p256dh": "BAAA", "auth": good.auth});
    assert_eq!(mia.post("/api/me/push", &body).refused(422, "INVALID")["field"], "p256dh");
}

/// The sessions that somebody finds by a text.
fn found(browser: &mut Browser, text: &str) -> Vec<Value> {
    let page = browser.get(&format!("/api/sessions?q={text}")).expect(200);
    page["items"].as_array().expect("a list").clone()
}

#[test]
fn what_was_said_to_an_agent_and_by_it_is_found_by_whoever_may_read_it() {
    let gateway = house(&Options::default());
    let mut mia = gateway.signed_in("mia", PASSWORD);
    let mut runner = Runner::enrol(&gateway, &mut mia, "laptop");
    let id = start(&mut mia);
    runner.command("start");
    runner.started(&id);
    runner.event(&id, update("The Quarterly rep"));
    runner.event(&id, update("ort counts 100% of them"));
    runner.event(&id, prompt("sqlx migrate"));
    let going = until("what is said", PATIENCE, || found(&mut mia, "quarterly%20REPORT").pop());
    assert_eq!(going["id"], id);
    assert_eq!(going["ended_at"], Value::Null);
    runner.ended(&id, "exited");
    stands(&mut mia, &id, "ended");
    let session = until("what was said", PATIENCE, || found(&mut mia, "quarterly%20REPORT").pop());
    assert_eq!(session["id"], id);
    assert_eq!(session["found"], "the quarterly report counts 100% of them");
    assert_eq!(found(&mut mia, "sqlx%20migrate")[0]["found"], "sqlx migrate");
    // What is meant literally is taken so.
    assert_eq!(found(&mut mia, "100%25%20of").len(), 1);
    assert_eq!(found(&mut mia, "quarterly%25report"), Vec::<Value>::new());
    assert_eq!(found(&mut mia, "quarterly_report"), Vec::<Value>::new());
    // What it was asked for as needs no words.
    assert!(found(&mut mia, "claude")[0].get("found").is_none());
    let mut dora = gateway.signed_in("dora", PASSWORD);
    assert_eq!(found(&mut dora, "quarterly"), Vec::<Value>::new());
    let mut adam = gateway.signed_in("adam", PASSWORD);
    assert_eq!(found(&mut adam, "quarterly").len(), 1);
}

#[test]
fn commands_of_a_terminal_are_found_when_it_is_over() {
    if !can_make_sandboxes() {
        return;
    }
    let gateway = house(&Options::default());
    let run = gateway.alice().run("echo needle in-$((1+1)); true");
    assert_eq!(run.code, 0, "{}", run.err);
    let mut adam = gateway.signed_in("adam", PASSWORD);
    let session = until("the command", PATIENCE, || found(&mut adam, "NEEDLE").pop());
    assert_eq!(session["user"], "alice");
    assert_eq!(session["found"], "echo needle in-$((1+1)); true");
    // What it printed is in the recording, which is searched when it is looked at.
    assert_eq!(found(&mut adam, "in-2"), Vec::<Value>::new());
}
