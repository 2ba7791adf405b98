// Everything can be gone to by a few letters, or by two keys; and there is a sheet that says which.

import { accessible, assert, needed, scenario, signIn, until } from "./lib.mjs";

const [name, password] = [needed("SOJOURN_USER"), needed("SOJOURN_PASSWORD")];

await scenario(async ({ window }) => {
  const page = await window();
  await signIn(page, name, password);
  await page.getByRole("heading", { level: 1 }).waitFor();
  const at = (path) => until(path, () => new URL(page.url()).pathname === path);

  await page.getByRole("button", { name: /Go to/ }).waitFor();
  await until("the palette", async () => {
    await page.keyboard.press("Control+k");
    return page.getByRole("combobox", { name: "" }).isVisible();
  });
  const field = page.getByPlaceholder("Where to, or what to do");
  await field.fill("rec");
  await accessible(page, "the palette");
  assert.match(await page.getByRole("option", { selected: true }).innerText(), /Recordings/);
  await field.press("Enter");
  await at("/recordings");
  assert.equal(await field.count(), 0, "it closes");

  // Escape leaves everything as it was.
  await page.keyboard.press("Control+k");
  await field.fill("no such thing at all");
  await page.getByText("Nothing is called that.").waitFor();
  await page.keyboard.press("Escape");
  await until("it is closed", async () => (await field.count()) === 0);
  await at("/recordings");

  await page.keyboard.press("g");
  await page.keyboard.press("h");
  await at("/health");
  await page.getByText("Healthy").waitFor();
  await accessible(page, "health");

  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
  await accessible(page, "the sheet");
  await page.keyboard.press("Escape");

  // Letters that are meant for a field stay there.
  await page.goto("/recordings");
  const search = page.getByLabel("Search");
  await search.click();
  await page.keyboard.type("g h?");
  assert.equal(await search.inputValue(), "g h?");
  await at("/recordings");

  await page.goto("/runners");
  await page.getByText("No machine of yours dials in yet.").waitFor();
  await accessible(page, "runners");
});
