"""Signs in with a password and nothing else."""

import os
import warnings

warnings.filterwarnings("ignore")

import paramiko  # noqa: E402

client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect(
    "127.0.0.1",
    int(os.environ["PORT"]),
    os.environ["USER"],
    os.environ["PASSWORD"],
    allow_agent=False,
    look_for_keys=False,
)
print(client.exec_command("echo paramiko")[1].read().decode().strip())
client.close()
