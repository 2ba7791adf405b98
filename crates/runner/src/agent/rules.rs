//! Rules that a person made for the rest of a session: what is asked and allowed again, unasked.
//!
//! They are ours, kept by the runner and told with every use; no agent is ever told "always". A
//! command is only ever allowed when it is exactly the same again: a part of a command line says
//! nothing about the whole. Files may be allowed by directory, and only when everything that looks
//! like a path is below it, symbolic links resolved. (An agent that may run programs can change a
//! link between our look and its use: rules spare questions, a sandbox keeps it in.)

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Map;
use serde_json::Value;
use sojourn_core::wire::relay::Prompt;
use sojourn_core::wire::relay::Rule;

use super::shown::PATHS;

/// The most rules of a session.
const MAX_RULES: usize = 256;

/// Kinds of tools that work on files and nothing else.
const ON_FILES: [&str; 3] = ["read", "edit", "search"];

/// Names under which tools take the text of a file. What looks like a path in it is none.
const TEXTS: [&str; 10] = [
    "content",
    "file_text",
    "new_source",
    "new_str",
    "new_string",
    "newString",
    "newText",
    "old_string",
    "oldString",
    "oldText",
];

/// The rules of a session.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: HashSet<Rule>,
}

impl Rules {
    /// Adds one. False when there are too many.
    pub(super) fn add(&mut self, rule: Rule) -> bool {
        if self.rules.len() >= MAX_RULES && !self.rules.contains(&rule) {
            return false;
        }
        self.rules.insert(rule);
        true
    }

    /// The rule that allows this, if one does.
    pub(super) fn matching(
        &self,
        prompt: &Prompt,
        call: &Map<String, Value>,
        cwd: &Path,
    ) -> Option<&Rule> {
        // Resolved once, and only when there is a rule that needs it.
        let needs_paths = self.rules.iter().any(|rule| matches!(rule, Rule::Below { .. }));
        let paths = if needs_paths { paths(call, cwd, &real) } else { None };
        self.rules.iter().find(|rule| match rule {
            Rule::Exact { kind, input_hash } => {
                *kind == prompt.kind && *input_hash == prompt.input_hash
            }
            Rule::Below { kind, directory } => {
                *kind == prompt.kind && paths.as_ref().is_some_and(|paths| below(paths, directory))
            }
        })
    }
}

/// The rule that a person may make of a prompt.
pub(super) fn offered(prompt: &Prompt, call: &Map<String, Value>, cwd: &Path) -> Rule {
    if ON_FILES.contains(&prompt.kind.as_str())
        && let Some(directory) = cwd.to_str()
        && let Some(paths) = paths(call, cwd, &real)
        && below(&paths, directory)
    {
        return Rule::Below { kind: prompt.kind.clone(), directory: directory.to_owned() };
    }
    Rule::Exact { kind: prompt.kind.clone(), input_hash: prompt.input_hash.clone() }
}

fn below(paths: &[PathBuf], directory: &str) -> bool {
    paths.iter().all(|path| path.starts_with(directory))
}

/// Everything that looks like a path in a tool call, resolved; none where there is doubt.
fn paths(
    call: &Map<String, Value>,
    cwd: &Path,
    real: &dyn Fn(&Path) -> Option<PathBuf>,
) -> Option<Vec<PathBuf>> {
    let mut named: Vec<&str> = Vec::new();
    let list = |name: &str| call.get(name).and_then(Value::as_array).into_iter().flatten();
    for location in list("locations") {
        named.push(location.get("path")?.as_str()?);
    }
    for item in list("content").filter(|item| item.get("type") == Some(&"diff".into())) {
        named.push(item.get("path")?.as_str()?);
    }
    if let Some(input) = call.get("rawInput") {
        look(input, "", &mut named)?;
    }
    if named.is_empty() {
        return None;
    }
    named.into_iter().map(|path| resolve(path, cwd, real)).collect()
}

