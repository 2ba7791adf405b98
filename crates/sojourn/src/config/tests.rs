//! What is read, what is refused, and how it is said.

use std::time::Duration;

use super::*;

/// The sample of the documentation: every key there is.
const SAMPLE: &str = include_str!("../../tests/sample.toml");

fn read_ok(text: &str) -> (Config, Vec<String>) {
    read("sojourn.toml", text, &[]).unwrap_or_else(|errors| panic!("{}", errors.join("\n")))
}

fn profile<'a>(config: &'a Config, name: &str) -> &'a Profile {
    config.profiles.usable().find(|(other, _)| *other == name).unwrap().1
}

fn errors(text: &str) -> Vec<String> {
    read("s.toml", text, &[]).err().unwrap_or_default()
}

#[test]
fn the_whole_sample_is_accepted_and_says_what_is_not_there_yet() {
    let (config, notes) = read_ok(SAMPLE);
    assert_eq!(notes, [""; 0]);
    let usable: Vec<_> = config.profiles.usable().map(|(name, _)| name).collect();
    assert_eq!(usable, ["bait", "default", "tools"]);
    let usable = Config::default().profiles;
    assert_eq!(usable.usable().map(|(name, _)| name).collect::<Vec<_>>(), ["default"]);
}

#[test]
fn the_sample_has_every_key_at_its_default() {
    let (mut config, _) = read_ok(SAMPLE);
    config.ssh.truncate(1);
    config.runner = Runner::default();
    config.data_dir = Config::default().data_dir;
    assert_eq!(profile(&config, "tools"), profile(&config, "default"));
    config.profiles = Config::default().profiles;
    assert_eq!(config, Config::default());
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_line_and_nearest_key() {
    let text = "\
[limits]
sesion_timeout = \"1h\"
idle_timeout = \"ten\"
max_concurrent_sessions = 0

[[ssh]]
listen = \"localhost\"
mode = \"open\"

[profiles.small]
memory = \"1KB\"
pids = \"many\"
egress = [\"example.com\"]

[sevrer]
";
    assert_eq!(
        errors(text),
        [
            "s.toml:2: limits.sesion_timeout: unknown key; the nearest is \"session_timeout\"",
            "s.toml:3: limits.idle_timeout: \"ten\" is not a duration; write it like \"500ms\", \
         \"5s\", \"30m\", \"1h30m\" or \"7d\"",
            "s.toml:4: limits.max_concurrent_sessions: 0 is not from 1 to 100000",
            "s.toml:7: ssh[0].listen: \"localhost\" is not an address and a port, like \
         \"127.0.0.1:2222\" or \"[::1]:2222\"",
            "s.toml:8: ssh[0].mode: \"open\" is not one of \"users\", \"honeypot\"",
            "s.toml:11: profiles.small.memory: \"1KB\" is not from \"8MB\" to \"16TB\"",
            "s.toml:12: profiles.small.pids: a text where a whole number is wanted",
            "s.toml:13: profiles.small.egress[0]: \"example.com\" is not host:port, address:port, \
         network/bits:port, *:port or host:*",
            "s.toml:15: sevrer: unknown key; the nearest is \"server\"",
        ]
    );
}

#[test]
fn a_key_that_is_near_none_and_a_bad_name_hide_nothing() {
    let text = "\
[limits]
session_timeout = 5
[profiles.Big]
pids = \"few\"
[nosuch]
";
    assert_eq!(
        errors(text),
        [
            "s.toml:2: limits.session_timeout: a whole number where a duration like \"5s\" is meant",
            "s.toml:3: profiles.Big: a profile's name is a-z, 0-9, _ and -, at most 32 of them",
            "s.toml:4: profiles.Big.pids: a text where a whole number is wanted",
            "s.toml:5: nosuch: unknown key",
        ]
    );
}

#[test]
fn a_sandbox_that_is_not_made_in_time_is_refused_before_the_gateway_gives_up() {
    read_ok("[sandbox]\nspawn_timeout = \"110s\"");
    assert_eq!(
        errors("[sandbox]\nspawn_timeout = \"2m\""),
        ["s.toml:2: sandbox.spawn_timeout: \"2m\" is not from \"1s\" to \"1m50s\""]
    );
}

#[test]
fn passwords_do_not_travel_in_the_clear_unless_somebody_insists() {
    let far = "[web]\npublic_url = \"http://gateway.example.org\"\n";
    let told = errors(far);
    assert!(told[0].starts_with("s.toml:2: web.public_url: http on a host"), "{told:?}");
    read_ok(&format!("{far}insecure_http = true"));
    read_ok("[web]\npublic_url = \"https://gateway.example.org\"");
    read_ok("[web]\npublic_url = \"http://127.0.0.1:9000\"");
    let told = errors("[web]\npublic_url = \"gateway.example.org\"");
    assert!(told[0].contains("nor an address like"), "{told:?}");
    for (text, key) in [
        ("tls_cert = \"/etc/passwd\"", "web.tls_cert: tls_key"),
        ("tls_key = \"/etc/passwd\"", "web.tls_key: tls_cert"),
        ("tls_cert = \"/nowhere\"\ntls_key = \"/etc/passwd\"", "web.tls_cert: there is no such"),
        (
            "tls_self_signed = true\npublic_url = \"http://localhost:1\"",
            "web.public_url: http, while",
        ),
        ("max_connections = 20", "max_connections_per_address"),
    ] {
        let told = errors(&format!("[web]\n{text}"));
        assert!(told.len() == 1 && told[0].contains(key), "{text}: {told:?}");
    }
    let (_, notes) = read_ok("[web]\nlisten = \"0.0.0.0:80\"");
    assert!(notes.iter().any(|note| note.contains("web.public_url is not set")), "{notes:?}");
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let told = errors("data_dir = \"/x\"\n[limits\n");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("s.toml:2: "), "{told:?}");
    let hostile = errors("\u{1b}]0;x\u{7} = 1");
    assert!(hostile.iter().all(|line| !line.contains('\u{1b}')), "{hostile:?}");
}

#[test]
fn checkpoints_go_nowhere_else_or_to_syslog() {
    assert_eq!(read_ok("").0.audit.forward, Forwarded::Nowhere);
    assert_eq!(read_ok("[audit]\nforward = \"syslog\"").0.audit.forward, Forwarded::Syslog);
    let told = errors("[audit]\nforward = \"tcp://log\"");
    assert!(told.len() == 1 && told[0].contains("audit.forward"), "{told:?}");
}

#[test]
fn a_database_is_named_and_its_password_shown_nowhere() {
    let (config, _) =
        read_ok("[store]\nurl = \"postgres://sojourn:se:cr@et@db/x?sslmode=require\"");
    let shown = toml::to_string(&config.to_toml()).unwrap();
    assert!(shown.contains("postgres://sojourn:***@db/x?sslmode=require"), "{shown}");
    let everything = format!("{shown} {config:?}");
    assert!(!everything.contains("cr@et"), "{everything}");
    for (url, wanted) in [
        ("secret", "neither \"sqlite\" nor"),
        ("mysql://u:secret@db/x", "begins with postgres://"),
        ("postgres://u:secret@db:port/x", "not the address of a database"),
        ("postgres://u@db/x?secret=1", "sslmode"),
    ] {
        let told = errors(&format!("[store]\nurl = {url:?}"));
        assert!(told[0].contains(wanted) && told[0].contains("store.url"), "{told:?}");
        assert!(!told[0].contains("secret"), "{told:?}");
    }
}

#[test]
fn each_kind_of_sandbox_says_what_it_needs() {
    let (config, _) = read_ok("[profiles.a]\nsandbox = \"docker\"\nimage = \"debian:12\"");
    assert_eq!(profile(&config, "a").image.to_string(), "debian:12");
    for (text, wanted) in [
        ("sandbox = \"docker\"", "needs image"),
        ("sandbox = \"docker\"\nimage = \"a b\"", "not the name of an image"),
        ("sandbox = \"docker\"\nimage = \"../a\"", "not the name of an image"),
        ("image = \"debian\"", "sandbox = \"native\" has no image"),
        ("sandbox = \"docker\"\nimage = \"a\"\nrootfs = \"/\"", "has no rootfs"),
        ("sandbox = \"host\"\nallow = [\"*\"]", "needs run_as"),
        ("sandbox = \"host\"\nrun_as = \"root\"", "other than root"),
        ("sandbox = \"host\"\nrun_as = \"0\"", "other than root"),
        ("sandbox = \"host\"\nrun_as = \"no-such-one\"", "no system account"),
        ("sandbox = \"host\"\nrun_as = \"daemon\"\ndisk_size = \"1MB\"", "has no disk_size"),
    ] {
        let told = errors(&format!("[profiles.a]\n{text}"));
        assert!(told.iter().any(|line| line.contains(wanted)), "{text}: {told:?}");
    }
    let own = "[server]\nuser = \"daemon\"\n[profiles.a]\nsandbox = \"host\"\nrun_as = \"daemon\"";
    assert!(errors(own)[0].contains("the gateway's own account"), "{:?}", errors(own));
}

#[test]
fn nobody_gets_onto_the_host_by_accident() {
    let (config, _) = read_ok("[profiles.a]\nsandbox = \"host\"\nrun_as = \"daemon\"");
    let all = |name| config.profiles.all().find(|(known, ..)| *known == name);
    assert!(all("a").is_some_and(|(_, profile, _)| profile.allow.is_empty()));
    let (config, _) = read_ok("[profiles.host]\nrun_as = \"daemon\"\nallow = [\"user:alice\"]");
    assert_eq!(profile(&config, "host").allow.len(), 1);
    let pot =
        "[[ssh]]\nmode = \"honeypot\"\nprofile = \"host\"\n[profiles.host]\nrun_as = \"daemon\"";
    assert!(errors(pot)[0].contains("there is no profile \"host\" to give"));
}

#[test]
fn an_engine_is_one_of_this_machine() {
    for fine in ["unix:///run/docker.sock", "tcp://127.0.0.1:2375", "tcp://[::1]:2375"] {
        let (config, _) = read_ok(&format!("[sandbox]\ndocker_host = {fine:?}"));
        assert_eq!(config.sandbox.docker_host.to_string(), fine);
    }
    for wrong in ["tcp://192.0.2.1:2375", "tcp://engine:2375", "ssh://host", "/run/docker.sock", ""]
    {
        let told = errors(&format!("[sandbox]\ndocker_host = {wrong:?}"));
        assert!(told[0].contains("a container engine of this machine"), "{told:?}");
    }
}

#[test]
fn an_overlay_is_a_directory_or_bait() {
    let (config, _) = read_ok("[profiles.a]\noverlay = \"bait\"\n[profiles.b]\noverlay = \"/\"");
    assert_eq!(profile(&config, "a").overlay.to_string(), "bait");
    assert_eq!(profile(&config, "b").overlay.to_string(), "/");
    for wrong in ["/no/such/directory", "baite", "/dev/null"] {
        let told = errors(&format!("[profiles.a]\noverlay = {wrong:?}"));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("s.toml:2: profiles.a.overlay: "), "{told:?}");
    }
}

