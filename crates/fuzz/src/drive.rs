//! Runs a target: first the corpus, then what is made of it, for a while or so many times.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::mutate::Random;
use crate::mutate::mutated;
use crate::target::Target;

/// How long, how often, and with which seed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// No longer than this.
    pub time: Duration,
    /// No more often than this.
    pub runs: u64,
    /// What decides every change.
    pub seed: u64,
}

impl Plan {
    /// As the environment says: `SOJOURN_FUZZ_SECONDS` (then as often as that allows), and
    /// `SOJOURN_FUZZ_SEED`, a number or `random`. Without them it is the same inputs every time.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let seconds = variable("SOJOURN_FUZZ_SECONDS").and_then(|text| text.parse().ok());
        let seed = match variable("SOJOURN_FUZZ_SEED").as_deref() {
            Some("random") => u64::from(std::process::id()) ^ nanoseconds(),
            Some(text) => text.parse().unwrap_or(1),
            None => 1,
        };
        Self {
            time: Duration::from_secs(seconds.unwrap_or(3)),
            runs: if seconds.is_some() { u64::MAX } else { 50_000 },
            seed,
        }
    }
}

fn nanoseconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::from(now.subsec_nanos()) ^ now.as_secs())
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Inputs from the corpus.
    pub replayed: u64,
    /// Inputs made of them.
    pub runs: u64,
    /// The longest that one of them took.
    pub slowest: Duration,
}

/// Where a target's corpus is.
#[must_use]
pub fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target.name)
}

/// Runs the corpus, then changed inputs; `run` is the target with whatever is to be watched.
///
/// # Panics
/// With the input, made as short as it gets and written to a file, when one fails.
pub fn drive(target: &Target, plan: Plan, run: &dyn Fn(&[u8])) -> Done {
    let mut done = Done::default();
    let mut inputs = Vec::new();
    let mut files: Vec<PathBuf> =
        fs::read_dir(corpus(target)).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    for file in files {
        let input = fs::read(&file).unwrap_or_default();
        assert!(!fails(run, &input), "{} fails with {}", target.name, file.display());
        inputs.push(input);
        done.replayed += 1;
    }
    let last = std::env::var_os("SOJOURN_FUZZ_LAST").map(PathBuf::from);
    let mut random = Random::new(plan.seed);
    // Of a failure only the last words are of interest, and those come when it has been shortened.
    let words = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    while done.runs < plan.runs && begun.elapsed() < plan.time {
        let input = mutated(target, &inputs, &mut random);
        // Of what kills the process nothing else would be left.
        if let Some(last) = &last {
            fs::write(last.join(target.name), &input).expect("a file for the last input");
        }
        let at = Instant::now();
        if fails(run, &input) {
            let input = shortened(run, input);
            let file = keep(target, &input);
            std::panic::set_hook(words);
            let _said = fails(run, &input);
            panic!("{} fails with {} (seed {})", target.name, file.display(), plan.seed);
        }
        done.slowest = done.slowest.max(at.elapsed());
        done.runs += 1;
    }
    std::panic::set_hook(words);
    done
}

fn fails(run: &dyn Fn(&[u8]), input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| run(input))).is_err()
}

/// Leaves out what a failure does not need.
fn shortened(run: &dyn Fn(&[u8]), mut input: Vec<u8>) -> Vec<u8> {
    let mut piece = input.len() / 2;
    let mut tries = 2000;
    while piece > 0 && tries > 0 {
        let mut at = 0;
        while at < input.len() && tries > 0 {
            tries -= 1;
            let mut shorter = input.clone();
            shorter.drain(at..(at + piece).min(input.len()));
            if fails(run, &shorter) { input = shorter } else { at += piece }
        }
        piece /= 2;
    }
    input
}

fn keep(target: &Target, input: &[u8]) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz-found");
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let file = directory.join(format!("{}-{hash:016x}", target.name));
    let kept = fs::create_dir_all(&directory).and_then(|()| fs::write(&file, input));
    kept.expect("a place for what was found");
    file
}
