// The admin API: answers, orders, and the stream of events. The token lives in this tab and ends with it.

import { byId, tell, text } from "./dom.js";

const KEY = "weir-admin-token";

/** The token of this tab; empty when nobody has given it yet. */
export const token = () => sessionStorage.getItem(KEY) ?? "";

const headers = (more = {}) => (token() ? { authorization: `Bearer ${token()}`, ...more } : more);

/** What an answer says is wrong. */
async function problem(response) {
  const details = await response.json().catch(() => null);
  const error = new Error(details?.detail ?? `the answer was ${response.status}`);
  error.status = response.status;
  error.details = details;
  return error;
}

/** Reads a resource. Where reading needs the token, the stream of events asks for it. */
export async function read(path) {
  const response = await fetch(path, { headers: headers() });
  if (!response.ok) throw await problem(response);
  return response.json();
}

/** Changes something, or asks a question that needs the token. */
export async function order(method, path, body) {
  if (!token() && !(await askToken("Every change needs the admin token."))) return null;
  const response = await fetch(path, {
    method,
    headers: headers(body === undefined ? {} : { "content-type": "application/json" }),
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 401) {
    sessionStorage.removeItem(KEY);
    if (await askToken("That was not the admin token.")) return order(method, path, body);
    return null;
  }
  if (!response.ok) throw await problem(response);
  return response.status === 204 ? {} : response.json();
}

let asking = null;

/** Asks something in the dialog; null when it was cancelled. One question at a time. */
export function ask({ title, words, label, kind = "text", value = "", ok = "OK", limits = {} }) {
  if (asking) return asking;
  const dialog = byId("ask");
  const input = byId("ask-input");
  text(byId("ask-title"), title);
  text(byId("ask-text"), words);
  text(byId("ask-ok"), ok);
  byId("ask-label").hidden = !label;
  text(byId("ask-label").firstElementChild, label ?? "");
  for (const name of ["min", "max", "maxlength"]) input.removeAttribute(name);
  for (const [name, limit] of Object.entries(limits)) input.setAttribute(name, limit);
  input.type = kind;
  input.value = value;
  input.required = Boolean(label);
  dialog.returnValue = "";
  dialog.showModal();
  (label ? input : byId("ask-ok")).focus();
  if (label) input.select();
  asking = new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      asking = null;
      const given = input.value;
      input.value = "";
      resolve(dialog.returnValue === "ok" ? given : null);
    }, { once: true });
  });
  return asking;
}

// Cancel is a submit too; Enter in the field should mean OK.
byId("ask-input").addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    if (byId("ask-input").form.reportValidity()) byId("ask").close("ok");
  }
});

/** Asks for the token; false when it was not given. */
export async function askToken(words) {
  const given = await ask({
    title: "Admin token",
    words: `${words} It is admin.token of the configuration, or was printed at start. It is kept in this tab only.`,
    label: "Token",
    kind: "password",
    limits: { maxlength: 1024 },
  });
  if (given) sessionStorage.setItem(KEY, given.trim());
  return Boolean(given);
}

/** Follows the events for ever: `on(name, data)` for each, `lost(error)` when the stream ends. */
export async function follow(on, lost) {
  let last = "";
  for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
    try {
      const response = await fetch("api/v1/events", { headers: headers(last ? { "last-event-id": last } : {}) });
      if (response.status === 401) {
        lost(await problem(response));
        await askToken("Reading needs the admin token.");
        // After a cancel: until somebody gives it by the button.
        while (!token()) await new Promise((resolve) => setTimeout(resolve, 500));
        wait = 250;
        continue;
      }
      if (!response.ok) throw await problem(response);
      wait = 250;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let waiting = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        waiting += value;
        const blocks = waiting.split("\n\n");
        waiting = blocks.pop();
        for (const block of blocks) {
          const fields = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
          if (fields.id) last = fields.id;
          on(fields.event, JSON.parse(fields.data));
        }
      }
      lost(new Error("the stream ended"));
    } catch (error) {
      lost(error);
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** Does something that may fail, and says so. */
export async function attempt(work) {
  try {
    await work();
  } catch (error) {
    tell(error.message, true);
  }
}
