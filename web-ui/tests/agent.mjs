// A conversation in two browsers: what one is asked both see, the first answer counts, and both are
// told who gave it. What is written while the agent works waits, and can be changed and taken back.

import { accessible, ask, assert, needed, scenario, signIn, until } from "./lib.mjs";

const [name, password, harness, cwd] = [needed("SOJOURN_USER"), needed("SOJOURN_PASSWORD"), needed("SOJOURN_HARNESS"), needed("SOJOURN_CWD")];
/** What the agent is told to do: to ask leave, to go on until it is interrupted, to say something. */
const [ASKS, WORKS, SAYS] = [needed("SOJOURN_ASKS"), needed("SOJOURN_WORKS"), needed("SOJOURN_SAYS")];

await scenario(async ({ window }) => {
  const one = await window();
  await signIn(one, name, password);
  const made = await ask(one, "POST", "/api/sessions", { harness, cwd, prompt: ASKS });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  const path = `/sessions/${made.body.session_id}`;
  // A phone: there the question is the whole screen.
  const two = await window({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  await signIn(two, name, password);
  await one.goto(path);
  await two.goto(path);
  const allow = (page) => page.getByRole("button", { name: "Allow once" });
  await allow(one).waitFor();
  await allow(two).waitFor();
  await accessible(one, "a prompt");
  const card = await two.locator(".card").boundingBox();
  assert.ok(card && card.width === 390 && card.height === 844, JSON.stringify(card));

  // It is still asked after a reload, and once.
  await one.reload();
  await allow(one).waitFor();
  assert.equal(await allow(one).count(), 1);

  await allow(two).click();
  const told = new RegExp(`allowed by ${name}`);
  await one.getByText(told).waitFor();
  await two.getByText(told).waitFor();
  assert.equal(await allow(one).count(), 0);

  // The turn is over; the next one is interrupted, with something that waits behind it.
  const field = one.getByLabel("Message to the agent");
  await one.getByRole("button", { name: "Send" }).waitFor();
  await field.fill(WORKS);
  await field.press("Enter");
  const stop = one.getByRole("button", { name: "Interrupt" });
  await stop.waitFor();
  await field.fill(SAYS);
  await one.getByRole("button", { name: "Queue" }).click();
  await field.fill("this is taken back");
  await field.press("Enter");
  const queue = one.getByRole("list", { name: "Messages that wait" });
  await until("both wait", async () => (await queue.getByRole("button", { name: "Take back" }).count()) === 2);
  await queue.getByRole("listitem").filter({ hasText: "this is taken back" }).getByRole("button", { name: "Take back" }).click();
  await until("one waits", async () => (await queue.getByRole("button", { name: "Take back" }).count()) === 1);

  // A draft outlives a reload.
  await field.fill("half a thought");
  await one.reload();
  assert.equal(await field.inputValue(), "half a thought");
  await field.fill("");
  await stop.click();
  await one.getByText("Interrupted.").waitFor();
  await until("what waited is said", async () => (await queue.count()) === 0);
  await one.locator(".item.is-user", { hasText: SAYS }).waitFor();
  assert.equal(await one.locator(".item.is-user").count(), 3, "nothing twice");
  await accessible(one, "a conversation");

  // When it is over it can be read, and replayed.
  await ask(one, "DELETE", `/api${path}`);
  await one.getByText("This conversation is over.").waitFor();
  await one.getByRole("link", { name: "Replay" }).click();
  await one.getByRole("slider", { name: "Moment" }).waitFor();
  await one.locator("main").press("End");
  await one.getByText(told).waitFor();
  await one.locator("main").press("0");
  await until("its beginning", async () => (await one.getByText(told).count()) === 0);
});
