// Machines for pictures: one at work, one paused, one that went home. Tests of runners have real ones;
// here they are only to be looked at.

const can = (name, version) => ({ name, available: true, version, note: null });
const cannot = (name, note) => ({ name, available: false, version: null, note });

export async function machines(page, user) {
  const ago = (minutes) => new Date(Date.now() - minutes * 60_000).toISOString();
  const build = { protocol: 1, build: "0.1.0", arch: "x86_64", os: "linux" };
  const one = (n, more) => ({ id: `01a2041c-7c1a-7f00-8000-0000000000a${n}`, owner: user, paused: false, connected: true, sessions: 0, max_sessions: 3, last_seen_at: ago(0), created_at: ago(60 * 24 * 40), ...more });
  const items = [
    one(1, {
      name: "laptop", sessions: 1, address: "192.0.2.7",
      about: { ...build, host: "thinkpad", directories: ["/home/ana/src", "/home/ana/notes"], harnesses: [can("claude", "2.4.1"), can("codex", "0.92.0"), cannot("gemini", "it is not on the PATH"), can("shell", null)] },
    }),
    one(2, {
      name: "build", paused: true, sessions: 2, max_sessions: 8, address: "198.51.100.20",
      about: { ...build, arch: "aarch64", host: "build-3.example.net", directories: ["/srv/builds"], harnesses: [can("opencode", "1.18.0"), can("shell", null)] },
    }),
    one(3, {
      name: "desk", connected: false, address: null, last_seen_at: ago(60 * 15),
      about: { ...build, host: "desk", directories: ["/home/ana"], harnesses: [can("claude", "2.4.0"), can("shell", null)] },
    }),
  ];
  await page.route("**/api/runners", (route) => route.fulfill({ json: { items, next_cursor: null } }));
  return "/runners";
}
