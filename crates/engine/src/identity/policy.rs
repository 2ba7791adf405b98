//! Which passwords are good enough: long ones that nobody tries first. No rules of composition.
//!
//! There is no list to load and no network to ask: what is well known is computed, from some hundreds
//! of pieces and phrases and from the rows of keyboards.
//!
//! What is refused is the whole password, never a part of it: a well-known phrase, or no more than
//! three well-known pieces in a row (words, names, years, runs on the keyboard). Three pieces out of
//! a thousand are guessed in minutes; six random words are not.

use std::collections::HashSet;
use std::sync::OnceLock;

use unicode_normalization::UnicodeNormalization;

use zxcvbn::zxcvbn;

use super::hash::MAX_BYTES;

/// The fewest characters of a password that stands alone.
pub const MIN_CHARACTERS: usize = 15;
/// The fewest of one that a second factor stands beside.
pub const MIN_CHARACTERS_WITH_FACTOR: usize = 12;
/// The most characters.
pub const MAX_CHARACTERS: usize = 256;

/// So many characters are estimated: the time it takes grows with the square of them.
const ESTIMATED: usize = 100;
/// What is refused without configuration: what a million guesses find.
const LEAST_SCORE: u8 = 2;
/// What this service is called.
const SERVICE: &str = "sojourn";
/// A name of fewer characters is in too many words to mean anything.
const SHORTEST_NAME: usize = 3;

/// So many well-known pieces in a row are no better than one.
const MOST_PIECES: usize = 3;
/// A run or repetition is a piece from so many characters on.
const SHORTEST_RUN: usize = 3;
/// A repeated unit of up to so many characters makes the whole a repetition.
const LONGEST_UNIT: usize = 8;
/// Longer than any phrase or run that is known; what is longer needs no look.
const LONGEST_LOOKED_AT: usize = 64;

const PIECES: &str = include_str!("pieces.txt");
const PHRASES: &str = include_str!("phrases.txt");

/// Orders in which fingers and children go through characters.
const ROWS: [&str; 9] = [
    "01234567890",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "qazwsxedcrfvtgbyhnujmikolp",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "zaq1xsw2cde3vfr4bgt5nhy6mju7",
    "1q2w3e4r5t6y7u8i9o0p",
];

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPassword {
    /// Too few characters.
    #[error("the password is too short: use {least} characters or more, a few words will do")]
    TooShort {
        /// How many it takes.
        least: usize,
    },
    /// Too many characters.
    #[error("the password is longer than {MAX_CHARACTERS} characters or {MAX_BYTES} bytes")]
    TooLong,
    /// Well known.
    #[error("the password is too well known; a few words that do not belong together are better")]
    Common,
    /// Made of the user's or the service's own name.
    #[error("the password is made of the name of the user or of this service; use something else")]
    Name,
    /// Found by few guesses.
    #[error("the password is easy to guess; a few words that do not belong together are better")]
    Guessable,
}

/// What an estimate says of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// From 0, found at once, to 4, not found.
    pub score: u8,
    /// What is wrong with it.
    pub warning: Option<String>,
    /// What would be better.
    pub suggestions: Vec<String>,
}

/// The rules for new passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The names of this host: none of them is a password.
    hosts: Vec<String>,
    /// An estimate below it is refused.
    least_score: u8,
}

impl Default for Policy {
    fn default() -> Self {
        Self { hosts: this_host(), least_score: LEAST_SCORE }
    }
}

impl Policy {
    /// The rules at a host that has these names besides its own; an estimate below `least_score` is
    /// refused, 0 refuses none.
    #[must_use]
    pub fn new(hosts: &[String], least_score: u8) -> Self {
        let all = this_host().into_iter().chain(hosts.iter().cloned());
        Self { hosts: all.collect(), least_score }
    }

    /// Whether `password` is good enough for the user of this name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn check(
        &self,
        password: &str,
        user: &str,
        has_second_factor: bool,
    ) -> Result<(), BadPassword> {
        let least = if has_second_factor { MIN_CHARACTERS_WITH_FACTOR } else { MIN_CHARACTERS };
        check_for(password, user, &self.hosts, least)?;
        if self.least_score > 0 && self.advise(password, user).await.score < self.least_score {
            return Err(BadPassword::Guessable);
        }
        Ok(())
    }

    /// What an estimate says of a password. It takes some milliseconds, on a thread of its own.
    pub async fn advise(&self, password: &str, user: &str) -> Advice {
        let estimated: String = password.nfc().take(ESTIMATED).collect();
        let mut names = self.hosts.clone();
        names.extend([user.to_owned(), SERVICE.to_owned()]);
        let work = tokio::task::spawn_blocking(move || {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let estimate = zxcvbn(&estimated, &names);
            let feedback = estimate.feedback();
            Advice {
                score: estimate.score().into(),
                warning: feedback.and_then(|f| f.warning()).map(|warning| warning.to_string()),
                suggestions: feedback
                    .map(|f| f.suggestions().iter().map(ToString::to_string).collect())
                    .unwrap_or_default(),
            }
        });
        // Whatever went wrong with the estimate, nothing is known to be wrong with the password.
        work.await.unwrap_or(Advice { score: 4, warning: None, suggestions: Vec::new() })
    }
}

