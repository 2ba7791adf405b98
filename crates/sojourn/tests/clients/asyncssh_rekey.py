"""Changes keys in mid-stream. Older versions of asyncssh go on sending data after its KEXINIT."""

import asyncio
import os

import asyncssh


async def main():
    options = {"known_hosts": None, "config": [], "rekey_bytes": 200_000}
    port, user, key = int(os.environ["PORT"]), os.environ["USER"], os.environ["KEY"]
    async with asyncssh.connect("127.0.0.1", port, username=user, client_keys=[key], **options) as connection:
        noise = "x" * 1_000_000
        done = await connection.run("cat", input=noise)
        print("same" if done.stdout == noise else "cut")


asyncio.run(main())
