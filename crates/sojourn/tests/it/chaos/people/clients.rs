//! What people do with OpenSSH's programs.

use std::fs;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use sojourn_testkit::Client;
use sojourn_testkit::Output;
use sojourn_testkit::Running;

use super::super::dice::Dice;
use super::super::ledger::Printed;
use super::super::town::BOXED;
use super::super::town::LIMIT;
use super::super::town::LONG;
use super::super::town::Street;

/// Exit statuses of a session that ended otherwise than by itself: limits, people and losses, refusals,
/// a connection that is gone.
const OTHERWISE: [i32; 4] = [124, 143, 75, 255];

/// Waits for the end of a client. A breach when it does not come.
fn watch(street: &Street, mut client: Running, what: &str) -> Option<Output> {
    let (mut late, mut had) = (None, 0);
    while !client.is_over() {
        let has = client.so_far().len();
        if has > had {
            had = has;
            street.ledger.tick();
        }
        if street.calm.load(Ordering::Relaxed) {
            let late = late.get_or_insert_with(|| Instant::now() + LONG);
            if Instant::now() > *late {
                street
                    .ledger
                    .breach(format!("{what}: ssh does not end; so far {:?}", client.so_far()));
                client.kill();
                return None;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    street.ledger.tick();
    Some(client.finish(LONG))
}

/// A shell's line that prints counted lines, and writes down in its sandbox how far it is.
fn counting(tag: &str, until: &str) -> String {
    format!(
        "i=0; while {until}; do echo {tag}-$i; echo {tag} $i >/root/n; i=$((i+1)); sleep 0.02; done"
    )
}

/// What a client printed of what the program did: what we tell it in between is our own.
fn of_program(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split_inclusive('\n');
    let ours = |line: &&str| line.starts_with("Session ") || line.trim().is_empty();
    lines.take_while(|line| !ours(line)).collect::<String>().into_bytes()
}

/// Writes down how it went; says whether there was anything to it.
fn heed(street: &Street, tag: &str, lines: Option<u64>, wanted: i32, output: &Output) -> bool {
    let seen = of_program(&output.out);
    let told_end = output.code == wanted;
    if !told_end && !OTHERWISE.contains(&output.code) {
        street.ledger.breach(format!("{tag}: ssh gave {}: {}", output.code, output.err));
    }
    if seen.is_empty() && !told_end {
        return false;
    }
    street.ledger.tell(format!("{tag}: {} after {} bytes", output.code, seen.len()));
    street.ledger.printed.lock().unwrap().push(Printed {
        tag: tag.to_owned(),
        session: None,
        before: String::new(),
        lines,
        seen,
        told_end,
    });
    true
}

/// A program on a terminal, to its end.
pub(super) fn terminal(street: &Street, dice: &mut Dice, tag: &str) -> bool {
    on_terminal(&street.alice(), street, dice, tag)
}

/// The same in a container.
pub(super) fn boxed(street: &Street, dice: &mut Dice, tag: &str) -> bool {
    let user = format!("alice+{BOXED}");
    on_terminal(&street.alice().user(&user), street, dice, tag)
}

fn on_terminal(who: &Client, street: &Street, dice: &mut Dice, tag: &str) -> bool {
    let lines = 50 + dice.below(100);
    let program = counting(tag, &format!("[ $i -lt {lines} ]"));
    let client = who.clone().with("-tt").start(&[&format!("{program}; exit 7")]);
    watch(street, client, tag).is_some_and(|output| heed(street, tag, Some(lines), 7, &output))
}

/// A command without a terminal: its output and its status.
pub(super) fn command(street: &Street, dice: &mut Dice, tag: &str) -> bool {
    let lines = 10 + dice.below(40);
    let program = counting(tag, &format!("[ $i -lt {lines} ]"));
    let client = street.alice().start(&[&format!("{program}; exit 9")]);
    watch(street, client, tag).is_some_and(|output| heed(street, tag, Some(lines), 9, &output))
}

/// A program that does not end before its session has to.
pub(super) fn limited(street: &Street, _: &mut Dice, tag: &str) -> bool {
    let program = counting(tag, ":");
    // What the shell says of a process that it could not start any more is no line of the program's.
    let line = format!(
        "exec -a limited-{tag} /bin/bash -c 'trap \"\" HUP TERM; exec 2>/dev/null; {program}'"
    );
    let limit = format!("-oSetEnv=SOJOURN_TIMEOUT={LIMIT}");
    let client = street.alice().with("-tt").with(&limit).start(&[&line]);
    watch(street, client, tag).is_some_and(|output| heed(street, tag, None, 124, &output))
}

/// A program that wants more memory than there is.
pub(super) fn glutton(street: &Street, _: &mut Dice, tag: &str) -> bool {
    let line = format!("echo {tag}-0; head -c 900m /dev/zero | tail; exit 0");
    let client = street.alice().start(&[&line]);
    let Some(output) = watch(street, client, tag) else { return false };
    street.ledger.tell(format!("{tag}: {}", output.code));
    !output.out.is_empty()
}

/// A file there and back.
pub(super) fn files(street: &Street, dice: &mut Dice, tag: &str) -> bool {
    let length = 300_000 + usize::try_from(dice.below(400_000)).unwrap();
    let parcel = &street.parcel[..length];
    let (there, back) = (street.desk.join(tag), street.desk.join(format!("{tag}-back")));
    let batch = street.desk.join(format!("{tag}-batch"));
    fs::write(&there, parcel).unwrap();
    fs::write(&batch, format!("put {} a\nget a {}\n", there.display(), back.display())).unwrap();
    let alice = street.alice();
    let mut sftp: Command = alice.tool("sftp");
    sftp.arg("-b").arg(&batch).arg(alice.host());
    let Some(output) = watch(street, Running::new(sftp), tag) else { return false };
    if output.code != 0 {
        return false;
    }
    if fs::read(&back).unwrap_or_default() != parcel {
        street.ledger.breach(format!("{tag}: sftp said it went well, and it is another file"));
    }
    let digest = Command::new("sha256sum").arg(&there).output().unwrap();
    let digest = String::from_utf8_lossy(&digest.stdout).split(' ').next().unwrap().to_owned();
    street.ledger.transfers.lock().unwrap().push(digest);
    true
}
