//! The system account that the gateway becomes.

use std::process::Command;
use std::process::Stdio;

use rustix::process::Gid;
use rustix::process::Uid;

use crate::failure::Failure;
use crate::system_user::SystemUser;

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

fn look_up(name: &str) -> Option<(u32, u32)> {
    SystemUser::find(name).map(|user| (user.uid, user.gid))
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
