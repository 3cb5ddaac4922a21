// The flow: listener, route, upstream, endpoint, with traffic as width. Each column shows those with the most traffic
// or trouble, and the others together, so that it can be read with a thousand endpoints too.

import { attribute, byId, keyed, svg, text } from "./dom.js";
import { count } from "./words.js";

const COLUMNS = ["listeners", "routes", "upstreams", "endpoints"];
/** Of each column, so that all of them fit a screen. */
const SHOWN = 12;
const [BAR, GAP, TOP] = [9, 9, 22];
const LEAST = 13;

let select = () => {};

const root = svg("svg", { role: "group", "aria-label": "Traffic from listeners to endpoints" });
const titles = COLUMNS.map((name) => svg("text", { class: "title", y: 12 }, name));
const links = svg("g");
const knots = svg("g");
root.append(...titles, links, knots);
byId("flow").append(root);
const known = { links: new Map(), knots: new Map() };

/** Whom to tell of a click: `select(kind, name)`. */
export const onSelect = (callback) => { select = callback; };

/** Everything that flows: knots by column, and links from one to the next. */
function graph(snapshot, routes) {
  const columns = COLUMNS.map(() => new Map());
  const flows = new Map();
  const knot = (column, name, more = {}) => {
    const found = columns[column].get(name) ?? { column, name, rate: 0, trouble: 0 };
    columns[column].set(name, Object.assign(found, more));
    return found;
  };
  const flow = (column, from, to, rate) => {
    const key = `${column}\n${from}\n${to}`;
    const found = flows.get(key) ?? { column, from, to, rate: 0 };
    found.rate += rate;
    flows.set(key, found);
  };
  for (const listener of snapshot.listeners) knot(0, listener.name).rate = listener.requests_per_second;
  const rest = { name: "no route", ...snapshot.unrouted };
  for (const route of rest.requests ? [...snapshot.routes, rest] : snapshot.routes) {
    const trouble = route.traffic.error_share >= 0.01 ? 1 : 0;
    knot(1, route.name, { trouble }).rate = route.traffic.requests_per_second;
    for (const through of route.listeners) {
      if (columns[0].has(through.listener)) flow(0, through.listener, route.name, through.requests_per_second);
    }
    const known = routes.get(route.name);
    for (const { upstream, share } of known?.upstreams ?? []) flow(1, route.name, upstream, route.traffic.requests_per_second * share);
    if (!known?.upstreams.length) {
      const answer = known ? (known.does === "redirect" ? "redirected" : "answered") : "refused";
      knot(2, answer, { own: true }).rate += route.traffic.requests_per_second;
      flow(1, route.name, answer, route.traffic.requests_per_second);
    }
  }
  for (const upstream of snapshot.upstreams) {
    const trouble = upstream.alive === 0 ? 2 : upstream.alive < upstream.endpoints.length ? 1 : 0;
    knot(2, upstream.name, { trouble }).rate = upstream.requests_per_second;
    for (const endpoint of upstream.endpoints) {
      // One address may be an endpoint of two upstreams.
      const name = `${upstream.name} ${endpoint.endpoint}`;
      const trouble = endpoint.alive ? 0 : endpoint.state === "draining" ? 1 : 2;
      knot(3, name, { trouble, label: endpoint.endpoint, filter: endpoint.endpoint, state: endpoint.state }).rate = endpoint.requests_per_second;
      flow(2, upstream.name, name, endpoint.requests_per_second);
    }
  }
  return { columns, flows };
}

/** The most important of a column, and one for all others. */
function shorten(column, index) {
  const all = [...column.values()];
  if (all.length <= SHOWN) return { shown: all, place: (name) => name };
  const ranked = [...all].sort((a, b) => b.rate - a.rate || b.trouble - a.trouble);
  const kept = new Set(ranked.slice(0, SHOWN - 1).map((knot) => knot.name));
  const others = all.filter((knot) => !kept.has(knot.name));
  const trouble = others.filter((knot) => knot.trouble > 1).length;
  const label = `${others.length} others${trouble ? `, ${trouble} out` : ""}`;
  const rest = { column: index, name: "\n", label, rate: others.reduce((sum, knot) => sum + knot.rate, 0), trouble: trouble ? 1 : 0, own: true };
  return { shown: [...all.filter((knot) => kept.has(knot.name)), rest], place: (name) => (kept.has(name) ? name : "\n") };
}

