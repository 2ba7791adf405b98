#!/usr/bin/env python3
"""Measures Sojourn beside OpenSSH's sshd, in one run on one machine, and prints one table of ratios.

    make bench                         what is said here, and what cargo measures inside the program
    bench/bench.py --binary FILE       this alone; --only prompt,rate chooses
    bench/bench.py --binary A --also B two programs of ours beside each other and sshd

Needs root (sandboxes are made), OpenSSH's client and server. Every loop is bounded: BENCH_SIZE=small
(the default) takes some minutes, BENCH_SIZE=full an hour. Take the ratios; the rest is the machine's.
"""

import argparse
import os
import shutil
import statistics
import sys
import traceback

import measures
from client import Failed
from servers import Sojourn, Sshd

SIZES = {
    "small": dict(prompts=15, colds=3, keys=300, bulks=3, bulk=100, prints=3, printed=20, rates=3, seconds=6, idle=20, late=20),
    "full": dict(prompts=60, colds=10, keys=2000, bulks=10, bulk=200, prints=8, printed=50, rates=6, seconds=15, idle=100, late=100),
}
KINDS = ["prompt", "echo", "exec", "terminal", "processor", "rate", "memory", "limit", "docker"]


def middle(values):
    return statistics.median(values)


def part(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def spread(values, digits):
    return f"{middle(values):.{digits}f} [{min(values):.{digits}f}–{max(values):.{digits}f}]"


class Table:
    """Rows as they come, also on standard error, so that who waits sees something."""

    def __init__(self, ours):
        self.ours, self.rows, self.notes = ours, [], []

    def head(self):
        return ["measured", *self.ours, "beside it", "ratio", "wanted", "reached"]

    def row(self, what, figures, beside, unit, digits=1, wanted=None, better="less"):
        """One measure: ours, and what stands beside it."""
        ratio = middle(figures[self.ours[0]]) / middle(figures[beside])
        cells = [f"{what}, {unit}", *(spread(figures[name], digits) for name in self.ours)]
        reached = wanted and (ratio <= wanted if better == "less" else ratio >= wanted)
        self.add(cells + [f"{beside} {spread(figures[beside], digits)}", f"**{ratio:.2f}**", wanted_text(wanted, better, " x"), answer(reached)])

    def plain(self, what, figures, unit, digits, wanted, beside="–"):
        """One measure with a number to reach and not a ratio; `figures` are one for each of ours."""
        shown = [f"{figure:.{digits}f}" for figure in figures]
        self.add([f"{what}, {unit}", *shown, beside, "–", wanted_text(wanted, "less", ""), answer(wanted and figures[0] <= wanted)])

    def add(self, cells):
        self.rows.append(cells)
        print("  " + " | ".join(cells), file=sys.stderr, flush=True)

    def markdown(self):
        lines = [self.head(), ["---"] * len(self.head()), *self.rows]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n\n" + "\n".join(f"- {note}" for note in self.notes)


def wanted_text(wanted, better, unit):
    return "–" if wanted is None else f"{'≤' if better == 'less' else '≥'} {wanted:g}{unit}"


def answer(reached):
    return {True: "yes", False: "no", None: "–"}[reached]


def prompt(table, servers, size):
    for what, measure, rounds, wanted in [
        ("connect → prompt, warm", measures.prompt_warm, size["prompts"], 0.2),
        ("connect → prompt, nothing made ahead", measures.prompt_drained, size["prompts"], None),
        ("connect → prompt, first after a start", measures.prompt_cold, size["colds"], None),
    ]:
        table.row(what, measure(servers, rounds), "sshd", "ms", 1, wanted)


def echo(table, servers, size):
    figures = measures.echo(servers, size["keys"])
    more = middle(figures[table.ours[0]]) - middle(figures["sshd"])
    table.row("key → echo, p50", figures, "sshd", "ms", 2)
    table.plain("key → echo, p50 above sshd's", [middle(figures[name]) - middle(figures["sshd"]) for name in table.ours], "ms", 2, 0.15)
    p99 = {name: part(values, 99) for name, values in figures.items()}
    table.add(["key → echo, p99, ms", *(f"{p99[name]:.2f}" for name in table.ours), f"sshd {p99['sshd']:.2f}, a terminal here {p99['floor']:.2f}",
               f"{p99[table.ours[0]] / p99['sshd']:.2f}", f"within {p99['floor']:.2f} of sshd's", answer(p99[table.ours[0]] <= p99["sshd"] + p99["floor"])])
    return more


def throughput(table, servers, size):
    for what, once, wanted in [("exec out", measures.out_once, 1.3), ("exec in", measures.in_once, 1.1)]:
        for cipher, figures in measures.throughput(servers, size["bulks"], size["bulk"] * measures.MB, once).items():
            table.row(f"{what}, {cipher}", figures, "sshd", "MB/s", 0, wanted if cipher == "aes128-gcm" else None, "more")


def terminal(table, servers, size):
    figures = measures.terminal_out(servers, size["prints"], size["printed"] * measures.MB)
    table.row("terminal out, recorded", figures, "sshd", "MB/s", 1, 1.0, "more")
    alone = {"floor": []}
    for server in servers:
        if server.name != "sshd":
            for name, values in measures.recorded_alone(server, size["prints"], size["printed"] * measures.MB).items():
                alone.setdefault(name, []).extend(values)
    table.row("terminal out, shim and recording alone", alone, "floor", "MB/s", 1, 0.9, "more")


def processor(table, servers, size):
    for what, command, terminal, more in [
        ("terminal out", measures.PRINTING, True, size["printed"]),
        ("exec out", "head -c {} /dev/zero", False, size["bulk"]),
    ]:
        figures = measures.processor(servers, size["prints"], more * measures.MB, command, terminal)
        table.row(f"processor time of the server, {what}", figures, "sshd", "ms/MB", 2)


def rate(table, servers, size):
    figures = measures.sessions_a_second(servers, size["rates"], size["seconds"])
    table.row("sessions a second, 8 clients, a sandbox each", figures, "sshd", "/s", 1, 0.7, "more")


def memory(table, servers, size):
    each = {}
    for server in servers:
        total, by_name = measures.memory_of_idle(server, size["idle"])
        each[server.name] = [total]
        parts = ", ".join(f"{name} {value:.0f}" for name, value in sorted(by_name.items(), key=lambda item: -item[1]) if value >= 1)
        table.notes.append(f"memory of {server.name}: {parts} KB for each of {size['idle']} idle sessions")
    table.row("memory of an idle session, shell apart", each, "sshd", "KB", 0, 0.2)


def limit(table, servers, size):
    late = {server.name: measures.lateness(server, size["late"]) for server in servers if server.name != "sshd"}
    table.plain("end of a session, late, p50", [middle(late[name]) for name in table.ours], "ms", 0, None)
    table.plain("end of a session, late, p99", [part(late[name], 99) for name in table.ours], "ms", 0, 200)


def docker(table, servers, size):
    figures = measures.docker_each(size["prompts"]) if shutil.which("docker") else None
    if figures is None:
        table.notes.append("docker: not here, or without an image; passed over")
        return
    warm = measures.prompt_warm([server for server in servers if server.name != "sshd"], size["prompts"])
    table.row("connect → prompt, warm, beside `docker run` alone", warm | {"docker": figures}, "docker", "ms", 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/sojourn", help="the program")
    parser.add_argument("--also", help="another build of it, measured in turn with it")
    parser.add_argument("--inside", help="a file with lines of the table that were measured inside the program")
    parser.add_argument("--only", default=",".join(KINDS), help="of " + ", ".join(KINDS))
    parser.add_argument("--dir", help="where data directories are made; default: the system's for temporary files")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: sandboxes are made as root: run it so")
    for program in ["ssh", "ssh-keygen", "unshare", "/usr/sbin/sshd"]:
        if not shutil.which(program):
            sys.exit(f"bench: {program} is missing (Debian: openssh-client, openssh-server, util-linux)")
    size = SIZES[os.environ.get("BENCH_SIZE") or "small"]
    chosen = arguments.only.split(",")
    if unknown := set(chosen) - set(KINDS):
        sys.exit(f"bench: no such measure: {', '.join(sorted(unknown))}")
    ours = [Sojourn(arguments.binary, arguments.dir)]
    if arguments.also:
        ours.append(Sojourn(arguments.also, arguments.dir, name="also"))
    table = Table([server.name for server in ours])
    servers, failed = [*ours, Sshd(arguments.dir)], False
    actions = dict(zip(KINDS, [prompt, echo, throughput, terminal, processor, rate, memory, limit, docker]))
    try:
        for server in servers:
            server.start()
        for kind in chosen:
            print(f"{kind} …", file=sys.stderr, flush=True)
            try:
                actions[kind](table, servers, size)
            except Failed:
                failed = True
                traceback.print_exc()
    finally:
        for server in servers:
            server.close()
    if arguments.inside:
        with open(arguments.inside) as inside:
            for line in inside:
                # Before the first of them stands the name of the test.
                _, bar, row = line.partition("| ")
                if bar:
                    cells = row.strip("| \n").split(" | ")
                    table.add(cells[:2] + ["–"] * (len(ours) - 1) + cells[2:])
    print(table.markdown())
    for what in ["ttyd", "cowrie"]:
        if not shutil.which(what):
            print(f"- {what}: not here; passed over")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
