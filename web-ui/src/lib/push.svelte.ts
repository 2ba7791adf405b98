// Being told by this browser when an agent waits, also when no page of Sojourn is open. Nobody is asked
// for leave but by a click of theirs.

import { get, post, Refusal, remove } from "./api";
import { login } from "./login.svelte";
import type { PushDevice, PushDevices } from "./types";

const KEPT = "sojourn-push";
const WORKER = "/push.js";

interface Kept {
  user: string;
  id: string;
}

let mine = $state<Kept | null>(kept());
/** How many times this browser was added anew by itself: what is listed is then another. */
let renewed = $state(0);

function kept(): Kept | null {
  try {
    return JSON.parse(localStorage.getItem(KEPT) ?? "null") as Kept | null;
  } catch {
    return null;
  }
}

function keep(now: Kept | null): void {
  mine = now;
  try {
    if (now) localStorage.setItem(KEPT, JSON.stringify(now));
    else localStorage.removeItem(KEPT);
  } catch {
    // Then it is so until the page is left.
  }
}

function bytes(base64url: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64url.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

/** Tells the gateway of this browser. */
async function tell(subscription: PushSubscription): Promise<void> {
  const { endpoint, keys } = subscription.toJSON();
  const added = await post<PushDevice>("/api/me/push", { endpoint, p256dh: keys?.["p256dh"], auth: keys?.["auth"] });
  keep({ user: login.me?.user ?? "", id: added.id });
}

export const push = {
  /** Whether this browser can be told anything. */
  get can(): boolean {
    return isSecureContext && "serviceWorker" in navigator && typeof PushManager !== "undefined" && typeof Notification !== "undefined";
  },
  /** The id of this browser, where it is told. */
  get id(): string | null {
    return mine && mine.user === login.me?.user ? mine.id : null;
  },

  get renewed(): number {
    return renewed;
  },

  async list(): Promise<PushDevices> {
    return get<PushDevices>("/api/me/push");
  },

  /** This browser is told from now on. Called by a click: only then a browser asks for leave. */
  async turnOn(key: string): Promise<void> {
    if ((await Notification.requestPermission()) !== "granted") throw new Error("This browser does not let Sojourn notify you; its settings for this site say so.");
    await navigator.serviceWorker.register(WORKER);
    const { pushManager } = await navigator.serviceWorker.ready;
    // One that is bound to another key is of no use.
    await (await pushManager.getSubscription())?.unsubscribe();
    try {
      await tell(await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(key) }));
    } catch (error) {
      if (error instanceof Refusal) throw error;
      throw new Error("This browser cannot reach its push service. Notifications while a page of Sojourn is open work all the same.", { cause: error });
    }
  },

  /** A browser is told no more. */
  async turnOff(id: string): Promise<void> {
    await remove(`/api/me/push/${id}`);
    if (id !== push.id) return;
    keep(null);
    const registered = await navigator.serviceWorker.getRegistration(WORKER);
    await (await registered?.pushManager.getSubscription())?.unsubscribe();
  },

  /** After a sign-in: this browser belongs to the new login. */
  async renew(): Promise<void> {
    if (!push.can || !push.id) return;
    const registered = await navigator.serviceWorker.getRegistration(WORKER);
    const subscription = await registered?.pushManager.getSubscription();
    if (subscription) await tell(subscription);
    else keep(null);
    renewed += 1;
  },
};
