//! What is wrong with a configuration, all of it at once, and what is worth a remark.

use std::fmt;

use super::node::At;
use super::node::Node;

/// The most problems that are shown: a file of garbage needs no thousand lines.
const MOST: usize = 50;

/// Problems and notes, as they were found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    problems: Vec<Problem>,
    notes: Vec<String>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    at: At,
    key: String,
    message: String,
}

impl Report {
    /// Something is wrong with this value.
    pub(crate) fn problem(&mut self, node: &Node, message: impl fmt::Display) {
        self.at(node.at.clone(), &node.path, message);
    }

    /// Something is wrong at a place where there is no value.
    pub(crate) fn at(&mut self, at: At, key: &str, message: impl fmt::Display) {
        let key = key.to_owned();
        self.problems.push(Problem { at, key, message: message.to_string() });
    }

    /// The file is not TOML here.
    pub(crate) fn syntax(&mut self, at: At, message: &str) {
        self.at(at, "", message.lines().collect::<Vec<_>>().join(" "));
    }

    /// This is fine, but not what somebody may think.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// A key that does not exist; `keys` are those that do.
    pub(crate) fn unknown(&mut self, node: &Node, key: &str, keys: &[&str]) {
        let message = match nearest(key, keys) {
            Some(near) => format!("unknown key; the nearest is \"{near}\""),
            None => "unknown key".to_owned(),
        };
        self.problem(node, message);
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// The notes, when nothing is wrong.
    ///
    /// # Errors
    /// One line a problem, in the order of the file, then those of the environment.
    pub(crate) fn finish(mut self, file: &str) -> Result<Vec<String>, Vec<String>> {
        if self.problems.is_empty() {
            return Ok(self.notes);
        }
        self.problems.sort();
        self.problems.dedup();
        let more = self.problems.len().saturating_sub(MOST);
        let mut lines: Vec<String> =
            self.problems.iter().take(MOST).map(|problem| problem.line(file)).collect();
        if more > 0 {
            lines.push(format!("{file}: and {more} more"));
        }
        Err(lines)
    }
}

impl Problem {
    fn line(&self, file: &str) -> String {
        let place = match &self.at {
            At::Line(line) => format!("{file}:{line}"),
            At::Variable(name) => format!("environment variable {name}"),
        };
        let key = sojourn_term::escape::escape(&self.key, 120);
        let message = sojourn_term::escape::escape(&self.message, 400);
        if key.is_empty() {
            format!("{place}: {message}")
        } else {
            format!("{place}: {key}: {message}")
        }
    }
}

/// The candidate with the fewest letters to change, where that is few enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word: String = word.chars().take(64).collect();
    let near = candidates.iter().map(|candidate| (distance(&word, candidate), *candidate));
    let (changes, nearest) = near.min_by_key(|(changes, _)| *changes)?;
    let longest = word.chars().count().max(nearest.chars().count());
    // Half a name is meant as well.
    let is_part = word.len() >= 3 && nearest.contains(&word);
    (is_part || changes * 5 <= longest * 2).then_some(nearest)
}

/// How many letters have to be put in, taken out or changed to make one word of the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        row[0] = left;
        for (j, b) in to.iter().enumerate() {
            let above = row[j + 1];
            left = (diagonal + usize::from(a != *b)).min(left + 1).min(above + 1);
            diagonal = above;
            row[j + 1] = left;
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_with_the_fewest_changes() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(
            nearest("sesion_timeout", &["idle_timeout", "session_timeout"]),
            Some("session_timeout")
        );
        assert_eq!(nearest("x", &[]), None);
        assert_eq!(nearest("nosuch", &["ssh", "web", "limits"]), None, "none is near");
        assert_eq!(nearest("graze", &["grace"]), Some("grace"));
    }
}
