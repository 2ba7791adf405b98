//! The system account that the gateway becomes.

use std::fs;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Gid;
use rustix::process::Uid;

use crate::failure::Failure;

/// Where programs for administrators are, on a machine whose PATH leaves that out.
const USERADD: [&str; 2] = ["/usr/sbin/useradd", "useradd"];

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

impl Account {
    /// The account of this name or number. A name that does not exist is created, once.
    pub(crate) fn find_or_create(wanted: &str) -> Result<Self, Failure> {
        if let Ok(number) = wanted.parse::<u32>() {
            return Self::checked(wanted, number, number);
        }
        if let Some((uid, gid)) = look_up(wanted) {
            return Self::checked(wanted, uid, gid);
        }
        create(wanted);
        match look_up(wanted) {
            Some((uid, gid)) => Self::checked(wanted, uid, gid),
            None => Err(Failure::Usage(format!(
                "there is no system account {wanted:?} and it could not be made; run: useradd \
                 --system --no-create-home --shell /usr/sbin/nologin {wanted}"
            ))),
        }
    }

    fn checked(wanted: &str, uid: u32, gid: u32) -> Result<Self, Failure> {
        if uid == 0 {
            return Err(Failure::Usage(format!(
                "[server] user = {wanted:?} is root; name an account with no rights of its own"
            )));
        }
        Ok(Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) })
    }
}

/// Uid and gid of an account, from the machine's own file or whatever else it asks for names.
fn look_up(name: &str) -> Option<(u32, u32)> {
    let in_passwd = |text: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then_some(())?;
            let mut numbers = fields.skip(1).map_while(|field| field.parse().ok());
            Some((numbers.next()?, numbers.next()?))
        })
    };
    fs::read_to_string("/etc/passwd").ok().as_deref().and_then(in_passwd).or_else(|| {
        let answer = Command::new("getent").args(["passwd", name]).output().ok()?;
        in_passwd(&String::from_utf8(answer.stdout).ok()?)
    })
}

fn create(name: &str) {
    for program in USERADD {
        let made = Command::new(program)
            .args(["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name])
            .stdin(Stdio::null())
            .status();
        if made.is_ok_and(|status| status.success()) {
            return;
        }
    }
}
