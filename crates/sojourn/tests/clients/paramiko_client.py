"""What programs in Python do: commands, a shell on a terminal, variables that want an answer, new keys."""

import hashlib
import os

from common import connect, read_until, request, say

client = connect()
transport = client.get_transport()

stdin, stdout, stderr = client.exec_command("cat; echo err >&2; exit 5")
stdin.write("in")
stdin.channel.shutdown_write()
say("exec", stdout.read().decode(), stderr.read().decode().strip(), stdout.channel.recv_exit_status())

channel = transport.open_session()
request(channel, "env", "LANG", "C.UTF-8")
channel.get_pty("vt100", 90, 30)
channel.invoke_shell()
text = read_until(channel, b"# ")
channel.sendall(b"stty size; echo $TERM $LANG; exit 7\n")
text = read_until(channel, b"logout")
say("shell", "30 90" in text.decode(), "vt100 C.UTF-8" in text.decode(), channel.recv_exit_status())

# As Ansible, Fabric and others end: whatever is open is closed at once.
sleeper = transport.open_session()
sleeper.exec_command("sleep 99")
sleeper.close()
say("closed", sleeper.closed)

# Between commands: in mid-stream Paramiko 2.12 now and then waits for itself, with any server.
transport.renegotiate_keys()
noise = os.urandom(1_000_000)
stdin, stdout, _ = client.exec_command("sha256sum")
stdin.write(noise)
stdin.channel.shutdown_write()
right = stdout.read().decode().startswith(hashlib.sha256(noise).hexdigest())
say("rekeyed", right, stdout.channel.recv_exit_status())
client.close()
