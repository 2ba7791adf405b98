// Reads one file out of a tar as it arrives, so that a text can be shown without keeping the archive.

const BLOCK = 512;

interface Head {
  name: string;
  size: number;
  kind: string;
}

const decoder = new TextDecoder();

function text(block: Uint8Array, from: number, length: number): string {
  const bytes = block.subarray(from, from + length);
  const end = bytes.indexOf(0);
  return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function number(block: Uint8Array, from: number, length: number): number {
  // Sizes beyond eight octal digits are written in base 256.
  if ((block[from] ?? 0) & 0x80) {
    let value = (block[from] ?? 0) & 0x7f;
    for (let n = from + 1; n < from + length; n++) value = value * 256 + (block[n] ?? 0);
    return value;
  }
  return Number.parseInt(text(block, from, length).trim() || "0", 8) || 0;
}

function head(block: Uint8Array): Head | null {
  if (block.every((byte) => byte === 0)) return null;
  const prefix = text(block, 257, 5) === "ustar" ? text(block, 345, 155) : "";
  const name = text(block, 0, 100);
  return { name: prefix ? `${prefix}/${name}` : name, size: number(block, 124, 12), kind: String.fromCharCode(block[156] || 48) };
}

/** The `path=` of an extended header. */
function extended(bytes: Uint8Array): string | null {
  let at = 0;
  while (at < bytes.length) {
    const space = bytes.indexOf(32, at);
    if (space < 0) return null;
    const length = Number(decoder.decode(bytes.subarray(at, space)));
    if (!(length > 0)) return null;
    const record = decoder.decode(bytes.subarray(space + 1, at + length - 1));
    if (record.startsWith("path=")) return record.slice(5);
    at += length;
  }
  return null;
}

const clean = (path: string): string => path.replace(/^(\.?\/)+/, "");

/** The first `most` bytes of a file in a tar, and how many it has; null where it is not in there. */
export async function extract(
  pieces: AsyncIterable<Uint8Array>,
  path: string,
  most: number,
): Promise<{ bytes: Uint8Array; size: number } | null> {
  const wanted = clean(path);
  let held = new Uint8Array(0);
  const source = pieces[Symbol.asyncIterator]();
  /** Exactly so many bytes, or null at the end. */
  async function take(count: number): Promise<Uint8Array | null> {
    while (held.length < count) {
      const { done, value } = await source.next();
      if (done) return null;
      const more = new Uint8Array(held.length + value.length);
      more.set(held);
      more.set(value, held.length);
      held = more;
    }
    const taken = held.subarray(0, count);
    held = held.subarray(count);
    return taken;
  }
  async function skip(count: number): Promise<void> {
    let left = count;
    while (left > 0) {
      const taken = await take(Math.min(left, 64 * 1024));
      if (!taken) return;
      left -= taken.length;
    }
  }
  let name: string | null = null;
  try {
    for (;;) {
      const block = await take(BLOCK);
      const is = block && head(block);
      if (!is) return null;
      const padding = (BLOCK - (is.size % BLOCK)) % BLOCK;
      if ((is.kind === "x" || is.kind === "L") && is.size <= 1 << 20) {
        const body = (await take(is.size)) ?? new Uint8Array(0);
        name = is.kind === "x" ? extended(body) : text(body, 0, body.length);
        await skip(padding);
        continue;
      }
      const called = clean(name ?? is.name);
      name = null;
      if (called === wanted && (is.kind === "0" || is.kind === "7")) {
        const bytes = (await take(Math.min(most, is.size))) ?? new Uint8Array(0);
        return { bytes: bytes.slice(), size: is.size };
      }
      await skip(is.size + padding);
    }
  } finally {
    await source.return?.();
  }
}

/** Whether bytes are text that can be shown. */
export function isText(bytes: Uint8Array): boolean {
  const looked = bytes.subarray(0, 8000);
  return !looked.includes(0);
}
