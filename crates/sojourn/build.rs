//! Gives each build a name, so that a gateway and a runner of different builds notice.

fn main() {
    let made = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let stamp = std::env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| made.to_string());
    println!("cargo::rustc-env=SOJOURN_BUILD={stamp}");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=Cargo.toml");
}
