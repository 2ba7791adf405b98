// A login that nears its end says so in time; one that has ended says why.

import { look, needed, scenario, signIn, tell, until } from "./lib.mjs";

const [name, password] = [needed("SOJOURN_USER"), needed("SOJOURN_PASSWORD")];

await scenario(async ({ window }) => {
  const page = await window({ expect: [/status of 401/] });
  await page.goto("/me");
  // All that the page asks for at first: what came after the clock had moved would keep the login.
  const asked = ["logins", "totp", "tokens"].map((what) => page.waitForResponse((answer) => answer.url().endsWith(`/api/me/${what}`)));
  await signIn(page, name, password);
  await page.getByRole("heading", { name }).waitFor();
  await Promise.all(asked);

  await tell("advance 26m");
  await look(page);
  await page.getByText("this login ends in").waitFor();
  await page.getByRole("button", { name: "Stay signed in" }).click();
  await until("the reminder is gone", async () => (await page.getByText("this login ends in").count()) === 0);

  // Nothing that the page asks by itself keeps it alive.
  await page.getByRole("link", { name: "Sessions", exact: true }).click();
  await page.getByRole("heading", { name: "Sessions" }).waitFor();
  await tell("advance 20m");
  await page.waitForResponse((answer) => answer.url().includes("/api/sessions?"));
  await tell("advance 11m");
  await look(page);
  await page.getByText("nothing was done with it for a while").waitFor();
  await signIn(page, name, password);
  await page.getByRole("heading", { name: "Sessions" }).waitFor();

  // Over while the page was away: it says so as well.
  await tell("advance 31m");
  await page.reload();
  await page.getByText("nothing was done with it for a while").waitFor();
});
