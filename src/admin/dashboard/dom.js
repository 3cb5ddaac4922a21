// Elements. Text from outside becomes text and nothing else: nothing here or elsewhere on this page parses HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** An element of HTML. Children are nodes or text. */
export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** An element of SVG. */
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export const byId = (id) => document.getElementById(id);

/** Sets the text if it is another: a page that is drawn every second should touch little. */
export function text(node, value) {
  const shown = String(value);
  if (node.textContent !== shown) node.textContent = shown;
}

/** Sets an attribute if it is another; null removes it. */
export function attribute(node, name, value) {
  if (value == null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Keeps one child for each item, by key: what stays keeps its element, and with it the focus. */
export function keyed(parent, known, items, key, create, update) {
  const seen = new Set();
  for (const item of items) {
    const name = key(item);
    seen.add(name);
    let node = known.get(name);
    if (!node) {
      node = create(item);
      known.set(name, node);
      parent.append(node);
    }
    update(node, item);
  }
  for (const [name, node] of known) {
    if (!seen.has(name)) {
      node.remove();
      known.delete(name);
    }
  }
}

/** A message at the edge of the page, for some seconds. */
export function tell(message, failed = false) {
  const note = el("p", failed ? { class: "failed" } : {}, message);
  const box = byId("messages");
  while (box.childElementCount > 3) box.firstChild.remove();
  box.append(note);
  setTimeout(() => note.remove(), failed ? 12000 : 6000);
}
