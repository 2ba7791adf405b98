import { expect, test } from "vitest";
import { Paced, PIECE, SHARE } from "./paced";

/** A screen that takes so long for each piece, and makes a picture when it is told to. */
function screen(took: number) {
  const written: number[] = [];
  const todo: (() => void)[] = [];
  let pictures = 0;
  let now = 0;
  const paced = new Paced(
    (bytes, done) => {
      written.push(bytes.length);
      todo.push(() => {
        now += took;
        done();
      });
    },
    (then) => {
      pictures += 1;
      todo.push(then);
    },
    () => now,
  );
  /** Does what there is to do, until a picture is due so many times. */
  const until = (count: number): number[] => {
    while (pictures < count && todo.length > 0) todo.shift()?.();
    return written.splice(0);
  };
  return { paced, until };
}

test("what is little is drawn at once, and of a flood as much as there is time for", () => {
  const { paced, until } = screen(SHARE / 2);
  paced.put(new Uint8Array(5));
  expect(until(1)).toEqual([5]);
  let drawn = 0;
  paced.put(new Uint8Array(PIECE * 4 + 1), () => (drawn += 1));
  paced.put(new Uint8Array(7), () => (drawn += 1));
  expect(until(1)).toEqual([PIECE, PIECE]);
  expect(until(2)).toEqual([PIECE, PIECE]);
  expect(drawn).toBe(0);
  expect(until(3)).toEqual([1, 7]);
  expect(drawn).toBe(2);
});

test("a slow screen gets one piece between two pictures", () => {
  const { paced, until } = screen(SHARE * 3);
  paced.put(new Uint8Array(PIECE * 3));
  expect([until(1), until(2), until(3)]).toEqual([[PIECE], [PIECE], [PIECE]]);
});

test("what was not drawn is forgotten where the screen is drawn anew", () => {
  const { paced, until } = screen(SHARE);
  paced.put(new Uint8Array(PIECE * 2));
  paced.clear();
  paced.put("\x1b[2Jnew");
  expect(until(9)).toEqual([PIECE, 7]);
  paced.put("more");
  paced.stop();
  expect(until(9)).toEqual(["more".length]);
  paced.put("late");
  expect(until(9)).toEqual([]);
});
