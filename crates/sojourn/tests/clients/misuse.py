"""Says what no client says, each on a connection of its own, and prints how that ended.

`closed` the server hung up · `alive` it goes on and answers · then the kinds of messages it answered with.
With SEED and ROUNDS: nonsense, the same for the same seed.
"""

import os
import random
import socket
import struct
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import paramiko  # noqa: E402
from paramiko.ssh_exception import SSHException  # noqa: E402

from common import say  # noqa: E402

PORT, USER, KEY = int(os.environ["PORT"]), os.environ["USER"], os.environ["KEY"]
PATIENCE = 25
DISCONNECT, UNIMPLEMENTED, REQUEST_FAILURE = 1, 3, 82
OPEN, CONFIRMED, OPEN_FAILURE, ADJUST, DATA, EXTENDED, EOF, CLOSE = 90, 91, 92, 93, 94, 95, 96, 97
REQUEST, SUCCESS, FAILURE = 98, 99, 100


def field(value):
    if isinstance(value, bool):
        return bytes([value])
    if isinstance(value, int):
        return struct.pack(">I", value)
    if isinstance(value, str):
        value = value.encode()
    return struct.pack(">I", len(value)) + value


class Caller:
    """A connection whose every message is ours."""

    def __init__(self, signed_in=True):
        self.transport = paramiko.Transport(socket.create_connection(("127.0.0.1", PORT), PATIENCE))
        self.seen = []
        packetizer = self.transport.packetizer
        read = packetizer.read_message

        def reading():
            kind, message = read()
            self.seen.append((kind, message.asbytes()))
            return kind, message

        packetizer.read_message = reading
        self.transport.start_client(timeout=PATIENCE)
        # What is unexpected is ours to judge: it must not end the reading.
        for kind in (CONFIRMED, OPEN_FAILURE, ADJUST, DATA, EXTENDED, EOF, CLOSE, REQUEST, SUCCESS, FAILURE):
            self.transport._channel_handler_table.pop(kind, None)
            self.transport._handler_table[kind] = lambda transport, message: None
        self.transport._handler_table[REQUEST_FAILURE] = lambda transport, message: None
        self.transport._handler_table = dict(self.transport._handler_table)
        if signed_in:
            self.sign_in()

    def sign_in(self):
        self.transport.auth_timeout = PATIENCE
        self.transport.auth_publickey(USER, paramiko.Ed25519Key(filename=KEY))

    def send(self, kind, *fields):
        self.send_raw(bytes([kind]) + b"".join(f if isinstance(f, Raw) else field(f) for f in fields))

    def send_raw(self, payload):
        message = paramiko.Message()
        message.add_bytes(payload)
        try:
            self.transport.packetizer.send_message(message)
        except (OSError, EOFError, SSHException):
            pass

    def wait(self, *kinds):
        """Waits for a message of one of these kinds; none when the connection ends first."""
        end = time.monotonic() + PATIENCE
        at = 0
        while time.monotonic() < end:
            while at < len(self.seen):
                if self.seen[at][0] in kinds:
                    return self.seen[at][1]
                at += 1
            if not self.transport.is_active() and at == len(self.seen):
                return None
            time.sleep(0.005)
        return b"late"

    def open(self, number=0, window=1 << 20, packet=32768, kind="session", more=()):
        """Opens a channel and gives the server's number of it."""
        self.send(OPEN, kind, number, window, packet, *more)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.transport.is_active():
            for seen, payload in list(self.seen):
                if seen in (CONFIRMED, OPEN_FAILURE) and payload[:4] == struct.pack(">I", number):
                    return struct.unpack(">I", payload[4:8])[0] if seen == CONFIRMED else None
                if seen in (DISCONNECT, UNIMPLEMENTED):
                    return None
            time.sleep(0.005)
        return None

    def outcome(self):
        """Whether it still answers a question that every server answers, and what came before."""
        before = {kind for kind, _ in self.seen}
        self.seen = [entry for entry in self.seen if entry[0] not in (REQUEST_FAILURE, UNIMPLEMENTED)]
        self.send(80, "probe@example.org", True)
        answer = self.wait(REQUEST_FAILURE, UNIMPLEMENTED)
        word = "closed" if answer is None else "late" if answer == b"late" else "alive"
        told = before | {kind for kind, _ in self.seen}
        shown = [str(kind) for kind in (DISCONNECT, UNIMPLEMENTED, OPEN_FAILURE, FAILURE) if kind in told]
        self.transport.close()
        return " ".join([word, *shown])

    def can_sign_in(self):
        try:
            self.sign_in()
            word = "signs in"
        except (SSHException, EOFError, OSError):
            word = "closed"
        self.transport.close()
        return word


    def has_opened_nothing(self):
        """Signs in at last: whatever was opened was opened before."""
        word = self.can_sign_in()
        return "opened" if any(kind == CONFIRMED for kind, _ in self.seen) else word


