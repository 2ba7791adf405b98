// Many screens at once: what terminals show is seen in the list without opening them, and whoever is
// looked at sees by whom. Whose screens one may not see stay unseen.

import { accessible, ask, assert, needed, scenario, screen, signIn, startTerminal, tell, until } from "./lib.mjs";

const [name, password] = [needed("SOJOURN_USER"), needed("SOJOURN_PASSWORD")];

await scenario(async ({ window }) => {
  const bo = await window();
  await signIn(bo, "bo", password);
  await startTerminal(bo);
  await bo.keyboard.type('clear; echo -e "\\033[31mred\\033[0m bo-$((6*7))"\n');
  await until("what bo typed", async () => (await screen(bo)).includes("bo-42"));

  // bo's own wall: one screen, as it is and as it goes on.
  const own = await (await bo.context()).newPage();
  await own.goto("/sessions");
  await own.getByRole("button", { name: "As a wall of screens" }).click();
  const card = (page, text) => page.getByRole("list", { name: "Sessions" }).getByRole("listitem").filter({ hasText: text });
  await card(own, "bo-42").waitFor();
  const red = await card(own, "bo-42").getByText("red", { exact: true }).evaluate((run) => getComputedStyle(run).color);
  assert.equal(red, "rgb(255, 138, 122)");
  await bo.bringToFront();
  await bo.keyboard.type("echo on-$((5*5))\n");
  await until("what bo typed", async () => (await screen(bo)).includes("on-25"));
  await own.bringToFront();
  await card(own, "on-25").waitFor();
  await accessible(own, "a wall");
  await own.close();
  await bo.bringToFront();
  await until("nobody else", async () => (await bo.getByText("you, in another window").count()) === 0);

  // An admin sees it, too; bo sees that, while it lasts; and it is on record.
  const ana = await window();
  await signIn(ana, name, password);
  await ana.goto("/sessions?view=wall");
  await card(ana, "on-25").waitFor();
  await bo.getByText(`${name} watches`).waitFor();
  const watched = async () => (await ask(ana, "GET", "/api/audit?action=session_watched")).body.items;
  await until("a record of it", async () => (await watched()).some((event) => event.actor.user === name));
  const listed = (await ask(bo, "GET", "/api/sessions")).body.items[0];
  assert.deepEqual(listed.watched_by, [name]);
  await ana.getByRole("button", { name: "As a list" }).click();
  await until("nobody watches", async () => (await bo.getByText(`${name} watches`).count()) === 0);
  assert.equal((await watched()).length, 1, "on record once");

  // In a session itself both see each other.
  await ana.goto(`/sessions/${listed.id}`);
  await ana.getByText("bo types").waitFor();
  await bo.getByText(`${name} watches`).waitFor();

  // What somebody may not see is dark, whatever they ask for.
  await tell("ssh");
  const theirs = await until("alice's session", async () => (await ask(ana, "GET", "/api/sessions?user=alice")).body.items[0]);
  const said = await bo.evaluate(
    (id) =>
      new Promise((told) => {
        const socket = new WebSocket(`/api/screens`);
        socket.onopen = () => socket.send(JSON.stringify({ type: "look", sessions: [id] }));
        socket.onmessage = (event) => told(event.data);
      }),
    theirs.id,
  );
  assert.deepEqual(JSON.parse(said), { type: "dark", session: theirs.id });
});
