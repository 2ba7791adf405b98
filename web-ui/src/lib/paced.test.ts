import { expect, test } from "vitest";
import { Paced, SHARE } from "./paced";

/** A screen that draws when it is told to. */
function screen() {
  const written: number[] = [];
  const todo: (() => void)[] = [];
  const paced = new Paced(
    (bytes, done) => {
      written.push(bytes.length);
      todo.push(done);
    },
    (then) => todo.push(then),
  );
  const step = (): void => todo.splice(0).forEach((one) => one());
  return { paced, written, step };
}

test("what is little is drawn at once, and a flood a share at a time", () => {
  const { paced, written, step } = screen();
  paced.put(new Uint8Array(5));
  expect(written).toEqual([5]);
  let drawn = 0;
  paced.put(new Uint8Array(SHARE * 2 + 1), () => (drawn += 1));
  paced.put(new Uint8Array(7), () => (drawn += 1));
  expect(written).toEqual([5]);
  step();
  step();
  expect(written).toEqual([5, SHARE]);
  step();
  step();
  step();
  step();
  expect(written).toEqual([5, SHARE, SHARE, 1, 7]);
  expect(drawn).toBe(0);
  step();
  expect(drawn).toBe(2);
  step();
  paced.put(new Uint8Array(3));
  expect(written.at(-1)).toBe(3);
});

test("what was not drawn is forgotten where the screen is drawn anew", () => {
  const { paced, written, step } = screen();
  paced.put(new Uint8Array(SHARE));
  paced.put(new Uint8Array(SHARE));
  paced.clear();
  paced.put("\x1b[2Jnew");
  step();
  step();
  expect(written).toEqual([SHARE, 7]);
  paced.put("more");
  paced.stop();
  step();
  step();
  expect(written).toEqual([SHARE, 7]);
});