class Raw(bytes):
    """Bytes as they are, without their length."""


def case(name):
    def register(run):
        CASES.append((name, run))
        return run

    return register


CASES = []

# --- Before anybody has signed in.


@case("a channel before signing in")
def _():
    caller = Caller(signed_in=False)
    caller.send(OPEN, "session", 0, 1 << 20, 32768)
    return caller.has_opened_nothing()


@case("a request of a channel before signing in")
def _():
    caller = Caller(signed_in=False)
    caller.send(REQUEST, 0, "exec", True, "id")
    return caller.can_sign_in()


@case("says itself that it is signed in")
def _():
    caller = Caller(signed_in=False)
    caller.send(52)
    caller.send(OPEN, "session", 0, 1 << 20, 32768)
    return caller.has_opened_nothing()


@case("signs in without asking for the service")
def _():
    caller = Caller(signed_in=False)
    caller.send(50, USER, "ssh-connection", "none")
    return "let in" if caller.transport.is_authenticated() else caller.can_sign_in()


@case("answers that nobody asked for")
def _():
    caller = Caller(signed_in=False)
    caller.send(5, "ssh-userauth")
    caller.wait(6)
    caller.send(61, 1, "answer")
    caller.send(61, 0xFFFFFFFF)
    caller.send(50, USER, "ssh-connection", "none")
    caller.wait(51, DISCONNECT, UNIMPLEMENTED)
    let_in = caller.transport.is_authenticated()
    caller.transport.close()
    return "let in" if let_in else "refused"


@case("a service that is none")
def _():
    caller = Caller(signed_in=False)
    caller.send(5, "x" * 20000)
    return caller.can_sign_in()


@case("names and methods without an end")
def _():
    caller = Caller(signed_in=False)
    caller.send(5, "ssh-userauth")
    caller.wait(6)
    caller.send(50, "u" * 20000, "ssh-connection", "m" * 10000)
    caller.send(50, USER, "c" * 20000, "password", False, "p" * 10000)
    caller.send_raw(b"\x32\xff\xff\xff\xff")
    caller.send_raw(b"\x32")
    got = caller.open()
    caller.transport.close()
    return "opened" if got is not None else "refused"


@case("new keys that nobody agreed on")
def _():
    caller = Caller(signed_in=False)
    caller.send(21)
    caller.send(30, b"\0" * 32)
    return caller.can_sign_in()


def in_the_clear(data, shut=True):
    with socket.create_connection(("127.0.0.1", PORT), PATIENCE) as stream:
        stream.settimeout(PATIENCE)
        try:
            stream.sendall(data)
            if shut:
                stream.shutdown(socket.SHUT_WR)
            while stream.recv(65536):
                pass
        except ConnectionError:
            pass
        except TimeoutError:
            return "late"
    return "closed"


@case("packets in the clear that cannot be")
def _():
    hello = b"SSH-2.0-x\r\n"
    tries = [
        b"",
        b"SSH",
        hello,
        b"SSH-1.5-x\r\n",
        b"x" * 300,
        hello + b"\xff\xff\xff\xff",
        hello + b"\x00\x00\x00\x00",
        hello + b"\x00\x00\x00\x0c\xff" + b"\x14" * 11,
        hello + b"\x00\x00\x88\xb8\x04\x14" + b"\0" * 500,
        hello + b"\x00\x00\x00\x1c\x0a\x14" + b"\x41" * 16 + b"\xff\xff\xff\xff" + b"\0" * 6,
    ]
    return " ".join(sorted({in_the_clear(data) for data in tries}))


