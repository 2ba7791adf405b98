//! What fuzzers call: what an agent says, as functions of bytes that panic where a promise is broken.

pub use crate::agent::fuzz::agent_output;
