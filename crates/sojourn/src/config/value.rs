//! How a value of each type is read, written and described: the same for every key of that type.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::Value as Json;
use serde_json::json;
use sojourn_core::authz::Allow;
use sojourn_core::network::Network;
use sojourn_core::units::Size;
use sojourn_core::units::Span;
use sojourn_sandbox::docker::engine::Address as Engine;
use sojourn_sandbox::egress::Entry;
use sojourn_web::Origin;
use toml::Value as Toml;

use super::node::Kind;
use super::node::Node;
use super::report::Report;

/// A type that a key can have.
pub(crate) trait Value: Sized {
    /// Reads a value; what is wrong with it is reported.
    fn read(node: &Node, report: &mut Report) -> Option<Self>;

    /// The value as a file has it; none is left out.
    fn write(&self) -> Option<Toml>;

    /// The type as JSON Schema has it.
    fn schema() -> Json;
}

/// Reports that `node` is of the wrong type.
fn wanted<T>(node: &Node, what: &str, report: &mut Report) -> Option<T> {
    report.problem(node, format_args!("{} where {what} is wanted", node.kind));
    None
}

impl Value for bool {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.kind {
            Kind::Bool(value) => Some(*value),
            Kind::Raw(text) if text == "true" => Some(true),
            Kind::Raw(text) if text == "false" => Some(false),
            _ => wanted(node, "true or false", report),
        }
    }

    fn write(&self) -> Option<Toml> {
        Some(Toml::Boolean(*self))
    }

    fn schema() -> Json {
        json!({"type": "boolean"})
    }
}

impl Value for u32 {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let number = match &node.kind {
            Kind::Integer(number) => Some(*number),
            Kind::Raw(text) => text.parse().ok(),
            _ => None,
        };
        let Some(number) = number else { return wanted(node, "a whole number", report) };
        let fits = Self::try_from(number).ok();
        if fits.is_none() {
            report.problem(node, format_args!("{number} is not from 0 to {}", Self::MAX));
        }
        fits
    }

    fn write(&self) -> Option<Toml> {
        Some(Toml::Integer(i64::from(*self)))
    }

    fn schema() -> Json {
        json!({"type": "integer", "minimum": 0})
    }
}

impl Value for f64 {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let number = match &node.kind {
            Kind::Float(number) => Some(*number),
            // Every whole number a person writes here fits a double exactly.
            Kind::Integer(number) => i32::try_from(*number).ok().map(Self::from),
            Kind::Raw(text) => text.parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| number.is_finite());
        number.or_else(|| wanted(node, "a number", report))
    }

    fn write(&self) -> Option<Toml> {
        Some(Toml::Float(*self))
    }

    fn schema() -> Json {
        json!({"type": "number"})
    }
}

impl Value for String {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let text = text(node, report)?;
        if text.contains('\0') {
            report.problem(node, "a NUL character stands in the text");
            return None;
        }
        Some(text.to_owned())
    }

    fn write(&self) -> Option<Toml> {
        Some(Toml::String(self.clone()))
    }

    fn schema() -> Json {
        json!({"type": "string"})
    }
}

fn text<'a>(node: &'a Node, report: &mut Report) -> Option<&'a str> {
    match &node.kind {
        Kind::Text(text) | Kind::Raw(text) => Some(text),
        _ => wanted(node, "a text in quotes", report),
    }
}

impl<T: Value> Value for Option<T> {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        T::read(node, report).map(Some)
    }

    fn write(&self) -> Option<Toml> {
        self.as_ref().and_then(T::write)
    }

    fn schema() -> Json {
        T::schema()
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let unpacked = node.unpacked();
        let Kind::List(items) = &unpacked.as_ref().unwrap_or(node).kind else {
            return wanted(node, "a list like [\"a\", \"b\"]", report);
        };
        let read: Vec<_> = items.iter().map(|item| T::read(item, report)).collect();
        read.into_iter().collect()
    }

    fn write(&self) -> Option<Toml> {
        Some(Toml::Array(self.iter().filter_map(T::write).collect()))
    }

    fn schema() -> Json {
        json!({"type": "array", "items": T::schema()})
    }
}

impl<T: Value> Value for BTreeMap<String, T> {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let unpacked = node.unpacked();
        let Kind::Table(table) = &unpacked.as_ref().unwrap_or(node).kind else {
            return wanted(node, "a table", report);
        };
        let read = |(key, item): (&String, &Node)| Some((key.clone(), T::read(item, report)?));
        table.iter().map(read).collect::<Vec<_>>().into_iter().collect()
    }

    fn write(&self) -> Option<Toml> {
        let pairs = self.iter().filter_map(|(key, item)| Some((key.clone(), item.write()?)));
        Some(Toml::Table(pairs.collect()))
    }

    fn schema() -> Json {
        json!({"type": "object", "additionalProperties": T::schema()})
    }
}

