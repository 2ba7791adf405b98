"""What is measured. Each function takes the servers and measures them in turn, in rounds, so that what
else the machine does meets them alike; it gives figures by server."""

import glob
import json
import os
import pty
import re
import select
import subprocess
import threading
import time
from datetime import datetime

from client import Client, Failed, PROMPT, environment, now
from servers import memory, processor_time, wait_for

MB = 1_000_000
CIPHERS = {"aes128-gcm": "aes128-gcm@openssh.com", "chacha20": "chacha20-poly1305@openssh.com"}
# Lines as programs print them, and as many bytes as are wanted.
PRINTING = "yes 0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ | head -c {}"


def in_turn(servers, rounds):
    """Servers round by round, each round in the other order than the one before."""
    for number in range(rounds):
        yield from servers if number % 2 == 0 else reversed(servers)


def to_prompt(server, door):
    """Seconds from an established connection to the prompt."""
    with Client(door, verbose=True) as client:
        took = client.prompt()
        client.leave(politely=True)
    return took


def prompt_warm(servers, rounds):
    """Everything is ready: a pool is full, caches are warm."""
    figures = {server.name: [] for server in servers}
    for server in servers:
        to_prompt(server, server.door)
    for server in in_turn(servers, rounds):
        server.settled()
        figures[server.name].append(to_prompt(server, server.door) * 1e3)
    return figures


def prompt_drained(servers, rounds):
    """The sandbox is made when it is asked for."""
    doors = {server.name: server.door.as_user("alice+drained") if server.name != "sshd" else server.door for server in servers}
    figures = {server.name: [] for server in servers}
    for server in in_turn(servers, rounds):
        server.settled()
        figures[server.name].append(to_prompt(server, doors[server.name]) * 1e3)
    return figures


def prompt_cold(servers, rounds):
    """The first connection after the server's start."""
    figures = {server.name: [] for server in servers}
    for server in in_turn(servers, rounds):
        server.stop()
        server.start()
        figures[server.name].append(to_prompt(server, server.door) * 1e3)
    return figures


class Local:
    """A terminal without a server: what the harness itself costs."""

    def __init__(self, command):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe("/bin/sh", ["sh", "-c", command], environment())

    def send(self, data):
        os.write(self.terminal, data)

    def read(self, patience=60.0):
        ready, _, _ = select.select([self.terminal], [], [], patience)
        if not ready:
            raise Failed(f"nothing for {patience} s from a terminal here")
        try:
            return os.read(self.terminal, 1 << 16)
        except OSError:
            return b""

    def leave(self):
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


def echo(servers, keys):
    """One key, and back comes its echo; all servers and a terminal here key by key in turn."""
    ends = {}
    figures = {server.name: [] for server in servers} | {"floor": []}
    try:
        for server in servers:
            client = ends[server.name] = Client(server.door)
            client.prompt()
            client.send(b"echo re''ady; cat >/dev/null\r")
            client.expect(re.compile(rb"ready\r\n$"))
        ends["floor"] = Local("echo ready; cat >/dev/null")
        ends["floor"].read()
        time.sleep(0.3)
        names = list(ends)
        for key in range(keys):
            for name in names if key % 2 == 0 else reversed(names):
                end = ends[name]
                at = now()
                # A line of 60, so that the terminal's own buffer is never full.
                end.send(b"x" if key % 60 else b"\r")
                end.read(10.0)
                figures[name].append((now() - at) * 1e3)
                # A person is no flood: what follows a key has time to come.
                time.sleep(0.004)
    finally:
        for end in ends.values():
            end.leave()
    return figures


def fast(server):
    return server.door if server.name == "sshd" else server.door.as_user("alice+open")


def out_once(door, cipher, size):
    """MB/s of a command's output, from its first byte to its last."""
    with Client(door, f"head -c {size} /dev/zero", terminal=False, cipher=cipher) as client:
        count = len(client.read())
        begin = now()
        counted = 0
        while more := client.read():
            counted += len(more)
        took = now() - begin
    if count + counted != size:
        raise Failed(f"{count + counted} bytes of {size}")
    return counted / took / MB


