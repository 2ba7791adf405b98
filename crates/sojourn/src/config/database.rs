//! Where accounts and sessions are kept: `[store] url`. There can be a password in it, which is shown
//! to nobody.

use std::fmt;
use std::path::Path;

use serde_json::Value as Json;
use serde_json::json;
use sojourn_store::Location;
use toml::Value as Toml;

use super::node::Kind;
use super::node::Node;
use super::report::Report;
use super::value::Value;

/// The word for a file in the data directory.
const SQLITE: &str = "sqlite";
/// What stands where a password was.
const HIDDEN: &str = "***";

/// Which database.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Database {
    /// A file in the data directory.
    Sqlite,
    /// A PostgreSQL server's, by its address.
    Postgres(String),
}

impl Database {
    /// Where it is, given the data directory.
    pub(crate) fn location<'a>(&'a self, data_dir: &'a Path) -> Location<'a> {
        match self {
            Self::Sqlite => Location::File(data_dir),
            Self::Postgres(url) => Location::Postgres(url),
        }
    }
}

impl fmt::Display for Database {
    /// Without what is secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite => f.write_str(SQLITE),
            Self::Postgres(url) => f.write_str(&without_secrets(url)),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.to_string()).finish()
    }
}

impl Value for Database {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let (Kind::Text(text) | Kind::Raw(text)) = &node.kind else {
            report.problem(node, format_args!("{} where a text in quotes is wanted", node.kind));
            return None;
        };
        if text == SQLITE {
            return Some(Self::Sqlite);
        }
        match Location::Postgres(text).check() {
            Ok(()) => Some(Self::Postgres(text.clone())),
            Err(_) if !text.contains("://") => {
                // Whatever it is, it may be secret.
                report.problem(
                    node,
                    "neither \"sqlite\" nor an address that begins with postgres://",
                );
                None
            }
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
        json!({"type": "string", "pattern": "^(sqlite|postgres(ql)?://.*)$"})
    }
}

/// An address without its password, wherever that stands in it.
fn without_secrets(url: &str) -> String {
    let (before, after) = url.split_once("://").unwrap_or(("", url));
    // To the last of them: a password can have such a letter in it.
    let after = match after.rsplit_once('@') {
        Some((account, place)) => match account.split_once(':') {
            Some((user, _password)) => format!("{user}:{HIDDEN}@{place}"),
            None => after.to_owned(),
        },
        None => after.to_owned(),
    };
    let Some((place, parameters)) = after.split_once('?') else {
        return format!("{before}://{after}");
    };
    let parameters = parameters.split('&').map(|parameter| match parameter.split_once('=') {
        Some(("password", _)) => format!("password={HIDDEN}"),
        _ => parameter.to_owned(),
    });
    format!("{before}://{place}?{}", parameters.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hidden_wherever_it_stands() {
        for (url, shown) in [
            ("postgres://u:secret@db/x", "postgres://u:***@db/x"),
            ("postgres://u@db:5432/x?sslmode=require", "postgres://u@db:5432/x?sslmode=require"),
            ("postgres://u:se:cr@et@db/x", "postgres://u:***@db/x"),
            ("postgres://u:12/secret@db/x", "postgres://u:***@db/x"),
            ("postgres://u:1?secret@db/x", "postgres://u:***@db/x"),
            (
                "postgres:///x?host=/run/pg&password=secret",
                "postgres:///x?host=/run/pg&password=***",
            ),
            ("postgresql://u:secret@/x?user=a&password=sec@ret", "postgresql://u:***@ret"),
        ] {
            let database = Database::Postgres(url.to_owned());
            assert_eq!(database.to_string(), shown);
            let debug = format!("{database:?}");
            assert!(!debug.contains("sec") && !debug.contains("cr@et"), "{debug}");
        }
        assert_eq!(Database::Sqlite.to_string(), "sqlite");
    }
}
