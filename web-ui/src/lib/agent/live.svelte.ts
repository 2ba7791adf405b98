// A conversation as a page shows it: events come as they come, and are drawn once a frame, however many
// there were.

import { get, post, Refusal } from "../api";
import { apply, asks, begin, type Conversation, type Item, message, open, type Waiting } from "./conversation";
import { type Happened, type Prompt, type Question, read } from "./events";
import { type Frame, Link, type Message } from "./link";

/** More events at once than these are not an agent that speaks, but a page that catches up. */
const MANY = 100;
/** Then it is drawn only so often, in milliseconds. */
const CALM = 600;

/** What is not of the conversation, and whoever shows it hears. */
export type Beside = Exclude<Frame, { type: "event" }> | { type: "closed"; code: number };

type Stands = Extract<Frame, { type: "status" }>;
type Asks = Extract<Frame, { type: "permission_prompt" | "question_prompt" }>;

export interface Answered {
  allow: boolean;
  remember?: boolean;
  reason?: string;
  answer?: Record<string, unknown>;
}

export class Live {
  /** Changes whenever something of the conversation did; what is drawn is read through it. */
  private version = $state(0);
  readonly conversation: Conversation = begin();
  up = $state(true);
  again = $state(0);
  /** What the runner's loss is called, while it is away. */
  away = $state(false);
  /** Said by the gateway, until the next thing is. */
  notice = $state("");
  over = $state(false);
  loading = $state(true);
  outbox = $state<Message[]>([]);
  private buffer: Happened[] = [];
  private frame = 0;
  private later: ReturnType<typeof setTimeout> | undefined;
  /** Much came lately: somebody catches up. */
  private burst = true;
  private fresh = true;
  private link: Link | null = null;

  constructor(
    private readonly session: string,
    /** Anything that is not of the conversation. */
    private readonly beside: (frame: Beside) => void,
    /** A message that the gateway did not take goes back to whoever wrote it. */
    private readonly refused: (content: string) => void,
  ) {}

  /** The items from this one on. */
  items(start: number): Item[] {
    void this.version;
    return this.conversation.items.slice(start);
  }
  get count(): number {
    void this.version;
    return this.conversation.items.length;
  }
  get asked(): ReturnType<typeof open> {
    void this.version;
    return open(this.conversation);
  }
  /** The conversation, read anew after each change. */
  get now(): Conversation {
    void this.version;
    return this.conversation;
  }
  get queue(): Waiting[] {
    void this.version;
    return this.conversation.queue;
  }

  /** Follows it. */
  attach(mode: "drive" | "watch"): void {
    this.link = new Link(
      this.session,
      mode,
      () => this.conversation.seq + 1,
      {
        frame: (frame) => this.hear(frame),
        link: (up, again) => {
          this.up = up;
          this.fresh = true;
          this.again = again;
        },
        closed: (code, reason) => {
          this.over = true;
          if (code !== 1000) this.notice = reason || "This connection is closed.";
          this.beside({ type: "closed", code });
        },
      },
      kept(this.session),
    );
    this.outbox = this.link.pending;
  }

  /** Reads what there is, of a session that is over. */
  async load(): Promise<void> {
    for (const happened of await everything(this.session)) this.buffer.push(happened);
    this.over = true;
    this.flush();
  }

  private hear(frame: Frame): void {
    switch (frame.type) {
      case "event": {
        const happened = read(frame);
        if (happened) this.take(happened);
        return;
      }
      case "message": {
        const id = frame.client_msg_id;
        const content = frame.content ?? this.link?.arrived(id);
        this.link?.arrived(id);
        this.refreshOutbox();
        this.flush();
        // The gateway keeps the queue; the agent's events know only what it was given.
        message(this.conversation, { client_msg_id: id, state: frame.state, content: content ?? null });
        this.version += 1;
        if (frame.state === "refused") {
          this.notice = refusedWords(frame.code ?? "", frame.message ?? "");
          if (content) this.refused(content);
        }
        return;
      }
      case "runner_disconnected":
        this.away = true;
        return;
      case "runner_reconnected":
        this.away = false;
        return;
      case "error":
        this.notice = frame.message;
        return;
      case "permission_prompt":
      case "question_prompt":
        this.flush();
        this.asks(frame);
        this.version += 1;
        return;
      case "status":
        this.loading = false;
        this.stands(frame);
        this.away = frame.status === "disconnected";
        break;
    }
    this.beside(frame);
  }

