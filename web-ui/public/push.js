// Says what waits while nobody looks: the service worker of the page. It is told by the gateway, over the
// browser's push service, which cannot read what it passes on. It keeps nothing, and answers no request.

const ID = /^[0-9a-f-]{36}$/;

addEventListener("push", (event) => event.waitUntil(show(event.data)));

addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data?.session));
});

async function show(data) {
  let said = {};
  try {
    said = data.json();
  } catch {
    // That something waits is worth saying all the same.
  }
  const session = ID.test(said.session ?? "") ? said.session : null;
  const pages = await clients.matchAll({ type: "window", includeUncontrolled: true });
  // Whoever has it before them needs no telling.
  if (session && pages.some((page) => page.focused && new URL(page.url).pathname === `/sessions/${session}`)) return;
  const what = said.type === "question" ? "Question open" : "Prompt open";
  const title = said.harness ? `${what} · ${said.harness}` : what;
  const body = said.description ? (said.type === "question" ? said.description : `${said.tool}: ${said.description}`) : "Sign in to see what is asked.";
  await registration.showNotification(title, { body, tag: said.request ?? "sojourn", data: { session }, icon: "/icon.svg", silent: true });
}

async function open(session) {
  const path = session ? `/sessions/${session}` : "/sessions";
  const pages = await clients.matchAll({ type: "window" });
  const there = pages.find((page) => new URL(page.url).pathname === path);
  if (there) return there.focus();
  return clients.openWindow(path);
}
