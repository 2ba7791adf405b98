//! The chain: whatever is changed in a log is found, and at its line.

use proptest::prelude::*;

use super::*;
use crate::ids::SessionId;
use crate::time::Wall;

fn key() -> CheckpointKey {
    CheckpointKey::from_seed(&[7; 32])
}

/// Twenty lines, the tenth a checkpoint.
fn chain() -> Vec<Vec<u8>> {
    let mut writer = ChainWriter::new(Head::START);
    (0..20).map(|n| writer.line(&event(n, writer.head())).unwrap().into_bytes()).collect()
}

fn event(n: i64, head: Head) -> Event {
    let at = Wall(1_795_345_331_532_000 + n * 1_000_000);
    if n == 9 {
        let mut event = Event::new(at, Action::Checkpoint, Actor::SYSTEM);
        event.details = key().sign(head).details();
        return event;
    }
    let actor = Actor::ssh("alice", "192.0.2.7".parse().unwrap()).with_user_agent("SSH-2.0-x");
    Event::new(at, Action::AuthAttempt, actor)
        .session(SessionId::new())
        .detail("method", "password")
        .detail("text", "a \u{9b} \u{202e} \"quoted\",\"hash\":\"")
}

fn faults<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<(usize, Fault)> {
    let mut checker = ChainChecker::new(Some(key().public()));
    let mut faults = Vec::new();
    for (at, line) in lines.into_iter().enumerate() {
        faults.extend(checker.feed(line).err().map(|fault| (at + 1, fault)));
    }
    faults
}

fn slices(lines: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    lines.iter().map(Vec::as_slice)
}

#[test]
fn a_line_has_its_members_in_order_and_its_hash_last() {
    let line = String::from_utf8(chain().swap_remove(0)).unwrap();
    let names: Vec<_> = [
        "{\"seq\":1,\"event_id\":\"",
        "\",\"timestamp\":\"2026-11-22T11:02:11.532Z\",\"action\":\"auth_attempt\",\"actor\":{\"type\":\"ssh\"",
        "\"user\":\"alice\",\"ip_address\":\"192.0.2.7\",\"user_agent\":\"SSH-2.0-x\"}",
        ",\"session_id\":\"",
        "\",\"details\":{\"method\":\"password\",\"text\":",
        ",\"prev\":\"0000000000000000000000000000000000000000000000000000000000000000\"",
        ",\"hash\":\"",
    ]
    .iter()
    .map(|part| line.rfind(part).unwrap_or_else(|| panic!("{part} in {line}")))
    .collect();
    assert!(names.is_sorted(), "{line}");
    let (body, hash) = line.rsplit_once(",\"hash\":\"").unwrap();
    assert_eq!(hash, format!("{}\"}}", LineHash::of(body.as_bytes())));
}

#[test]
fn an_untouched_chain_has_no_fault() {
    let lines = chain();
    assert_eq!(faults(slices(&lines)), []);
    let entry = Entry::from_line(&lines[0]).unwrap();
    assert_eq!(entry.action, "auth_attempt");
    assert_eq!(entry.timestamp, Wall(1_795_345_331_532_000));
    assert!(
        Entry::from_line(&lines[9]).unwrap().checkpoint().unwrap().is_signed_by(&key().public())
    );
}

#[test]
fn any_flipped_bit_is_found_at_its_line() {
    let lines = &chain()[..12];
    let whole = lines.iter().flat_map(|line| [line.as_slice(), b"\n"]).flatten();
    let mut log: Vec<u8> = whole.copied().collect();
    let mut line = 1;
    for at in 0..log.len() {
        let ends_line = log[at] == b'\n';
        let flip = 1 << (at % 8);
        log[at] ^= flip;
        // The very last end of line is the file's matter: a torn end has no line to name.
        if at + 1 < log.len() {
            let found = faults(log.strip_suffix(b"\n").unwrap().split(|b| *b == b'\n'));
            assert_eq!(found.first().map(|(at, _)| *at), Some(line), "byte {at}: {found:?}");
        }
        log[at] ^= flip;
        line += usize::from(ends_line);
    }
}

