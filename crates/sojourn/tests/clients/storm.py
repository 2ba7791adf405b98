"""Many people at once: each signs in, waits for a prompt, types `exit 7` and leaves.

Usage: storm.py SESSIONS AT_A_TIME. Prints how many failed and why, and the times from the connection's
start to the prompt in milliseconds: half of them, and 95 of 100, were below these.
"""

import asyncio
import json
import os
import sys
import time

import asyncssh

sessions, at_a_time = int(sys.argv[1]), int(sys.argv[2])
options = {
    "port": int(os.environ["PORT"]),
    "username": os.environ["USER"],
    "client_keys": asyncssh.load_keypairs(os.environ["KEY"]),
    "known_hosts": None,
    "config": [],
    "kex_algs": ["curve25519-sha256"],
    "server_host_key_algs": ["ssh-ed25519"],
    "agent_path": None,
}


async def one():
    began = time.monotonic()
    async with asyncssh.connect("127.0.0.1", **options) as connection:
        shell = await connection.create_process(term_type="xterm", encoding=None)
        text = await asyncio.wait_for(shell.stdout.readuntil(b"# "), 30)
        prompt = time.monotonic() - began
        shell.stdin.write(b"exit 7\n")
        done = await asyncio.wait_for(shell.wait(), 30)
        if done.exit_status != 7:
            raise RuntimeError(f"status {done.exit_status} {done.exit_signal}, {text!r}")
        return prompt


async def main():
    room = asyncio.Semaphore(at_a_time)

    async def next_one():
        async with room:
            return await one()

    began = time.monotonic()
    results = await asyncio.gather(*[next_one() for _ in range(sessions)], return_exceptions=True)
    took = time.monotonic() - began
    times = sorted(result * 1000 for result in results if isinstance(result, float))
    failures = [repr(result) for result in results if not isinstance(result, float)]
    at = lambda part: round(times[min(len(times) - 1, int(len(times) * part))], 1) if times else None  # noqa: E731
    print(json.dumps({"failed": failures, "p50_ms": at(0.5), "p95_ms": at(0.95), "seconds": round(took, 1)}))


asyncio.run(main())
