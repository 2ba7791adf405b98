//! Terminals of a sandbox, opened from outside in the sandbox's own devpts.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::termios::Winsize;
use sojourn_core::wire::shim::WindowSize;

use crate::sys;

/// A new terminal.
#[derive(Debug)]
pub struct Pty {
    /// The shim's end, non-blocking.
    pub master: OwnedFd,
    /// The program's end; dropped once `init` was told to start the program on it.
    pub slave: OwnedFd,
}

impl Pty {
    pub(crate) fn open(ptmx: &OwnedFd, size: WindowSize, modes: &[(u8, u32)]) -> io::Result<Self> {
        let (master, slave) = sys::pty::open(ptmx.as_fd())?;
        let mut settings = sys::pty::settings(slave.as_fd())?;
        for (opcode, value) in modes {
            set_mode(&mut settings, *opcode, *value);
        }
        sys::pty::apply(slave.as_fd(), &settings)?;
        resize(&master, size)?;
        Ok(Self { master, slave })
    }
}

/// A terminal's size, by its master.
pub fn size(master: impl AsFd) -> io::Result<WindowSize> {
    let size = rustix::termios::tcgetwinsize(master)?;
    Ok(WindowSize {
        cols: size.ws_col,
        rows: size.ws_row,
        width: size.ws_xpixel,
        height: size.ws_ypixel,
    })
}

/// Gives a terminal, by its master, a new size; its foreground programs are told.
pub fn resize(master: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: size.width,
        ws_ypixel: size.height,
    };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

/// Applies one terminal mode of RFC 4254, section 8; unknown ones are ignored.
fn set_mode(settings: &mut libc::termios, opcode: u8, value: u32) {
    if let Some(index) = control_character(opcode) {
        if let Some(character) = settings.c_cc.get_mut(index) {
            // 255 is "none" in the protocol, and above it nothing is a character.
            *character = u8::try_from(value).ok().filter(|c| *c != u8::MAX).unwrap_or(0);
        }
        return;
    }
    let (flags, bit) = match opcode {
        30 => (&mut settings.c_iflag, libc::IGNPAR),
        31 => (&mut settings.c_iflag, libc::PARMRK),
        32 => (&mut settings.c_iflag, libc::INPCK),
        33 => (&mut settings.c_iflag, libc::ISTRIP),
        34 => (&mut settings.c_iflag, libc::INLCR),
        35 => (&mut settings.c_iflag, libc::IGNCR),
        36 => (&mut settings.c_iflag, libc::ICRNL),
        37 => (&mut settings.c_iflag, libc::IUCLC),
        38 => (&mut settings.c_iflag, libc::IXON),
        39 => (&mut settings.c_iflag, libc::IXANY),
        40 => (&mut settings.c_iflag, libc::IXOFF),
        41 => (&mut settings.c_iflag, libc::IMAXBEL),
        42 => (&mut settings.c_iflag, libc::IUTF8),
        50 => (&mut settings.c_lflag, libc::ISIG),
        51 => (&mut settings.c_lflag, libc::ICANON),
        52 => (&mut settings.c_lflag, libc::XCASE),
        53 => (&mut settings.c_lflag, libc::ECHO),
        54 => (&mut settings.c_lflag, libc::ECHOE),
        55 => (&mut settings.c_lflag, libc::ECHOK),
        56 => (&mut settings.c_lflag, libc::ECHONL),
        57 => (&mut settings.c_lflag, libc::NOFLSH),
        58 => (&mut settings.c_lflag, libc::TOSTOP),
        59 => (&mut settings.c_lflag, libc::IEXTEN),
        60 => (&mut settings.c_lflag, libc::ECHOCTL),
        61 => (&mut settings.c_lflag, libc::ECHOKE),
        70 => (&mut settings.c_oflag, libc::OPOST),
        71 => (&mut settings.c_oflag, libc::OLCUC),
        72 => (&mut settings.c_oflag, libc::ONLCR),
        73 => (&mut settings.c_oflag, libc::OCRNL),
        74 => (&mut settings.c_oflag, libc::ONOCR),
        75 => (&mut settings.c_oflag, libc::ONLRET),
        92 => (&mut settings.c_cflag, libc::PARENB),
        93 => (&mut settings.c_cflag, libc::PARODD),
        128 | 129 => return set_speed(settings, opcode, value),
        _ => return,
    };
    if value == 0 { *flags &= !bit } else { *flags |= bit }
}

fn control_character(opcode: u8) -> Option<usize> {
    Some(match opcode {
        1 => libc::VINTR,
        2 => libc::VQUIT,
        3 => libc::VERASE,
        4 => libc::VKILL,
        5 => libc::VEOF,
        6 => libc::VEOL,
        7 => libc::VEOL2,
        8 => libc::VSTART,
        9 => libc::VSTOP,
        10 => libc::VSUSP,
        12 => libc::VREPRINT,
        13 => libc::VWERASE,
        14 => libc::VLNEXT,
        16 => libc::VSWTC,
        18 => libc::VDISCARD,
        _ => return None,
    })
}

/// A pseudo-terminal has no speed, but programs look at it.
fn set_speed(settings: &mut libc::termios, opcode: u8, value: u32) {
    let code = match value {
        1200 => libc::B1200,
        2400 => libc::B2400,
        4800 => libc::B4800,
        9600 => libc::B9600,
        19200 => libc::B19200,
        38400 => libc::B38400,
        57600 => libc::B57600,
        115_200 => libc::B115200,
        230_400 => libc::B230400,
        _ => return,
    };
    sys::pty::set_speed(settings, code, opcode == 128);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_of_the_protocol_reach_the_terminal() {
        let ptmx = std::fs::File::open("/dev/pts").and_then(|directory| {
            let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
            Ok(rustix::fs::openat(directory, "ptmx", flags, rustix::fs::Mode::empty())?)
        });
        let Ok(ptmx) = ptmx else {
            eprintln!("SKIPPED: no devpts here");
            return;
        };
        assert!(sys::pty::is_ptmx(ptmx.as_fd()).unwrap());
        let size = WindowSize { cols: 90, rows: 30, width: 1, height: 2 };
        let modes = [(1, 1), (3, 255), (53, 0), (72, 0), (42, 1), (129, 9600), (200, 9), (0, 1)];
        let Ok(pty) = Pty::open(&ptmx, size, &modes) else {
            eprintln!("SKIPPED: {:?} may not be opened", ptmx);
            return;
        };
        let settings = sys::pty::settings(pty.slave.as_fd()).unwrap();
        assert_eq!((settings.c_cc[libc::VINTR], settings.c_cc[libc::VERASE]), (1, 0));
        assert_eq!(settings.c_lflag & (libc::ECHO | libc::ICANON), libc::ICANON);
        assert_eq!(settings.c_oflag & (libc::ONLCR | libc::OPOST), libc::OPOST);
        assert_ne!(settings.c_iflag & libc::IUTF8, 0);
        let shown = rustix::termios::tcgetwinsize(&pty.master).unwrap();
        assert_eq!((shown.ws_col, shown.ws_row, shown.ws_ypixel), (90, 30, 2));
    }
}