# --- After it.


@case("a request of a channel that is not there")
def _():
    caller = Caller()
    caller.send(REQUEST, 77, "exec", True, "id")
    return caller.outcome()


@case("data, windows and ends of channels that are not there")
def _():
    caller = Caller()
    caller.open()
    for number in (1, 77, 0xFFFFFFFF):
        caller.send(DATA, number, "x")
        caller.send(EXTENDED, number, 1, "x")
        caller.send(ADJUST, number, 1)
        caller.send(EOF, number)
        caller.send(CLOSE, number)
        caller.send(SUCCESS, number)
        caller.send(FAILURE, number)
    return caller.outcome()


@case("answers to channels that nobody opened")
def _():
    caller = Caller()
    caller.send(CONFIRMED, 5, 6, 1 << 20, 32768)
    caller.send(OPEN_FAILURE, 5, 1, "no", "")
    return caller.outcome()


@case("a window that overflows")
def _():
    caller = Caller()
    number = caller.open()
    caller.send(REQUEST, number, "exec", True, "cat")
    caller.wait(SUCCESS, FAILURE)
    for _ in range(5):
        caller.send(ADJUST, number, 0xFFFFFFFF)
    return caller.outcome()


@case("packets of no bytes")
def _():
    caller = Caller()
    number = caller.open(packet=0)
    if number is not None:
        caller.send(REQUEST, number, "exec", True, "echo hi")
    return caller.outcome()


@case("a window of no bytes")
def _():
    caller = Caller()
    number = caller.open(window=0)
    caller.send(REQUEST, number, "exec", True, "seq 100000")
    caller.wait(SUCCESS, FAILURE)
    return caller.outcome()


@case("more data than the window has")
def _():
    caller = Caller()
    number = caller.open()
    caller.send(REQUEST, number, "exec", True, "sleep 60")
    caller.wait(SUCCESS, FAILURE)
    for _ in range(300):
        caller.send(DATA, number, b"x" * 32768)
    return caller.outcome()


@case("a packet of the longest kind")
def _():
    caller = Caller()
    number = caller.open()
    caller.send(REQUEST, number, "exec", True, "cat >/dev/null")
    caller.wait(SUCCESS, FAILURE)
    caller.send(DATA, number, b"x" * 200000)
    return caller.outcome()


@case("data after the end, and ends twice")
def _():
    caller = Caller()
    number = caller.open()
    caller.send(REQUEST, number, "exec", True, "cat >/dev/null")
    caller.wait(SUCCESS, FAILURE)
    for _ in range(3):
        caller.send(EOF, number)
        caller.send(DATA, number, "x")
    for _ in range(3):
        caller.send(CLOSE, number)
        caller.send(DATA, number, "x")
        caller.send(REQUEST, number, "exec", True, "id")
    return caller.outcome()


@case("programs twice, terminals late")
def _():
    caller = Caller()
    number = caller.open()
    caller.send(REQUEST, number, "exec", True, "sleep 60")
    caller.wait(SUCCESS)
    caller.send(REQUEST, number, "pty-req", True, "x", 80, 24, 0, 0, "")
    caller.send(REQUEST, number, "shell", True)
    caller.send(REQUEST, number, "exec", True, "id")
    caller.send(REQUEST, number, "subsystem", True, "sftp")
    caller.wait(FAILURE)
    return caller.outcome()


@case("requests that nobody knows, or that are not whole")
def _():
    caller = Caller()
    number = caller.open()
    caller.send(REQUEST, number, "unknown@example.org", True)
    caller.send(REQUEST, number, "x" * 30000, True)
    caller.send(REQUEST, number, "env", True, "N" * 30000, "v" * 60000)
    caller.send(REQUEST, number, "pty-req", True, "t" * 30000, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0, b"\xa0\xff" * 999)
    caller.send(REQUEST, number, "window-change", False, 0xFFFFFFFF, 0, 0, 0xFFFFFFFF)
    caller.send(REQUEST, number, "signal", False, "NO SUCH\0" * 99)
    caller.wait(FAILURE)
    return caller.outcome()


@case("requests that are cut short")
def _():
    caller = Caller()
    number = caller.open()
    caller.send_raw(struct.pack(">BI", REQUEST, number) + field("env") + b"\x01\xff\xff\xff\xff")
    return caller.outcome()