#[test]
fn keys_that_do_not_fit_together_are_refused() {
    let twice = "[[ssh]]\nlisten = \"127.0.0.1:1\"\n[[ssh]]\nlisten = \"127.0.0.1:1\"";
    assert_eq!(errors(twice), ["s.toml:4: ssh[1].listen: ssh[0] listens on 127.0.0.1:1 already"]);
    let both = "[web]\nlisten = \"127.0.0.1:1\"\n[[ssh]]\nlisten = \"127.0.0.1:1\"";
    assert_eq!(errors(both), ["s.toml:4: ssh[0].listen: web listens on 127.0.0.1:1 already"]);
    let numbers = "[web]\nlisten = \"127.0.0.1:1\"\n[metrics]\nlisten = \"127.0.0.1:1\"";
    assert_eq!(errors(numbers), ["s.toml:4: metrics.listen: web listens on 127.0.0.1:1 already"]);
    assert_eq!(
        errors("[[ssh]]\nmax_sessions = 50"),
        ["s.toml:2: ssh[0].max_sessions: only a listener with mode = \"honeypot\" has this key"]
    );
    let pot = "[[ssh]]\nmode = \"honeypot\"\n";
    assert_eq!(
        errors(&format!("{pot}profile = \"jar\"\ntrusted_user_ca = \"/ca\"")),
        [
            "s.toml:3: ssh[0].profile: there is no profile \"jar\" to give",
            "s.toml:4: ssh[0].trusted_user_ca: only a listener with mode = \"users\" has this key",
            "s.toml:4: ssh[0].trusted_user_ca: there is no such file or directory",
        ]
    );
    let range = "[sandbox]\nuid_base = 4294900000\nuid_count = 2";
    assert_eq!(
        errors(range),
        [
            "s.toml:3: sandbox.uid_count: the last of these ranges ends at 4295031072, beyond 4294967295"
        ]
    );
    assert_eq!(
        errors("[profiles.a]\ncommand = []\nrootfs = \"/nowhere\""),
        [
            "s.toml:2: profiles.a.command: no program: the first entry is the program, the rest its \
         arguments",
            "s.toml:3: profiles.a.rootfs: there is no such file or directory",
        ]
    );
    for root in ["root", "0", "00"] {
        assert_eq!(errors(&format!("[server]\nuser = \"{root}\"")).len(), 1, "{root}");
    }
}

