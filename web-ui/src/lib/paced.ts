// Output for a terminal, no faster than it can be drawn: so much between two pictures, and the rest
// waits. A flood that is drawn in one go would keep the page from everything else meanwhile.

/** Bytes between two pictures: more than anybody reads, and little enough to be drawn in time. */
export const SHARE = 24 << 10;

interface Piece {
  bytes: Uint8Array | string;
  drawn: (() => void) | undefined;
}

export class Paced {
  private waiting: Piece[] = [];
  private busy = false;
  private stopped = false;

  constructor(
    /** Draws this, and says when it is done. */
    private readonly write: (bytes: Uint8Array | string, done: () => void) => void,
    /** Calls when the next picture is due. */
    private readonly next: (then: () => void) => void = soon,
  ) {}

  /** Takes output; says when all of it has been drawn. */
  put(bytes: Uint8Array | string, drawn?: () => void): void {
    if (typeof bytes === "string") this.waiting.push({ bytes, drawn });
    else
      for (let at = 0; at < bytes.length; at += SHARE) {
        const last = at + SHARE >= bytes.length;
        this.waiting.push({ bytes: bytes.subarray(at, at + SHARE), drawn: last ? drawn : undefined });
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
    let room = SHARE;
    const now: Piece[] = [];
    for (let first = this.waiting[0]; first && (now.length === 0 || first.bytes.length <= room); first = this.waiting[0]) {
      room -= first.bytes.length;
      now.push(first);
      this.waiting.shift();
    }
    this.busy = now.length > 0;
    now.forEach((piece, n) =>
      this.write(piece.bytes, () => {
        piece.drawn?.();
        if (n < now.length - 1 || this.stopped) return;
        this.next(() => !this.stopped && this.draw());
      }),
    );
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
