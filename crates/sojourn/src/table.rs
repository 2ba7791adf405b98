//! Tables for people: as wide as they need, no wider than the terminal.

use std::fmt::Write;
use std::io;
use std::io::IsTerminal;

use crate::output;

/// Between two columns.
const GAP: usize = 2;
/// No column is made narrower than this.
const NARROWEST: usize = 8;

/// Rows of text below a heading.
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. Its cells are made safe to print when they are.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The table for standard output; `empty` when it has no rows.
    pub(crate) fn print(&self, empty: &str) -> crate::failure::Outcome {
        if self.rows.is_empty() {
            if io::stdout().is_terminal() {
                output::say(empty)?;
            }
            return Ok(());
        }
        let width = if io::stdout().is_terminal() { crate::terminal::width() } else { usize::MAX };
        let text = self.to_text(width, output::has_colour());
        io::Write::write_all(&mut io::stdout().lock(), text.as_bytes())?;
        Ok(())
    }

    fn to_text(&self, width: usize, colour: bool) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        let headings: Vec<String> = self.headings.iter().map(|h| (*h).to_owned()).collect();
        let heading = line(&headings, &widths);
        // Writing to a String cannot fail.
        let _ = match colour {
            true => writeln!(text, "\x1b[1m{heading}\x1b[0m"),
            false => writeln!(text, "{heading}"),
        };
        for row in &self.rows {
            let _ = writeln!(text, "{}", line(row, &widths));
        }
        text
    }

    /// As wide as the widest cell; when that is too wide, the widest columns give way.
    fn widths(&self, most: usize) -> Vec<usize> {
        let cell = |row: &Vec<String>, at: usize| {
            row.get(at).map_or(0, |cell| length(&output::foreign(cell)))
        };
        let mut widths: Vec<usize> = self
            .headings
            .iter()
            .enumerate()
            .map(|(at, heading)| {
                self.rows.iter().map(|row| cell(row, at)).max().unwrap_or(0).max(length(heading))
            })
            .collect();
        let gaps = GAP * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>().saturating_add(gaps) > most {
            match widths.iter_mut().max() {
                Some(widest) if *widest > NARROWEST => *widest -= 1,
                _ => break,
            }
        }
        widths
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let cell = sojourn_term::escape::escape(cell, *width);
        let padding = width.saturating_sub(length(&cell)) + GAP;
        line.push_str(&cell);
        line.extend(std::iter::repeat_n(' ', padding));
    }
    line.trim_end().to_owned()
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// A value under its name, as `show` commands print it.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| length(name)).max().unwrap_or(0) + GAP;
    let mut text = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "{name:width$}{}", output::foreign(value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["ID", "USER", "WHY"]);
        table.row(["3f2a91c0".to_owned(), "alice".to_owned(), String::new()]);
        let why = "to look at what the \x1b[31mprinter did last night".to_owned();
        table.row(["77aa01bc".to_owned(), "bob".to_owned(), why]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_they_need_and_safe_to_print() {
        assert_eq!(
            table().to_text(80, false),
            "\
ID        USER   WHY
3f2a91c0  alice
77aa01bc  bob    to look at what the \\x1b[31mprinter did last night
"
        );
    }

    #[test]
    fn the_widest_column_gives_way_to_the_terminal() {
        assert_eq!(
            table().to_text(40, false),
            "\
ID        USER   WHY
3f2a91c0  alice
77aa01bc  bob    to look at what the …
"
        );
        assert!(table().to_text(40, true).starts_with("\x1b[1mID        USER   WHY\x1b[0m\n"));
    }

    #[test]
    fn what_is_not_there_has_no_line() {
        let shown =
            pairs(&[("id", "1".to_owned()), ("why", String::new()), ("user", "a".to_owned())]);
        assert_eq!(shown, "id    1\nuser  a\n");
    }
}