#[test]
fn a_honeypot_gets_what_it_does_not_say() {
    let (config, notes) = read_ok(
        "[[ssh]]\nmode = \"honeypot\"\nserver_id = \"OpenSSH_9.2p1 Debian-2+deb12u3\"\n\
         credentials = [[\"pi\", \"raspberry\"], [\"pi\", \"\"]]\naccept_after_failures = 6",
    );
    let pot = &config.ssh[0];
    assert_eq!((pot.profile.as_deref(), pot.max_sessions), (Some("bait"), Some(50)));
    assert_eq!(pot.credentials.as_ref().map(Vec::len), Some(2));
    assert_eq!(
        notes,
        [
            "ssh[0] never accepts after 6 failures: max_auth_tries is 6",
            "nobody can come in: there is no [[ssh]] listener with mode = \"users\"",
        ]
    );
    let shown = toml::to_string_pretty(&config.to_toml()).unwrap();
    assert!(!shown.contains("raspberry"), "{shown}");
}

#[test]
fn networks_and_algorithms_are_checked() {
    assert_eq!(
        errors("[[ssh]]\nproxy_protocol_from = [\"10.0.0.0/8\", \"lb.example.org\"]"),
        [
            "s.toml:2: ssh[0].proxy_protocol_from[1]: \"lb.example.org\" is not an address or a network \
             like 192.0.2.0/24"
        ]
    );
    let told = errors("[[ssh]]\nmacs = [\"hmac-md5\"]\nlisten = \"127.0.0.1:1\"");
    assert!(told[0].starts_with("s.toml:2: ssh[0].macs: \"hmac-md5\" is not known"), "{told:?}");
    let (config, _) = read_ok("[[ssh]]\nkex_algorithms = [\"diffie-hellman-group14-sha256\"]");
    assert_eq!(config.ssh[0].kex_algorithms.len(), 1);
}

