//! The one table of keys: what is written once about a key here becomes its field, its default, its
//! reader with all checks, its line in `config show` and its entry in the schema.

use std::fmt;

use serde_json::Value as Json;
use toml::Value as Toml;

use super::node::Kind;
use super::node::Node;
use super::report::Report;
use super::value::Value;

/// Defines a section: a struct with one field a key.
///
/// After its default a key can have `from MIN, to MAX` (both allowed).
macro_rules! keys {
    (
        $(#[doc = $about:literal])*
        pub(crate) struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $type:ty = $default:expr
                $(, from $min:expr, to $max:expr)?
                ;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct $name {
            $($(#[doc = $doc])* pub(crate) $key: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl $name {
            const KEYS: &[&str] = &[$(stringify!($key),)*];

            /// Takes what `node` says over what is there.
            pub(crate) fn take(
                &mut self,
                node: &$crate::config::node::Node,
                report: &mut $crate::config::report::Report,
            ) {
                use $crate::config::keys;
                let unpacked = node.unpacked();
                let node = unpacked.as_ref().unwrap_or(node);
                if !keys::is_section(node, Self::KEYS, report) {
                    return;
                }
                $(
                    let read = node.get(stringify!($key)).and_then(|node| {
                        let value = <$type as $crate::config::value::Value>::read(node, report)?;
                        $(keys::within(node, &value, &$min, &$max, report)?;)?
                        Some(value)
                    });
                    if let Some(value) = read {
                        self.$key = value;
                    }
                )*
            }
        }

        impl $crate::config::value::Value for $name {
            fn read(
                node: &$crate::config::node::Node,
                report: &mut $crate::config::report::Report,
            ) -> Option<Self> {
                let mut section = Self::default();
                section.take(node, report);
                Some(section)
            }

            fn write(&self) -> Option<toml::Value> {
                let mut table = toml::Table::new();
                $(
                    if let Some(value) = $crate::config::value::Value::write(&self.$key) {
                        table.insert(stringify!($key).to_owned(), value);
                    }
                )*
                Some(toml::Value::Table(table))
            }

            fn schema() -> serde_json::Value {
                use $crate::config::keys;
                use $crate::config::value::Value;
                let mut properties = serde_json::Map::new();
                let defaults = Self::default();
                $(
                    let mut key = <$type as Value>::schema();
                    keys::describe(&mut key, concat!($($doc, "\n"),*), defaults.$key.write());
                    $(keys::bound(&mut key, $min.write(), $max.write());)?
                    properties.insert(stringify!($key).to_owned(), key);
                )*
                serde_json::json!({
                    "type": "object",
                    "description": keys::prose(concat!($($about, "\n"),*)),
                    "properties": properties,
                    "additionalProperties": false,
                })
            }
        }
    };
}

pub(crate) use keys;

/// Whether `node` is a table; keys it should not have are reported.
pub(crate) fn is_section(node: &Node, keys: &[&str], report: &mut Report) -> bool {
    let Kind::Table(table) = &node.kind else {
        report.problem(node, format_args!("{} where a table is wanted", node.kind));
        return false;
    };
    for (key, child) in table {
        if !keys.contains(&key.as_str()) {
            report.unknown(child, key, keys);
        }
    }
    true
}

/// Whether a value is within its bounds.
pub(crate) fn within<T: PartialOrd + Value>(
    node: &Node,
    value: &T,
    min: &T,
    max: &T,
    report: &mut Report,
) -> Option<()> {
    if value >= min && value <= max {
        return Some(());
    }
    let (value, min, max) = (Shown(value), Shown(min), Shown(max));
    report.problem(node, format_args!("{value} is not from {min} to {max}"));
    None
}

/// A value as a file would have it.
struct Shown<'a, T>(&'a T);

impl<T: Value> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write().map_or(Ok(()), |value| value.fmt(f))
    }
}

/// Puts a key's description and default into its schema.
pub(crate) fn describe(schema: &mut Json, doc: &str, default: Option<Toml>) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.insert("description".to_owned(), prose(doc).into());
    if let Some(default) = default.and_then(|value| serde_json::to_value(value).ok())
        && !default.is_object()
    {
        schema.insert("default".to_owned(), default);
    }
}

/// Puts a key's bounds into its schema, where those are numbers.
pub(crate) fn bound(schema: &mut Json, min: Option<Toml>, max: Option<Toml>) {
    for (name, bound) in [("minimum", min), ("maximum", max)] {
        let number = match bound {
            Some(Toml::Integer(number)) => Json::from(number),
            Some(Toml::Float(number)) => Json::from(number),
            _ => continue,
        };
        if let Some(schema) = schema.as_object_mut() {
            schema.insert(name.to_owned(), number);
        }
    }
}

/// A doc comment as running text.
pub(crate) fn prose(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