/// Types that are a text with a form of its own.
macro_rules! of_text {
    ($($type:ty: $schema:tt $(, or $number:ident => $from:expr)? $(, meant $example:expr)?;)*) => {$(
        impl Value for $type {
            fn read(node: &Node, report: &mut Report) -> Option<Self> {
                $(if let Kind::Integer($number) = node.kind {
                    if let Some(value) = $from {
                        return Some(value);
                    }
                })?
                $(if let Kind::Integer(number) = node.kind {
                    let example: fn(i64) -> Option<String> = $example;
                    if let Some(example) = example(number) {
                        let kind = &node.kind;
                        report.problem(node, format_args!("{kind} where {example} is meant"));
                        return None;
                    }
                })?
                match text(node, report)?.parse::<Self>() {
                    Ok(value) => Some(value),
                    Err(error) => {
                        report.problem(node, error);
                        None
                    }
                }
            }

            fn write(&self) -> Option<Toml> {
                Some(Toml::String(self.to_string()))
            }

            fn schema() -> Json {
                json!($schema)
            }
        }
    )*};
}

of_text! {
    Span: {"type": "string", "pattern": "^(0|([0-9]+(ms|s|m|h|d))+)$"},
        or number => (number == 0).then_some(Span::default()),
        meant |number| (number > 0).then(|| format!("a duration like \"{number}s\""));
    Size: {"type": ["string", "integer"]}, or number => u64::try_from(number).ok().map(Size);
    Allow: {"type": "string"};
    Network: {"type": "string"};
    Address: {"type": "string"};
    MaybeAddress: {"type": "string"};
    Path: {"type": "string"};
    MaybePath: {"type": "string"};
    PublicUrl: {"type": "string"};
    Account: {"type": "string"};
    HostName: {"type": "string"};
    Pattern: {"type": "string"};
    ServerId: {"type": "string"};
    RootFs: {"type": "string"};
    Overlay: {"type": "string"};
    Entry: {"type": "string"};
    Rate: {"type": "string"};
    Image: {"type": "string"};
    RunAs: {"type": "string"};
    DockerHost: {"type": "string"};
}

/// A text that is not what a key wants; says what would be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub(crate) struct Malformed {
    text: String,
    wanted: &'static str,
}

fn malformed<T>(text: &str, wanted: &'static str) -> Result<T, Malformed> {
    Err(Malformed { text: text.to_owned(), wanted })
}

/// A text type whose form a function checks.
macro_rules! text_type {
    ($($(#[doc = $doc:literal])* $name:ident($inner:ty) = $parse:expr, $wanted:literal;)*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) $inner);

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                let parse: fn(&str) -> Option<$inner> = $parse;
                parse(text).map_or_else(|| malformed(text, $wanted), |value| Ok(Self(value)))
            }
        }
    )*};
}

text_type! {
    /// An address and a port.
    Address(SocketAddr) = |text| text.parse().ok(),
        "an address and a port, like \"127.0.0.1:2222\" or \"[::1]:2222\"";
    /// An address and a port, or nothing.
    MaybeAddress(Option<SocketAddr>) = |text| {
        if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
    }, "empty, nor an address and a port, like \"127.0.0.1:9090\"";
    /// An absolute path.
    Path(PathBuf) = absolute, "a path that begins with \"/\"";
    /// An absolute path, or nothing.
    MaybePath(Option<PathBuf>) = |text| {
        if text.is_empty() { Some(None) } else { absolute(text).map(Some) }
    }, "empty, nor a path that begins with \"/\"";
    /// A gateway as browsers see it, or nothing.
    PublicUrl(Option<Origin>) = |text| {
        if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
    }, "empty, nor an address like \"https://gateway.example.org\": scheme, host, port";
    /// A system account that is not root: its name, or its number.
    Account(String) = |text| {
        let name = text.len() <= 32
            && !text.is_empty()
            && !text.starts_with(['-', '.'])
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        let number = text.bytes().all(|b| b.is_ascii_digit());
        let root = text == "root" || text.trim_start_matches('0').is_empty();
        let fits = !number || text.parse::<u32>().is_ok_and(|uid| uid < u32::MAX);
        (name && !root && fits).then(|| text.to_owned())
    }, "the name or number of a system account other than root";
    /// A system account that is not root, or nothing.
    RunAs(String) = |text| {
        if text.is_empty() { Some(String::new()) } else { text.parse().ok().map(|Account(name)| name) }
    }, "empty, nor the name or number of a system account other than root";
    /// The name of an image, or nothing.
    Image(String) = |text| {
        let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/:@-".contains(&b));
        let plain = letters && text.len() <= 255 && !text.contains("..") && !text.contains("//");
        let ends = text.starts_with(['-', '.', '/', ':', '@']) || text.ends_with(['/', ':', '@']);
        (plain && !ends).then(|| text.to_owned())
    }, "the name of an image, like \"debian:12\"";
    /// Where a container engine of this machine listens.
    DockerHost(Engine) = |text| match text.split_once("://") {
        Some(("unix", path)) => absolute(path).map(Engine::Unix),
        Some(("tcp", address)) => {
            let address = address.replacen("localhost", "127.0.0.1", 1);
            let address = address.trim_end_matches('/').parse().ok();
            address.filter(|address: &SocketAddr| address.ip().is_loopback()).map(Engine::Tcp)
        }
        _ => None,
    }, "a container engine of this machine, like \"unix:///var/run/docker.sock\" or \
        \"tcp://127.0.0.1:2375\"; for one on another machine, start a runner there";
    /// A host name, or nothing.
    HostName(String) = |text| {
        let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        (letters && text.len() <= 63 && !text.starts_with(['-', '.'])).then(|| text.to_owned())
    }, "a host name";
    /// The name of an environment variable, where `*` stands for any letters.
    Pattern(String) = |text| {
        let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_*?".contains(&b));
        (letters && !text.is_empty() && text.len() <= 128).then(|| text.to_owned())
    }, "the name of an environment variable, like \"LANG\" or \"LC_*\"";
    /// The software version an SSH server names itself by, or nothing.
    ServerId(String) = |text| {
        let letters = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        let plain = letters && text.trim() == text && !text.starts_with("SSH-");
        (plain && text.len() <= 200).then(|| text.to_owned())
    }, "a software version like \"OpenSSH_9.2p1\": printable, without \"SSH-2.0-\"";
    /// Where a sandbox's root file system comes from: none is the host's own programs.
    RootFs(Option<PathBuf>) = |text| {
        if text == "host" { Some(None) } else { absolute(text).map(Some) }
    }, "\"host\", nor the path of a directory or an image archive, which begins with \"/\"";
    /// So many bytes a second; 0 is as many as there are.
    Rate(Size) = |text| match text {
        "0" => Some(Size(0)),
        _ => text.strip_suffix("/s").and_then(|size| size.parse().ok()),
    }, "a rate, like \"500KB/s\" or \"1MB/s\", nor \"0\" for none";
    /// What is laid over a root file system.
    Overlay(Laid) = |text| match text {
        "" => Some(Laid::Nothing),
        "bait" => Some(Laid::Bait),
        _ => absolute(text).map(Laid::Directory),
    }, "empty, \"bait\", nor a directory that begins with \"/\"";
}

