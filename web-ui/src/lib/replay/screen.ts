// The screen of a recording at any moment. Forwards it is written on; backwards, and far forwards, it is
// drawn from the nearest of the pictures that were made of it on the way.

import { SerializeAddon } from "@xterm/addon-serialize";
import { Terminal } from "@xterm/xterm";
import { type Cast, dimensions } from "./cast";

interface Picture {
  /** The event it was made before. */
  index: number;
  cols: number;
  rows: number;
  data: string;
}

/** A picture is made after so much output, at least; and there are never more than these. */
const BETWEEN = 200_000;
const MOST_PICTURES = 60;
/** So much is written at once; then others have their turn. */
const PIECE = 256_000;

const pause = (): Promise<void> => new Promise((go) => setTimeout(go));

export class Screen {
  /** The next event to be written. */
  private next = 0;
  private wanted = 0;
  private busy = false;
  private stopped = false;
  private readonly pictures: Picture[] = [];

  constructor(
    private readonly cast: Cast,
    private readonly terminal: Terminal,
    /** The terminal has another size now. */
    private readonly sized: () => void,
  ) {
    this.reset(null);
    if (cast.printed > 2 * BETWEEN) void this.picture();
  }

  /** Shows it as it was then. Where that takes longer, the last moment that was asked for is what counts. */
  show(at: number): void {
    this.wanted = at;
    if (!this.busy) void this.work();
  }

  stop(): void {
    this.stopped = true;
  }

  private async work(): Promise<void> {
    this.busy = true;
    while (!this.stopped) {
      const target = this.after(this.wanted);
      if (target === this.next) break;
      const nearest = this.pictures.findLast((one) => one.index <= target);
      if (target < this.next) this.reset(nearest ?? null);
      else if (nearest && nearest.index > this.next && target - this.next > 1000) this.reset(nearest);
      await this.write(target);
    }
    this.busy = false;
  }

  /** The first event after a moment. */
  private after(at: number): number {
    let low = 0;
    let high = this.cast.events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.cast.events[middle]?.at ?? 0) <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private reset(picture: Picture | null): void {
    this.terminal.reset();
    this.resize(picture?.cols ?? this.cast.cols, picture?.rows ?? this.cast.rows);
    if (picture) this.terminal.write(picture.data);
    this.next = picture?.index ?? 0;
  }

  private resize(cols: number, rows: number): void {
    if (this.terminal.cols === cols && this.terminal.rows === rows) return;
    this.terminal.resize(cols, rows);
    this.sized();
  }

  /** Writes on to an event, a piece at a time. */
  private async write(target: number): Promise<void> {
    while (this.next < target && !this.stopped) {
      let data = "";
      let size: { cols: number; rows: number } | null = null;
      while (this.next < target && data.length < PIECE && !size) {
        const event = this.cast.events[this.next++];
        if (event?.code === "o") data += event.data;
        else if (event?.code === "r") size = dimensions(event.data);
      }
      if (data) await new Promise<void>((done) => this.terminal.write(data, done));
      if (size) this.resize(size.cols, size.rows);
      // Somebody has asked for an earlier moment meanwhile.
      if (this.after(this.wanted) < this.next) return;
    }
  }

  /** Goes through the whole once, beside, and makes pictures of it. */
  private async picture(): Promise<void> {
    const beside = new Terminal({ cols: this.cast.cols, rows: this.cast.rows, scrollback: 200, allowProposedApi: true, convertEol: !this.cast.terminal });
    const serializer = new SerializeAddon();
    beside.loadAddon(serializer);
    const between = Math.max(BETWEEN, this.cast.printed / MOST_PICTURES);
    let since = 0;
    let data = "";
    const flush = async (): Promise<void> => {
      if (data) await new Promise<void>((done) => beside.write(data, done));
      data = "";
    };
    for (const [index, event] of this.cast.events.entries()) {
      if (this.stopped) break;
      if (since >= between) {
        await flush();
        this.pictures.push({ index, cols: beside.cols, rows: beside.rows, data: serializer.serialize({ scrollback: 200 }) });
        since = 0;
        await pause();
      }
      if (event.code === "o") {
        data += event.data;
        since += event.data.length;
        if (data.length > PIECE) await flush();
      } else if (event.code === "r") {
        const size = dimensions(event.data);
        await flush();
        if (size) beside.resize(size.cols, size.rows);
      }
    }
    beside.dispose();
  }
}
