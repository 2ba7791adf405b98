//! What of the runner's environment a program gets: what is named, and nothing else. The runner's own
//! variables are never among it.

use std::collections::BTreeMap;

/// What every program gets, where the runner has it.
const USUAL: [&str; 14] = [
    "COLORTERM",
    "HOME",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
];

/// Where programs are looked for when nothing says where.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The environment of a program.
pub(super) fn of_program(
    own: &[(String, String)],
    pass: &[String],
    given: &BTreeMap<String, String>,
    session: &[(&str, &str)],
) -> BTreeMap<String, String> {
    let passes = |name: &str| {
        let named = USUAL.iter().copied().chain(pass.iter().map(String::as_str));
        !name.starts_with("SOJOURN") && named.into_iter().any(|pattern| fits(pattern, name))
    };
    let mut env: BTreeMap<String, String> =
        own.iter().filter(|(name, _)| passes(name)).cloned().collect();
    env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
    env.extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
    env.extend(session.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    env
}

/// Whether a name fits a pattern, in which `*` stands for any letters and `?` for one.
fn fits(pattern: &str, name: &str) -> bool {
    let mut chars = pattern.chars();
    match chars.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = chars.as_str();
            name.char_indices().any(|(at, _)| fits(rest, &name[at..])) || fits(rest, "")
        }
        Some('?') => {
            let mut name = name.chars();
            name.next().is_some() && fits(chars.as_str(), name.as_str())
        }
        Some(char) => name.strip_prefix(char).is_some_and(|rest| fits(chars.as_str(), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn flaw_06_only_what_is_named_is_inherited_and_never_the_runners_own() {
        let own = pairs(&[
            ("HOME", "/home/alice"),
            ("LC_ALL", "C"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("ANTHROPIC_API_KEY", "wanted"),
            ("SOJOURN_TOKEN", "secret"),
            ("SOJOURN_URL", "http://x"),
        ]);
        let pass = ["ANTHROPIC_*".to_owned(), "SOJOURN_*".to_owned(), "*_TOKEN".to_owned()];
        let given = BTreeMap::from([("MODE".to_owned(), "x".to_owned())]);
        let env = of_program(&own, &pass, &given, &[("SOJOURN_SESSION", "id")]);
        let names: Vec<_> = env.keys().map(String::as_str).collect();
        let expected = ["ANTHROPIC_API_KEY", "HOME", "LC_ALL", "MODE", "PATH", "SOJOURN_SESSION"];
        assert_eq!(names, expected);
    }

    #[test]
    fn patterns_are_those_of_names() {
        for (pattern, name) in [("*", ""), ("*", "A"), ("A*C", "AC"), ("A*C", "ABBC"), ("A?", "AB")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("A", "AB"), ("AB", "A"), ("A*C", "ACB"), ("A?", "A"), ("", "A")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
