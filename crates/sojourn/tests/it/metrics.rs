//! The numbers, as a scraper reads them, against the table that people read.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use sojourn_testkit::Browser;
use sojourn_testkit::Gateway;
use sojourn_testkit::Options;
use sojourn_testkit::PATIENCE;
use sojourn_testkit::can_make_sandboxes;
use sojourn_testkit::until;

/// One family of numbers.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
    series: BTreeMap<String, f64>,
}

/// Reads the text format, and is as strict as `promtool check metrics`.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = None;
    let mut helped = None;
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a help");
            assert!(!words.is_empty() && !words.ends_with('.'), "{line}");
            helped = Some(name.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a kind");
            assert_eq!(helped.take().as_deref(), Some(name), "a help before each kind");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            let family = Family { kind: kind.to_owned(), ..Family::default() };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} is there twice");
            current = Some(name.to_owned());
        } else {
            let name = current.as_ref().expect("a kind before its numbers");
            let family = families.get_mut(name).expect("it");
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let value: f64 = value.parse().expect("a number");
            let (metric, labels) = series.split_once('{').unwrap_or((series, "}"));
            let ending = metric.strip_prefix(name.as_str()).expect("a number of this family");
            match family.kind.as_str() {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&ending), "{line}"),
                _ => assert_eq!(ending, "", "{line}"),
            }
            for label in labels.strip_suffix('}').expect("an end").split("\",") {
                let Some((label, value)) = label.split_once("=\"") else { continue };
                assert!(!value.trim_end_matches('"').contains(['"', '\n']), "{line}");
                family.labels.insert(label.to_owned());
            }
            assert!(family.series.insert(series.to_owned(), value).is_none(), "{line} twice");
        }
    }
    families
}

/// Buckets count everything below them, and the last one everything.
fn check_histogram(name: &str, family: &Family) {
    let of = |ending: &str| {
        let prefix = format!("{name}{ending}{{");
        let series = family.series.iter();
        series.filter_map(move |(key, value)| Some((key.strip_prefix(&prefix)?.to_owned(), *value)))
    };
    let mut whole: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (labels, value) in of("_bucket") {
        let (bound, rest) = labels.strip_prefix("le=\"").unwrap().split_once('"').unwrap();
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        whole.entry(rest.trim_start_matches(',').to_owned()).or_default().push((bound, value));
    }
    for (labels, mut buckets) in whole {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name} {buckets:?}");
        let (last, all) = *buckets.last().unwrap();
        let count = of("_count").find(|(key, _)| *key == labels).map(|(_, count)| count);
        assert_eq!((last, Some(all)), (f64::INFINITY, count), "{name} {labels}");
    }
}

/// The rows of the table: name, kind, labels.
fn table() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let document = include_str!("../../../../docs/metrics.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `sojourn_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[2].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (format!("sojourn_{}", cells[0].trim_matches('`')), (cells[1].to_owned(), labels))
    })
    .collect()
}

fn gateway() -> (Gateway, Browser) {
    let gateway = Gateway::start(
        env!("CARGO_BIN_EXE_sojourn"),
        &Options { more: "[metrics]\nlisten = \"127.0.0.1:0\"\n".to_owned(), ..Options::default() },
    );
    let line = gateway.wait_for_log("its numbers", |line| line["door"] == "metrics");
    let address: std::net::SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
    (gateway, Browser::new(address.port()))
}

#[test]
fn the_numbers_are_those_of_the_table() {
    if !can_make_sandboxes() {
        return;
    }
    let (gateway, mut scraper) = gateway();
    let exec = gateway.alice().run("echo hello; exit 3");
    assert_eq!(exec.code, 3);
    let silent = gateway.alice().run("true");
    assert_eq!(silent.code, 0);
    // So that each family has a series to show its labels.
    Browser::new(gateway.web_port()).get("/api/health");
    gateway.alice().user("nobody").run("true");
    assert_eq!(gateway.alice().user("alice+none").run("true").code, 75);
    let text = until("both to be counted", PATIENCE, || {
        let answer = scraper.get("/metrics");
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let text = answer.text();
        let ended = "sojourn_sessions_ended_total{reason=\"exited\",door=\"ssh\",\
                     harness=\"shell\"} 2\n";
        // A session is out of motion a moment after its end is counted.
        let mut moving = text.lines().filter(|line| line.starts_with("sojourn_sessions{"));
        let at_rest = moving.all(|line| line.ends_with(" 0"));
        // And in the audit log, as is a name that nobody has, a moment after that.
        let written = "sojourn_audit_events_total{action=\"session_ended\"} 2\n";
        let told = [ended, written, "sojourn_refusals_total{", "outcome=\"refused\"} "];
        (at_rest && told.iter().all(|line| text.contains(line))).then_some(text)
    });
    let families = parse(&text);
    let table = table();
    let names = |of: Vec<&String>| of.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(families.keys().collect()), names(table.keys().collect()));
    for (name, family) in &families {
        let (kind, labels) = &table[name];
        assert_eq!(&family.kind, kind, "{name}");
        let mut found = family.labels.clone();
        if family.kind == "histogram" {
            found.remove("le");
            check_histogram(name, family);
        }
        if !family.series.is_empty() {
            assert_eq!(&found, labels, "{name}");
        }
    }
    let sum = |name: &str, with: &str| -> f64 {
        let series = families[name.trim_end_matches("_count")].series.iter();
        let series = series.filter(|(key, _)| key.starts_with(name) && key.contains(with));
        series.map(|(_, value)| value).sum()
    };
    assert_eq!(sum("sojourn_sessions_started_total", "door=\"ssh\""), 2.0);
    assert_eq!(sum("sojourn_sandboxes_taken_total", "profile=\"default\""), 2.0);
    assert_eq!(sum("sojourn_time_to_prompt_seconds_count", "door=\"ssh\""), 2.0);
    assert_eq!(sum("sojourn_sessions", ""), 0.0, "nothing is in motion any more");
    assert!(sum("sojourn_recorded_bytes_total", "") > 0.0);
    assert!(sum("sojourn_audit_events_total", "action=\"session_ended\"") >= 2.0);
    assert!(sum("sojourn_ssh_auth_attempts_total", "outcome=\"refused\"") >= 1.0);
    let health = "route=\"/api/health\",method=\"GET\",status=\"200\"";
    assert_eq!(sum("sojourn_http_requests_total", health), 1.0);
    assert!(!text.contains("alice"), "no label is anything of a person's");
}

#[test]
fn at_the_web_door_the_numbers_are_not_for_everybody() {
    let (gateway, mut scraper) = gateway();
    assert_eq!(scraper.get("/metrics").outcome().0, 200);
    assert_eq!(scraper.get("/api/sessions").outcome().0, 404, "nothing else is there");
    Browser::new(gateway.web_port()).get("/metrics").refused(401, "LOGIN_REQUIRED");
}
