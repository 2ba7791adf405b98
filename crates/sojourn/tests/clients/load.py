"""Many sessions at once, for as long as their limit allows: some do nothing, some print all the time.

Usage: load.py IDLE BUSY SECONDS PID. Every session has a limit of SECONDS. When all of them run, memory is
taken: what is the alone of each process below PID, by name. Prints what was found as JSON: how long it took
to be let in, how late the ends were (from the first byte of a program to its session's exit status, less
SECONDS), memory in kilobytes, and how much of a processor the gateway took meanwhile.
"""

import asyncio
import collections
import json
import os
import sys
import time

import asyncssh

idle, busy, limit, root = (int(word) for word in sys.argv[1:5])
IDLE = "echo up; exec sleep 99999"
BUSY = 'echo up; while :; do echo "$RANDOM a line of a program that prints all the time"; read -rt 0.1; done'
options = {
    "port": int(os.environ["PORT"]),
    "username": os.environ["USER"],
    "client_keys": asyncssh.load_keypairs(os.environ["KEY"]),
    "known_hosts": None,
    "config": [],
    "kex_algs": ["curve25519-sha256"],
    "server_host_key_algs": ["ssh-ed25519"],
    "agent_path": None,
    "keepalive_interval": 0,
}


def below(root):
    """A process and everything that hangs below it."""
    children = collections.defaultdict(list)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = open(f"/proc/{pid}/stat").read()
            children[int(stat.rsplit(")", 1)[1].split()[1])].append(int(pid))
        except OSError:
            pass
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def memory():
    sums = collections.Counter()
    for pid in below(root):
        try:
            name = open(f"/proc/{pid}/comm").read().strip()
            name = "gateway" if pid == root else name
            rollup = open(f"/proc/{pid}/smaps_rollup").read()
        except OSError:
            continue
        for line in rollup.splitlines():
            if line.startswith("Pss:"):
                sums[name] += int(line.split()[1])
    return sums


def processor():
    """Seconds of it that the gateway and what belongs to it took."""
    ticks = 0
    for pid in below(root):
        try:
            name = open(f"/proc/{pid}/comm").read().strip()
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if name.startswith("sojourn"):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def one(number, room, running, late, waits, errors):
    line = BUSY if number < busy else IDLE
    async with room:
        began = time.monotonic()
        try:
            connection = await asyncssh.connect("127.0.0.1", **options)
            shell = await connection.create_process(
                line, term_type="xterm", encoding=None, env={"SOJOURN_TIMEOUT": str(limit)}
            )
            await asyncio.wait_for(shell.stdout.readuntil(b"up\r\n"), 60)
        except Exception as error:  # noqa: BLE001 - counted
            errors.append(repr(error))
            return
    up = time.monotonic()
    waits.append((up - began) * 1000)
    running[0] += 1
    try:
        while await shell.stdout.read(65536):
            pass
        done = await shell.wait()
        late.append((time.monotonic() - up - limit) * 1000)
        if done.exit_status != 124:
            errors.append(f"status {done.exit_status}")
    except Exception as error:  # noqa: BLE001 - counted
        errors.append(repr(error))
    finally:
        running[0] -= 1
        connection.abort()


def spread(times):
    times.sort()
    at = lambda part: round(times[min(len(times) - 1, int(len(times) * part))], 1) if times else None  # noqa: E731
    return {"p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "most_ms": at(1)}


async def main():
    before = memory()
    room, running = asyncio.Semaphore(4), [0]
    late, waits, errors = [], [], []
    began = time.monotonic()
    sessions = [
        asyncio.create_task(one(number, room, running, late, waits, errors)) for number in range(idle + busy)
    ]
    while len(waits) + len(errors) < idle + busy:
        await asyncio.sleep(0.2)
    let_in, most = time.monotonic() - began, running[0]
    # Not in this thread: whoever answers nobody for a while is hung up on.
    after = await asyncio.to_thread(memory)
    used, since = await asyncio.to_thread(processor), time.monotonic()
    await asyncio.sleep(5)
    used = (await asyncio.to_thread(processor) - used) / (time.monotonic() - since)
    await asyncio.gather(*sessions)
    grown = {name: after[name] - before[name] for name in after if after[name] > before[name]}
    count = idle + busy
    ours = sum(kilobytes for name, kilobytes in grown.items() if name not in ("bash", "sleep"))
    print(json.dumps({
        "sessions": count, "at_once": most, "let_in_seconds": round(let_in, 1), "wait": spread(waits),
        "late": spread(late), "errors": collections.Counter(errors).most_common(5),
        "kilobytes_a_session": round(ours / count, 1), "grown_kilobytes": grown, "processors": round(used, 2),
    }))


asyncio.run(main())