def in_once(door, cipher, size):
    """MB/s of a command's input, from when it reads to when it has all."""
    with Client(door, "echo on; head -c %d | wc -c" % size, terminal=False, cipher=cipher) as client:
        client.expect(re.compile(rb"on\n"))
        block = bytes(1 << 16)

        def feed():
            left = size
            try:
                while left > 0:
                    left -= os.write(client.input, block[: min(left, len(block))])
            except OSError:
                pass
        feeding = threading.Thread(target=feed, daemon=True)
        begin = now()
        feeding.start()
        seen = client.expect(re.compile(rb"\d+\n"))
        took = now() - begin
        feeding.join(10)
    if int(seen.split()[-1]) != size:
        raise Failed(f"{seen!r}, not {size}")
    return size / took / MB


def throughput(servers, rounds, size, once):
    """By cipher and server."""
    figures = {cipher: {server.name: [] for server in servers} for cipher in CIPHERS}
    for server in in_turn(servers, rounds):
        for cipher, name in CIPHERS.items():
            server.settled()
            figures[cipher][server.name].append(once(fast(server), name, size))
    return figures


def printed(end, size):
    """MB/s of what a terminal prints. A terminal makes two bytes of each end of a line."""
    count = len(end.read())
    begin = last = now()
    counted = 0
    while count + counted < size:
        more = end.read()
        if not more:
            break
        counted += len(more)
        last = now()
    return counted / (last - begin) / MB


def terminal_out(servers, rounds, size):
    """What a program prints on a terminal, recorded where that is done, and on a terminal here."""
    figures = {server.name: [] for server in servers} | {"floor": []}
    for server in in_turn(servers, rounds):
        server.settled()
        with Client(fast(server), "exec 2>/dev/null; " + PRINTING.format(size)) as client:
            figures[server.name].append(printed(client, size))
        local = Local(PRINTING.format(size))
        figures["floor"].append(printed(local, size))
        local.leave()
    return figures


def processor(servers, rounds, size, command, terminal):
    """Milliseconds on a processor for each MB that comes out, of what is the server's own. Other work on
    the machine lengthens these less than anything else here."""
    figures = {server.name: [] for server in servers}
    for server in in_turn(servers, rounds):
        server.settled()
        # It goes on when it is told to, and is still there when it is looked at.
        with Client(fast(server), f"echo on; read x; {command.format(size)}; sleep 30", terminal=terminal) as client:
            client.expect(re.compile(rb"on\r?\n"))
            server.settled()
            own = server.own()
            before = processor_time(own)
            client.send(b"\n")
            counted = 0
            while counted < size:
                more = client.read()
                counted += len(more)
                if not more:
                    raise Failed(f"{counted} bytes of {size}")
            figures[server.name].append((processor_time(own) - before) / size * MB * 1e3)
    return figures


def recorded_alone(ours, rounds, size):
    """What the shim records of a terminal whose person has gone, by the recording's own times, beside
    a terminal here that is only read."""
    figures = {ours.name: [], "floor": []}
    for _ in range(rounds):
        ours.settled()
        before = set(recordings(ours))
        with Client(fast(ours)) as client:
            client.prompt()
            client.send(b"sleep 1.5; echo fi''rst; " + PRINTING.format(size).encode() + b"; echo la''st; exit\r")
            client.expect(re.compile(rb"\n"))
        # The client is gone; what is printed from here on goes to the recording alone.
        path = wait_for("a recording", lambda: set(recordings(ours)) - before).pop()
        wait_for("the last line", lambda: b"last" in tail(path), pause=0.1)
        ours.at_rest()
        figures[ours.name].append(recorded_rate(path, size))
        local = Local(PRINTING.format(size))
        figures["floor"].append(printed(local, size))
        local.leave()
    return figures


def recordings(server):
    return glob.glob(server.at("data/recordings/**/*.cast"), recursive=True)


def tail(path):
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
        return file.read()


