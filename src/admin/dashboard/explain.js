// The explain box: what would become of a request. The answer is shown as it is, key by key.

import { attempt, order } from "./api.js";
import { byId, el } from "./dom.js";

const words = (key) => key.replaceAll("_", " ");

/** Any JSON as lists of keys and values. */
function show(value) {
  if (value === null || value === undefined) return el("span", { class: "dim" }, "\u2013");
  if (Array.isArray(value)) {
    if (!value.length) return el("span", { class: "dim" }, "none");
    return el("ol", {}, ...value.map((item) => el("li", {}, typeof item === "object" && item ? line(item) : show(item))));
  }
  if (typeof value === "object") return el("dl", {}, ...Object.entries(value).flatMap(([key, item]) => [el("dt", {}, words(key)), el("dd", {}, show(item))]));
  return el("span", {}, String(value));
}

/** An object of simple values in one line; else as any other. */
function line(item) {
  const entries = Object.entries(item).filter(([, value]) => value !== null);
  if (entries.some(([, value]) => typeof value === "object")) return show(item);
  return el("span", {}, ...entries.flatMap(([key, value], index) => [index ? " \u00b7 " : null, el("span", { class: "dim" }, `${words(key)} `), String(value)]));
}

byId("explain").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const headers = {};
  for (const field of form.get("headers").split("\n").filter((field) => field.includes(":"))) {
    const [name, ...value] = field.split(":");
    (headers[name.trim().toLowerCase()] ??= []).push(value.join(":").trim());
  }
  const request = { method: form.get("method").trim() || "GET", url: form.get("url").trim(), headers };
  if (form.get("client").trim()) request.client = form.get("client").trim();
  attempt(async () => {
    const answer = await order("POST", "api/v1/explain", request);
    if (answer) byId("explained").replaceChildren(show(answer));
  });
});
