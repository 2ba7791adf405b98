//! Every target for `cargo fuzz`: the one whose name this program has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sojourn_fuzz::target::Target;

fuzz_target!(|data: &[u8]| {
    let target = Target::named(env!("CARGO_BIN_NAME")).expect("it is in the table");
    (target.run)(data);
});
