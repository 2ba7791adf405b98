//! Sojourn: a session gateway.

mod config;

fn main() {}
