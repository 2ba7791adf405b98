// The way in: the first password that must be changed, a second factor, its recovery codes.

import { accessible, assert, needed, scenario, signIn, tell, time, totp } from "./lib.mjs";

const FIRST = needed("SOJOURN_FIRST");
const OWN = "a few words in a row will do";

await scenario(async ({ window }) => {
  const page = await window({ expect: [/status of 401/, /status of 422/] });
  await page.goto("/sessions");
  await page.getByLabel("Name").fill("admin");
  await page.getByLabel("Password").fill("not this one at all");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  await page.getByLabel("Password").fill(FIRST);
  await page.getByRole("button", { name: "Sign in" }).click();

  await page.getByRole("heading", { name: "Choose your own password" }).waitFor();
  await accessible(page, "the first password");
  // It stays in the way, wherever one goes.
  await page.goto("/people");
  await page.getByRole("heading", { name: "Choose your own password" }).waitFor();
  await page.getByLabel("The password you came in with").fill(FIRST);
  await page.getByLabel("New password").fill("short");
  await page.getByLabel("The same again").fill("short");
  await page.getByRole("button", { name: "Use this password" }).click();
  await page.getByRole("alert").waitFor();
  await page.getByLabel("New password").fill(OWN);
  await page.getByLabel("The same again").fill(OWN);
  await page.getByRole("button", { name: "Use this password" }).click();
  await page.getByText("Your password is changed").waitFor();
  await signIn(page, "admin", OWN);
  await page.getByRole("heading", { name: "People" }).waitFor();

  await page.getByRole("link", { name: "My account" }).click();
  await page.getByRole("button", { name: "Add an authenticator" }).click();
  await page.getByRole("img", { name: "QR code for an authenticator" }).waitFor();
  const secret = await page.locator(".offer code").innerText();
  await accessible(page, "a second factor");
  await page.getByRole("textbox", { name: "Code" }).fill(totp(secret, await time()));
  await page.getByRole("button", { name: "Confirm" }).click();
  await page.locator(".codes li").first().waitFor();
  const codes = await page.locator(".codes li").allInnerTexts();
  assert.ok(codes.length >= 8, `${codes.length} recovery codes`);
  await page.getByText("A code is asked for after your password").waitFor();

  await page.getByRole("navigation").getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(await page.getByText("Your login ended").count(), 0, "who signs out is not told that it ended");
  await tell("advance 30s");
  await page.getByLabel("Name").fill("admin");
  await page.getByLabel("Password").fill(OWN);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("textbox", { name: "Code" }).fill("000000");
  await accessible(page, "the second step");
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("alert").waitFor();
  await page.getByRole("textbox", { name: "Code" }).fill(totp(secret, await time()));
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("heading", { name: "admin" }).waitFor();

  const other = await window();
  await other.goto("/");
  await other.getByLabel("Name").fill("admin");
  await other.getByLabel("Password").fill(OWN);
  await other.getByRole("button", { name: "Sign in" }).click();
  await other.getByRole("button", { name: "Use a recovery code" }).click();
  await other.getByLabel("Recovery code").fill(codes[0]);
  await other.getByRole("button", { name: "Continue" }).click();
  await other.getByRole("heading", { name: "Sessions" }).waitFor();
});
