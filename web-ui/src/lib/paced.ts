// Output for a terminal, a little at a time: what else the page has to do is done in between, and what
// is not drawn yet can be forgotten when the screen is drawn anew.

/** Bytes of a piece: also when every one of them scrolls they are drawn in two milliseconds or so. */
export const PIECE = 2 << 10;
/** After so many milliseconds of drawing everything else has its turn, */
export const TURN = 6;
/** but not before so much is drawn: where a machine has much else to do, time passes and nothing is. */
export const LEAST = 8 << 10;

interface Piece {
  bytes: Uint8Array | string;
  drawn: (() => void) | undefined;
}

export class Paced {
  private waiting: Piece[] = [];
  private busy = false;
  private stopped = false;
  /** When this turn's first piece was drawn, for the screen begins with it when it likes; and how much was. */
  private since: number | null = null;
  private drawn = 0;

  /** `write` draws something, and says when it is done. */
  constructor(
    private readonly write: (bytes: Uint8Array | string, done: () => void) => void,
    // When the screen is through with what it has: what it is given then it draws in a task of its own.
    private readonly later: (doing: () => void) => void = (doing) => queueMicrotask(doing),
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Takes output; says when all of it has been drawn. */
  put(bytes: Uint8Array | string, drawn?: () => void): void {
    if (this.stopped) return;
    if (typeof bytes === "string") this.waiting.push({ bytes, drawn });
    else
      for (let at = 0; at < bytes.length; at += PIECE) {
        const last = at + PIECE >= bytes.length;
        this.waiting.push({ bytes: bytes.subarray(at, at + PIECE), drawn: last ? drawn : undefined });
      }
    if (!this.busy) this.step();
  }

  /** Forgets what was not drawn yet. */
  clear(): void {
    this.waiting = [];
  }

  stop(): void {
    this.stopped = true;
    this.clear();
  }

  private step(): void {
    const piece = this.waiting.shift();
    this.busy = piece !== undefined;
    if (!piece) {
      this.since = null;
      this.drawn = 0;
      return;
    }
    this.write(piece.bytes, () => {
      piece.drawn?.();
      if (this.stopped) return;
      this.since ??= this.now();
      this.drawn += piece.bytes.length;
      if (this.drawn < LEAST || this.now() - this.since < TURN) return this.step();
      this.since = null;
      this.drawn = 0;
      this.later(() => {
        if (!this.stopped) this.step();
      });
    });
  }
}