  /** How it stands, as the gateway says it when one comes and when it changes. */
  private stands(frame: Stands): void {
    this.flush();
    const { conversation } = this;
    // The queue as it is now follows; what was in it before may be gone.
    if (this.fresh) conversation.queue = [];
    this.fresh = false;
    if (frame.mode) conversation.mode = frame.mode;
    const { usage } = frame;
    if (usage) conversation.usage = { ...conversation.usage, ...Object.fromEntries(Object.entries(usage).filter(([, value]) => value != null)) };
    this.version += 1;
  }

  private asks(frame: Asks): void {
    const request = frame.request_id;
    const at = Date.now();
    if (frame.type === "permission_prompt") asks(this.conversation, { is: "prompt", prompt: { ...frame, request } }, at);
    else asks(this.conversation, { is: "question", question: { ...frame, request } }, at);
  }

  private take(happened: Happened): void {
    this.buffer.push(happened);
    const { event } = happened;
    const id = event.type === "user_message" || event.type === "message" ? event.client_msg_id : null;
    if (id !== null) {
      this.link?.arrived(id);
      this.refreshOutbox();
    }
    this.plan();
  }

  /** Draws soon: in the next frame, or, while much comes at once, when more of it is there. */
  private plan(): void {
    // Frames stop where nobody looks; what comes then must not pile up.
    if (this.buffer.length > 5000) this.flush();
    else if (!this.frame && !this.later) {
      if (this.burst) this.later = setTimeout(() => this.flush(), CALM);
      else this.frame = requestAnimationFrame(() => this.flush());
    }
  }

  private flush(): void {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.later);
    this.frame = 0;
    this.later = undefined;
    this.burst = this.buffer.length > MANY;
    for (const happened of this.buffer.splice(0)) apply(this.conversation, happened);
    this.loading = false;
    this.version += 1;
  }

  private refreshOutbox(): void {
    this.outbox = this.link?.pending ?? [];
    keep(this.session, this.outbox);
  }

  /** Says something to the agent. */
  send(content: string): void {
    this.notice = "";
    this.link?.message({ client_msg_id: crypto.randomUUID(), content });
    this.refreshOutbox();
  }

  edit(id: string, content: string): void {
    this.link?.say({ type: "message_edit", client_msg_id: id, content });
  }

  cancel(id: string): void {
    this.link?.say({ type: "message_cancel", client_msg_id: id });
  }

  async interrupt(): Promise<void> {
    if (this.link?.say({ type: "interrupt" })) return;
    await post(`/api/sessions/${this.session}/interrupt`);
  }

  /** Answers what was asked. Somebody else may have been first: that is no fault, and is said. */
  async answer(asked: Prompt | Question, answered: Answered): Promise<void> {
    try {
      await post(`/api/sessions/${this.session}/prompts/${asked.request}`, { input_hash: asked.input_hash, ...answered });
      this.notice = "";
    } catch (error) {
      if (error instanceof Refusal && (error.status === 409 || error.status === 410)) this.notice = error.message;
      else throw error;
    }
  }

  hurry(): void {
    this.link?.hurry();
  }

  stop(): void {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.later);
    this.link?.stop();
  }
}

function refusedWords(code: string, message: string): string {
  if (code === "RATE_LIMITED") return "That was too many messages in a minute. Wait a little and send it again.";
  return `The message was not taken${message || code ? `: ${message || code}` : ""}.`;
}

/** Every event of a session, page by page. */
export async function everything(session: string, signal?: AbortSignal): Promise<Happened[]> {
  const all: Happened[] = [];
  let from = 1;
  for (;;) {
    const page = await get<{ items: unknown[]; next_cursor: string | null }>(`/api/sessions/${session}/events?from=${from}`, signal);
    const happened = page.items.map(read).filter((one): one is Happened => one !== null);
    all.push(...happened);
    const last = happened.at(-1);
    if (!page.next_cursor || !last || last.seq < from) return all;
    from = last.seq + 1;
  }
}


const place = (session: string): string => `sojourn-unsent-${session}`;

/** What was not yet taken when the page was left or loaded anew. */
function kept(session: string): Message[] {
  try {
    const all: unknown = JSON.parse(sessionStorage.getItem(place(session)) ?? "[]");
    if (!Array.isArray(all)) return [];
    return all.filter((one): one is Message => typeof one?.client_msg_id === "string" && typeof one?.content === "string");
  } catch {
    return [];
  }
}

function keep(session: string, messages: Message[]): void {
  try {
    if (messages.length > 0) sessionStorage.setItem(place(session), JSON.stringify(messages));
    else sessionStorage.removeItem(place(session));
  } catch {
    // A browser that keeps nothing: it is kept until the page is left.
  }
}
