// The page: what each part shows of a snapshot, and what the buttons order.

import { ask, askToken, attempt, follow, order, read } from "./api.js";
import * as charts from "./charts.js";
import { attribute, byId, el, tell, text } from "./dom.js";
import "./explain.js";
import * as flow from "./flow.js";
import { table } from "./table.js";
import { clock, count, milliseconds, percent, since, span } from "./words.js";

/** Routes as they are configured, by name: read again for each generation. */
const routes = new Map();
let generation = null;
let latest = null;

// Tables.

const path = (row) => `api/v1/upstreams/${encodeURIComponent(row.upstream)}/endpoints/${encodeURIComponent(row.endpoint)}`;

async function change(row, body, words) {
  await attempt(async () => {
    const answer = await order("PATCH", path(row), body);
    if (answer) tell(`${row.endpoint} ${words}. Note: ${answer.notes.join("; ")}.`);
  });
}

async function weigh(row) {
  const given = await ask({
    title: "Weight", words: `The share of ${row.endpoint} in ${row.upstream}, relative to the other endpoints.`,
    label: "Weight", kind: "number", value: row.weight, limits: { min: 1, max: 65535 },
  });
  if (given !== null) await change(row, { weight: Number(given) }, `has weight ${Number(given)}`);
}

const isOut = (row) => row.state === "draining" || row.state === "disabled";

const endpoints = table({
  node: byId("endpoints"),
  id: "endpoints",
  title: "Endpoints",
  hint: (rows) => `${rows.length} endpoints, ${rows.filter((row) => !row.alive).length} out`,
  searched: (row) => `${row.upstream} ${row.endpoint} ${row.state} ${row.reason} ${row.zone ?? ""}`,
  sorted: null,
  columns: [
    { title: "Upstream", width: "minmax(80px, 1.1fr)", value: (row) => row.upstream },
    { title: "Endpoint", width: "minmax(130px, 1.5fr)", value: (row) => row.endpoint },
    {
      title: "State", width: "100px", value: (row) => row.state,
      create: (cell) => cell.append(el("span")),
      fill: (cell, row) => { text(cell.firstChild, row.state.replace("_", " ")); attribute(cell.firstChild, "class", `state ${row.state}`); },
    },
    { title: "Why", width: "minmax(90px, 1.5fr)", value: (row) => row.reason },
    { title: "Since", width: "62px", value: (row) => -Date.parse(row.since), words: (row) => since(row.since), number: true },
    {
      title: "Weight", width: "70px", value: (row) => row.weight, number: true,
      create: (cell, current) => cell.append(el("button", { onclick: () => weigh(current()) })),
      fill: (cell, row) => { text(cell.firstChild, row.weight); attribute(cell.firstChild, "aria-label", `Weight of ${row.endpoint}: ${row.weight}`); attribute(cell.firstChild, "title", "Change the weight"); },
    },
    {
      title: "Requests/s", width: "120px", value: (row) => row.requests_per_second, number: true,
      create: (cell) => cell.append(el("span", { class: "bar" }), el("span")),
      fill: (cell, row) => { const wide = `${Math.round(row.part * 52)}px`; if (cell.firstChild.style.width !== wide) cell.firstChild.style.width = wide; text(cell.lastChild, count(row.requests_per_second)); },
    },
    { title: "Errors", width: "62px", value: (row) => row.error_share, words: (row) => percent(row.error_share), number: true },
    { title: "In flight", width: "70px", value: (row) => row.in_flight, words: (row) => count(row.in_flight), number: true },
    { title: "p50", width: "70px", value: (row) => row.p50_ms, words: (row) => milliseconds(row.p50_ms), number: true, help: "Time to the response header, over the last minute" },
    { title: "p99", width: "70px", value: (row) => row.p99_ms, words: (row) => milliseconds(row.p99_ms), number: true, help: "Time to the response header, over the last minute" },
    { title: "Ejections", width: "74px", value: (row) => row.ejections, number: true, help: "How often its circuit has opened" },
    {
      title: "", width: "142px",
      create: (cell, current) => {
        cell.className = "buttons";
        cell.append(
          el("button", { onclick: () => { const row = current(); change(row, { state: isOut(row) ? "enabled" : "draining" }, isOut(row) ? "takes requests again" : "drains"); } }),
          el("button", { onclick: () => change(current(), { state: "disabled" }, "is disabled") }, "Disable"),
        );
      },
      fill: (cell, row) => {
        const [first, second] = cell.children;
        text(first, isOut(row) ? "Enable" : "Drain");
        attribute(first, "aria-label", `${isOut(row) ? "Enable" : "Drain"} ${row.endpoint} of ${row.upstream}`);
        attribute(second, "aria-label", `Disable ${row.endpoint} of ${row.upstream}`);
        second.hidden = row.state === "disabled";
      },
    },
  ],
});

