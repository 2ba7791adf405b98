//! Every target with its corpus, and with inputs made of it.
//!
//! `SOJOURN_FUZZ_SECONDS` and `SOJOURN_FUZZ_SEED` change how long and with which seed; without them
//! the inputs are the same every time. `SOJOURN_WRITE=1` writes the seeds anew.

use std::alloc::System;
use std::fs;
use std::sync::Mutex;
use std::sync::PoisonError;

use sojourn_fuzz::drive;
use sojourn_fuzz::drive::Plan;
use sojourn_fuzz::target::TARGETS;
use sojourn_fuzz::target::Target;
use stats_alloc::INSTRUMENTED_SYSTEM;
use stats_alloc::Region;
use stats_alloc::StatsAlloc;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What a byte of input may cost, besides what a target may allocate whatever its input.
const PER_BYTE: usize = 2048;

/// The allocator counts for the whole process: one run at a time.
static RUNNING: Mutex<()> = Mutex::new(());

fn try_out(name: &str) {
    let target = Target::named(name).expect("it is in the table");
    let plan = Plan::from_environment();
    let run = |input: &[u8]| {
        let _alone = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let region = Region::new(ALLOCATOR);
        (target.run)(input);
        let used = region.change().bytes_allocated;
        let most = target.memory + PER_BYTE * input.len();
        assert!(used <= most, "{} bytes of input allocate {used}", input.len());
    };
    let done = drive::drive(target, plan, &run);
    println!(
        "{name}: {} of the corpus, {} made with seed {}, the slowest took {:?}",
        done.replayed, done.runs, plan.seed, done.slowest
    );
    assert!(done.replayed > 0, "no corpus");
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                try_out(stringify!($name));
            }
        )*

        #[test]
        fn every_target_has_a_test() {
            let tested = [$(stringify!($name)),*];
            let all: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(tested.as_slice(), all);
        }
    };
}

targets! {
    relay_from_runner relay_to_runner relay_bytes shim_frames runner_messages shim_control
    helper_answers helper_requests init_events name_answers audit_log recording snapshot sidecar
    terminal_text command_lines proxy_header client_hello user_name certificate sftp scp public_key
    browser_frame body query headers agent_output spool config small_texts image_layer image_archive
    left_names left_tar
}

/// What the encoders write today is what the corpus begins with: a change of a format is seen here.
#[test]
fn seeds_are_what_the_encoders_write() {
    for target in TARGETS {
        let directory = drive::corpus(target);
        for (name, bytes) in (target.seeds)() {
            let file = directory.join(name);
            if std::env::var_os("SOJOURN_WRITE").is_some() {
                fs::create_dir_all(&directory).unwrap();
                fs::write(&file, &bytes).unwrap();
            }
            let kept = fs::read(&file).unwrap_or_default();
            assert!(kept == bytes, "{} is another one; SOJOURN_WRITE=1 writes it", file.display());
        }
    }
}
