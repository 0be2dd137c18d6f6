import { address, ask, byId, fillSelect, make, number, page, percent, query, repeat, show } from "./common.js";
import { budgetsOf, drawCurves } from "./plots.js";
import { delta, table } from "./tables.js";

const chosen = new URLSearchParams(location.search), METRICS = { accuracy: "accuracy", completed: "completion", accuracy_completed: "acc (completed)", strict: "acc (strict)" };
let curves = [];
const signed = (points) => `${points < 0 ? "" : "+"}${points.toFixed(1)}`;
const effectRow = (effect) => {
  const row = make("tr"), head = make("th"), cell = make("td");
  head.scope = "row";
  head.append(make("code", effect.model));
  const mark = effect.significant ? (effect.points > 0 ? "higher" : "lower") : "same";
  cell.append(delta({ mark, text: signed(effect.points), interval: `${signed(effect.low)} to ${signed(effect.high)}`,
    title: `adjusted p ${effect.adjusted_p.toPrecision(2)}` }));
  if (effect.again) cell.append(" ", make("small", "generated a second time: noise"));
  row.append(head, make("td", METRICS[effect.metric] || effect.metric), make("td", number(effect.budget_tokens)), make("td", percent(effect.old)),
    make("td", percent(effect.new)), cell, make("td", number(effect.problems)));
  return row;
};
const notesOf = (found) => [
  ...found.contradictory.map(([model, benchmark]) => `${model} on ${benchmark}: other verdicts from the same units: one manifest was changed, or a store is damaged`),
  ...(found.unchanged.length ? [`The same verdicts, from the same units: ${found.unchanged.map((one) => one.join(" on ")).join(", ")}`] : []),
  ...found.not_compared.map((one) => `${one.model} on ${one.benchmark} is not compared: ${one.reasons.join("; ")}`),
  ...(found.only_old.length ? [`Only in the first: ${found.only_old.join(", ")}`] : []),
  ...(found.only_new.length ? [`Only in the second: ${found.only_new.join(", ")}`] : []),
  ...(found.only_old_benchmarks.length ? [`Benchmarks of the first only: ${found.only_old_benchmarks.join(", ")}`] : []),
  ...(found.only_new_benchmarks.length ? [`Benchmarks of the second only: ${found.only_new_benchmarks.join(", ")}`] : []),
];
const draw = (found) => {
  byId("differs").textContent = found.note || (found.differs.length ? `They differ in ${found.differs.join(", ")}.` : "They do not differ.");
  const names = [...new Set(found.compared.map((effect) => effect.benchmark))];
  const groups = names.map((name) => ({ title: name, rows: found.compared.filter((effect) => effect.benchmark === name).map(effectRow) }));
  const headings = ["Model", "Metric", "Budget", "First", "Second", "Second less first", "Problems"];
  byId("effects").replaceChildren(...(names.length ? [table("shares", "differences of the two", headings, groups),
    make("p", "Models of the same name, on the problems that both were asked. Differences are in points; intervals are 95%, of one comparison alone. ▲ ▼ significant at 5% after Holm over all rows.", "hint")] : []));
  byId("notes").replaceChildren(...notesOf(found).map((text) => make("li", text)));
};
const drawPlots = () => {
  if (!window.Plotly) return;
  fillSelect(byId("curve-budget"), budgetsOf(curves), "own");
  show(byId("no-curves"), drawCurves(byId("curves"), curves, byId("curve-budget").value) === 0);
};
const linkTo = (id) => {
  const at = id.lastIndexOf("@"), link = make("a", id), box = make("span");
  link.href = address(id.slice(0, at), id.slice(at + 1));
  box.append(link);
  return box;
};
const round = async () => {
  const listed = await ask("/api/experiments");
  if (listed) {
    const ids = listed.value.experiments.filter((one) => !one.error).map((one) => [one.id, one.id]);
    fillSelect(byId("old"), ids, chosen.get("old") || ids[1]?.[0] || ids[0]?.[0]);
    fillSelect(byId("new"), ids, chosen.get("new") || ids[0]?.[0]);
  }
  const sides = [byId("old").value, byId("new").value];
  if (!sides.every(Boolean)) return 5;
  history.replaceState(null, "", `/compare${query({ old: sides[0], new: sides[1] })}`);
  byId("meta").replaceChildren(make("span", page.store), ...sides.map(linkTo));
  const of = (id) => `/api${address(id.slice(0, id.lastIndexOf("@")), id.slice(id.lastIndexOf("@") + 1))}/curves`;
  const [found, ...lines] = await Promise.all([ask(`/api/compare${query({ old: sides[0], new: sides[1] })}`), ...sides.map((id) => ask(of(id)))]);
  if (found) draw(found.value);
  curves = lines.map((line, index) => line && { label: sides[index], curves: line.value }).filter(Boolean);
  drawPlots();
  return 5;
};
const again = repeat(round);
for (const id of ["old", "new"]) byId(id).addEventListener("change", again);
byId("curve-budget").addEventListener("change", drawPlots);
window.addEventListener("load", drawPlots);
for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
