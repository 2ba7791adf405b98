//! Rounds of chaos: people work with ssh, browsers and agents while things go wrong by chance, and after
//! each round nothing is lost and nothing is left. A round is told by its seed:
//! `SOJOURN_CHAOS_FIRST=17 SOJOURN_CHAOS_SEEDS=1 make chaos` is round 17 again, as far as the machine
//! lets anything be again.
//!
//! [`people`] is what goes on, [`faults`] what goes wrong, [`invariants`] what must be true afterwards.

mod dice;
mod faults;
mod invariants;
mod ledger;
mod line;
mod people;
mod power;
mod town;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use sojourn_testkit::can_make_sandboxes;

use dice::Dice;
use people::said as people_said;

/// Waits until something is so, or for so long.
fn within<T>(patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What came of a round.
struct Round {
    breaches: Vec<String>,
    story: Vec<String>,
    log: String,
}

/// One round.
fn round(seed: u64) -> Round {
    let dice = Dice::new(seed);
    let (mut town, street) = town::build(&format!("{seed}x{}", std::process::id()));
    let faults = faults::of_round(&mut dice.apart(1000));
    street.ledger.tell(format!("seed {seed}: {faults:?}"));
    std::thread::scope(|scope| {
        people::come(scope, &street, &dice);
        faults::happen(&mut town, &street, &mut dice.apart(1001), &faults);
        street.calm.store(true, Ordering::Relaxed);
    });
    invariants::hold(&mut town, &street);
    Round {
        breaches: street.ledger.breaches(),
        story: street.ledger.story(),
        log: format!("{}\n--- runner\n{}", town.gateway.log(), town.runner.log()),
    }
}

/// One round that has to go well.
#[track_caller]
fn goes_well(seed: u64) {
    if !crate::is_long_run() || !can_make_sandboxes() {
        return;
    }
    let Round { breaches, story, log } = round(seed);
    assert!(
        breaches.is_empty(),
        "{}\n--- what happened\n{}\n--- the last gateway\n{log}",
        breaches.join("\n"),
        story.join("\n"),
    );
}

/// A number that is asked for.
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// As many rounds as are asked for; what came of them is in `SOJOURN_CHAOS_LOG` as well.
#[test]
fn rounds_that_are_asked_for_go_well() {
    let Some(seeds) = asked("SOJOURN_CHAOS_SEEDS").filter(|_| can_make_sandboxes()) else { return };
    let first = asked("SOJOURN_CHAOS_FIRST").unwrap_or(1);
    let to = std::env::var("SOJOURN_CHAOS_LOG").unwrap_or_else(|_| "target/chaos".to_owned());
    let to = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(to);
    std::fs::create_dir_all(&to).unwrap();
    let mut table = File::options().create(true).append(true).open(to.join("rounds")).unwrap();
    let mut bad = Vec::new();
    for seed in first..first + seeds {
        let began = Instant::now();
        let came = std::panic::catch_unwind(|| round(seed)).unwrap_or_else(|why| Round {
            breaches: vec![format!("it broke off: {:?}", why.downcast_ref::<String>())],
            story: Vec::new(),
            log: String::new(),
        });
        let word = if came.breaches.is_empty() { "well" } else { "BREACH" };
        let line = format!("seed {seed}: {word} in {} s", began.elapsed().as_secs());
        println!("{line}");
        writeln!(table, "{line} {}", came.story.first().map_or("", |told| told)).unwrap();
        let file = to.join(format!("{seed}.log"));
        let told = [came.breaches.join("\n"), came.story.join("\n"), came.log].join("\n---\n");
        std::fs::write(file, told).unwrap();
        for breach in came.breaches {
            println!("  {}", breach.chars().take(600).collect::<String>());
            bad.push(seed);
        }
    }
    bad.dedup();
    assert!(bad.is_empty(), "seeds {bad:?}: see {}", to.display());
}

/// Rounds that are part of the long run of the tests, chosen so that each kind of thing goes wrong in one.
macro_rules! rounds {
    ($($name:ident: $seed:expr,)*) => {
        $(
            #[test]
            fn $name() {
                goes_well($seed);
            }
        )*
    };
}

rounds! {
    a_round_with_a_full_disk_goes_well: 11,
    a_round_with_cuts_and_failing_syncs_goes_well: 15,
    a_round_with_killed_gateways_goes_well: 22,
    a_round_with_killed_parts_goes_well: 38,
    a_round_past_limits_goes_well: 6,
}
