// Thousands of sessions: the list stays light, and the keyboard finds its way in it.

import { assert, needed, scenario, signIn, until } from "./lib.mjs";

const [name, password] = [needed("SOJOURN_USER"), needed("SOJOURN_PASSWORD")];
const MANY = 3000;

const one = (n) => ({
  id: `01a20323-0000-7000-8000-${String(n).padStart(12, "0")}`,
  user: `user${n % 40}`,
  door: "ssh",
  harness: "shell",
  profile: "default",
  runner: "local",
  cwd: null,
  status: n < 5 ? "running" : "ended",
  attached: false,
  why: `number ${n}`,
  labels: {},
  created_at: "2026-11-22T08:00:00Z",
  started_at: "2026-11-22T08:00:00Z",
  ended_at: n < 5 ? null : "2026-11-22T09:00:00Z",
  exit: n < 5 ? null : { code: 0 },
  end_reason: n < 5 ? null : "exited",
  limits: { max_runtime_seconds: 3600, idle_timeout_seconds: 1800, max_output_bytes: 1000 },
  lease: null,
  recovery: null,
});

await scenario(async ({ window }) => {
  const page = await window();
  await page.route(/\/api\/sessions\?/, (route) => {
    const from = Number(new URL(route.request().url()).searchParams.get("cursor") ?? 0);
    const items = Array.from({ length: Math.min(100, MANY - from) }, (_, n) => one(from + n));
    return route.fulfill({ json: { items, next_cursor: from + 100 < MANY ? String(from + 100) : null } });
  });
  await signIn(page, name, password);
  const rows = page.getByRole("list", { name: "Sessions" }).getByRole("link");
  await rows.first().waitFor();
  for (let turns = 0; turns < 200; turns += 1) {
    await page.evaluate(() => (document.querySelector("main").scrollTop = 1e9));
    if (await page.getByText(`number ${MANY - 1}`, { exact: true }).count()) break;
    await page.waitForTimeout(30);
  }
  await page.getByText(`number ${MANY - 1}`, { exact: true }).waitFor();
  assert.ok((await rows.count()) < 80, "only what can be seen is there");
  await page.evaluate(() => (document.querySelector("main").scrollTop = 0));
  await page.getByText("number 0", { exact: true }).waitFor();
  const slow = await page.evaluate(async () => {
    const main = document.querySelector("main");
    let slowest = 0;
    let last = performance.now();
    for (let turn = 0; turn < 60; turn += 1) {
      main.scrollTop += 700;
      await new Promise(requestAnimationFrame);
      const now = performance.now();
      slowest = Math.max(slowest, now - last);
      last = now;
    }
    return Math.round(slowest);
  });
  console.log(`the slowest frame while scrolling: ${slow} ms`);
  await page.evaluate(() => (document.querySelector("main").scrollTop = 0));
  for (let n = 0; n < 30; n += 1) await page.keyboard.press("j");
  await until("the chosen row is seen", async () => page.locator(".chosen").getByText("number 29", { exact: true }).isVisible());
  await page.keyboard.press("/");
  assert.ok(await page.getByRole("searchbox", { name: "Search" }).evaluate((field) => field === document.activeElement));
});
