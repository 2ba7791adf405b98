// Where a replay stands, and how it goes on. What is shown at a moment is for others to say.

import type { Gap } from "./cast";

export const SPEEDS = [0.5, 1, 2, 4, 8, 16] as const;

/** So much of a gap is left when it is skipped, in seconds. */
const BREATH = 0.4;

export class Playhead {
  at = $state(0);
  playing = $state(false);
  speed = $state(1);
  skip = $state(true);
  private frame = 0;
  private last = 0;

  constructor(
    readonly duration: number,
    private readonly gaps: readonly Gap[],
    at = 0,
  ) {
    this.at = this.within(at);
  }

  private within(at: number): number {
    return Math.min(this.duration, Math.max(0, at));
  }

  /** The gap that a moment is in, as far as it would be skipped. */
  gap(at: number): Gap | undefined {
    let low = 0;
    let high = this.gaps.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const gap = this.gaps[middle] as Gap;
      if (at < gap.from + BREATH) high = middle - 1;
      else if (at >= gap.to - BREATH) low = middle + 1;
      else return gap;
    }
    return undefined;
  }

  /** Goes on by this much of the clock's time, in seconds. */
  pass(seconds: number): void {
    let next = this.at + seconds * this.speed;
    const gap = this.skip ? this.gap(next) : undefined;
    if (gap) next = gap.to - BREATH;
    this.at = this.within(next);
    if (this.at >= this.duration) this.pause();
  }

  play(): void {
    if (this.playing) return;
    if (this.at >= this.duration) this.at = 0;
    this.playing = true;
    this.last = performance.now();
    const step = (now: number): void => {
      if (!this.playing) return;
      // A page that was out of sight does not catch up.
      this.pass(Math.min(0.25, (now - this.last) / 1000));
      this.last = now;
      this.frame = requestAnimationFrame(step);
    };
    this.frame = requestAnimationFrame(step);
  }

  pause(): void {
    if (this.playing) cancelAnimationFrame(this.frame);
    this.playing = false;
  }

  turn(): void {
    if (this.playing) this.pause();
    else this.play();
  }

  seek(at: number): void {
    this.at = this.within(at);
  }

  faster(by: 1 | -1): void {
    const now = SPEEDS.indexOf(this.speed as (typeof SPEEDS)[number]);
    this.speed = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, now + by))] ?? 1;
  }
}
