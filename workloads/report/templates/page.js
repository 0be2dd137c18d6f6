"use strict";
// Outputs are hostile text: everything is shown through textContent, and nothing is ever parsed as HTML.
const byId = (id) => document.getElementById(id);
const index = JSON.parse(byId("index").textContent);
const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};
const unpack = async (id) => {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};

// ---- plots
const themed = (layout, narrow) => {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim(), line = style.getPropertyValue("--line").trim();
  const axis = (given) => ({ ...given, gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true });
  return { ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    font: { color: ink, size: narrow ? 11 : 12, family: "system-ui, sans-serif" },
    xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis), dragmode: narrow ? false : "zoom" };
};
const draw = (element) => {
  const figure = JSON.parse(document.querySelector(`[data-plot="${element.id}"]`).textContent);
  const layout = themed(figure.layout, window.innerWidth < 760);
  window.Plotly.react(element, figure.data, layout, { responsive: true, displayModeBar: false });
};
let library;
const loaded = () => library ??= unpack("plotly").then((source) => {
  const script = make("script", source);
  document.head.append(script);
});
const drawNearby = () => {
  const elements = [...document.querySelectorAll(".plot")];
  if (!elements.length) return;
  const drawn = new Set();
  const drawOnce = (element) => { if (!drawn.has(element)) { drawn.add(element); draw(element); } };
  const watcher = new IntersectionObserver((entries) => {
    const near = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
    if (near.length) loaded().then(() => near.forEach(drawOnce));
  }, { rootMargin: "900px" });
  elements.forEach((element) => watcher.observe(element));
  setTimeout(loaded, 3000);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));
  window.addEventListener("beforeprint", () => { if (window.Plotly) elements.forEach(drawOnce); });
};

// ---- reader
const FILTERS = {
  "all": () => true,
  "right": (a) => "Rr".includes(a),
  "wrong": (a) => "Ww".includes(a),
  "no answer": (a) => "Nn".includes(a),
  "not completed": (a) => "rwn".includes(a),
  "right, not completed": (a) => a === "r",
  "wrong though completed": (a) => a === "W",
  "could not be graded": (a) => a === "e",
  "right here, not beside": (a, b) => "Rr".includes(a) && b !== "" && !"Rr".includes(b),
  "right beside, not here": (a, b) => !"Rr".includes(a) && b !== "" && "Rr".includes(b),
  "completed beside, not here": (a, b) => "rwn".includes(a) && b !== "" && "RWN".includes(b),
};
const WORDS = { R: "right", r: "right, not completed", W: "wrong", w: "wrong, not completed", N: "no answer, completed",
  n: "no answer, not completed", e: "not graded" };