@case("channels without number")
def _():
    caller = Caller()
    for number in range(300):
        caller.send(OPEN, "session", number, 1 << 20, 32768)
    caller.wait(OPEN_FAILURE)
    return caller.outcome()


@case("channels of a kind that is none")
def _():
    caller = Caller()
    caller.open(1, kind="x" * 20000)
    caller.open(2, kind="direct-tcpip", more=("h" * 20000, 0xFFFFFFFF, "o", 0xFFFFFFFF))
    caller.open(3, kind="forwarded-tcpip", more=("h", 1, "o", 1))
    caller.open(4, kind="x11", more=("h", 1))
    caller.open(5, kind="auth-agent@openssh.com")
    return caller.outcome()


@case("global requests that are not whole")
def _():
    caller = Caller()
    caller.send(80, "tcpip-forward", True)
    return caller.outcome()


@case("new keys without rest")
def _():
    caller = Caller()
    # As the library has it: each is a whole exchange.
    for _ in range(12):
        caller.transport.renegotiate_keys()
    return caller.outcome()


@case("the beginning of an exchange, again and again")
def _():
    caller = Caller()
    names = ["curve25519-sha256", "ssh-ed25519", "aes128-ctr", "aes128-ctr", "hmac-sha2-256", "hmac-sha2-256"]
    for _ in range(200):
        caller.send(20, Raw(b"\x5a" * 16), *names, "none", "none", "", "", False, 0)
    return caller.outcome()


@case("messages that nobody implements")
def _():
    caller = Caller()
    for kind in (7, 8, 29, 41, 49, 79, 101, 127, 192, 255):
        caller.send(kind, b"x" * 100)
    return caller.outcome()


@case("signs in again")
def _():
    caller = Caller()
    for _ in range(20):
        caller.send(5, "ssh-userauth")
        caller.send(50, "root", "ssh-connection", "none")
        caller.send(50, "root", "ssh-connection", "password", False, "x")
    return caller.outcome()


@case("says goodbye and stays")
def _():
    caller = Caller()
    caller.send(DISCONNECT, 11, "bye", "")
    number = caller.open()
    return "opened" if number is not None else caller.outcome()


def nonsense(seed):
    """A sequence of messages that are nearly right."""
    chance = random.Random(seed)
    signed_in = chance.random() < 0.8
    caller = Caller(signed_in)
    numbers = [0, 0, 0, 1, 2, 77, 0x7FFFFFFF, 0xFFFFFFFF]
    words = ["session", "exec", "shell", "env", "pty-req", "subsystem", "sftp", "true", "id", "", "\0", "x" * 3000]
    for _ in range(chance.randrange(2, 40)):
        kind = chance.choice([OPEN] * 3 + [REQUEST] * 5 + [DATA, EXTENDED, ADJUST, EOF, CLOSE, 80, 5, 50, 2, 4, chance.randrange(256)])
        if kind in (DISCONNECT, 20, 21, 30, 31):
            continue
        fields = []
        if kind in (REQUEST, DATA, EXTENDED, ADJUST, EOF, CLOSE):
            fields.append(chance.choice(numbers))
        for _ in range(chance.randrange(6)):
            fields.append(chance.choice([chance.choice(words), chance.choice(numbers), chance.random() < 0.5]))
        payload = bytes([kind]) + b"".join(field(f) for f in fields)
        if chance.random() < 0.2:
            payload = payload[: 1 + chance.randrange(len(payload))]
        caller.send_raw(payload)
    # A message that was cut may have any end: only a server that hangs is wrong.
    if not signed_in:
        return "judged" if caller.can_sign_in() else "late"
    return "late" if caller.outcome().startswith("late") else "judged"


def main():
    only = os.environ.get("ONLY")
    for name, run in CASES:
        if only is None or only in name:
            begun = time.monotonic()
            say(f"{name}: {run()}")
            print(f"{time.monotonic() - begun:.2f} s", file=sys.stderr)
    seed = int(os.environ.get("SEED", "1"))
    for round_ in range(int(os.environ.get("ROUNDS", "0"))):
        say(f"nonsense {seed + round_}: {nonsense(seed + round_)}")


main()
