"""Channels by the dozen on one connection. Usage: multiplex.py sequence COUNT | full."""

import sys
import time

import paramiko

from common import connect, read_until, say

client = connect()
transport = client.get_transport()


def run(command):
    channel = transport.open_session()
    channel.exec_command(command)
    return channel


if sys.argv[1] == "sequence":
    wrong = 0
    for number in range(int(sys.argv[2])):
        channel = run(f"echo {number}; exit {number % 100}")
        text = channel.makefile().read().decode()
        wrong += (text, channel.recv_exit_status()) != (f"{number}\n", number % 100)
        channel.close()
    say("wrong", wrong)
else:
    sleepers = []
    try:
        while len(sleepers) < 200:
            channel = run("echo up; exec sleep 99")
            read_until(channel, b"up")
            sleepers.append(channel)
    except paramiko.ChannelException as refusal:
        say("refused", refusal.code, len(sleepers))
    sleepers.pop().close()
    # Its program is told to end first: until it has, a command is refused with status 75 and a line.
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            channel = run("echo again; exit 5")
        except paramiko.ChannelException:
            continue
        text, status = channel.makefile().read().decode().strip(), channel.recv_exit_status()
        if status != 75:
            break
    say(text, status)
    say("others", sum(not channel.closed for channel in sleepers))
client.close()
