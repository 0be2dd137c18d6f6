import { ask, byId, fillSelect, make, number, query, show } from "./common.js";

const FILTERS = {
  "all": () => true,
  "right": (a) => "Rr".includes(a),
  "wrong": (a) => "Ww".includes(a),
  "no answer": (a) => "Nn".includes(a),
  "not completed": (a) => "rwn".includes(a),
  "could not be graded": (a) => a === "e",
  "right here, not beside": (a, b) => "Rr".includes(a) && b !== "" && !"Rr".includes(b),
  "right beside, not here": (a, b) => !"Rr".includes(a) && b !== "" && "Rr".includes(b),
};
const ENDS = { stop: "ended by itself", length: "cut at the limit", error: "generation failed" };
const keyOf = (line) => JSON.stringify([line.problem, line.index]);

const evidenceOf = (grade) => {
  const list = make("dl");
  const add = (name, value) => {
    if (value === null || value === undefined || value === "") return;
    list.append(make("dt", name), make("dd", typeof value === "string" ? value : JSON.stringify(value, null, 1)));
  };
  add("why", grade.why);
  add("answer graded", grade.answer);
  for (const [name, value] of Object.entries(grade.evidence)) add(name, value);
  return list;
};
const sideOf = (model, output, budget, meanings) => {
  const box = make("div");
  box.append(make("h3", model));
  if (!output) {
    box.append(make("p", "was not asked this problem, or has not answered yet", "hint"));
    return box;
  }
  const grade = output.grades.find((one) => String(one.budget_tokens) === budget), code = grade ? grade.code : "e";
  const line = make("p", undefined, "verdict");
  const judged = output.tokens > Number(budget) ? `; judged on the first ${number(Number(budget))}` : "";
  line.append(make("span", meanings[code], `badge ${"Rr".includes(code) ? "right" : "Ww".includes(code) ? "wrong" : ""}`),
    make("span", `${number(output.tokens)} tokens, ${ENDS[output.finish]}${judged}`, "hint"));
  box.append(line);
  if (grade) box.append(evidenceOf(grade));
  if (output.prompt !== null) {
    const details = make("details");
    details.append(make("summary", "Prompt, as it was sent"), make("pre", output.prompt));
    box.append(details);
  }
  box.append(make("pre", output.text, "output"));
  for (const note of output.notes) box.append(make("p", note, "hint"));
  return box;
};

// Fills the reader from the experiment's address; the function it returns takes each new answer of /outputs.
export const startReader = (api) => {
  const [benchmark, model, beside, budget, filter] = ["benchmark", "model", "beside", "budget", "filter"].map(byId);
  let readable = [], round = 0;
  const lists = new Map();
  const listOf = async (id) => {
    const url = `${api}/outputs${query({ model: id, benchmark: benchmark.value })}`;
    if (!lists.has(url)) {
      const found = await ask(url);
      if (found) lists.set(url, found.value);
      return found?.value;
    }
    return lists.get(url);
  };
  const one = async (id, line) => (await ask(`${api}/output${query({ model: id, benchmark: benchmark.value, problem: line.problem, index: line.index })}`))?.value;
  const open = async (line, other, item, meanings) => {
    byId("list").querySelector("[aria-current]")?.removeAttribute("aria-current");
    item.setAttribute("aria-current", "true");
    const [ours, theirs] = [model.value, beside.value], asked = ++round;
    const [left, right] = await Promise.all([one(ours, line), other ? one(theirs, other) : undefined]);
    if (asked !== round) return;
    const sides = make("div", undefined, "sides"), detail = byId("detail");
    detail.replaceChildren(make("h3", line.index ? `${line.problem} #${line.index}` : line.problem));
    if (left?.question) detail.append(make("pre", left.question));
    sides.append(sideOf(ours, left, budget.value, meanings), sideOf(theirs, right, budget.value, meanings));
    detail.append(sides);
  };
  const draw = async () => {
    const [own, others] = await Promise.all([listOf(model.value), listOf(beside.value)]);
    if (!own) return;
    const paired = new Map((others?.outputs || []).map((line) => [keyOf(line), line])), items = [];
    for (const line of own.outputs) {
      const other = paired.get(keyOf(line)), here = line.codes[budget.value] || "e", there = other ? other.codes[budget.value] || "e" : "";
      if (!FILTERS[filter.value](here, there)) continue;
      const item = make("li");
      item.append(make("span", here, `mark ${here}`), make("span", there, `mark ${there}`), document.createTextNode(line.index ? `${line.problem} #${line.index}` : line.problem));
      item.title = `${own.meanings[here]}; beside: ${own.meanings[there] || "none"}`;
      item.addEventListener("click", () => open(line, other, item, own.meanings));
      items.push(item);
    }
    byId("list").replaceChildren(...items);
    byId("count").textContent = `${number(items.length)} of ${number(own.outputs.length)} outputs`;
    byId("outputs-note").textContent = own.note || "Two letters before each problem: the model's, then that of the one beside it. R right, W wrong, N no answer; a small letter: not completed; e: could not be graded. Up and down keys go through the list.";
    if (items.length) items[0].click();
    else byId("detail").replaceChildren(make("p", "No output is like that.", "hint"));
  };
  const fillModels = () => {
    const asked = readable.filter((item) => item.benchmark === benchmark.value).map((item) => [item.model, item.model]);
    fillSelect(model, asked, asked[asked.length - 1]?.[0]);
    fillSelect(beside, asked, "base");
  };
  byId("list").addEventListener("keydown", (event) => {
    const current = byId("list").querySelector("[aria-current]");
    const next = { ArrowDown: current?.nextElementSibling, ArrowUp: current?.previousElementSibling }[event.key];
    if (next) { event.preventDefault(); next.click(); next.scrollIntoView({ block: "nearest" }); }
  });
  benchmark.addEventListener("change", () => { fillModels(); draw(); });
  [model, beside, budget, filter].forEach((select) => select.addEventListener("change", draw));
  fillSelect(filter, Object.keys(FILTERS).map((name) => [name, name]), "all");
  return (found) => {
    readable = found.readable;
    lists.clear();
    const any = readable.length > 0, first = byId("reader").hidden && any;
    show(byId("choose"), any);
    show(byId("reader"), any);
    if (!any) return;
    fillSelect(benchmark, [...new Set(readable.map((item) => item.benchmark))].map((name) => [name, name]));
    fillModels();
    const own = readable.find((item) => item.model === model.value && item.benchmark === benchmark.value);
    fillSelect(budget, found.budgets.map((tokens) => [String(tokens), number(tokens)]), String(own?.budget_tokens));
    if (first) draw(); // what is being read stays as it is when more arrives
  };
};
