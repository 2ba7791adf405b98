"""What the clients in Python share: a connection to the server that PORT, USER and KEY name."""

import os
import sys
import warnings

warnings.filterwarnings("ignore")

import paramiko  # noqa: E402


def connect(**options):
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(
        "127.0.0.1",
        int(os.environ["PORT"]),
        os.environ["USER"],
        key_filename=os.environ["KEY"],
        allow_agent=False,
        look_for_keys=False,
        **options,
    )
    return client


def request(channel, kind, *fields, reply=True):
    """Sends a channel request; fields are strings, numbers and bytes in wire order."""
    message = paramiko.Message()
    message.add_byte(b"\x62")
    message.add_int(channel.remote_chanid)
    message.add_string(kind)
    message.add_boolean(reply)
    for field in fields:
        if isinstance(field, int):
            message.add_int(field)
        else:
            message.add_string(field)
    if reply:
        channel._event_pending()
    channel.transport._send_user_message(message)
    if reply:
        channel._wait_for_event()


def read_until(channel, text, into=b""):
    """Reads until `text` has come, and gives all that has."""
    channel.settimeout(20)
    while text not in into:
        part = channel.recv(65536)
        if not part:
            break
        into += part
    return into


def say(*words):
    print(*words)
    sys.stdout.flush()
