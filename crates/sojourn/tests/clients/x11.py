"""Asks for windows as OpenSSH's client does not: for a single connection, and what is to be refused."""

import sys

import paramiko

from common import connect

INSIDE = """
import os, socket
path = "/tmp/.X11-unix/X" + os.environ["DISPLAY"][1:].split(".")[0]
def ask():
    # Behind the first connection this may be refused, or taken and closed.
    try:
        other = socket.socket(socket.AF_UNIX)
        other.connect(path)
        return other.recv(99)
    except OSError:
        return b""
print("first", "served" if ask() == b"windows" else "refused", end=", ")
print("second", "served" if ask() == b"windows" else "refused")
"""


def serve(channel, _origin):
    channel.sendall(b"windows")
    channel.close()


def single(client):
    channel = client.get_transport().open_session()
    channel.request_x11(single_connection=True, auth_cookie="0f" * 16, handler=serve)
    channel.exec_command("exec python3 -")
    channel.sendall(INSIDE.encode())
    channel.shutdown_write()
    out = b""
    while part := channel.recv(999):
        out += part
    return out.decode().strip()


def asked(client, times=1, **how):
    channel = client.get_transport().open_session()
    for _ in range(times):
        try:
            channel.request_x11(handler=serve, **how)
        except paramiko.SSHException:
            return "refused"
    return "given"


client = connect(timeout=60, auth_timeout=60, banner_timeout=60)
print("single:", single(client))
print("method:", asked(client, auth_protocol="XDM-AUTHORIZATION-1", auth_cookie="0f" * 16))
print("cookie:", asked(client, auth_cookie="no digits"))
print("long cookie:", asked(client, auth_cookie="0f" * 65))
print("screen:", asked(client, auth_cookie="0f" * 16, screen_number=4711))
print("twice:", asked(client, times=2, auth_cookie="0f" * 16))
client.close()
sys.stdout.flush()