const ENDS = { s: "ended by itself", l: "cut at the limit", e: "generation failed" };
const cache = new Map();
const rowsOf = async (model, benchmark) => {
  const found = index.outputs.find(([, m, b]) => m === model && b === benchmark);
  if (!found) return [];
  if (!cache.has(found[0])) cache.set(found[0], JSON.parse(await unpack(found[0])));
  return cache.get(found[0]);
};
const problemsOf = async (benchmark) => {
  const id = index.problems[benchmark];
  if (id && !cache.has(id)) cache.set(id, JSON.parse(await unpack(id)));
  return id ? new Map(Object.entries(cache.get(id))) : new Map();
};
const letterOf = (row, budget) => {
  if (!row) return "";
  const grade = row.g[budget];
  const letter = grade && { right: "R", wrong: "W", no_answer: "N" }[grade.v];
  if (!letter) return "e";
  return grade.c ? letter : letter.toLowerCase();
};
const fill = (select, entries, chosen) => {
  select.replaceChildren(...entries.map(([value, text]) => {
    const option = make("option", text);
    option.value = value;
    return option;
  }));
  if (entries.some(([value]) => value === chosen)) select.value = chosen;
};
const evidenceOf = (grade) => {
  const list = make("dl");
  const add = (name, value) => {
    if (value === null || value === undefined || value === "") return;
    list.append(make("dt", name), make("dd", typeof value === "string" ? value : JSON.stringify(value, null, 1)));
  };
  add("why", [grade.w, grade.i].filter(Boolean).join(", ").replaceAll("_", " "));
  add("answer graded", grade.a);
  for (const [name, value] of Object.entries(grade.e)) add(name.replace(/([a-z])([A-Z])/g, "$1 $2").replaceAll("_", " ").toLowerCase(), value);
  return list;
};
let promptsOpen = false;
const promptOf = (row, problem) => {
  const prompt = row.s === null || !problem ? undefined : problem.p[row.s];
  if (prompt === undefined) return make("p", "the prompt is not shown: see the note below", "hint");
  const details = make("details");
  details.append(make("summary", "Prompt, as it was sent"), make("pre", prompt));
  details.open = promptsOpen;
  details.addEventListener("toggle", () => {
    promptsOpen = details.open;
    document.querySelectorAll(".sides details").forEach((other) => { other.open = promptsOpen; });
  });
  return details;
};
const side = (model, row, budget, problem) => {
  const box = make("div");
  box.append(make("h3", model));
  if (!row) { box.append(make("p", "was not asked this problem, or has not answered yet", "hint")); return box; }
  const letter = letterOf(row, budget), grade = row.g[budget];
  const judged = row.n > budget ? `; judged on the first ${Number(budget).toLocaleString("en")}` : "";
  const line = make("p", undefined, "verdict");
  line.append(make("span", WORDS[letter], `badge ${"Rr".includes(letter) ? "right" : "Ww".includes(letter) ? "wrong" : ""}`),
    make("span", `${row.n.toLocaleString("en")} tokens, ${ENDS[row.f]}${judged}`, "hint"));
  box.append(line);
  if (grade) box.append(evidenceOf(grade));
  box.append(promptOf(row, problem), make("pre", row.t, "output"));
  return box;
};
const startReader = () => {
  const [benchmark, model, beside, budget, filter] =
    ["benchmark", "model", "beside", "budget", "filter"].map(byId);
  const benchmarks = [...new Set(index.outputs.map(([, , name]) => name))];
  fill(benchmark, benchmarks.map((name) => [name, name]));
  fill(filter, Object.keys(FILTERS).map((name) => [name, name]));
  const fillModels = () => {
    const asked = index.outputs.filter(([, , name]) => name === benchmark.value).map(([, id]) => id);
    const entries = asked.map((id) => [id, id]);
    fill(model, entries, model.value || asked[asked.length - 1]);
    fill(beside, entries, beside.value || "base");
  };
  const fillBudgets = () =>
    fill(budget, index.budgets.map((tokens) => [String(tokens), tokens.toLocaleString("en")]), String(index.models[model.value].budget));
  const show = async (row, other, item) => {
    byId("list").querySelector("[aria-current]")?.removeAttribute("aria-current");
    item.setAttribute("aria-current", "true");
    const problems = await problemsOf(benchmark.value);
    const detail = byId("detail");
    detail.replaceChildren(make("h3", row.p));
    const problem = problems.get(row.p);
    if (problem) detail.append(make("pre", problem.q));
    const sides = make("div", undefined, "sides");
    sides.append(side(model.value, row, budget.value, problem), side(beside.value, other, budget.value, problem));
    detail.append(sides);
  };
  const list = async () => {
    const [rows, others] = await Promise.all([rowsOf(model.value, benchmark.value), rowsOf(beside.value, benchmark.value)]);
    const paired = new Map(others.map((row) => [`${row.p}\n${row.k}`, row]));
    const items = [];
    for (const row of rows) {
      const other = paired.get(`${row.p}\n${row.k}`);
      const here = letterOf(row, budget.value), there = letterOf(other, budget.value);
      if (!FILTERS[filter.value](here, there)) continue;
      const item = make("li");
      item.append(make("span", here, `mark ${here}`), make("span", there, `mark ${there}`), document.createTextNode(row.k ? `${row.p} #${row.k}` : row.p));
      item.title = `${WORDS[here]}; beside: ${WORDS[there] || "none"}`;
      item.addEventListener("click", () => show(row, other, item));
      items.push(item);
    }
    byId("list").replaceChildren(...items);
    byId("count").textContent = `${items.length} of ${rows.length} outputs`;
    if (items.length) items[0].click();
    else byId("detail").replaceChildren(make("p", "No output is like that.", "hint"));
  };
  byId("list").addEventListener("keydown", (event) => {
    const current = byId("list").querySelector("[aria-current]");
    const next = { ArrowDown: current?.nextElementSibling, ArrowUp: current?.previousElementSibling }[event.key];
    if (next) { event.preventDefault(); next.click(); next.scrollIntoView({ block: "nearest" }); }
  });
  benchmark.addEventListener("change", () => { fillModels(); fillBudgets(); list(); });
  model.addEventListener("change", () => { fillBudgets(); list(); });
  [beside, budget, filter].forEach((select) => select.addEventListener("change", list));
  byId("choose").addEventListener("submit", (event) => event.preventDefault());
  fillModels(); fillBudgets(); list();
};
if (index.outputs.length) startReader();
setTimeout(drawNearby);
