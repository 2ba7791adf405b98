"""Sends what it has to say and closes the channel at once, as OpenSSH's client does not."""

import time

from common import connect, read_until, say

SAID = b"0123456789" * 30_000

INSIDE = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 8093))
print("ready", flush=True)
taken, got = listener.accept()[0], 0
while part := taken.recv(65536):
    got += len(part)
print("forward:", got, flush=True)
"""


def run(client, command):
    channel = client.get_transport().open_session()
    channel.exec_command(command)
    return channel


client = connect(timeout=60, auth_timeout=60, banner_timeout=60)
server = run(client, "exec python3 -")
server.sendall(INSIDE.encode())
server.shutdown_write()
read_until(server, b"ready\n")
origin = ("127.0.0.1", 1)
forward = client.get_transport().open_channel("direct-tcpip", ("127.0.0.1", 8093), origin)
forward.sendall(SAID)
forward.close()
say(read_until(server, b"\n").decode().strip())

# The program is told to leave as its channel closes, and does not.
program = run(client, "trap '' HUP; sleep 0.3; cat >/tmp/said.new; mv /tmp/said.new /tmp/said")
program.sendall(SAID)
program.close()


def arrived(path):
    """How many bytes a file has, as soon as it has all or twenty seconds have passed."""
    until, size = time.monotonic() + 20, 0
    while size != len(SAID) and time.monotonic() < until:
        size = int(read_until(run(client, f"cat {path} 2>&- | wc -c"), b"\n").decode())
    return size


say("program:", arrived("/tmp/said"))

# Neither of these waits for an answer that it can do without.
upload = run(client, "scp -t /tmp/copied")
upload.sendall(b"C0644 %d copied\n" % len(SAID) + SAID + b"\0")
upload.close()
say("scp:", arrived("/tmp/copied"))


def text(of):
    return len(of).to_bytes(4, "big") + of


def packet(kind, *parts):
    files.sendall(text(bytes([kind]) + b"".join(parts)))


def answer():
    length = int.from_bytes(files.makefile("rb", 0).read(4), "big")
    return files.makefile("rb", 0).read(length)


INIT, OPEN, WRITE, HANDLE = 1, 3, 6, 102
WRITES_ANEW = (2 | 8 | 16).to_bytes(4, "big")
NONE = bytes(4)
PART = 30_000
files = client.get_transport().open_session()
files.invoke_subsystem("sftp")
packet(INIT, (3).to_bytes(4, "big"))
answer()
packet(OPEN, NONE, text(b"/tmp/written"), WRITES_ANEW, NONE)
opened = answer()
assert opened[0] == HANDLE, opened
for at in range(0, len(SAID), PART):
    packet(WRITE, NONE, opened[5:], at.to_bytes(8, "big"), text(SAID[at : at + PART]))
files.close()
say("sftp:", arrived("/tmp/written"))
