// A table of any length: it can be filtered and sorted, and only the rows that are seen exist.

import { attribute, el, text } from "./dom.js";

const ROW = 30;
/** Rows kept beyond what is seen, so that scrolling shows no gaps. */
const BEYOND = 6;

/**
 * `columns`: each `{title, width, value(row), words(row), number, fill(cell, row), create(cell, current)}`. `words` is
 * what is shown, `value` what is sorted by; `create` is called once for each row element, and `current()` tells its row.
 */
export function table({ node, id, title, hint, columns, searched, sorted }) {
  let rows = [];
  let shown = [];
  let order = sorted;
  const elements = new Map();

  const search = el("input", { type: "search", placeholder: "Filter", "aria-label": `Filter ${title}`, maxlength: 200, spellcheck: "false" });
  const hintNode = el("p", { class: "hint", role: "status" });
  const head = el("div", { class: "head" }, el("h2", { id: `${id}-title` }, title), hintNode, search);
  const headings = el("div", { class: "row headings", role: "row" });
  const buttons = columns.map((column, index) => {
    const cell = el("div", { role: "columnheader", class: column.number ? "number" : "" });
    if (column.value) cell.append(el("button", { title: column.help ?? null, onclick: () => sortBy(index) }, column.title));
    else cell.append(column.title);
    headings.append(cell);
    return cell;
  });
  const space = el("div", { class: "space body", role: "rowgroup" });
  const scroll = el("div", { class: "scroll", tabindex: "0", "aria-label": `${title}, rows` }, space);
  const whole = el("div", { class: "table", role: "table", "aria-labelledby": `${id}-title` }, el("div", { role: "rowgroup" }, headings), scroll);
  whole.style.setProperty("--columns", columns.map((column) => column.width).join(" "));
  const empty = el("p", { class: "empty", hidden: true }, "Nothing here.");
  node.append(head, whole, empty);

  search.addEventListener("input", () => { scroll.scrollTop = 0; arrange(); });
  scroll.addEventListener("scroll", () => render(), { passive: true });

  function sortBy(index) {
    order = order?.index === index ? { index, down: !order.down } : { index, down: Boolean(columns[index].number) };
    arrange();
  }

  function arrange() {
    const wanted = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    shown = wanted.length ? rows.filter((row) => { const words = searched(row).toLowerCase(); return wanted.every((word) => words.includes(word)); }) : [...rows];
    if (order) {
      const { value } = columns[order.index];
      const sign = order.down ? -1 : 1;
      const keyed = shown.map((row, at) => [value(row), at, row]);
      keyed.sort(([a, x], [b, y]) => (a < b ? -sign : a > b ? sign : x - y));
      shown = keyed.map(([, , row]) => row);
    }
    buttons.forEach((cell, index) => attribute(cell, "aria-sort", order?.index === index ? (order.down ? "descending" : "ascending") : null));
    text(hintNode, shown.length === rows.length ? hint(rows) : `${shown.length} of ${rows.length}`);
    empty.hidden = shown.length > 0;
    attribute(whole, "aria-rowcount", shown.length + 1);
    space.style.height = `${shown.length * ROW}px`;
    render();
  }

  function row() {
    const element = { row: null };
    element.cells = columns.map((column) => {
      const cell = el("div", { role: "cell", class: column.number ? "number" : "" });
      column.create?.(cell, () => element.row);
      return cell;
    });
    element.node = el("div", { class: "row", role: "row" }, ...element.cells);
    space.append(element.node);
    return element;
  }

  function render() {
    const first = Math.max(0, Math.floor(scroll.scrollTop / ROW) - BEYOND);
    const last = Math.min(shown.length, Math.ceil((scroll.scrollTop + scroll.clientHeight || ROW * 12) / ROW) + BEYOND);
    // An element stays with its row, so that the focus does.
    const wanted = new Set(shown.slice(first, last).map((one) => one.key));
    const free = [];
    for (const [key, element] of elements) {
      if (!wanted.has(key)) {
        elements.delete(key);
        free.push(element);
      }
    }
    for (let at = first; at < last; at++) {
      const one = shown[at];
      const element = elements.get(one.key) ?? free.pop() ?? row();
      elements.set(one.key, element);
      element.row = one;
      const top = `${at * ROW}px`;
      if (element.node.style.top !== top) element.node.style.top = top;
      attribute(element.node, "aria-rowindex", at + 2);
      columns.forEach((column, index) => {
        if (column.fill) column.fill(element.cells[index], one);
        else {
          const words = column.words ? column.words(one) : column.value(one);
          text(element.cells[index], words);
          if (!column.number) attribute(element.cells[index], "title", words);
        }
      });
    }
    free.forEach((element) => element.node.remove());
  }

  return {
    /** Shows these rows, each with a `key` of its own. */
    set(all) {
      rows = all;
      arrange();
    },
    /** Filters by these words. */
    filter(words) {
      search.value = words;
      scroll.scrollTop = 0;
      arrange();
      search.focus({ preventScroll: true });
    },
  };
}
