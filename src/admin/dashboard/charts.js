// The tiles: a number, and fifteen minutes of it as a small chart.

import { attribute, byId, el, svg, text } from "./dom.js";
import { bytes, clock, count, milliseconds, percent } from "./words.js";

const SAMPLES = 180;
const [WIDTH, HEIGHT] = [180, 46];

/** What each tile shows: its value now, and its lines over time. */
const TILES = [
  {
    id: "rate", label: "Requests", unit: "/s", lines: [["", (s) => s.requests_per_second, count]],
    now: (o) => count(o.traffic.requests_per_second), legend: (o) => `${count(o.totals.requests)} since the start`,
  },
  {
    id: "errors", label: "Server errors", lines: [["", (s) => s.error_share, percent]], floor: 0.01,
    now: (o) => percent(o.traffic.error_share), bad: (o) => o.traffic.error_share >= 0.01,
    legend: (o) => `4xx ${percent(o.traffic.client_error_share)}`,
  },
  {
    id: "latency", label: "Latency", lines: [["p50", (s) => s.p50_ms, milliseconds], ["p95", (s) => s.p95_ms, milliseconds], ["p99", (s) => s.p99_ms, milliseconds]],
    now: (o) => milliseconds(o.traffic.p95_ms), unit: "p95",
    legend: (o) => `p50 ${milliseconds(o.traffic.p50_ms)} \u2013 p95 \u254c p99 \u2508 ${milliseconds(o.traffic.p99_ms)}`,
  },
  { id: "flight", label: "In flight", lines: [["", (s) => s.in_flight, count]], now: (o) => count(o.in_flight), legend: () => "requests being served" },
  { id: "connections", label: "Connections", lines: [["", (s) => s.connections, count]], now: (o) => count(o.connections), legend: () => "of clients" },
  {
    id: "cpu", label: "CPU", unit: "cores", lines: [["", (s) => s.cpu_cores, count]], now: (o) => count(o.cpu_cores),
    legend: (o) => `of ${o.cpu_available} \u00b7 memory ${bytes(o.memory_bytes)}`,
  },
];

const samples = [];
const tiles = TILES.map((tile) => {
  const lines = tile.lines.map((_, index) => svg("path", { class: `line ${["", "second", "third"][index]}` }));
  const area = svg("path", { class: "area" });
  const cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
  const base = svg("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT });
  const chart = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, base, area, ...lines, cursor);
  const value = el("div", { class: "value" });
  const number = el("span", { id: `tile-${tile.id}` }, "\u2013");
  value.append(number, " ", el("small", {}, tile.unit ?? ""));
  const top = el("span", { title: "the highest of the fifteen minutes" });
  const legend = el("div", { class: "legend" });
  const node = el("figure", { class: "tile" }, el("figcaption", { class: "label" }, el("span", {}, tile.label), top), value, chart, legend);
  chart.addEventListener("pointermove", (event) => point(event.offsetX / chart.clientWidth));
  chart.addEventListener("pointerleave", () => point(null));
  return { ...tile, node, number, chart, paths: lines, area, cursor, top, legendNode: legend };
});

let pointed = null;
let latest = null;

/** All charts show the same moment: one that is pointed at in one of them, or the last. */
function point(share) {
  const position = share === null ? null : Math.round(share * (SAMPLES - 1)) - (SAMPLES - samples.length);
  pointed = position !== null && position >= 0 && position < samples.length ? position : null;
  for (const tile of tiles) {
    attribute(tile.cursor, "visibility", pointed === null ? "hidden" : "visible");
    if (pointed !== null) {
      const x = pointed + SAMPLES - samples.length;
      attribute(tile.cursor, "x1", x);
      attribute(tile.cursor, "x2", x);
    }
  }
  if (latest) legends(latest);
}

function legends(overview) {
  for (const tile of tiles) {
    const sample = pointed === null ? null : samples[pointed];
    text(tile.legendNode, sample ? `${clock(sample.at * 1000)} ${tile.lines.map(([name, of, words]) => `${name} ${words(of(sample))}`).join("  ")}` : tile.legend(overview));
  }
}

function draw(tile) {
  const highest = Math.max(tile.floor ?? 0, ...samples.flatMap((sample) => tile.lines.map(([, of]) => of(sample))));
  const words = tile.lines[0][2];
  text(tile.top, highest > 0 ? `max ${words(highest)}` : "");
  const scale = highest > 0 ? (HEIGHT - 3) / highest : 0;
  const from = SAMPLES - samples.length;
  tile.lines.forEach(([, of], index) => {
    const points = samples.map((sample, at) => `${from + at} ${(HEIGHT - of(sample) * scale).toFixed(1)}`);
    attribute(tile.paths[index], "d", points.length ? `M${points.join("L")}` : "");
    if (index === 0) attribute(tile.area, "d", points.length ? `M${points.join("L")}L${SAMPLES - 1} ${HEIGHT}L${from} ${HEIGHT}Z` : "");
  });
  const last = samples.at(-1);
  attribute(tile.chart, "aria-label", `${tile.label} over fifteen minutes: ${last ? `now ${tile.lines.map(([name, of]) => `${name} ${words(of(last))}`.trim()).join(", ")}, ` : ""}at most ${words(highest)}`);
}

/** The history so far. */
export function history(all) {
  samples.splice(0, samples.length, ...all.slice(-SAMPLES));
  tiles.forEach(draw);
}

/** One more sample. */
export function sample(one) {
  if (samples.at(-1)?.at === one.at) return;
  samples.push(one);
  if (samples.length > SAMPLES) samples.shift();
  tiles.forEach(draw);
}

/** The numbers of this second. */
export function now(overview) {
  latest = overview;
  for (const tile of tiles) {
    text(tile.number, tile.now(overview));
    tile.node.classList.toggle("bad", tile.bad?.(overview) ?? false);
  }
  legends(overview);
}

byId("tiles").append(...tiles.map((tile) => tile.node));
