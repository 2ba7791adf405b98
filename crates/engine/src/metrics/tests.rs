//! Numbers, as a scraper reads them.

use sojourn_core::audit::Actor;
use sojourn_core::end::EndReason;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Mono;
use sojourn_core::time::Wall;
use sojourn_core::wire::shim::RecordingFacts;
use sojourn_core::wire::shim::Summary;

use super::*;

fn summary(reason: EndReason) -> Summary {
    let recording = RecordingFacts {
        channel: 0,
        file: "x.cast".to_owned(),
        bytes: 1000,
        sha256: String::new(),
    };
    Summary {
        session: SessionId::new(),
        reason,
        exit: None,
        output_bytes: 0,
        started_at: None,
        ended_at: Wall(0),
        recordings: vec![recording.clone(), recording],
        reached: None,
    }
}

/// The value of a series; none, where there is none.
#[track_caller]
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|number| number.parse().unwrap())
}

#[test]
fn a_session_is_counted_from_its_request_to_its_end() {
    let metrics = Metrics::new();
    let state = |state: &str| {
        let labels = format!("{{state=\"{state}\",door=\"ssh\",harness=\"shell\"}}");
        value(&metrics, &format!("sojourn_sessions{labels}"))
    };
    let prompts = || {
        let labels = "{start=\"warm\",door=\"ssh\"}";
        (
            value(&metrics, &format!("sojourn_time_to_prompt_seconds_count{labels}")),
            value(&metrics, &format!("sojourn_time_to_prompt_seconds_sum{labels}")),
        )
    };
    let mut meter = Meter::new(&metrics, "ssh", "shell").asked(Mono(1_000_000), true);
    meter.is(false, true);
    assert_eq!(state("starting"), Some(1.0));
    meter.printed(|| panic!("nothing has started"));
    meter.started(Mono(1_001_000));
    meter.is(false, true);
    assert_eq!((state("starting"), state("running")), (Some(0.0), Some(1.0)));
    assert_eq!(prompts(), (None, None), "nothing was printed");
    meter.printed(|| Mono(1_004_000));
    meter.printed(|| panic!("only the first is a prompt"));
    assert_eq!(prompts(), (Some(1.0), Some(0.004)));
    meter.started(Mono(2_000_000));
    meter.is(false, false);
    assert_eq!((state("running"), state("detached")), (Some(0.0), Some(1.0)));
    meter.is(true, false);
    assert_eq!((state("detached"), state("ending")), (Some(0.0), Some(1.0)));
    meter.ended(&summary(EndReason::MaxRuntime));
    drop(meter);
    assert_eq!(state("ending"), Some(0.0));
    let stay = "door=\"ssh\",harness=\"shell\"}";
    assert_eq!(value(&metrics, &format!("sojourn_sessions_started_total{{{stay}")), Some(1.0));
    let ended = format!("sojourn_sessions_ended_total{{reason=\"max_runtime\",{stay}");
    assert_eq!(value(&metrics, &ended), Some(1.0));
    assert_eq!(value(&metrics, "sojourn_recorded_bytes_total"), Some(2000.0));
    assert_eq!(prompts(), (Some(1.0), Some(0.004)), "once a session");
}

#[test]
fn a_session_that_prints_nothing_is_measured_to_its_start() {
    let metrics = Metrics::new();
    let mut meter = Meter::new(&metrics, "web", "my-own-agent").asked(Mono(0), false);
    meter.started(Mono(20_000));
    meter.ended(&summary(EndReason::Exited));
    let sum = "sojourn_time_to_prompt_seconds_sum{start=\"cold\",door=\"web\"}";
    assert_eq!(value(&metrics, sum), Some(0.02));
    let other = "sojourn_sessions_started_total{door=\"web\",harness=\"other\"}";
    assert_eq!(value(&metrics, other), Some(1.0), "a name that anybody may choose is no label");
    let mut found = Meter::new(&metrics, "ssh", "shell").found();
    found.is(false, false);
    found.ended(&summary(EndReason::Exited));
    let unseen = "sojourn_time_to_prompt_seconds_count{start=\"warm\",door=\"ssh\"}";
    assert_eq!(value(&metrics, unseen), None, "nobody knows when it was asked for");
}

#[test]
fn what_is_on_record_is_counted() {
    let metrics = Metrics::new();
    let event = |action| Event::new(Wall(0), action, Actor::SYSTEM);
    metrics.on_record(&event(Action::LoginSucceeded));
    metrics.on_record(&event(Action::LoginFailed));
    metrics.on_record(&event(Action::SessionExpiredInactivity));
    let attempt = event(Action::AuthAttempt).detail("method", "password");
    metrics.on_record(&attempt.clone().detail("outcome", "refused"));
    metrics.on_record(&attempt.detail("outcome", "\"}\nsojourn_evil 1"));
    let is = |series: &str| assert_eq!(value(&metrics, series), Some(1.0), "{series}");
    is("sojourn_sign_ins_total{outcome=\"succeeded\"}");
    is("sojourn_sign_ins_total{outcome=\"failed\"}");
    is("sojourn_logins_ended_total{outcome=\"inactivity\"}");
    is("sojourn_ssh_auth_attempts_total{method=\"password\",outcome=\"refused\"}");
    is("sojourn_ssh_auth_attempts_total{method=\"password\",outcome=\"other\"}");
    is("sojourn_audit_events_total{action=\"login_failed\"}");
}

#[test]
fn requests_and_connections_are_counted() {
    let metrics = Metrics::new();
    let route = metrics.route("/api/sessions/{id}");
    route.answered("GET", 404, Duration::from_millis(3));
    route.answered("BREW", 405, Duration::from_millis(3));
    let labels = "route=\"/api/sessions/{id}\"";
    for rest in ["method=\"GET\",status=\"404\"", "method=\"other\",status=\"405\""] {
        let series = format!("sojourn_http_requests_total{{{labels},{rest}}}");
        assert_eq!(value(&metrics, &series), Some(1.0), "{series}");
    }
    let bucket = format!("sojourn_http_request_seconds_bucket{{le=\"0.005\",{labels}}}");
    assert_eq!(value(&metrics, &bucket), Some(2.0));
    let (one, other) = (metrics.ssh_connection(), metrics.ssh_connection());
    drop(one);
    assert_eq!(value(&metrics, "sojourn_ssh_connections"), Some(1.0));
    assert_eq!(value(&metrics, "sojourn_ssh_connections_opened_total"), Some(2.0));
    drop(other);
}

#[test]
fn the_text_is_what_every_scraper_reads() {
    let metrics = Metrics::new();
    metrics.limit_hit("max_runtime");
    let text = metrics.text();
    let wanted = "# HELP sojourn_limits_hit_total Limits that were reached, of leases, counts and \
                  rates\n# TYPE sojourn_limits_hit_total counter\nsojourn_limits_hit_total{";
    assert!(text.contains(wanted), "{text}");
    assert_eq!(value(&metrics, "sojourn_limits_hit_total{limit=\"max_runtime\"}"), Some(1.0));
    assert_eq!(value(&metrics, "sojourn_limits_hit_total{limit=\"max_output\"}"), Some(0.0));
    assert!(!text.contains("EOF"));
    let version = format!("sojourn_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version));
}