const routeTable = table({
  node: byId("routes"),
  id: "routes",
  title: "Routes",
  hint: (rows) => `${rows.length} routes`,
  searched: (row) => `${row.name} ${row.hosts} ${row.path} ${row.to}`,
  sorted: null,
  columns: [
    { title: "Route", width: "minmax(90px, 1.1fr)", value: (row) => row.name },
    { title: "Host", width: "minmax(90px, 1.3fr)", value: (row) => row.hosts },
    { title: "Path", width: "minmax(90px, 1.3fr)", value: (row) => row.path },
    { title: "To", width: "minmax(90px, 1.2fr)", value: (row) => row.to },
    {
      title: "Requests/s", width: "120px", value: (row) => row.rate, number: true,
      create: (cell) => cell.append(el("span", { class: "bar" }), el("span")),
      fill: (cell, row) => { const wide = `${Math.round(row.part * 52)}px`; if (cell.firstChild.style.width !== wide) cell.firstChild.style.width = wide; text(cell.lastChild, count(row.rate)); },
    },
    { title: "Errors", width: "62px", value: (row) => row.traffic.error_share, words: (row) => percent(row.traffic.error_share), number: true },
    { title: "In flight", width: "70px", value: (row) => row.in_flight, words: (row) => count(row.in_flight), number: true },
    { title: "p50", width: "74px", value: (row) => row.traffic.p50_ms, words: (row) => milliseconds(row.traffic.p50_ms), number: true },
    { title: "p95", width: "74px", value: (row) => row.traffic.p95_ms, words: (row) => milliseconds(row.traffic.p95_ms), number: true },
    { title: "p99", width: "74px", value: (row) => row.traffic.p99_ms, words: (row) => milliseconds(row.traffic.p99_ms), number: true },
    { title: "Requests", width: "80px", value: (row) => row.requests, words: (row) => count(row.requests), number: true, help: "Since the start" },
  ],
});

function goesTo(route) {
  if (!route) return "";
  if (!route.upstreams.length) return route.does;
  return route.upstreams.map(({ upstream, share }) => (route.does === "split" ? `${upstream} ${percent(share)}` : upstream)).join(", ");
}

function endpointRows(snapshot) {
  const rows = snapshot.upstreams.flatMap((upstream) => upstream.endpoints.map((endpoint) => ({ ...endpoint, upstream: upstream.name, key: `${upstream.name} ${endpoint.endpoint}` })));
  const most = Math.max(...rows.map((row) => row.requests_per_second), 1e-9);
  for (const row of rows) row.part = row.requests_per_second / most;
  return rows;
}

function routeRows(snapshot) {
  const most = Math.max(...snapshot.routes.map((route) => route.traffic.requests_per_second), 1e-9);
  return snapshot.routes.map((route) => {
    const known = routes.get(route.name);
    const rate = route.traffic.requests_per_second;
    return { ...route, key: route.name, rate, part: rate / most, hosts: known?.hosts.join(", ") || "any", path: known?.path ?? "", to: goesTo(known) };
  });
}

// The verdict.

const WORDS = { ok: "OK", degraded: "Degraded", down: "Down" };