#[test]
fn one_changed_line_is_one_fault() {
    for at in [0, 5, 19] {
        let mut lines = chain();
        let middle = lines[at].len() / 2;
        lines[at][middle] ^= 1;
        assert_eq!(faults(slices(&lines)), [(at + 1, Fault::Changed)]);
    }
}

#[test]
fn a_dropped_line_is_a_gap_and_a_repeated_one_out_of_order() {
    let lines = chain();
    let dropped: Vec<_> =
        slices(&lines).enumerate().filter(|(n, _)| *n != 4).map(|l| l.1).collect();
    assert_eq!(faults(dropped), [(5, Fault::Gap { expected: 5, found: 6 })]);

    let mut repeated: Vec<_> = slices(&lines).collect();
    repeated.insert(5, &lines[4]);
    let found = faults(repeated);
    assert_eq!(found, [(6, Fault::OutOfOrder { expected: 6, found: 5 })]);

    let mut swapped: Vec<_> = slices(&lines).collect();
    swapped.swap(3, 4);
    let found = faults(swapped);
    assert_eq!(found[0], (4, Fault::Gap { expected: 4, found: 5 }));
    assert_eq!(found[1], (5, Fault::OutOfOrder { expected: 6, found: 4 }));
}

#[test]
fn a_rewritten_tail_does_not_hold_against_a_kept_checkpoint() {
    let lines = chain();
    let kept = Checkpoint::from_kept(std::str::from_utf8(&lines[9]).unwrap()).unwrap();
    assert_eq!(Checkpoint::from_kept(&serde_json::to_string(&kept).unwrap()), Some(kept.clone()));

    let mut writer = ChainWriter::new(Head::START);
    let forged: Vec<_> =
        (10..25).map(|n| writer.line(&event(n, writer.head())).unwrap().into_bytes()).collect();
    assert_eq!(faults(slices(&forged)), [], "a forged chain without a checkpoint is a whole chain");
    let mut checker = ChainChecker::new(Some(key().public()));
    checker.hold_against(kept.clone()).unwrap();
    let found: Vec<_> = slices(&forged).filter_map(|line| checker.feed(line).err()).collect();
    assert_eq!(found, [Fault::NotAsKept { seq: 9, hash: kept.hash }]);

    let mut checker = ChainChecker::new(Some(key().public()));
    checker.hold_against(kept.clone()).unwrap();
    assert!(slices(&lines[..5]).all(|line| checker.feed(line).is_ok()));
    assert_eq!(checker.finish(), [Fault::CutOff { seq: 9 }]);

    let mut checker = ChainChecker::new(Some(key().public()));
    let another = CheckpointKey::from_seed(&[8; 32]).sign(Head { seq: 9, hash: kept.hash });
    assert!(matches!(checker.hold_against(another), Err(Fault::BadCheckpoint(_))));
}

#[test]
fn a_checkpoint_of_another_key_is_a_fault() {
    let lines = chain();
    let mut checker = ChainChecker::new(Some(CheckpointKey::from_seed(&[8; 32]).public()));
    let found: Vec<_> = slices(&lines).filter_map(|line| checker.feed(line).err()).collect();
    assert_eq!(found, [Fault::BadCheckpoint("it is not signed by this gateway's key")]);
}

#[test]
fn what_is_not_an_audit_line_is_a_fault() {
    let mut checker = ChainChecker::new(None);
    assert_eq!(checker.feed(b""), Err(Fault::HashNotLast));
    assert_eq!(checker.feed(&vec![b'x'; MAX_LINE + 1]), Err(Fault::TooLong));
    let body = "{\"seq\":1";
    let line = format!("{body},\"hash\":\"{}\"}}", LineHash::of(body.as_bytes()));
    assert!(matches!(checker.feed(line.as_bytes()), Err(Fault::NotAnEntry(_))));
}