/** Draws it for this width. */
export function draw(snapshot, routes) {
  const width = Math.max(320, byId("flow").clientWidth - 24);
  const { columns, flows } = graph(snapshot, routes);
  const short = columns.map(shorten);
  const total = Math.max(...short.map(({ shown }) => shown.reduce((sum, knot) => sum + knot.rate, 0)), 1e-9);
  const most = Math.max(...short.map(({ shown }) => shown.length));
  const room = Math.min(200, 60 + most * 14);
  // Every knot has room for its label, and the rest is shared by traffic.
  const high = (rate) => Math.max(2, (rate / total) * room);
  const label = Math.min(190, width * 0.19);
  const x = (column) => (column * (width - BAR - label)) / (COLUMNS.length - 1);
  let height = 0;
  const placed = new Map();
  short.forEach(({ shown }, column) => {
    let y = TOP;
    for (const knot of shown) {
      const size = high(knot.rate);
      placed.set(`${column}\n${knot.name}`, { ...knot, x: x(column), y: y + Math.max(0, (LEAST - size) / 2), size, left: 0, right: 0 });
      y += Math.max(size, LEAST) + GAP;
    }
    height = Math.max(height, y);
  });
  const merged = new Map();
  for (const { column, from, to, rate } of flows.values()) {
    const [a, b] = [`${column}\n${short[column].place(from)}`, `${column + 1}\n${short[column + 1].place(to)}`];
    const key = `${a}\n\n${b}`;
    const link = merged.get(key) ?? { key, a, b, rate: 0 };
    link.rate += rate;
    merged.set(key, link);
  }
  const ordered = [...merged.values()].filter(({ a, b }) => placed.has(a) && placed.has(b)).sort((one, other) => placed.get(one.b).y - placed.get(other.b).y);
  keyed(links, known.links, ordered, (link) => link.key, () => svg("path", {}), (node, link) => band(node, link, placed, total, room));
  keyed(knots, known.knots, placed.values(), (knot) => `${knot.column}\n${knot.name}`, create, (node, knot) => update(node, knot, label));
  titles.forEach((title, column) => attribute(title, "x", x(column)));
  attribute(root, "viewBox", `0 0 ${width} ${Math.ceil(height)}`);
  attribute(root, "height", Math.ceil(height));
}

/** A band between two knots, as wide as its traffic. */
function band(node, { a, b, rate }, placed, total, room) {
  const [from, to] = [placed.get(a), placed.get(b)];
  const wide = Math.max(1, (rate / total) * room);
  // Bands lie side by side, and never beyond the knot: rates of a split are by its shares, not counted.
  const [y1, y2] = [from.y + Math.min(from.right, Math.max(0, from.size - wide)), to.y + Math.min(to.left, Math.max(0, to.size - wide))];
  if (rate > 0) {
    from.right += wide;
    to.left += wide;
  }
  const [x1, x2] = [from.x + BAR, to.x];
  const middle = x1 + (x2 - x1) * 0.55;
  const n = (value) => value.toFixed(1);
  attribute(node, "d", `M${n(x1)} ${n(y1)}C${n(middle)} ${n(y1)} ${n(middle)} ${n(y2)} ${n(x2)} ${n(y2)}V${n(y2 + wide)}C${n(middle)} ${n(y2 + wide)} ${n(middle)} ${n(y1 + wide)} ${n(x1)} ${n(y1 + wide)}Z`);
  attribute(node, "class", rate > 0 ? "link" : "link idle");
}

function create(knot) {
  const kind = COLUMNS[knot.column].slice(0, -1);
  const name = svg("tspan");
  const rate = svg("tspan", { class: "rate" });
  const node = svg("g", {}, svg("title"), svg("rect", { width: BAR, rx: 2 }), svg("text", { "dominant-baseline": "central" }, name, rate));
  if (knot.own) return node;
  const chosen = () => select(kind, knot.filter ?? knot.name);
  node.addEventListener("click", chosen);
  node.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      chosen();
    }
  });
  attribute(node, "tabindex", 0);
  attribute(node, "role", "button");
  return node;
}

const MARKS = ["", "\u25B2 ", "\u2715 "];

function update(node, knot, room) {
  const [title, rect, label] = node.children;
  const full = knot.label ?? knot.name;
  // About 7 pixels to a letter.
  const letters = Math.max(8, Math.floor(room / 7) - 7);
  const short = full.length > letters ? `${full.slice(0, letters - 1)}\u2026` : full;
  text(title, `${full}: ${count(knot.rate)} requests a second${knot.state && knot.state !== "healthy" ? `, ${knot.state}` : ""}`);
  text(label.firstChild, MARKS[knot.trouble] + short);
  text(label.lastChild, `  ${count(knot.rate)}`);
  attribute(node, "class", `knot${knot.rate > 0 ? "" : " idle"}${["", " warn", " bad"][knot.trouble]}`);
  attribute(rect, "x", knot.x.toFixed(1));
  attribute(rect, "y", knot.y.toFixed(1));
  attribute(rect, "height", knot.size.toFixed(1));
  attribute(label, "x", (knot.x + BAR + 6).toFixed(1));
  attribute(label, "y", (knot.y + knot.size / 2).toFixed(1));
}
