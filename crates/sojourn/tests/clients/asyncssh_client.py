"""Another implementation of the protocol: commands side by side, a terminal, signals."""

import asyncio
import os

import asyncssh


async def main():
    options = {
        "port": int(os.environ["PORT"]),
        "username": os.environ["USER"],
        "client_keys": [os.environ["KEY"]],
        "known_hosts": None,
        "config": [],
    }
    async with asyncssh.connect("127.0.0.1", **options) as connection:
        done = await connection.run("cat; echo err >&2; exit 5", input="in")
        print("exec", done.stdout, done.stderr.strip(), done.exit_status)

        runs = [connection.run(f"echo {n}; exit {n}") for n in range(20)]
        results = await asyncio.gather(*runs)
        right = all((r.stdout, r.exit_status) == (f"{n}\n", n) for n, r in enumerate(results))
        print("together", right)

        shell = await connection.create_process("read -r line; stty size", term_type="xterm", term_size=(80, 24))
        shell.change_terminal_size(99, 44)
        shell.stdin.write("\n")
        print("terminal", (await shell.stdout.read()).split()[-2:], (await shell.wait()).exit_status)

        sleeper = await connection.create_process("echo up; exec sleep 99")
        await sleeper.stdout.readline()
        sleeper.terminate()
        print("killed", (await sleeper.wait()).exit_signal[0])


asyncio.run(main())
