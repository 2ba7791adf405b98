"""Sends variables and asks for an answer to each."""

import sys

import paramiko

from common import connect, request, say

client = connect()
for name in sys.argv[1:]:
    channel = client.get_transport().open_session()
    try:
        request(channel, "env", name, "C.UTF-8")
        say(name, "yes")
    except paramiko.SSHException:
        say(name, "no")
    channel.close()
client.close()
