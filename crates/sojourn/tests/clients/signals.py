"""Sends signals to a program as the protocol has them; the program names those it got."""

import sys

from common import connect, read_until, request, say

names = sys.argv[1:]
client = connect()
channel = client.get_transport().open_session()
traps = "; ".join(f"trap 'echo {name}' {name}" for name in names)
channel.exec_command(f"{traps}; trap 'exit 9' USR2; echo up; while :; do sleep 0.05; done")
got = read_until(channel, b"up\n")
for name in names:
    request(channel, "signal", name, reply=False)
    got = read_until(channel, name.encode() + b"\n", got)
request(channel, "signal", "USR2", reply=False)
status = channel.recv_exit_status()
say(got.decode().replace("up\n", "").strip().replace("\n", " "))
say("status", status)
client.close()
