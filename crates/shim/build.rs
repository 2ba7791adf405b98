//! Builds `init`, the program that is process 1 of every sandbox, for embedding.
//!
//! It is compiled by calling `rustc` itself: without the standard library or the C library, linked at
//! a fixed address, so that a waiting sandbox costs next to no memory.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "init/init.rs";

fn main() {
    println!("cargo::rerun-if-changed=init");
    let variable = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let output = PathBuf::from(variable("OUT_DIR")).join("init");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition=2024", "--crate-name=init", "--crate-type=bin"]);
    rustc.arg("--target").arg(variable("TARGET"));
    for option in [
        "target-feature=+crt-static",
        "relocation-model=static",
        "panic=abort",
        "opt-level=s",
        "lto=fat",
        "codegen-units=1",
        "force-unwind-tables=no",
        "strip=symbols",
        "relro-level=off",
        "link-arg=-nostartfiles",
        "link-arg=-nostdlib",
        "link-arg=-static",
        "link-arg=-Wl,--build-id=none,--no-eh-frame-hdr",
    ] {
        rustc.args(["-C", option]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    rustc.arg("-o").arg(&output).arg(SOURCE);
    let status = rustc.status().unwrap_or_else(|error| panic!("cannot run rustc: {error}"));
    assert!(status.success(), "building {SOURCE} failed");
}
