//! What fuzzers call of SCP.

use sojourn_core::fuzz::parts;

use super::command::Command;
use super::sink;

/// A command line, a name that its patterns are held against, and a line of the protocol.
pub fn scp(data: &[u8]) {
    let [line, name, said] = parts::<3>(data);
    if let Some(command) = Command::parse(line) {
        for pattern in command.paths.iter().flat_map(|word| word.parts()) {
            let _fits = pattern.fits(name);
            if let Some(literal) = pattern.literal() {
                assert!(pattern.fits(&literal), "a name does not fit itself: {literal:?}");
            }
        }
    }
    // What a shell would take for one word is one, and means itself.
    if name.len() < 500 && !name.iter().any(|byte| matches!(byte, b'\'' | 0)) {
        let quoted = [b"scp -t -- '", name, b"'"].concat();
        let command = Command::parse(&quoted).expect("a quoted word is a word");
        assert_eq!(command.paths.first().map(|word| word.literal()).as_deref(), Some(name));
    }
    let _times = sink::parse_times(said);
    if let Some(file) = sink::announced(said)
        && sink::is_name(file.name)
    {
        assert!(!file.name.contains(&b'/') && file.name != b".." && !file.name.is_empty());
    }
}
