// A terminal of a session over a WebSocket: output with its place in the whole, input, and what is
// said beside them. Comes back by itself after a break, with what was missed and nothing twice.

export interface Snapshot {
  seq: number;
  cols: number;
  rows: number;
  data: string;
}

export interface Said {
  type: string;
  [field: string]: unknown;
}

export interface Watcher {
  /** Bytes of the terminal. */
  output(bytes: Uint8Array): void;
  /** The screen is to be drawn anew. */
  snapshot(screen: Snapshot): void;
  /** Anything else the gateway says. */
  said(frame: Said): void;
  /** Whether the connection stands; false with the seconds until the next try. */
  link(up: boolean, again: number): void;
  /** It will not come back: the session or the login is over, or this is not allowed. */
  closed(code: number, reason: string): void;
}

const BACKOFF = [1, 2, 4, 8, 15];
const LAST = new Set([1000, 4401, 4403]);
/** Typed while the line was down; more than this is refused rather than kept. */
const MOST_PENDING = 4096;

export class Attachment {
  private socket: WebSocket | null = null;
  private tries = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private seq: number | null = null;
  private pending: Uint8Array[] = [];
  private stopped = false;

  constructor(
    private readonly session: string,
    private readonly mode: "drive" | "watch",
    private readonly watcher: Watcher,
  ) {
    this.dial();
  }

  private dial(): void {
    const url = new URL(`/api/sessions/${this.session}/attach`, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("mode", this.mode);
    if (this.seq !== null) url.searchParams.set("from", String(this.seq));
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      this.tries = 0;
      this.watcher.link(true, 0);
      for (const bytes of this.pending.splice(0)) socket.send(bytes as Uint8Array<ArrayBuffer>);
    };
    socket.onmessage = (event) => this.frame(event.data);
    socket.onclose = (event) => this.lost(event);
  }

  private frame(data: unknown): void {
    if (data instanceof ArrayBuffer) {
      if (data.byteLength < 8) return;
      const at = Number(new DataView(data).getBigUint64(0));
      let bytes = new Uint8Array(data, 8);
      // What was seen before the break is not shown again.
      if (this.seq !== null && at < this.seq) bytes = bytes.subarray(Math.min(this.seq - at, bytes.length));
      this.seq = Math.max(this.seq ?? 0, at + data.byteLength - 8);
      if (bytes.length > 0) this.watcher.output(bytes);
      return;
    }
    const said = JSON.parse(String(data)) as Said;
    if (said.type === "snapshot") {
      const screen = said as unknown as Snapshot;
      this.seq = screen.seq;
      this.watcher.snapshot(screen);
    } else this.watcher.said(said);
  }

  private lost(event: CloseEvent): void {
    if (this.socket === event.target) this.socket = null;
    if (this.stopped) return;
    if (LAST.has(event.code)) {
      this.stop();
      this.watcher.closed(event.code, event.reason);
      return;
    }
    const again = BACKOFF[Math.min(this.tries, BACKOFF.length - 1)]!;
    this.tries += 1;
    this.watcher.link(false, again);
    this.timer = setTimeout(() => this.dial(), again * 1000);
  }

  private get up(): boolean {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  /** Types. While the line is down a little is kept for when it is back; false: it was not taken. */
  input(bytes: Uint8Array): boolean {
    if (this.up) {
      this.socket?.send(bytes as Uint8Array<ArrayBuffer>);
      return true;
    }
    const waiting = this.pending.reduce((sum, piece) => sum + piece.length, 0);
    if (this.stopped || waiting + bytes.length > MOST_PENDING) return false;
    this.pending.push(bytes);
    return true;
  }

  /** Says something; lost when the line is down. */
  say(frame: Said): void {
    if (this.up) this.socket?.send(JSON.stringify(frame));
  }

  /** Tries again at once. */
  hurry(): void {
    if (this.up || this.stopped) return;
    clearTimeout(this.timer);
    this.dial();
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    this.socket?.close(1000);
    this.socket = null;
  }
}
