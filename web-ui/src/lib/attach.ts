// A terminal of a session over a WebSocket: output with its place in the whole, input, and what is
// said beside them. Comes back by itself after a break, with what was missed and nothing twice.

import type { TerminalSaid, TerminalTold } from "./types";

export type Snapshot = Extract<TerminalTold, { type: "snapshot" }>;

export interface Watcher {
  /** Bytes of the terminal, and what to call when they have been drawn. */
  output(bytes: Uint8Array, drawn: () => void): void;
  /** The screen is to be drawn anew. */
  snapshot(screen: Snapshot): void;
  /** Anything else the gateway says. */
  said(frame: TerminalTold): void;
  /** Whether the connection stands; false with the seconds until the next try. */
  link(up: boolean, again: number): void;
  /** It will not come back: the session or the login is over, or this is not allowed. */
  closed(code: number, reason: string): void;
}

const BACKOFF = [0.5, 1, 2, 4, 8, 15];
/** Over; the login ended; not allowed. */
const LAST = new Set([1000, 4401, 4403]);
/** Typed while the line was down; more than this is refused rather than kept. */
const MOST_PENDING = 4096;
/** Drawn bytes after which the gateway is told: it stops when too many were not. */
const TELL_EVERY = 64 << 10;
/** So often the last output of a session that is over is asked for. */
const LAST_TRIES = 3;
/** How often something is said, so that a line that is dead is known to be. */
const PING_EVERY = 20_000;

export class Attachment {
  private socket: WebSocket | null = null;
  private tries = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pinging: ReturnType<typeof setInterval> | undefined;
  private unanswered = 0;
  /** Where the next output belongs: what came, and what was drawn of it. */
  private seq: number | null = null;
  private told = 0;
  private pending: Uint8Array[] = [];
  private driving = false;
  /** Whether it has been told since the line came back who types: until then what is typed waits. */
  private settled = false;
  private stopped = false;
  /** The session is over: what there is left to hear is its last output. */
  private ending = false;

  constructor(
    private readonly session: string,
    private readonly watcher: Watcher,
    private readonly mode?: "drive" | "watch",
  ) {
    this.dial();
  }

  private dial(): void {
    const url = new URL(`/api/sessions/${this.session}/attach`, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (this.mode) url.searchParams.set("mode", this.mode);
    if (this.seq !== null) url.searchParams.set("from", String(this.seq));
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.driving = false;
    this.settled = false;
    socket.onopen = () => {
      this.tries = 0;
      this.unanswered = 0;
      // From the first byte on: a flood may already be on its way.
      this.told = this.seq ?? 0;
      this.say({ type: "seen", seq: this.told });
      this.watcher.link(true, 0);
    };
    socket.onmessage = (event) => this.frame(event.data);
    socket.onclose = (event) => this.lost(event);
    clearInterval(this.pinging);
    this.pinging = setInterval(() => this.ping(), PING_EVERY);
  }

  /** Browsers do not tell when nothing comes any more. */
  private ping(): void {
    if (!this.up) return;
    this.unanswered += 1;
    if (this.unanswered > 2) this.socket?.close(4000);
    else this.say({ type: "ping" });
  }

  private frame(data: unknown): void {
    this.unanswered = 0;
    if (data instanceof ArrayBuffer) {
      if (data.byteLength < 8) return;
      const at = Number(new DataView(data).getBigUint64(0));
      const end = at + data.byteLength - 8;
      let bytes = new Uint8Array(data, 8);
      // What was seen before the break is not shown again.
      if (this.seq !== null && at < this.seq) bytes = bytes.subarray(Math.min(this.seq - at, bytes.length));
      this.seq = Math.max(this.seq ?? 0, end);
      if (bytes.length > 0) this.watcher.output(bytes, () => this.drawn(end));
      return;
    }
    const said = JSON.parse(String(data)) as TerminalTold;
    if (said.type === "snapshot") {
      this.seq = said.seq;
      this.told = said.seq;
      this.watcher.snapshot(said);
    } else {
      if (said.type === "driver") this.drives(said.you, said.user !== null);
      if (said.type !== "pong") this.watcher.said(said);
    }
  }

  private drawn(end: number): void {
    if (end - this.told < TELL_EVERY) return;
    this.told = end;
    this.say({ type: "seen", seq: end });
  }

  /** What was typed in the meantime goes to the one terminal it was meant for, or nowhere. */
  private drives(now: boolean, taken: boolean): void {
    this.driving = now;
    this.settled = true;
    if (now) for (const bytes of this.pending.splice(0)) this.socket?.send(bytes as Uint8Array<ArrayBuffer>);
    else if (taken) this.pending = [];
  }

  private lost(event: CloseEvent): void {
    if (this.socket !== event.target) return;
    this.socket = null;
    this.driving = false;
    clearInterval(this.pinging);
    if (this.stopped) return;
    if (LAST.has(event.code)) {
      this.stop();
      this.watcher.closed(event.code, event.reason);
      return;
    }
    if (this.ending && this.tries >= LAST_TRIES) {
      this.stop();
      this.watcher.closed(1000, "");
      return;
    }
    const again = BACKOFF[Math.min(this.tries, BACKOFF.length - 1)] ?? 15;
    this.tries += 1;
    this.watcher.link(false, again);
    this.timer = setTimeout(() => this.dial(), again * 1000);
  }

  private get up(): boolean {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  /** Types. While the line is down a little is kept for when it is back; false: it was not taken. */
  input(bytes: Uint8Array): boolean {
    if (this.up && this.driving) {
      this.socket?.send(bytes as Uint8Array<ArrayBuffer>);
      return true;
    }
    const waiting = this.pending.reduce((sum, piece) => sum + piece.length, 0);
    if (this.stopped || (this.up && this.settled) || waiting + bytes.length > MOST_PENDING) return false;
    this.pending.push(bytes);
    return true;
  }

  /** Says something; lost when the line is down. */
  say(frame: TerminalSaid): void {
    if (this.up) this.socket?.send(JSON.stringify(frame));
  }

  /** Tries again at once. */
  hurry(): void {
    if (this.socket || this.stopped) return;
    clearTimeout(this.timer);
    this.dial();
  }

  /** The session is over. Where the line is down it comes back once more, for what was printed last. */
  over(): void {
    if (this.ending) return;
    this.ending = true;
    this.tries = 0;
    this.hurry();
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    clearInterval(this.pinging);
    this.socket?.close(1000);
    this.socket = null;
  }
}
