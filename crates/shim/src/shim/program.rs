//! The command line and environment of a program.

use sojourn_core::wire::Text;
use sojourn_core::wire::shim::ChannelSpec;
use sojourn_core::wire::shim::Program;

use crate::control::Assign;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What runs the profile's command, if it names nothing.
const SHELL: &str = "/bin/sh";

/// What a channel is to the session that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A program of the sandbox: recorded, and without a terminal at work for as long as it runs.
    Program,
    /// The sandbox's files, served by `init`: not recorded, and idle when nothing moves.
    Files,
    /// A connection: as files, and one of very many.
    Forward,
}

impl Kind {
    pub(super) fn of(program: &Program) -> Self {
        match program {
            Program::Shell | Program::Exec(_) => Self::Program,
            Program::Files => Self::Files,
            Program::Connect(_) | Program::Accept(_) => Self::Forward,
        }
    }
}

/// The command line: the profile's command, or its shell with `-c` and the client's line.
pub(super) fn command(assign: &Assign, program: &Program) -> Vec<Vec<u8>> {
    match program {
        Program::Shell if assign.command.is_empty() => vec![SHELL.into()],
        Program::Shell => assign.command.iter().map(|word| word.0.clone()).collect(),
        Program::Exec(line) => vec![shell(assign), b"-c".to_vec(), line.0.clone()],
        // Nothing of the sandbox's runs.
        Program::Files | Program::Connect(_) | Program::Accept(_) => Vec::new(),
    }
}

/// The environment, each variable once, as `NAME=value`. What comes later in the list of sources
/// wins: ours, the profile's, the client's; but who somebody is, is not theirs to say.
pub(super) fn environment(assign: &Assign, spec: &ChannelSpec) -> Vec<Vec<u8>> {
    let mut env = Environment(Vec::new());
    env.set(b"HOME", assign.account.home.as_bytes());
    env.set(b"PATH", PATH.as_bytes());
    env.set(b"USER", assign.account.name.as_bytes());
    env.set(b"LOGNAME", assign.account.name.as_bytes());
    env.set(b"SHELL", &shell(assign));
    for (Text(name), Text(value)) in assign.env.iter().chain(&spec.env) {
        env.set(name, value);
    }
    if let Some(pty) = &spec.pty {
        env.set(b"TERM", &pty.term.0);
    }
    if assign.honeypot {
        return env.0;
    }
    env.set(b"SOJOURN_SESSION", assign.session.to_string().as_bytes());
    env.set(b"SOJOURN_USER", assign.about.user.as_bytes());
    env.0
}

fn shell(assign: &Assign) -> Vec<u8> {
    assign.command.first().map_or_else(|| SHELL.into(), |word| word.0.clone())
}

struct Environment(Vec<Vec<u8>>);

impl Environment {
    /// Sets a variable; one that no program could read is left out.
    fn set(&mut self, name: &[u8], value: &[u8]) {
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) || value.contains(&0) {
            return;
        }
        self.0.retain(|known| known.split(|byte| *byte == b'=').next() != Some(name));
        self.0.push([name, b"=", value].concat());
    }
}

#[cfg(test)]
mod tests {
    use sojourn_core::ids::SessionId;
    use sojourn_core::limits::Limits;
    use sojourn_core::wire::runner::About;
    use sojourn_core::wire::shim::OUTPUT_WINDOW;

    use super::*;
    use crate::control::Account;
    use crate::control::InputPolicy;
    use crate::control::OnFailure;
    use crate::control::RecordingPolicy;

    fn assign() -> Assign {
        Assign {
            session: SessionId::new(),
            honeypot: false,
            profile: "default".to_owned(),
            about: About { user: "alice".to_owned(), ..About::default() },
            limits: Limits::default(),
            recording: RecordingPolicy {
                input: InputPolicy::Masked,
                exec_bytes: 0,
                on_failure: OnFailure::End,
            },
            day: "2026/11/22".to_owned(),
            command: vec!["/bin/bash".into(), "-l".into()],
            env: vec![("EDITOR".into(), "vi".into()), ("SOJOURN_USER".into(), "root".into())],
            account: Account::default(),
        }
    }

    #[test]
    fn nothing_in_a_honeypot_tells_of_us() {
        let spec = ChannelSpec {
            program: Program::Shell,
            pty: None,
            env: Vec::new(),
            credit: OUTPUT_WINDOW,
        };
        let assign = Assign { honeypot: true, env: Vec::new(), ..assign() };
        let env = environment(&assign, &spec);
        assert!(env.iter().all(|known| !known.starts_with(b"SOJOURN")), "{env:?}");
    }

    #[test]
    fn the_client_adds_but_does_not_say_who_it_is() {
        let spec = ChannelSpec {
            program: Program::Exec(Text(b"echo \xff".to_vec())),
            pty: None,
            env: vec![
                ("EDITOR".into(), "emacs".into()),
                ("SOJOURN_USER".into(), "bob".into()),
                ("A=B".into(), "c".into()),
                ("NUL".into(), Text(b"\0".to_vec())),
            ],
            credit: OUTPUT_WINDOW,
        };
        let assign = assign();
        let env = environment(&assign, &spec);
        let has = |wanted: &str| env.iter().any(|known| known == wanted.as_bytes());
        assert!(has("EDITOR=emacs") && has("SOJOURN_USER=alice") && has("SHELL=/bin/bash"));
        assert!(!has("EDITOR=vi") && !has("SOJOURN_USER=root"));
        assert_eq!(env.len(), 8, "no TERM, nothing malformed: {env:?}");
        let command = command(&assign, &spec.program);
        assert_eq!(command, [&b"/bin/bash"[..], b"-c", b"echo \xff"]);
    }
}
