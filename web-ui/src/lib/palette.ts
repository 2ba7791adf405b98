// What a few letters mean: how well they fit a name, and which of its letters they are.

export interface Fit {
  score: number;
  /** The places of the letters, in the name. */
  at: number[];
}

const isStart = (text: string, n: number): boolean => n === 0 || /[\s\-_/.:·]/.test(text[n - 1] ?? "");

/** How letters fit a name, in their order and with gaps; null where they do not. */
export function fit(letters: string, name: string): Fit | null {
  const wanted = letters.toLowerCase().replace(/\s+/g, "");
  const text = name.toLowerCase();
  if (!wanted) return { score: 0, at: [] };
  let best: Fit | null = null;
  // Where the first letter stands decides; the others take the nearest, starts of words before others.
  for (let first = text.indexOf(wanted[0] ?? ""); first >= 0; first = text.indexOf(wanted[0] ?? "", first + 1)) {
    const at = [first];
    for (let n = 1; n < wanted.length; n++) {
      const letter = wanted[n] ?? "";
      const last = at.at(-1) ?? 0;
      let next = text.indexOf(letter, last + 1);
      if (next < 0) break;
      if (next !== last + 1) {
        for (let far = next; far >= 0; far = text.indexOf(letter, far + 1)) {
          if (isStart(text, far)) {
            // Only where what follows still fits.
            if (rest(wanted, n + 1, text, far + 1)) next = far;
            break;
          }
        }
      }
      at.push(next);
    }
    if (at.length < wanted.length) continue;
    const score = value(at, text);
    if (!best || score > best.score) best = { score, at };
  }
  return best;
}

function rest(wanted: string, from: number, text: string, at: number): boolean {
  let place = at;
  for (let n = from; n < wanted.length; n++) {
    place = text.indexOf(wanted[n] ?? "", place) + 1;
    if (place === 0) return false;
  }
  return true;
}

function value(at: number[], text: string): number {
  let score = 0;
  at.forEach((place, n) => {
    score += 1;
    if (isStart(text, place)) score += 3;
    if (n > 0 && place === (at[n - 1] ?? 0) + 1) score += 3;
  });
  return score - text.length / 100 - (at[0] ?? 0) / 50;
}

/** The entries that fit, the best first; of equals the order stays. */
export function rank<T extends { name: string; also?: string }>(letters: string, entries: readonly T[]): { entry: T; at: number[] }[] {
  return entries
    .flatMap((entry) => {
      const own = fit(letters, entry.name);
      if (own) return [{ entry, at: own.at, score: own.score }];
      // What it is also known by counts less, and only as words begin.
      const words = letters.trim().toLowerCase();
      const other = (entry.also ?? "").toLowerCase().split(/\s+/).some((word) => word.startsWith(words) || (words.length >= 4 && word.endsWith(words)));
      return other ? [{ entry, at: [], score: -4 }] : [];
    })
    .sort((a, b) => b.score - a.score);
}
