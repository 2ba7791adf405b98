#!/usr/bin/env python3
"""Where the time of a gateway goes: runs one of the bench's measures against it under `perf record`, and
draws a flame graph of what is Sojourn's own.

    bench/flame.py --binary target/release/sojourn --what exec-out --out docs/flames/exec-out.svg

Needs root and perf (Debian: linux-perf). The release build keeps its symbols, so nothing is built anew.
"""

import argparse
import html
import re
import subprocess
import sys
import tempfile
import threading
import time

import measures
from client import Client
from servers import Sojourn

WIDTH, ROW = 1200, 17
# Threads and processes that are the gateway's: the rest is clients and what they run.
OURS = re.compile(r"^(sojourn.*|tokio-rt-worker|sqlx-sqlite.*|init|youki.*|main|also)$")


def exec_out(server):
    measures.out_once(measures.fast(server), measures.CIPHERS["aes128-gcm"], 100 * measures.MB)


def exec_in(server):
    measures.in_once(measures.fast(server), measures.CIPHERS["aes128-gcm"], 100 * measures.MB)


def terminal(server):
    with Client(measures.fast(server), "exec 2>/dev/null; " + measures.PRINTING.format(20 * measures.MB)) as client:
        measures.printed(client, 20 * measures.MB)


def sessions(server):
    measures.leaving(server, 5)


WHAT = {"exec-out": exec_out, "exec-in": exec_in, "terminal": terminal, "sessions": sessions}


def plain(symbol):
    """A name without what only the compiler needs."""
    symbol = re.sub(r"\+0x[0-9a-f]+$|::h[0-9a-f]{16}$|\{\{|\}\}", "", symbol)
    while (shorter := re.sub(r"<[^<>]*>", "", symbol)) != symbol:
        symbol = shorter
    return symbol.replace("::::", "::").strip(":") or "?"


def stacks(path):
    """Stacks of what is ours, from the outermost frame, with how often each was seen."""
    script = subprocess.run(["perf", "script", "--no-inline", "-i", path, "-F", "comm,pid,ip,sym"], check=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace").stdout
    seen = {}
    for sample in script.split("\n\n"):
        lines = sample.strip("\n").split("\n")
        head = lines[0].rsplit(None, 1)
        if len(head) < 2 or not OURS.match(head[0].strip()):
            continue
        frames = [plain(line.strip().split(" ", 1)[-1]) for line in lines[1:] if line.strip()]
        stack = (head[0].strip(), *reversed([frame for frame in frames if frame != "[unknown]"]))
        seen[stack] = seen.get(stack, 0) + 1
    return seen


def tree(seen):
    root = {"count": 0, "below": {}}
    for stack, count in seen.items():
        node = root
        node["count"] += count
        for frame in stack:
            node = node["below"].setdefault(frame, {"count": 0, "below": {}})
            node["count"] += count
    return root


def colour(name):
    value = sum(ord(char) * (at + 1) for at, char in enumerate(name))
    return f"rgb({205 + value % 50},{80 + value % 110},{40 + value % 40})"


def draw(root, title):
    """The graph as SVG: a frame is as wide as it was on the processor, and stands on who called it."""
    total, least, boxes, deepest = root["count"], WIDTH * 0.0018, [], 0

    def place(node, x, depth):
        nonlocal deepest
        for name, below in sorted(node["below"].items()):
            width = WIDTH * below["count"] / total
            if width >= least:
                deepest = max(deepest, depth)
                boxes.append((x, depth, width, name, below["count"]))
                place(below, x, depth + 1)
            x += width

    place(root, 0.0, 0)
    height = (deepest + 1) * ROW + 30
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
             f'font-family="monospace" font-size="11"><rect width="100%" height="100%" fill="#fffdf6"/>'
             f'<text x="6" y="16">{html.escape(title)}</text>']
    for x, depth, width, name, count in boxes:
        y = height - (depth + 1) * ROW
        text = html.escape(name)
        parts.append(f'<g><title>{text}: {100 * count / total:.1f} %</title>'
                     f'<rect x="{x:.1f}" y="{y}" width="{max(width - 0.4, 0.4):.1f}" height="{ROW - 1}" fill="{colour(name)}"/>')
        letters = int((width - 4) / 6.7)
        if letters >= 4:
            shown = name if len(name) <= letters else name[: letters - 1] + "…"
            parts.append(f'<text x="{x + 2:.1f}" y="{y + 12}">{html.escape(shown)}</text>')
        parts.append("</g>")
    return "".join(parts) + "</svg>\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/sojourn")
    parser.add_argument("--what", choices=WHAT, required=True)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    with Sojourn(arguments.binary) as server, tempfile.TemporaryDirectory(prefix="sojourn-flame-") as directory:
        server.start()
        server.settled()
        WHAT[arguments.what](server)
        over = threading.Event()

        def work():
            while not over.is_set():
                WHAT[arguments.what](server)

        working = threading.Thread(target=work)
        working.start()
        time.sleep(0.5)
        try:
            # Whatever these start is followed as well, so all but the first few sandboxes; nobody else is.
            lasting = ("sojourn-zygote", "sojourn-runner")
            pids = [pid for pid, name in server.own().items() if pid == server.process.pid or name in lasting]
            words = ["perf", "record", "-p", ",".join(map(str, pids)), "-F", "499", "--call-graph", "dwarf,16384",
                     "-o", f"{directory}/perf", "--", "sleep", str(arguments.seconds)]
            # It gives up where a thread ends while it begins.
            for _ in range(5):
                if subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                    break
        finally:
            over.set()
            working.join()
        seen = stacks(f"{directory}/perf")
    if not seen:
        sys.exit("flame: nothing of ours was seen")
    with open(arguments.out, "w") as out:
        out.write(draw(tree(seen), f"{arguments.what}: {sum(seen.values())} samples of what is Sojourn's own; hover for names"))


if __name__ == "__main__":
    main()
