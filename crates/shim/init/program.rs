//! A program as a start message describes it, and becoming it.

use core::ptr::null;

use crate::MAX_STRINGS;
use crate::input::Input;
use crate::kernel;
use crate::kernel::Errno;
use crate::kernel::Fd;

const FLAG_TERMINAL: u8 = 1;
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MAX_PATH: usize = 4096;

pub(crate) struct Program<'a> {
    pub(crate) terminal: bool,
    cwd: &'a [u8],
    name: &'a [u8],
    path: &'a [u8],
    argv: *const *const u8,
    env: *const *const u8,
}

impl<'a> Program<'a> {
    pub(crate) fn read(
        input: &mut Input<'a>,
        strings: &mut [*const u8; MAX_STRINGS],
    ) -> Option<Self> {
        let terminal = input.u8()? & FLAG_TERMINAL != 0;
        let cwd = input.string()?;
        let (mut name, mut path): (&[u8], _) = (&[], DEFAULT_PATH);
        let mut places = strings.iter_mut();
        let argc = input.u16()?;
        for index in 0..argc {
            let argument = input.string()?;
            *places.next()? = argument.as_ptr();
            if index == 0 {
                name = argument;
            }
        }
        *places.next()? = null();
        for _ in 0..input.u16()? {
            let variable = input.string()?;
            *places.next()? = variable.as_ptr();
            if let Some(value) = variable.strip_prefix(b"PATH=") {
                path = value.strip_suffix(b"\0")?;
            }
        }
        *places.next()? = null();
        let argv = strings.as_ptr();
        let env = strings.get(usize::from(argc) + 1..)?.as_ptr();
        (argc > 0).then_some(Self { terminal, cwd, name, path, argv, env })
    }

    /// Turns the forked child into the program; comes back only with the reason why it could not.
    pub(crate) fn run(&self, stdio: [Fd; 3]) -> Errno {
        let arranged = kernel::new_session()
            .and_then(|()| if self.terminal { kernel::take_terminal(stdio[0]) } else { Ok(()) })
            .and_then(|()| (0..).zip(stdio).try_for_each(|(target, fd)| kernel::place(fd, target)))
            .and_then(|()| kernel::reset_signals());
        if let Err(errno) = arranged {
            return errno;
        }
        // Everything above goes at exec. All of it is close-on-exec already; this is the net.
        kernel::close_on_exec_from(3);
        enter(self.cwd);
        self.execute()
    }

    /// Executes the name itself if it holds a slash, else it in each directory of PATH.
    fn execute(&self) -> Errno {
        if self.name.contains(&b'/') {
            return kernel::execute(self.name, self.argv, self.env);
        }
        let mut reason = kernel::ENOENT;
        for directory in self.path.split(|byte| *byte == b':') {
            let directory = if directory.is_empty() { b"." } else { directory };
            let mut file = [0; MAX_PATH];
            let length = directory.len() + 1 + self.name.len();
            let Some(room) = file.get_mut(..length) else { continue };
            let parts = directory.iter().chain(b"/").chain(self.name);
            room.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
            match kernel::execute(room, self.argv, self.env) {
                kernel::ENOENT | kernel::ENOTDIR => {}
                // Another directory may hold one that may be executed.
                kernel::EACCES => reason = kernel::EACCES,
                other => return other,
            }
        }
        reason
    }
}

/// Goes to a directory, which ends with a zero; to the root when it cannot be entered.
pub(crate) fn enter(directory: &[u8]) {
    if kernel::chdir(directory).is_err() {
        let _root = kernel::chdir(b"/\0");
    }
}
