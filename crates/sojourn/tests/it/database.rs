//! The databases: all of it with PostgreSQL too, what is told when one cannot be used at the start, and
//! a gateway whose server goes away and comes back.

use std::io::Read;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;
use sojourn_testkit::DATABASE_PASSWORD;
use sojourn_testkit::Database;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::Postgres;
use sojourn_testkit::Scratch;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

use crate::cli;
use crate::crashes;
use crate::gateway;
use crate::ssh;

fn with(url: &str) -> Options {
    Options { more: format!("[store]\nurl = {url:?}\n"), ..Options::default() }
}

fn new_database() -> Database {
    Postgres::shared().database()
}

#[test]
fn commands_work_with_postgresql() {
    if can_make_sandboxes() {
        ssh::commands_work(&with(&new_database().url));
    }
}

#[test]
fn accounts_are_kept_with_postgresql() {
    if can_make_sandboxes() {
        cli::accounts_are_kept(&with(&new_database().url));
    }
}

#[test]
fn a_session_is_listed_shown_ended_and_replayed_with_postgresql() {
    if can_make_sandboxes() {
        cli::a_session_is_listed(&with(&new_database().url));
    }
}

#[test]
fn a_killed_gateway_is_followed_with_postgresql() {
    if can_make_sandboxes() {
        crashes::a_killed_gateway_is_followed(&with(&new_database().url));
    }
}

#[test]
fn a_database_of_a_server_is_one_gateways_and_its_password_nobodys() {
    if !can_make_sandboxes() {
        return;
    }
    let database = new_database();
    let mut first = gateway(&with(&database.url));
    let second = Scratch::new();
    let config = configured(&second, &database.url);
    let (code, told) = refused(&config);
    let whose = format!("in use by sojourn serve with pid {} on ", first.pid());
    assert!(code == Some(1) && told.contains(&whose), "{code:?} {told}");

    assert!(!first.data().join("sojourn.db").exists());
    let shown = first.cli(&["config", "show"]);
    assert!(shown.contains("postgres://sojourn:***@localhost/"), "{shown}");
    for text in [&shown, &told, &first.log()] {
        assert!(!text.contains(DATABASE_PASSWORD), "{text}");
    }
    first.stop();
    assert!(!first.log().contains(DATABASE_PASSWORD));
    let variable = Command::new(env!("CARGO_BIN_EXE_sojourn"))
        .args(["config", "show", "--config"])
        .arg(second.file("empty.toml", ""))
        .env("SOJOURN_STORE__URL", &database.url)
        .output()
        .expect("the command");
    let shown = String::from_utf8_lossy(&variable.stdout);
    assert!(shown.contains("postgres://sojourn:***@localhost/"), "{shown}");
}

#[test]
fn a_database_is_reached_by_tls_and_only_with_the_right_certificate() {
    if !can_make_sandboxes() {
        return;
    }
    let server = Postgres::start_with_tls();
    let root = format!("sslmode=verify-full&sslrootcert={}", server.certificate().display());
    let gateway = gateway(&with(&server.database_by_tls(&root).url));
    assert_eq!(gateway.alice().run("exit 4").code, 4);
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE usename = 'sojourn' AND NOT ssl";
    assert_eq!(server.admin("postgres", encrypted), "0", "nothing goes in the clear");

    // Whoever signed it is nobody that the system trusts.
    let scratch = Scratch::new();
    let config = configured(&scratch, &server.database_by_tls("sslmode=verify-full").url);
    let (code, told) = refused(&config);
    assert!(code == Some(1) && told.contains("certificate"), "{code:?} {told}");
    assert!(!told.contains(DATABASE_PASSWORD) && told.lines().count() == 1, "{told}");
}

#[test]
fn a_gateway_goes_on_while_its_database_is_gone() {
    if !can_make_sandboxes() {
        return;
    }
    let mut server = Postgres::start();
    let gateway = gateway(&with(&server.database().url));
    let mut browser = gateway.browser();
    let mut health = || {
        let answer = browser.get("/api/health");
        (answer.status, answer.json()["status"].clone(), answer.text())
    };
    until("a healthy gateway", PATIENCE, || (health().1 == "healthy").then_some(()));
    let mut stay = gateway.alice().start(&["echo up; read line; echo got $line; exit 3"]);
    stay.expect("up");
    let id = gateway.sessions()[0]["id"].clone();

    server.stop();
    let (status, word, text) = until("the loss to be told", PATIENCE, || {
        let health = health();
        (health.0 == 503).then_some(health)
    });
    assert!(word == "degraded" && text.contains("the store is gone"), "{status} {text}");
    assert!(!text.contains(DATABASE_PASSWORD), "{text}");
    let refused = gateway.alice().run("true");
    assert_ne!(refused.code, 0, "nobody comes in whose account cannot be looked up");
    stay.write(b"on\n");
    let stayed = stay.finish(PATIENCE);
    assert_eq!((stayed.code, stayed.text().as_str()), (3, "up\ngot on\n"), "who is in stays");

    server.launch();
    until("a healthy gateway", PATIENCE, || (health().1 == "healthy").then_some(()));
    assert_eq!(gateway.alice().run("exit 4").code, 4);
    let is_its_end = |line: &Value| line["action"] == "session_ended" && line["session_id"] == id;
    let end = gateway.wait_for_audit("the end that came meanwhile", is_its_end);
    assert_eq!(end["details"]["exit"], serde_json::json!({"code": 3}));
    let sessions = gateway.sessions();
    let of_it = sessions.iter().find(|session| session["id"] == id).expect("the session");
    assert_eq!(of_it["status"], "ended");
    assert_eq!(gateway.cli(&["verify"]), "");
    assert_eq!(gateway.audit().iter().filter(|line| is_its_end(line)).count(), 1);
    assert!(!gateway.log().contains(DATABASE_PASSWORD));
}

