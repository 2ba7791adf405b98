// One clock for everything on the page that shows how time goes by.

/** What the gateway's clock is ahead of this machine's, in milliseconds. */
let ahead = 0;

let now = $state(Date.now());
const tick = (): void => {
  now = Date.now() + ahead;
};
setInterval(tick, 1000);

export const clock = {
  /** The gateway's time, to the second. */
  get now(): number {
    return now;
  },

  /** Looks at it now: a page that nobody saw may have slept. */
  tick,

  /** The gateway says what time it is. */
  set(there: string): void {
    ahead = Date.parse(there) - Date.now();
    tick();
  },
};
