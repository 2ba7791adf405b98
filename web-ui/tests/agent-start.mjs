// An agent is started with the form: in a directory that is not there, which is said and corrected, and
// then where it is. Its question is answered, and it is ended.

import { accessible, needed, scenario, signIn } from "./lib.mjs";

const [name, password, harness, cwd] = [needed("SOJOURN_USER"), needed("SOJOURN_PASSWORD"), needed("SOJOURN_HARNESS"), needed("SOJOURN_CWD")];
const [ASKS, SAYS] = [needed("SOJOURN_ASKS"), needed("SOJOURN_SAYS")];

await scenario(async ({ window }) => {
  const page = await window();
  await signIn(page, name, password);
  await page.getByRole("link", { name: "New session" }).click();
  await page.getByRole("radio", { name: new RegExp(harness) }).check();
  await accessible(page, "the form of an agent");
  await page.getByLabel("What it is to do").fill(ASKS);
  await page.getByLabel("Directory").fill(`${cwd}/is-not-there`);
  await page.getByLabel("Why").fill("a try");
  await page.getByRole("button", { name: `Start ${harness}` }).click();

  // What is wrong is said, and nothing has to be filled in again.
  await page.getByText("It did not start").waitFor();
  await page.getByText(/is-not-there/).first().waitFor();
  await accessible(page, "a start that failed");
  await page.getByRole("link", { name: "Correct it and try again" }).click();
  await page.getByRole("radio", { name: new RegExp(harness), checked: true }).waitFor();
  const field = (label, value) => page.waitForFunction(([label, value]) => [...document.querySelectorAll("label")].some((one) => one.textContent.includes(label) && one.querySelector("input, textarea")?.value === value), [label, value]);
  await field("What it is to do", ASKS);
  await field("Why", "a try");
  await field("Directory", `${cwd}/is-not-there`);
  await page.getByLabel("Directory").fill(cwd);
  await page.getByRole("button", { name: `Start ${harness}` }).click();

  // Its start; then what was said, and what it asks.
  await page.getByText(/ started in /).waitFor();
  await page.locator(".item.is-user", { hasText: ASKS }).waitFor();
  const allow = page.getByRole("button", { name: "Allow once" });
  await allow.click();
  await page.getByText(new RegExp(`allowed by ${name}`)).waitFor();
  await page.getByRole("button", { name: "Send" }).waitFor();
  await page.getByLabel("Message to the agent").fill(SAYS);
  await page.getByRole("button", { name: "Send" }).click();
  await page.locator(".item.is-user", { hasText: SAYS }).waitFor();
  await page.getByRole("button", { name: "Send" }).waitFor();

  await page.getByRole("button", { name: "End", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "End it" }).click();
  await page.getByText("This conversation is over.").waitFor();

  // The directory is offered the next time.
  await page.goto("/sessions/new");
  await page.getByRole("radio", { name: new RegExp(harness) }).check();
  await page.locator(`#directories option[value="${cwd}"]`).waitFor({ state: "attached" });
});
