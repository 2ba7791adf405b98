"""Asks for each kind of SSH channel on a connection of its own, and prints a mark for each:
+ it was given, x it was refused, - nobody was let in."""

import os
import sys
import warnings

warnings.filterwarnings("ignore")

import paramiko  # noqa: E402


def connect():
    password = os.environ["PASSWORD"]
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(
        "127.0.0.1",
        int(os.environ["PORT"]),
        os.environ["USER"],
        password=password or None,
        key_filename=None if password else os.environ["KEY"],
        allow_agent=False,
        look_for_keys=False,
        timeout=30,
        auth_timeout=30,
    )
    return client


def status(channel):
    channel.settimeout(30)
    while channel.recv(65536):
        pass
    return channel.recv_exit_status()


def shell(client):
    channel = client.get_transport().open_session()
    channel.get_pty()
    channel.invoke_shell()
    channel.sendall(b"exit 7\n")
    return status(channel) == 7


def exec_(client):
    channel = client.get_transport().open_session()
    channel.exec_command("exit 7")
    return status(channel) == 7


def sftp(client):
    return client.open_sftp().normalize(".") is not None


def direct(client):
    # Nobody listens there: that it was tried is what counts.
    try:
        client.get_transport().open_channel("direct-tcpip", ("127.0.0.1", 9), ("127.0.0.1", 1), timeout=30)
    except paramiko.ChannelException as error:
        return error.code == 2
    return True


def forward(client):
    hold = client.get_transport().open_session()
    hold.exec_command("sleep 20")
    return client.get_transport().request_port_forward("127.0.0.1", 0) > 0


def agent(client):
    channel = client.get_transport().open_session()
    channel.request_forward_agent(lambda other: None)
    channel.exec_command("[ -n \"$SSH_AUTH_SOCK\" ] && exit 7")
    return status(channel) == 7


def x11(client):
    channel = client.get_transport().open_session()
    channel.request_x11(auth_cookie="0" * 32, handler=lambda *other: None)
    channel.exec_command("[ -n \"$DISPLAY\" ] && exit 7")
    return status(channel) == 7


def mark(ask):
    try:
        client = connect()
    except Exception as error:
        print(error, file=sys.stderr)
        return "-"
    try:
        return "+" if ask(client) else "x"
    except Exception as error:
        print(ask.__name__, repr(error), file=sys.stderr)
        return "x"
    finally:
        client.close()


print("".join(mark(ask) for ask in (shell, exec_, sftp, direct, forward, agent, x11)))
