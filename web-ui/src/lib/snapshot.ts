// A screen as the gateway draws it has every row as long as the terminal was wide. Shown in a narrower
// one, the blanks at the ends would wrap into rows of their own: those that show nothing are left out.

const SGR = /\x1b\[([0-9;]*)m/;

/** Whether blanks after these attributes can be seen: a background, inverse, underlined. */
function fills(before: boolean, codes: string): boolean {
  let now = before;
  const all = codes.split(";").map(Number);
  for (let n = 0; n < all.length; n += 1) {
    const code = all[n] ?? 0;
    if (code === 0) now = false;
    else if (code === 49) now = false;
    else if (code === 4 || code === 7 || code === 9 || (code >= 40 && code <= 48) || (code >= 100 && code <= 107)) now = true;
    // What follows names a colour, and is no attribute.
    if (code === 38 || code === 48) n += all[n + 1] === 5 ? 2 : 4;
  }
  return now;
}

/** The same screen without the blanks that end its rows. */
export function unpadded(data: string): string {
  const parts = data.split(SGR);
  let filled = false;
  let text = "";
  for (const [n, part] of parts.entries()) {
    if (n % 2 === 1) {
      filled = fills(filled, part);
      text += `\x1b[${part}m`;
    } else text += filled ? part : part.replace(/ +(?=\r\n)/g, "");
  }
  return text;
}