/// What is laid over a root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Laid {
    /// Nothing.
    Nothing,
    /// The files that the built-in profile of honeypots has.
    Bait,
    /// A directory.
    Directory(PathBuf),
}

fn absolute(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    (path.is_absolute() && !text.contains('\0')).then_some(path)
}

macro_rules! show_text {
    ($($name:ident: $show:expr;)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let show: fn(&Self) -> String = $show;
                f.write_str(&show(self))
            }
        }
    )*};
}

show_text! {
    Address: |this| this.0.to_string();
    MaybeAddress: |this| this.0.map(|address| address.to_string()).unwrap_or_default();
    Path: |this| this.0.display().to_string();
    MaybePath: |this| shown(this.0.as_ref(), "");
    PublicUrl: |this| this.0.as_ref().map(Origin::to_string).unwrap_or_default();
    Account: |this| this.0.clone();
    HostName: |this| this.0.clone();
    Pattern: |this| this.0.clone();
    ServerId: |this| this.0.clone();
    RootFs: |this| shown(this.0.as_ref(), "host");
    Rate: |this| match this.0 {
        Size(0) => "0".to_owned(),
        size => format!("{size}/s"),
    };
    RunAs: |this| this.0.clone();
    Image: |this| this.0.clone();
    DockerHost: |this| this.0.to_string();
    Overlay: |this| match &this.0 {
        Laid::Nothing => String::new(),
        Laid::Bait => "bait".to_owned(),
        Laid::Directory(path) => path.display().to_string(),
    };
}

fn shown(path: Option<&PathBuf>, none: &str) -> String {
    path.map_or_else(|| none.to_owned(), |path| path.display().to_string())
}

/// Defines a key's choice among words.
macro_rules! choice {
    ($(#[doc = $about:literal])* pub(crate) enum $name:ident {
        $($(#[doc = $doc:literal])* $variant:ident = $word:literal,)*
    }) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[doc = $doc])* $variant,)* }

        impl $name {
            const WORDS: &[&str] = &[$($word,)*];
        }

        impl $crate::config::value::Value for $name {
            fn read(
                node: &$crate::config::node::Node,
                report: &mut $crate::config::report::Report,
            ) -> Option<Self> {
                let text = String::read(node, report)?;
                match text.as_str() {
                    $($word => return Some(Self::$variant),)*
                    _ => $crate::config::value::no_choice(node, &text, Self::WORDS, report),
                }
                None
            }

            fn write(&self) -> Option<toml::Value> {
                let word = match self { $(Self::$variant => $word,)* };
                Some(toml::Value::String(word.to_owned()))
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({"enum": Self::WORDS})
            }
        }
    };
}

pub(crate) use choice;

/// Reports a word that is none of those to choose from.
pub(crate) fn no_choice(node: &Node, text: &str, words: &[&str], report: &mut Report) {
    let list: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    report.problem(node, format_args!("{text:?} is not one of {}", list.join(", ")));
}
