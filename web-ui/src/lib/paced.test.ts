import { expect, test } from "vitest";
import { LEAST, Paced, PIECE, TURN } from "./paced";

/** A screen that draws when it is told to. */
function screen() {
  const written: number[] = [];
  const todo: (() => void)[] = [];
  const turns: (() => void)[] = [];
  let now = 0;
  const paced = new Paced(
    (bytes, done) => {
      written.push(bytes.length);
      todo.push(done);
    },
    (doing) => turns.push(doing),
    () => now,
  );
  const step = (took = 0): void => {
    now += took;
    todo.shift()?.();
  };
  return { paced, written, step, turn: (): void => turns.shift()?.() };
}

test("a flood is drawn a piece after the other, and said to be when all of it is", () => {
  const { paced, written, step } = screen();
  let drawn = 0;
  paced.put(new Uint8Array(PIECE + 1), () => (drawn += 1));
  paced.put(new Uint8Array(7), () => (drawn += 1));
  expect(written).toEqual([PIECE]);
  step();
  expect([written, drawn]).toEqual([[PIECE, 1], 0]);
  step();
  expect([written, drawn]).toEqual([[PIECE, 1, 7], 1]);
  step();
  expect(drawn).toBe(2);
  paced.put(new Uint8Array(3));
  expect(written.at(-1)).toBe(3);
});

test("everything else has its turn between a little and a little more", () => {
  const { paced, written, step, turn } = screen();
  const least = LEAST / PIECE;
  paced.put(new Uint8Array(LEAST * 3));
  step(100);
  step(TURN - 1);
  expect(written.length, "how long the first was waited for does not count").toBe(3);
  step(TURN);
  expect(written.length, "so much is drawn in any case").toBe(least);
  step();
  expect(written.length, "its turn is over").toBe(least);
  turn();
  expect(written.length, "and a new one begun").toBe(least + 1);
  for (let n = 0; n < least; n += 1) step();
  expect(written.length, "as long as there is time").toBe(2 * least + 1);
  step(TURN);
  paced.stop();
  turn();
  expect(written.length).toBe(2 * least + 1);
});

test("what was not drawn is forgotten where the screen is drawn anew", () => {
  const { paced, written, step } = screen();
  paced.put(new Uint8Array(PIECE * 2));
  paced.clear();
  paced.put("\x1b[2Jnew");
  step();
  expect(written).toEqual([PIECE, 7]);
  paced.put("more");
  paced.stop();
  step();
  paced.put("late");
  expect(written).toEqual([PIECE, 7]);
});
