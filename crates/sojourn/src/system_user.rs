//! Accounts of this machine, from its own file or whatever else it asks for names.

use std::fs;
use std::io;
use std::process::Command;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SystemUser {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: String,
    pub(crate) shell: String,
}

impl SystemUser {
    /// The account of this name or number.
    pub(crate) fn find(wanted: &str) -> Option<Self> {
        let in_passwd = |text: &str| {
            text.lines()
                .filter_map(Self::parse)
                .find(|user| user.name == wanted || wanted.parse() == Ok(user.uid))
        };
        fs::read_to_string("/etc/passwd").ok().as_deref().and_then(in_passwd).or_else(|| {
            let answer = Command::new("getent").args(["passwd", "--", wanted]).output().ok()?;
            in_passwd(&String::from_utf8(answer.stdout).ok()?)
        })
    }

    /// The numbers of all its groups.
    pub(crate) fn groups(&self) -> io::Result<Vec<u32>> {
        let answer = Command::new("id").args(["-G", "--", &self.name]).output()?;
        let text = String::from_utf8(answer.stdout).map_err(io::Error::other)?;
        let groups: Option<Vec<u32>> = text.split_whitespace().map(|n| n.parse().ok()).collect();
        match groups {
            Some(groups) if answer.status.success() && !groups.is_empty() => Ok(groups),
            _ => Err(io::Error::other(format!("id -G says nothing of {}", self.name))),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let mut next = || fields.next().map(str::to_owned);
        let (name, _, uid, gid, _, home) = (next()?, next()?, next()?, next()?, next()?, next()?);
        let shell = next().filter(|shell| !shell.is_empty());
        Some(Self {
            name,
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home,
            shell: shell.unwrap_or_else(|| "/bin/sh".to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_name_and_by_number() {
        let root = SystemUser::find("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(SystemUser::find("0"), Some(root));
        assert_eq!(SystemUser::find("no-such-account-here"), None);
    }

    #[test]
    fn an_account_without_a_shell_has_the_plain_one() {
        let user = SystemUser::parse("dev:x:1000:1001:Dev,,,:/home/dev:").unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (1000, 1001, "/home/dev"));
        assert_eq!(user.shell, "/bin/sh");
        assert_eq!(SystemUser::parse("dev:x:many:1001:::"), None);
    }
}