function verdict({ verdict, version, generation, uptime_seconds }) {
  attribute(byId("verdict"), "data-state", verdict.state);
  text(byId("verdict-word"), WORDS[verdict.state]);
  text(byId("verdict-text"), verdict.text);
  attribute(byId("verdict-text"), "title", verdict.text);
  const more = verdict.causes.length - 1;
  byId("verdict-more").hidden = more < 1;
  text(byId("verdict-more"), `and ${more} more`);
  const list = byId("causes");
  if (more < 1) list.hidden = true;
  if (!list.hidden) {
    list.replaceChildren(...verdict.causes.map(({ severity, subject, text }) => el("li", {}, el("strong", {}, WORDS[severity]), ` ${subject ? `${subject}: ` : ""}${text}`)));
  }
  text(byId("facts"), `Weir ${version} \u00b7 generation ${generation} \u00b7 up ${span(uptime_seconds)}`);
  document.title = verdict.state === "ok" ? "Weir" : `${WORDS[verdict.state]} \u2013 Weir`;
}

byId("verdict-more").addEventListener("click", () => {
  const list = byId("causes");
  list.hidden = !list.hidden;
  attribute(byId("verdict-more"), "aria-expanded", !list.hidden);
  if (latest) verdict(latest.overview);
});

// Lists.

const TONES = { good: "\u2713", neutral: "\u2022", bad: "\u2715" };
/** As many as the process keeps. */
const EVENTS = 256;

function happened(event) {
  const list = byId("timeline");
  const about = [event.upstream, event.endpoint].filter(Boolean).join(" ");
  list.prepend(el("li", { class: event.tone },
    el("time", { datetime: event.at, title: event.at }, clock(event.at)),
    el("span", { class: "tone", "aria-label": event.tone, role: "img" }, TONES[event.tone]),
    el("span", { class: "what" }, el("strong", {}, about || event.topic), ` ${event.text}`),
  ));
  while (list.childElementCount > EVENTS) list.lastChild.remove();
}

async function errors() {
  const { errors } = await read("api/v1/errors");
  const line = (error) => el("li", {},
    el("time", { datetime: error.at, title: error.at }, clock(error.at)),
    el("span", { class: "status" }, error.status || "\u2013"),
    el("span", { class: "what" },
      `${error.method} ${error.host}${error.path} `,
      el("span", { class: "dim", title: `request ${error.request_id} from ${error.client}` },
        [error.reason ?? error.error, error.route && `route ${error.route}`, error.endpoint].filter(Boolean).join(", ")),
    ),
  );
  const list = byId("errors");
  const first = errors[0]?.request_id ?? "";
  if (list.dataset.first === first && list.childElementCount) return;
  list.dataset.first = first;
  list.replaceChildren(...(errors.length ? errors.map(line) : [el("li", { class: "dim" }, "None since the start.")]));
}