def recorded_rate(path, size):
    first = last = None
    begun, count, ahead = False, 0, 0
    with open(path, encoding="utf-8") as file:
        next(file)
        for line in file:
            at, code, data = json.loads(line)
            if code != "o":
                continue
            if not begun:
                begun = "first\r\n" in data
                continue
            if first is None:
                first, ahead = at, len(data)
            count, last = count + len(data), at
            if "last" in data:
                break
    if count < size:
        raise Failed(f"{count} bytes of {size} are recorded")
    return (count - ahead) / (last - first) / MB


def leaving(server, seconds, clients=8):
    """Sessions a second: connect, `true`, leave; so many clients at a time."""
    until, done, wrong = now() + seconds, [], []

    def come_and_go():
        while now() < until:
            words = server.door.command(terminal=False) + ["true"]
            begin = now()
            ended = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, env=environment())
            (done if ended.returncode == 0 else wrong).append((now() - begin, ended.stderr[-200:]))

    begin = now()
    threads = [threading.Thread(target=come_and_go) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise Failed(f"{server.name}: {len(wrong)} of {len(wrong) + len(done)} sessions failed: {wrong[0]}")
    return len(done) / (now() - begin)


def sessions_a_second(servers, rounds, seconds):
    figures = {server.name: [] for server in servers}
    for server in in_turn(servers, rounds):
        server.settled()
        figures[server.name].append(leaving(server, seconds))
    for server in servers:
        if server.name != "sshd":
            server.at_rest()
    return figures


def memory_of_idle(server, count):
    """KB for each idle terminal: what the server's processes share of memory, less what it was before,
    the shells themselves apart; and by the name of the process."""
    server.stop()
    server.start()
    server.settled()
    # What is made once is made now.
    with Client(server.door) as client:
        client.prompt()
        client.leave(politely=True)
    if server.name != "sshd":
        server.at_rest()
    time.sleep(1)

    def shares():
        by_name = {}
        for pid, name in server.own().items():
            by_name[name] = by_name.get(name, 0) + memory(pid)
        return by_name

    before, clients = shares(), []
    try:
        for _ in range(count):
            client = Client(server.door)
            clients.append(client)
            client.prompt()
        server.settled()
        time.sleep(2)
        after = shares()
    finally:
        for client in clients:
            client.leave()
    if server.name != "sshd":
        server.stop()
        server.start()
    each = {name: (after[name] - before.get(name, 0)) / count / 1024 for name in after}
    return sum(each.values()), each


def lateness(server, count):
    """Milliseconds between when a session that may last 5 s should have ended and when its person reads
    that it has, all at a time. By the clock of people, since a session's start is on record by that."""
    door, read, wrong = server.door.as_user("alice+short"), [], []

    def stay():
        try:
            with Client(door) as client:
                client.expect(re.compile(rb"Session timeout"), 60)
                read.append(time.time())
        except Failed as failed:
            wrong.append(failed)

    threads = [threading.Thread(target=stay) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise Failed(f"{len(wrong)} sessions did not end as they should: {wrong[0]}")
    server.at_rest()
    # All last as long, so who began first ends first.
    began = sorted(filter(None, map(start_of_a_short_one, recordings(server))))[-count:]
    return [(end - start - 5.0) * 1e3 for start, end in zip(began, sorted(read))]


def start_of_a_short_one(recording):
    """By its sidecar."""
    with open(recording.removesuffix(".cast") + ".json") as sidecar:
        told = json.load(sidecar)
    return datetime.fromisoformat(told["started_at"].replace("Z", "+00:00")).timestamp() if told["profile"] == "short" else None


def docker_each(rounds):
    """`docker run` each time, to the prompt: what a container for each connection costs at the least."""
    image = subprocess.run(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True)
    images = [name for name in image.stdout.split() if "<none>" not in name]
    if image.returncode != 0 or not images:
        return None
    figures = []
    for _ in range(rounds):
        begin = now()
        local = Local(f"exec docker run --rm -it --network none --memory 256m --cpus 0.5 --pids-limit 100 {images[0]} sh")
        seen = b""
        while not PROMPT.search(re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", seen)):
            more = local.read()
            if not more:
                return None
            seen += more
        figures.append((now() - begin) * 1e3)
        local.send(b"exit\r")
        while local.read():
            pass
        local.leave()
    return figures
