// What a session showed is replayed: from its beginning, from where a word stands, from a link to a
// moment. And what it changed is listed and read.

import { accessible, ask, assert, needed, scenario, screen, signIn, until } from "./lib.mjs";

const [name, password] = [needed("SOJOURN_USER"), needed("SOJOURN_PASSWORD")];

await scenario(async ({ window }) => {
  const page = await window();
  await signIn(page, name, password);
  const made = await ask(page, "POST", "/api/sessions", { harness: "shell", cols: 90, rows: 24 });
  assert.equal(made.status, 201);
  const id = made.body.session_id;
  await page.goto(`/sessions/${id}`);
  const shows = (text) => until(text, async () => (await screen(page)).includes(text));
  await shows("sandbox-");
  const type = async (line) => {
    await page.locator(".xterm-helper-textarea").focus();
    await page.keyboard.type(`${line}\n`);
  };
  await type("echo first-$((40+2))");
  await shows("first-42");
  await type("echo 'kept for later' > kept.txt; clear; echo second-$((40+3))");
  await shows("second-43");
  await ask(page, "DELETE", `/api/sessions/${id}`);
  await until("its end", async () => (await ask(page, "GET", `/api/sessions/${id}`)).body.ended_at);

  // It stands among the recordings, and plays by itself.
  await page.goto("/recordings");
  await page.locator(`a[href="/recordings/${id}"]`).click();
  await page.getByRole("slider", { name: "Moment" }).waitFor();
  await page.getByLabel("Speed").selectOption("16");
  await shows("second-43");
  await accessible(page, "a replay");

  // Back to its beginning, and by a search to where a word stands.
  await page.locator("main").press("0");
  await until("nothing is shown", async () => !(await screen(page)).includes("second-43"));
  await page.keyboard.press("/");
  const field = page.getByLabel("Search in this recording");
  await until("the field", () => field.evaluate((it) => it === document.activeElement));
  await field.fill("first-42");
  await page.getByText("1 place", { exact: true }).waitFor();
  await field.press("Enter");
  await shows("first-42");
  assert.ok(!(await screen(page)).includes("second-43"), "it is not there yet");

  // What was typed is a mark.
  await field.fill("");
  const mark = page.getByRole("button", { name: /echo first-/ });
  await mark.waitFor();

  // A link to this moment shows this moment, to whoever may see it.
  await page.getByRole("button", { name: /^Link to/ }).click();
  await until("the moment in the address", () => new URL(page.url()).searchParams.get("t"));
  const link = page.url();
  const other = await window();
  await signIn(other, name, password);
  await other.goto(link);
  await until("the same moment", async () => {
    const text = await other.locator(".xterm-rows").innerText().catch(() => "");
    return text.includes("first-42") && !text.includes("second-43");
  });

  // What it changed.
  await other.getByRole("link", { name: "Files", exact: true }).click();
  const entry = other.getByRole("button", { name: /kept\.txt/ });
  await entry.click();
  await other.getByText("kept for later").waitFor();
  await accessible(other, "files");
});
