// Every page: for those who see badly, in both lights, on a phone, after a reload; and how much of it
// has to come before it can be used.

import { accessible, ask, assert, needed, scenario, signIn, until } from "./lib.mjs";

const [name, password] = [needed("SOJOURN_USER"), needed("SOJOURN_PASSWORD")];
const FIRST_LOAD = 250_000;

const PAGES = [
  ["/sessions", "Sessions"],
  ["/sessions?view=wall", "Sessions"],
  ["/sessions/new", "New session"],
  ["/audit", "Audit log"],
  ["/people", "People"],
  ["/me", name],
  ["/recordings", "Recordings"],
  ["/runners", "Runners"],
  ["/profiles", "Profiles"],
  ["/health", "Health"],
];

await scenario(async ({ window }) => {
  let terminal = null;
  for (const [colorScheme, viewport] of [
    ["light", { width: 1440, height: 900 }],
    ["dark", { width: 390, height: 844 }],
    ["light", { width: 390, height: 844 }],
    ["dark", { width: 1440, height: 900 }],
  ]) {
    const page = await window({ colorScheme, viewport });
    const what = (where) => `${where}, ${colorScheme}, ${viewport.width}`;
    await page.goto("/sessions");
    await page.getByLabel("Name").waitFor();
    await accessible(page, what("the sign-in page"));
    await signIn(page, name, password);
    await page.getByRole("heading", { name: "Sessions" }).waitFor();
    if (!terminal) {
      const bytes = await page.evaluate(() => performance.getEntriesByType("resource").filter((one) => one.name.includes("/assets/")).reduce((sum, one) => sum + one.encodedBodySize, 0));
      console.log(`the first load: ${bytes} bytes`);
      assert.ok(bytes > 10_000 && bytes < FIRST_LOAD, `${bytes} bytes`);
      const made = await ask(page, "POST", "/api/sessions", { harness: "shell", why: "to look at" });
      assert.equal(made.status, 201, JSON.stringify(made.body));
      terminal = `/sessions/${made.body.session_id}`;
    }
    for (const [where, heading] of [...PAGES, [terminal, "to look at"]]) {
      await page.goto(where);
      const there = where === terminal ? page.locator(".xterm-screen") : page.getByRole("heading", { name: heading, level: 1 });
      await there.waitFor();
      if (where === "/sessions") await page.getByRole("list", { name: "Sessions" }).getByRole("link").first().waitFor();
      if (where === "/audit") await page.locator(".row").first().click();
      await accessible(page, what(where));
      const wide = await page.evaluate(() => [document.documentElement.scrollWidth, ...[...document.querySelectorAll("main")].map((main) => main.scrollWidth)]);
      assert.ok(wide.every((one) => one <= viewport.width), `${what(where)} fits: ${wide}`);
      await page.reload();
      await there.waitFor();
    }
    // One window over the page.
    await page.goto("/sessions");
    await page.getByRole("button", { name: "End all…" }).click();
    await accessible(page, what("a question"));
    await page.keyboard.press("Escape");
    await until("it is closed", async () => (await page.getByRole("dialog").count()) === 0);
    await page.goto("/nowhere/at/all");
    await page.getByText("There is no such page").waitFor();
  }
});
