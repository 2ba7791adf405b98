// A login that is ended from another device: its terminal closes and its page says why; the session
// goes on.

import { assert, needed, scenario, signIn, startTerminal, until } from "./lib.mjs";

const [name, password] = [needed("SOJOURN_USER"), needed("SOJOURN_PASSWORD")];

await scenario(async ({ window }) => {
  const lost = await window({ expect: [/status of 401/] });
  await signIn(lost, name, password);
  await startTerminal(lost);
  const session = lost.url();

  const mine = await window({ expect: [/status of 403/] });
  await mine.goto("/me");
  await signIn(mine, name, password);
  const began = Date.now();
  await mine.getByRole("button", { name: "End all others" }).click();
  await lost.getByText("ended from another device").waitFor();
  assert.ok(Date.now() - began < 5000, "soon");
  assert.equal(await lost.locator(".xterm").count(), 0, "nothing of it is left on the screen");

  await mine.goto(session);
  await until("the session goes on", async () => (await mine.getByText("running").count()) > 0);
  await signIn(lost, name, password);
  await lost.locator(".xterm").waitFor();
  assert.equal(lost.url(), session, "back where they were");
});
