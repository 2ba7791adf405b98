// Moments of a recording, as a player shows them and as an address has them.

/** `3:07`, `1:02:09`. */
export function stamp(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (n: number): string => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** What an address says of the moment: seconds, or as it is shown (`3:07`); null where it says nothing that is one. */
export function asked(text: string | null): number | null {
  if (!text || !/^\d{1,7}(\.\d+)?$|^(\d{1,4}:)?\d{1,2}:\d{1,2}$/.test(text)) return null;
  return text.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
}
