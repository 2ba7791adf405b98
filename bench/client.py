"""Drives the real OpenSSH client: one process a connection, its standard input a terminal where a
terminal is asked for. What that client costs is in every figure, and it is the same for every server."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

now = time.perf_counter
PROMPT = re.compile(rb"[$#] ?$")
ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07\x1b]*(\x07|\x1b\\))")
# What one connection may take at the most.
PATIENCE = 60.0


class Failed(Exception):
    """A client did not get what it came for."""


class Door:
    """Where a server lets people in, and with what key."""

    def __init__(self, name, port, user, key):
        self.name, self.port, self.user, self.key = name, port, user, key

    def as_user(self, user):
        """The same door for somebody else: of ours, for another profile."""
        return Door(self.name, self.port, user, self.key)

    def command(self, terminal, cipher=None, verbose=False):
        options = [
            "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null",
            "PreferredAuthentications=publickey", "IdentitiesOnly=yes", f"IdentityFile={self.key}",
            # The client's own default costs it 90 ms of computing a login, whatever the server.
            "KexAlgorithms=curve25519-sha256", "Compression=no", "ConnectTimeout=30",
            # Clients since 9.5 hide when keys are struck.
            "IgnoreUnknown=ObscureKeystrokeTiming", "ObscureKeystrokeTiming=no",
        ]
        if not verbose:
            options.append("LogLevel=ERROR")
        words = ["ssh", "-F", "none", "-e", "none", "-p", str(self.port), "-l", self.user]
        for option in options:
            words += ["-o", option]
        words += ["-tt" if terminal else "-T"]
        words += ["-c", cipher] if cipher else []
        words += ["-v"] if verbose else []
        return words + ["127.0.0.1"]


def environment():
    """Nothing of whoever runs the bench, so that agents and settings of theirs are not measured."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/nonexistent", "TERM": "xterm", "LC_ALL": "C.UTF-8"}


def widen(descriptor):
    """A pipe of a megabyte: the reader is not what is measured."""
    try:
        fcntl.fcntl(descriptor, 1031, 1 << 20)
    except OSError:
        pass


class Client:
    """One `ssh`."""

    def __init__(self, door, command=None, terminal=True, cipher=None, verbose=False):
        words = door.command(terminal, cipher, verbose)
        if command is not None:
            words.append(command)
        if terminal:
            self.input, theirs = pty.openpty()
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        else:
            theirs, self.input = os.pipe()
            widen(self.input)
        self.connected = None
        self.said = b""
        self.process = subprocess.Popen(
            words, stdin=theirs, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if verbose else subprocess.DEVNULL,
            env=environment(), start_new_session=True, bufsize=0,
        )
        os.close(theirs)
        self.output = self.process.stdout.fileno()
        self.errors = self.process.stderr.fileno() if verbose else None
        widen(self.output)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()

    def read(self, patience=PATIENCE):
        """Bytes of its output; empty at its end."""
        deadline = now() + patience
        while True:
            watched = [self.output] + ([self.errors] if self.errors is not None else [])
            ready, _, _ = select.select(watched, [], [], max(0.0, deadline - now()))
            if not ready:
                raise Failed(f"nothing for {patience} s; ssh said {self.said[-300:]!r}")
            if self.errors in ready:
                said = os.read(self.errors, 1 << 16)
                if not said:
                    self.errors = None
                self.said += said
                if self.connected is None and b"Connection established" in self.said:
                    self.connected = now()
            if self.output in ready:
                return os.read(self.output, 1 << 20)

    def expect(self, pattern, patience=PATIENCE):
        """Reads until its output ends so, or has it; all that was read."""
        seen, deadline = b"", now() + patience
        while True:
            more = self.read(max(0.0, deadline - now()))
            seen += more
            if pattern.search(ESCAPES.sub(b"", seen[-4096:])):
                return seen
            if not more:
                raise Failed(f"it ended: {seen[-300:]!r} {self.said[-300:]!r}")

    def prompt(self):
        """Waits for the prompt; from the connection to it, where that was asked for."""
        self.expect(PROMPT)
        at = now()
        return None if self.connected is None else at - self.connected

    def send(self, data):
        while data:
            data = data[os.write(self.input, data[: 1 << 16]):]

    def leave(self, politely=False):
        """Ends this process, and waits for it."""
        if politely and self.process.poll() is None:
            try:
                self.send(b"exit\r")
                while self.read(5.0):
                    pass
                self.process.wait(5.0)
            except (OSError, Failed, subprocess.TimeoutExpired):
                pass
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.input is not None:
            os.close(self.input)
            self.input = None
        self.process.stdout.close()
        if self.process.stderr:
            self.process.stderr.close()