async function certificates() {
  const { certificates, automatic } = await read("api/v1/certificates");
  const byName = new Map(automatic.map((one) => [one.name, one]));
  const renew = (name) => el("button", {
    type: "button",
    title: `Order a certificate for ${name} now`,
    onclick: () => attempt(async () => {
      if (await order("POST", `api/v1/certificates/${encodeURIComponent(name)}/renew`)) tell(`A certificate for ${name} is ordered.`);
    }),
  }, "Renew");
  const from = (one) => ({ file: "from a file", self_signed: "self-signed", acme: `from ${one.authority}` })[one.source];
  const line = (one) => {
    const days = one.days_left < 0 ? "expired" : `${one.days_left < 10 ? one.days_left : Math.floor(one.days_left)} days`;
    const mark = one.days_left < 0 ? "\u2715 " : one.days_left < 14 && one.source !== "acme" ? "\u25B2 " : "";
    const state = one.source === "acme" ? byName.get(one.name) : null;
    const next = state?.next ? `\n${state.failures ? "next try" : "renewal"} ${state.next}` : "";
    return el("li", { title: `${one.names.join(", ")}\nby ${one.issuer}\nuntil ${one.not_after}${next}` },
      el("strong", {}, one.name),
      el("span", { class: "dim" }, `on ${one.listener}${one.names.length > 1 ? `, ${one.names.length} names` : ""}, ${from(one)}`),
      state?.last_error ? el("span", { class: "soon" }, `\u25B2 not renewed: ${state.last_error}`) : null,
      el("span", { class: `days ${one.days_left < 0 ? "over" : mark ? "soon" : ""}` }, mark + days),
      state ? renew(one.name) : null);
  };
  const missing = (one) => el("li", {},
    el("strong", {}, one.name),
    el("span", { class: one.last_error ? "over" : "dim" },
      one.last_error ? `\u2715 no certificate: ${one.last_error}` : "a certificate is being ordered"),
    el("span", { class: "days" }, one.last_error && one.next ? `next try ${clock(one.next)}` : ""),
    renew(one.name));
  const lines = [...automatic.filter((one) => one.days_left === undefined).map(missing), ...certificates.map(line)];
  byId("certificates").replaceChildren(...(lines.length ? lines : [el("li", { class: "dim" }, "No listener speaks TLS.")]));
}

async function configuration() {
  const answer = await read("api/v1/routes");
  routes.clear();
  for (const route of answer.routes) routes.set(route.name, route);
}

// What goes on.

function render() {
  if (!latest || document.hidden) return;
  performance.clearMeasures("render");
  performance.mark("begin");
  verdict(latest.overview);
  charts.now(latest.overview);
  flow.draw(latest, routes);
  endpoints.set(endpointRows(latest));
  routeTable.set(routeRows(latest));
  performance.measure("render", "begin");
}

const handlers = {
  snapshot(snapshot) {
    latest = snapshot;
    if (snapshot.overview.generation !== generation) {
      generation = snapshot.overview.generation;
      attempt(async () => {
        await Promise.all([configuration(), certificates()]);
        render();
      });
    }
    render();
  },
  sample: (sample) => charts.sample(sample),
  change: (event) => happened(event),
};

let wasLost = true;

function on(event, data) {
  if (wasLost) {
    wasLost = false;
    attempt(async () => charts.history((await read("api/v1/history")).samples));
    attempt(errors);
  }
  handlers[event]?.(data);
}

function lost(error) {
  wasLost = true;
  attribute(byId("verdict"), "data-state", "lost");
  text(byId("verdict-word"), "No contact");
  text(byId("verdict-text"), `${error.message}; trying again`);
}

// Buttons.

byId("token").addEventListener("click", () => askToken("Every change needs it."));

byId("reload").addEventListener("click", async () => {
  const sure = await ask({ title: "Reload", words: "The configuration file is read again and put into service, if it has no errors.", ok: "Reload" });
  if (sure === null) return;
  await attempt(async () => {
    const answer = await order("POST", "api/v1/config/reload", {});
    if (answer) tell([`Generation ${answer.generation} is in service.`, ...answer.notes].join(" "));
  });
});

const THEMES = ["", "light", "dark"];
function theme(name) {
  attribute(document.documentElement, "data-theme", name || null);
  text(byId("theme"), name ? name[0].toUpperCase() + name.slice(1) : "Theme");
}
theme(localStorage.getItem("weir-theme") ?? "");
byId("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(localStorage.getItem("weir-theme") ?? "") + 1) % THEMES.length];
  localStorage.setItem("weir-theme", next);
  theme(next);
});

flow.onSelect((kind, name) => {
  const wanted = kind === "listener" ? null : kind === "route" ? routeTable : endpoints;
  wanted?.filter(name);
});

addEventListener("resize", () => latest && flow.draw(latest, routes));
document.addEventListener("visibilitychange", render);
setInterval(() => document.hidden || wasLost || errors().catch(() => {}), 3000);
setInterval(() => wasLost || certificates().catch(() => {}), 10_000);

follow(on, lost);
