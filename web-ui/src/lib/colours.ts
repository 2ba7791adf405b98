// What terminals look like here, in both lights: the one dark rectangle of the page.

export const THEME = {
  background: "#11110e",
  foreground: "#e8e4d8",
  cursor: "#5fcab0",
  cursorAccent: "#11110e",
  selectionBackground: "#3d4a44",
  black: "#26241d",
  red: "#ff8a7a",
  green: "#8fce8b",
  yellow: "#e3b455",
  blue: "#86b4e8",
  magenta: "#d3a1dc",
  cyan: "#6fcdc0",
  white: "#d9d4c5",
  brightBlack: "#857e6e",
  brightRed: "#ffaa9e",
  brightGreen: "#b0e3ab",
  brightYellow: "#f2cf85",
  brightBlue: "#abccf3",
  brightMagenta: "#e6c3ec",
  brightCyan: "#9be3d9",
  brightWhite: "#faf7ee",
};

const FIRST = [
  THEME.black,
  THEME.red,
  THEME.green,
  THEME.yellow,
  THEME.blue,
  THEME.magenta,
  THEME.cyan,
  THEME.white,
  THEME.brightBlack,
  THEME.brightRed,
  THEME.brightGreen,
  THEME.brightYellow,
  THEME.brightBlue,
  THEME.brightMagenta,
  THEME.brightCyan,
  THEME.brightWhite,
];

/** A colour of the palette by its number, or one that says itself; null is none of them. */
export function colour(name: string | undefined): string | null {
  if (name === undefined) return null;
  if (/^#[0-9a-f]{6}$/.test(name)) return name;
  const n = Number(name);
  if (!Number.isInteger(n) || n < 0 || n > 255) return null;
  if (n < 16) return FIRST[n] ?? null;
  if (n >= 232) return `rgb(${Array(3).fill(8 + (n - 232) * 10).join(" ")})`;
  const step = (of: number): number => (of === 0 ? 0 : 55 + of * 40);
  const at = n - 16;
  return `rgb(${step(Math.floor(at / 36))} ${step(Math.floor(at / 6) % 6)} ${step(at % 6)})`;
}
