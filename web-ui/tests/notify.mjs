// A browser is told that an agent waits while nobody looks: it is added by a click, the push service is
// told something that only the browser can read, and its worker says it.

import { accessible, ask, assert, AT, needed, scenario, signIn, tell, until } from "./lib.mjs";

const [name, password, harness, cwd] = [needed("SOJOURN_USER"), needed("SOJOURN_PASSWORD"), needed("SOJOURN_HARNESS"), needed("SOJOURN_CWD")];
const [ASKS, BROWSER] = [needed("SOJOURN_ASKS"), JSON.parse(needed("SOJOURN_BROWSER"))];

await scenario(async ({ window }) => {
  const page = await window();
  const context = page.context();
  await context.grantPermissions(["notifications"], { origin: AT });
  // A browser's own push service is not to be had here; what it gives is.
  await context.addInitScript((browser) => {
    const given = {
      toJSON: () => ({ endpoint: browser.endpoint, keys: { p256dh: browser.p256dh, auth: browser.auth } }),
      unsubscribe: async () => localStorage.removeItem("given") ?? true,
    };
    PushManager.prototype.subscribe = async (options) => {
      localStorage.setItem("given", String(options.applicationServerKey.length));
      return given;
    };
    PushManager.prototype.getSubscription = async () => (localStorage.getItem("given") ? given : null);
  }, BROWSER);
  await signIn(page, name, password);
  await page.goto("/me");
  await page.getByRole("button", { name: "Notify this browser" }).click();
  const section = page.locator("section", { has: page.getByRole("heading", { name: "Notifications" }) });
  await section.getByText("this one").waitFor();
  await accessible(page, "notifications");
  assert.equal(await page.evaluate(() => localStorage.getItem("given")), "65", "it is bound to a key");

  // It is still told after a reload; who signs out leaves nothing behind.
  await page.reload();
  await section.getByText("this one").waitFor();
  await page.getByRole("button", { name: "Sign out" }).last().click();
  await signIn(page, name, password);
  await page.goto("/me");
  await page.getByRole("button", { name: "Notify this browser" }).click();
  await section.getByText("this one").waitFor();
  assert.equal((await ask(page, "GET", "/api/me/push")).body.items.length, 1);

  const made = await ask(page, "POST", "/api/sessions", { harness, cwd, prompt: ASKS });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  const told = await tell("told phone");
  const said = JSON.parse(told);
  assert.equal(said.session, made.body.session_id);
  assert.equal(said.type, "prompt");

  // The worker gets what was told.
  const devtools = await context.newCDPSession(page);
  const registered = new Promise((found) =>
    devtools.on("ServiceWorker.workerRegistrationUpdated", ({ registrations }) => {
      // The one from before signing out is still known, and gone.
      const ours = registrations.findLast((one) => one.scopeURL.startsWith(AT) && !one.isDeleted);
      if (ours) found(ours.registrationId);
    }),
  );
  await devtools.send("ServiceWorker.enable");
  await devtools.send("ServiceWorker.deliverPushMessage", { origin: AT, registrationId: await registered, data: told });
  const shown = () =>
    page.evaluate(async () => {
      const { getNotifications } = ServiceWorkerRegistration.prototype;
      const all = await getNotifications.call(await navigator.serviceWorker.ready);
      return all.map(({ title, body, tag, silent, data }) => ({ title, body, tag, silent, data }));
    });
  const [notification] = await until("a notification", async () => {
    const all = await shown();
    return all.length > 0 && all;
  });
  assert.equal(notification.title, `Prompt open · ${said.harness}`);
  assert.equal(notification.body, `${said.tool}: ${said.description}`);
  assert.deepEqual([notification.tag, notification.silent, notification.data], [said.request, true, { session: said.session }]);

  await section.getByRole("button", { name: "Remove" }).first().click();
  await page.getByRole("button", { name: "Notify this browser" }).waitFor();
  await ask(page, "DELETE", `/api/sessions/${made.body.session_id}`);
});
