//! The command line of the far side of `scp`, read as a shell reads plain words. Anything that only a
//! shell can read is left to one.

use super::pattern::Pattern;

/// The most words of a command, and bytes of it.
const MOST_WORDS: usize = 1024;
const LONGEST: usize = 64 * 1024;

/// Which way files go, as seen from the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// `-t`: they come.
    Sink,
    /// `-f`: they are fetched.
    Source,
}

/// What the far side is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(super) side: Side,
    /// `-r`: directories, too.
    pub(super) recursive: bool,
    /// `-p`: with their times and permissions.
    pub(super) preserve: bool,
    /// `-d`: the target has to be a directory.
    pub(super) directory: bool,
    pub(super) paths: Vec<Word>,
}

/// A path as it stands on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// Whether it begins in the home directory; the rest is below it.
    pub(super) home: bool,
    /// Its letters, each with whether it stands for itself and nothing else.
    letters: Vec<(u8, bool)>,
}

impl Command {
    /// Reads a command line; none, when it is not one of `scp` in plain words.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let mut words = words(line)?.into_iter();
        if words.next()?.plain()? != b"scp" {
            return None;
        }
        let mut side = None;
        let (mut recursive, mut preserve, mut directory) = (false, false, false);
        let mut paths = Vec::new();
        let mut options = true;
        for word in words {
            let plain = word.plain().unwrap_or_default();
            match plain.as_slice() {
                b"--" if options => options = false,
                [b'-', letters @ ..] if options && !letters.is_empty() && !word.home => {
                    for letter in letters {
                        match letter {
                            b't' => side = side.xor(Some(Side::Sink)),
                            b'f' => side = side.xor(Some(Side::Source)),
                            b'r' => recursive = true,
                            b'p' => preserve = true,
                            b'd' => directory = true,
                            b'v' | b'q' => {}
                            _ => return None,
                        }
                    }
                }
                _ => {
                    options = false;
                    paths.push(word);
                }
            }
        }
        let side = side?;
        let fits = match side {
            Side::Sink => paths.len() == 1,
            Side::Source => !paths.is_empty(),
        };
        fits.then_some(Self { side, recursive, preserve, directory, paths })
    }
}

impl Word {
    /// The word, if it stands for itself.
    fn plain(&self) -> Option<Vec<u8>> {
        (!self.home && !self.is_pattern()).then(|| self.literal())
    }

    /// Its letters, whatever they stand for.
    pub(super) fn literal(&self) -> Vec<u8> {
        self.letters.iter().map(|(letter, _)| *letter).collect()
    }

    /// Whether it may stand for several paths.
    pub(super) fn is_pattern(&self) -> bool {
        self.letters.iter().any(|(letter, quoted)| !quoted && b"*?[".contains(letter))
    }

    /// Its parts between slashes; the first is empty where it begins at the root.
    pub(super) fn parts(&self) -> Vec<Pattern> {
        self.letters.split(|(letter, _)| *letter == b'/').map(Pattern::new).collect()
    }
}

/// Splits a line into words, if it has nothing in it but words.
fn words(line: &[u8]) -> Option<Vec<Word>> {
    if line.len() > LONGEST {
        return None;
    }
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut rest = line.iter().copied();
    while let Some(letter) = rest.next() {
        if matches!(letter, b' ' | b'\t') {
            words.extend(word.take());
            if words.len() > MOST_WORDS {
                return None;
            }
            continue;
        }
        let begins = word.is_none();
        let word = word.get_or_insert_default();
        match letter {
            b'\'' => loop {
                match rest.next()? {
                    b'\'' => break,
                    0 => return None,
                    quoted => word.letters.push((quoted, true)),
                }
            },
            b'"' => loop {
                match rest.next()? {
                    b'"' => break,
                    b'$' | b'`' | 0 => return None,
                    b'\\' => match rest.next()? {
                        b'\n' => {}
                        escaped @ (b'"' | b'\\' | b'$' | b'`') => {
                            word.letters.push((escaped, true));
                        }
                        other => word.letters.extend([(b'\\', true), (other, true)]),
                    },
                    quoted => word.letters.push((quoted, true)),
                }
            },
            b'\\' => match rest.next()? {
                b'\n' | 0 => return None,
                escaped => word.letters.push((escaped, true)),
            },
            b'~' if begins => {
                let slash = rest.clone().next();
                match slash {
                    None | Some(b' ' | b'\t') => word.home = true,
                    Some(b'/') => {
                        rest.next();
                        word.home = true;
                    }
                    // Somebody else's.
                    Some(_) => return None,
                }
            }
            b'#' if begins => return None,
            b'$' | b'`' | b';' | b'|' | b'&' | b'<' | b'>' | b'(' | b')' | b'{' | b'}' | b'!'
            | b'\n' | b'\r' | 0 => return None,
            plain => word.letters.push((plain, false)),
        }
    }
    words.extend(word);
    (words.len() <= MOST_WORDS).then_some(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths(line: &str) -> Option<Vec<String>> {
        let shown = |word: &Word| {
            let home = if word.home { "HOME:" } else { "" };
            format!("{home}{}", String::from_utf8_lossy(&word.literal()))
        };
        Some(Command::parse(line.as_bytes())?.paths.iter().map(shown).collect())
    }

    #[test]
    fn plain_words_are_read_as_a_shell_reads_them() {
        let command = Command::parse(b"scp -v -r -p -d -t -- /tmp/x").unwrap();
        assert_eq!(command.side, Side::Sink);
        assert!(command.recursive && command.preserve && command.directory);
        assert_eq!(paths("scp -t /tmp/x"), Some(vec!["/tmp/x".to_owned()]));
        assert_eq!(
            paths("scp -rf a 'b c' \"d\\\" e\" f\\ g").unwrap(),
            ["a", "b c", "d\" e", "f g"]
        );
        assert_eq!(paths("scp -f ~ ~/a a~ '~'").unwrap(), ["HOME:", "HOME:a", "a~", "~"]);
        assert_eq!(paths("scp -t -- -x"), Some(vec!["-x".to_owned()]));
        assert_eq!(paths("scp -f ''"), Some(vec![String::new()]));
    }

    #[test]
    fn what_only_a_shell_can_read_is_left_to_one() {
        for line in [
            "",
            "scp",
            "scp -t",
            "scp -t a b",
            "scp -t -f a",
            "scp -t $HOME",
            "scp -t \"$HOME\"",
            "scp -t `pwd`",
            "scp -t a; rm b",
            "scp -f a | cat",
            "scp -f a > b",
            "scp -f {a,b}",
            "scp -f ~bob/a",
            "scp -t 'a",
            "scp -S sh -t a",
            "scp a b:c",
            "/usr/bin/scp -t a",
            "X=1 scp -t a",
            "exec scp -t a",
            "scp -t a\nrm b",
        ] {
            assert!(Command::parse(line.as_bytes()).is_none(), "{line:?}");
        }
    }

    #[test]
    fn only_letters_without_quotes_stand_for_others() {
        let is_pattern = |line: &[u8]| Command::parse(line).unwrap().paths[0].is_pattern();
        assert!(is_pattern(b"scp -f *.txt"));
        assert!(is_pattern(b"scp -f 'a b'?"));
        assert!(!is_pattern(b"scp -f '*.txt'"));
        assert!(!is_pattern(b"scp -f \\*"));
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Command::parse(&line);
            let _ = Command::parse(&[b"scp -f ", &line[..]].concat());
        }
    }
}
