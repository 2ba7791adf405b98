"""Changes a terminal's size very often; the program must see the last one."""

import sys

from common import connect, read_until, say

client = connect()
channel = client.get_transport().open_session()
channel.get_pty("xterm", 80, 24)
channel.exec_command("echo up; read -r line; stty size")
read_until(channel, b"up")
for number in range(int(sys.argv[1])):
    channel.resize_pty(80 + number % 50, 24 + number % 30)
channel.resize_pty(99, 44)
channel.sendall(b"\n")
text = read_until(channel, b"44 99")
say(text.decode().split("\n")[-2].strip() if b"44 99\r\n" in text else text.decode().split("\n")[-1].strip())
client.close()
