//! A terminal's screen as text: for whoever shows it small, and is no terminal.
//!
//! It is made of a screen once, and goes on with what is printed after that, so that looking at it
//! costs as much as was printed, and no more.

use avt::Cell;
use avt::Color;
use avt::Pen;
use avt::Terminal;
use serde::Serialize;

use crate::cast::MAX_SIDE;
use crate::utf8::Decoder;

/// The most rows that are shown, from the bottom of what was written.
pub const MOST_ROWS: usize = 60;
/// The most columns.
pub const MOST_COLS: usize = 240;

/// Characters beside one another that look the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Run {
    /// They.
    pub text: String,
    /// Their colour: a number of the palette, or `#rrggbb`; none is the terminal's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fg: Option<String>,
    /// What is behind them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bg: Option<String>,
    /// Whether they are bold.
    #[serde(skip_serializing_if = "is_not")]
    pub bold: bool,
    /// Whether the two colours change places.
    #[serde(skip_serializing_if = "is_not")]
    pub inverse: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over like this")]
fn is_not(it: &bool) -> bool {
    !it
}

/// A terminal that is looked at from afar.
pub struct Small {
    terminal: Terminal,
    decoder: Decoder,
}

impl std::fmt::Debug for Small {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Small").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl Small {
    /// One of this size which shows what these bytes draw; none where it cannot have it.
    #[must_use]
    pub fn new(cols: u16, rows: u16, drawn: &[u8]) -> Option<Self> {
        let (cols, rows) = (side(cols), side(rows));
        let mut small =
            Self { terminal: Terminal::new(cols, rows).ok()?, decoder: Decoder::default() };
        small.feed(drawn);
        Some(small)
    }

    /// It prints this.
    pub fn feed(&mut self, bytes: &[u8]) {
        let terminal = &mut self.terminal;
        self.decoder.decode(bytes, &mut |text| {
            terminal.feed(text);
        });
    }

    /// It has this size from now on.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        if self.terminal.size() != (side(cols), side(rows)) {
            self.terminal.resize(side(cols), side(rows));
        }
    }

    /// Its columns and rows.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        self.terminal.size()
    }

    /// What it shows, from the top; empty lines at the end are left out.
    #[must_use]
    pub fn lines(&self) -> Vec<Vec<Run>> {
        let visible = self.terminal.screen().visible_lines();
        let mut lines: Vec<Vec<Run>> = visible.map(|line| runs(line.cells())).collect();
        while lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        let above = lines.len().saturating_sub(MOST_ROWS);
        lines.split_off(above)
    }
}

fn side(cells: u16) -> usize {
    usize::from(cells).clamp(1, usize::try_from(MAX_SIDE).unwrap_or(usize::MAX))
}

/// A line's runs; blanks at its end that look like nothing are left out.
fn runs(cells: &[Cell]) -> Vec<Run> {
    let blank = |cell: &Cell| cell.char() == ' ' && looks(cell.pen()) == Run::default();
    let written = cells.iter().rposition(|cell| !blank(cell)).map_or(0, |last| last + 1);
    let mut runs: Vec<Run> = Vec::new();
    // The second half of a wide character has no width of its own.
    for cell in cells.iter().take(written.min(MOST_COLS)).filter(|cell| cell.width() > 0) {
        let look = looks(cell.pen());
        match runs.last_mut() {
            Some(run) if Run { text: String::new(), ..run.clone() } == look => {
                run.text.push(cell.char());
            }
            _ => runs.push(Run { text: cell.char().to_string(), ..look }),
        }
    }
    runs
}

fn looks(pen: &Pen) -> Run {
    Run {
        text: String::new(),
        fg: pen.foreground().map(named),
        bg: pen.background().map(named),
        bold: pen.is_bold(),
        inverse: pen.is_inverse(),
    }
}

fn named(colour: Color) -> String {
    match colour {
        Color::Indexed(number) => number.to_string(),
        Color::RGB(rgb) => format!("#{:02x}{:02x}{:02x}", rgb.r, rgb.g, rgb.b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(small: &Small) -> Vec<String> {
        let join = |line: &Vec<Run>| line.iter().map(|run| run.text.as_str()).collect();
        small.lines().iter().map(join).collect()
    }

    #[test]
    fn a_screen_is_lines_of_runs_that_look_the_same() {
        let mut small = Small::new(20, 4, b"$ ls\r\n\x1b[1;34mbin\x1b[0m etc").unwrap();
        let plain = |text: &str| Run { text: text.to_owned(), ..Run::default() };
        let bin = Run { fg: Some("4".to_owned()), bold: true, ..plain("bin") };
        assert_eq!(small.lines(), [vec![plain("$ ls")], vec![bin, plain(" etc")]]);
        small.feed(b"\x1b[38;2;255;0;16;48;5;200m\xe7\x95");
        small.feed(b"\x8c\x1b[0;7m ");
        let wide =
            Run { fg: Some("#ff0010".to_owned()), bg: Some("200".to_owned()), ..plain("\u{754c}") };
        let cursor = Run { inverse: true, ..plain(" ") };
        assert_eq!(small.lines()[1][2..], [wide, cursor]);
        let sent = serde_json::to_string(&small.lines()[0]).unwrap();
        assert_eq!(sent, r#"[{"text":"$ ls"}]"#);
    }

    #[test]
    fn it_goes_on_with_what_is_printed_and_follows_the_size() {
        let mut small = Small::new(10, 3, b"one\r\ntwo\r\nthree").unwrap();
        small.feed(b"\r\nfour");
        assert_eq!(text(&small), ["two", "three", "four"]);
        small.resize(4, 2);
        assert_eq!(small.size(), (4, 2));
        small.feed(b"\x1b[2J");
        assert_eq!(text(&small), Vec::<String>::new());
    }

    #[test]
    fn what_is_too_large_is_cut_and_what_has_no_size_has_the_smallest() {
        let mut small = Small::new(1000, 1000, b"").unwrap();
        small.feed("x".repeat(1000 * 70).as_bytes());
        assert_eq!(small.lines().len(), MOST_ROWS);
        assert!(small.lines().iter().all(|line| line[0].text.len() == MOST_COLS));
        assert_eq!(Small::new(0, 0, b"ab").unwrap().size(), (1, 1));
    }
}