#[test]
fn a_profile_overrides_limits() {
    let (config, _) = read_ok(
        "[limits]\nsession_timeout = \"2h\"\nmax_output = 0\n\
         [profiles.short]\nsession_timeout = \"5s\"\nidle_timeout = 0\nidle_counts = \"input\"",
    );
    let limits = |name: &str| config.limits_for(profile(&config, name));
    assert_eq!(limits("default").max_runtime, Some(Duration::from_secs(7200)));
    assert_eq!(limits("default").idle_timeout, Some(Duration::from_secs(1800)));
    assert_eq!(limits("short").max_runtime, Some(Duration::from_secs(5)));
    assert_eq!(limits("short").idle_timeout, None);
    assert_eq!(limits("short").max_output, None);
}

fn with_env(text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let own = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    read("s.toml", text, &own.collect::<Vec<_>>()).map(|(config, _)| config)
}

#[test]
fn the_environment_overrides_the_file() {
    let config = with_env(
        "[limits]\ngrace = \"1s\"\n[[ssh]]\nmax_auth_tries = 2",
        &[
            ("SOJOURN_DATA_DIR", "/srv/stay"),
            ("SOJOURN_LIMITS__GRACE", "2s"),
            ("SOJOURN_LIMITS__MAX_CONCURRENT_SESSIONS", "7"),
            ("SOJOURN_PROFILES__TOOLS__ACCEPT_ENV", "[\"A\", \"B_*\"]"),
            ("SOJOURN_PROFILES__TOOLS__CPU", "2"),
            ("SOJOURN_PROFILES__TOOLS__ENV__PAGER", "cat"),
            ("SOJOURN_RECORDING__INPUT", "false"),
            ("SOJOURN_SSH__0__LISTEN", "127.0.0.1:2200"),
            ("SOJOURN_SSH__1__LISTEN", "127.0.0.1:2201"),
        ],
    )
    .unwrap();
    assert_eq!(config.data_dir.to_string(), "/srv/stay");
    assert_eq!(config.limits.grace.0, Duration::from_secs(2));
    assert_eq!(config.limits.max_concurrent_sessions, 7);
    let tools = profile(&config, "tools");
    assert_eq!(tools.accept_env.len(), 2);
    assert_eq!(tools.env.0.get("PAGER").map(String::as_str), Some("cat"));
    assert_eq!(tools.cpu, 2.0);
    assert_eq!(config.recording.input, RecordInput::Nothing);
    let listeners: Vec<_> = config.ssh.iter().map(|ssh| ssh.listen.to_string()).collect();
    assert_eq!(listeners, ["127.0.0.1:2200", "127.0.0.1:2201"]);
    assert_eq!(config.ssh[0].max_auth_tries, 2);

    let told = with_env(
        "data_dir = \"/x\"",
        &[
            ("SOJOURN_LIMITS__GRAZE", "2s"),
            ("SOJOURN_SSH__4__LISTEN", "127.0.0.1:1"),
            ("SOJOURN_DATA_DIR__X", "y"),
        ],
    )
    .unwrap_err();
    assert_eq!(
        told,
        [
            "environment variable SOJOURN_DATA_DIR__X: data_dir: has no keys below it",
            "environment variable SOJOURN_LIMITS__GRAZE: limits.graze: unknown key; the nearest is \
         \"grace\"",
            "environment variable SOJOURN_SSH__4__LISTEN: ssh: the list has 0 entries, from 0",
        ]
    );
}

