// Searches what a recording showed. The text is the output without its escape sequences, in the order in
// which it was printed, so that a word that came letter by letter is found, too.

import type { Event } from "./cast";

export interface Hit {
  at: number;
  /** The line it stands in, and where. */
  line: string;
  from: number;
  to: number;
}

const MOST_HITS = 500;
const MOST_LINE = 160;

export class Text {
  private text = "";
  /** Where the text of each event begins, and when it was. */
  private starts: number[] = [];
  private times: number[] = [];

  private constructor() {}

  /** Reads it all; `pause` is awaited now and then, so that a long one does not hold the page up. */
  static async of(events: readonly Event[], pause: () => Promise<void>): Promise<Text> {
    const made = new Text();
    const plain = new Plain();
    const pieces: string[] = [];
    let length = 0;
    let worked = 0;
    for (const { at, code, data } of events) {
      if (code !== "o") continue;
      const piece = plain.of(data);
      made.starts.push(length);
      made.times.push(at);
      pieces.push(piece);
      length += piece.length;
      worked += data.length;
      if (worked > 2e6) {
        worked = 0;
        await pause();
      }
    }
    made.text = pieces.join("");
    return made;
  }

  /** Where these words are; case matters only where they have capitals. */
  find(words: string): Hit[] {
    if (!words) return [];
    const exact = words !== words.toLowerCase();
    const wanted = new RegExp(words.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), exact ? "gu" : "giu");
    const hits: Hit[] = [];
    for (const found of this.text.matchAll(wanted)) {
      const from = Math.max(this.text.lastIndexOf("\n", found.index - 1) + 1, found.index - MOST_LINE / 2);
      const end = this.text.indexOf("\n", found.index);
      const to = Math.min(end < 0 ? this.text.length : end, from + MOST_LINE);
      hits.push({
        at: this.time(found.index + found[0].length - 1),
        line: this.text.slice(from, to),
        from: found.index - from,
        to: found.index - from + found[0].length,
      });
      if (hits.length >= MOST_HITS) break;
    }
    return hits;
  }

  /** When the character at this place was printed. */
  private time(place: number): number {
    let low = 0;
    let high = this.starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.starts[middle] ?? 0) <= place) low = middle;
      else high = middle - 1;
    }
    return this.times[low] ?? 0;
  }
}

/** Takes escape sequences out, also those that are cut by the end of an event. */
class Plain {
  private state: "text" | "escape" | "csi" | "string" | "charset" = "text";

  of(data: string): string {
    let out = "";
    let from = 0;
    for (let n = 0; n < data.length; n++) {
      const code = data.charCodeAt(n);
      switch (this.state) {
        case "text":
          if (code === 0x1b) {
            out += data.slice(from, n);
            this.state = "escape";
          } else if (code === 0x0d || (code < 0x20 && code !== 0x0a && code !== 0x09) || code === 0x7f) {
            out += data.slice(from, n);
            from = n + 1;
          }
          break;
        case "escape":
          if (code === 0x5b) this.state = "csi";
          else if (code === 0x5d || code === 0x50 || code === 0x5e || code === 0x5f || code === 0x58) this.state = "string";
          else if (code === 0x28 || code === 0x29 || code === 0x2a || code === 0x2b) this.state = "charset";
          else {
            this.state = "text";
            from = n + 1;
          }
          break;
        case "charset":
          this.state = "text";
          from = n + 1;
          break;
        case "csi":
          if (code >= 0x40 && code <= 0x7e) {
            this.state = "text";
            // Going to another line is one, for who searches.
            if (code === 0x48 || code === 0x66 || code === 0x42 || code === 0x45) out += "\n";
            from = n + 1;
          }
          break;
        case "string":
          if (code === 0x07) {
            this.state = "text";
            from = n + 1;
          } else if (code === 0x1b) this.state = "escape";
          break;
      }
    }
    if (this.state === "text") out += data.slice(from);
    return out;
  }
}
