import { expect, test } from "vitest";
import { extract, isText } from "./tar";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function entry(name: string, body: string, kind = "0"): Uint8Array {
  const data = bytes(body);
  const made = new Uint8Array(512 + Math.ceil(data.length / 512) * 512);
  made.set(bytes(name), 0);
  made.set(bytes(data.length.toString(8).padStart(11, "0")), 124);
  made.set(bytes(kind), 156);
  made.set(bytes("ustar"), 257);
  made.set(data, 512);
  return made;
}

async function* pieces(size: number, ...entries: Uint8Array[]): AsyncGenerator<Uint8Array> {
  const all = new Uint8Array(entries.reduce((sum, one) => sum + one.length, 0) + 1024);
  let at = 0;
  for (const one of entries) {
    all.set(one, at);
    at += one.length;
  }
  for (let n = 0; n < all.length; n += size) yield all.subarray(n, n + size);
}

const long = `root/${"d".repeat(120)}/note.txt`;
const record = (path: string): string => {
  const rest = ` path=${path}\n`;
  const length = rest.length + String(rest.length + 3).length;
  return `${length}${rest}`;
};
const archive = (): Uint8Array[] => [entry("root/", "", "5"), entry("root/a.txt", "first"), entry("PaxHeader", record(long), "x"), entry("short", "long name"), entry("./root/b.txt", "x".repeat(1500))];

test("a file is found in a tar, however it arrives", async () => {
  for (const size of [1, 500, 512, 100_000]) {
    const found = async (path: string): Promise<string | null> => {
      const file = await extract(pieces(size, ...archive()), path, 1000);
      return file && `${file.size} ${new TextDecoder().decode(file.bytes).slice(0, 10)}`;
    };
    expect(await found("/root/a.txt")).toBe("5 first");
    expect(await found(long)).toBe("9 long name".slice(0, 12));
    expect(await found("root/b.txt")).toBe("1500 xxxxxxxxxx");
    expect(await found("root/none")).toBe(null);
    expect(await found("root/")).toBe(null);
  }
});

test("a file is cut at what can be shown, and a tar that breaks off gives nothing", async () => {
  expect((await extract(pieces(700, ...archive()), "root/b.txt", 1000))?.bytes.length).toBe(1000);
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield entry("root/a.txt", "first").subarray(0, 300);
  }
  expect(await extract(broken(), "root/a.txt", 10)).toBe(null);
});

test("what has a zero in it is no text", () => {
  expect(isText(bytes("häh"))).toBe(true);
  expect(isText(new Uint8Array([65, 0, 66]))).toBe(false);
});
