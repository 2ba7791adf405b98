// Asking again by itself: only while somebody looks, and slower while nobody answers.

/** Calls `ask` now and every `seconds`, until the function that is given back is called. */
export function every(seconds: number, ask: () => Promise<unknown>): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let over = false;
  let failed = 0;

  async function turn(): Promise<void> {
    if (document.visibilityState === "visible") {
      try {
        await ask();
        failed = 0;
      } catch {
        failed = Math.min(failed + 1, 4);
      }
    }
    if (!over) timer = setTimeout(() => void turn(), seconds * 1000 * 2 ** failed);
  }

  function seen(): void {
    if (document.visibilityState !== "visible" || over) return;
    clearTimeout(timer);
    void turn();
  }

  document.addEventListener("visibilitychange", seen);
  timer = setTimeout(() => void turn(), seconds * 1000);
  return () => {
    over = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  };
}