#[test]
fn what_is_shown_can_be_read_again_and_hides_secrets() {
    let (config, _) = read_ok(&format!("{SAMPLE}\n[profiles.p]\nenv = {{ TOKEN = \"s3cret\" }}"));
    let shown = toml::to_string_pretty(&config.to_toml()).unwrap();
    assert!(!shown.contains("s3cret") && !shown.contains("toor"), "{shown}");
    let plain = toml::to_string_pretty(&Config::default().to_toml()).unwrap();
    assert_eq!(read_ok(&plain).0, Config::default());
}

#[test]
fn the_schema_knows_every_key_of_the_sample() {
    let schema = Config::json_schema();
    let sample: toml::Table = SAMPLE.parse().unwrap();
    let mut missing = Vec::new();
    find_missing(&toml::Value::Table(sample), &schema, "", &mut missing);
    assert_eq!(missing, Vec::<String>::new());
}

fn find_missing(value: &toml::Value, schema: &Json, path: &str, missing: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, child) in table {
                let path = format!("{path}.{key}");
                match schema["properties"].get(key).or(schema.get("additionalProperties")) {
                    Some(below) if below.is_object() => find_missing(child, below, &path, missing),
                    _ => missing.push(path),
                }
            }
        }
        toml::Value::Array(items) => {
            items.iter().for_each(|item| find_missing(item, &schema["items"], path, missing));
        }
        _ => assert!(schema["description"].is_string() || schema["type"].is_string(), "{path}"),
    }
}

#[test]
fn what_may_be_forwarded_is_named() {
    use sojourn_engine::profiles::Forward;
    let forward = |list: &str| format!("[profiles.default]\nforward = [{list}]\n");
    let (config, _) = read_ok(&forward("\"local\", \"remote\", \"agent\", \"x11\""));
    let kinds: Vec<_> =
        profile(&config, "default").forward.iter().map(|kind| kind.policy()).collect();
    assert_eq!(kinds, [Forward::Local, Forward::Remote, Forward::Agent, Forward::X11]);
    assert_eq!(errors(&forward("\"everything\"")).len(), 1);
}

#[test]
fn a_preset_of_logins_is_kept_to() {
    let limits = |text: &str| {
        let (config, _) = read_ok(&format!("[login]\n{text}"));
        let login = config.login;
        format!("{} {}", login.max_lifetime, login.idle_timeout)
    };
    assert_eq!(limits(""), "7d 30m");
    assert_eq!(limits("preset = \"aal2\""), "1d 30m");
    assert_eq!(limits("preset = \"aal3\""), "12h 15m");
    assert_eq!(limits("preset = \"aal2\"\nidle_timeout = \"5m\""), "1d 5m");
    assert_eq!(limits("idle_timeout = \"2s\"\nmax_lifetime = \"6s\""), "6s 2s");
    let told = errors("[login]\npreset = \"aal3\"\nidle_timeout = \"30m\"\nmax_lifetime = \"1d\"");
    assert_eq!(
        told,
        [
            "s.toml:3: login.idle_timeout: 30m is longer than preset \"aal3\" allows, which is 15m; \
             leave it out, or leave the preset out",
            "s.toml:4: login.max_lifetime: 1d is longer than preset \"aal3\" allows, which is 12h; \
             leave it out, or leave the preset out",
        ]
    );
    for (text, key) in [
        ("idle_timeout = \"0\"", "login.idle_timeout"),
        ("max_lifetime = \"0\"", "login.max_lifetime"),
        ("max_per_user = 0", "login.max_per_user"),
        ("preset = \"aal4\"", "login.preset"),
    ] {
        let told = errors(&format!("[login]\n{text}"));
        assert!(told.len() == 1 && told[0].contains(key), "{told:?}");
    }
}
