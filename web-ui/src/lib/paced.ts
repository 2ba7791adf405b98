// Output for a terminal, a piece after the other: what the page has to do meanwhile is done in between,
// and what is not drawn yet can be forgotten when the screen is drawn anew.

/** Bytes of a piece: they are drawn in a few milliseconds. */
export const PIECE = 8 << 10;

interface Piece {
  bytes: Uint8Array | string;
  drawn: (() => void) | undefined;
}

export class Paced {
  private waiting: Piece[] = [];
  private busy = false;
  private stopped = false;

  /** `write` draws something, and says when it is done. */
  constructor(private readonly write: (bytes: Uint8Array | string, done: () => void) => void) {}

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
    if (!piece) return;
    this.write(piece.bytes, () => {
      piece.drawn?.();
      if (!this.stopped) this.step();
    });
  }
}
