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
until = time.monotonic() + 20
counted = b""
while not counted.strip() and time.monotonic() < until:
    counted = read_until(run(client, "cat /tmp/said 2>&- | wc -c | grep -vx 0"), b"\n")
say("program:", counted.decode().strip())
