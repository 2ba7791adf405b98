//! Builds again when the page was. Its directory is there even where the page never was built, for
//! cargo would otherwise build this crate each time.

fn main() {
    println!("cargo::rerun-if-changed=../../web-ui/dist");
}
