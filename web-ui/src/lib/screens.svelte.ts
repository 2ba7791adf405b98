// The screens of many terminals at the same time, small: one socket for all that can be seen. While
// nobody looks at the page nobody looks at them.

import { SvelteMap } from "svelte/reactivity";

export interface Run {
  text: string;
  fg?: string;
  bg?: string;
  bold?: boolean;
  inverse?: boolean;
}

export interface Screen {
  cols: number;
  rows: number;
  lines: Run[][];
}

/** As many as the gateway shows at the same time. */
const MOST = 24;
const BACKOFF = [1, 2, 4, 8, 15];
/** Something is said now and then, so that the gateway knows that somebody is there. */
const PULSE = 20_000;

export class Screens {
  /** What each shows; null: there is nothing to see. */
  readonly shown = new SvelteMap<string, Screen | null>();
  private wanted: string[] = [];
  private socket: WebSocket | null = null;
  private tries = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pulse: ReturnType<typeof setInterval> | undefined;
  private stopped = false;

  constructor() {
    document.addEventListener("visibilitychange", this.turned);
  }

  /** These can be seen. */
  look(sessions: string[]): void {
    const wanted = sessions.slice(0, MOST);
    if (wanted.length === this.wanted.length && wanted.every((id, n) => id === this.wanted[n])) return;
    this.wanted = wanted;
    for (const id of this.shown.keys()) if (!wanted.includes(id)) this.shown.delete(id);
    this.dial();
    this.say();
  }

  stop(): void {
    this.stopped = true;
    document.removeEventListener("visibilitychange", this.turned);
    this.close();
  }

  private readonly turned = (): void => {
    if (document.visibilityState === "visible") this.dial();
    else this.close();
  };

  private close(): void {
    clearTimeout(this.timer);
    clearInterval(this.pulse);
    const socket = this.socket;
    this.socket = null;
    socket?.close(1000);
  }

  private dial(): void {
    if (this.socket || this.stopped || this.wanted.length === 0 || document.visibilityState !== "visible") return;
    clearTimeout(this.timer);
    const url = new URL("/api/screens", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.onopen = () => {
      this.tries = 0;
      this.say();
    };
    socket.onmessage = (event) => this.hear(String(event.data));
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.socket = null;
      clearInterval(this.pulse);
      // The login is over, or this is not for them.
      if (this.stopped || event.code >= 4400) return;
      const again = BACKOFF[Math.min(this.tries, BACKOFF.length - 1)] ?? 15;
      this.tries += 1;
      this.timer = setTimeout(() => this.dial(), again * 1000);
    };
    clearInterval(this.pulse);
    this.pulse = setInterval(() => this.say(), PULSE);
  }

  private say(): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type: "look", sessions: this.wanted }));
  }

  private hear(text: string): void {
    const said = JSON.parse(text) as { type: string; session: string } & Screen;
    if (said.type === "dark") this.shown.set(said.session, null);
    if (said.type === "screen") this.shown.set(said.session, { cols: said.cols, rows: said.rows, lines: said.lines });
  }
}