#[test]
fn an_event_of_any_size_fits_a_line() {
    let mut writer = ChainWriter::new(Head::START);
    let mut event = event(0, Head::START).detail("text", "\u{1}".repeat(100_000));
    event.actor.user = Some("\u{1}".repeat(100_000));
    let line = writer.line(&event).unwrap();
    assert!(line.len() < MAX_LINE, "{} bytes", line.len());
    let entry = Entry::from_line(line.as_bytes()).unwrap();
    assert_eq!(entry.details["too_long"], true);
}

#[test]
fn keys_come_back_from_pem() {
    let pem = key().to_pem().unwrap();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert_eq!(CheckpointKey::from_pem(&pem).unwrap().public(), key().public());
    assert_eq!(key().public().to_pem().unwrap().parse(), Ok(key().public()));
    assert!(CheckpointKey::from_pem("no").is_err());
    assert!(!format!("{:?}", key()).contains("0707"), "the secret half is not shown");
}

#[test]
fn every_action_has_its_own_name() {
    for action in Action::ALL {
        assert_eq!(action.name().parse(), Ok(*action));
        assert_eq!(serde_json::to_value(action).unwrap(), action.name());
    }
    assert!("tea_made".parse::<Action>().is_err());
}

/// Something done to a log that is not appending to it.
#[derive(Clone, Debug)]
enum Edit {
    Drop(usize),
    Repeat(usize, usize),
    Move(usize, usize),
    Cut(usize, usize),
    Insert(usize, usize, u8),
    Set(usize, usize, u8),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = 0..usize::MAX;
    prop_oneof![
        at.clone().prop_map(Edit::Drop),
        (at.clone(), at.clone()).prop_map(|(line, to)| Edit::Repeat(line, to)),
        (at.clone(), at.clone()).prop_map(|(line, to)| Edit::Move(line, to)),
        (at.clone(), at.clone()).prop_map(|(line, byte)| Edit::Cut(line, byte)),
        (at.clone(), at.clone(), any::<u8>()).prop_map(|(l, b, v)| Edit::Insert(l, b, v)),
        (at.clone(), at, any::<u8>()).prop_map(|(l, b, v)| Edit::Set(l, b, v)),
    ]
}

fn edited(lines: &[Vec<u8>], edit: &Edit) -> Vec<Vec<u8>> {
    let mut new = lines.to_vec();
    let count = lines.len();
    match *edit {
        // The last line can always be dropped unseen: only a kept checkpoint tells.
        Edit::Drop(line) => drop(new.remove(line % (count - 1))),
        Edit::Repeat(line, to) => new.insert(to % (count + 1), lines[line % count].clone()),
        Edit::Move(line, to) => {
            let moved = new.remove(line % count);
            new.insert(to % count, moved);
        }
        Edit::Cut(line, byte) => {
            let line = &mut new[line % count];
            line.remove(byte % line.len());
        }
        Edit::Insert(line, byte, value) => {
            let line = &mut new[line % count];
            line.insert(byte % (line.len() + 1), value);
        }
        Edit::Set(line, byte, value) => {
            let line = &mut new[line % count];
            let byte = byte % line.len();
            line[byte] = value;
        }
    }
    new
}

proptest! {
    #[test]
    fn any_edit_is_found(edit in edit()) {
        let lines = chain();
        let new = edited(&lines, &edit);
        let found = faults(slices(&new));
        prop_assert_eq!(found.is_empty(), new == lines, "{:?}", found);
    }

    #[test]
    fn any_bytes_are_only_a_fault(lines in prop::collection::vec(any::<Vec<u8>>(), 0..4)) {
        prop_assert_eq!(faults(slices(&lines)).len(), lines.len());
    }
}
