// Pictures of every page, in both lights, on a wide window and a phone: SOJOURN_SHOTS is where to.

import { join } from "node:path";
import { conversation } from "./conversation.mjs";
import { furnish } from "./furnish.mjs";
import { ask, needed, scenario, signIn } from "./lib.mjs";
import { machines } from "./machines.mjs";

const TO = needed("SOJOURN_SHOTS");
const [name, password] = [needed("SOJOURN_USER"), needed("SOJOURN_PASSWORD")];
const ONLY = process.env["SOJOURN_ONLY"]?.split(",");
const SIZES = { 1440: { width: 1440, height: 900 }, 390: { width: 390, height: 844 } };

const there = (what) => async (page) => page.locator(what).first().waitFor();

/** A page's name, where it is, and what to do or to wait for there first. */
const PAGES = [
  ["sessions", "/sessions", there(".row")],
  ["wall", "/sessions?view=wall", async (page) => {
    await there(".lines")(page);
    await page.waitForTimeout(2500);
  }],
  ["new", "/sessions/new"],
  ["terminal", async (page) => `/sessions/${(await live(page, page.viewportSize().width < 500 ? "a look from the train" : "what fills the disk")).id}`, there(".xterm-rows span")],
  ["over", async (page) => `/sessions/${(await first(page, (one) => one.ended_at && one.harness === "shell")).id}`, there("dl")],
  ["agent", (page) => conversation(page, name), there("button:has-text('Allow once')")],
  ["people", "/people", there(".people li")],
  ["account", "/me", there("main li")],
  ["audit", "/audit", there(".row")],
  ["event", "/audit", async (page) => page.locator(".row").nth(2).click()],
  ["recordings", "/recordings", there("main li")],
  ["replay", async (page) => `/recordings/${(await first(page, isRecorded)).id}?t=86400`, there(".xterm-rows span")],
  ["files", async (page) => `/sessions/${(await first(page, isRecorded)).id}/files`, there("main li")],
  ["palette", "/sessions", async (page) => {
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox").pressSequentially("re");
  }],
  ["profiles", "/profiles", there("main dl")],
  ["runners", (page) => machines(page, name), there(".harness")],
  ["health", "/health", there("main dl")],
];

async function first(page, fits) {
  const { body } = await ask(page, "GET", "/api/sessions?limit=200");
  const found = body.items.find(fits);
  if (!found) throw new Error("there is no such session");
  return found;
}

const isRecorded = (one) => one.ended_at && one.harness === "shell" && one.files?.entries > 0;

const live = (page, why) => first(page, (one) => !one.ended_at && one.why === why);

await scenario(async ({ window }) => {
  await furnish(window, name, password);
  for (const colorScheme of ["light", "dark"])
    for (const [width, viewport] of Object.entries(SIZES)) {
      const page = await window({ colorScheme, viewport, expect: [/./], ...(width === "390" ? { hasTouch: true, isMobile: true } : {}) });
      const shoot = (what) => page.screenshot({ path: join(TO, `${what}-${colorScheme}-${width}.png`) });
      await page.goto("/");
      await page.getByLabel("Name").waitFor();
      if (!ONLY || ONLY.includes("sign-in")) await shoot("sign-in");
      await signIn(page, name, password);
      for (const [what, where, first] of PAGES) {
        if (ONLY && !ONLY.includes(what)) continue;
        try {
          await page.goto(typeof where === "string" ? where : await where(page));
          await page.locator("main h1").first().waitFor();
          await first?.(page);
          // Letters, pictures of screens, and what is drawn a moment after.
          await page.waitForTimeout(1000);
          await shoot(what);
        } catch (error) {
          console.log(`${what}: ${error.message.split("\n")[0]}`);
        }
      }
      await page.context().close();
    }
});
