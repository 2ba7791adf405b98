// A session that a real ssh drives, seen in a browser while it goes on; and taken over.

import { assert, needed, scenario, screen, signIn, tell, until } from "./lib.mjs";

const [name, password] = [needed("SOJOURN_USER"), needed("SOJOURN_PASSWORD")];

await scenario(async ({ window }) => {
  const page = await window();
  await signIn(page, name, password);
  await page.getByRole("heading", { name: "Nobody has been here yet" }).waitFor();
  await tell("ssh");
  // It comes by itself where there was nothing.
  const row = page.getByRole("list", { name: "Sessions" }).getByRole("link").first();
  await row.waitFor();
  assert.match(await row.innerText(), /running[\s\S]*alice/);
  await row.click();
  const shows = (text) => until(text, async () => (await screen(page)).includes(text));
  await tell("type echo seen-$((40+2))");
  await shows("seen-42");
  await page.getByText("alice types").waitFor();

  // Looking on is not typing.
  await page.locator(".xterm-helper-textarea").focus();
  await page.keyboard.type("echo mine-$((1+1))\n");
  await tell("type echo more-$((40+3))");
  await shows("more-43");
  assert.ok(!(await screen(page)).includes("mine-"), "a watcher types nothing");

  await page.getByRole("button", { name: "Take over" }).click();
  await until("the keyboard", async () => (await page.getByText("alice types").count()) === 0);
  await page.keyboard.type("echo taken-$((7*7))\n");
  await shows("taken-49");

  // New ones wait where there is a list, until they are asked for.
  await page.goto("/sessions");
  await row.waitFor();
  await tell("ssh");
  const news = page.getByRole("button", { name: "1 new" });
  await news.waitFor();
  assert.equal(await page.getByRole("list", { name: "Sessions" }).getByRole("link").count(), 1);
  await news.click();
  await until("two", async () => (await page.getByRole("list", { name: "Sessions" }).getByRole("link").count()) === 2);

  // The kill switch wants to be meant.
  await page.getByRole("button", { name: "End all…" }).click();
  const dialog = page.getByRole("dialog");
  assert.ok(await dialog.getByRole("button", { name: "End all of them" }).isDisabled());
  await dialog.getByLabel("Type end all to go on").fill("end all");
  await dialog.getByRole("button", { name: "End all of them" }).click();
  await until("they end", async () => /ended[\s\S]*ended/.test(await page.getByRole("list", { name: "Sessions" }).innerText()));
});
