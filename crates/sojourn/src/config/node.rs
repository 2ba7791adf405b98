//! Configuration as it was written: a tree whose every value remembers where it came from.

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

use super::report::Report;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum At {
    /// On this line of the file.
    Line(usize),
    /// In this environment variable.
    Variable(String),
}

/// One value.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its key in full: `limits.grace`, `ssh[1].listen`.
    pub(crate) path: String,
    /// Where it stands.
    pub(crate) at: At,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// `"text"`
    Text(String),
    /// `12`
    Integer(i64),
    /// `0.5`
    Float(f64),
    /// `true`
    Bool(bool),
    /// A date or time, which no key wants.
    Time,
    /// `[…]`, `[[key]]`
    List(Vec<Node>),
    /// `{…}`, `[key]`
    Table(BTreeMap<String, Node>),
    /// From the environment: the key decides how to read it.
    Raw(String),
}

impl fmt::Display for Kind {
    /// What it is in an error message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) | Self::Raw(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Bool(_) => "true or false",
            Self::Time => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        })
    }
}

impl Node {
    /// A file with nothing in it.
    pub(crate) fn empty() -> Self {
        let kind = Kind::Table(BTreeMap::new());
        Self { path: String::new(), at: At::Line(1), kind }
    }

    /// Reads a file. What is not TOML is reported, and the rest is read all the same.
    pub(crate) fn parse(text: &str, report: &mut Report) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let lines = Lines(text);
        for error in errors {
            let at = At::Line(error.span().map_or(1, |span| lines.of(span.start)));
            report.syntax(at, error.message());
        }
        Self { kind: lines.table(table.into_inner(), "", report), ..Self::empty() }
    }

    /// The value under `key`, where this is a table that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Table(table) => table.get(key),
            _ => None,
        }
    }

    /// The value at this place of a list.
    pub(crate) fn item(&self, index: usize) -> Option<&Self> {
        match &self.kind {
            Kind::List(items) => items.get(index),
            _ => None,
        }
    }

    /// A list or table that stands in an environment variable, written as TOML would have it.
    pub(crate) fn unpacked(&self) -> Option<Self> {
        let Kind::Raw(text) = &self.kind else { return None };
        let value = DeValue::parse(text).ok()?;
        // What stands in one variable has no lines; every value in it comes from the variable.
        let mut ignored = Report::default();
        let mut node = Lines(text).node(value, self.path.clone(), 1, &mut ignored);
        node.settle(&self.at);
        ignored.is_clean().then_some(node)
    }

    fn settle(&mut self, at: &At) {
        self.at = at.clone();
        match &mut self.kind {
            Kind::List(items) => items.iter_mut().for_each(|item| item.settle(at)),
            Kind::Table(table) => table.values_mut().for_each(|item| item.settle(at)),
            _ => {}
        }
    }

    /// Puts what the environment says over what the file says.
    pub(crate) fn overlay(&mut self, name: &str, value: &str, report: &mut Report) {
        let at = At::Variable(name.to_owned());
        let segments: Vec<String> = segments(name);
        let mut node = self;
        for (depth, segment) in segments.iter().enumerate() {
            let fresh = match segments.get(depth + 1) {
                None => Kind::Raw(value.to_owned()),
                Some(next) if next.parse::<usize>().is_ok() => Kind::List(Vec::new()),
                Some(_) => Kind::Table(BTreeMap::new()),
            };
            let last = depth + 1 == segments.len();
            let path = child_path(&node.path, segment);
            let child = match &mut node.kind {
                Kind::Table(table) => table.entry(segment.clone()).or_insert_with(|| Self {
                    path,
                    at: at.clone(),
                    kind: fresh.clone(),
                }),
                Kind::List(items) => {
                    let index = segment.parse().unwrap_or(usize::MAX);
                    if index > items.len() {
                        let message = format!("the list has {} entries, from 0", items.len());
                        return report.at(at, &node.path, message);
                    }
                    let path = format!("{}[{index}]", node.path);
                    if index == items.len() {
                        items.push(Self { path, at: at.clone(), kind: fresh.clone() });
                    }
                    &mut items[index]
                }
                _ => return report.at(at, &node.path, "has no keys below it"),
            };
            if last {
                child.kind = fresh;
                child.at = at.clone();
            }
            node = child;
        }
    }
}

/// The keys that a variable's name stands for. Below `env` they are names of other variables, and
/// keep their case.
fn segments(name: &str) -> Vec<String> {
    let mut names = Vec::new();
    for segment in name.trim_start_matches("SOJOURN_").split("__") {
        let below_env = names.last().is_some_and(|last| last == "env");
        names.push(if below_env { segment.to_owned() } else { segment.to_lowercase() });
    }
    names
}

fn child_path(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// A text that knows which line an offset is on.
struct Lines<'a>(&'a str);

impl Lines<'_> {
    fn of(&self, offset: usize) -> usize {
        let before = self.0.as_bytes().get(..offset).unwrap_or(self.0.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    fn table(&self, table: DeTable<'_>, path: &str, report: &mut Report) -> Kind {
        let mut nodes = BTreeMap::new();
        for (key, value) in table {
            let line = self.of(key.span().start);
            let key = key.into_inner().into_owned();
            let node = self.node(value, child_path(path, &key), line, report);
            nodes.insert(key, node);
        }
        Kind::Table(nodes)
    }

    fn node(
        &self,
        value: Spanned<DeValue<'_>>,
        path: String,
        line: usize,
        report: &mut Report,
    ) -> Node {
        let kind = match value.into_inner() {
            DeValue::String(text) => Kind::Text(text.into_owned()),
            DeValue::Boolean(value) => Kind::Bool(value),
            DeValue::Datetime(_) => Kind::Time,
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(
                    |_| {
                        report.at(At::Line(line), &path, "the number is too large");
                        Kind::Integer(0)
                    },
                    Kind::Integer,
                ),
            DeValue::Float(number) => Kind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Array(items) => Kind::List(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| {
                        let line = self.of(item.span().start);
                        self.node(item, format!("{path}[{index}]"), line, report)
                    })
                    .collect(),
            ),
            DeValue::Table(table) => self.table(table, &path, report),
        };
        Node { path, at: At::Line(line), kind }
    }
}
