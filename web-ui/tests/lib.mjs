// What every scenario needs: a browser that notices what it should not hear, people who sign in, codes
// of an authenticator. A scenario is told where the gateway is and who is there by its environment.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

export { assert };

const BROWSERS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Without a graphics card the terminal draws its letters as text, which can be read here. */
const ARGS = process.env["SOJOURN_DRAWN"] ? [] : ["--disable-3d-apis"];

/** The gateway's address. */
export const AT = needed("SOJOURN_URL");

/** Something the test was told. */
export function needed(name) {
  const value = process.env[name];
  assert.ok(value, `${name} is not set`);
  return value;
}

/** How long something may take that takes no time, on a machine with much else to do. */
export const PATIENCE = 60_000;

/** Runs a scenario in a browser, and fails it for what the page should not have said. */
export async function scenario(play) {
  const executablePath = process.env["CHROMIUM"] ?? BROWSERS.find((path) => existsSync(path));
  assert.ok(executablePath, "no Chromium: install Debian's package chromium");
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", ...ARGS] });
  const heard = [];
  const stage = {
    browser,
    /** A window of a browser of its own. `quiet`: refusals that the scenario brings about. */
    async window(options = {}) {
      const { expect = [], ...rest } = options;
      const context = await browser.newContext({ baseURL: AT, viewport: { width: 1440, height: 900 }, ...rest });
      context.setDefaultTimeout(PATIENCE);
      await context.addInitScript(() => {
        addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile ?? ""}`));
      });
      const page = await context.newPage();
      const listen = (text) => {
        if (!expect.some((pattern) => pattern.test(text))) heard.push(text);
      };
      page.on("console", (message) => message.type() === "error" && listen(`${message.text()} (${message.location().url})`));
      page.on("pageerror", (error) => listen(String(error.stack ?? error)));
      return page;
    },
  };
  let last = null;
  try {
    await play({
      ...stage,
      window: async (options) => {
        last = await stage.window(options);
        return last;
      },
    });
    assert.deepEqual(heard, [], "the console was silent");
  } catch (error) {
    if (last && process.env["SOJOURN_SHOT"]) await last.screenshot({ path: process.env["SOJOURN_SHOT"] }).catch(() => {});
    const shown = await last?.locator("body").innerText().catch(() => "");
    console.error(`${error.stack}\n--- heard: ${JSON.stringify(heard)}\n--- at ${last?.url()}\n${shown}`);
    process.exitCode = 1;
  } finally {
    await browser.close();
    process.stdin.destroy();
  }
}

/** Signs somebody in who has a password, at whatever address the window is. */
export async function signIn(page, name, password, code) {
  if (page.url() === "about:blank") await page.goto("/");
  // The page that somebody signs out of may have fields of such names.
  await page.getByRole("heading", { name: /^Sign in/ }).waitFor();
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
  if (code) {
    await page.getByRole("textbox", { name: "Code" }).fill(code());
    await page.getByRole("button", { name: "Continue" }).click();
  }
  await page.getByRole("navigation", { name: "Places" }).waitFor();
}

/** The code of an authenticator that was shown this secret, at this moment in milliseconds. */
export function totp(secret, now = Date.now()) {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  let bits = "";
  for (const letter of secret.replace(/[= ]/g, "")) bits += letters.indexOf(letter).toString(2).padStart(5, "0");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => Number.parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(now / 30_000)));
  const mac = createHmac("sha1", key).update(counter).digest();
  const at = mac[19] & 15;
  return String((mac.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

/** Asks the API with the window's login, as the page does. */
export async function ask(page, method, path, body) {
  return page.evaluate(
    async ([method, path, body]) => {
      const me = await (await fetch("/api/me")).json();
      const headers = { "content-type": "application/json", "x-csrf-token": me.csrf_token };
      const answer = await fetch(path, { method, headers: method === "GET" ? {} : headers, ...(body ? { body: JSON.stringify(body) } : {}) });
      const text = await answer.text();
      return { status: answer.status, body: text ? JSON.parse(text) : null };
    },
    [method, path, body],
  );
}

/** What the terminal shows, as text. */
export async function screen(page) {
  return page.locator(".xterm-rows").innerText();
}

/** Waits until something is so. */
export async function until(what, is, patience = PATIENCE) {
  const end = Date.now() + patience;
  for (;;) {
    const so = await is();
    if (so) return so;
    if (Date.now() > end) assert.fail(`waited for: ${what}`);
    await new Promise((go) => setTimeout(go, 50));
  }
}

/** Whoever cannot see the page well finds nothing serious in their way. */
export async function accessible(page, what) {
  await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations
      .filter((one) => ["serious", "critical"].includes(one.impact))
      .map((one) => `${one.id}: ${one.help} (${one.nodes.map((node) => `${node.target} ${node.any.map((any) => any.message).join(";")}`).slice(0, 3).join(" | ")})`);
  });
  assert.deepEqual(found, [], `${what} is accessible`);
}

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Has the test do what no browser can, and says what it answered. */
export async function tell(command) {
  console.log(`@${command}`);
  const { value, done } = await answers.next();
  assert.ok(!done, `nobody answered ${command}`);
  return value;
}

/** The gateway's time, in milliseconds. */
export const time = async () => Date.parse(await tell("now"));

/** Has the page ask what time it is for its login. */
export const look = (page) => page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));

/** Starts a terminal, and waits until it can be typed into. */
export async function startTerminal(page) {
  await page.goto("/sessions/new");
  await page.getByRole("button", { name: "Start a terminal" }).click();
  await page.waitForURL(/\/sessions\/[0-9a-f-]{36}$/);
  await prompted(page);
}

/** Waits for a shell's prompt. */
export const prompted = (page) => until("a prompt", async () => /[#$] *$/.test((await screen(page)).trim()));
