// Output for a terminal, no faster than it can be drawn: piece by piece for a while, then a picture, and
// the rest waits. A flood that is drawn in one go would keep the page from everything else meanwhile.

/** Bytes of a piece: they are drawn in a few milliseconds, also by a slow machine that begins to. */
export const PIECE = 4 << 10;
/** How long pieces are drawn between two pictures, in milliseconds. */
export const SHARE = 12;

interface Piece {
  bytes: Uint8Array | string;
  drawn: (() => void) | undefined;
}

export class Paced {
  private waiting: Piece[] = [];
  private busy = false;
  private stopped = false;
  private began = 0;

  constructor(
    /** Draws this, and says when it is done. */
    private readonly write: (bytes: Uint8Array | string, done: () => void) => void,
    /** Calls when the next picture is due. */
    private readonly next: (then: () => void) => void = soon,
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
    if (!this.busy) this.draw();
  }

  /** Forgets what was not drawn yet: the screen is drawn anew. */
  clear(): void {
    this.waiting = [];
  }

  stop(): void {
    this.stopped = true;
    this.clear();
  }

  private draw(): void {
    this.began = this.now();
    this.step();
  }

  private step(): void {
    const piece = this.waiting.shift();
    this.busy = piece !== undefined;
    if (!piece) return;
    this.write(piece.bytes, () => {
      piece.drawn?.();
      if (this.stopped) return;
      if (this.now() - this.began < SHARE) this.step();
      else this.next(() => !this.stopped && this.draw());
    });
  }
}

/** With the next picture; where none is made, because nobody looks, a little later. */
function soon(then: () => void): void {
  let done = false;
  const once = (): void => {
    if (done) return;
    done = true;
    clearTimeout(late);
    then();
  };
  const late = setTimeout(once, 100);
  requestAnimationFrame(once);
}
