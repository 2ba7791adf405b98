// Reads the numbers of `/metrics`, as far as the page shows them.

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** The samples of a text in Prometheus' form; a line that is none is passed over. */
export function read(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    const value = found[3] === "+Inf" ? Number.POSITIVE_INFINITY : Number(found[3]);
    if (Number.isNaN(value)) continue;
    const labels: Record<string, string> = {};
    for (const [, name, is] of (found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      if (name) labels[name] = (is ?? "").replace(/\\(["\\n])/g, (_, it: string) => (it === "n" ? "\n" : it));
    }
    samples.push({ name: found[1] ?? "", labels, value });
  }
  return samples;
}

/** Sums of a metric by one of its labels, the largest first; what is nothing is left out. */
export function by(samples: Sample[], name: string, label: string): { key: string; value: number }[] {
  const sums = new Map<string, number>();
  for (const sample of samples) {
    if (sample.name !== name) continue;
    const key = sample.labels[label] ?? "";
    sums.set(key, (sums.get(key) ?? 0) + sample.value);
  }
  return [...sums]
    .map(([key, value]) => ({ key, value }))
    .filter((one) => one.value > 0)
    .sort((a, b) => b.value - a.value);
}

export interface Histogram {
  /** How many fell between a bound and the one before it; the last bound may be infinite. */
  bars: { upTo: number; count: number }[];
  count: number;
  sum: number;
}

/** A histogram, of all that fit `wanted`, without the empty bounds at both its ends. */
export function histogram(samples: Sample[], name: string, wanted: (labels: Record<string, string>) => boolean = () => true): Histogram {
  const upTo = new Map<number, number>();
  let count = 0;
  let sum = 0;
  for (const { name: is, labels, value } of samples) {
    if (!is.startsWith(name) || !wanted(labels)) continue;
    if (is === `${name}_count`) count += value;
    else if (is === `${name}_sum`) sum += value;
    else if (is === `${name}_bucket`) {
      const bound = labels["le"] === "+Inf" ? Number.POSITIVE_INFINITY : Number(labels["le"]);
      upTo.set(bound, (upTo.get(bound) ?? 0) + value);
    }
  }
  let below = 0;
  const bars = [...upTo]
    .sort(([a], [b]) => a - b)
    .map(([bound, all]) => {
      const bar = { upTo: bound, count: all - below };
      below = all;
      return bar;
    });
  const first = bars.findIndex((bar) => bar.count > 0);
  const last = bars.findLastIndex((bar) => bar.count > 0);
  return { bars: first < 0 ? [] : bars.slice(Math.max(0, first - 1), last + 2), count, sum };
}

/** Below what so large a part of all were, as far as the bounds can say; null where there are none. */
export function quantile(of: Histogram, part: number): number | null {
  let seen = 0;
  for (const bar of of.bars) {
    seen += bar.count;
    if (of.count > 0 && seen >= part * of.count) return bar.upTo;
  }
  return null;
}