/// The name of this machine, whole and its first part.
fn this_host() -> Vec<String> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    let first = name.split('.').next().unwrap_or_default();
    let names = [name.as_ref(), first].into_iter().filter(|name| name.len() >= SHORTEST_NAME);
    names.map(str::to_owned).collect()
}

/// Whether `password` is good enough for the user of this name, where it stands alone.
///
/// # Errors
/// What is wrong with it.
pub fn check(password: &str, user: &str) -> Result<(), BadPassword> {
    check_for(password, user, &this_host(), MIN_CHARACTERS)
}

fn check_for(
    password: &str,
    user: &str,
    hosts: &[String],
    least: usize,
) -> Result<(), BadPassword> {
    if password.len() > MAX_BYTES {
        return Err(BadPassword::TooLong);
    }
    let password: String = password.nfc().collect();
    match password.chars().count() {
        length if length < least => return Err(BadPassword::TooShort { least }),
        length if length > MAX_CHARACTERS => return Err(BadPassword::TooLong),
        _ => {}
    }
    let plain: Vec<char> = significant(&password);
    // Only what is there beside spaces and marks counts: fifteen dots are no password.
    if is_repetition(&plain) {
        return Err(BadPassword::Common);
    }
    for form in [plain.clone(), without_leet(&plain)] {
        if is_common(&form) {
            return Err(BadPassword::Common);
        }
    }
    let names = hosts.iter().map(String::as_str).chain([user, SERVICE]).map(significant);
    let mut rest = plain.clone();
    for name in names.filter(|name| name.len() >= SHORTEST_NAME) {
        rest = remove(&rest, &name);
    }
    let is_of_names = rest.len() < plain.len() && (rest.len() < SHORTEST_RUN || is_common(&rest));
    if is_of_names { Err(BadPassword::Name) } else { Ok(()) }
}

/// Lower-case letters and digits, and characters that are no ASCII at all.
fn significant(text: &str) -> Vec<char> {
    text.chars()
        .flat_map(char::to_lowercase)
        .filter(|c| c.is_alphanumeric() || !c.is_ascii())
        .collect()
}

/// `p4ssw0rd` is `password`.
fn without_leet(form: &[char]) -> Vec<char> {
    let letter = |c: &char| match c {
        '0' => 'o',
        '1' => 'i',
        '3' => 'e',
        '4' => 'a',
        '5' => 's',
        '7' => 't',
        c => *c,
    };
    form.iter().map(letter).collect()
}

fn remove(form: &[char], name: &[char]) -> Vec<char> {
    let mut rest = Vec::new();
    let mut at = 0;
    while let Some(c) = form.get(at) {
        if !name.is_empty() && form[at..].starts_with(name) {
            at += name.len();
        } else {
            rest.push(*c);
            at += 1;
        }
    }
    rest
}

fn is_common(form: &[char]) -> bool {
    if form.len() > LONGEST_LOOKED_AT {
        return false;
    }
    let whole: String = form.iter().collect();
    phrases().contains(whole.as_str()) || is_repetition(form) || is_of_few_pieces(form)
}

/// Some unit of a few characters, over and over.
fn is_repetition(form: &[char]) -> bool {
    let longest = LONGEST_UNIT.min(form.len() / 2);
    form.is_empty()
        || (1..=longest).any(|unit| form.iter().eq(form[..unit].iter().cycle().take(form.len())))
}

/// Whether the whole is no more than [`MOST_PIECES`] pieces in a row.
fn is_of_few_pieces(form: &[char]) -> bool {
    // The fewest pieces that make up the first n characters, for each n.
    let mut fewest = vec![usize::MAX; form.len() + 1];
    fewest[0] = 0;
    for start in 0..form.len() {
        if fewest[start] >= MOST_PIECES {
            continue;
        }
        for end in start + 1..=form.len() {
            if is_piece(&form[start..end]) {
                fewest[end] = fewest[end].min(fewest[start] + 1);
            }
        }
    }
    fewest[form.len()] <= MOST_PIECES
}

fn is_piece(part: &[char]) -> bool {
    let text: String = part.iter().collect();
    // Two digits are a year, a month, an age.
    let is_number = part.len() <= 4 && part.iter().all(char::is_ascii_digit);
    let is_repeated = part.windows(2).all(|pair| pair[0] == pair[1]);
    is_number
        || pieces().contains(text.as_str())
        || (part.len() >= SHORTEST_RUN && (is_repeated || is_run(&text)))
}

