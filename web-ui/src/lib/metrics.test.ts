import { expect, test } from "vitest";
import { by, histogram, quantile, read } from "./metrics";

const TEXT = `# HELP x y
sojourn_build_info{version="0.1.0"} 1
sojourn_uptime_seconds 60
sojourn_limits_hit_total{limit="max_runtime"} 2
sojourn_limits_hit_total{limit="idle_timeout"} 5
sojourn_limits_hit_total{limit="max_output"} 0
t_seconds_sum{start="warm"} 0.3
t_seconds_count{start="warm"} 10
t_seconds_bucket{le="0.001",start="warm"} 0
t_seconds_bucket{le="0.005",start="warm"} 0
t_seconds_bucket{le="0.01",start="warm"} 9
t_seconds_bucket{le="0.1",start="warm"} 9
t_seconds_bucket{le="1.0",start="warm"} 10
t_seconds_bucket{le="+Inf",start="warm"} 10
odd{a="x\\"y\\\\z"} 1
nonsense
`;

test("numbers are read with their labels", () => {
  const samples = read(TEXT);
  expect(samples.find((one) => one.name === "sojourn_build_info")?.labels).toEqual({ version: "0.1.0" });
  expect(samples.find((one) => one.name === "odd")?.labels).toEqual({ a: 'x"y\\z' });
  expect(read("")).toEqual([]);
});

test("what is nothing is left out, what is most comes first", () => {
  expect(by(read(TEXT), "sojourn_limits_hit_total", "limit")).toEqual([
    { key: "idle_timeout", value: 5 },
    { key: "max_runtime", value: 2 },
  ]);
});

test("a histogram has what fell between its bounds", () => {
  const made = histogram(read(TEXT), "t_seconds");
  expect(made.bars).toEqual([
    { upTo: 0.005, count: 0 },
    { upTo: 0.01, count: 9 },
    { upTo: 0.1, count: 0 },
    { upTo: 1, count: 1 },
    { upTo: Number.POSITIVE_INFINITY, count: 0 },
  ]);
  expect([made.count, quantile(made, 0.5), quantile(made, 0.95)]).toEqual([10, 0.01, 1]);
  expect(quantile(histogram([], "t"), 0.5)).toBe(null);
});
