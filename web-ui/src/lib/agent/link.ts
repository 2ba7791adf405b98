// The socket of an agent's session. It comes back by itself and asks from the event after the last one it
// saw, so nothing is missed and nothing comes twice. What a person wrote is kept until the gateway has
// said that it has it, and is said again under the same id: the gateway takes each id once.

import type { AgentSaid, AgentTold, TerminalTold } from "../types";

/** What the gateway says: of the conversation, beside it, and what it says at a terminal, too. */
export type Frame = AgentTold | { type: "event"; [field: string]: unknown } | Extract<TerminalTold, { type: "here" | "login_expiring" | "login_ended" }>;

export interface Hears {
  frame(frame: Frame): void;
  /** Whether the connection stands; false with the seconds until the next try. */
  link(up: boolean, again: number): void;
  /** It will not come back. */
  closed(code: number, reason: string): void;
}

export interface Message {
  client_msg_id: string;
  content: string;
}

const BACKOFF = [1, 2, 4, 8, 15];
const LAST = new Set([1000, 4401, 4403]);
/** A side that hears nothing for so long takes the connection for dead, in seconds. */
const SILENCE = 45;

type Open = (url: URL) => WebSocket;

export class Link {
  private socket: WebSocket | null = null;
  private tries = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pulse: ReturnType<typeof setInterval> | undefined;
  private heard = 0;
  private stopped = false;
  private readonly unsaid = new Map<string, string>();

  constructor(
    private readonly session: string,
    private readonly mode: "drive" | "watch",
    /** The number of the first event that is wanted. */
    private readonly from: () => number,
    private readonly hears: Hears,
    unsaid: Message[] = [],
    private readonly open: Open = (url) => new WebSocket(url),
  ) {
    for (const one of unsaid) this.unsaid.set(one.client_msg_id, one.content);
    this.dial();
  }

  /** What the gateway does not have yet. */
  get pending(): Message[] {
    return [...this.unsaid].map(([client_msg_id, content]) => ({ client_msg_id, content }));
  }

  private dial(): void {
    const url = new URL(`/api/sessions/${this.session}/attach`, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("mode", this.mode);
    url.searchParams.set("from", String(this.from()));
    const socket = this.open(url);
    this.socket = socket;
    socket.onopen = () => {
      this.tries = 0;
      this.heard = Date.now();
      this.pulse = setInterval(() => this.beat(socket), 15_000);
      this.hears.link(true, 0);
      for (const one of this.pending) this.send({ type: "user_message", ...one });
    };
    socket.onmessage = (event) => {
      this.heard = Date.now();
      if (typeof event.data !== "string") return;
      this.hears.frame(JSON.parse(event.data) as Frame);
    };
    socket.onclose = (event) => this.lost(socket, event);
  }

  private beat(socket: WebSocket): void {
    if (Date.now() - this.heard > SILENCE * 1000) socket.close(4000);
    else this.send({ type: "ping" });
  }

  private lost(socket: WebSocket, event: CloseEvent): void {
    if (this.socket !== socket) return;
    this.socket = null;
    clearInterval(this.pulse);
    if (this.stopped) return;
    if (LAST.has(event.code)) {
      this.stop();
      this.hears.closed(event.code, event.reason);
      return;
    }
    const again = BACKOFF[Math.min(this.tries, BACKOFF.length - 1)] ?? 15;
    this.tries += 1;
    this.hears.link(false, again);
    this.timer = setTimeout(() => this.dial(), again * 1000);
  }

  private send(frame: AgentSaid): boolean {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  /** Says something to the agent; kept until it has arrived. */
  message(message: Message): void {
    this.unsaid.set(message.client_msg_id, message.content);
    this.send({ type: "user_message", ...message });
  }

  /** The gateway has said what becomes of it; what it was, if it was not known before. */
  arrived(id: string): string | undefined {
    const content = this.unsaid.get(id);
    this.unsaid.delete(id);
    return content;
  }

  /** Says something that is of no use later; false: it was not said. */
  say(frame: AgentSaid): boolean {
    return this.send(frame);
  }

  /** Tries again at once. */
  hurry(): void {
    if (this.socket || this.stopped) return;
    clearTimeout(this.timer);
    this.dial();
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    clearInterval(this.pulse);
    this.socket?.close(1000);
    this.socket = null;
  }
}
