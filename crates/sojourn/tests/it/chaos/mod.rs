//! Rounds of chaos: people work with ssh, browsers and agents while things go wrong by chance, and after
//! each round nothing is lost and nothing is left. A round is told by its seed:
//! `SOJOURN_CHAOS_FIRST=17 SOJOURN_CHAOS_SEEDS=1 make chaos` is round 17 again, as far as the machine
//! lets anything be again.
//!
//! [`people`] is what goes on, [`faults`] what goes wrong, [`invariants`] what must be true afterwards.

mod crowd;
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
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use sojourn_testkit::alone;
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

/// How much goes on in a round.
struct Size {
    /// How many things go wrong.
    faults: u64,
    /// How often people do what they do.
    times: u64,
    /// Whether all of them come.
    everybody: bool,
}

/// A whole round, and one that every run of the tests has time for.
const WHOLE: Size = Size { faults: 4, times: 2, everybody: true };
const SMALL: Size = Size { faults: 1, times: 1, everybody: false };

/// What came of a round.
struct Round {
    breaches: Vec<String>,
    story: Vec<String>,
    log: String,
}

/// One round.
fn round(seed: u64, size: &Size) -> Round {
    let dice = Dice::new(seed);
    let mut faults = faults::of_round(&mut dice.apart(1000), size);
    let mut engine = dice.apart(1002);
    let of_engine = faults::of_engine(&mut engine, size);
    let mark = format!("{seed}x{}", std::process::id());
    let (mut town, street) = town::build(&mark, !of_engine.is_empty());
    if town.engine.is_some() {
        for fault in of_engine {
            let at = engine.below(faults.len() as u64 + 1);
            faults.insert(usize::try_from(at).unwrap(), fault);
        }
    }
    street.ledger.tell(format!("seed {seed}: {faults:?}"));
    std::thread::scope(|scope| {
        people::come(scope, &street, &dice, size);
        faults::happen(&mut town, &street, &mut dice.apart(1001), &faults);
        street.calm.store(true, Ordering::Relaxed);
    });
    invariants::hold(&mut town, &street);
    let breaches = street.ledger.breaches();
    if !breaches.is_empty() {
        keep(seed, &town.gateway.data());
    }
    Round {
        breaches,
        story: street.ledger.story(),
        log: format!("{}\n--- runner\n{}", town.gateway.log(), town.runner.log()),
    }
}

/// Where it is written what came of rounds.
fn log_dir() -> PathBuf {
    let to = std::env::var("SOJOURN_CHAOS_LOG").unwrap_or_else(|_| "target/chaos".to_owned());
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(to)
}

/// Keeps what a round with a breach left on record, as far as that can be had.
fn keep(seed: u64, data: &Path) {
    for part in ["audit", "recordings", "sessions"] {
        for file in crate::files_below(&data.join(part)) {
            let Ok(within) = file.strip_prefix(data) else { continue };
            let to = log_dir().join(seed.to_string()).join(within);
            let _made = to.parent().map(std::fs::create_dir_all);
            let _kept = std::fs::copy(&file, to);
        }
    }
    for name in ["sojourn.db", "sojourn.db-wal"] {
        let _kept = std::fs::copy(data.join(name), log_dir().join(seed.to_string()).join(name));
    }
}

/// One round that has to go well.
#[track_caller]
fn goes_well(test: &str, seed: u64, size: &Size) {
    if !can_make_sandboxes() || !alone(test) {
        return;
    }
    let Round { breaches, story, log } = round(seed, size);
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
    if !alone("chaos::rounds_that_are_asked_for_go_well") {
        return;
    }
    let first = asked("SOJOURN_CHAOS_FIRST").unwrap_or(1);
    let to = log_dir();
    std::fs::create_dir_all(&to).unwrap();
    let mut table = File::options().create(true).append(true).open(to.join("rounds")).unwrap();
    let mut bad = Vec::new();
    for seed in first..first + seeds {
        let began = Instant::now();
        let came = std::panic::catch_unwind(|| round(seed, &WHOLE)).unwrap_or_else(|why| Round {
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

/// Rounds, chosen so that each kind of thing goes wrong in one. Whole ones are for the long run alone.
macro_rules! rounds {
    ($($name:ident: $seed:expr, $size:expr;)*) => {
        $(
            #[test]
            fn $name() {
                if $size.everybody && !crate::is_long_run() {
                    return;
                }
                goes_well(concat!("chaos::", stringify!($name)), $seed, &$size);
            }
        )*
    };
}

rounds! {
    a_small_round_with_a_killed_gateway_goes_well: 2, SMALL;
    a_small_round_past_limits_goes_well: 3, SMALL;
    a_small_round_with_a_killed_zygote_goes_well: 98, SMALL;
    a_small_round_with_a_full_disk_goes_well: 10, SMALL;
    a_small_round_with_a_killed_runner_elsewhere_goes_well: 4, SMALL;
    a_round_with_a_full_disk_goes_well: 33, WHOLE;
    a_round_with_cuts_and_failing_syncs_goes_well: 32, WHOLE;
    a_round_with_killed_gateways_goes_well: 84, WHOLE;
    a_round_with_killed_parts_goes_well: 81, WHOLE;
    a_round_past_limits_goes_well: 98, WHOLE;
    a_round_with_cut_links_goes_well: 91, WHOLE;
}
