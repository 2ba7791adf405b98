// Something to see: people, and sessions of all kinds in the middle of their work.

import { ask, screen, signIn, tell, until } from "./lib.mjs";

const PASSWORD = "several words in a row";

export async function furnish(window, name, password) {
  const ana = await window({ expect: [/./] });
  await signIn(ana, name, password);
  for (const [user, role] of [
    ["mira", "member"],
    ["jonas", "member"],
    ["audit.team", "auditor"],
  ])
    await ask(ana, "POST", "/api/users", { name: user, role, password: PASSWORD });
  await ask(ana, "POST", "/api/users", { name: "newcomer" });
  await ask(ana, "POST", "/api/me/tokens", { name: "nightly backup", scopes: ["sessions"], expires_seconds: 30 * 86_400 });

  const start = async (page, body) => (await ask(page, "POST", "/api/sessions", { harness: "shell", cols: 120, rows: 36, ...body })).body.session_id;
  const end = (page, id) => ask(page, "DELETE", `/api/sessions/${id}`);
  const work = async (page, id, lines) => {
    await page.goto(`/sessions/${id}`);
    await until("a prompt", async () => /[#$] *$/.test((await screen(page)).trim()));
    await page.locator(".xterm-helper-textarea").focus();
    for (const line of lines) {
      await page.keyboard.type(`${line}\n`);
      await page.waitForTimeout(700);
    }
  };

  for (const why of ["rotate the certificates", "look at the queue", "restore a table"]) {
    const id = await start(ana, { why });
    await work(ana, id, ["uptime", "exit"]);
    await until("its end", async () => (await ask(ana, "GET", `/api/sessions/${id}`)).body.ended_at);
  }
  const others = [];
  for (const [user, whys] of [
    ["mira", ["deploy 4.2 to the west", "why is the cache cold"]],
    ["jonas", ["reproduce issue 41"]],
  ]) {
    const page = await window({ expect: [/./] });
    await signIn(page, user, PASSWORD);
    for (const why of whys) others.push(await start(page, { why, limits: { max_runtime_seconds: 600 + 900 * others.length } }));
    await work(page, others.at(-1), ["ls -l /etc | head -20"]);
  }
  await end(ana, others[1]);
  const disk = await start(ana, { why: "what fills the disk" });
  const vim = "vim -R -N -c 'syntax on' -c 'set number nowrap background=dark' -c 'normal 168Gzt' heapq.py";
  await work(ana, disk, [
    "export TERM=xterm-256color; cd /usr/lib/python3.[0-9]*/; clear",
    `tmux -f /dev/null -u new-session "${vim}" \\; split-window -h -p 42 'top -d 3' \\; split-window -v 'exec bash --norc' \\; set -g status-style bg=colour23,fg=colour252`,
    "PS1='$ '; clear",
    "du -sh /usr/share/{doc,icons,locale} 2>/dev/null | sort -h; df -h / /tmp",
    "printf '\\e[32mnothing to worry about\\e[0m\\n'",
  ]);
  const train = await start(ana, { why: "a look from the train", cols: 44, rows: 40 });
  await work(ana, train, ["PS1='\\[\\e[36m\\]\\w\\[\\e[0m\\] \\$ '; clear", "ls --color=always /", "df -h / /tmp | cut -c1-40", "free -m | cut -c1-42"]);
  await tell("ssh");
  await tell("type uptime");
}
