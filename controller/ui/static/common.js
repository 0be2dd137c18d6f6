// What all pages share. The store holds hostile text: everything is shown through textContent, and nothing that was
// read is ever parsed as HTML.
export const byId = (id) => document.getElementById(id);
export const page = JSON.parse(byId("page").textContent);
export const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  if (className) element.className = className;
  return element;
};
export const show = (element, visible) => { element.hidden = !visible; };
const part = (text) => encodeURIComponent(text.toWellFormed ? text.toWellFormed() : text);
export const address = (name, version, rest = "") => `/experiments/${part(name)}/${part(version)}${rest}`;
export const query = (fields) => "?" + Object.entries(fields).map(([name, value]) => `${name}=${part(String(value))}`).join("&");

// ---- numbers and times, as the report writes them
export const number = (value) => value.toLocaleString("en");
export const percent = (value) => `${(value * 100).toFixed(1)}%`;
export const duration = (seconds) => {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 100) return `${whole} s`;
  if (whole < 6000) return `${Math.round(whole / 60)} min`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.round((whole % 86400) / 3600)} h`;
};
export const ago = (iso) => (iso ? `${duration((Date.now() - Date.parse(iso)) / 1000)} ago` : "");
export const moment = (iso) => (iso ? new Date(iso).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "");
export const STATES = { succeeded: "✓ succeeded", failed: "✗ failed", partially_failed: "✗ partially failed", unreadable: "✗ damaged",
  running: "● running", silent: "○ no sign of life", unfinished: "unfinished", accepted: "accepted" };

// ---- asking the server
const tags = new Map();
const troubles = new Map();
const tell = () => {
  const text = [...new Set(troubles.values())].join(" ");
  byId("trouble").textContent = text;
  show(byId("trouble"), text !== "");
};
// The answer, or undefined where it failed: then the page says so, and keeps what it shows.
export const ask = async (url) => {
  try {
    const answer = await fetch(url);
    const value = await answer.json();
    if (!answer.ok) throw new Error(value.error || `the server answered ${answer.status}`);
    troubles.delete(url);
    tell();
    const tag = answer.headers.get("etag"), changed = tag === null || tags.get(url) !== tag;
    tags.set(url, tag);
    return { value, changed };
  } catch (error) {
    troubles.set(url, error instanceof TypeError ? "The server of this page does not answer: is potstill ui still running?" : error.message);
    tell();
    return undefined;
  }
};
// Calls `round` now and again after as many seconds as it returns; not while the page is hidden.
export const repeat = (round) => {
  let timer, busy = false;
  const next = async () => {
    if (busy) return;
    busy = true;
    clearTimeout(timer);
    const seconds = document.hidden ? 5 : await round();
    byId("fresh").textContent = `Last read at ${new Date().toLocaleTimeString("en-GB")}.`;
    busy = false;
    timer = setTimeout(next, seconds * 1000);
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) next(); });
  next();
  return next;
};

// ---- tables that change in place, so that the focus and the selection stay
const written = new WeakMap();
// A cell is a text, or {text, title, className, href, progress: [done, total], small, node: {key, make}}.
const fillCell = (cell, given) => {
  const wanted = typeof given === "string" ? { text: given } : given;
  const seen = JSON.stringify({ ...wanted, node: wanted.node?.key });
  if (written.get(cell) === seen) return;
  written.set(cell, seen);
  cell.className = wanted.className || "";
  cell.title = wanted.title || "";
  const inner = wanted.href ? make("a", wanted.text) : document.createTextNode(wanted.text ?? "");
  if (wanted.href) inner.href = wanted.href;
  const parts = [inner];
  if (wanted.node) parts.push(wanted.node.make());
  if (wanted.progress) {
    const bar = make("progress");
    [bar.value, bar.max] = [wanted.progress[0], Math.max(1, wanted.progress[1])];
    bar.setAttribute("aria-label", wanted.text || "progress");
    parts.push(bar);
  }
  if (wanted.small) parts.push(make("small", wanted.small));
  cell.replaceChildren(...parts);
};
// `rows`: [key, cells] each; the first cell is the row's heading unless `heading` is another index.
export const fillTable = (body, rows, heading = 0) => {
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const wanted = rows.map(([key, cells]) => {
    const row = known.get(key) || make("tr");
    row.dataset.key = key;
    cells.forEach((cell, index) => {
      if (!row.cells[index]) {
        const made = make(index === heading ? "th" : "td");
        if (index === heading) made.scope = "row";
        row.append(made);
      }
      fillCell(row.cells[index], cell);
    });
    return row;
  });
  wanted.forEach((row, index) => { if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] || null); });
  while (body.rows.length > wanted.length) body.rows[body.rows.length - 1].remove();
};
export const fillSelect = (select, entries, chosen) => {
  const seen = JSON.stringify(entries), value = entries.some(([key]) => key === select.value) ? select.value : chosen;
  if (written.get(select) !== seen) {
    written.set(select, seen);
    select.replaceChildren(...entries.map(([key, text]) => {
      const option = make("option", text);
      option.value = key;
      return option;
    }));
  }
  if (entries.some(([key]) => key === value)) select.value = value;
};
