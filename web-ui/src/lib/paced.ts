// Output for a terminal, a little at a time: what else the page has to do is done in between, and what
// is not drawn yet can be forgotten when the screen is drawn anew.

/** Bytes of a piece: also when every one of them scrolls they are drawn in two milliseconds or so. */
export const PIECE = 2 << 10;
/** After so many milliseconds of drawing everything else has its turn. */
export const TURN = 6;

interface Piece {
  bytes: Uint8Array | string;
  drawn: (() => void) | undefined;
}

/** After whatever waits to be done now; without the four milliseconds that timers take at least. */
function soon(): (doing: () => void) => void {
  let next: (() => void) | undefined;
  const channel = new MessageChannel();
  channel.port1.onmessage = () => next?.();
  return (doing) => {
    next = doing;
    channel.port2.postMessage(null);
  };
}

export class Paced {
  private waiting: Piece[] = [];
  private busy = false;
  private stopped = false;
  /** When this turn's first piece was drawn; the screen begins with it when it likes. */
  private since: number | null = null;

  /** `write` draws something, and says when it is done. */
  constructor(
    private readonly write: (bytes: Uint8Array | string, done: () => void) => void,
    private readonly later: (doing: () => void) => void = soon(),
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
      return;
    }
    this.write(piece.bytes, () => {
      piece.drawn?.();
      if (this.stopped) return;
      this.since ??= this.now();
      if (this.now() - this.since < TURN) return this.step();
      this.since = null;
      this.later(() => {
        if (!this.stopped) this.step();
      });
    });
  }
}