#[test]
fn a_server_that_cannot_be_used_is_named_at_the_start() {
    if !can_make_sandboxes() {
        return;
    }
    let server = Postgres::shared();
    let newer = server.database();
    let scratch = Scratch::new();
    let elsewhere = format!("postgres://sojourn:{DATABASE_PASSWORD}@127.0.0.1:1/x");
    for (url, says) in [
        (elsewhere, "the database server at 127.0.0.1:1 cannot be reached; see whether it runs"),
        (newer.url.replace(DATABASE_PASSWORD, "wrong"), "does not let us in; check the user"),
        (newer.url.replace(&newer.name, "none"), "has no such database; make it with createdb"),
    ] {
        let (code, told) = refused(&configured(&scratch, &url));
        assert!(code == Some(1) && told.contains(says), "{code:?} {told}");
        assert!(!told.contains(DATABASE_PASSWORD), "{told}");
    }
    let table = "CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL);
        GRANT ALL ON meta TO sojourn; INSERT INTO meta VALUES ('schema', 99)";
    server.admin(&newer.name, table);
    let (code, told) = refused(&configured(&scratch, &newer.url));
    assert!(code == Some(1) && told.contains("has schema 99"), "{code:?} {told}");
}

#[test]
fn a_file_that_cannot_be_used_is_named_at_the_start() {
    if !can_make_sandboxes() {
        return;
    }
    let mut gateway = gateway(&Options::default());
    gateway.stop();
    let config = gateway.scratch().path().join("sojourn.toml");
    let file = gateway.data().join("sojourn.db");

    let mut holder = sqlite(&file, "BEGIN EXCLUSIVE");
    let (code, told) = refused(&config);
    assert!(code == Some(1) && told.contains("locked by another program"), "{code:?} {told}");
    drop(holder.stdin.take());
    assert!(holder.wait().expect("its end").success());

    let mut writer = sqlite(&file, "UPDATE meta SET value = 99 WHERE name = 'schema'");
    drop(writer.stdin.take());
    assert!(writer.wait().expect("its end").success());
    let (code, told) = refused(&config);
    assert!(
        code == Some(1) && told.contains("use the newer version of sojourn"),
        "{code:?} {told}"
    );
    assert!(gateway.leftovers().is_empty(), "{:?}", gateway.leftovers());
}

#[test]
fn a_full_disk_is_named_at_the_start() {
    if !can_make_sandboxes() {
        return;
    }
    let scratch = Scratch::new();
    let config = configured(&scratch, "sqlite");
    let data = scratch.path().join("data");
    std::fs::create_dir(&data).expect("a directory");
    let _small = Small::mount(&data);
    // Room for what the gateway makes before its database, and for no database.
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=1k", "count=960", "status=none"])
        .arg(format!("of={}", data.join("filler").display()))
        .status();
    assert!(filled.expect("dd").success());
    let (code, told) = refused(&config);
    assert!(code == Some(1) && told.contains("the disk is full"), "{code:?} {told}");
}

/// A file system of 1 MiB, gone with the test.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path) -> Self {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs"])
            .arg(at)
            .status();
        assert!(mounted.expect("mount").success());
        Self(at)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// A configuration of a gateway that is to be refused.
fn configured(scratch: &Scratch, url: &str) -> std::path::PathBuf {
    let data = scratch.path().join("data");
    let text = format!(
        "data_dir = {data:?}\n[server]\nuser = \"65534\"\n[web]\nlisten = \"127.0.0.1:0\"\n\
         [[ssh]]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = {url:?}\n"
    );
    scratch.file("sojourn.toml", text)
}

/// Starts a gateway that refuses; its exit status, and the line that it ends with.
fn refused(config: &Path) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sojourn"))
        .args(["serve", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the gateway");
    let status = until("the refusal", PATIENCE, || child.try_wait().expect("its status"));
    let mut told = String::new();
    child.stderr.take().expect("its output").read_to_string(&mut told).expect("text");
    let last = told.lines().rfind(|line| line.starts_with("sojourn: "));
    (status.code(), last.map_or(told.clone(), str::to_owned))
}

/// Another program that does something with the file, and holds it until its input ends.
fn sqlite(file: &Path, statement: &str) -> Child {
    let program = "import sqlite3, sys\n\
        base = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
        base.execute(sys.argv[2])\n\
        print('done', flush=True)\n\
        sys.stdin.read()\n";
    let mut child = Command::new("python3")
        .args(["-c", program])
        .arg(file)
        .arg(statement)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut said = [0; 5];
    child.stdout.as_mut().expect("its output").read_exact(&mut said).expect("a line");
    child
}