fn is_run(text: &str) -> bool {
    let back: String = text.chars().rev().collect();
    // A row begins again at its end: 567890123.
    let goes = |row: &str, text: &str| [row, row].concat().contains(text);
    text.len() <= 2 * LONGEST_LOOKED_AT
        && ROWS.iter().any(|row| goes(row, text) || goes(row, &back))
}

fn pieces() -> &'static HashSet<&'static str> {
    static SET: OnceLock<HashSet<&str>> = OnceLock::new();
    SET.get_or_init(|| PIECES.split_whitespace().collect())
}

fn phrases() -> &'static HashSet<&'static str> {
    static SET: OnceLock<HashSet<&str>> = OnceLock::new();
    SET.get_or_init(|| PHRASES.split_whitespace().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_SHORT: BadPassword = BadPassword::TooShort { least: 15 };

    #[test]
    fn l_33_length_counts_in_characters() {
        assert_eq!(check("nur 14 zeichen", "bob"), Err(TOO_SHORT));
        assert_eq!(check("nur 15 zeichen!", "bob"), Ok(()));
        assert_eq!(check("Gr\u{fc}\u{df}e aus K\u{f6}ln\u{2026}", "bob"), Ok(()));
        assert_eq!(check("a\u{308}".repeat(14).as_str(), "bob"), Err(TOO_SHORT));
        let long = "lorem ipsum dolor ".repeat(60);
        assert_eq!(check(&long[..1025], "bob"), Err(BadPassword::TooLong));
        assert_eq!(check(&long[..256], "bob"), Ok(()));
        assert_eq!(check(&long[..257], "bob"), Err(BadPassword::TooLong));
        let beside = |password| check_for(password, "bob", &[], MIN_CHARACTERS_WITH_FACTOR);
        assert_eq!(beside("12 zeichen!!"), Ok(()));
        assert_eq!(beside("11 zeichen!"), Err(BadPassword::TooShort { least: 12 }));
    }

    #[test]
    fn well_known_passwords_are_refused_whole() {
        for password in [
            "passwordpassword",
            "Password12345678",
            "P4ssw0rdP4ssw0rd!",
            "correct horse battery staple",
            "CorrectHorseBatteryStaple",
            "123456789012345",
            "987654321098765",
            "aaaaaaaaaaaaaaa",
            "abcabcabcabcabc",
            "qwertyuiopasdfgh",
            "1qaz2wsx3edc4rfv",
            "qwerty123456789",
            "iloveyou1234567",
            "iloveyouforever",
            "Welcome To 2026!",
            "................",
            "may-the-force-be-with-you",
            "administrator1!",
            "monkeymonkeymonkey",
            "letmeinletmein1",
        ] {
            assert_eq!(check(password, "bob"), Err(BadPassword::Common), "{password}");
        }
    }

    #[test]
    fn l_34_every_phrase_and_every_pair_of_pieces_that_is_long_enough_is_refused() {
        let long = |text: &str| text.chars().count() >= MIN_CHARACTERS;
        let mut entries: Vec<String> = phrases().iter().map(|text| (*text).to_owned()).collect();
        for one in pieces() {
            entries.extend(pieces().iter().map(|other| format!("{one}{other}")));
        }
        entries.retain(|entry| long(entry));
        assert!(entries.len() >= 3000, "{} that meet the length rule", entries.len());
        for entry in entries {
            assert_eq!(check(&entry, "bob"), Err(BadPassword::Common), "{entry}");
        }
    }

    #[test]
    fn names_are_no_passwords() {
        for password in ["bartholomew-2026!", "bartholomewbartholomew", "Bartholomew123456789"] {
            assert_eq!(check(password, "bartholomew"), Err(BadPassword::Name), "{password}");
            assert_eq!(check(password, "bob"), Ok(()), "{password}");
        }
        assert!(check("sojourn-sojourn", "bob").is_err());
        assert!(check("sojourn-gateway-2026", "bob").is_err());
    }

    #[test]
    fn words_that_do_not_belong_together_are_fine() {
        for password in [
            "plum orbit cartwheel nine",
            "monkey piano lettuce thursday",
            "my password is quite a long sentence",
            "xK9#mQ2$vL7@nR4",
            "w7t0k-9mfvd-q2rhz-b6xcn-8ypgj",
            "\u{1f40e}\u{1f50b}\u{1f4ce} horse battery paperclip",
        ] {
            assert_eq!(check(password, "bob"), Ok(()), "{password}");
        }
    }

    #[test]
    fn the_lists_are_in_the_form_they_are_compared_in() {
        for phrase in phrases().iter().chain(pieces().iter()) {
            assert_eq!(significant(phrase).iter().collect::<String>(), **phrase);
        }
        assert!(pieces().len() > 500);
        for phrase in phrases() {
            assert!(phrase.len() >= 12, "{phrase} is too short to be taken anyway");
        }
    }
}
