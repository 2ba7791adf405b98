"""The servers, each started here on a free port of loopback, with keys and settings of its own, and
gone afterwards. Nothing of the machine is changed."""

import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

from client import Door, Failed, now

# A user id that nothing else here has.
UID = 65_433
# How long a server may take to come up, and to go.
PATIENCE = 60.0
# The pool of the profiles that have one.
POOL = 8


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, condition, patience=PATIENCE, pause=0.01):
    deadline = now() + patience
    while now() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(pause)
    raise Failed(f"{what}: not within {patience:.0f} s")


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def make_key(path, kind="ed25519"):
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "bench", "-f", path], check=True)
    return path


def status_of(pid):
    """Parent and name of a process; none when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            text = stat.read()
    except OSError:
        return None
    name, rest = text[text.index("(") + 1:].rsplit(") ", 1)
    return int(rest.split()[1]), name


def tree(root):
    """A process and all below it, with their names."""
    below, names = {}, {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        status = status_of(pid)
        if status:
            names[int(pid)] = status[1]
            below.setdefault(status[0], []).append(int(pid))
    found, left = {}, [root]
    while left:
        pid = left.pop()
        if pid in names:
            found[pid] = names[pid]
        left += below.get(pid, [])
    return found


def memory(pid):
    """Its share of memory (PSS) in bytes; none of a process that is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            return sum(int(line.split()[1]) << 10 for line in rollup if line.startswith("Pss:"))
    except OSError:
        return 0


def processor_time(pids):
    """Seconds that these processes have been on a processor, whatever else was on it."""
    sum_of = 0
    for pid in pids:
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            try:
                with open(path) as stat:
                    sum_of += int(stat.read().split()[0])
            except OSError:
                pass
    return sum_of / 1e9


class Server:
    """A started process with a directory that goes with it."""

    name = "server"
    port = 0

    def __init__(self, directory=None):
        self.dir = tempfile.mkdtemp(prefix="sojourn-bench-", dir=directory)
        os.chmod(self.dir, 0o755)
        self.process = None

    def at(self, name):
        return os.path.join(self.dir, name)

    def put(self, name, text):
        with open(self.at(name), "w") as file:
            file.write(text)
        return self.at(name)

    def spawn(self, words, env=None):
        with open(self.at("log"), "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, env=env)

    def log(self):
        with open(self.at("log"), errors="replace") as log:
            return log.read()

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None
        # Its children may be a moment behind it.
        wait_for("the end of its listener", lambda: not listens(self.port))

    def close(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Sshd(Server):
    """Debian's sshd with its defaults, less PAM, which makes it quicker. Its user exists in namespaces
    of its own alone, and all it started ends with it."""

    name = "sshd"

    def __init__(self, directory=None):
        super().__init__(directory)
        key = make_key(self.at("key"))
        make_key(self.at("host"))
        os.mkdir(self.at("home"))
        os.chown(self.at("home"), UID, UID)
        shutil.copy(key + ".pub", self.at("authorized"))
        with open("/etc/passwd") as users:
            self.put("passwd", users.read() + f"alice:*:{UID}:{UID}::{self.at('home')}:/bin/bash\n")
        self.port = free_port()
        self.put("config", f"""Port {self.port}
ListenAddress 127.0.0.1
HostKey {self.at('host')}
AuthorizedKeysFile {self.at('authorized')}
PasswordAuthentication no
UsePAM no
StrictModes no
PrintMotd no
PidFile none
MaxStartups 1000
LogLevel ERROR
""")
        self.door = Door(self.name, self.port, "alice", key)

    def start(self):
        self.spawn(["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c",
                    f"mount --bind {self.at('passwd')} /etc/passwd && mount -t tmpfs tmpfs /run && "
                    f"mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -f {self.at('config')}"])
        wait_for("sshd", lambda: listens(self.port))
        return self

    def settled(self):
        """It makes nothing ahead."""

    def own(self):
        """What it runs, shells apart."""
        return {pid: name for pid, name in tree(self.process.pid).items() if name not in ("bash", "sh", "unshare")}


class Sojourn(Server):
    """The gateway as it is installed: it drops to a user of its own, records, and audits."""

    name = "sojourn"

    def __init__(self, binary, directory=None, name="sojourn"):
        super().__init__(directory)
        self.name, self.binary = name, os.path.abspath(binary)
        key = make_key(self.at("key"))
        self.port, self.web, self.numbers = free_port(), free_port(), free_port()
        self.put("sojourn.toml", f"""data_dir = "{self.at('data')}"
[server]
user = "65534"
[web]
listen = "127.0.0.1:{self.web}"
[[ssh]]
listen = "127.0.0.1:{self.port}"
[metrics]
listen = "127.0.0.1:{self.numbers}"
[log]
format = "json"
[limits]
max_concurrent_sessions = 2000
max_sessions_per_user = 2000
requests_per_minute = 0
detach_grace = "60s"
[profiles.default]
pool = {POOL}
# As the default one, with nothing made ahead.
[profiles.drained]
pool = 0
# As much of the machine as sshd gives: for throughput.
[profiles.open]
pool = 2
cpu = {os.cpu_count()}
max_output = "0"
[profiles.short]
pool = {POOL}
session_timeout = "5s"
warn_before = "0s"
grace = "1s"
""")
        self.door = Door(name, self.port, "alice", key)
        self.known = False

    def cli(self, *words, text=None):
        return subprocess.run([self.binary, *words, "--config", self.at("sojourn.toml")], check=True, input=text,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True).stdout

    def start(self):
        self.spawn([self.binary, "serve", "--config", self.at("sojourn.toml")])
        try:
            wait_for("the gateway", lambda: self.process.poll() is not None or listens(self.port))
        except Failed as failed:
            raise Failed(f"{failed}\n{self.log()}") from None
        if self.process.poll() is not None:
            raise Failed(f"the gateway ended\n{self.log()}")
        if not self.known:
            self.cli("user", "add", "alice", "--password-stdin", text="a bench is to sit on, too\n")
            self.cli("user", "key", "add", "alice", self.at("key.pub"))
            self.known = True
        return self

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.numbers}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def settled(self):
        """Waits until every pool is as full as it is to be."""
        def full():
            pools = {}
            for line in self.metrics().splitlines():
                if line.startswith("sojourn_pool_sandboxes{"):
                    labels, value = line[len("sojourn_pool_sandboxes"):].rsplit(" ", 1)
                    profile, state = labels.split('"')[1], labels.split('"')[3]
                    pools.setdefault(profile, {})[state] = float(value)
            return pools and all(pool["ready"] >= pool["wanted"] and not pool["making"] for pool in pools.values())
        wait_for("a full pool", full)

    def at_rest(self):
        """Waits until no session is left, and the pools are full."""
        def none():
            for line in self.metrics().splitlines():
                if line.startswith("sojourn_sessions{") and not line.endswith(" 0"):
                    return False
            return True
        wait_for("the end of all sessions", none)
        self.settled()

    def own(self):
        """What it runs, shells apart: gateway, zygote, runner, shims, and what is process 1 inside."""
        return {pid: name for pid, name in tree(self.process.pid).items() if name not in ("bash", "sh")}

    def cookie(self):
        """Of alice, signed in."""
        body = json.dumps({"username": "alice", "password": "a bench is to sit on, too"}).encode()
        request = urllib.request.Request(f"http://localhost:{self.web}/api/auth/login", data=body,
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.headers["Set-Cookie"].split(";")[0]