/// Collects what may be a path. None where a tool could do more than its kind says.
fn look<'a>(value: &'a Value, name: &str, named: &mut Vec<&'a str>) -> Option<()> {
    match value {
        Value::String(_) if TEXTS.contains(&name) => Some(()),
        Value::String(text) if PATHS.contains(&name) => {
            named.push(text);
            Some(())
        }
        Value::String(text) => {
            if text.contains(['\n', '\0']) {
                return None;
            }
            if text.contains('/') || text.starts_with('~') || text == ".." {
                named.push(text);
            }
            Some(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| look(item, name, named)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            if name == "command" || name == "cmd" {
                return None;
            }
            look(value, name, named)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(()),
    }
}

/// A path as the system will see it. None when it climbs, or cannot be told.
fn resolve(path: &str, cwd: &Path, real: &dyn Fn(&Path) -> Option<PathBuf>) -> Option<PathBuf> {
    if path.is_empty() || path.starts_with('~') || path.contains('\0') {
        return None;
    }
    let path = cwd.join(path);
    if path.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    real(&path)
}

/// Resolves symbolic links of what is there; what is not there yet follows as it is.
fn real(path: &Path) -> Option<PathBuf> {
    let mut rest = Vec::new();
    let mut there = path;
    loop {
        match fs::canonicalize(there) {
            Ok(real) => {
                return Some(rest.iter().rev().fold(real, |real, part| real.join(part)));
            }
            // A link that leads nowhere may lead somewhere later.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link(there) => {}
            Err(_) => return None,
        }
        rest.push(there.file_name()?);
        there = there.parent()?;
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use serde_json::json;
    use sojourn_core::wire::relay::RequestId;

    use super::super::shown;
    use super::*;

    fn asked(call: &Value) -> (Prompt, &Map<String, Value>) {
        let call = call.as_object().unwrap();
        (shown::prompt(RequestId::new(), call).0, call)
    }

    fn edit(path: &str) -> Value {
        json!({"toolCallId": "1", "kind": "edit", "rawInput": {"file_path": path, "new_string": "/etc"}})
    }

    /// Whether a rule made of the first call allows the second one.
    fn allows(first: &Value, second: &Value, cwd: &Path) -> bool {
        let (prompt, call) = asked(first);
        let mut rules = Rules::default();
        assert!(rules.add(offered(&prompt, call, cwd)));
        let (prompt, call) = asked(second);
        rules.matching(&prompt, call, cwd).is_some()
    }

    #[test]
    fn a_command_is_only_allowed_when_it_is_the_same_again() {
        let run = |command: &str| json!({"kind": "execute", "rawInput": {"command": command}});
        let cwd = Path::new("/");
        assert!(allows(&run("make"), &run("make"), cwd));
        for other in ["make install", "make; rm -rf /", "make && true", "make\n", "MAKE", " make"] {
            assert!(!allows(&run("make"), &run(other), cwd), "{other:?}");
        }
        let other_kind = json!({"kind": "fetch", "rawInput": {"command": "make"}});
        assert!(!allows(&run("make"), &other_kind, cwd));
    }

    #[test]
    fn files_below_the_working_directory_are_allowed_by_kind_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let cwd = dir.path().canonicalize().unwrap();
        fs::create_dir(cwd.join("src")).unwrap();
        symlink("/etc", cwd.join("out")).unwrap();
        symlink("/nowhere/at/all", cwd.join("later")).unwrap();
        let inside = edit(cwd.join("src/a.rs").to_str().unwrap());
        let sibling = format!("{}-other/a", cwd.display());
        assert!(allows(&inside, &edit("b/c/new.rs"), &cwd));
        assert!(allows(&inside, &edit(cwd.join("x").to_str().unwrap()), &cwd));
        for path in
            ["/etc/passwd", "out/passwd", "src/../../x", "later", "later/x", "~/x", "", &sibling]
        {
            assert!(!allows(&inside, &edit(path), &cwd), "{path:?}");
        }
        let read = json!({"kind": "read", "rawInput": {"path": "a"}});
        assert!(!allows(&inside, &read, &cwd), "another kind");
    }

    #[test]
    fn what_could_do_more_than_its_kind_says_is_not_allowed_by_directory() {
        let dir = tempfile::tempdir().unwrap();
        let cwd = dir.path().canonicalize().unwrap();
        let inside = edit("a");
        for input in [
            json!({"path": "a", "command": "sh"}),
            json!({"path": "a", "also": "/etc/passwd"}),
            json!({"path": "a", "more": [{"file_path": "../x"}]}),
            json!({"patch": "*** Update File: /etc/passwd\n+x"}),
            json!({"nothing": 1}),
        ] {
            let call = json!({"kind": "edit", "rawInput": input});
            assert!(!allows(&inside, &call, &cwd), "{call}");
            let (prompt, fields) = asked(&call);
            assert!(matches!(offered(&prompt, fields, &cwd), Rule::Exact { .. }), "{call}");
        }
        let elsewhere = json!({
            "kind": "edit", "rawInput": {"path": "a"}, "locations": [{"path": "/etc/passwd"}],
        });
        assert!(!allows(&inside, &elsewhere, &cwd));
    }

    #[test]
    fn there_are_only_so_many_rules() {
        let mut rules = Rules::default();
        let rule = |n: usize| Rule::Exact { kind: "x".to_owned(), input_hash: n.to_string() };
        assert!((0..MAX_RULES).all(|n| rules.add(rule(n))));
        assert!(!rules.add(rule(MAX_RULES)));
        assert!(rules.add(rule(0)), "one that holds already");
    }

    proptest! {
        #[test]
        fn no_path_that_leads_out_is_below(parts in prop::collection::vec("(\\.\\.|\\.|a|b|/)", 1..8)) {
            let cwd = Path::new("/w/cwd");
            let named = parts.join("/");
            // What the system would make of it, links aside.
            let mut seen = PathBuf::new();
            for part in cwd.join(&named).components() {
                match part {
                    Component::ParentDir => { seen.pop(); }
                    part => seen.push(part),
                }
            }
            if let Some(path) = resolve(&named, cwd, &|path| Some(path.to_owned()))
                && below(&[path], "/w/cwd")
            {
                prop_assert!(seen.starts_with(cwd), "{named:?} is {seen:?}");
            }
        }
    }
}
